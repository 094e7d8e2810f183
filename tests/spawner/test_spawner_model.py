"""Ten thousand random steps of brokers, users, strangers and administrators: the spawner does what a model says.

TWINLOCK_SEED=N runs other sessions than CI's; a session that failed is named by its seed.
"""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from spawner_model import PER_USER, Session
from spawner_rig import UNMEASURED, Start

pytestmark = pytest.mark.system

FIRST = int(os.environ.get("TWINLOCK_SEED", "1"))
SESSIONS, STEPS = 10, 500  # in each of two modes
SEEDS = [
    FIRST,
    FIRST + 1,
    *(pytest.param(FIRST + more, marks=pytest.mark.thorough) for more in range(2, SESSIONS)),
]


@pytest.fixture(scope="module")
def puppet() -> Iterator[str]:
    """The program that does what it is told."""
    source = Path(__file__).parents[1] / "helpers/puppet.c"
    with tempfile.TemporaryDirectory(prefix="twl-puppet-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", f"{folder}/puppet", source], check=True, timeout=60)
        yield f"{folder}/puppet"


@pytest.mark.cases(2)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_steps(
    start: Start, mode: dict[str, str], puppet: str, alice: pwd.struct_passwd, bob: pwd.struct_passwd, seed: int
) -> None:
    limits = {"max_children": 10, "max_children_per_user": PER_USER, "stop_grace": 20}
    rates = {"start_rate": 1_000_000, "start_rate_per_user": 1_000_000}
    spawner = start({"programs": {"puppet": [puppet]}} | limits | rates | mode, UNMEASURED)
    Session(spawner, [alice, bob], seed).run(STEPS)
