"""Questions to Globus Auth and the Compute service: who a login is, and what is known of an endpoint. Changes nothing.

They are asked in a process of its own: an administrator may be root, and this talks to the network and reads what the
broker's account has written. So for root it runs as the account that owns the broker's state, with a time limit.
"""

import json
import os
import pwd
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinlock_broker.compute import registration
from twinlock_broker.compute.login import ClientLogin, Login, PersonLogin, installed_client, load_login
from twinlock_broker.config.folder import Folder
from twinlock_broker.config.placed import Placed
from twinlock_broker.errors import Fatal
from twinlock_broker.secret import Secret

LIMIT = 90.0
"""Seconds; globus-sdk's own limits and retries come first."""

_SETTINGS = ("environment", "local_compute_services")
"""Keys of config.yaml that say where the service is."""

_KEPT = ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY")
_KEPT_BEGINNING = "GLOBUS_SDK_"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answers of Globus Auth and of the service. After a step that failed, the rest isn't asked."""

    identities: list[str] = field(default_factory=list)
    """The uuids of all identities of the login."""
    endpoint: dict[str, Any] | None = None
    """What the service says about the endpoint; None if it wasn't asked about one."""
    refused: Fatal | None = None
    """Why a step failed, with the exit code that goes with it; None if none did."""


def find_login(placed: Placed) -> Login:
    """Return the login of the broker: the installed client, else as `load_login` finds it. Raise `Fatal` (66, 77)."""
    installed = installed_client(placed.client) if placed.client else None
    return installed or load_login(placed.state)


def ask(folder: Folder, login: Login, state: Path, endpoint_id: str | None = None) -> Answer:
    """Ask Globus Auth and, with an `endpoint_id`, the service, and return their answers."""
    request = {
        "folder": str(folder.path.absolute()),
        "settings": {name: folder.settings[name] for name in _SETTINGS},
        "endpoint_id": endpoint_id,
        "login": _describe(login),
    }
    try:
        answer = _run(json.dumps(request), _account(login, state))
    except Fatal as error:
        return Answer(refused=error)
    except OSError as error:
        place = error.filename or state
        return Answer(refused=Fatal(os.EX_SOFTWARE, f"the service couldn't be asked: {place}: {error.strerror}"))
    refused = Fatal(*answer["refused"]) if answer["refused"] else None
    return Answer(answer["identities"], answer["endpoint"], refused)


def _run(request: str, account: dict[str, Any]) -> Any:
    """Return the answer of a process of its own. Raise `OSError`, or `Fatal` if there is no answer."""
    argv = [sys.executable, "-I", "-m", __name__]
    pipes: dict[str, Any] = {"input": request, "capture_output": True, "text": True}
    try:
        done = subprocess.run(argv, env=_environment(), cwd="/", timeout=LIMIT, check=False, **pipes, **account)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise Fatal(os.EX_TEMPFAIL, f"the service didn't answer within {LIMIT:.0f} seconds") from error
    except ValueError as error:
        last = done.stderr.strip().rpartition("\n")[2]
        raise Fatal(os.EX_SOFTWARE, f"the service couldn't be asked: {last or done.returncode}") from error


def _describe(login: Login) -> dict[str, str]:
    if isinstance(login, ClientLogin):
        return {"id": login.client_id, "secret": login.client_secret.reveal()}
    assert isinstance(login, PersonLogin)
    return {"tokens": str(login.path.absolute())}


def _account(login: Login, state: Path) -> dict[str, Any]:
    """Return the account to ask as, for root: the owner of the state folder and a person's tokens, else `nobody`."""
    if os.geteuid() != 0:
        return {}
    with suppress(FileNotFoundError):
        status = state.stat()
        if status.st_uid != 0 or isinstance(login, PersonLogin):
            return {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name.upper() in _KEPT or name.startswith(_KEPT_BEGINNING)
    }


def main() -> None:
    """Read a request from standard input, and print the answer to standard output."""
    request = json.load(sys.stdin)
    described = request["login"]
    login: Login = PersonLogin(Path(described["tokens"])) if "tokens" in described else _client(described)
    answer: dict[str, Any] = {"identities": [], "endpoint": None, "refused": None}
    try:
        folder = Folder(Path(request["folder"]), request["settings"], "")
        answer["identities"] = sorted(registration.identities(folder, login))
        if request["endpoint_id"]:
            answer["endpoint"] = dict(registration.look_up(folder, request["endpoint_id"], login))
    except Fatal as error:
        answer["refused"] = [error.status, str(error)]
    print(json.dumps(answer))


def _client(described: dict[str, str]) -> ClientLogin:
    return ClientLogin(described["id"], Secret(described["secret"]))


if __name__ == "__main__":
    main()
