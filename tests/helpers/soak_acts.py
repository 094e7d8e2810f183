"""What users' functions do in a soak: sent as source text to an endpoint, so each has its imports in itself.

The quiet ones are what everybody's tasks are like; the wild ones are what tasks have been seen to do to their worker,
their endpoint, their host and their neighbours.
"""


def add(one: int, other: int) -> int:
    """A quiet one."""
    return one + other


def give_back_a_lambda(_: str) -> object:
    """A value that needs dill."""
    return lambda: 1


def raise_what_is_no_exception(_: str) -> None:
    """As a library's cancellation does."""
    import asyncio

    raise asyncio.CancelledError


def leave(_: str) -> None:
    """End the worker without a word."""
    import os

    os._exit(7)


def be_killed(_: str) -> None:
    """As by the kernel where memory is short."""
    import os

    os.kill(os.getpid(), 9)


def fault(_: str) -> None:
    """A bug in a compiled module."""
    import ctypes

    ctypes.string_at(0)


def raise_an_essay(_: str) -> None:
    """An error whose text no queue takes."""
    raise ValueError("w" * 30_000_000)


def give_back_too_much(_: str) -> str:
    """A result beyond the limit."""
    return "r" * 12_000_000


def give_back_a_lock(_: str) -> object:
    """A value that nothing can serialise."""
    import threading

    return threading.Lock()


def print_without_end(_: str) -> None:
    """Some megabytes to both outputs."""
    import sys

    for _line in range(20_000):
        print("o" * 100)
        print("e" * 100, file=sys.stderr)


def leave_daemons(_: str) -> None:
    """Processes in sessions of their own, deaf to TERM."""
    import subprocess

    for _number in range(5):
        subprocess.Popen(["sh", "-c", "trap '' TERM HUP; sleep 1000"], start_new_session=True)


def return_twice(_: str) -> int:
    """Fork, and let both go on."""
    import os

    return os.fork()


def kill_everything_of_mine(_: str) -> None:
    """Endpoint, pool, and all of them at once."""
    import os

    os.kill(-1, 9)


def close_all_files(_: str) -> None:
    """As old daemons do."""
    import os

    os.closerange(3, 1024)


def write_to_all_files(_: str) -> None:
    """Nonsense into each pipe and socket that a worker has."""
    import contextlib
    import os

    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            os.set_blocking(fd, False)
            os.write(fd, b"nonsense\n" * 100)


def block_all_signals(_: str) -> None:
    """And never allow them again."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def change_surroundings(_: str) -> None:
    """The worker's environment, folder, mask, limit of files and standard streams."""
    import os
    import resource
    import sys

    os.environ.clear()
    os.chdir("/")
    os.umask(0o777)
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
    sys.stdout = sys.stderr = None


def leave_threads(_: str) -> None:
    """That no end of a process waits for in vain."""
    import threading

    for _number in range(20):
        threading.Thread(target=threading.Event().wait, args=(1000,)).start()


def recurse(_: str) -> object:
    """Deeper than Python allows."""
    return recurse(_)


def knock(control: str) -> int:
    """Connect to the broker's socket again and again, say nonsense or nothing, and stay."""
    import contextlib
    import socket
    import time

    doors = []
    with contextlib.suppress(OSError):
        for number in range(1500):
            door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            door.setblocking(False)
            doors.append(door)
            door.connect(control)
            if number % 2:
                door.send(b"nonsense " * 1000)
    time.sleep(2)
    return len(doors)


def take_long(_: str) -> None:
    """Sleep."""
    import time

    time.sleep(3)


WILD = (
    give_back_a_lambda,
    raise_what_is_no_exception,
    leave,
    be_killed,
    fault,
    raise_an_essay,
    give_back_too_much,
    give_back_a_lock,
    print_without_end,
    leave_daemons,
    return_twice,
    kill_everything_of_mine,
    close_all_files,
    write_to_all_files,
    block_all_signals,
    change_surroundings,
    leave_threads,
    recurse,
    knock,
    take_long,
)
