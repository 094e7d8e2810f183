"""Commands from the queue to a start or to a text for the user, through the whole path with real files."""

import asyncio
import contextlib
import json
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from broker_rig import (
    ALICE,
    MANAGER,
    UEP,
    Told,
    amqp_creds,
    delivery,
    endpoint_user,
    identity,
    make_folder,
    message,
)
from twinlock_broker.compute.command import Delivery
from twinlock_broker.config.folder import Folder
from twinlock_broker.endpoints import fair_queue
from twinlock_broker.endpoints.failures import Failures
from twinlock_broker.endpoints.fair_queue import FairQueue
from twinlock_broker.endpoints.handler import CommandHandler
from twinlock_broker.endpoints.pipeline import StartPipeline, StartRequest
from twinlock_broker.errors import CommandError
from twinlock_broker.identity import resolver
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.identity.resolver import Resolver
from twinlock_broker.metrics import REGISTRY
from twinlock_common.rendering import template

MAPPING = {"source": "{username}", "match": "(.*)@site\\.example", "output": "{0}"}


class Site:
    """A privileged site: its folder, what was started and who was told."""

    def __init__(self, folder: Folder, told: Told) -> None:
        self.folder, self.told = folder, told
        self.started: list[StartRequest] = []
        mapper = Mapper(folder.path / "map.json", MANAGER)
        self.path = StartPipeline(folder, "endpoint", Resolver(mapper, ()), None)
        self.failures = Failures()
        self.handler = CommandHandler(MANAGER, None, self.path, self.start, told.send, self.failures)

    async def start(self, request: StartRequest) -> None:
        """Record a start."""
        self.started.append(request)

    async def handle(self, found: Delivery) -> None:
        """One command."""
        await self.handler.handle(found)

    def map_to(self, user: str) -> None:
        """Everybody is this account from now on."""
        document = {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [MAPPING | {"output": user}]}
        (self.folder.path / "map.json").write_text(json.dumps([document]))


@pytest.fixture
def site(tmp_path: Path, told: Told) -> Iterator[Site]:
    folder = make_folder(
        tmp_path / "ep",
        f"identity_mapping_config_path: map.json\nallowed_functions: [{UEP}]",
        map__json="[]",
        user_environment__yaml="SITE: here",
        user_config_schema__json='{"properties": {"walltime": {"type": "string"}}}',
    )
    made = Site(folder, told)
    # the broker's own account has to be another than the endpoint's
    made.map_to(endpoint_user() if os.geteuid() == 0 else "nobody")
    yield made
    made.path.close()


def stages() -> dict[str, float]:
    """How often each stage was gone through, by the metrics."""
    name = "twinlock_start_stage_seconds_count"
    return {
        stage: REGISTRY.get_sample_value(name, {"stage": stage}) or 0 for stage in ("queue", "mapping", "rendering")
    }


async def test_a_good_command_becomes_a_start(site: Site) -> None:
    before = stages()
    await site.handle(delivery(message()))
    assert stages() == {stage: count + 1 for stage, count in before.items()}
    [request] = site.started
    assert (request.id, request.name, request.program) == (UEP, f"uep.{MANAGER}.{UEP}", "endpoint")
    assert request.user == "nobody"
    assert yaml.safe_load(request.document.config)["engine"]["provider"]["account"] == "phys-1"
    assert request.document.match.identity == ALICE
    assert request.document.job_person == "alice@site.example"
    assert request.document.allowed_functions == (UEP,)
    assert request.document.environment["SITE"] == "here"
    assert request.document.environment["GLOBUS_COMPUTE_ENDPOINT_NAME"] == request.name
    assert site.told.notices == []


async def test_batch_jobs_name_the_identity_that_led_to_the_account(site: Site) -> None:
    other = identity(sub=UEP, username="alice@home.example")
    login = {"globus_username": "alice@home.example", "globus_identity_set": [other, identity()]}
    await site.handle(delivery(message() | login))
    assert [request.document.job_person for request in site.started] == ["alice@site.example"]


async def test_batch_jobs_name_nobody_if_the_administrator_wants_it_so(site: Site) -> None:
    mapper = Mapper(site.folder.path / "map.json", MANAGER)
    path = StartPipeline(site.folder, "endpoint", Resolver(mapper, ()), None, marks_jobs=False)
    handler = CommandHandler(MANAGER, None, path, site.start, site.told.send, site.failures)
    await handler.handle(delivery(message()))
    assert [request.document.job_person for request in site.started] == [None]
    path.close()


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({}, "needs the option 'account_id'"),
    "against the schema": ({"account_id": "a", "walltime": 3}, "option walltime: 3 is not of type 'string'"),
    "reserved": ({"_GC": {}}, "'_GC' is a reserved word"),
}


