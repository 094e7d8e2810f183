"""What a soak is made of: users who do at random what `soak_acts` has, and an administrator who makes trouble.

Each takes its choices from a generator of its own, so a seed gives everybody the same choices again; who comes first is
the machine's affair.
"""

import json
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soak_acts
from rabbit_control import cut_all
from twinlock_testbed import scripts
from twinlock_testbed.daemons import as_user
from twinlock_testbed.manager import Manager
from twinlock_testbed.service import Service

Outcome = dict[str, str]
"""What came of an order: `result`, the value's `repr`, or `error`, the text of the future's exception."""

TEMPLATE = """\
engine:
  type: {{ engine }}
{% if "GlobusComputeEngine" in engine %}
  max_workers_per_node: 2
  provider: {type: LocalProvider, init_blocks: 1, max_blocks: 1}
{% else %}
  max_workers: 2
{% endif %}
heartbeat_period: 5
idle_heartbeats_soft: 6
"""
_OURS = "GlobusComputeEngine"
ENGINES = (_OURS, "ProcessPoolEngine", "ThreadPoolEngine")

QUIET_LIMIT_S = 300.0
"""A quiet user's round trip takes a fraction of a second; a machine that is busy with tests makes seconds of it."""

WILD_LIMIT_S = 600.0
"""After so long a future is taken for one that never ends; a pool that can't be reached is given up after 120 s."""

BREAKS_ITS_PROCESS = (
    soak_acts.close_all_files,
    soak_acts.write_to_all_files,
    soak_acts.block_all_signals,
    soak_acts.change_surroundings,
)
"""Only with the pool that is ours. A thread's process is the endpoint itself; and Python's own pool of processes waits
for ever for the rest of what a function wrote into its pipe.
"""

_AT_ONCE = 4
_ODD: tuple[dict[str, Any], ...] = (
    {"engine": "NoSuchEngine"},
    {},
    {"engine": ["ThreadPoolEngine"]},
    {"engine": "x" * 2_000_000},
    {"engine": ": {"},
)


