"""The mode of endpoints: what the broker knows by the policy, and what an endpoint says about its signer."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from broker_rig import MANAGER, UEP, Told, endpoint_user, request
from broker_site import CALLER, Site, ask, says, serving
from spawner_rig import PYTHON, Spawner
from twinlock_broker.audit import AuditLog
from twinlock_broker.commands.status import picture
from twinlock_broker.config import policies
from twinlock_broker.config.policies import Mode
from twinlock_broker.endpoints.endpoint import Endpoint, Signed
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.store import Store

KEY = f"SHA256:{'k' * 43}"
ID = "4f1c3a0b6c1e4d5f8a7b9c0d1e2f3a4b"
SIGNED = {"key": KEY, "delegation": ID}
OTHER = {"key": f"SHA256:{'o' * 43}", "delegation": "0" * 32}


@pytest.fixture
def policy() -> dict[str, object]:
    """Programs that connect to the broker."""
    return {"programs": {"caller": [*PYTHON, CALLER]}}


def figures(name: str, **more: Any) -> dict[str, Any]:
    """A message with this figure."""
    return {"type": "figures", "figures": {name: 1}, **more}


async def row(site: Site) -> dict[str, Any]:
    """What `twinlock status` hears about the endpoint."""
    state = await ask(site.runtime / "admin.sock", '{"request": "status"}')
    found: dict[str, Any] = state["endpoints"][0]
    return found


@pytest.mark.parametrize("mode", [Mode.VERIFIED, Mode.PLAIN, None])
async def test_the_administrator_sees_the_mode(
    spawner: Spawner, told: Told, runtime: Path, tmp_path: Path, mode: Mode | None
) -> None:
    async with serving(spawner, told, runtime, tmp_path, mode=lambda _: mode) as site:
        await site.supervisor.command(request(endpoint_user(), "caller", says(figures("here"))))
        await site.figures("here")
        state = await ask(site.runtime / "admin.sock", '{"request": "status"}')
        assert (state["endpoints"][0]["mode"], state["endpoints"][0]["signed"]) == (mode or "", None)
        head, line = picture(state).splitlines()[2:4]
        titles = [title for title in head.split() if title != "OPTIONS"]  # it has none
        assert dict(zip(titles, line.split(), strict=True))["MODE"] == (mode or "-")


async def test_a_policy_that_cant_be_read_in_time_holds_up_no_start(
    spawner: Spawner, told: Told, runtime: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "spawner.toml")

    def hang(program: str) -> Mode | None:
        return policies.mode_behind(tmp_path / "socket", program, tmp_path / "spawner.toml")

    async with serving(spawner, told, runtime, tmp_path, mode=hang) as site:
        await site.supervisor.command(request(endpoint_user(), "caller", says(figures("here"))))
        await site.figures("here")
        assert (await row(site))["mode"] == ""
        os.close(os.open(tmp_path / "spawner.toml", os.O_WRONLY))  # lets the thread end


async def test_a_verified_start_is_in_log_and_audit_once(
    spawner: Spawner, told: Told, runtime: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    audit = AuditLog(tmp_path / "audit.log", MANAGER)
    words = says(*(figures(f"f{chr(97 + number)}", signed=SIGNED if number < 3 else OTHER) for number in range(6)))
    async with serving(spawner, told, runtime, tmp_path, audit, lambda _: Mode.VERIFIED) as site:
        await site.supervisor.command(request(endpoint_user(), "caller", words))
        await site.figures("ff")
        assert (await row(site))["signed"] == SIGNED
    await audit.close()
    said = f"mode=verified key={KEY} delegation={ID}"
    [line] = [line for line in (tmp_path / "audit.log").read_text().splitlines() if "mode=" in line]
    assert line.endswith(f" uep={UEP} STARTED - {said}")
    logged = [record for record in caplog.records if said in record.getMessage()]
    assert [record.__dict__["endpoint"] for record in logged] == [UEP]
    assert OTHER["key"] not in caplog.text
    [spawned] = [record for record in caplog.records if record.getMessage() == "the spawner started it"]
    assert spawned.__dict__["mode"] == "verified"


async def test_an_endpoint_in_plain_mode_has_no_signer_whatever_it_says(
    spawner: Spawner, told: Told, runtime: Path, tmp_path: Path
) -> None:
    words = says(figures("one", signed=SIGNED), figures("two"))
    async with serving(spawner, told, runtime, tmp_path, mode=lambda _: Mode.PLAIN) as site:
        await site.supervisor.command(request(endpoint_user(), "caller", words))
        await site.figures("two")
        assert (await row(site))["signed"] is None


async def test_the_next_process_has_a_signer_of_its_own(
    spawner: Spawner, told: Told, runtime: Path, tmp_path: Path
) -> None:
    modes = iter((Mode.VERIFIED, None))
    async with serving(spawner, told, runtime, tmp_path, mode=lambda _: next(modes)) as site:
        await site.supervisor.command(request(endpoint_user(), "caller", says(figures("one", signed=SIGNED))))
        await site.figures("one")
        await site.supervisor.stop(UEP)
        await site.supervisor.command(request(endpoint_user(), "caller", says(figures("two"))))
        await site.figures("two")
        assert ((await row(site))["mode"], (await row(site))["signed"]) == ("", None)
        [endpoint] = site.supervisor.endpoints
        assert site.supervisor.note_signed(endpoint, Signed(**OTHER))


def test_a_restarted_broker_still_knows(tmp_path: Path) -> None:
    store = Store(tmp_path, None)
    endpoint = Endpoint(UEP, "ada", state=State.RUNNING, mode=Mode.VERIFIED, signed=Signed(**SIGNED))
    assert list(store.load()) == []
    store.save(endpoint)
    [found] = store.load()
    assert (found.mode, found.signed) == (Mode.VERIFIED, Signed(KEY, ID))
    path = tmp_path / f"{UEP}.json"
    earlier = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("mode", "signed")}
    path.write_text(json.dumps(earlier))
    [found] = store.load()
    assert (found.mode, found.signed) == (None, None)


def write(path: Path, text: str) -> Path:
    """A policy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


PROGRAM = '["/usr/bin/twinlock-endpoint"]'
VERIFIED = '["/usr/bin/twinlock-endpoint", "--verified", "/etc/twinlock/verified.toml"]'


@pytest.mark.parametrize(
    ("near", "other", "mode"),
    [
        (f'socket = "/s"\n[programs]\nx = {VERIFIED}\n', "", Mode.VERIFIED),
        (f'socket = "/s"\n[programs]\nx = {PROGRAM}\n', "", Mode.PLAIN),
        (f'socket = "/s"\n[programs]\ny = {PROGRAM}\n', "", None),
        (f'socket = "/t"\n[programs]\nx = {PROGRAM}\n', f'socket = "/s"\n[programs]\nx = {VERIFIED}\n', Mode.VERIFIED),
        (f'socket = "/t"\n[programs]\nx = {PROGRAM}\n', "", None),
        ("socket = ", "", None),
    ],
)
def test_a_policy_counts_if_its_socket_is_the_brokers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, near: str, other: str, mode: Mode | None
) -> None:
    monkeypatch.setattr(policies, "_ETC", tmp_path / "etc")
    monkeypatch.setattr(policies, "_UNITS", ())
    write(tmp_path / "instances/gpu/spawner.toml", other)
    assert policies.mode_behind(Path("/s"), "x", write(tmp_path / "spawner.toml", near)) is mode
