"""What a request may be: beyond that it is refused with a sentence, before it costs others time."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from globus_compute_common.messagepack import pack
from globus_compute_common.messagepack.message_types import Result
from rest_rig import AS_ALICE, AS_BOB, NOWHERE, basic
from service_rig import ALICE, CLIENT_SECRET, IDENTITIES, MANAGER_CLIENT, Rest, bearer
from twinlock_service.context import Context
from twinlock_service.limits import json_complexity
from twinlock_service.request import bodies, models
from twinlock_service.rest import tasks as rest_tasks
from twinlock_service.state import endpoints

SUBMIT = f"/v3/endpoints/{NOWHERE}/submit"
OPENID = {"grant_type": "client_credentials", "scope": "openid"}


async def refused(rest: Rest, status: int, path: str, **request: Any) -> str:
    """The sentence with which a request of Alice's is refused."""
    answer = await rest.post(path, headers={**AS_ALICE, **request.pop("headers", {})}, **request)
    body = await answer.json()
    assert (answer.status, body["http_status_code"]) == (status, status), body
    assert body["message"] == body["reason"]
    return str(body["reason"])


@pytest.mark.parametrize("tasks", [50_000, 10_001])
async def test_a_submission_has_so_many_tasks(rest: Rest, tasks: int) -> None:
    text = await refused(rest, 422, SUBMIT, json={"tasks": {NOWHERE: [""] * tasks}})
    assert "at most 10000 items" in text


async def test_also_where_they_are_of_several_functions(rest: Rest, context: Context) -> None:
    manager = context.endpoints.register("manager", IDENTITIES[ALICE], {"endpoint_name": "m"})
    functions = [context.functions.add(IDENTITIES[ALICE], {}, "code") for _ in range(2)]
    path = f"/v3/endpoints/{manager.id}/submit"
    text = await refused(rest, 413, path, json={"tasks": {function: [""] * 6000 for function in functions}})
    assert "12,000 tasks; at most 10,000" in text


async def test_a_large_function_counts_with_each_of_its_tasks(rest: Rest, context: Context) -> None:
    manager = context.endpoints.register("manager", IDENTITIES[ALICE], {"endpoint_name": "m"})
    function = context.functions.add(IDENTITIES[ALICE], {}, "x" * 1_000_000)
    path = f"/v3/endpoints/{manager.id}/submit"
    assert "more than 134,217,728 bytes" in await refused(rest, 413, path, json={"tasks": {function: [""] * 200}})


