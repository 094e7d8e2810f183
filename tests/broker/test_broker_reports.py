"""Figures as of now for somebody who looks: the broker asks for them, and nobody has to wait for a hung endpoint."""

import json
import logging
import os
import pwd
from dataclasses import replace
from typing import Any

import pytest
from broker_rig import endpoint_user, request
from broker_site import OTHER, Site, another, ask, says
from spawner_rig import PYTHON
from twinlock_broker.control import messages, told
from twinlock_broker.options_text import LONGEST, names, shorten

# An endpoint that says what its configuration holds, and then, for each message, how many of each type it has got.
COUNTER = """
import collections, json, socket, sys
document = json.load(sys.stdin)
sock = socket.socket(socket.AF_UNIX)
sock.connect(document["control"])
sock.sendall(document["config"].encode())
counts = collections.Counter()
for line in sock.makefile():
    counts[json.loads(line)["type"]] += 1
    message = {"type": "figures", "figures": counts, "reports": True}
    sock.sendall(json.dumps(message).encode() + b"\\n")
"""

# One that says that it reports, and when it is asked says nothing; with "hang up" in its configuration it hangs up.
SILENT = """
import json, socket, sys
document = json.load(sys.stdin)
sock = socket.socket(socket.AF_UNIX)
sock.connect(document["control"])
sock.sendall(b'{"type": "figures", "figures": {"here": 1}, "reports": true}\\n')
sock.recv(1)
if document["config"] == "hang up":
    sock.close()
sys.stdin = open(0)
import time
time.sleep(600)
"""

REPORTS = says({"type": "figures", "figures": {"here": 1}, "reports": True})

JOBS = {"first": ["77", "78"], "second": ["77", "78"], "third": ["78", "79"], "here": []}
"""The batch jobs that an endpoint tells of, one message after the other, each with a figure of its own."""


