"""A worker pool's connection to our interchange, over which nothing is lost for good.

A TCP connection that is reset (a firewall that forgets it) loses what is under way, and ZeroMQ connects again without a
word. So the pool's heartbeats and their answers compare what each side has:

    pool to interchange: {"type": "heartbeat", "number": n, "answer": the last answer's number, "missing": [task, ...]}
    interchange to pool: {"number": n, "tasks": [task, ...]}, all tasks that the interchange believes to be the pool's

Messages keep their order, also from one connection to the next. So what was sent before a heartbeat, or before its
answer, has come by then, or never will. Parsl's own interchange answers as it always does, and the connection is then
as Parsl's.

The file runs on nodes, with any Python that has Parsl.
"""

import pickle
from typing import Any

import zmq

_HEARTBEAT = pickle.dumps({"type": "heartbeat"})
_ANSWERED = 2**32 - 1  # the answer of Parsl's own interchange
_ANSWER = pickle.dumps(_ANSWERED)
_MOST_RESULTS = 64  # between two heartbeats, since they are kept that long
_MOST_BYTES = 1 << 20  # of these


class PoolLine(zmq.Socket):  # type: ignore[type-arg]
    """A socket that sends and receives what Parsl's pool does, and keeps results until the interchange has them."""

    # A socket of pyzmq takes an attribute that isn't declared for one of ZeroMQ's options.
    _number: int
    _answer: int
    _missing: "list[int]"
    _tasks: "set[int]"
    _results: "dict[int, tuple[int, bytes]]"
    _since: "list[int]"
    _compares: bool

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._number = 0
        self._answer = 0
        self._missing = []
        self._tasks = set()
        self._results = {}  # by task: the heartbeat that is sent after it, and the message
        self._since = []  # the sizes of the results that were sent after the last heartbeat
        self._compares = True

    def send(self, data: Any, *arguments: Any, **keywords: Any) -> Any:
        """Send one of the pool's messages."""
        if data == _HEARTBEAT:
            return self._beat()
        content = pickle.loads(data)  # noqa: S301 - from the pool itself
        if content["type"] == "result" and self._compares:
            return self._send_result(content["task_id"], data)
        sent = super().send(data, *arguments, **keywords)
        if content["type"] == "registration":
            self._beat()  # so that the interchange knows at once that this pool compares
        return sent

    def send_multipart(self, msg_parts: Any, *arguments: Any, **keywords: Any) -> Any:
        """Send a result of Parsl before 2026.10.5, without its type in front."""
        return self.send(msg_parts[-1], *arguments, **keywords)

    def recv(self, *arguments: Any, **keywords: Any) -> Any:
        """Return the interchange's next message."""
        message = super().recv(*arguments, **keywords)
        content = pickle.loads(message) if message else None  # noqa: S301 - Parsl's protocol
        if isinstance(content, list):
            self._tasks.update(task["task_id"] for task in content)
        elif isinstance(content, dict):
            self._compare(content["number"], set(content["tasks"]))
            return _ANSWER
        elif content == _ANSWERED:
            self._compares = False
            self._results.clear()
        return message

    def _beat(self) -> None:
        self._number += 1
        self._since.clear()
        beat = {"type": "heartbeat", "number": self._number, "answer": self._answer, "missing": self._missing}
        super().send(pickle.dumps(beat))

    def _send_result(self, task: int, result: bytes) -> None:
        super().send(result)
        self._results[task] = (self._number + 1, result)
        self._since.append(len(result))
        if len(self._since) > _MOST_RESULTS or sum(self._since) > _MOST_BYTES:
            self._beat()

    def _compare(self, number: int, tasks: "set[int]") -> None:
        """Take the answer to the heartbeat of this number: it says that these tasks are the pool's."""
        self._answer = number
        self._missing = sorted(tasks - self._tasks)
        for task, (after, result) in list(self._results.items()):
            if after > number:
                continue
            if task in tasks:
                self._send_result(task, result)
            else:
                del self._results[task]
                self._tasks.discard(task)
        if self._missing:
            self._beat()
