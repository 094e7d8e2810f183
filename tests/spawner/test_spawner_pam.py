"""PAM sessions, with the modules that every Debian has: who is let in, what an endpoint gets, how a session ends."""

import os
import pwd
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from proc_rig import descriptors
from process_trees import children, eventually, guards, lives, only_child, pending, processes, program
from spawner_rig import PYTHON, Start, gone, uep
from twinlock_testbed.users import change_accounts
from twinlock_wire import wire

pytestmark = pytest.mark.system

OPAQUE = "the site's rules for accounts don't allow it now"
PERMIT = ["auth required pam_permit.so", "account required pam_permit.so", "session required pam_permit.so"]
LIMITS = "import json, resource; print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)), flush=True)"
EXAMPLE = Path(__file__).parents[2] / "packaging/pam.d/twinlock"

Service = Callable[..., str]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Make a PAM service of some lines, and return its name; it is removed at the end."""
    with ExitStack() as stack:

        def service(*lines: str) -> str:
            path = Path(f"/etc/pam.d/twl-{os.getpid()}-{tmp_path.name}")
            stack.callback(path.unlink)
            path.write_text("\n".join(lines) + "\n")
            return path.name

        yield service


class Hook:
    """A script that PAM runs when a session opens and closes; it writes a line each time, then runs `more`."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self._script, self.log = folder / "hook", folder / "hook.log"
        self.log.touch()
        line = 'echo "$PAM_TYPE $PAM_USER $$ $(ps -o pid= -u "$PAM_USER" | wc -l)"'
        self._script.write_text(f"#!/bin/sh\n{line} >> {self.log}\n{more}\n")
        self._script.chmod(0o700)
        self.rule = f"session required pam_exec.so {self._script}"

    def calls(self) -> list[tuple[str, str]]:
        """Type and account of each run."""
        return [(words[0], words[1]) for words in self._words()]

    def pids(self) -> list[int]:
        """The script's process in each run."""
        return [int(words[2]) for words in self._words()]

    def processes(self) -> list[int]:
        """How many processes the account had at each run."""
        return [int(words[3]) for words in self._words()]

    def _words(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()]


@pytest.fixture
def alice(alice: pwd.struct_passwd) -> pwd.struct_passwd:
    """The throw-away user, who has no processes any more, zombies that wait for init included: ps(1) counts those."""
    assert eventually(lambda: not processes(alice.pw_uid))
    return alice


def _both(account: pwd.struct_passwd) -> list[tuple[str, str]]:
    return [("open_session", account.pw_name), ("close_session", account.pw_name)]


def test_the_modules_variables_are_used(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path
) -> None:
    """Over the default, under the policy's, and never in place of the account's own."""
    conf = tmp_path / "env.conf"
    conf.write_text("".join(f"{name} DEFAULT=pam\n" for name in ("SITE", "LANG", "POLICY", "HOME", "USER", "SHELL")))
    name = service(*PERMIT, f"session required pam_env.so readenv=0 conffile={conf}")
    broker = start({"pam_service": name, "environment": {"POLICY": "policy"}}).connect()
    environment = broker.spawn(1, alice.pw_name).json()["environment"]
    environment.pop("LC_CTYPE", None)  # Python's own
    assert environment == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "pam",
        "SITE": "pam",
        "POLICY": "policy",
        "HOME": alice.pw_dir,
        "USER": alice.pw_name,
        "LOGNAME": alice.pw_name,
        "SHELL": alice.pw_shell,
    }


def test_the_modules_limits_win(start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path) -> None:
    conf = tmp_path / "limits.conf"
    conf.write_text(f"{alice.pw_name} soft nofile 200\n{alice.pw_name} hard nofile 300\n")
    policy: dict[str, Any] = {"rlimits": {"nofile": [900, 1000]}, "programs": {"limits": [*PYTHON, LIMITS]}}
    name = service(*PERMIT, f"session required pam_limits.so conf={conf}")
    broker = start(policy | {"pam_service": name}).connect()
    assert broker.spawn(1, alice.pw_name, "limits").json() == [200, 300]
    broker = start(policy).connect()
    assert broker.spawn(1, alice.pw_name, "limits").json() == [900, 1000]


