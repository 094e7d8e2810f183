"""Fuzz, guided by coverage, what reads bytes of others: ``decode.py SECONDS``, in an environment with the `dev` extra.

Half of the time goes to what root decodes (root_targets.py), half to signed work (signed_targets.py). Exit code 0 and,
for each target, executions and coverage; or 1 and the input that broke a promise, as hex. Such an input of signed work
belongs in the corpus, see tests/helpers/signed_decoders.py.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mutations import mutator
from root_targets import ROOT
from signed_targets import SIGNED

_HELPERS = Path(__file__).parent.parent / "helpers"
_MEMORY = 16 * 1024  # KiB that one input may add to the most that the process ever had; see getrusage(2)
_OPTIONS = ["-print_final_stats=1", "-len_control=100", "-timeout=60", "-report_slow_units=60", "-rss_limit_mb=1024"]
_GROUPS = {name: group for group in (ROOT, SIGNED) for name in group.targets}


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Fuzz what reads bytes of others.")
    parser.add_argument("seconds", type=float, help="how long, all targets together")
    parser.add_argument("--target", choices=_GROUPS, help=argparse.SUPPRESS)  # with a folder: the process that fuzzes
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.target:
        _fuzz(options.target, options.folder, options.seconds)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder is removed
    return max([_campaign(target, options.seconds / 2 / len(group.targets)) for target, group in _GROUPS.items()])


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

    group = _GROUPS[target]
    with atheris.instrument_imports(include=[*group.packages]):
        run, seeds, form, words = group.targets[target]()
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

    mutate = mutator(bytewise, form, words)
    atheris.Setup([sys.argv[0], *_OPTIONS, *options, str(corpus)], _thrifty(run), custom_mutator=mutate)
    atheris.Fuzz()


def _thrifty(run: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """Fails also where the memory's high-water mark rises by more than the bound."""

    def wrapped(data: bytes) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(data)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MEMORY, "more memory than the bound"

    return wrapped


if __name__ == "__main__":
    sys.exit(main())