@pytest.mark.parametrize(("chosen", "words"), BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
async def test_bad_options_are_told(site: Site, chosen: dict[str, Any], words: str) -> None:
    await site.handle(delivery(message(user_opts=chosen)))
    assert words in site.told.notices[-1][0]
    assert site.started == []


async def test_what_is_refused_is_kept_with_all_that_led_to_it(site: Site) -> None:
    refused = delivery(message(user_opts={"account_id": "a", "walltime": 3, "api_token": "hush"}))
    await site.handle(refused)
    (failure,) = site.failures.of(UEP)
    assert (failure["stage"], failure["command"], failure["user"]) == ("rendering", refused.id, "nobody")
    assert failure["identity"] == "alice@site.example"
    assert json.loads(failure["options"]) == {"account_id": "a", "walltime": 3, "api_token": "<secret>"}
    assert failure["reason"] == site.told.notices[-1][0]
    assert failure["commanded"] <= failure["at"]
    site.map_to("no-such-user-here")
    await site.handle(delivery(message()))
    await site.handle(delivery(message(), age=1000))
    newest = [(failure["stage"], failure["user"], failure["identity"]) for failure in site.failures.of(None)]
    assert newest[:2] == [("command", "", ""), ("identity mapping", "", "alice@site.example")]


async def test_a_commands_id_is_in_what_is_told_and_in_what_is_started(site: Site) -> None:
    refused, accepted = delivery(message(user_opts={"no-such-option": 1})), delivery(message())
    await site.handle(refused)
    assert site.told.commands == [refused.id]
    await site.handle(accepted)
    assert [request.command for request in site.started] == [accepted.id]
    assert refused.id != accepted.id


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("no-such-user-here", "'no-such-user-here', which doesn't exist on this host"),
        ("root", "mapped to root"),
        (pwd.getpwuid(os.getuid()).pw_name, "mapped to"),
    ],
)
async def test_bad_accounts_are_told(site: Site, user: str, words: str) -> None:
    site.map_to(user)
    await site.handle(delivery(message()))
    assert words in site.told.notices[-1][0]
    assert site.started == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("engine: {type: X}\n a: b: {{ account_id }}", "isn't valid YAML in line 2"),
        ("display_name: {{ account_id }}", "has no engine"),
        ("{% if %}", "template has an error"),
        (None, "can't be read"),
    ],
)
async def test_a_template_that_changed_counts_at_once(site: Site, template: str | None, words: str) -> None:
    if template is None:
        site.folder.template_path.unlink()
    else:
        site.folder.template_path.write_text(template)
    await site.handle(delivery(message()))
    text, detail = site.told.notices[-1]
    assert words in text
    assert str(site.folder.path) not in text
    if template == "{% if %}":
        assert detail.startswith(f"{site.folder.template_path}, line 1: Expected an expression")


async def test_strangers_stale_commands_and_wrong_names_are_told(site: Site) -> None:
    await site.handle(delivery(message() | {"globus_identity_set": [identity(username="eve@elsewhere.example")]}))
    assert "None of your identities maps" in site.told.notices[-1][0]
    await site.handle(delivery(message(), age=300))
    assert "too old" in site.told.notices[-1][0]
    await site.handle(delivery(message(name="/" * 40)))
    assert "names a different endpoint" in site.told.notices[-1][0]
    assert len(site.told.notices) == 3


def spoilt() -> dict[str, tuple[Delivery, str]]:
    """Commands of which little more than the credentials can be read; and words of what their user is told."""
    good = json.dumps(message()).encode()
    large = json.dumps(message(user_opts={"a": "x" * (2 << 20)})).encode()
    deep = b'{"command": ' + b"[" * 100_000 + b', "kwargs": ' + json.dumps(message()["kwargs"]).encode()
    number = good.replace(b'"phys-1"', b"9" * 5000)
    assert number != good
    incomplete = {key: amqp_creds() | {key: {}} for key in ("task_queue_info", "result_queue_info")}
    return {
        "too large": (delivery(large), f"has {len(large):,} bytes"),
        "cut off": (delivery(good[:-9]), "not JSON"),
        "not UTF-8": (delivery(b"\xff" + good), "can't decode byte 0xff"),
        "in a list": (delivery(b"[" + good + b"]"), "not a JSON object"),
        "nested deep": (delivery(deep), "nested too deeply"),
        "a huge number": (delivery(number), "4300 digits"),
        "another content type": (Delivery("text/plain", 0, good), "'text/plain'"),
        "no content type": (Delivery(None, 0, good), "content type is 'None'"),
        "no task queue": (delivery(message(amqp_creds=incomplete["task_queue_info"])), "task_queue_info"),
        "no result queue": (delivery(message(amqp_creds=incomplete["result_queue_info"])), "result_queue_info"),
    }


