"""The parts of verified mode by themselves: connections, envelopes, the process that renders, the wait for a task."""

import asyncio
import errno
import json
import logging
import math
import os
import ssl
import struct
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import LIMIT_S
from globus_compute_common.messagepack import unpack
from globus_compute_sdk.serialize import ComputeSerializer
from nacl.signing import SigningKey
from signed_rig import delegated
from twinlock_common import document
from twinlock_common.amqp.connection import parameters
from twinlock_common.document import DocumentError
from twinlock_common.queues import Destination, Source
from twinlock_common.rendering import request_line
from twinlock_common.rendering.configuration import configure
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.tasks import outcomes
from twinlock_endpoint.verified import envelopes, queues, rendering
from twinlock_endpoint.verified.claimant import name_of
from twinlock_endpoint.verified.claimed import Syncs
from twinlock_endpoint.verified.envelopes import Kept
from twinlock_endpoint.verified.seal import Sealer
from twinlock_endpoint.verified.site import Site
from twinlock_signed import result, task
from twinlock_signed.dsse import public_half
from twinlock_signed.errors import Refused
from twinlock_signed.keys import Address
from twinlock_signed.statement import digest
from twinlock_signed.verifier import Envelope
from verified_rig import MANAGER, Host, body

FAR = Address("mq.example.org", 443)
NEAR = Address("127.0.0.1", 5672)
TASK = "22222222-0000-4000-8000-000000000001"


def made_anew(url: str) -> str:
    """What is made of a queue's URL, where these two hosts are allowed."""
    publish = {"exchange": "x", "routing_key": "y"}
    told = document.Queues(Source(url, "q"), Destination(url, publish), Destination(url, publish))
    found = queues.only(told, [FAR, NEAR, Address("::1", 5671)])
    assert found.tasks.url == found.results.url == found.heartbeats.url
    assert replace(found.results, url=url) == told.results
    return found.tasks.url


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("amqps://ada:secret@mq.example.org:443/%2F", "amqps://ada:secret@mq.example.org:443/%2F"),
        ("amqps://a%40b:p%2Fw%3F@mq.example.org:443/v%2Fh", "amqps://a%40b:p%2Fw%3F@mq.example.org:443/v%2Fh"),
        ("amqps://ada:s@MQ.example.org:443/x/y", "amqps://ada:s@mq.example.org:443/x%2Fy"),
        ("amqp://ada:s@127.0.0.1/", "amqp://ada:s@127.0.0.1:5672/"),
        ("amqps://ada:s@[::1]/", "amqps://ada:s@[::1]:5671/"),
    ],
)
def test_a_connection_is_made_of_host_login_and_virtual_host(url: str, made: str) -> None:
    assert made_anew(url) == made
    before, after = parameters(url), parameters(made)
    assert (after.credentials, after.host, after.port) == (before.credentials, before.host, before.port)


