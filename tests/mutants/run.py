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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from mutant_box import Boxes, Outcome, Result, boxes
from mutant_table import Mutant, TableError, check_table, read_table

_GOOD = {Outcome.CAUGHT, Outcome.TIMED_OUT}
_WORKERS = 2 * (os.cpu_count() or 1)
"""Most of their time, mutants that hang wait."""

_BASELINE_LIMIT = 900.0
"""Seconds for all tests without an edit."""

_LEAST_LIMIT = 20.0
_PATIENCE = 4.0
"""A mutant's tests may take so many seconds, and so many times longer than without an edit."""


@dataclass(frozen=True)
class Usual:
    """The seconds that the code takes as it is."""

    beginning: float
    """Until the first test runs."""

    tests: Mapping[str, float]
    """Each test, by its name."""

    def limit(self, mutant: Mutant) -> float:
        """Seconds after which it counts as one that makes its tests hang."""
        own = sum(seconds for test, seconds in self.tests.items() if test.startswith(mutant.tests))
        return _LEAST_LIMIT + _PATIENCE * (self.beginning + own)


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
            return _run(mutants, made, workers, options.workers)
        except KeyboardInterrupt:
            workers.shutdown(wait=False, cancel_futures=True)
            made.call_off()
            return 130


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Take each check of root's code away, and see that its tests notice.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="entries with this in topic, file or what they remove")
    parser.add_argument("--workers", type=int, default=_WORKERS, metavar="N", help="run so many at a time")
    return parser.parse_args()


def _is_chosen(mutant: Mutant, words: Sequence[str]) -> bool:
    return not words or any(word in f"{mutant.file} {mutant}" for word in words)


def _run(mutants: Sequence[Mutant], made: Boxes, workers: ThreadPoolExecutor, parts: int) -> int:
    began = time.monotonic()
    usual = _run_without_edits(mutants, made, workers, parts)
    if usual is None:
        return 1
    running = {workers.submit(_run_one, mutant, made, usual.limit(mutant)): mutant for mutant in mutants}
    wrong = {}
    for count, done in enumerate(as_completed(running), 1):
        mutant, result = running[done], done.result()
        _show(f"{count}/{len(mutants)}", mutant, result)
        if result.outcome not in _GOOD:
            wrong[mutant] = result
    print(f"{len(mutants) - len(wrong)} of {len(mutants)} mutants were caught, in {time.monotonic() - began:.0f} s")
    for mutant, result in wrong.items():
        _show(mutant.file, mutant, result)
    return 1 if wrong else 0


def _run_one(mutant: Mutant, made: Boxes, limit: float) -> Result:
    """Run its tests; where they hang, make sure that it isn't the machine that is slow."""
    result = made.run(mutant, mutant.tests, limit)
    if result.outcome is Outcome.TIMED_OUT and made.run(None, mutant.tests, limit / 2).outcome is Outcome.TIMED_OUT:
        return made.run(mutant, mutant.tests, _PATIENCE * limit)
    return result


def _run_without_edits(mutants: Sequence[Mutant], made: Boxes, workers: ThreadPoolExecutor, parts: int) -> Usual | None:
    """Run all tests with the code as it is, dealt out to the workers. None where one doesn't pass, or is skipped."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    hands = [tests[part::parts] for part in range(min(parts, len(tests)))]
    running = [workers.submit(made.run, None, hand, _BASELINE_LIMIT) for hand in hands]
    results = [run.result() for run in running]
    wrong = [result.why for result in results if result.outcome is not Outcome.SURVIVED]
    print(f"{len(tests)} tests without an edit: {'; '.join(wrong) or 'passed'}", flush=True)
    if wrong:
        return None
    beginning = max(result.seconds - sum(result.durations.values()) for result in results)
    return Usual(beginning, {test: seconds for result in results for test, seconds in result.durations.items()})


def _show(where: str, mutant: Mutant, result: Result) -> None:
    print(f"{where} {result.outcome.value} {result.seconds:.1f} s  {mutant}  [{result.why}]", flush=True)


if __name__ == "__main__":
    sys.exit(main())
