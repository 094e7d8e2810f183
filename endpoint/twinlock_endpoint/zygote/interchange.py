"""Parsl's interchange, without what it does for each task and throws away."""

import logging
from pathlib import Path
from typing import Any

import zmq

from twinlock_endpoint.engines.begun import NotingInterchange
from twinlock_endpoint.zygote.sockets import readable


def main(begun: Path, config: dict[str, Any]) -> None:
    """Run an interchange with these arguments of Parsl's class; it notes at `begun` what it sends to workers."""
    made = Interchange(begun, **config)
    # Parsl makes a record of every step and has the log file's handler drop it: nearly half of the time that it takes.
    logging.getLogger("parsl").setLevel(config["logging_level"])
    made.start()


class Interchange(NotingInterchange):
    """Takes all tasks and results that are there at each of its rounds, not one of each."""

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