@pytest.mark.parametrize("name", spoilt())
async def test_a_command_that_cant_be_read_is_told_if_its_credentials_can(site: Site, name: str) -> None:
    found, words = spoilt()[name]
    await site.handle(found)
    [(text, _)] = site.told.notices
    assert words in text
    assert site.started == []


async def test_credentials_among_the_options_are_never_used(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    options = {"a": {"amqp_creds": amqp_creds("amqp://thief:hush@127.0.0.1:1/")}, "b": "x" * (2 << 20)}
    await site.handle(delivery(message(user_opts=options)))
    assert "nobody can be told" in caplog.text
    assert site.told.notices == []


async def test_a_start_that_fails_unexpectedly_is_told(site: Site) -> None:
    async def fail(request: StartRequest) -> None:
        raise RuntimeError(request.name)

    handler = CommandHandler(MANAGER, None, site.path, fail, site.told.send, Failures())
    await handler.handle(delivery(message()))
    [(text, detail)] = site.told.notices
    assert "failed on the start request" in text
    assert UEP in detail


async def test_what_cant_be_told_is_logged_and_nothing_ends(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    no_address = {"endpoint_id": UEP}
    cut = json.dumps(message()).encode().partition(b"heartbeat_queue_info")[0]
    for body in (b'{"command":', b"[]", message() | {"kwargs": None}, message(amqp_creds=no_address), cut):
        caplog.clear()
        await site.handle(delivery(body))
        assert "nobody can be told" in caplog.text
    assert site.told.notices == []
    await site.handle(delivery(message()))
    assert len(site.started) == 1


async def test_a_mapper_that_hangs_is_told_and_holds_up_nobody_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "MAP_LIMIT", 0.2)
    document = {"DATA_TYPE": "external_identity_mapping#1.0.0", "command": ["/bin/sh", "-c", "exec sleep 2", "mapper"]}
    (site.folder.path / "map.json").write_text(json.dumps([document]))
    await site.handle(delivery(message()))
    assert "more than 0 seconds for mapping you" in site.told.notices[-1][0]
    site.map_to("nobody")
    monkeypatch.setattr(resolver, "MAP_LIMIT", 120)
    await site.handle(delivery(message()))
    assert len(site.started) == 1


SLOW = """\
engine: {type: X}
{% if "slow" in account_id %}{% for _ in range(99999) %}{% for _ in range(99999) %}{% endfor %}{% endfor %}{% endif %}
"""


async def test_a_person_whose_commands_take_long_holds_up_nobody_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "MAX_SECONDS", 60.0)
    site.folder.template_path.write_text(SLOW)
    slow = message(user_opts={"account_id": "slow"})
    waiting = [asyncio.create_task(site.handle(delivery(slow))) for _ in range(4)]
    await asyncio.sleep(0)
    await site.handle(delivery(message() | {"globus_identity_set": [identity(sub=UEP)]}))
    assert len(site.started) == 1, site.told.notices
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_a_person_has_half_of_the_places_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_queue, "PATIENCE", 0.01)
    lines = FairQueue()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(lines.turn("ada"))
        waiting = [
            asyncio.create_task(stack.enter_async_context(lines.turn("ada"))) for _ in range(fair_queue.MOST - 1)
        ]
        await asyncio.sleep(0)
        with pytest.raises(CommandError, match="Submit again later"):
            async with lines.turn("ada"):
                pass
        async with lines.turn("bob"):
            assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        async with asyncio.timeout(60):
            await stack.aclose()
            async with lines.turn("ada"):
                pass


async def test_a_time_limit_within_a_persons_turn_isnt_that_of_the_queue() -> None:
    with pytest.raises(TimeoutError, match="of a mapper"):
        async with FairQueue().turn("ada"):
            raise TimeoutError("of a mapper")


async def test_same_user_mode(tmp_path: Path, told: Told) -> None:
    started: list[StartRequest] = []

    async def record(request: StartRequest) -> None:
        started.append(request)

    path = StartPipeline(make_folder(tmp_path / "ep"), "endpoint", Resolver(frozenset({ALICE}), ()), None)
    handler = CommandHandler(MANAGER, None, path, record, told.send, Failures())
    await handler.handle(delivery(message() | {"globus_identity_set": [identity(sub=UEP)]}))
    assert "identity that registered it" in told.notices[-1][0]
    await handler.handle(delivery(message()))
    if os.geteuid() == 0:
        assert "mapped to root" in told.notices[-1][0]
    else:
        assert [request.user for request in started] == [pwd.getpwuid(os.getuid()).pw_name]
    path.close()
