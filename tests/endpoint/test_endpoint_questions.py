"""What is asked of an interchange that doesn't answer any more."""

import threading
from collections.abc import Iterator

import pytest
import zmq
from endpoint_rig import LIMIT_S, until
from parsl.executors.high_throughput.zmq_pipes import CommandClient
from twinlock_endpoint.htex.questions import InterchangeEndedError, Questions


class Interchange:
    """The socket of an interchange, which answers when a test wants it, until `ended` is set."""

    def __init__(self) -> None:
        client = CommandClient("127.0.0.1", (20000, 60000))
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.connect(f"tcp://127.0.0.1:{client.port}")
        self.ended = threading.Event()
        self.questions = Questions(client, self.ended.is_set)

    def hear(self) -> object:
        """The next question."""
        assert self._socket.poll(int(1000 * LIMIT_S))
        return self._socket.recv_pyobj()

    def answer(self, answer: object) -> None:
        """Answer the last one."""
        self._socket.send_pyobj(answer)

    def close(self) -> None:
        """End it, and nobody asks any more."""
        self.ended.set()
        self.questions.close()
        self._context.destroy(linger=0)


@pytest.fixture
def interchange() -> Iterator[Interchange]:
    made = Interchange()
    yield made
    made.close()


class Asking:
    """A thread that asks for the pools of workers."""

    def __init__(self, questions: Questions) -> None:
        self.outcome: object = None
        self._questions = questions
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self.outcome = self._questions.run("MANAGERS")
        except Exception as error:
            self.outcome = error

    def wait(self) -> object:
        """What it got."""
        self._thread.join(LIMIT_S)
        return self.outcome


def test_an_answer_reaches_who_asked(interchange: Interchange) -> None:
    for answer in ("first", "second"):
        asking = Asking(interchange.questions)
        assert interchange.hear() == "MANAGERS"
        interchange.answer(answer)
        assert asking.wait() == answer


def test_nobody_waits_for_an_interchange_that_has_ended(interchange: Interchange) -> None:
    asking = Asking(interchange.questions)
    interchange.hear()
    interchange.ended.set()
    assert isinstance(asking.wait(), InterchangeEndedError)
    assert isinstance(Asking(interchange.questions).wait(), InterchangeEndedError)


def test_the_socket_is_not_closed_under_who_waits(interchange: Interchange) -> None:
    """ZeroMQ would abort the process, or hang for good."""
    asking = Asking(interchange.questions)
    interchange.hear()
    closing = threading.Thread(target=interchange.questions.close, daemon=True)
    closing.start()
    assert closing.is_alive()
    assert asking.outcome is None
    interchange.answer("the last one")
    assert asking.wait() == "the last one"
    until(lambda: not closing.is_alive())
    assert isinstance(Asking(interchange.questions).wait(), InterchangeEndedError)
