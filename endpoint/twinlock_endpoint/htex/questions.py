"""Questions of the endpoint's threads to the interchange, one at a time.

Parsl's client waits for ever for an interchange that has ended, and closes its socket while another thread waits. Then
ZeroMQ aborts the process or never returns: a socket is for one thread at a time.
"""

import threading
from collections.abc import Callable
from typing import Any

import zmq
from parsl.executors.high_throughput.zmq_pipes import CommandClient

_LOOK_MS = 100  # between two looks whether the interchange is still there


class InterchangeEndedError(RuntimeError):
    """The interchange has ended, so nobody can answer."""


class Questions:
    """The substitute for Parsl's client, made from one, with those of its methods that Parsl calls after the start.

    `ended` says whether the interchange has.
    """

    def __init__(self, client: CommandClient, ended: Callable[[], bool]) -> None:
        self._client = client
        self._ended = ended
        self._lock = threading.Lock()
        self._closed = False

    def run(self, question: Any) -> Any:
        """Ask, and return the answer, whenever it comes. Raise `InterchangeEndedError` if none will."""
        with self._lock:
            self._wait(zmq.POLLOUT)
            self._client.zmq_socket.send_pyobj(question)
            self._wait(zmq.POLLIN)
            return self._client.zmq_socket.recv_pyobj()

    def close(self) -> None:
        """Ask no more. The interchange has to have ended, or this waits for whoever waits for an answer."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._client.close()

    def _wait(self, event: int) -> None:
        while not self._closed:
            if self._client.zmq_socket.poll(_LOOK_MS, event):
                return
            if self._ended():
                break
        raise InterchangeEndedError("Parsl's interchange has ended")
