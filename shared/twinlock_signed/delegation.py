"""Delegations: a person lets a session key submit tasks, for one account, with certain options, for a while."""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from twinlock_signed.errors import Refused
from twinlock_signed.statement import ED25519, OBJECT, TEXT, TIME, UUID, decode, encode, hexadecimal

NAMESPACE = "delegation.v1@twinlock.example"
"""What a delegation is signed for, as ssh-keygen's signatures have it. Another algorithm is another version."""

MOST = 64 << 10
"""Bytes of a delegation."""

SKEW = 300
"""Seconds that the clocks of users and hosts may differ."""

ID = hexadecimal(32)

_FORMS = {
    "id": ID,
    "account": TEXT,
    "manager": UUID,
    "session_key": ED25519,
    "user_endpoint_config": OBJECT,
    "user_runtime": OBJECT,
    "issued": TIME,
    "expires": TIME,
}


@dataclass(frozen=True)
class Delegation:
    """What a person has signed."""

    id: str
    """128 random bits, in hexadecimal digits; by this a user revokes it."""
    account: str
    """The account and the site, such as ``ada@cluster.example.org``."""
    manager: str
    """The uuid of the manager endpoint."""
    session_key: str
    """The public half of the Ed25519 key that signs tasks, in hexadecimal digits."""
    user_endpoint_config: dict[str, Any]
    """The options."""
    user_runtime: dict[str, Any]
    """What the SDK tells about the user's computer; templates may use it."""
    issued: int
    """Seconds since 1970."""
    expires: int
    """Seconds since 1970; from then on it isn't valid."""


class Host(NamedTuple):
    """Who has received a delegation."""

    account: str
    """The name of the account that the process runs under."""
    site: str
    """What users call the site, such as ``cluster.example.org``."""
    manager: str
    """The uuid of the manager endpoint."""
    longest: int
    """Seconds for which a delegation may be valid."""

    @property
    def user(self) -> str:
        """Account and site, as delegations have them."""
        return f"{self.account}@{self.site}"


def write(delegation: Delegation) -> bytes:
    """Return the statement. Raise `Refused` if it has more than `MOST` bytes, or a field that hosts would refuse."""
    statement = encode(vars(delegation))
    read(statement)
    return statement


def read(statement: bytes) -> Delegation:
    """Return what a statement says. Raise `Refused` unless it has the form of a delegation."""
    return Delegation(**decode("delegation", statement, MOST, _FORMS))


def options(config: dict[str, Any]) -> str:
    """Return a text that is the same for the same options: in it ``1``, ``1.0`` and ``true`` are different."""
    return json.dumps(config, sort_keys=True)


def check(delegation: Delegation, host: Host, now: float) -> None:
    """Raise `Refused` unless the delegation is for the host, and valid at `now`, in seconds since 1970."""
    if delegation.account != host.user:
        raise Refused(
            f"The delegation is for {delegation.account[:300]!r}, and this endpoint runs as {host.user!r}; "
            "submit to that account's endpoint, or correct `user`"
        )
    if delegation.manager != host.manager:
        raise Refused(
            f"The delegation is for the endpoint {delegation.manager}, and this is {host.manager}; "
            "submit to the endpoint that you mean"
        )
    if delegation.expires - delegation.issued > host.longest:
        raise Refused(
            f"The delegation is valid for {delegation.expires - delegation.issued} s, and may be for {host.longest} s; "
            "ask for a shorter one"
        )
    check_times("delegation", delegation.issued, delegation.expires, now)


def check_times(what: str, issued: int, expires: int, now: float) -> None:
    """Raise `Refused` unless a statement with these times is valid at `now`; all in seconds since 1970."""
    if issued > now + SKEW:
        raise Refused(
            f"The {what} was issued {issued - now:.0f} s from now; correct the clock of your computer or of this host"
        )
    if now >= expires:
        raise Refused(f"The {what} expired {now - expires:.0f} s ago; submit the task again")