def test_an_encrypted_connection_is_checked_by_the_systems_certificates() -> None:
    options = parameters(made_anew("amqps://ada:s@mq.example.org:443/")).ssl_options
    assert options.context.verify_mode == ssl.CERT_REQUIRED
    assert options.context.check_hostname
    assert options.context.get_ca_certs() == ssl.create_default_context().get_ca_certs()
    assert options.server_hostname in (None, "mq.example.org")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqps://ada:secret@evil.example.org:443/", "at 'evil.example.org', port 443, which isn't among"),
        ("amqps://ada:secret@mq.example.org/", "at 'mq.example.org', port 5671, which isn't among"),
        ("amqps://ada:secret@mq.example.org.evil.org:443/", "which isn't among"),
        ("amqps://mq.example.org:443@evil.org:443/", "at 'evil.org', port 443, which isn't among"),
        ("amqp://ada:secret@mq.example.org:443/", "an unencrypted connection to 'mq.example.org', port 443"),
        ("amqps://ada:secret@mq.example.org:443/?ssl_options=%7B%7D", "with options; none are allowed"),
        ("amqps://ada:secret@mq.example.org:443/#x", "with options; none are allowed"),
    ],
)
def test_a_connection_that_root_does_not_allow(url: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as refused:
        made_anew(url)
    assert "secret" not in str(refused.value)


def test_an_envelope_travels_in_the_sdks_message() -> None:
    texts = ("a", "b\n", "c" * 300_000, "d")
    assert envelopes.read(body(TASK, texts)) == Envelope(*texts)
    kept = Kept(12.5, Envelope(*texts))
    assert envelopes.kept(envelopes.keep(kept)) == kept


@pytest.mark.parametrize(
    "text",
    ["", "x", "1\n", "-1\nabc", "9\nabc", "3\nabc", "3\nabc3\nabc", "3\nabc" * 4, "\u0663\nabc" * 3, "0\n" * 500_000],
)
def test_buffers_of_another_form(text: str) -> None:
    made = b"\x01" + json.dumps({"message_type": "task", "data": {"task_id": TASK, "task_buffer": text}}).encode()
    with pytest.raises(Refused, match="The task is not signed"):
        envelopes.read(made)


NAN = struct.pack(">Bd", 0xCB, math.nan)
"""As msgpack has it."""


@pytest.mark.parametrize(
    "made",
    [
        *(b"", b"\x01{}", b"twinlock-signed 1\n", b"twinlock-signed 1\n\x92\x01\xa1x", b"\xc1" * 9),
        b"twinlock-signed 1\n\x95%b\xa1a\xa1b\xa1c\xa1d" % NAN,
    ],
)
def test_a_journal_of_another_form(made: bytes) -> None:
    with pytest.raises(Refused, match="The task is not signed"):
        envelopes.kept(made)


def test_workers_get_what_was_signed_in_the_form_that_the_sdk_reads() -> None:
    whole = task.Task("0" * 64, 1, 1, 2, {}, [], "the code", "the \u00e9 arguments", "")
    read = unpack(envelopes.for_worker(TASK, whole))
    assert str(read.task_id) == TASK
    assert ComputeSerializer.unpack_buffers(read.task_buffer) == ["the code", "the \u00e9 arguments", ""]


def test_an_audit_gets_the_first_line_of_a_reason_and_not_all_of_that() -> None:
    assert outcomes.refused(TASK, "It is late.\nSubmit it again.").event == "FAILED - It was refused: It is late."
    assert len(outcomes.refused(TASK, "x" * 100_000).event) < 400


def test_a_folder_that_fails_has_no_missing_files(site: Site, tmp_path: Path) -> None:
    """Options aren't accepted without their schema because a disk doesn't answer."""
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    failing = replace(site, settings=site.settings._replace(endpoint_dir=circle))
    for read in (failing.read_schema, failing.read_environment):
        with pytest.raises(ConfigError):
            read()


@pytest.mark.system
def test_the_process_that_renders_understands_the_request(site: Site, host: Host) -> None:
    """As in this process, with what a delegation says."""
    host.write(
        "endpoint/user_config_template.yaml.j2",
        "engine: {type: {{ kind }}}\nname: {{ _GC.user_runtime.python.version }}\nuser: {{ _GC.env.USER }}\n",
    )
    said = delegated(user_endpoint_config={"kind": "ThreadPoolEngine"})
    rendered = 'engine: {type: "ThreadPoolEngine"}\nname: "3.12.1"\nuser: root'
    assert configure(request_line.load(rendering.request(site, said).decode())) == rendered
    renderer = rendering.Renderer()
    assert [renderer.render(site, said) for _ in range(2)] == [rendered] * 2
    renderer.close()


async def test_who_waits_for_the_disk_waits_for_their_own_records(caplog: pytest.LogCaptureFixture) -> None:
    """A wait that began before a record doesn't count for it, and those that come together share one, and a line."""
    caplog.set_level(logging.INFO)
    began, go = threading.Event(), threading.Event()
    waits: list[int] = []

    class Slow:
        def sync(self) -> None:
            waits.append(len(waits))
            began.set()
            assert go.wait(LIMIT_S)

    claim: Any = Slow()
    syncs = Syncs()
    first = asyncio.create_task(syncs.wait(claim, "key=K", "task 0"))
    assert await asyncio.to_thread(began.wait, LIMIT_S)
    more = [asyncio.create_task(syncs.wait(claim, "key=K", f"task {number}")) for number in range(1, 1201)]
    go.set()
    await asyncio.wait_for(asyncio.gather(first, *more), LIMIT_S)
    assert waits == [0, 1]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.count("task ") for line in lines] == [1, 500, 500, 200]
    assert lines[:1] == ["Accepted, signed by key=K: task 0"]
    assert lines[-1].endswith(", task 1200")


async def test_a_disk_that_takes_no_numbers_is_told_to_those_who_wait() -> None:
    class Full:
        def sync(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    claim: Any = Full()
    with pytest.raises(OSError, match="No space left"):
        await asyncio.wait_for(Syncs().wait(claim, "key=K", "task 0"), LIMIT_S)


async def test_an_account_that_may_have_no_further_thread_is_told_and_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Quick:
        def sync(self) -> None: ...

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    claim: Any = Quick()
    syncs = Syncs()
    with monkeypatch.context() as limit:
        limit.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread"):
            await asyncio.wait_for(syncs.wait(claim, "key=K", "task 0"), LIMIT_S)
    await asyncio.wait_for(syncs.wait(claim, "key=K", "task 1"), LIMIT_S)


def test_a_folder_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert name_of(tmp_path) == name_of(tmp_path) != name_of(tmp_path / "other")
    (tmp_path / "claimant").write_text("")
    with pytest.raises(ConfigError, match=f"{tmp_path}/claimant has no uuid in it"):
        name_of(tmp_path)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"junk",
        b"\x01[]",
        b"\x01" + b"[" * 100_000,
        b'\x01{"message_type": "result", "data": {}}',
        b'\x01{"message_type": "result", "data": {"data": ["a"]}}',
        b'\x01{"message_type": "result", "data": {"data": "11\\n1", "details": NaN}}',
        b'\x01{"message_type": "task", "data": {"data": "11\\n1"}}',
    ],
)
async def test_a_worker_that_sends_something_else_fails_its_task(sent: bytes) -> None:
    """The user's code runs in it. Whatever it sends, the task has a result, and the account signs that it failed."""
    key, statement = SigningKey.generate(), digest(b"a task")
    sealed = unpack(await Sealer(MANAGER, key).of(statement, TASK)(sent))
    assert str(sealed.task_id) == TASK
    assert sealed.is_error
    found = result.verify(*result.unpack(sealed.data), public_half(key), MANAGER, statement)
    assert (found.success, found.data.startswith("The worker's result can't be read")) == (False, True)