@pytest.fixture
def policy() -> dict[str, object]:
    """Programs that connect to the broker."""
    programs = {"counter": COUNTER, "silent": SILENT}
    return {"programs": {name: [*PYTHON, code] for name, code in programs.items()}}


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was said before is stale, and a busy endpoint is waited for."""
    monkeypatch.setattr(told, "FRESH", 0.0)
    monkeypatch.setattr(told, "WAIT", 60.0)


async def row(site: Site, socket: str = "admin.sock", name: str = "status") -> dict[str, Any]:
    """What somebody who looks is told about the first endpoint."""
    answer = await ask(site.runtime / socket, json.dumps({"request": name}))
    found: dict[str, Any] = answer["endpoints"][0]
    return found


@pytest.mark.usefixtures("stale")
async def test_who_looks_sees_the_figures_as_of_now(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "counter", REPORTS))
    await site.figures("here")
    assert (await row(site))["figures"] == {"report": 1}


@pytest.mark.usefixtures("stale")
async def test_a_user_who_looks_does_too(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "counter", REPORTS))
    await site.figures("here")
    (endpoint,) = site.supervisor.endpoints
    endpoint.user = pwd.getpwuid(os.getuid()).pw_name  # the account of the test, which asks by itself
    assert (await row(site, "users.sock", "mine"))["figures"] == {"report": 1}


async def test_while_nobody_looks_no_endpoint_is_asked(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "counter", REPORTS))
    await site.figures("here")
    (endpoint,) = site.supervisor.endpoints
    site.sessions.end(endpoint, "because")
    assert await site.figures("end") == {"end": 1}


async def test_many_who_look_cost_an_endpoint_no_more_than_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "_BETWEEN", 1000.0)
    await site.supervisor.command(request(endpoint_user(), "counter", REPORTS))
    await site.figures("here")
    for _ in range(5):
        await row(site)
    (endpoint,) = site.supervisor.endpoints
    site.sessions.end(endpoint, "because")
    assert await site.figures("end") == {"report": 1, "end": 1}


@pytest.mark.usefixtures("stale")
async def test_an_endpoint_of_an_earlier_version_is_never_asked(site: Site) -> None:
    await site.supervisor.command(
        request(endpoint_user(), "counter", says({"type": "figures", "figures": {"here": 1}}))
    )
    await site.figures("here")
    for _ in range(3):
        assert (await row(site))["figures"] == {"here": 1}
    (endpoint,) = site.supervisor.endpoints
    site.sessions.end(endpoint, "because")
    assert await site.figures("end") == {"end": 1}


async def test_hung_endpoints_are_waited_for_a_moment_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "FRESH", 0.0)
    await site.supervisor.command(request(endpoint_user(), "silent"))
    await site.supervisor.command(another("silent", ""))
    await site.figures("here")
    await site.figures("here", OTHER)
    answer = await ask(site.runtime / "admin.sock", '{"request": "status"}')
    assert [one["figures"] for one in answer["endpoints"]] == [{"here": 1}] * 2


@pytest.mark.usefixtures("stale")
async def test_nobody_waits_for_an_endpoint_that_hangs_up(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "silent", "hang up"))
    await site.figures("here")
    assert (await row(site))["figures"] is None


async def test_the_log_names_each_batch_job_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "twinlock_broker.control.sessions")
    told = [{"type": "figures", "figures": {name: 1}, "jobs": jobs} for name, jobs in JOBS.items()]
    made = request(endpoint_user(), "counter", says(*told))
    await site.supervisor.command(made)
    await site.figures(list(JOBS)[-1])
    assert [
        (record.getMessage(), record.__dict__["command"], record.__dict__["user"])
        for record in caplog.records
        if "batch" in record.getMessage()
    ] == [
        ("says that it has batch jobs: 77, 78", made.command, endpoint_user()),
        ("says that it has batch jobs: 79", made.command, endpoint_user()),
    ]


async def test_the_administrator_sees_batch_jobs_and_options(site: Site) -> None:
    jobs = ["4711", "4712.pbs.site.example"]
    hello = says({"type": "figures", "figures": {"here": 1}, "jobs": jobs})
    options = {"account_id": "physics", "nodes": 2}
    await site.supervisor.command(replace(request(endpoint_user(), "counter", hello), options=options))
    await site.figures("here")
    found = await row(site)
    assert (found["jobs"], found["options"]) == (jobs, '{"account_id":"physics","nodes":2}')
    (endpoint,) = site.supervisor.endpoints
    endpoint.request = None  # as if the broker had found it running
    assert (await row(site))["options"] == ""


@pytest.mark.parametrize(
    "jobs", [7, None, "4711", {"4711": 1}, [4711], [""], ["x" * 65], ["1\n"], ["\x1b[2J"], ["1"] * 65]
)
def test_odd_jobs_are_refused(jobs: object) -> None:
    with pytest.raises(ValueError, match="batch job"):
        messages.read_jobs({"jobs": jobs})


def test_an_endpoint_without_jobs_may_say_nothing_of_them() -> None:
    assert messages.read_jobs({}) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, ""),
        ({"nodes": 2, "queue": "größte"}, '{"nodes":2,"queue":"größte"}'),
        ({"a": [1, {"b": None}], "c": True}, '{"a":[1,{"b":null}],"c":true}'),
        (
            {"hf_token": "abc", "deep": {"DB_PASSWORD": {"x": 1}}},
            '{"hf_token":"<secret>","deep":{"DB_PASSWORD":"<secret>"}}',
        ),
        (
            {"worker_init": "export HF_TOKEN=abc; module load a"},
            '{"worker_init":"export HF_TOKEN=<secret> module load a"}',
        ),
        ({"a": "\x1b]0;owned\x07\u202e"}, '{"a":"\\u001b]0;owned\\u0007 "}'),
    ],
)
def test_options_in_one_line(options: dict[str, Any], text: str) -> None:
    assert shorten(options) == text


def test_names_of_options_have_no_values_and_an_end() -> None:
    assert names({"account_id": "physics", "nodes": {"count": 2}}) == "account_id, nodes"
    assert len(names(f"option{number}" for number in range(1_000_000))) <= LONGEST


def test_long_options_are_cut_off() -> None:
    many = shorten({f"key {number}": "x" * 100 for number in range(10_000)})
    one = shorten({"worker_init": "y" * 500_000})
    assert len(many) == len(one) == LONGEST
    assert many.startswith('{"key 0":"xxx')
    assert one.endswith("yyy…")


def test_a_secret_that_is_cut_off_stays_hidden() -> None:
    assert "zz" not in shorten({"worker_init": "x" * 100 + " export API_KEY=" + "z" * 1000})
