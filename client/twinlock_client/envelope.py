"""What the service gets for a task: four texts, of which it can change none."""

import json
from typing import Any, NamedTuple

from globus_compute_sdk.serialize import ComputeSerializer
from twinlock_signed.errors import Refused
from twinlock_signed.packed import without_line_ends

from twinlock_client.functions import Code
from twinlock_client.records import enrolled
from twinlock_client.results import Expected
from twinlock_client.session import Asked, Session, Signed
from twinlock_client.user import User

_JSON_DATA = "globus_compute_sdk.serialize.concretes.JSONData"
"""The SDK's strategy by its import path."""

_LARGEST = 10 << 20
"""Characters that the service takes as the arguments of a task."""


class Envelope(tuple):  # type: ignore[type-arg]  # of texts
    """The arguments that the service gets, together with what the result has to be of."""

    expected: Expected


class Way(NamedTuple):
    """How a task is submitted: what the SDK's Executor has under these names."""

    manager: str
    """The uuid of the manager endpoint."""
    user_endpoint_config: dict[str, Any] | None
    resource_specification: dict[str, Any] | None
    result_serializers: list[str]
    """The SDK's strategies by their import paths."""


class Envelopes:
    """Makes the envelopes of a user's tasks."""

    def __init__(self, user: User, session: Session, lifetime: int | None) -> None:
        """Sign for `user`; tasks are valid for `lifetime` seconds, or as long as their delegation."""
        self._user = user
        self._session = session
        self._lifetime = lifetime

    def make(
        self, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any], way: Way, packer: ComputeSerializer
    ) -> Envelope:
        """Return a signed task.

        Args:
            code: the function's.
            args: its positional arguments.
            kwargs: its named arguments.
            way: how it is submitted.
            packer: packs the arguments.

        Raises:
            Refused: nothing is signed, or it is too large, or it asks for results that couldn't be believed.
        """
        is_enrolled = enrolled.key(self._user, way.manager) is not None
        if code.unclear and not is_enrolled:
            raise Refused(
                f"{code.unclear}: it is your own kind of ShellFunction, and what it returns may not be JSON; give it "
                f"return_dict=True, or enroll the account's key: twinlock-client enroll {self._user} {way.manager}"
            )
        is_shell = not is_enrolled and code.as_dict is not None
        asked = Asked(
            function=str(code.as_dict if is_shell else code.buffer),
            args=without_line_ends(packer.serialize(args)),
            kwargs=without_line_ends(packer.serialize(kwargs)),
            resource_specification=way.resource_specification or {},
            result_serializers=way.result_serializers if is_enrolled else self._json_only(way),
        )
        signed = self._session.numbered(way.manager, way.user_endpoint_config).sign(asked, self._lifetime)
        _check_size(signed)
        envelope = Envelope(signed.texts)
        envelope.expected = Expected(self._user, way.manager, signed.digest, is_shell)
        return envelope

    def _json_only(self, way: Way) -> list[str]:
        if set(way.result_serializers) - {_JSON_DATA}:
            raise Refused(
                f"result_serializers: nothing shows that results are {self._user}'s, so only JSON is read; use JSONData"
                f", or enroll the account's key: twinlock-client enroll {self._user} {way.manager}"
            )
        return [_JSON_DATA]


def _check_size(signed: Signed) -> None:
    size = len(json.dumps(signed.texts))  # as it travels
    if size > _LARGEST:
        raise Refused(
            f"The task has {size:,} bytes with its function, and may have {_LARGEST:,}; pass the path of a file instead"
        )
