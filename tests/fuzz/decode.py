"""Fuzz, guided by coverage, what root decodes: ``decode.py SECONDS``, in an environment with Twinlock's extra ``dev``.

Half of the time goes to datagrams, by `wire.decode`, half to the state that a spawner hands to itself when it starts
over; both with msgpack's decoder in Python, as root has it. Exit code 0 and, for each, executions and coverage; or 1
and the input that broke a promise, as hex.
"""

import argparse
import io
import math
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

_HELPERS = Path(__file__).parent.parent / "helpers"
_MEMORY = 16 * 1024  # KiB that one input may add to the most that the process ever had; see getrusage(2)
_NUMBERS: list[object] = [-1, 0, 1, 2**31, 2**32, 2**63, 1.0, math.inf]
_OTHERS: list[object] = [None, True, "", "\0", "../x", "\N{EURO SIGN}", b"x", [], {}, [[]]]
_OPTIONS = ["-print_final_stats=1", "-len_control=100", "-timeout=60", "-report_slow_units=60", "-rss_limit_mb=1024"]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Fuzz what root decodes.")
    parser.add_argument("seconds", type=float, help="how long, all targets together")
    parser.add_argument("--target", choices=_TARGETS, help=argparse.SUPPRESS)  # with a folder: the process that fuzzes
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.target:
        _fuzz(options.target, options.folder, options.seconds)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder is removed
    return max([_campaign(target, options.seconds / len(_TARGETS)) for target in _TARGETS])


def _campaign(target: str, seconds: float) -> int:
    """Fuzz in a process of its own and say how it went; 1 where something was found."""
    with tempfile.TemporaryDirectory(prefix="twinlock-fuzz-") as folder:
        argv = [sys.executable, __file__, str(seconds), "--target", target, "--folder", folder]
        ended = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
        findings = {path.name: path.read_bytes().hex() for path in Path(folder).glob("finding-*")}
    lines = ended.stdout.splitlines()
    if ended.returncode or findings:
        print(*lines[-60:], *(f"{target}: {name}: {data}" for name, data in findings.items()), sep="\n")
        return 1
    print(*(f"{target}: {line}" for line in lines if "DONE" in line or "executed_units" in line), sep="\n")
    return 0


def _fuzz(target: str, folder: Path, seconds: float) -> None:
    """Never returns: libFuzzer ends the process. It leaves what it found in the folder."""
    os.environ["MSGPACK_PUREPYTHON"] = "1"
    sys.path.append(str(_HELPERS))
    import atheris  # type: ignore[import-untyped]

    with atheris.instrument_imports(include=["msgpack", "twinlock_wire", "twinlock_spawner"]):
        run, seeds, words = _TARGETS[target]()
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    options = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={max(map(len, seeds)) * 3}",
        f"-artifact_prefix={folder}/finding-",
    ]

    def bytewise(data: bytes, size: int) -> bytes:
        return bytes(atheris.Mutate(data, size))  # by its name, since Fuzz() puts another function there

    mutate = _mutator(bytewise, [*_NUMBERS, *_OTHERS, *words])
    atheris.Setup([sys.argv[0], *_OPTIONS, *options, str(corpus)], _thrifty(run), custom_mutator=mutate)
    atheris.Fuzz()


def _mutator(bytewise: Callable[[bytes, int], bytes], words: Sequence[object]) -> Callable[[bytes, int, int], bytes]:
    """Mutations of the value, of a value's form, and of the bytes, which seldom stay msgpack."""
    import msgpack

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        kind = chance.random()
        try:
            if kind < 0.4:
                return bytes(msgpack.packb(_changed(msgpack.unpackb(data), chance, words)))[:size]
            if kind < 0.5:
                return _lengthened(data, chance)[:size]
        except (ValueError, TypeError, OverflowError, IndexError):  # it's no msgpack, or becomes none
            pass
        return bytewise(data, size)

    return mutate


