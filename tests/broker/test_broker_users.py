"""The users' socket and `twinlock my`: what people see of their own endpoints, and do about them."""

import asyncio
import json
import logging
import os
import pwd
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from broker_rig import MANAGER, UEP, Told, endpoint_user, request
from broker_site import OTHER, Site, another, ask, says
from spawner_rig import PYTHON
from twinlock_broker.commands import my
from twinlock_broker.endpoints import record
from twinlock_broker.endpoints.endpoint import Endpoint, Stopper
from twinlock_broker.endpoints.registry import State
from twinlock_broker.errors import Fatal

TWINLOCK = Path(sys.executable).with_name("twinlock")
OPTIONS = {"account_id": "physics", "worker_init": "module load a\nmodule load " + "b" * 600}

# An endpoint that no SIGTERM ends, once it has said that it is here.
STAYS = """
import json, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sock = socket.socket(socket.AF_UNIX)
sock.connect(json.load(sys.stdin)["control"])
sock.sendall(b'{"type": "figures", "figures": {"here": 1}}\\n')
time.sleep(600)
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another account")


@pytest.fixture
def policy() -> dict[str, object]:
    return {"stop_grace": 1, "programs": {"stays": [*PYTHON, STAYS]}}


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    said: str
    errors: str


async def my_command(*words: str | Path, user: str | None = None, home: Path | None = None) -> Done:
    """`twinlock my`, as an account."""
    pipe = asyncio.subprocess.PIPE
    home = home or Path("/nonexistent")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    as_user: dict[str, Any] = {"user": user, "extra_groups": []} if user and os.geteuid() == 0 else {}
    made = await asyncio.create_subprocess_exec(
        TWINLOCK, "my", *words, stdout=pipe, stderr=pipe, env=environment, cwd="/", **as_user
    )
    said, errors = await asyncio.wait_for(made.communicate(), 120)
    assert made.returncode is not None
    return Done(made.returncode, said.decode(), errors.decode())


async def running(site: Site, program: str = "sleep") -> None:
    """The endpoint, at work."""
    made = replace(request(endpoint_user(), program), options=OPTIONS)
    await site.supervisor.command(made)


async def test_users_see_what_they_have(site: Site) -> None:
    hello = says({"type": "figures", "figures": {"total_workers": 4}, "condition": "the batch job waits"})
    await site.supervisor.command(request(endpoint_user(), "sleep", hello))
    done = await my_command("--socket", site.runtime / "users.sock", user=endpoint_user())
    assert done.code == 0, done.errors
    first, head, row = done.said.splitlines()
    assert first == f"manager endpoint {MANAGER} (cluster)"
    assert head.startswith("USER")
    assert row.split()[:3] == [endpoint_user(), UEP, "running"]
    (found,) = json.loads(
        (await my_command("--socket", site.runtime / "users.sock", "--json", user=endpoint_user())).said
    )
    assert [one["id"] for one in found["endpoints"]] == [UEP]


@needs_root
async def test_nobody_sees_or_stops_what_others_have(site: Site) -> None:
    await running(site)
    users = site.runtime / "users.sock"
    assert (await my_command("--socket", users)).said.splitlines()[1:] == ["no user endpoints"]
    assert (await my_command("--socket", users, "stop", UEP)).code == os.EX_DATAERR
    assert (await my_command("--socket", users, "stop", "--all")).code == os.EX_DATAERR
    assert (await my_command("--socket", users, "options", UEP)).code == os.EX_DATAERR
    for line, answer in (
        ({"request": "stop", "endpoint": UEP}, {"stopped": False}),
        ({"request": "options", "endpoint": UEP}, {"options": None}),
    ):
        assert await ask(users, json.dumps(line)) == answer
    assert [endpoint.state for endpoint in site.supervisor.endpoints] == [State.RUNNING]


async def test_who_stops_an_endpoint_is_told_so(site: Site, told: Told) -> None:
    await running(site)
    done = await my_command("--socket", site.runtime / "users.sock", "stop", UEP[:4], user=endpoint_user())
    assert (done.code, done.said) == (0, f"{UEP} of {endpoint_user()} is ending\n")
    assert (await told.next()).startswith("You, or somebody with your account at the site, stopped your endpoint there")


async def test_a_command_that_came_before_the_stop_starts_nothing_after_it(site: Site, told: Told) -> None:
    await running(site, "stays")
    await running(site, "stays")
    assert [endpoint.has_newer_request for endpoint in site.supervisor.endpoints] == [True]
    done = await my_command("--socket", site.runtime / "users.sock", "stop", "--all", user=endpoint_user())
    assert done.code == 0, done.errors
    await told.next()
    assert list(site.supervisor.endpoints) == []


async def test_options_are_shown_as_they_were_given(site: Site) -> None:
    await running(site)
    done = await my_command("--socket", site.runtime / "users.sock", "options", UEP, user=endpoint_user())
    assert (done.code, json.loads(done.said)) == (0, OPTIONS)


async def test_options_of_an_endpoint_that_the_broker_found_running(site: Site) -> None:
    await running(site)
    (endpoint,) = site.supervisor.endpoints
    endpoint.request = None
    done = await my_command("--socket", site.runtime / "users.sock", "options", UEP, user=endpoint_user())
    assert (done.code, "doesn't know its options" in done.errors) == (os.EX_DATAERR, True)


async def test_one_of_several_is_named_by_the_beginning_of_its_uuid(site: Site) -> None:
    await running(site)
    await site.supervisor.command(another("sleep", ""))
    users = site.runtime / "users.sock"
    done = await my_command("--socket", users, "stop", UEP[:20], user=endpoint_user())
    assert (done.code, UEP in done.errors, OTHER in done.errors) == (os.EX_DATAERR, True, True)
    done = await my_command("--socket", users, "stop", OTHER, user=endpoint_user())
    assert done.code == 0, done.errors


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"request": "status"}', '{"request": "stop"}', "{}"])
async def test_what_isnt_asked_there_changes_nothing(site: Site, line: str) -> None:
    answer = await ask(site.runtime / "users.sock", line)
    assert "error" in answer or answer == {"stopped": False}


async def test_who_stopped_an_endpoint_is_known_after_a_restart_of_the_broker() -> None:
    stopping = Endpoint(UEP, "ada", State.STOPPING, request("ada", "sleep"), stopped_by=Stopper.USER)
    assert stopping.request is not None
    stopping.request = replace(stopping.request, options=OPTIONS)
    found = record.load(record.dump(stopping), None)
    assert found.request is not None
    assert (found.stopped_by, found.request.options) == (Stopper.USER, OPTIONS)


class TestWithoutABroker:
    """What the command says then."""

    async def test_there_is_none(self, tmp_path: Path) -> None:
        done = await my_command("--socket", tmp_path / "users.sock")
        assert (done.code, "no broker there" in done.errors) == (os.EX_UNAVAILABLE, True)

    def test_none_is_looked_for_in_vain(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(my, "_RUN", tmp_path)
        with pytest.raises(Fatal, match="no broker runs on this host") as ended:
            my.managers(None)
        assert ended.value.status == os.EX_UNAVAILABLE


async def test_one_broker_that_is_away_hides_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(my, "_RUN", site.runtime / "run")
    for name in ("twinlock-broker", "twinlock-instances/a"):
        (site.runtime / "run" / name).mkdir(parents=True)
    (site.runtime / "run/twinlock-broker/users.sock").touch()
    (site.runtime / "run/twinlock-instances/a/users.sock").symlink_to(site.runtime / "users.sock")
    ((path, answer),) = await asyncio.to_thread(my.managers, None)
    assert (path.parent.name, answer["endpoint"]) == ("a", MANAGER)
    assert "twinlock-broker/users.sock: no broker there" in capsys.readouterr().err


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the logs of two endpoints, of which the second was written last."""
    for number, endpoint in enumerate((OTHER, UEP)):
        folder = tmp_path / f".globus_compute/uep.{MANAGER}.{endpoint}"
        folder.mkdir(parents=True)
        (folder / "endpoint.log").write_text("".join(f"{number}: line {line}\n" for line in range(100)))
        os.utime(folder / "endpoint.log", (number, number))
    (tmp_path / ".globus_compute/default").mkdir()
    (tmp_path / f".globus_compute/uep.{MANAGER}.{OTHER[:-1]}7").mkdir()
    return tmp_path