async def test_so_many_tasks_wait_for_one_endpoint(
    rest: Rest, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlock_service.tasks.submission.MAX_OUTSTANDING", 3)
    single = context.endpoints.register("single", IDENTITIES[ALICE], {"endpoint_name": "s"})
    function = context.functions.add(IDENTITIES[ALICE], {}, "code")
    group = context.tasks.new_group(IDENTITIES[ALICE])
    for _ in range(3):
        context.tasks.add(group, IDENTITIES[ALICE], single.id, function)
    path = f"/v3/endpoints/{single.id}/submit"
    text = await refused(rest, 429, path, json={"tasks": {function: [""]}})
    assert "3 tasks wait for this endpoint" in text


DEEP = "[" * 20_000 + "]" * 20_000
WIDE = "[" + "0," * 3_000_000 + "0]"


@pytest.mark.parametrize(("document", "reason"), [(DEEP, "64 levels"), (WIDE, "100,000 values")])
@pytest.mark.parametrize(
    "field", ["user_endpoint_config", "user_runtime", "resource_specification", "tasks", "unknown"]
)
async def test_json_is_neither_deep_nor_of_many_values(rest: Rest, field: str, document: str, reason: str) -> None:
    assert reason in await refused(rest, 413, SUBMIT, data=f'{{"tasks": {{}}, "{field}": {document}}}')


async def test_a_resource_specification_fits_the_head_of_a_message(rest: Rest, context: Context) -> None:
    manager = context.endpoints.register("manager", IDENTITIES[ALICE], {"endpoint_name": "m"})
    body = {"tasks": {NOWHERE: [""]}, "resource_specification": {"x": "x" * 200_000}}
    text = await refused(rest, 413, f"/v3/endpoints/{manager.id}/submit", json=body)
    assert "resource_specification has 200,0" in text


async def test_the_registration_of_an_endpoint_is_small(rest: Rest) -> None:
    body = {"endpoint_name": "m", "metadata": {"endpoint_config": "x" * 2_000_000}}
    assert "more than 1,048,576 bytes" in await refused(rest, 413, "/v3/endpoints", json=body)


async def test_a_body_without_a_length_is_limited_too(rest: Rest) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"endpoint_name": "'
        for _ in range(40):
            yield b"x" * 2**16

    assert "more than 1,048,576 bytes" in await refused(rest, 413, "/v3/endpoints", data=endless())


async def test_so_many_endpoints_for_each_owner(rest: Rest, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MAX_ENDPOINTS", 2)
    for _ in range(2):
        context.endpoints.register("manager", IDENTITIES[ALICE], {"endpoint_name": "m"})
    assert "you have 2 endpoints" in await refused(rest, 429, "/v3/endpoints", json={"endpoint_name": "third"})
    answer = await rest.post("/v3/endpoints", headers=AS_BOB, json={"endpoint_name": "first"})
    assert answer.status == 503, "Bob may have one; there is no RabbitMQ here"


async def test_a_compressed_body_is_refused(rest: Rest) -> None:
    compressed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert "compressed" in await refused(rest, 415, SUBMIT, data=b"\x1f\x8b", headers=compressed)


@pytest.mark.parametrize("path", [SUBMIT, "/login", "/v2/oauth2/token"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    answered = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"{"
        await answered.wait()

    asking = asyncio.create_task(refused(rest, 408, path, data=stalling()))
    text = await asyncio.wait_for(asking, 60)
    answered.set()
    assert "did not arrive within" in text


async def test_a_question_for_so_many_tasks(rest: Rest) -> None:
    ids = [str(uuid.uuid4()) for _ in range(20_000)]
    assert "at most 10000 items" in await refused(rest, 422, "/v2/batch_status", json={"task_ids": ids})
    answer = await rest.post("/v2/batch_status", headers=AS_ALICE, json={"task_ids": ids[:10_000]})
    assert (answer.status, await answer.json()) == (200, {"response": "batch", "results": {}})


async def test_an_answer_holds_so_many_results(rest: Rest, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_tasks, "MAX_ANSWER", 5_000)
    group = context.tasks.new_group(IDENTITIES[ALICE])
    tasks = [context.tasks.add(group, IDENTITIES[ALICE], NOWHERE, NOWHERE) for _ in range(3)]
    for task in tasks:
        context.tasks.finish(task, "success", pack(Result(task_id=task, data="x" * 4_000)))
    assert "ask for fewer" in await refused(rest, 413, "/v2/batch_status", json={"task_ids": tasks})
    answer = await rest.post("/v2/batch_status", headers=AS_ALICE, json={"task_ids": tasks[:1]})
    assert list((await answer.json())["results"]) == tasks[:1]


@pytest.mark.parametrize("field", ["ha_endpoint_id", "group"])
@pytest.mark.parametrize("version", ["v2", "v3"])
async def test_functions_that_rely_on_what_is_not_enforced_are_refused(rest: Rest, version: str, field: str) -> None:
    function = {"function_name": "f", "function_code": "1\nf", field: NOWHERE}
    text = await refused(rest, 422, f"/{version}/functions", json=function)
    assert f"`{field}`" in text
    assert "leave it out" in text
    without = await rest.post(f"/{version}/functions", headers=AS_ALICE, json={**function, field: None})
    assert without.status == 200


@pytest.mark.parametrize("token", ["caf\u00e9", "\u20ac" * 10, "\udcff\udc80"])
async def test_a_token_of_other_than_ascii_is_unknown(rest: Rest, token: str) -> None:
    raw = token.encode("utf-8", "surrogateescape").decode("latin-1")
    reader, writer = await asyncio.open_connection(rest.host, rest.port)
    writer.write(
        f"GET /v2/endpoints HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {raw}\r\n\r\n".encode("latin-1")
    )
    head = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    assert b" 401 " in head


@pytest.mark.parametrize("value", ["Basic caf\u00e9", "Basic ====", "Basic /////w=="])
async def test_a_login_that_can_not_be_read_is_no_login(rest: Rest, value: str) -> None:
    answer = await rest.post("/v2/oauth2/token", data=OPENID, headers={"Authorization": value})
    assert answer.status == 401


async def test_a_scope_may_be_nested_as_deeply_as_a_form_has_room_for(rest: Rest) -> None:
    login = basic(MANAGER_CLIENT, CLIENT_SECRET)
    deep = "openid" + "[x" * 2_000 + "]" * 2_000
    answer = await rest.post("/v2/oauth2/token", data={**OPENID, "scope": deep}, headers=login)
    assert (answer.status, (await answer.json())["scope"]) == (200, "openid")
    deeper = "openid" + "[x" * 20_000 + "]" * 20_000
    answer = await rest.post("/v2/oauth2/token", data={**OPENID, "scope": deeper}, headers=login)
    assert answer.status == 413


@pytest.mark.parametrize("scope", ["openid[x", "openid]x[", "openid[x]]", "[", "]"])
async def test_brackets_that_do_not_match_are_no_scope(rest: Rest, scope: str) -> None:
    login = basic(MANAGER_CLIENT, CLIENT_SECRET)
    answer = await rest.post("/v2/oauth2/token", data={**OPENID, "scope": scope}, headers=login)
    assert (answer.status, (await answer.json())["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize("form", [b"scope=\xff", "&".join(f"a{number}=" for number in range(101)).encode() + b"1"])
async def test_a_form_is_utf_8_and_of_few_fields(rest: Rest, form: bytes) -> None:
    answer = await rest.post("/v2/oauth2/token", data=form, headers=basic(MANAGER_CLIENT, CLIENT_SECRET))
    assert answer.status == 400


NINES = "9" * 101


@pytest.mark.parametrize("document", [NINES, f"[0.{NINES}]", f'{{"a": 1e{NINES}}}'])
async def test_numbers_have_so_many_digits(rest: Rest, document: str) -> None:
    """Some megabytes of such numbers took half a minute."""
    body = f'{{"tasks": {{"{NOWHERE}": [""]}}, "user_runtime": {{"number": {document}}}}}'
    text = await refused(rest, 413, SUBMIT, data=body)
    assert "a number of more than 100 digits" in text


async def test_texts_may_have_such_numbers(rest: Rest) -> None:
    body = {"tasks": {NOWHERE: ["9" * 200]}, "user_runtime": {"number": int("9" * 100)}}
    assert "could not be resolved" in await refused(rest, 404, SUBMIT, json=body)


async def test_a_request_has_so_many_escapes(rest: Rest) -> None:
    task = "\n" * (json_complexity.MAX_ESCAPES // 2)
    assert "could not be resolved" in await refused(rest, 404, SUBMIT, json={"tasks": {NOWHERE: [task, task[60:]]}})
    assert "4,000,000 escaped" in await refused(rest, 413, SUBMIT, json={"tasks": {NOWHERE: [task, task, "\n"]}})


async def test_quotes_without_end_are_not_counted_for_long(rest: Rest) -> None:
    body = b'"' * 1_000_000
    assert "more than 100,000 values" in await refused(rest, 413, SUBMIT, data=body)


async def test_a_task_of_other_than_ascii_is_shorter(rest: Rest) -> None:
    """In a message to an endpoint it has six times the length."""
    longest = models.MAX_PAYLOAD // 6
    assert "could not be resolved" in await refused(rest, 404, SUBMIT, json={"tasks": {NOWHERE: ["\u20ac" * longest]}})
    text = await refused(rest, 422, SUBMIT, json={"tasks": {NOWHERE: ["\u20ac" * (longest + 1)]}})
    assert "shorter than 2,796,202 characters" in text


@pytest.mark.parametrize(
    ("status", "more"), [(413, {"meta": {"a": ["x" * 70_000]}}), (422, {"description": "x" * 70_000})]
)
async def test_what_is_said_about_a_function_is_short(rest: Rest, status: int, more: dict[str, Any]) -> None:
    await refused(rest, status, "/v3/functions", json={"function_name": "f", "function_code": "1\nf", **more})


async def test_faults_by_the_thousand_are_only_counted(rest: Rest) -> None:
    wrong: dict[str, Any] = {"tasks": {f"not a uuid {number}": [] for number in range(40_000)}}
    assert "it has 40,000 faults" in await refused(rest, 422, SUBMIT, json=wrong)


async def test_what_is_wrong_with_a_request_is_said_in_few_words(rest: Rest) -> None:
    wrong: dict[str, Any] = {"tasks": {f"not a uuid {number}": [] for number in range(5_000)}}
    assert len(await refused(rest, 422, SUBMIT, json=wrong)) < 1_100


async def test_one_caller_has_few_requests_in_work_and_others_do_not_wait(rest: Rest) -> None:
    """Alice sends bodies that never end, as many as she can; Bob is served."""
    done = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b'{"endpoint_name": "'
        await done.wait()

    body = endless
    waiting = [asyncio.create_task(rest.post("/v3/endpoints", headers=AS_ALICE, data=body())) for _ in range(20)]
    for _ in range(20):
        answer = await asyncio.wait_for(rest.get("/v2/endpoints", headers=AS_BOB), 60)
        assert (answer.status, await answer.json()) == (200, [])
    done.set()
    for asked in waiting:
        assert (await asked).status == 400


async def test_a_wrong_token_stays_wrong(rest: Rest) -> None:
    assert (await rest.get("/v2/endpoints", headers=bearer("wrong"))).status == 401
    assert json.loads(await (await rest.get("/v2/version")).text())["api"]