@pytest.fixture
def group_rule(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Add a line to pam_group's file, whose place is fixed; it is removed at the end."""
    conf = Path("/etc/security/group.conf")
    added: list[str] = []

    def add(line: str) -> None:
        added.append(line)
        with conf.open("a") as file:
            file.write(line + "\n")

    yield add
    kept = [line for line in conf.read_text().splitlines() if line not in added]
    conf.write_text("".join(f"{line}\n" for line in kept))


def test_groups_that_a_module_adds(
    start: Start, bob: pwd.struct_passwd, service: Service, group_rule: Callable[[str], None]
) -> None:
    name = service("auth required pam_group.so", *PERMIT)
    group_rule(f"{name};*;{bob.pw_name};Al0000-2400;games")
    change_accounts("usermod", "--append", "--groups", "video", bob.pw_name)
    try:
        status = start({"pam_service": name}).connect().spawn(1, bob.pw_name).json()["status"]
    finally:
        change_accounts("usermod", "--groups", "", bob.pw_name)
    assert set(status["Groups"].split()) == {str(bob.pw_gid), "44", "60"}
    assert status["Uid"].split() == [str(bob.pw_uid)] * 4


def test_a_denied_group_that_a_module_adds(
    start: Start, bob: pwd.struct_passwd, service: Service, group_rule: Callable[[str], None], tmp_path: Path
) -> None:
    """It is found after the modules, and the session is closed."""
    hook = Hook(tmp_path)
    name = service("auth required pam_group.so", *PERMIT, hook.rule)
    group_rule(f"{name};*;{bob.pw_name};Al0000-2400;games")
    broker = start({"pam_service": name, "deny_groups": ["games"]}).connect()
    output = broker.spawn(1, bob.pw_name)
    refused = broker.receive(wire.Refused)
    assert refused.stage == "session-groups"
    assert "is in the group games" in refused.reason
    assert output.rest() == ""
    assert hook.calls() == _both(bob)


@pytest.mark.parametrize(
    ("rule", "file"),
    [
        ("account required pam_deny.so", ""),
        ("account required pam_access.so accessfile={file}", "- : {user} : ALL\n"),
        ("account required pam_time.so conffile={file}", "*;*;{user};!Al0000-2400\n"),
    ],
    ids=["pam_deny", "pam_access", "pam_time"],
)
def test_the_sites_rules_are_asked(
    start: Start,
    alice: pwd.struct_passwd,
    bob: pwd.struct_passwd,
    service: Service,
    tmp_path: Path,
    rule: str,
    file: str,
) -> None:
    """The user learns that they are against it; the audit log has the reason."""
    conf, hook = tmp_path / "rules", Hook(tmp_path)
    conf.write_text(file.format(user=alice.pw_name))
    spawner = start({"pam_service": service(rule.format(file=conf), *PERMIT, hook.rule)})
    broker = spawner.connect()
    output = broker.spawn(1, alice.pw_name)
    refused = broker.receive(wire.Refused)
    assert (refused.id, refused.stage, refused.reason) == (uep(1), "session", OPAQUE)
    assert output.rest() == ""
    [failed] = [line for line in spawner.audit() if line["event"] == "pam-failed"]
    assert (failed["id"], failed["call"]) == (uep(1), "acct_mgmt")
    assert failed["reason"] not in ("", OPAQUE)
    assert hook.calls() == []
    if file:
        broker.spawn(2, bob.pw_name, "sleep")
        broker.receive(wire.Spawned)


def test_a_session_that_cannot_be_opened(start: Start, alice: pwd.struct_passwd, service: Service) -> None:
    spawner = start({"pam_service": service(*PERMIT, "session required pam_deny.so")})
    broker = spawner.connect()
    output = broker.spawn(1, alice.pw_name, "sleep")
    refused = broker.receive(wire.Refused)
    assert (refused.stage, refused.reason) == ("session", OPAQUE)
    assert output.rest() == ""
    assert [line["call"] for line in spawner.audit() if line["event"] == "pam-failed"] == ["open_session"]


def test_a_start_that_fails_later_closes_the_session(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path
) -> None:
    broken = Path(start().folder, "broken")
    broken.write_text("no program\n")
    broken.chmod(0o755)
    hook = Hook(tmp_path)
    policy = {"pam_service": service(*PERMIT, hook.rule), "programs": {"broken": [str(broken)]}}
    broker = start(policy).connect()
    broker.spawn(1, alice.pw_name, "broken")
    assert broker.receive(wire.Refused).stage == "exec"
    assert hook.calls() == _both(alice)


@pytest.mark.cases(2)
@pytest.mark.parametrize("by_cgroup", [True, False], ids=["cgroup", "no-cgroup"])
@pytest.mark.parametrize("end", ["exit", "TERM", "KILL", "a-stranger", "spawner-TERM", "spawner-KILL"])
def test_a_session_is_closed_once_however_it_ends(
    start: Start,
    alice: pwd.struct_passwd,
    service: Service,
    tmp_path: Path,
    cgroup: str,
    end: str,
    by_cgroup: bool,
) -> None:
    """And it is closed when nothing of the endpoint is left."""
    hook = Hook(tmp_path)
    policy = {"pam_service": service(*PERMIT, hook.rule), "cgroup": cgroup if by_cgroup else ""}
    spawner = start(policy | {"programs": {"once": [*PYTHON, "input()"]}})
    broker = spawner.connect()
    output = broker.spawn(1, alice.pw_name, "once" if end == "exit" else "daemon", b"")
    pid = broker.receive(wire.Spawned).pid
    if end != "exit":
        output.line()
        assert hook.calls() == _both(alice)[:1]
    if end in ("TERM", "KILL"):
        broker.send(wire.Signal(uep(1), end))
    elif end == "a-stranger":
        os.kill(program(pid), signal.SIGKILL)
    elif end.startswith("spawner"):
        spawner.process.send_signal(signal.SIGTERM if end == "spawner-TERM" else signal.SIGKILL)
        spawner.process.wait(60)
    if not end.startswith("spawner"):
        broker.receive(wire.Exited)
    assert gone(pid)
    assert hook.calls() == _both(alice)
    assert hook.processes()[-1] == 0


def test_a_module_that_hangs_when_it_opens(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path
) -> None:
    """The start is given up; neither the guards nor what the module started are left."""
    hook = Hook(tmp_path, "exec sleep 1000")
    spawner = start({"pam_service": service(*PERMIT, hook.rule), "exec_timeout": 10})
    broker = spawner.connect()
    output = broker.spawn(1, alice.pw_name, "sleep")
    assert eventually(lambda: len(hook.pids()) == 1)
    assert broker.receive(wire.Refused).stage == "timeout"
    assert output.rest() == ""
    assert not lives(hook.pids()[0])
    assert eventually(lambda: children(spawner.process.pid) == [])


def test_signals_that_end_guards_count_though_a_service_manager_ignores_them(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path
) -> None:
    """SIGXCPU ends the inner guard in a module that hangs, and SIGUSR1 before that; who ignores them stays for ever."""
    hook = Hook(tmp_path, "exec sleep 1000")
    ignoring = ("env", "--ignore-signal=USR1,XCPU")
    spawner = start({"pam_service": service(*PERMIT, hook.rule), "exec_timeout": 2}, ignoring)
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep")
    assert broker.receive(wire.Refused).stage == "timeout"
    assert eventually(lambda: children(spawner.process.pid) == [])


def test_a_module_that_hangs_when_it_closes(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path
) -> None:
    """The endpoint's own end is what is reported; the audit log says what went wrong."""
    hook = Hook(tmp_path, 'test "$PAM_TYPE" = open_session || exec sleep 1000')
    spawner = start({"pam_service": service(*PERMIT, hook.rule)})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "fail")
    broker.receive(wire.Spawned)
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == 7
    [failed] = [line for line in spawner.audit() if line["event"] == "pam-failed"]
    assert (failed["id"], failed["call"]) == (uep(1), "close")
    assert not lives(hook.pids()[1])


