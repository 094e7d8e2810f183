"""What Prometheus fetches, over HTTP from a real socket."""

import asyncio
import contextlib
import http.client
import socket
import tomllib
from pathlib import Path

import pytest
from broker_rig import UEP, Told, endpoint_user, own_credentials, request
from prometheus_client.parser import text_string_to_metric_families
from service_rig import free_port
from twinlock_broker import metrics
from twinlock_broker.audit import auditing
from twinlock_broker.compute.notices import Notices
from twinlock_broker.compute.outbox import Notice, Outbox
from twinlock_broker.config.keys import BROKER_KEYS, read_keys
from twinlock_broker.control.endpoint_metrics import UserEndpoints
from twinlock_broker.control.exporter import exporting
from twinlock_broker.control.told import NOTHING
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.errors import Fatal
from twinlock_broker.metrics import REGISTRY


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Each sample's value, by its name and its labels' values."""
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(one.labels.values())): one.value for family in families for one in family.samples}


async def fetch(path: Path, request: bytes = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    """The whole answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


@pytest.fixture
def endpoints(supervisor: Supervisor) -> UserEndpoints:
    """The metrics of endpoints that have told nothing."""
    return UserEndpoints(supervisor, lambda _: NOTHING)


async def test_starts_and_endpoints_are_counted(
    supervisor: Supervisor, endpoints: UserEndpoints, told: Told, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.sock"
    async with exporting(str(path), endpoints):
        before = samples((await fetch(path)).decode().partition("\r\n\r\n")[2])
        await supervisor.command(request(endpoint_user(), "sleep"))
        head, _, body = (await fetch(path)).decode().partition("\r\n\r\n")
        found = samples(body)
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain")
    assert f"Content-Length: {len(body)}" in head
    assert found["twinlock_endpoints", ("running", endpoint_user())] == 1
    for name, labels in (
        ("twinlock_starts_total", ("started",)),
        ("twinlock_spawner_round_trip_seconds_count", ()),
        ("twinlock_start_stage_seconds_count", ("spawn",)),
    ):
        assert found[name, labels] == before.get((name, labels), 0) + 1
    assert not path.exists()


async def test_refusals_are_counted_by_their_stage(
    supervisor: Supervisor, endpoints: UserEndpoints, told: Told, tmp_path: Path
) -> None:
    async with exporting(str(tmp_path / "sock"), endpoints):
        await supervisor.command(request(endpoint_user(), "gone"))
        found = samples((await fetch(tmp_path / "sock")).decode().partition("\r\n\r\n")[2])
    assert found["twinlock_starts_total", ("program",)] >= 1


async def test_notices_that_an_earlier_broker_left_are_counted(tmp_path: Path) -> None:
    Outbox(tmp_path / "notices", None).save(Notice(own_credentials(), "what is wrong", "0badcafe"))
    metrics.NOTICES_WAITING.set(0)
    sending = asyncio.create_task(Notices(Outbox(tmp_path / "notices", None)).run())
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value("twinlock_notices_waiting") != 1:
            assert not sending.done()
            await asyncio.sleep(0.01)
    sending.cancel()
    await asyncio.wait((sending,))


async def test_it_is_plain_http_on_loopback(endpoints: UserEndpoints) -> None:
    port = free_port()

    def get() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.status, answer.read()

    async with exporting(f"127.0.0.1:{port}", endpoints):
        status, body = await asyncio.to_thread(get)
    assert status == 200
    assert b"# HELP twinlock_commands_total" in body


@pytest.mark.parametrize("request_", [b"POST /metrics HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n"])
async def test_other_requests_get_404(endpoints: UserEndpoints, tmp_path: Path, request_: bytes) -> None:
    async with exporting(str(tmp_path / "sock"), endpoints):
        assert (await fetch(tmp_path / "sock", request_)).startswith(b"HTTP/1.1 404")


async def test_a_request_without_end_gets_nothing_and_holds_nobody_up(endpoints: UserEndpoints, tmp_path: Path) -> None:
    async with exporting(str(tmp_path / "sock"), endpoints):
        _, writer = await asyncio.open_unix_connection(tmp_path / "sock")
        writer.write(b"GET ")
        with contextlib.suppress(ConnectionError):
            assert await fetch(tmp_path / "sock", b"x" * (2 << 20)) == b""
        assert (await fetch(tmp_path / "sock")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_crowd_that_never_asks_keeps_nobody_from_the_metrics(endpoints: UserEndpoints) -> None:
    port = free_port()
    before = REGISTRY.get_sample_value("twinlock_dropped_total", {"what": "connections"}) or 0
    async with exporting(f"127.0.0.1:{port}", endpoints):
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        for _, writer in crowd[::2]:
            writer.write(b"GET /metrics")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 200")
        ended = [await asyncio.wait_for(quiet(reader), 60) for reader, _ in crowd[:200]]
        assert ended == [b""] * 200, "the oldest have to go"
        left_out = REGISTRY.get_sample_value("twinlock_dropped_total", {"what": "connections"}) or 0
        assert left_out - before >= 200
        for _, one in [*crowd, (reader, writer)]:
            one.close()


async def quiet(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end, which may be a reset."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_the_audit_is_watched_where_there_is_one_only(tmp_path: Path) -> None:
    async with auditing(None, UEP):
        assert REGISTRY.get_sample_value("twinlock_audit_writable") is None
    async with auditing(tmp_path / "audit.log", UEP) as audit:
        assert audit is not None
        assert REGISTRY.get_sample_value("twinlock_audit_writable") == 1
        (tmp_path / "audit.log").unlink()
        (tmp_path / "audit.log").mkdir()
        assert not await audit.note("anything")
        assert REGISTRY.get_sample_value("twinlock_audit_writable") == 0
    assert REGISTRY.get_sample_value("twinlock_audit_writable") is None


def test_the_version_is_told() -> None:
    version = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]
    assert REGISTRY.get_sample_value("twinlock_build_info", {"version": version}) == 1


async def test_a_port_that_is_taken_is_named(endpoints: UserEndpoints) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(Fatal, match=address):
            async with exporting(address, endpoints):
                pass


@pytest.mark.parametrize("address", ["0.0.0.0:94", "a.example:80", "127.0.0.1", "127.0.0.1:0", "::1:x", "[::]:1"])
def test_metrics_are_for_this_host_only(address: str) -> None:
    with pytest.raises(Fatal, match="loopback"):
        read_keys(BROKER_KEYS, {"metrics": address}, "broker.yaml")
    assert read_keys(BROKER_KEYS, {"metrics": "[::1]:9469"}, "broker.yaml")["metrics"] == "[::1]:9469"
