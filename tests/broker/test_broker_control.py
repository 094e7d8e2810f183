"""The broker's sockets: who is let in, what goes down and what comes up."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest
from broker_rig import UEP, Told, endpoint_user, request
from broker_site import CALLER, Site, ask, says
from spawner_rig import PYTHON, Spawner
from twinlock_broker.commands.status import picture
from twinlock_broker.control.listener import listening
from twinlock_broker.errors import Fatal
from twinlock_broker.metrics import REGISTRY

# One that connects a second time, and says there that the first connection was ended.
TWICE = """
import json, socket, sys
document = json.load(sys.stdin)
first, second = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
first.connect(document["control"])
first.sendall(b'{"type": "figures", "figures": {}}\\n{"type": "audit", "number": 1, "records": []}\\n')
first.recv(1)
second.connect(document["control"])
while first.recv(1000):
    pass
second.sendall(b'{"type": "figures", "figures": {"first_has_ended": 1}}\\n')
second.recv(1)
"""

# One that is stopped by its user when it has heard of a second command, and ends well.
STOPPING = """
import json, socket, sys
document = json.load(sys.stdin)
sock = socket.socket(socket.AF_UNIX)
sock.connect(document["control"])
sock.recv(1)
sock.sendall(b'{"type": "stop"}\\n{"type": "stop"}\\n')
while b"end" not in sock.recv(10000):
    pass
