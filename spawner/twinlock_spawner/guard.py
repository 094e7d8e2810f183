"""The guards: root processes between the spawner and one endpoint, only where there are no cgroups, or for PAM.

A guard is the subreaper of whatever the endpoint starts, in whatever session, so it can find and end it; and a PAM
session needs a process that opens it and closes it. It ends as the endpoint ended, when nothing of that is left.

There are two, one below the other. The inner one is the endpoint's parent and runs the site's PAM modules. The outer
one, which the spawner knows, runs none: it ends what an inner one leaves that hangs, crashes or is killed; and if it is
killed itself, the inner one ends everything.
"""

# `signal` itself makes an object of each signal that was blocked, and its constants are objects here and there in
# memory: 0.4 ms of a start.
import _signal as signal  # type: ignore[import-not-found]
import contextlib
import io
import os
from collections.abc import Iterator

import prctl

import twinlock_spawner.child
from twinlock_spawner import pam

# What asks a guard to kill the endpoint, since SIGKILL would end the guard alone; and all that may be blocked.
KILL, _TERM, _ALL = signal.SIGQUIT, signal.SIGTERM, signal.valid_signals()
# What the outer and the inner guard pass on, and as what. SIGXCPU ends an inner guard only while that is in PAM.
_OUTER, _INNER = {_TERM: _TERM, KILL: KILL, signal.SIGALRM: signal.SIGXCPU}, {_TERM: _TERM, KILL: signal.SIGKILL}


def stand(child: "twinlock_spawner.child.Child") -> Iterator[str]:
    """A stage: fork where guards are needed. The last process goes on, the others are its guards and never return.

    The first of all, and a guard sees to itself after its fork: a fork takes the longer the more was done before.
    With PAM the inner guard is the one that finds out whose session it is to open.
    """
    yield "fork"
    if child.kill == KILL:
        os.setsid()  # what is sent to the spawner's process group isn't for its guards
        _guard(child, _OUTER)
        if not child.policy.pam_service:
            _guard(child, _INNER)


def open_session(child: "twinlock_spawner.child.Child") -> Iterator[str]:
    """A stage: with PAM open a session, and fork; this process is the inner guard from then on."""
    yield "session"
    signal.set_wakeup_fd(-1)  # soon closed, then a module's: Python would write to it when a module's process ends
    kept = sorted({2, child.audit.fd, child.words, *child.fds, 0x7FFFFFFF})  # and what PAM's modules open
    list(map(os.closerange, [fd + 1 for fd in kept], kept[1:]))
    signal.pthread_sigmask(signal.SIG_SETMASK, [KILL])  # or else a session might stay half open
    try:
        (session := pam.Session(child)).open()
        _guard(child, _INNER, session)
    except BaseException:
        session.close()
        raise


def _guard(child: "twinlock_spawner.child.Child", passed: dict[int, int], session: pam.Session | None = None) -> None:
    """Return in a new process. The calling one is its guard from now on, which sends it what `passed` says."""
    prctl.set_child_subreaper(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
    prctl.set_pdeathsig(KILL)  # PAM's modules may change their identity for a moment, which clears the setting
    if os.getppid() != child.parent:
        raise ValueError("its parent process ended meanwhile")
    child.parent = os.getpid()
    if pid := twinlock_spawner.child.fork_into(child.cgroup) if session and child.cgroup else os.fork():
        os.sched_yield()  # in case that it is to run on the same processor
        if session:
            list(map(os.close, (child.words, *child.fds)))
            status = _wait(pid, passed)
            session.close()
            _end_as(status)
        os.closerange(3, 0x7FFFFFFF)  # nothing of the spawner's stays open, its connection least of all
        signal.alarm(int(child.policy.exec_timeout) + 2)  # the outer one's has a meaning
        _end_as(_wait(pid, passed))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


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
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                ends |= [ended]
            if pid in ends or passed.get(number) == signal.SIGKILL:
                _kill_descendants()
                signal.sigtimedwait({signal.SIGCHLD}, 0.02)  # the orphans of those who were killed become ours
            elif (number := signal.sigwait({*passed, signal.SIGCHLD})) in passed:
                os.kill(pid, passed[number])  # it hasn't been reaped yet, so the pid is still its own
    return ends[pid]


def _kill_descendants() -> None:
    """A pid that is signalled is still its process's: who would reap that is this process, or was just killed."""
    family = [os.getpid()]
    for pid in family:  # which grows meanwhile
        with contextlib.suppress(OSError):  # ended meanwhile
            for thread in os.listdir(f"/proc/{pid}/task"):
                for child in map(int, io.FileIO(f"/proc/{pid}/task/{thread}/children").readall().split()):
                    os.kill(child, signal.SIGKILL)
                    family.append(child)


def _end_as(status: int) -> None:
    """End as the endpoint did, for the spawner's and the broker's eyes; no core, since a spawner isn't dumpable."""
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):  # SIGKILL's can't be set
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)  # the server's handlers only take a note
        os.kill(os.getpid(), os.WTERMSIG(status))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [os.WTERMSIG(status)])
    os._exit(os.WEXITSTATUS(status))
