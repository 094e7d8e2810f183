"""How many files the broker may have open, and what it starts."""

import asyncio
import resource
import sys

import pytest

LIMITS = """
import resource, sys
from twinlock_broker import descriptors
from twinlock_broker.identity.external import run
from twinlock_broker.rendering.renderer import Renderer
from twinlock_common.rendering.configuration import Request
descriptors.take_all()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
kept = [open("/dev/null") for _ in range(1100)]
mapper = run(["/bin/sh", "-c", "cat >/dev/null; ulimit -Sn"], b"{}").decode().strip()
print(soft == hard, mapper)
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1200, reason="needs a hard limit of 1,200 files")
async def test_it_takes_all_descriptors_and_a_mapper_gets_as_many_as_ever() -> None:
    argv = "/bin/sh", "-c", 'ulimit -Sn 200; exec "$@"', "sh", sys.executable, "-c", LIMITS
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert printed.decode().split() == ["True", "200"]