def test_a_session_that_cannot_be_closed_is_in_the_audit_log(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path
) -> None:
    hook = Hook(tmp_path, 'test "$PAM_TYPE" = open_session')
    spawner = start({"pam_service": service(*PERMIT, hook.rule)})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "fail")
    broker.receive(wire.Spawned)
    assert os.waitstatus_to_exitcode(broker.receive(wire.Exited).status) == 7
    assert hook.calls() == _both(alice)
    assert [line["call"] for line in spawner.audit() if line["event"] == "pam-failed"] == ["close_session"]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A FIFO: who reads from it waits until it is opened for writing."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("by", ["the-broker", "the-spawners-end", "the-outer-guards-end"])
def test_an_end_that_comes_while_a_session_opens(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path, gate: Path, by: str
) -> None:
    """What a module has begun it may finish; the session is closed again, and the program doesn't run."""
    hook = Hook(tmp_path, f'test "$PAM_TYPE" = close_session || read line < {gate}')
    later = tmp_path / "later"
    later.mkdir()
    after = Hook(later)
    spawner = start({"pam_service": service(*PERMIT, hook.rule, after.rule)})
    broker = spawner.connect()
    output = broker.spawn(1, alice.pw_name, "sleep")
    assert eventually(lambda: len(hook.pids()) == 1)
    outer = only_child(spawner.process.pid)
    [inner] = children(outer)
    if by == "the-broker":
        broker.send(wire.Signal(uep(1), "KILL"))
    elif by == "the-spawners-end":
        spawner.process.kill()
    else:
        os.kill(outer, signal.SIGKILL)
    assert eventually(lambda: pending(inner) != set())  # or else the module could be the first to go on
    gate.write_text("go on\n")
    assert output.rest() == ""
    assert gone(outer)
    assert hook.calls() == after.calls() == _both(alice)


