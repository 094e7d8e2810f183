"""What all tests share: what the machine must offer for a marked test."""

import logging
import os
import shutil
import signal
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, settings

_NEEDS = {
    "system": ["rabbitmq-server", "setpriv", "useradd"],
    "slurm": ["slurmctld", "slurmd", "munged"],
}


def pytest_configure() -> None:
    """SIGTERM ends the tests as Ctrl-C does: what they made is removed. No example of hypothesis has a deadline.

    Some stop RabbitMQ again and again; what pika says of that would hide why one failed.
    """
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell has what it runs in the background ignore it, and programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    examples = 100 if os.environ.get("TWINLOCK_THOROUGH") else 25
    # A busy machine isn't a failure.
    calm = [HealthCheck.too_slow]
    settings.register_profile("untimed", deadline=None, max_examples=examples, suppress_health_check=calm)
    settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test that is marked so, only so many cases, from all over, aren't thorough. Before -m chooses."""
    tests: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("cases") is not None:
            tests[item.nodeid.partition("[")[0]].append(item)
    for cases in tests.values():
        number = cases[0].get_closest_marker("cases").args[0]  # type: ignore[union-attr]  # it has one, see above
        kept = {len(cases) * place // number for place in range(number)}
        for place, item in enumerate(cases):
            if place not in kept:
                item.add_marker("thorough")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a marked test where the machine lacks what it stands on, and say what that is."""
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    for marker, programs in _NEEDS.items():
        if item.get_closest_marker(marker) is None:
            continue
        if os.geteuid() != 0:
            pytest.skip("needs root")
        missing = [program for program in programs if shutil.which(program, path=path) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")
