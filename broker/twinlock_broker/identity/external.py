"""External mappers: the administrator's own program says which account an identity has (Globus' mapping guide).

The program gets the identities on its stdin and answers on its stdout, both JSON. It is the site's, so it may hang,
leave processes or print without end: it runs in a session of its own, with a limit for time and for output, and all its
processes are ended with it.
"""

import json
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import IO, Any

from globus_identity_mapping.mappers.external_program import ExternalIdentityMapping, identity_mapping_output_schema

from twinlock_broker import descriptors, processes

SECONDS = 5.0
"""How long a program may take; the same as the library's."""

MOST = 1 << 20
"""Bytes that it may print."""

_INPUT = "identity_mapping_input#1.0.0"
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ")  # of the broker's variables; others may be secrets

log = logging.getLogger(__name__)


class ExternalMapper:
    """The mapper that `configured` describes. Its command gets the options that the guide names: -c, -s and -a."""

    def __init__(self, configured: ExternalIdentityMapping) -> None:
        options = ("-c", configured.connector, "-s", configured.storage_gateway, "-a")
        self._argv = [*configured.command, *options]

    def map_identities(self, identities: Collection[Mapping[str, Any]]) -> list[dict[str, list[str]]]:
        """Return the accounts of each identity that has any. Raise `OSError` or `ValueError` if that fails. Blocks."""
        request = json.dumps({"DATA_TYPE": _INPUT, "identities": [dict(identity) for identity in identities]})
        answer = run(self._argv, request.encode())
        known, found = {identity["id"] for identity in identities}, dict[str, list[str]]()
        for row in identity_mapping_output_schema.loads(answer)["result"] if answer.strip() else ():
            if str(row["id"]) not in known:
                raise ValueError(f"{self._argv[0]} answered about an identity that it wasn't asked for")
            found.setdefault(str(row["id"]), []).append(row["output"])
        return [{identity: accounts} for identity, accounts in found.items()]


def run(argv: list[str], data: bytes) -> bytes:
    """Return what a program prints that gets `data`. Raise `OSError`, a `TimeoutError` among them, or `ValueError`."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        stdin.write(data)
        stdin.seek(0)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        streams: dict[str, Any] = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": stderr}
        command = descriptors.with_usual(argv)
        process = subprocess.Popen(command, env=environment, cwd="/", start_new_session=True, **streams)
        try:
            printed = _read(process)
        finally:
            _end(process)
        if process.returncode != 0:
            raise ValueError(f"{argv[0]} ended with {process.returncode}: {_said(stderr)}")
        return printed


def _read(process: "subprocess.Popen[bytes]") -> bytes:
    """Return all that the program prints until it closes its stdout and ends."""
    assert process.stdout is not None
    printed, deadline = b"", time.monotonic() + SECONDS
    while descriptors.readable(process.stdout, deadline):
        data = os.read(process.stdout.fileno(), 65536)
        printed += data
        if len(printed) > MOST:
            raise ValueError(f"it printed more than {MOST} bytes")
        if not data:
            if processes.has_ended(process.pid, deadline):
                return printed
            break
    raise TimeoutError(f"it took more than {SECONDS:.0f} seconds")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill all processes in the first process group of its session, also those that it left when it ended by itself.

    Only while it hasn't been reaped, no other group can have this number.
    """
    with suppress(PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _said(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    return stderr.read(500).decode(errors="replace").strip() or "it said nothing"