async def test_the_log_that_was_written_last(home: Path) -> None:
    done = await my_command("log", home=home)
    assert (done.code, done.said.splitlines()) == (0, [f"1: line {line}" for line in range(50, 100)])
    assert done.errors == f"==> {home}/.globus_compute/uep.{MANAGER}.{UEP}/endpoint.log\n"


async def test_the_log_of_one_endpoint(home: Path) -> None:
    done = await my_command("log", OTHER.upper(), "--lines", "1", home=home)
    assert (done.code, done.said) == (0, "0: line 99\n")


@pytest.mark.parametrize(("words", "reason"), [((), "of yours"), (("abcd",), "begins with 'abcd'")])
async def test_no_log(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    done = await my_command("log", *words, home=tmp_path)
    assert (done.code, reason in done.errors) == (os.EX_DATAERR, True)


async def test_a_log_is_followed_until_ctrl_c(home: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    made = await asyncio.create_subprocess_exec(
        TWINLOCK, "my", "log", "--follow", "-n", "1", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert made.stdout is not None
    assert await asyncio.wait_for(made.stdout.readline(), 60) == b"1: line 99\n"
    with (home / f".globus_compute/uep.{MANAGER}.{UEP}/endpoint.log").open("a") as log:
        log.write("more\n")
    assert await asyncio.wait_for(made.stdout.readline(), 60) == b"more\n"
    made.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(made.wait(), 60) == -signal.SIGINT


@pytest.mark.parametrize("policy", [{"stop_grace": 600, "programs": {"stays": [*PYTHON, STAYS]}}])
async def test_who_stops_an_endpoint_again_and_again_fills_no_log(
    site: Site, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await running(site, "stays")
    await site.figures("here")
    (endpoint,) = site.supervisor.endpoints
    endpoint.user = pwd.getpwuid(os.getuid()).pw_name  # the account of the test, which asks by itself
    reader, writer = await asyncio.open_unix_connection(site.runtime / "users.sock")
    writer.write(json.dumps({"request": "stop", "endpoint": UEP}).encode() + b"\n" + b'{"request": "mine"}\n')
    writer.write(json.dumps({"request": "stop", "endpoint": UEP}).encode() + b"\n")
    answers = [json.loads(await asyncio.wait_for(reader.readline(), 60)) for _ in range(3)]
    assert [answers[0], answers[1]["endpoints"][0]["state"], answers[2]] == [
        {"stopped": True},
        "stopping",
        {"stopped": True},
    ]
    assert caplog.text.count("to be stopped, by its user") == 1
    writer.close()
    os.kill(endpoint.pid, signal.SIGKILL)
    await told.next()


@needs_root
async def test_who_asks_without_end_holds_up_nobody_else(site: Site) -> None:
    flood = 300
    reader, writer = await asyncio.open_unix_connection(site.runtime / "users.sock")
    writer.write(b'{"request": "mine"}\n' * flood)
    answers = 0

    async def count() -> None:
        nonlocal answers
        while await reader.readline():
            answers += 1

    counting = asyncio.create_task(count())
    done = await my_command("--socket", site.runtime / "users.sock", user=endpoint_user())
    assert done.code == 0, done.errors
    assert answers < flood, "the others wait for their turn"
    counting.cancel()
    writer.close()
