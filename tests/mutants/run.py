"""``run.py [--workers N] [WORD...]``: take each check of root's code away, and see that its tests notice.

All entries of the table, or those that have a WORD in their topic, their file or what they remove. First the tests run
with the code as it is. Exits with 0 where each mutant was caught, else with 1; the last lines say what survived. As
root.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from mutant_box import Boxes, Outcome, Result, boxes
from mutant_table import Mutant, TableError, check_table, read_table

_GOOD = {Outcome.CAUGHT, Outcome.TIMED_OUT}
_BASELINE_LIMIT = 600.0


def main() -> int:
    """The exit code, see above."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is removed
    options = _parse_arguments()
    if os.geteuid() != 0:
        print("mutants are run as root: their tests make users and change to them", file=sys.stderr)
        return 1
    try:
        mutants = [mutant for mutant in read_table() if _is_chosen(mutant, options.words)]
        check_table(mutants)
    except TableError as error:
        print(error, file=sys.stderr)
        return 1
    with boxes() as made, ThreadPoolExecutor(options.workers) as workers:
        try:
            return _run(mutants, made, workers, options)
        except KeyboardInterrupt:
            workers.shutdown(wait=False, cancel_futures=True)
            made.call_off()
            return 130


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Take each check of root's code away, and see that its tests notice.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="entries with this in topic, file or what they remove")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), metavar="N", help="run so many at a time")
    parser.add_argument("--seconds", type=float, default=100, help="the limit of one mutant's tests")
    return parser.parse_args()


def _is_chosen(mutant: Mutant, words: Sequence[str]) -> bool:
    return not words or any(word in f"{mutant.file} {mutant}" for word in words)


def _run(mutants: list[Mutant], made: Boxes, workers: ThreadPoolExecutor, options: argparse.Namespace) -> int:
    began = time.monotonic()
    if not _pass_without_edits(mutants, made, workers, options.workers):
        return 1
    results: dict[Mutant, Result] = {}
    running = {workers.submit(made.run, mutant, mutant.tests, options.seconds): mutant for mutant in mutants}
    for done in as_completed(running):
        mutant = running[done]
        results[mutant] = done.result()
        _show(mutant, results[mutant], f"{len(results)}/{len(mutants)}")
    wrong = {mutant: result for mutant, result in results.items() if result.outcome not in _GOOD}
    print(f"{len(mutants) - len(wrong)} of {len(mutants)} mutants were caught, in {time.monotonic() - began:.0f} s")
    for mutant, result in wrong.items():
        _show(mutant, result, mutant.file)
    return 1 if wrong else 0


def _pass_without_edits(mutants: Iterable[Mutant], made: Boxes, workers: ThreadPoolExecutor, parts: int) -> bool:
    """Whether all the tests pass with the code as it is, none skipped; they are dealt out to the workers."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    running = [
        workers.submit(made.run, None, tests[part::parts], _BASELINE_LIMIT) for part in range(min(parts, len(tests)))
    ]
    wrong = [result.why for result in (run.result() for run in running) if result.outcome is not Outcome.SURVIVED]
    print(f"{len(tests)} tests without an edit: {'; '.join(wrong) or 'passed'}", flush=True)
    return not wrong


def _show(mutant: Mutant, result: Result, where: str) -> None:
    print(f"{where} {result.outcome.value} {result.seconds:.1f} s  {mutant}  [{result.why}]", flush=True)


if __name__ == "__main__":
    sys.exit(main())