def _lengthened(data: bytes, chance: random.Random) -> bytes:
    """The head of one map, array or text in a longer form. Raises `IndexError` where nothing looks like a short one."""
    at = chance.choice([at for at, byte in enumerate(data) if 0x80 <= byte < 0xC0])
    count = data[at] & (0x0F if data[at] < 0xA0 else 0x1F)
    head = b"\xde\0" if data[at] < 0x90 else b"\xdc\0" if data[at] < 0xA0 else b"\xd9"
    return data[:at] + head + bytes([count]) + data[at + 1 :]


def _changed(value: object, chance: random.Random, words: Sequence[object]) -> object:
    """The value, in which one thing was replaced, left out or doubled."""
    if isinstance(value, dict):
        pairs = _changed(sorted(([*pair] for pair in value.items()), key=lambda _: chance.random()), chance, words)
        return dict(pairs) if isinstance(pairs, list) else pairs
    if not isinstance(value, list) or not value or chance.random() < 0.1:
        return chance.choice(words)
    at = chance.randrange(len(value))
    instead = [_changed(value[at], chance, words)] if chance.random() < 0.8 else [value[at]] * chance.choice([0, 2])
    return value[:at] + instead + value[at + 1 :]


def _thrifty(run: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """Fails also where the memory's high-water mark rises by more than the bound."""

    def wrapped(data: bytes) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(data)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MEMORY, "more memory than the bound"

    return wrapped


_Target = tuple[Callable[[bytes], object], list[bytes], Sequence[object]]


def _datagrams() -> _Target:
    """Bytes from the broker, or from the spawner."""
    import msgpack
    import wire_rig
    from twinlock_wire import wire

    assert msgpack.Unpacker.__module__ == "msgpack.fallback"
    longest = wire.Children([wire_rig.ALICE._replace(user="u" * 64)] * wire.MAX_PAGE)
    messages = [*wire_rig.REQUESTS, *wire_rig.REPLIES, longest]
    values = [wire_rig.as_map(message) for message in messages]
    words = [word for value in values for word in (*value, *value.values())]
    return wire_rig.check_datagram, [wire.encode(message) for message in messages], words


def _states() -> _Target:
    """What a spawner that starts over finds in its memfd: what its earlier self puts there, and anything else."""
    import msgpack
    from twinlock_spawner import reload
    from twinlock_wire import wire
    from wire_rig import NAME, SPAWN, UEP

    pid = _child()

    def resume(data: bytes) -> bool:
        """Whether the bytes are taken for a state; all in it can then be told to a broker."""
        try:
            _, children = reload.read_state(io.BytesIO(data))
        except (ValueError, TypeError, OSError):
            return False
        for child in children or []:
            wire.check(child.row())
        return True

    def check(data: bytes) -> None:
        before = os.listdir("/proc/self/fd")
        resume(data)
        assert os.listdir("/proc/self/fd") == before, "a file descriptor is left, or one was closed"

    running = (SPAWN, "", signal.SIGUSR1, 12.5, pid, None, None)
    in_a_cgroup = (SPAWN, f"/sys/fs/cgroup/{os.getpid()}/u-{SPAWN[1]}/{UEP}", signal.SIGKILL, math.inf, pid, None, None)
    ending = (SPAWN._replace(id=NAME[4:40]), "", signal.SIGKILL, 12.5, pid, 256, None)
    ended = (SPAWN, "", signal.SIGKILL, math.inf, pid, 0, 0)
    seeds = [
        msgpack.packb([{}, 0, ""]) + msgpack.packb(rows) for rows in ([], [running], [in_a_cgroup, ending], [ended])
    ]
    for seed in seeds:
        assert resume(seed), "a seed is no state; has the form changed?"
    return check, seeds, [*running, *in_a_cgroup, *ending, UEP, NAME]


def _child() -> int:
    """A child of this process; it ends with it."""
    import prctl

    if pid := os.fork():
        return pid
    prctl.set_pdeathsig(signal.SIGKILL)
    while True:
        signal.pause()


_TARGETS: dict[str, Callable[[], _Target]] = {"datagrams": _datagrams, "states": _states}

if __name__ == "__main__":
    sys.exit(main())