class Hand:
    """One user's script at work. Orders may be given from any thread."""

    def __init__(self, prefix: Path, folder: Path, endpoint: str, token: str) -> None:
        """`folder` has the script, where everybody may read it (`lay_out`)."""
        self.faults_of_sdk: Counter[str] = Counter()
        """How often a future had no outcome because of a fault of the SDK's, and the service was asked instead."""
        self._orders: dict[int, Future[Outcome]] = {}
        self._lock = threading.Lock()
        self._errors = (folder / "script.log").open("ab")
        argv: list[str | Path] = [*as_user("nobody"), prefix / "bin/python", folder / "soak_script.py"]
        self._process = scripts.start(argv, self._errors)
        self._say({"endpoint": endpoint, "token": token})
        threading.Thread(target=self._read, daemon=True).start()

    def order(self, config: dict[str, Any], act: str, *args: object, cancel: bool = False) -> Future[Outcome]:
        """Have `act` run with that configuration; what comes of it."""
        future: Future[Outcome] = Future()
        with self._lock:
            number = len(self._orders)
            self._orders[number] = future
            self._say({"id": number, "config": config, "act": act, "args": args, "cancel": cancel})
        return future

    def stop(self) -> None:
        """End the script."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _say(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            outcome = json.loads(line)
            fault = outcome.pop("fault_of_sdk", None)
            if fault is not None:
                self.faults_of_sdk[fault] += 1
            self._orders[outcome.pop("id")].set_result(outcome)
        for future in self._orders.values():
            if not future.done():
                future.set_exception(RuntimeError(f"the script ended with {self._process.wait()}"))


def lay_out(folder: Path) -> None:
    """Put the script where everybody may read it."""
    for name in ("soak_script.py", "soak_acts.py"):
        shutil.copy(Path(__file__).with_name(name), folder / name)
        (folder / name).chmod(0o644)


@dataclass
class Quiet:
    """A user whose tasks are short and do no harm; every one has to come back, in time and with the right value."""

    hand: Hand
    chance: random.Random
    engine: str
    """The engine of all of its tasks."""
    round_trips: list[float] = field(default_factory=list)
    """Seconds of each task."""

    def live(self, over: threading.Event) -> None:
        """One task after another."""
        while not over.wait(self.chance.random() / 2):
            one, other = self.chance.randrange(1000), self.chance.randrange(1000)
            began = time.monotonic()
            outcome = self.hand.order({"engine": self.engine}, "add", one, other).result(QUIET_LIMIT_S)
            assert outcome == {"result": str(one + other)}, outcome
            self.round_trips.append(time.monotonic() - began)


@dataclass
class Wild:
    """A user who does anything; each future has to end, whatever with."""

    hand: Hand
    chance: random.Random
    control: str
    """The path of the broker's control socket."""
    ends: Counter[str] = field(default_factory=Counter)
    """How often each act ended in which way."""
    _under_way: dict[Future[Outcome], tuple[str, float]] = field(default_factory=dict)

    def live(self, over: threading.Event) -> None:
        """Some acts at once; at the end wait for those that are under way."""
        while not over.is_set():
            self._act()
            if len(self._under_way) == _AT_ONCE:
                self._collect()
        while self._under_way:
            self._collect()

    def _act(self) -> None:
        function = self.chance.choice(soak_acts.WILD)
        engine = _OURS if function in BREAKS_ITS_PROCESS else self.chance.choice(ENGINES)
        config: dict[str, Any] = {"engine": engine}
        if self.chance.random() < 0.1:
            config = self.chance.choice(_ODD)
        elif self.chance.random() < 0.1:
            config |= {"anew": self.chance.randrange(10_000)}
        act = function.__name__
        future = self.hand.order(config, act, self.control, cancel=self.chance.random() < 0.05)
        self._under_way[future] = (f"{act} with {str(config)[:80]}", time.monotonic())

    def _collect(self) -> None:
        oldest = min(since for _, since in self._under_way.values())
        left = oldest + WILD_LIMIT_S - time.monotonic()
        done, _ = wait(self._under_way, timeout=left, return_when=FIRST_COMPLETED)
        assert done, f"no end in {WILD_LIMIT_S:.0f} s: {self._explain()}"
        for future in done:
            act, _ = self._under_way.pop(future)
            outcome = future.result()
            self.ends[f"{act.partition(' ')[0]}: {outcome.get('error', 'a result')[:160]}"] += 1

    def _explain(self) -> str:
        acts = [act for act, _ in self._under_way.values()]
        known = self.hand.order({}, "explain").result(QUIET_LIMIT_S)
        return f"{acts}; what the service knows: {known['result']}"


@dataclass
class Administrator:
    """Restarts, reloads and cuts connections, as happens at a site; no task may be lost by that."""

    manager: Manager
    service: Service
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    """How often each trouble was made, by its name."""

    def live(self, over: threading.Event) -> None:
        """Some trouble now and then."""
        troubles: tuple[Callable[[], None], ...] = (self.restart, self.kill, self.reload, self.cut)
        while not over.wait(self.chance.uniform(5, 20)):
            trouble = self.chance.choice(troubles)
            trouble()
            self.done[trouble.__name__] += 1

    def restart(self) -> None:
        """Of the broker, in order."""
        self.manager.broker.stop()
        self.manager.start_broker()

    def kill(self) -> None:
        """The broker, as a lack of memory does."""
        self.manager.broker.kill()
        self.manager.start_broker()

    def reload(self) -> None:
        """The spawner's policy and code."""
        self.manager.spawner.signal(signal.SIGHUP)

    def cut(self) -> None:
        """All connections to RabbitMQ, as a firewall does."""
        cut_all(self.service.amqp()["management_url"])
