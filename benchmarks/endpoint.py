"""Our user endpoint and the agent's, side by side: the same queues, document and RabbitMQ, in turns. As root.

``endpoint.py [ROUNDS [TASKS [FLOOD]]]``. Each round starts both with LocalProvider and one worker, and measures from
the program's start: the first heartbeat, the first result of a task that waited, the memory of all their processes, a
warm round trip at the queue, one with 10 MiB each way, TASKS tasks that were queued before the start, with the
processor time they took, and nine endpoints that are started at once. Prints the medians of all rounds, and ours
divided by the agent's beside the goal. With FLOOD, ours alone then drains so many tasks, and its memory is watched.

``endpoint.py --verified [ROUNDS [TASKS]]``: ours in verified mode beside plain mode instead, see `verified`.
"""

import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import verified
from endpoint_host import LIMIT, Program, Waiting, memory, node, nothing, processor_seconds, same, started
from endpoint_rig import AgentQueues, value

WARM = 20  # round trips of which a median is taken
SETTLE = 2.0  # seconds of rest before memory is measured
AT_ONCE = 9
LARGE = 7 * 2**20  # characters; some 10 MiB on the way, serialized in base64
GOALS = {  # ours divided by the agent's, at most
    "start to online, s": 0.4,
    "start to first result, s": 0.2,
    "memory (PSS), MB": 0.35,
    "warm round trip, s": 1.0,
    "round trip with 10 MiB each way, s": 1.0,
    "seconds per task, queued before": 1 / 2.5,
    "processor seconds per 1,000 tasks": 0.4,
    "nine at once, all online, s": 0.4,
}
MOST = {"warm round trip, s": 0.010}  # of ours, whatever the agent has
FLAT = 1.1  # the flood's most memory, divided by what it was when a tenth was done


def main() -> int:
    """Measure and print. Return 1 if a goal is missed, else 0."""
    if sys.argv[1:2] == ["--verified"]:
        return verified.main(sys.argv[2:])
    rounds, tasks, flood = (int(word) for word in [*sys.argv[1:], *("5", "10000", "0")[len(sys.argv) - 1 :]])
    prefix = Path(sys.executable).parent
    found: dict[str, list[dict[str, float]]] = {"ours": [], "agent": []}
    with node() as (admin, url):
        ours = Program(admin, url, prefix / "twinlock-endpoint")
        theirs = prefix.parent / "peer" / "bin" / "globus-compute-endpoint"
        programs = {"ours": ours, "agent": Program(admin, url, theirs, ("_start-user-endpoint",))}
        for number in range(rounds):
            for name in sorted(programs, reverse=bool(number % 2)):
                print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                found[name].append(_measure(programs[name], tasks))
        missed = _tell(found) if rounds else 0
        if flood:
            missed += _flood(ours, flood)
    return 1 if missed else 0


def _tell(found: dict[str, list[dict[str, float]]]) -> int:
    """Print the table, and return how many goals were missed."""
    missed = 0
    print(f"{'':36}{'ours':>12}{'agent':>12}{'ratio':>8}{'goal':>8}")
    for what, goal in GOALS.items():
        ours, agent = (statistics.median(one[what] for one in found[name]) for name in ("ours", "agent"))
        over = ours / agent > goal or ours > MOST.get(what, ours)
        missed += over
        most = f"  at most {MOST[what]}" if what in MOST else ""
        print(f"{what:36}{ours:>12,.4f}{agent:>12,.4f}{ours / agent:>8.2f}{goal:>8.2f}{most}{'  MISSED' * over}")
    return missed


def _measure(program: Program, tasks: int) -> dict[str, float]:
    """Measure the small figures with one endpoint, the queued tasks with another, and then nine at once."""
    found = {}
    with started(program, Waiting(program, 1)) as (running, queues):
        queues.heartbeat(LIMIT)
        found["start to online, s"] = time.monotonic() - running.started
        value(queues.result(queues.asked[0], LIMIT))
        found["start to first result, s"] = time.monotonic() - running.started
        found["warm round trip, s"] = statistics.median(_round_trip(queues, nothing) for _ in range(WARM))
        time.sleep(SETTLE)
        found["memory (PSS), MB"] = memory()
        found["round trip with 10 MiB each way, s"] = _round_trip(queues, same, "x" * LARGE)
    with started(program, Waiting(program, tasks)) as (_, queues):
        seconds = queues.drain(tasks)
        found["seconds per task, queued before"] = seconds / tasks
        found["processor seconds per 1,000 tasks"] = processor_seconds() / tasks * 1000
    found["nine at once, all online, s"] = _at_once(program)
    return found


def _round_trip(queues: AgentQueues, function: Any, *arguments: Any) -> float:
    begun = time.monotonic()
    value(queues.result(queues.submit(function, *arguments), LIMIT))
    return time.monotonic() - begun


def _at_once(program: Program) -> float:
    made = [Waiting(program, 0) for _ in range(AT_ONCE)]
    begun = time.monotonic()
    with ExitStack() as stack:
        for _, queues in [stack.enter_context(started(program, queues)) for queues in made]:
            queues.heartbeat(LIMIT)
        return time.monotonic() - begun


def _flood(program: Program, tasks: int) -> int:
    """Drain so many tasks and watch the memory. Return 1 if it grows, else 0."""
    with started(program, Waiting(program, tasks)) as (_, queues):
        samples = []
        for _ in range(10):
            queues.drain(tasks // 10)
            samples.append(memory())
    growth = max(samples) / samples[0]
    print(f"{tasks:,} queued tasks, memory after each tenth, MB: {', '.join(f'{one:.1f}' for one in samples)}")
    print(f"{'most memory by the first, ratio':60}{growth:>8.2f}{FLAT:>8.2f}{'  MISSED' * (growth > FLAT)}")
    return int(growth > FLAT)


if __name__ == "__main__":
    sys.exit(main())
