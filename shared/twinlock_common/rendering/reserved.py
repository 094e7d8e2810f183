"""The variables that a template gets besides the user's options."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from twinlock_common.account import Account
from twinlock_common.rendering import options


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a template finds under `_GC`."""

    parent_config: Mapping[str, Any] | None
    """The manager endpoint's settings. None if it isn't believed: then they and the Globus identity are undefined."""
    runtime: Mapping[str, Any]
    """What the user's SDK says about itself and its Python."""
    account: Account
    """The account that the configuration is for."""
    identity: str | None
    """The Globus identity that was mapped to the account; None if nothing was mapped."""
    environment: Mapping[str, str]
    """The user endpoint's own environment, as far as it is known before its start."""

    def variables(self) -> dict[str, Any]:
        """Return the variables under the agent's names.

        All are in `_GC`; three of them stand by themselves as well, as the agent still has them.
        """
        values: dict[str, Any] = {
            "user_runtime": options.encode(dict(self.runtime)),
            "mapped_identity": {"local": _local(self.account)},
        }
        if self.parent_config is not None:
            values["parent_config"] = {key: _of_parent(key, value) for key, value in self.parent_config.items()}
            values["mapped_identity"]["globus"] = {"id": self.identity}
        return values | {"_GC": values | {"env": dict(self.environment)}}


def _local(account: Account) -> dict[str, Any]:
    return {
        "uname": account.name,
        "uid": account.uid,
        "gid": account.gid,
        "groups": list(account.groups),
        "gecos": "".join(character for character in account.gecos if character.isprintable()),  # users may set it
        "shell": account.shell,
        "dir": account.home,
    }


def _of_parent(key: str, value: Any) -> Any:
    """Return a setting as templates get it: a path, as with the agent, whose name or parent they may ask for.

    It is a pure path, so that no template can open it.
    """
    return PurePosixPath(value) if value and key.endswith("_path") else value
