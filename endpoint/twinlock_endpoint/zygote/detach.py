"""What makes a fork of the zygote look like a process that was just started."""

import ctypes
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from setproctitle import setproctitle

from twinlock_endpoint.zygote.program import Program

_PR_SET_PDEATHSIG = 1
_MOST_FDS = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


def run(program: Program, parent: int, forget: Callable[[], None]) -> NoReturn:
    """Become the program, and end the process with it; `forget` undoes what the zygote's parent set up for itself."""
    code = os.EX_SOFTWARE
    try:
        die_with(parent)
        os.setpgid(0, 0)
        close_all_but()
        _standard_streams(program)
        _default_signals()
        setproctitle(program.title)
        forget()
        sys.argv[1:] = program.arguments
        os.environ.update(program.environment)
        program.run()
        code = os.EX_OK
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End the process, whatever a user's function made of its outputs.

    It mustn't return, since the frames below are the parent's.
    """
    try:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def die_with(parent: int) -> None:
    """Have the kernel kill this process (SIGKILL) when its parent ends, however that ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(os.EX_SOFTWARE)


def close_all_but(kept: int = -1) -> None:
    """Close all descriptors but the standard ones and `kept`: locks, pipes and sockets of the process forked from.

    Their objects stay referenced by the frames below this one, and the process ends by os._exit, so that none of them
    closes its number a second time.
    """
    os.closerange(3, max(3, kept))
    os.closerange(max(3, kept + 1), _MOST_FDS)


def _standard_streams(program: Program) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number, path in ((1, program.stdout), (2, program.stderr)):
        if path:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(opened, number)
            os.close(opened)


def _default_signals() -> None:
    """Give these signals their defaults, as programs have them that the endpoint executes.

    The endpoint may have been started with some of them ignored. It handles them itself, but a fork of the zygote would
    ignore them.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
