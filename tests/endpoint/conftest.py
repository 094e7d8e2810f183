"""A RabbitMQ node for the system tests of the endpoint, and endpoints on it."""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio
import yaml
from batch_rig import end_jobs, environment, put_commands
from endpoint_rig import LIMIT_S, NOBODY, AgentQueues, Broker, Queues, Running, start
from manager_socket import ManagerSocket
from slurm_rig import NODES, Faults, end_processes
from twinlock_endpoint.htex import parsl_types
from twinlock_endpoint.verified.site import Site
from twinlock_service.rabbitmq.management import Management
from twinlock_service.rabbitmq.node_files import VHOST
from twinlock_service.rabbitmq.private_node import private_node
from twinlock_signed import settings
from twinlock_testbed.slurm import Slurm, private_slurm
from verified_rig import Host


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker() -> AsyncIterator[Broker]:
    """A private RabbitMQ node, for the whole session."""
    state = Path(tempfile.mkdtemp(prefix="endpoint-tests-", dir="/tmp"))
    state.chmod(0o755)
    try:
        async with private_node(state) as node:
            login = Broker(node, "endpoint", uuid.uuid4().hex, state)
            async with aiohttp.ClientSession() as session:
                management = Management(session, node.management_url, VHOST)
                await management.user(login.user, login.password, read=".*", write=".*")
            yield login
    finally:
        shutil.rmtree(state)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A cluster of two nodes, of which the second gets only what asks for it."""
    folder = Path(tempfile.mkdtemp(prefix="endpoint-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with private_slurm(folder, NODES) as cluster:
            yield cluster
    finally:
        end_processes(folder / "slurm.conf")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def faults() -> Iterator[Faults]:
    """Slurm's commands as one user has them."""
    folder = Path(tempfile.mkdtemp(prefix="endpoint-faults-", dir="/tmp"))
    folder.chmod(0o755)
    yield Faults(folder)
    shutil.rmtree(folder, ignore_errors=True)  # an endpoint that still runs may note a call just now


@pytest.fixture
def batch() -> Iterator[Path]:
    """The folder of the stand-ins for batch systems."""
    folder = Path(tempfile.mkdtemp(prefix="endpoint-batch-", dir="/tmp"))
    put_commands(folder)
    yield folder
    end_jobs(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def provider(batch: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The template's provider, whose jobs run as whoever runs the tests."""
    for name, text in environment(batch).items():
        monkeypatch.setenv(name, text)
    made = parsl_types.provider(yaml.safe_load(template)["engine"]["provider"])
    made.script_dir = str(batch / "state")
    return made


@pytest.fixture(scope="session")
def peer() -> Path:
    """The folder with the programs of the official agent and its Python."""
    folder = Path(os.environ.get("TWINLOCK_PREFIX", sys.prefix)) / "peer"
    if not folder.exists():
        pytest.skip("needs globus-compute-endpoint in an environment of its own; make test installs it")
    return folder.resolve() / "bin"


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that belongs to `nobody`."""
    folder = Path(tempfile.mkdtemp(prefix="endpoint-home-", dir="/tmp")).resolve()
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def trace(home: Path) -> Path:
    """A path in the user's home, at which whatever runs leaves a trace."""
    return home / "trace"


@pytest.fixture
def endpoint_url(broker: Broker) -> str:
    """How endpoints reach RabbitMQ. Files with somebody on that way have their own."""
    return broker.endpoint_url


@pytest.fixture
def queues(broker: Broker, endpoint_url: str) -> Iterator[Queues]:
    """The queues of a new endpoint."""
    made = Queues(str(broker.node.url), endpoint_url)
    yield made
    made.close()


@pytest.fixture
def agent_queues(broker: Broker) -> Iterator[AgentQueues]:
    """The queues of a new endpoint that is the official agent's."""
    made = AgentQueues(str(broker.node.url), broker.endpoint_url)
    yield made
    made.close()


@pytest.fixture
def endpoint(home: Path, queues: Queues) -> Iterator[Callable[..., Running]]:
    """Starts endpoints on these queues; what still runs at the end of the test is killed."""
    with ExitStack() as stack:

        def run(config: str, **document: Any) -> Running:
            running = start(home, queues, config, **document)
            stack.callback(_kill, running)
            return running

        yield run


@pytest.fixture
def host(broker: Broker) -> Iterator[Host]:
    """Root's files for signed work, in a folder that every account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="endpoint-verified-", dir="/tmp"))
    yield Host(folder, broker.endpoint_url)
    shutil.rmtree(folder)


@pytest.fixture
def site(host: Host, tmp_path: Path) -> Site:
    """Root's files, for the account that runs the tests."""
    return Site(settings.load(host.folder / "verified.toml"), "root", tmp_path)


@pytest.fixture
def manager() -> Iterator[ManagerSocket]:
    """A manager endpoint's socket, in a folder that every account can enter."""
    with tempfile.TemporaryDirectory(prefix="endpoint-manager-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        made = ManagerSocket(Path(name))
        yield made
        made.close()


@pytest.fixture
def control(host: Host) -> Iterator[ManagerSocket]:
    """The manager endpoint's socket that `verified.toml` names."""
    made = ManagerSocket(host.folder)
    yield made
    made.close()


@pytest.fixture
def verified(home: Path, queues: Queues, host: Host) -> Iterator[Callable[..., Running]]:
    """Starts endpoints in verified mode on these queues; what still runs at the end of the test is killed."""
    with ExitStack() as stack:

        def start(**document: Any) -> Running:
            running = host.start(home, queues, **document)
            stack.callback(_kill, running)
            return running

        yield start


def _kill(running: Running) -> None:
    """With all that it has started: nobody waits here for that to end by itself.

    Again until nothing is left: what is killed may have forked since its children were listed.
    """
    while running.process.poll() is None and (left := psutil.Process(running.process.pid).children(recursive=True)):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, LIMIT_S)
    running.process.wait(LIMIT_S)
