"""What verified mode costs: our endpoint with signed tasks beside plain mode with the same tasks, in pairs. As root.

``endpoint.py --verified [ROUNDS [TASKS]]``. Each round starts an endpoint in either mode, with LocalProvider and one
worker, and measures, from the program's start, the first result of a task that waited; the bytes of a task and its
result at the queue, with 64 KiB each way; and the processor time of TASKS tasks that were queued before the start,
without that of the start itself. Prints the medians of all rounds, and the median of what verified mode takes more,
pair by pair, beside its bound. The bytes that each task has more, however small it is, have no bound.
"""

import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import verified_rig
from endpoint_host import CONFIG, LIMIT, Body, Program, Waiting, node, nothing, processor_seconds, same, started
from endpoint_rig import task_body
from globus_compute_sdk.sdk.batch import create_user_runtime

LARGE = 64 * 2**10  # characters
STARTED = 500  # tasks after which the start takes no more processor time

PROCESSOR = "processor ms per task"
BYTES = "bytes per task with 64 KiB each way"
EMPTY = "bytes per task of an empty function"
FIRST = "start to first result, s"

RATIOS = {PROCESSOR: 1.4, BYTES: 1.03}  # verified divided by plain, at most
MORE = {FIRST: 0.3}  # verified without plain, at most


@dataclass(frozen=True)
class Mode:
    """Either mode: the program, and what makes the messages of an endpoint's tasks."""

    program: Program
    session: Callable[[], Body]


def main(words: Sequence[str]) -> int:
    """Measure and print. Return 1 if a bound is exceeded, else 0."""
    rounds, tasks = (int(word) for word in [*words, *("5", "10000")[len(words) :]])
    found: dict[str, list[dict[str, float]]] = {"plain": [], "verified": []}
    with _modes() as modes:
        for number in range(rounds):
            for name in sorted(modes, reverse=bool(number % 2)):
                print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                found[name].append(_measure(modes[name], tasks))
    return 1 if _tell(found["verified"], found["plain"]) else 0


def _tell(verified: Sequence[dict[str, float]], plain: Sequence[dict[str, float]]) -> int:
    """Print the table, and return how many bounds were exceeded."""
    print(f"{'':36}{'verified':>14}{'plain':>14}{'more':>10}{'bound':>8}")
    missed = 0
    for what in verified[0]:
        pairs = [(one[what], other[what]) for one, other in zip(verified, plain, strict=True)]
        if what in RATIOS:
            more = statistics.median(one / other for one, other in pairs)
            words = f"{more:>9.2f}x"
        else:
            more = statistics.median(one - other for one, other in pairs)
            words = f"{more:>+10,.2f}"
        bound = RATIOS.get(what) or MORE.get(what)
        over = bound is not None and more > bound
        missed += over
        medians = "".join(f"{statistics.median(column):>14,.3f}" for column in zip(*pairs, strict=True))
        print(f"{what:36}{medians}{words}{bound or '':>8}{'  MISSED' * over}")
    return missed


@contextmanager
def _modes() -> Iterator[dict[str, Mode]]:
    """Run RabbitMQ while the block runs, and have root's files for verified mode; yield both modes."""
    path = Path(sys.executable).with_name("twinlock-endpoint")
    with node() as (admin, url), tempfile.TemporaryDirectory(prefix="twinlock-bench-", dir="/var/tmp") as name:
        host = verified_rig.Host(Path(name), url)
        host.write("endpoint/user_config_template.yaml.j2", CONFIG)
        words = ("--verified", f"{name}/verified.toml")
        yield {
            "plain": Mode(Program(admin, url, path), lambda: task_body),
            "verified": Mode(Program(admin, url, path, words), lambda: _signed(host)),
        }


def _signed(host: verified_rig.Host) -> Body:
    """Return what makes signed tasks of a new session, as the user's SDK would."""
    session = host.session(user_runtime=asdict(create_user_runtime()))

    def body(task: str, function: Callable[..., Any], *arguments: Any) -> bytes:
        return verified_rig.body(task, session.task(function, *arguments))

    return body


def _measure(mode: Mode, tasks: int) -> dict[str, float]:
    """Measure the start and the bytes with one endpoint, and the queued tasks with another."""
    found, body = {}, mode.session()
    with started(mode.program, Waiting(mode.program, 1, body)) as (running, queues):
        _wait_for(queues, queues.asked[0])
        found[FIRST] = time.monotonic() - running.started
        found[EMPTY] = _carried(queues, body, nothing)
        found[BYTES] = _carried(queues, body, same, "x" * LARGE)
    with started(mode.program, Waiting(mode.program, STARTED + tasks, mode.session())) as (_, queues):
        queues.drain(STARTED)
        before = processor_seconds()
        queues.drain(tasks)
        found[PROCESSOR] = (processor_seconds() - before) / tasks * 1000
    return found


def _carried(queues: Waiting, body: Body, function: Callable[..., Any], *arguments: Any) -> int:
    """Run a task, and return the bytes of its message and of its result's."""
    task = str(uuid.uuid4())
    message = body(task, function, *arguments)
    queues.publish(message, task_uuid=task)
    _wait_for(queues, task)
    return len(message) + len(queues.raw[task])


def _wait_for(queues: Waiting, task: str) -> None:
    result = queues.result(task, LIMIT)
    assert result.error_details is None, result.data
