"""A manager endpoint's control socket, whose place a test takes."""

import json
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from endpoint_rig import LIMIT_S


class ManagerSocket:
    """The socket in a folder that every account can enter, with one endpoint connected to it at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(LIMIT_S)
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        self._listener.listen()
        self._endpoint: socket.socket | None = None
        self._lines: TextIO | None = None

    def accept(self) -> None:
        """Wait for the endpoint's next connection, and give up the one before."""
        if self._endpoint is not None:
            self.hang_up()
        self._endpoint, _ = self._listener.accept()
        self._endpoint.settimeout(LIMIT_S)
        self._lines = self._endpoint.makefile()

    def hang_up(self) -> None:
        """End the endpoint's connection."""
        assert self._endpoint is not None
        assert self._lines is not None
        self._lines.close()
        self._endpoint.close()

    def receive(self, kind: str) -> dict[str, Any]:
        """The next message of that type."""
        while True:
            message: dict[str, Any] = json.loads(self._line())
            if message["type"] == kind:
                return message

    def receive_anew(self, kind: str) -> dict[str, Any]:
        """The next message of that type, from this connection or one that the endpoint makes after it."""
        while True:
            while self._lines is None or not (line := self._line()):
                self.accept()
            message: dict[str, Any] = json.loads(line)
            if message["type"] == kind:
                return message

    def says_something(self, within_s: float) -> bool:
        """Whether the endpoint says something within so many seconds, or hangs up."""
        assert self._endpoint is not None
        readable, _, _ = select.select([self._endpoint], [], [], within_s)
        return bool(readable)

    def rest(self) -> list[dict[str, Any]]:
        """What the endpoint says until it hangs up."""
        assert self._lines is not None
        return [json.loads(line) for line in self._lines]

    def send(self, message: object) -> None:
        """Send a message to the endpoint."""
        assert self._endpoint is not None
        self._endpoint.sendall(json.dumps(message).encode() + b"\n")

    def confirm(self, message: dict[str, Any]) -> None:
        """Say that an audit message is in the log."""
        self.send({"type": "audited", "number": message["number"]})

    def confirm_start(self) -> None:
        """Write that the next task is received and starts."""
        message = self.receive("audit")
        assert states(message) == ["RECEIVED", "EXEC_START"]
        self.confirm(message)

    def close(self) -> None:
        """End everything."""
        self._listener.close()
        if self._endpoint is not None:
            self.hang_up()

    def _line(self) -> str:
        assert self._lines is not None
        return self._lines.readline()


def states(message: dict[str, Any]) -> list[str]:
    """What an audit message says happened, without the ids."""
    return [record.split("bid= ")[1] for record in message["records"]]


def report(manager: ManagerSocket, told: Callable[[dict[str, Any], dict[str, Any]], bool]) -> dict[str, Any]:
    """The first report of which this is true, by its figures and the whole message; somebody looks until it comes."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        manager.send({"type": "report"})
        message = manager.receive("figures")
        if told(message["figures"], message):
            return message
    raise AssertionError(message)
