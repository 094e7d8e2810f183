"""What interchange and worker pool tell each other of the tasks that each has."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from endpoint_rig import LIMIT_S
from interchange_rig import Site, site
from parsl.executors.high_throughput.interchange import PKL_HEARTBEAT_CODE
from twinlock_endpoint.htex.node.pool_line import PoolLine

HEARTBEAT = pickle.dumps({"type": "heartbeat"})


def result(task: int, size: int = 0) -> bytes:
    """As a worker makes it."""
    return pickle.dumps({"type": "result", "task_id": task, "result": bytes(size)})


class Ends:
    """The pool's end of a connection, and one that does what a test wants of an interchange."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.interchange = context.socket(zmq.DEALER)
        port = self.interchange.bind_to_random_port("tcp://127.0.0.1")
        self.pool: Any = context.socket(zmq.DEALER, socket_class=PoolLine)
        self.pool.connect(f"tcp://127.0.0.1:{port}")

    def heard(self) -> dict[str, Any]:
        """The pool's next message."""
        assert self.interchange.poll(int(LIMIT_S * 1000))
        message: dict[str, Any] = pickle.loads(self.interchange.recv())
        return message

    def say(self, message: Any) -> bytes:
        """A message to the pool, which it receives as this."""
        self.interchange.send(pickle.dumps(message))
        assert self.pool.poll(int(LIMIT_S * 1000))
        return bytes(self.pool.recv())

    def beat(self) -> dict[str, Any]:
        """The pool's heartbeat."""
        self.pool.send(HEARTBEAT)
        return self.heard()


@pytest.fixture(name="ends")
def made_ends() -> Iterator[Ends]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield Ends(context)
    context.destroy(linger=0)


