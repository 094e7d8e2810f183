"""Registration and login, and what Globus Auth and the service say about them."""

import os
from collections.abc import Iterator

from twinlock_broker.checks.finding import Finding, Subject, failure, ok, patience, unknown, warning
from twinlock_broker.compute import inquiry
from twinlock_broker.compute.inquiry import Answer
from twinlock_broker.compute.login import Login, NoLogin
from twinlock_broker.config.folder import Folder
from twinlock_broker.config.placed import Placed
from twinlock_broker.errors import Fatal

_OWNER = ("owner", "owner_id")
"""Keys of the service's answer about an endpoint that name who registered it."""


def check(folder: Folder, placed: Placed, *, offline: bool) -> Iterator[Finding]:
    """Check registration and login, and ask the service unless `offline`."""
    known = None
    try:
        known = folder.endpoint_id(placed.state)
        yield ok(Subject.REGISTRATION, f"endpoint.json: {known}" if known else _unregistered(placed))
    except Fatal as error:
        yield _cant(Subject.REGISTRATION, error)
    try:
        login = inquiry.find_login(placed)
    except Fatal as error:
        yield warning(Subject.LOGIN, str(error)) if isinstance(error, NoLogin) else _cant(Subject.LOGIN, error)
        yield unknown(Subject.SERVICE, "it can't be asked without a login")
        return
    if offline:
        yield unknown(Subject.LOGIN, f"{login.name}: Globus Auth isn't asked, since --offline was given")
        yield unknown(Subject.SERVICE, "isn't asked, since --offline was given")
        return
    with patience(f"asking Globus Auth and the service as {login.name} (at most {inquiry.LIMIT:.0f} s)"):
        answer = inquiry.ask(folder, login, placed.state, known)
    yield from _report(login, known, answer)


def _unregistered(placed: Placed) -> str:
    return f"no endpoint.json in {placed.state}: a new endpoint is registered when the broker first starts"


def _cant(subject: Subject, error: Fatal) -> Finding:
    if error.status == os.EX_NOINPUT:
        return unknown(subject, f"{error}; run the check as root or as the broker's account")
    return failure(subject, str(error))


def _report(login: Login, known: str | None, answer: Answer) -> Iterator[Finding]:
    if answer.identities:
        yield ok(Subject.LOGIN, f"{login.name}: Globus Auth accepts it")
    if answer.refused is not None:
        subject = Subject.SERVICE if answer.identities else Subject.LOGIN
        temporary = answer.refused.status == os.EX_TEMPFAIL
        yield (unknown if temporary else failure)(subject, str(answer.refused))
    elif answer.endpoint is None:
        yield unknown(Subject.SERVICE, "isn't asked, since the endpoint isn't registered")
    else:
        yield _of_owner(str(known), answer)


def _of_owner(known: str, answer: Answer) -> Finding:
    endpoint = answer.endpoint or {}
    owner = next((endpoint[key] for key in _OWNER if endpoint.get(key)), None)
    if owner is None or owner in answer.identities:
        return ok(Subject.SERVICE, f"it knows {known} as this login's")
    return failure(
        Subject.SERVICE,
        f"{known} was registered by {owner}, not by this login: log in as its owner, or remove endpoint.json to "
        "register a new endpoint",
    )
