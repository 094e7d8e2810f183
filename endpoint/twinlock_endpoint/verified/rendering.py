"""The rendering of a delegation's options into root's template, in a process of its own that has limits.

The process is started before the endpoint has a thread, and loads Jinja while the endpoint connects. What it is sent is
a line of JSON, see `twinlock_common.rendering.request_line`, which isn't used here: it would load Jinja as well.
"""

import json
import os
import pwd
import subprocess
import sys
from typing import Any

from twinlock_common.rendering.errors import RenderingError
from twinlock_signed.delegation import Delegation

from twinlock_endpoint.verified.site import Site

_COMMAND = (sys.executable, "-I", "-m", "twinlock_common.rendering.worker")
_LIMIT_S = 15.0
"""For starting the process too. It ends a rendering that takes five seconds by itself."""


class Renderer:
    """A process that renders once. Another one is started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = _start()

    def render(self, site: Site, said: Delegation) -> str:
        """Return the checked YAML text. Raise `RenderingError`, or `ConfigError` for a file of root's. Blocks."""
        line = request(site, said)
        process = self._process or _start()
        self._process = None
        with process:
            try:
                printed, _ = process.communicate(line, timeout=_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise RenderingError(
                    f"Rendering the configuration took over {_LIMIT_S:.0f} seconds; shorten the options"
                ) from None
        return _read(printed)

    def close(self) -> None:
        """End the process, if it wasn't needed."""
        if self._process is not None:
            with self._process:
                self._process.kill()
            self._process = None


def request(site: Site, said: Delegation) -> bytes:
    """Return the line for the process. Raise `ConfigError` if a file of root's can't be used."""
    own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(site.home), "USER": site.account}
    values = {
        "template": site.read_template(),
        "folder": str(site.settings.endpoint_dir),
        "schema": site.read_schema(),
        "options": said.user_endpoint_config,
        "reserved": {
            "parent_config": None,
            "runtime": said.user_runtime,
            "account": _account(),
            "identity": None,
            "environment": own | site.read_environment(),
        },
        "name": str(site.template),
    }
    return json.dumps(values).encode() + b"\n"


def _account() -> dict[str, Any]:
    """Return the account of this process, as `twinlock_common.account.Account` has it."""
    row = pwd.getpwuid(os.getuid())
    return {
        "name": row.pw_name,
        "uid": row.pw_uid,
        "gid": row.pw_gid,
        "groups": os.getgroups(),
        "gecos": row.pw_gecos,
        "shell": row.pw_shell,
        "home": row.pw_dir,
    }


def _start() -> subprocess.Popen[bytes]:
    # Its standard error isn't the endpoint's, which may be the pipe that tells the manager endpoint of the start.
    return subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
    )


def _read(printed: bytes) -> str:
    try:
        answer: dict[str, str] = json.loads(printed)
    except ValueError:
        raise RenderingError(
            "The endpoint's template can't be rendered with these options: it needs too much memory or time. "
            "Shorten user_endpoint_config"
        ) from None
    if "error" in answer:
        raise RenderingError(answer["error"], answer.get("detail", ""))
    return answer["config"]
