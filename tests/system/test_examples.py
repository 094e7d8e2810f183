"""What README.md and docs/users.md tell people to write works as it stands: script and template, on a real Slurm."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_rig import ADA, World, eventually
from twinlock_testbed.daemons import run
from twinlock_testbed.manager import Manager, Setup, manager
from twinlock_testbed.slurm import private_slurm

pytestmark = [pytest.mark.system, pytest.mark.slurm]

ROOT = Path(__file__).parents[2]
PRELUDE = """\
import functools
import globus_compute_sdk
from globus_compute_sdk import Client
from globus_sdk import AccessTokenAuthorizer

client = Client(local_compute_services=True, authorizer=AccessTokenAuthorizer(open("{token}").read()))
globus_compute_sdk.Executor = functools.partial(globus_compute_sdk.Executor, client=client)

"""
"""What README.md says a script needs for the local service."""


def example(page: str, language: str) -> str:
    """The first block of that language in a page."""
    found = re.search(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{page} has no block of {language}"
    return found[1]


@pytest.fixture(scope="module")
def endpoint(world: World) -> Iterator[Manager]:
    """A manager with the template that README.md shows; it ends before the cluster, where its endpoints have jobs."""
    with private_slurm(world.folder / "examples-cluster") as slurm:
        setup = Setup(example("README.md", "yaml"), environment=slurm.environment())
        with manager(world.prefix, world.folder / "examples", world.service, setup, world.broker_user) as running:
            yield running
        assert eventually(lambda: slurm.jobs() == [], 180)


@pytest.mark.cases(1)
@pytest.mark.parametrize("page", ["README.md", "docs/users.md"])
def test_a_users_script(world: World, endpoint: Manager, page: str) -> None:
    token = world.folder / f"token-{page.replace('/', '-')}"
    token.write_text(world.service.people[ADA].token)
    script = world.folder / f"example-{page.replace('/', '-')}.py"
    text, uuids = re.subn(
        r'(?m)^endpoint = "[-0-9a-f]{36}"', f'endpoint = "{endpoint.endpoint_id}"', example(page, "python")
    )
    assert uuids == 1
    script.write_text(PRELUDE.format(token=token) + text)
    printed = run(world.prefix / "bin/python", script, timeout=400, user="nobody", environment={"HOME": "/nonexistent"})
    assert re.fullmatch(r"Ada, you are twl-ada on \S+\n", printed)
