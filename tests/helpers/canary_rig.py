"""A service that runs the canary's task as a test wants it, and the canary as an account that isn't root."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import placed_rig
from broker_rest import Service
from broker_rig import MANAGER

FUNCTION = "7b1f2f6e-0000-4000-8000-00000000f00d"
LINE = re.compile(r"CANARY (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]{1,420}( \| time=\d+\.\d+s;[\d.]+;[\d.]+)?")
"""The form of the line: a text, then what was measured with both limits."""
TASK = "7b1f2f6e-0000-4000-8000-000000007a5c"
SECRET = "the-canary-s-secret"
CLIENT = "7b1f2f6e-0000-4000-8000-00000000c11e"
USER = "nobody" if os.geteuid() == 0 else None
"""The account that the canary runs as; None is this one."""


@dataclass(frozen=True)
class Outcome:
    """What a plugin of Nagios says."""

    code: int
    line: str
    errors: str


@dataclass
class CanaryService:
    """The service, as the canary sees it."""

    service: Service
    result: Callable[[str], dict[str, Any]] = lambda word: {"result": f"11\n{json.dumps(word)}"}
    """What becomes of the task, from the word that was submitted."""
    registered: list[dict[str, Any]] = field(default_factory=list)
    """The functions that were registered."""
    submitted: list[dict[str, Any]] = field(default_factory=list)
    """The submissions so far."""
    pending: int = 1
    """How often the task is said to be waiting before its outcome."""

    def __post_init__(self) -> None:
        self.service.answers = {
            "/v3/functions": self._register,
            f"/v3/endpoints/{MANAGER}/submit": self._submit,
            "/v2/tasks/": self._task,
            f"/v2/endpoints/{MANAGER}/status": lambda _: {"status": "offline"},
        }

    def _register(self, body: dict[str, Any]) -> dict[str, Any]:
        self.registered.append(body)
        return {"function_uuid": FUNCTION}

    def _submit(self, body: dict[str, Any]) -> dict[str, Any]:
        self.submitted.append(body)
        self._left = self.pending
        return {"tasks": {FUNCTION: [TASK]}}

    def _task(self, _: Any) -> dict[str, Any]:
        self._left -= 1
        if self._left >= 0:
            return {"task_id": TASK, "status": "waiting-for-ep"}
        return {"task_id": TASK, "status": "success", **self.result(self.word)}

    @property
    def word(self) -> str:
        """The argument of the newest call."""
        ((call,),) = self.submitted[-1]["tasks"].values()
        found = re.search(r'\["([0-9a-f-]+)"\]', call)
        assert found
        return found[1]


class CanarySite:
    """An endpoint's folder, with the canary's file beside it."""

    def __init__(self, placed: placed_rig.Site, canary: CanaryService) -> None:
        self.placed = placed
        self.canary = canary
        self.file = placed.etc / "canary.yaml"
        self.configure(f"client_id: {CLIENT}\nclient_secret: {SECRET}\n")
        if USER:
            for path in (placed.state, placed.state / "endpoint.json", self.file):
                shutil.chown(path, USER)
            placed.endpoint.chmod(0o755)
            (placed.endpoint / "config.yaml").chmod(0o644)

    def configure(self, text: str) -> None:
        """Write the canary's file."""
        self.file.touch(0o600)
        self.file.write_text(text)

    def run(self, *words: str | Path, config: Path | None = None) -> Outcome:
        """The canary's outcome."""
        options = ("--config", config or self.file, "--state", self.placed.state)
        if "--socket" not in words:
            words = (*words, "--socket", self.placed.etc / "none.sock")
        done: subprocess.CompletedProcess[str] = self.placed.twinlock(
            "canary", *options, *words, self.placed.endpoint, user=USER, **self.canary.service.environment
        )
        assert SECRET not in done.stdout + done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)
