"""Parsl's interchange, without what it does for each task and throws away, and with an eye on this host's pools."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq
from parsl.executors.high_throughput import interchange as parsl_interchange

from twinlock_endpoint.journal.begun import Notes
from twinlock_endpoint.zygote import messages
from twinlock_endpoint.zygote.sockets import readable


def main(begun: Path | None, config: dict[str, Any]) -> None:
    """Run an interchange with these arguments of Parsl's class; it notes at `begun` what it sends to pools."""
    made = Interchange(Notes(begun) if begun else None, **config)
    # Parsl makes a record of every step and has the log file's handler drop it: nearly half of the time that it takes.
    logging.getLogger("parsl").setLevel(config["logging_level"])
    made.start()


_LAST_WORDS_S = 0.2  # for the results that a pool that has ended may have sent
_HELD_S = 5.0  # the same for a pool that was put on hold: its job has ended or was cancelled


class Interchange(parsl_interchange.Interchange):  # type: ignore[misc]  # Parsl ships no types
    """Takes all tasks and results that are there at each of its rounds, not one of each.

    A pool that has ended is given up at once and not when its heartbeats are missed: one of this host as its process
    says, any other when it was put on hold, which is done to those whose job has ended.
    """

    def __init__(self, notes: Notes | None, **config: Any) -> None:
        super().__init__(**config)
        self._notes = notes

    def process_task_incoming(self) -> None:
        super().process_task_incoming()
        while readable(self.task_incoming):
            self.socks[self.task_incoming] = zmq.POLLIN
            super().process_task_incoming()

    def process_manager_socket_message(self, *arguments: Any) -> None:
        super().process_manager_socket_message(*arguments)
        while readable(self.manager_sock):
            self.socks[self.manager_sock] = zmq.POLLIN
            super().process_manager_socket_message(*arguments)

    def get_tasks(self, count: int) -> Sequence[dict[str, Any]]:
        tasks: Sequence[dict[str, Any]] = super().get_tasks(count)
        if self._notes is not None:
            self._notes.add(map(messages.task_id, tasks))
        return tasks

    def expire_bad_managers(self, *arguments: Any) -> None:
        now = time.time()
        for manager in self._ready_managers.values():
            if "pid" in manager and not _alive(manager["pid"]):
                del manager["pid"]
                manager["last_heartbeat"] = now - self.heartbeat_threshold + _LAST_WORDS_S
            if not manager["active"] and now > manager.setdefault("held_at", now) + _HELD_S:
                manager["last_heartbeat"] = now - self.heartbeat_threshold - 1
        super().expire_bad_managers(*arguments)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