@pytest.fixture(name="site")
def made_site(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as made:
        yield made


def test_a_result_is_sent_until_the_interchange_has_it_and_then_no_more(ends: Ends) -> None:
    ends.say([{"task_id": 1}])
    ends.pool.send(result(1))
    assert ends.heard()["task_id"] == 1
    for _ in range(2):
        number = ends.beat()["number"]
        assert ends.say({"number": number, "tasks": [1]}) == PKL_HEARTBEAT_CODE
        assert ends.heard()["task_id"] == 1
    number = ends.beat()["number"]
    ends.say({"number": number, "tasks": []})
    number = ends.beat()["number"]
    ends.say({"number": number, "tasks": [1]})
    assert ends.heard()["missing"] == [1], "it was forgotten"


def test_a_result_that_came_after_the_heartbeat_is_not_sent_again(ends: Ends) -> None:
    ends.say([{"task_id": 1}])
    number = ends.beat()["number"]
    ends.pool.send(result(1))
    assert ends.heard()["task_id"] == 1
    ends.say({"number": number, "tasks": [1]})
    assert ends.beat()["missing"] == []


def test_the_pool_says_at_once_which_tasks_it_never_got(ends: Ends) -> None:
    ends.say([{"task_id": 1}])
    number = ends.beat()["number"]
    ends.say({"number": number, "tasks": [1, 2]})
    said = ends.heard()
    assert (said["type"], said["answer"], said["missing"]) == ("heartbeat", number, [2])


def test_a_heartbeat_says_nothing_of_an_earlier_answer(ends: Ends) -> None:
    """A result that is sent again, and brings a heartbeat about, comes amid the comparison."""
    ends.say([{"task_id": 1}])
    number = ends.beat()["number"]
    ends.say({"number": number, "tasks": [1, 2]})
    assert ends.heard()["missing"] == [2]
    ends.pool.send(result(1, 2_000_000))
    assert ends.heard()["task_id"] == 1
    number = ends.heard()["number"]
    ends.say({"number": number, "tasks": [1]})
    assert ends.heard()["task_id"] == 1
    said = ends.heard()
    assert (said["answer"], said["missing"]) == (number, [])


@pytest.mark.parametrize(("count", "size"), [(2, 600_000), (65, 10)])
def test_many_results_are_not_kept_for_a_heartbeats_time(ends: Ends, count: int, size: int) -> None:
    """Nor where the answer to the last heartbeat was lost."""
    for first in (0, count):
        for task in range(first, first + count):
            ends.pool.send(result(task, size))
            assert ends.heard()["task_id"] == task
        assert ends.heard()["type"] == "heartbeat"


def test_the_interchange_knows_at_once_that_a_pool_compares(ends: Ends) -> None:
    ends.pool.send(pickle.dumps({"type": "registration"}))
    assert ends.heard() == {"type": "registration"}
    assert ends.heard() == {"type": "heartbeat", "number": 1, "answer": 0, "missing": []}


def test_parsls_own_interchange_gets_no_result_twice(ends: Ends) -> None:
    ends.pool.send(result(1))
    assert ends.heard()["task_id"] == 1
    ends.beat()
    ends.interchange.send(pickle.dumps(2**32 - 1, protocol=2))  # another Python's
    assert ends.pool.poll(int(LIMIT_S * 1000))
    assert pickle.loads(ends.pool.recv()) == 2**32 - 1
    ends.pool.send(result(2))
    assert ends.heard()["task_id"] == 2
    # It looks at the results that the pool might have to send again.
    assert not ends.pool._results, "nor is it kept for ever"  # noqa: SLF001


def test_a_task_that_never_came_goes_back(site: Site) -> None:
    site.submit(1)
    assert site.beat(number=1, answer=0, missing=[]) == {"number": 1, "tasks": [1]}
    assert site.beat(number=2, answer=1, missing=[1]) == {"number": 2, "tasks": []}
    assert site.interesting == {b"pool"}, "it has room again"


def test_with_several_heartbeats_under_way_a_task_that_never_came_goes_back_all_the_same(site: Site) -> None:
    site.submit(1)
    site.beat(number=1, answer=0, missing=[])
    site.beat(number=2, answer=0, missing=[])
    assert site.beat(number=3, answer=1, missing=[1]) == {"number": 3, "tasks": []}


def test_what_was_said_before_a_task_went_back_is_out_of_date(site: Site) -> None:
    """The task may have been sent a second time meanwhile."""
    site.submit(1)
    site.beat(number=1, answer=0, missing=[])
    site.beat(number=2, answer=0, missing=[])
    site.beat(number=3, answer=1, missing=[1])
    site.submit(1)
    assert site.beat(number=4, answer=2, missing=[1]) == {"number": 4, "tasks": [1]}


@pytest.mark.parametrize("compares", [True, False])
def test_only_a_pool_that_compares_comes_back_while_its_last_connection_lives(site: Site, compares: bool) -> None:
    """Of another one nobody would learn what was lost; and its late probe of an address bears its name."""
    site.beat(**({"number": 1, "answer": 0, "missing": []} if compares else {}))
    again = site.connect_again()
    site.submit(1)
    assert (again if compares else site.pool).poll(int(LIMIT_S * 1000))


def test_parsls_own_pool_gets_the_answer_that_it_knows(site: Site) -> None:
    assert site.beat() == 2**32 - 1


@pytest.mark.parametrize("parts", [[result(1)], [pickle.dumps({"type": "result"}), result(1)]], ids=["today", "before"])
def test_a_result_may_have_its_type_in_front_as_parsl_had_it(site: Site, parts: list[bytes]) -> None:
    """Of a pool that runs as it is."""
    manager: Any = site.interchange._ready_managers[b"pool"]  # noqa: SLF001 - the interchange's table of pools
    manager["tasks"] = [1, 2]
    site.pool.send_multipart(parts)
    site.hear()
    assert manager["tasks"] == [2]


def test_a_pool_that_puts_the_type_in_front_sends_the_result_alone(ends: Ends) -> None:
    ends.say([{"task_id": 1}])
    ends.pool.send_multipart([pickle.dumps({"type": "result"}), result(1)])
    assert ends.heard()["task_id"] == 1
    number = ends.beat()["number"]
    ends.say({"number": number, "tasks": [1]})
    assert ends.heard()["task_id"] == 1, "it was kept"
