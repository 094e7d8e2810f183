"""A client of the service that unpickles nothing, and passes no control characters on to the terminal."""

import json
from dataclasses import asdict
from typing import Any, cast

from globus_compute_sdk import Client
from globus_compute_sdk.sdk.batch import create_user_runtime

from twinlock_client import printable
from twinlock_client.sdk.serializer import TextSerializer


class TextClient(Client):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client for signed work."""

    def __init__(self, like: Client | None = None) -> None:
        """Log in as the client `like` has, or as the SDK does by itself."""
        if like is None:
            super().__init__()
        else:
            super().__init__(do_version_check=False, **_login(like))
            self.web_service_address = like.web_service_address
            self._compute_web_client = like._compute_web_client  # noqa: SLF001 - it may be for another address
        self.fx_serializer = TextSerializer()

    def task_group(self, group: str) -> list[str]:
        """Return the uuids of a group's tasks. Raise `ValueError` if the service answers something else."""
        answer = self._compute_web_client.v2.get_task_group(group)
        if answer["taskgroup_id"] != group:
            raise ValueError(f"task group {group}: the service answers about another one; report it")
        return [str(task["id"]) for task in answer.get("tasks", [])]

    def statuses(self, tasks: list[str]) -> dict[str, dict[str, Any]]:
        """Return what the service has of these tasks, by their uuids."""
        answer = self._compute_web_client.v2.get_task_batch(tasks)
        return cast("dict[str, dict[str, Any]]", answer.data.get("results", {}))

    def _update_task_table(self, return_msg: str | dict[str, Any], task_id: str) -> Any:
        said = json.loads(return_msg) if isinstance(return_msg, str) else return_msg
        return super()._update_task_table({name: _shown(name, value) for name, value in said.items()}, task_id)

    def _log_version_mismatch(self, worker_details: dict[str, Any] | None) -> None:
        texts = {name: value for name, value in (worker_details or {}).items() if isinstance(value, str)}
        super()._log_version_mismatch({name: printable.line(value)[:200] for name, value in texts.items()})

    def _raise_ha_warning(self, response_data: Any) -> None:
        warning = response_data.get("ha_warning")
        super()._raise_ha_warning({"ha_warning": printable.lines(str(warning))} if warning else {})


def _shown(name: str, value: Any) -> Any:
    """Return what the service says about a task as it may be shown. The result itself is data."""
    return printable.lines(value) if isinstance(value, str) and name != "result" else value


def user_runtime() -> dict[str, Any]:
    """Return what the SDK tells about this computer; templates may use it."""
    return asdict(create_user_runtime())


def _login(like: Client) -> dict[str, Any]:
    return {"authorizer": like.authorizer} if like.authorizer else {"app": like.app}
