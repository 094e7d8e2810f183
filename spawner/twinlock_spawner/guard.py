"""The guards: root processes between the spawner and one endpoint, only where there are no cgroups, or for PAM.

A guard is the subreaper of whatever the endpoint starts, in whatever session, so it can find and end it; and a PAM
session needs a process that opens it and closes it. It ends as the endpoint ended, when nothing of that is left.

With PAM there are two, one below the other. The inner one is the endpoint's parent and runs the site's modules. The
outer one, which the spawner knows, runs none: it ends what an inner one leaves that hangs, crashes or is killed; and if
it is killed itself, the inner one ends everything. What a guard leaves that is alone comes to the spawner.
"""

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from typing import NoReturn

import prctl

from twinlock_spawner import kernel, pam, tree
from twinlock_spawner.policy import Policy
from twinlock_spawner.start import Start

KILL = signal.SIGUSR1
"""What asks a guard to kill the endpoint, since SIGKILL would end the guard alone."""

Passed = Mapping[int, int]

_PASSED_BY_OUTER: Passed = {
    signal.SIGTERM: signal.SIGTERM,
    KILL: KILL,
    signal.SIGALRM: signal.SIGXCPU,
}
_PASSED_BY_INNER: Passed = {
    signal.SIGTERM: signal.SIGTERM,
    KILL: signal.SIGKILL,
}
"""What the guards pass on, and as what. SIGXCPU ends an inner guard only while that is in PAM."""

_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
"""Seconds until a guard looks again for who is left. They double each time, since some can't be killed."""


def is_needed(policy: Policy) -> bool:
    """Return whether an endpoint has a guard."""
    return not policy.cgroup or bool(policy.pam_service)


def start_guard(start: Start) -> None:
    """Fork where a guard is needed. It comes as early as it can: a fork takes the longer the more was done before."""
    if not is_needed(start.policy):
        return
    os.setsid()  # what is sent to the spawner's process group isn't for its guards
    _fork_below(start, _PASSED_BY_OUTER if start.policy.pam_service else _PASSED_BY_INNER)


def open_session(start: Start) -> None:
    """Open a PAM session, and fork; this process is the inner guard from then on."""
    if not start.policy.pam_service:
        return
    start.close_others()  # what modules of a name service have opened
    signal.pthread_sigmask(signal.SIG_SETMASK, [KILL])  # or else a session might stay half open
    session = pam.Session(start)
    try:
        session.open()
        _fork_below(start, _PASSED_BY_INNER, session)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
    except BaseException:
        session.close()
        raise


def die_with_parent(start: Start, number: int) -> None:
    """Have this process get a signal when its parent ends. Raises `ValueError` where it is to end already."""
    prctl.set_pdeathsig(number)
    if os.getppid() != start.parent:
        raise ValueError("the parent process ended meanwhile")
    if KILL in signal.sigpending():  # blocked while a session opens
        raise ValueError("it was called off")


def _fork_below(start: Start, passed: Passed, session: pam.Session | None = None) -> None:
    """Return in a new process. The calling one is its guard from now on, which sends it what `passed` says."""
    prctl.set_child_subreaper(1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, as by a module, nobody would have to be reaped
    die_with_parent(start, KILL)  # PAM's modules may change their identity for a moment, which clears the setting
    start.parent = os.getpid()
    pid = kernel.fork_into(start.cgroup) if session and start.cgroup else os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _close_all(start, session)
        signal.alarm(int(start.policy.exec_timeout) + 2)  # the outer one's has a meaning
        _exit_like(_supervise(pid, passed), session)
    die_with_parent(start, passed[KILL])  # a guard that is killed passes nothing on


def _close_all(start: Start, session: pam.Session | None) -> None:
    """Keep nothing of the spawner's open, its connection least of all. A session's modules may have files of theirs."""
    if session is None:
        os.closerange(3, 0x7FFFFFFF)
    else:
        for file in (start.report, start.stdin, start.output):
            os.close(file)


def _supervise(pid: int, passed: Passed) -> int:
    """Pass on signals to the child `pid` until it ends; then end what is left below. Return its wait status.

    When it is to be killed all are, since what traces it hears of its end in our place (ptrace(2)).
    """
    _go_first()
    ends: dict[int, int] = {}
    killing = False
    pause = _PAUSE
    with contextlib.suppress(ChildProcessError):  # nobody is left to wait for
        while True:
            ends.update(kernel.reap())
            if killing or pid in ends:
                began = time.monotonic()
                tree.kill_descendants()
                time.sleep(time.monotonic() - began)  # thousands that die need a processor too
                signal.sigtimedwait({signal.SIGCHLD}, pause)  # the orphans of those who were killed become ours
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            number = signal.sigwait({*passed, signal.SIGCHLD})
            if number in passed:
                os.kill(pid, passed[number])  # it hasn't been reaped yet, so the pid is still its own
                killing = passed[number] == signal.SIGKILL
    return ends[pid]


def _go_first() -> None:
    """Come before all others, but not what is started here: a fork bomb leaves little time to who is to end it.

    No real-time scheduling: the kernel may wait busily, in the end of a process, for others that wouldn't get to run.
    """
    with contextlib.suppress(OSError):  # a container may lack CAP_SYS_NICE, a kernel autogroups (sched(7))
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        kernel.raise_priority()
        kernel.raise_priority_of_session()


def _exit_like(status: int, session: pam.Session | None) -> NoReturn:
    """End as the endpoint did, for the spawner's and the broker's eyes; no core, since a spawner isn't dumpable."""
    if session is not None:
        session.close()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        os.kill(os.getpid(), number)  # SIGKILL ends it here
        signal.signal(number, signal.SIG_DFL)  # the server's handlers only take a note
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os._exit(os.WEXITSTATUS(status))
