"""Parsl's interchange, without needless work for each task, and with a watch over this host's pools."""

import logging
import os
import pickle
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq
from parsl.executors.high_throughput import interchange as parsl_interchange

from twinlock_endpoint.htex import messages
from twinlock_endpoint.htex.sockets import readable
from twinlock_endpoint.journal.dispatched import Notes


def main(dispatched: Path | None, beat_s: float, config: dict[str, Any]) -> None:
    """Run an interchange with these arguments of Parsl's class; see `InterchangeProgram` for the others."""
    made = Interchange(Notes(dispatched) if dispatched else None, beat_s, **config)
    # Parsl makes a record of every step and has the log file's handler drop it: nearly half of the time that it takes.
    logging.getLogger("parsl").setLevel(config["logging_level"])
    made.start()


_LAST_WORDS_S = 0.2  # for the results that a pool that has ended may have sent
_BETWEEN_S = 5.0  # between two words to the executor about a pool that can't be reached
_HELD_S = 5.0  # the same for a pool that was put on hold: its job has ended or was cancelled

_MISSED_BEATS = 2


class Interchange(parsl_interchange.Interchange):  # type: ignore[misc]  # Parsl ships no types
    """Parsl's interchange; each of its rounds takes all tasks and results that are there, not one of each.

    A task that can't be sent to a pool, since the connection has ended, goes to another or waits for one.

    A pool that has ended is given up at once and not when its heartbeats are missed: one of this host as its process
    says, any other when it was put on hold, which is done to those whose job has ended.

    A pool that missed two heartbeats gets no task until it is heard of: its node may have vanished. `beat_s` is the
    time between two, in seconds.

    A task that was lost on its way to a pool goes back to the executor, which still has it.

    A block that is to be given back gets no task from the moment in which it is known to have none.
    """

    def __init__(self, notes: Notes | None, beat_s: float, **config: Any) -> None:
        super().__init__(**config)
        self._notes = notes
        self._silence_s = _MISSED_BEATS * beat_s
        self._taken: Sequence[dict[str, Any]] = ()
        self._unsent: dict[bytes, Sequence[dict[str, Any]]] = {}
        self._retired: set[str] = set()
        self._command: Any = None
        self._message: list[bytes] = []
        self._relieved: set[bytes] = set()
        self.manager_sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._send, self.manager_sock.send_multipart = self.manager_sock.send_multipart, self._send_if_there
        self._receive, self.manager_sock.recv_multipart = self.manager_sock.recv_multipart, self._receive_and_keep
        self._next_command, self.command_channel.recv_pyobj = self.command_channel.recv_pyobj, lambda: self._command

    def process_command(self, *arguments: Any) -> None:
        """Carry out one of Parsl's commands, or ours."""
        if self.socks.get(self.command_channel) != zmq.POLLIN:
            return
        self._command = self._next_command()
        match self._command:
            case [messages.RETIRE_BLOCK, str(block)]:
                self.command_channel.send_pyobj(self._retire(block))
            case _:
                super().process_command(*arguments)

    def _retire(self, block: str) -> bool:
        """Return whether none of the block's pools has a task; then none gets one, also if it connects only later."""
        if any(manager["tasks"] for manager in self._ready_managers.values() if manager["block_id"] == block):
            return False
        self._retired.add(block)
        return True

    def process_task_incoming(self) -> None:
        """Take all tasks that are there, not one."""
        super().process_task_incoming()
        while readable(self.task_incoming):
            self.socks[self.task_incoming] = zmq.POLLIN
            super().process_task_incoming()

    def process_manager_socket_message(self, interesting: set[bytes], *arguments: Any) -> None:
        """Take all messages from pools that are there, not one.

        A pool from whose list lost tasks were taken may get others.
        """
        super().process_manager_socket_message(interesting, *arguments)
        while readable(self.manager_sock):
            self.socks[self.manager_sock] = zmq.POLLIN
            super().process_manager_socket_message(interesting, *arguments)
        interesting |= self._relieved
        self._relieved.clear()

    def _receive_and_keep(self) -> list[bytes]:
        """Return a pool's next message, and keep it: it is still needed when it is answered.

        Parsl before 2026.10.5, which a node may have, puts the type of a result in front of it.
        """
        pool, *_, message = self._receive()
        self._message = [pool, message]
        return self._message

    def _answer(self, pool: bytes) -> bytes:
        """Return the answer to the heartbeat that came: for a pool that compares (`node/pool_line.py`), its tasks.

        They are those that it should have. Such a pool may be back before its last connection has ended here, and then
        takes its place. One that doesn't compare had better be given up: nobody would learn of what was lost.
        """
        heartbeat = pickle.loads(self._message[1])  # noqa: S301 - Parsl's protocol
        if "number" not in heartbeat:
            return bytes(parsl_interchange.PKL_HEARTBEAT_CODE)
        self.manager_sock.setsockopt(zmq.ROUTER_HANDOVER, 1)
        manager = self._ready_managers[pool]
        lost = _lost_on_the_way(manager, heartbeat)
        if lost:
            _take_from(manager, lost)
            manager["relieved_at"] = heartbeat["number"]
            self._relieved.add(pool)
            for number in lost:
                self.results_outgoing.send(messages.undelivered(number))
        return pickle.dumps({"number": heartbeat["number"], "tasks": manager["tasks"]})

    def get_tasks(self, count: int) -> Sequence[dict[str, Any]]:
        """Take tasks from the queue to send them, and note that."""
        tasks: Sequence[dict[str, Any]] = super().get_tasks(count)
        if self._notes is not None:
            self._notes.add(map(messages.task_id, tasks))
        self._taken = tasks
        return tasks

    def _send_if_there(self, parts: list[bytes]) -> None:
        """Send a message, and keep its tasks apart if the connection to the pool has ended.

        ZeroMQ would drop such a message without a word. Parsl sends what it took from the queue at once; other messages
        have no tasks in them.
        """
        tasks, self._taken = self._taken, ()
        if parts[1] == parsl_interchange.PKL_HEARTBEAT_CODE:
            parts = [parts[0], self._answer(parts[0])]
        try:
            self._send(parts)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._unsent[parts[0]] = tasks

    def process_tasks_to_send(self, interesting: set[bytes], *arguments: Any) -> None:
        """Send tasks, and put those that a pool didn't get back into the queue: they have certainly not begun.

        Such a pool gets none until it is heard of again. Its job has ended, most likely, so the executor is to ask.
        """
        super().process_tasks_to_send(interesting, *arguments)
        for pool, tasks in self._unsent.items():
            self._take_back(pool, tasks)
            interesting.discard(pool)
        self._unsent.clear()

    def _take_back(self, pool: bytes, tasks: Sequence[dict[str, Any]]) -> None:
        for task in tasks:
            priority, number = messages.order(task)
            self.pending_task_queue.add((-priority, -number, task))
        manager = self._ready_managers.get(pool)
        if manager is not None:
            _take_from(manager, {task["task_id"] for task in tasks})
            _doubt(manager)

    def _see_to_unreachable(self, interesting: set[bytes]) -> None:
        now = time.time()
        for pool, manager in self._ready_managers.items():
            if "unreachable" not in manager and now > manager["last_heartbeat"] + self._silence_s:
                _doubt(manager)
                interesting.discard(pool)
            if manager.get("unreachable", now) < manager["last_heartbeat"]:
                del manager["unreachable"]
                interesting.add(pool)
            elif "unreachable" in manager and now > manager["told"] + _BETWEEN_S:
                manager["told"] = now
                self.results_outgoing.send(messages.UNREACHABLE)

    def expire_bad_managers(self, interesting: set[bytes], *arguments: Any) -> None:
        """Give up pools as Parsl does, and those that have ended or are on hold; doubt those that were not heard of."""
        now = time.time()
        self._see_to_unreachable(interesting)
        for manager in self._ready_managers.values():
            if manager["block_id"] in self._retired:
                manager["active"] = False
            if "pid" in manager and not _alive(manager["pid"]):
                del manager["pid"]
                manager["last_heartbeat"] = now - self.heartbeat_threshold + _LAST_WORDS_S
            elif "pid" in manager and now > manager["last_heartbeat"] + self.heartbeat_threshold:
                _end(manager["pid"])
            if not manager["active"] and now > manager.setdefault("held_at", now) + _HELD_S:
                manager["last_heartbeat"] = now - self.heartbeat_threshold - 1
        super().expire_bad_managers(interesting, *arguments)


def _lost_on_the_way(manager: dict[str, Any], heartbeat: dict[str, Any]) -> set[int]:
    """Return the tasks that were sent to the pool and never reached it.

    What it says of an answer from before tasks were last taken from it is out of date: one of them may have been sent
    to it again meanwhile.
    """
    if heartbeat["answer"] < manager.get("relieved_at", 0):
        return set()
    return set(heartbeat["missing"]).intersection(manager["tasks"])


def _take_from(manager: dict[str, Any], tasks: set[int]) -> None:
    """Take these tasks off the pool's list: it doesn't have them."""
    manager["tasks"] = [number for number in manager["tasks"] if number not in tasks]
    manager["idle_since"] = None if manager["tasks"] else time.time()


def _doubt(manager: dict[str, Any]) -> None:
    """Count the pool as unreachable until its next heartbeat. The executor is told at once."""
    manager["unreachable"] = time.time()
    manager["told"] = 0.0


def _end(pool: int) -> None:
    """Kill a pool that was not heard of for too long.

    One that was stopped (SIGSTOP) would keep its place for ever, and no other one would be started.
    """
    parsl_interchange.logger.error("The pool in process %d has not been heard of for too long; it is killed", pool)
    with suppress(OSError):
        os.killpg(pool, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
