"""The wait for the first signed task, by itself."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from endpoint_rig import LIMIT_S, Queues
from endpoint_tasks import double
from nacl.signing import SigningKey
from signed_rig import public
from twinlock_common import document
from twinlock_endpoint.journal import journal
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.manager.manager import Belief
from twinlock_endpoint.manager.start_report import StartReport
from twinlock_endpoint.tasks.intake import Refusal
from twinlock_endpoint.verified.delegations import Delegations
from twinlock_endpoint.verified.gate import Gate
from twinlock_endpoint.verified.intake import SignedIntake, SignedTask
from twinlock_endpoint.verified.seal import Sealer
from twinlock_endpoint.verified.site import Site
from twinlock_signed.replay.claims import open_claims
from verified_rig import MANAGER, Host, submit

TASK = "22222222-0000-4000-8000-000000000001"


@pytest.fixture
def signals() -> Iterator[None]:
    """What signals do in this process is as before, afterwards."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def at_gate(
    site: Site, folder: Path, queues: Queues, kept: Journal, take_options: Callable[[SignedTask], Awaitable[Refusal]]
) -> Gate[Refusal]:
    """A gate that waits five seconds."""
    told = document.parse(json.dumps({"amqp_creds": queues.creds(), "config": "", "ep_info": {}}).encode())
    claims = open_claims(folder / "claims", folder, time.time())
    sealer = Sealer(MANAGER, SigningKey.generate())
    intake = SignedIntake(site, Delegations(site, claims, told.endpoint_id, TASK), sealer)
    return Gate(told, intake, kept, take_options, StartReport(), Belief(), 5.0)


@pytest.mark.system
@pytest.mark.usefixtures("signals")
async def test_without_a_signed_task_it_ends(site: Site, tmp_path: Path, queues: Queues) -> None:
    """Whatever else comes gets an answer, and delays nothing."""

    async def never(task: SignedTask) -> Refusal:
        raise AssertionError

    plain = queues.submit(double, 1)
    other = submit(queues, ["a", "b", "c", "d"])
    kept = Journal(journal.read(tmp_path))
    gate = at_gate(site, tmp_path, queues, kept, never)
    began = time.monotonic()
    assert await gate.wait() is None
    assert (gate.code, time.monotonic() - began > 4) == (0, True)
    for refused in (plain, other):
        assert queues.result(refused).error_details is not None
    assert queues.waiting_tasks() == 0
    assert not queues.heartbeat(last=True)["active"]
    await kept.close(LIMIT_S)
    assert not journal.has_unfinished(tmp_path)


@pytest.mark.system
@pytest.mark.usefixtures("signals")
async def test_it_ends_also_after_options_that_nobody_expected(
    site: Site, host: Host, tmp_path: Path, queues: Queues
) -> None:
    """Whatever these raise: their task is told, and the wait begins anew."""

    async def fail(task: SignedTask) -> Refusal:
        raise RuntimeError("no process can be started")

    host.write("signers", f"root {public(host.keys['user'])}\n")
    task = submit(queues, host.session(account=site.host.user).task(double, 1))
    kept = Journal(journal.read(tmp_path))
    gate = at_gate(site, tmp_path, queues, kept, fail)
    async with asyncio.timeout(LIMIT_S):
        assert await gate.wait() is None
    assert "no process can be started" in str(queues.result(task).data)
    await kept.close(LIMIT_S)
    assert not journal.has_unfinished(tmp_path)