def test_a_program_whose_start_was_called_off_while_its_session_opened_never_runs(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path, gate: Path
) -> None:
    """Not for a moment: guards that are so slow to take their signals would come too late to end it."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    hook = Hook(tmp_path, f'test "$PAM_TYPE" = close_session || read line < {gate}')
    quietly = ("strace", "--daemonize", "--follow-forks", "--quiet=all", "-o", "/dev/null", "--trace=rt_sigtimedwait")
    prefix = (*quietly, "--inject=rt_sigtimedwait:delay_enter=1000000")
    spawner = start({"pam_service": service(*PERMIT, hook.rule)}, prefix)
    broker = spawner.connect()
    output = broker.spawn(1, alice.pw_name, "sleep")
    assert eventually(lambda: len(hook.pids()) == 1)
    outer = only_child(spawner.process.pid)
    [inner] = children(outer)
    broker.send(wire.Signal(uep(1), "KILL"))
    assert eventually(lambda: pending(inner) != set())
    gate.write_text("go on\n")
    assert output.rest() == ""
    assert broker.receive(wire.Refused).id == uep(1)


def test_modules_find_no_signal_blocked_that_they_need(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path
) -> None:
    """Or else what they start couldn't be ended. While a session opens, that which calls the start off waits."""
    log = tmp_path / "log"
    rule = f"session required pam_exec.so log={log} /bin/grep SigBlk: /proc/self/status"
    broker = start({"pam_service": service(*PERMIT, rule)}).connect()
    broker.spawn(1, alice.pw_name, "fail")
    broker.receive(wire.Spawned)
    broker.receive(wire.Exited)
    masks = [int(line.split()[1], 16) for line in log.read_text().splitlines() if line.startswith("SigBlk:")]
    assert masks == [1 << (signal.SIGUSR1 - 1), 0]


def test_what_a_module_starts_is_the_modules_business(
    start: Start, alice: pwd.struct_passwd, service: Service, tmp_path: Path
) -> None:
    """Its end wakes nobody up by a descriptor that is closed, or a module's own by then: Python would complain."""
    hook = Hook(tmp_path)
    spawner = start({"pam_service": service(*PERMIT, hook.rule)})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "fail")
    broker.receive(wire.Spawned)
    broker.receive(wire.Exited)
    assert hook.calls() == _both(alice)
    said = spawner.said.last(spawner.said.count())
    assert said == [line for line in said if line.startswith("{")]


def test_a_guard_holds_the_audit_log_and_no_more(start: Start, alice: pwd.struct_passwd, service: Service) -> None:
    """Not the broker's connection, not the endpoint's output: their ends would be seen too late."""
    spawner = start({"pam_service": service(*PERMIT)})
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    assert eventually(lambda: all(_holds_only_a_log(guard) for guard in guards(pid)))  # slower than the program, maybe


def _holds_only_a_log(pid: int) -> bool:
    files = descriptors(pid)
    return set(files) - {0, 1, 2} == {fd for fd, file in files.items() if file.endswith("/audit.log")}


def test_the_example(start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd, service: Service) -> None:
    """It lets an account in, and one that has expired not."""
    broker = start({"pam_service": service(EXAMPLE.read_text())}).connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    change_accounts("usermod", "--expiredate", "1", bob.pw_name)
    try:
        broker.spawn(2, bob.pw_name, "sleep")
        refused = broker.receive(wire.Refused)
    finally:
        change_accounts("usermod", "--expiredate", "", bob.pw_name)
    assert (refused.stage, refused.reason) == ("session", OPAQUE)