"""

# One that is faster than the news of its start, and stays.
EARLY = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(b'{"type": "figures", "figures": {"early": 1}}\\n')
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def policy() -> dict[str, object]:
    """A program that connects to the broker."""
    programs = {"caller": CALLER, "twice": TWICE, "stopping": STOPPING}
    return {"programs": {name: [*PYTHON, code] for name, code in programs.items()}}


def test_a_path_that_no_socket_can_have_is_refused_with_the_key(tmp_path: Path) -> None:
    async def serve() -> None:
        async with listening(tmp_path / ("x" * 120), 0o600, lambda _: asyncio.sleep(0)):
            pass

    with pytest.raises(Fatal, match="runtime_dir") as ended:
        asyncio.run(serve())
    assert ended.value.status == os.EX_CONFIG


async def test_a_folder_that_isnt_the_brokers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="No such file") as ended:
        async with listening(tmp_path / "none" / "sock", 0o600, lambda _: asyncio.sleep(0)):
            pass
    assert ended.value.status == os.EX_CANTCREAT


async def test_figures_come_up(site: Site) -> None:
    figures = {"outstanding_tasks": 3, "idle": 1.5, "evil": "text", "x" * 41: 1, "huge": 1e300, "nan": float("nan")}
    await site.supervisor.command(request(endpoint_user(), "caller", says({"type": "figures", "figures": figures})))
    assert await site.figures("idle") == {"outstanding_tasks": 3, "idle": 1.5}


async def test_a_command_that_came_before_starts_no_endpoint_that_its_user_has_stopped(site: Site, told: Told) -> None:
    for _ in range(2):
        await site.supervisor.command(request(endpoint_user(), "stopping"))
    assert (await told.next()).startswith("You, or somebody with your account at the site, stopped your endpoint there")
    assert list(site.supervisor.endpoints) == []


async def test_an_endpoint_hears_that_it_is_to_end_with_all_its_tasks(site: Site) -> None:
    hello = says({"type": "figures", "figures": {"here": 1}})
    await site.supervisor.command(request(endpoint_user(), "caller", hello))
    await site.figures("here")
    (endpoint,) = site.supervisor.endpoints
    site.sessions.end(endpoint, "because")
    assert (await site.figures("end"))["end"] == len('{"type": "end", "reason": "because"}\n')


async def test_an_endpoint_says_that_its_journal_has_tasks(site: Site) -> None:
    words = {"type": "journal", "tasks": 2}, {"type": "figures", "figures": {"here": 1}}
    await site.supervisor.command(request(endpoint_user(), "caller", says(*words)))
    await site.figures("here")
    assert [endpoint.has_unfinished_tasks for endpoint in site.supervisor.endpoints] == [True]


async def test_a_newer_command_gives_the_running_endpoint_its_credentials(site: Site, spawner: Spawner) -> None:
    hello = says({"type": "figures", "figures": {"here": 1}})
    await site.supervisor.command(request(endpoint_user(), "caller", hello))
    await site.figures("here")
    await site.supervisor.command(request(endpoint_user(), "caller"))
    assert (await site.figures("credentials"))["queue_length"] == len("tasks")
    assert sum(line["event"] == "spawned" for line in spawner.audit()) == 1


@pytest.mark.cases(5)
@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        "[" * 100_000,
        '{"type": "dance"}',
        '{"type": "figures"}',
        '{"type": "figures", "figures": [1]}',
        json.dumps({"type": "figures", "figures": {f"f{number}": 1 for number in range(33)}}),
        '{"type": "journal", "tasks": -1}',
        '{"type": "audit"}',
        '{"type": "audit", "number": true, "records": []}',
        '{"type": "audit", "number": 1, "records": [1]}',
        json.dumps({"type": "audit", "number": 1, "records": ["x"] * 17}),
        json.dumps({"type": "audit", "number": 1 << 60, "records": []}),
        json.dumps({"type": "journal", "tasks": 1 << 60}),
        json.dumps({"type": "figures", "figures": {}, "signed": "SHA256:"}),
        json.dumps({"type": "figures", "figures": {}, "signed": {"key": f"SHA256:{'A' * 43}"}}),
        json.dumps({"type": "figures", "figures": {}, "signed": {"key": f"SHA256:{'A' * 43}", "delegation": 7}}),
        json.dumps({"type": "figures", "figures": {}, "signed": {"key": f"SHA256:{'A' * 44}", "delegation": "0" * 32}}),
        json.dumps(
            {"type": "figures", "figures": {}, "signed": {"key": f"SHA256:{'A' * 43}", "delegation": "x\n" * 16}}
        ),
        "x" * (2 << 20),
    ],
)
async def test_an_endpoint_that_breaks_the_protocol_is_disconnected(
    site: Site, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    await site.supervisor.command(request(endpoint_user(), "caller", says(message)))
    async with asyncio.timeout(60):
        while "broke the control protocol" not in caplog.text:
            await asyncio.sleep(0.01)


async def test_who_is_no_endpoint_is_disconnected(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    reader, _ = await asyncio.open_unix_connection(site.runtime / "control.sock")
    assert await asyncio.wait_for(reader.read(), 60) == b""
    assert f"process {os.getpid()} of uid {os.getuid()} isn't a user endpoint" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another account's process is asked for")
async def test_a_process_of_another_account_is_no_endpoint(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    endpoint = next(iter(site.supervisor.endpoints))
    endpoint.pid = os.getpid()  # as if the process id had been given anew meanwhile
    reader, _ = await asyncio.open_unix_connection(site.runtime / "control.sock")
    assert await asyncio.wait_for(reader.read(), 60) == b""
    assert "isn't a user endpoint" in caplog.text


async def test_an_endpoint_may_connect_before_its_start_is_known(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    [endpoint] = site.supervisor.endpoints
    known: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def start() -> None:
        endpoint.pid = await known

    endpoint.launch = asyncio.create_task(start())
    pipe, user = asyncio.subprocess.PIPE, endpoint_user() if os.geteuid() == 0 else None
    argv = (*PYTHON, EARLY, str(site.runtime / "control.sock"))
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, user=user)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"connected\n"
    for _ in range(100):
        await asyncio.sleep(0)
    known.set_result(process.pid)
    await site.figures("early")
    process.kill()
    await process.wait()


async def test_a_second_connection_replaces_the_first(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "twice"))
    await site.figures("first_has_ended")


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"request": "dance"}', "{}"])
async def test_the_admin_socket_names_what_it_doesnt_understand(site: Site, line: str) -> None:
    assert "error" in await ask(site.runtime / "admin.sock", line)


async def test_the_administrator_sees_and_stops_endpoints(site: Site, told: Told) -> None:
    await site.supervisor.command(request(endpoint_user(), "caller", says({"type": "figures", "figures": {"a": 1}})))
    await site.figures("a")
    state = await ask(site.runtime / "admin.sock", '{"request": "status"}')
    (row,) = state["endpoints"]
    assert (row["id"], row["user"], row["state"], row["figures"]) == (UEP, endpoint_user(), "running", {"a": 1})
    assert await ask(site.runtime / "admin.sock", json.dumps({"request": "stop", "endpoint": UEP})) == {"stopped": True}
    assert "administrator stopped your endpoint" in await told.next()
    assert await ask(site.runtime / "admin.sock", json.dumps({"request": "stop", "endpoint": UEP})) == {
        "stopped": False
    }


async def test_the_administrator_sees_what_rabbitmq_refused(site: Site) -> None:
    figures = {"refused_results": 3, "dropped_results": 1}
    await site.supervisor.command(request(endpoint_user(), "caller", says({"type": "figures", "figures": figures})))
    await site.figures("refused_results")
    state = await ask(site.runtime / "admin.sock", '{"request": "status"}')
    assert state["endpoints"][0]["figures"] == figures
    last = picture(state).splitlines()[-1]
    assert last.startswith(f"{endpoint_user()} {UEP}: RabbitMQ refused 3 results")
    assert last.endswith("1 of those tasks got no answer")
    assert REGISTRY.get_sample_value("twinlock_refused_results") == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another account")
async def test_nobody_else_may_ask(site: Site) -> None:
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(site.runtime / 'admin.sock')!r})"
    process = await asyncio.create_subprocess_exec(*PYTHON, code, user=65534, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert b"PermissionError" in errors


async def test_a_client_that_reads_nothing_is_disconnected(site: Site) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    sock.connect(str(site.runtime / "admin.sock"))
    with pytest.raises(OSError, match=r"reset|pipe"):
        await asyncio.wait_for(_ask_without_end(sock), 60)
    sock.close()


async def _ask_without_end(sock: socket.socket) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(sock, b'{"request": "' + b"x" * 10_000 + b'"}\n')
