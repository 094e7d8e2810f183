"""Random commands of a broker, users, strangers and an administrator to a real spawner, beside a model of it.

The model is a table in Python: who is in it, which processes each one has, how it ended. Each step changes both, and
the spawner's answer has to be the model's. A session is reproduced by its seed.
"""

import os
import pwd
import random
import re
import signal
import tomllib
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from process_trees import alive, lives, program
from spawner_rig import MANAGER, Output, Spawner, sealed, uep, write_policy
from twinlock_wire import wire

PER_USER = 5
IDS = range(1, 30)
NOBODY = "twl-no-such-account"


@dataclass
class Puppet:
    """An endpoint in the model's table."""

    user: str
    """Its account, by name."""
    mouth: int
    """The descriptor that orders to it are written into."""
    output: Output
    """What it says."""
    pid: int = 0
    """What the spawner started, the program or its guard; 0 before the start."""
    processes: list[int] = field(default_factory=list)
    """Those that are alive, the program first."""
    deaf: bool = False
    """It ignores SIGTERM."""
    ended: int | None = None
    """The wait status of the program; None while it runs."""


class Session:
    """A spawner, its broker, and the model."""

    def __init__(self, spawner: Spawner, users: list[pwd.struct_passwd], seed: int) -> None:
        self._random = random.Random(seed)
        self._spawner, self._users = spawner, users
        self._policy = tomllib.loads((spawner.folder / "policy.toml").read_text())
        self._most = self._policy["max_children"]
        self._broker = spawner.connect()
        self._table: dict[int, Puppet] = {}
        self._said: Counter[str] = Counter({"hello": 1})
        self._files = self._count_files()

    def run(self, steps: int) -> None:
        """So many random steps, then the end of all; `AssertionError` where spawner and model differ."""
        acts: dict[Callable[[], None], float] = {
            self._spawn: 30,
            self._act: 22,
            self._signal: 12,
            self._note: 22,
            self._kill_as_a_stranger: 4,
            self._list: 5,
            self._signal_nobody: 2,
            self._note_nobody: 2,
            self._go_away: 2,
            self._connect_twice: 1,
            self._send_nonsense: 1,
            self._reload: 0.2,
            self._reload_nonsense: 0.2,
        }
        for act in self._random.choices([*acts], [*acts.values()], k=steps):
            act()
        self._end_all()

    # What a broker does.

    def _spawn(self) -> None:
        number, word = self._random.choice(IDS), self._random.choice(["puppet"] * 9 + ["other"])
        user = self._random.choice([account.pw_name for account in self._users] * 4 + ["root", NOBODY])
        stage = self._refusal(number, user, word)
        path = self._spawner.folder / f"mouth-{uuid.uuid4()}"
        os.mkfifo(path, 0o644)
        mouth = os.open(path, os.O_RDWR)
        stdin = sealed(bytes(path))
        ear, output = os.pipe()
        self._broker.send(wire.Spawn(uep(number), user, f"uep.{MANAGER}.{uep(number)}", word), [stdin, output])
        os.close(stdin)
        os.close(output)
        has_child = stage in ("", "lookup") or (stage, word) == ("policy", "puppet")
        self._said["spawn"] += has_child  # else the refusal's line is the only one
        if stage:
            os.close(mouth)
            os.close(ear)
            assert self._hear(wire.Refused)[:2] == (uep(number), stage)
            return
        puppet = self._table[number] = Puppet(user, mouth, Output(ear))
        self._said["identity"] += 1
        told, puppet.pid = self._hear(wire.Spawned)
        puppet.processes = [int(puppet.output.line())]
        assert (told, program(puppet.pid)) == (uep(number), puppet.processes[0])

    def _refusal(self, number: int, user: str, word: str) -> str:
        """At which stage such a start is refused, as the papers say it; empty where it isn't."""
        own = [puppet for puppet in self._table.values() if puppet.user == user]
        refusals = {
            "duplicate": number in self._table,
            "policy": word != "puppet",
            "limit": len(self._table) >= self._most or len(own) >= PER_USER,
            "lookup": user == NOBODY,
        }
        return next((stage for stage, so in refusals.items() if so), "policy" if user == "root" else "")

    def _signal(self) -> None:
        number, word = self._random.choice(IDS), self._random.choice(["TERM", "KILL"])
        self._broker.send(wire.Signal(uep(number), word))
        puppet = self._table.get(number)
        self._said["signal"] += puppet is not None
        if puppet is None:
            assert self._hear(wire.Refused)[:2] == (uep(number), "signal")
        elif puppet.ended is None:
            self._end(number, signal.SIGKILL if puppet.deaf or word == "KILL" else signal.SIGTERM)

    def _note(self) -> None:
        ended = [number for number, puppet in self._table.items() if puppet.ended is not None]
        if ended:
            self._forget(self._random.choice(ended))

    def _forget(self, number: int) -> None:
        self._broker.send(wire.Noted(uep(number)))
        self._said["noted"] += 1
        puppet = self._table.pop(number)
        os.close(puppet.mouth)
        puppet.output.close()

    def _signal_nobody(self) -> None:
        self._broker.send(wire.Signal(uep(99), "KILL"))
        assert self._hear(wire.Refused)[:2] == (uep(99), "signal")

    def _note_nobody(self) -> None:
        """Or somebody who runs: that is as if nothing had been said."""
        running = self._running()
        self._broker.send(wire.Noted(uep(self._random.choice([*running, 99]))))
        self._said["noted"] += 1
        self._signal_nobody()  # when this is answered, that was read, and can't be taken for a note of a later end

    def _list(self) -> None:
        expected = {
            uep(number): wire.Child(uep(number), puppet.pid, puppet.user, f"uep.{MANAGER}.{uep(number)}", puppet.ended)
            for number, puppet in self._table.items()
        }
        seen = self._broker.children()
        missing, more = (sorted(set(one) - set(other)) for one, other in ((expected, seen), (seen, expected)))
        assert seen == expected, f"missing {missing}, too many {more}"
        self._said["list"] += 1
        for account in self._users:
            own = [puppet for puppet in self._table.values() if puppet.user == account.pw_name and puppet.ended is None]
            assert alive(account.pw_uid) == {pid for puppet in own for pid in puppet.processes}
        if self._spawner.cgroup:
            folder = Path(self._spawner.cgroup, str(self._spawner.process.pid))
            assert {place.name for place in folder.glob("*/*/")} == {uep(n) for n in self._running()}

    def _go_away(self) -> None:
        """And come back, when something has happened meanwhile."""
        before = self._spawner.said.count()
        self._broker.close()
        self._spawner.said.wait_for("disconnected", after=before)
        numbers = self._random.sample(self._running(), min(2, len(self._running())))
        for number in numbers:
            os.kill(self._table[number].processes[0], signal.SIGKILL)
        for number in numbers:
            self._spawner.said.wait_for(f'"exited", "id": "{uep(number)}"', after=before)
            self._ended(number, signal.SIGKILL)
        self._come_back()

    def _connect_twice(self) -> None:
        other = self._spawner.connect()
        self._said["hello"] += 1
        assert self._broker.hung_up()
        self._broker.close()
        self._broker = other

    def _send_nonsense(self) -> None:
        data = self._random.choice([b"\xc1", b"\x80", self._random.randbytes(100), wire.encode(wire.List()) + b"\0"])
        self._broker.send_bytes(data, [0] * self._random.choice([0, 1, 3]))
        assert self._broker.hung_up()
        self._come_back()

    def _come_back(self) -> None:
        self._broker.close()
        self._broker = self._spawner.connect()
        self._said["hello"] += 1
        self._list()

    # What users and strangers do.

    def _act(self) -> None:
        running = self._running()
        if not running:
            return
        number, letter = self._random.choice(running), self._random.choice("ffdi07s")
        puppet = self._table[number]
        os.write(puppet.mouth, letter.encode())
        if letter in "fdi":
            pid = int(puppet.output.line())
            puppet.processes += [pid] * (letter != "i")
            puppet.deaf |= letter == "i"
        else:
            self._end(number, signal.SIGSEGV if letter == "s" else int(letter) << 8)

    def _kill_as_a_stranger(self) -> None:
        if running := self._running():
            number = self._random.choice(running)
            os.kill(self._table[number].processes[0], signal.SIGKILL)
            self._end(number, signal.SIGKILL)

    # What an administrator does.

    def _reload(self) -> None:
        """With another limit. What the broker has sent is read by then: else it ends unread, with the connection."""
        self._list()
        before = self._spawner.said.count()
        self._most = self._random.randint(8, 12)
        write_policy(self._spawner.folder, self._policy | {"max_children": self._most})
        self._spawner.process.send_signal(signal.SIGHUP)
        self._spawner.said.wait_for('"started"', after=before)
        assert self._broker.hung_up()
        self._come_back()

    def _reload_nonsense(self) -> None:
        before = self._spawner.said.count()
        (self._spawner.folder / "policy.toml").write_text("broker_user = 7\n")
        self._spawner.process.send_signal(signal.SIGHUP)
        self._spawner.said.wait_for('"reload-failed"', after=before)
        self._list()

    # What both have to be like then.

    def _hear(self, kind: type[Any]) -> Any:
        self._said[kind.__name__.lower()] += 1
        return self._broker.receive(kind)

    def _end(self, number: int, status: int) -> None:
        """An endpoint ends, and the broker hears of it."""
        assert self._hear(wire.Exited) == wire.Exited(uep(number), self._table[number].pid, status)
        self._ended(number, status)
        self._said["exited"] -= 1

    def _ended(self, number: int, status: int) -> None:
        puppet = self._table[number]
        puppet.ended = status
        self._said["exited"] += 1
        assert not any(lives(pid) for pid in puppet.processes)

    def _running(self) -> list[int]:
        return [number for number, puppet in self._table.items() if puppet.ended is None]

    def _count_files(self) -> Counter[str]:
        folder = Path(f"/proc/{self._spawner.process.pid}/fd")
        return Counter(re.sub(r"\d+", "", os.readlink(place)) for place in folder.iterdir())

    def _end_all(self) -> None:
        for number in self._running():
            self._broker.send(wire.Signal(uep(number), "KILL"))
            self._said["signal"] += 1
            self._end(number, signal.SIGKILL)
        for number in [*self._table]:
            self._forget(number)
        self._list()
        assert self._count_files() == self._files, (self._count_files(), self._files)
        lines = Counter(line["event"] for line in self._spawner.audit())
        assert {event: lines[event] for event in self._said} == self._said
