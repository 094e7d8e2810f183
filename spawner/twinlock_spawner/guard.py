"""The guards: root processes between the spawner and one endpoint, only where there are no cgroups, or for PAM.

A guard is the subreaper of whatever the endpoint starts, in whatever session, so it can find and end it; and a PAM
session needs a process that opens it and closes it. It ends as the endpoint ended, when nothing of that is left.

With PAM there are two, one below the other. The inner one is the endpoint's parent and runs the site's modules. The
outer one, which the spawner knows, runs none: it ends what an inner one leaves that hangs, crashes or is killed; and if
it is killed itself, the inner one ends everything. What a guard leaves that is alone comes to the spawner.
"""

# `signal` itself makes an object of each signal that was blocked, and its constants are objects here and there in
# memory: 0.4 ms of a start.
import _signal as signal  # type: ignore[import-not-found]
import contextlib
import io
import os
from collections.abc import Callable

import prctl

import twinlock_spawner.child
from twinlock_spawner import pam

# What asks a guard to kill the endpoint, since SIGKILL would end the guard alone; and all that may be blocked.
KILL, _TERM, _ALL = signal.SIGUSR1, signal.SIGTERM, signal.valid_signals()
# What the outer and the inner guard pass on, and as what. SIGXCPU ends an inner guard only while that is in PAM.
_OUTER, _INNER = {_TERM: _TERM, KILL: KILL, signal.SIGALRM: signal.SIGXCPU}, {_TERM: _TERM, KILL: signal.SIGKILL}


def stand(child: "twinlock_spawner.child.Child") -> None:
    """Fork where a guard is needed. It comes first of all: a fork takes the longer the more was done before."""
    if child.kill == KILL:
        os.setsid()  # what is sent to the spawner's process group isn't for its guards
        _guard(child, _OUTER if child.policy.pam_service else _INNER)


def open_session(child: "twinlock_spawner.child.Child") -> None:
    """Open a PAM session, and fork; this process is the inner guard from then on."""
    child.stage = "session"
    child.close_others()  # what modules of a name service have opened
    signal.pthread_sigmask(signal.SIG_SETMASK, [KILL])  # or else a session might stay half open
    try:
        (session := pam.Session(child)).open()
        _guard(child, _INNER, session)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
    except BaseException:
        session.close()
        raise


def _guard(child: "twinlock_spawner.child.Child", passed: dict[int, int], session: pam.Session | None = None) -> None:
    """Return in a new process. The calling one is its guard from now on, which sends it what `passed` says.

    Without PAM a guard sleeps until the program runs: what it writes to meanwhile would be copied. While it sleeps, a
    signal `KILL` ends it, and so ends its child; the rest is for `end_orphans`.
    """
    prctl.set_child_subreaper(1)
    _tie(child, KILL)  # PAM's modules may change their identity for a moment, which clears the setting
    child.parent, flags = os.getpid(), 0 if child.policy.pam_service else 0x4000  # CLONE_VFORK
    if pid := twinlock_spawner.child.fork(child.cgroup if session else "", flags):
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        # Nothing of the spawner's stays open, its connection least of all.
        list(map(os.close, (child.words, *child.fds))) if session else os.closerange(3, 0x7FFFFFFF)
        signal.alarm(int(child.policy.exec_timeout) + 2)  # the outer one's has a meaning
        _end_as(_wait(pid, passed), session)
    _tie(child, passed[KILL])  # a guard that is killed passes nothing on


def _tie(child: "twinlock_spawner.child.Child", number: int) -> None:
    """Have this process get a signal when its parent ends; raise `ValueError` where it is to end already."""
    prctl.set_pdeathsig(number)
    if os.getppid() != child.parent or KILL in signal.sigpending():  # blocked while a session opens
        raise ValueError("it was called off, or its parent process ended meanwhile")


def end_orphans(ended: "twinlock_spawner.child.Child", table: "dict[str, twinlock_spawner.child.Child]") -> bool:
    """In the spawner: kill what a guard that was killed has left; True when nothing is.

    That is each user's process that has come to the spawner, other than a child of its own: those are in its session (a
    keeper), or lead one (guards), or have another cgroup, and what they leave has it too (endpoints with a cgroup).
    """
    sessions, cgroup = {os.getsid(0), *(child.pid for child in table.values())}, _read("self/cgroup").split(b"0::")[1:]

    def is_left(pid: int) -> bool:
        # Of cgroups version 2; in others, one whose first thread has ended is shown elsewhere.
        if os.getsid(pid) in sessions or _read(f"{pid}/cgroup").split(b"0::")[1:] != cgroup:
            return False
        return int(_read(f"{pid}/status").split(b"\nUid:")[1].split()[0]) >= ended.policy.min_uid

    return _kill_descendants(is_left)


def _read(name: str) -> bytes:
    return io.FileIO(f"/proc/{name}").readall()


def _wait(pid: int, passed: dict[int, int]) -> int:
    """Until the child `pid` ends, pass on signals to it; then end what is left below. Gives its wait status.

    When it is to be killed all are, since what traces it hears of its end in our place (ptrace(2)).
    """
    # First in line, and nothing that it starts: a fork bomb leaves little time to who is to end it. No real-time
    # scheduling: the kernel may wait busily, in the end of a process, for others that wouldn't get to run.
    with contextlib.suppress(OSError):  # a container may lack CAP_SYS_NICE, a kernel autogroups (sched(7))
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        io.FileIO("/proc/self/autogroup", "r+").write(b"-20")
    number, ends = 0, dict[int, int]()
    with contextlib.suppress(ChildProcessError):  # nobody is left to wait for
        while True:
            ends |= iter(lambda: os.waitpid(-1, os.WNOHANG), (0, 0))
            if pid in ends or passed.get(number) == signal.SIGKILL:
                _kill_descendants()
                signal.sigtimedwait({signal.SIGCHLD}, 0.02)  # the orphans of those who were killed become ours
            elif (number := signal.sigwait({*passed, signal.SIGCHLD})) in passed:
                os.kill(pid, passed[number])  # it hasn't been reaped yet, so the pid is still its own
    return ends[pid]


def _kill_descendants(chosen: Callable[[int], bool] = bool) -> bool:
    """Kill those of this process's descendants that are `chosen`, from parent to child; True when there is none.

    This process's children are read again until no more have come, and nobody is reaped meanwhile: a fork bomb can't
    grow. A pid that is signalled is still its process's, since who would reap that is this process, or was just killed.
    """
    family = [os.getpid()]
    for pid in family:  # which grows meanwhile
        with contextlib.suppress(OSError):  # ended meanwhile
            for thread in os.listdir(f"/proc/{pid}/task"):
                for child in filter(chosen, {*map(int, _read(f"{pid}/task/{thread}/children").split())} - {*family}):
                    os.kill(child, signal.SIGKILL)
                    family.append(child)
        family += family[:1] if pid == family[-1] != family[0] else []
    return len(family) == 1


def _end_as(status: int, session: pam.Session | None) -> None:
    """End as the endpoint did, for the spawner's and the broker's eyes; no core, since a spawner isn't dumpable."""
    session.close() if session else None
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))  # SIGKILL ends it here
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)  # the server's handlers only take a note
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [os.WTERMSIG(status)])
    os._exit(os.WEXITSTATUS(status))
