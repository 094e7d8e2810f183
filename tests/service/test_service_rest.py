"""The REST calls that need no RabbitMQ, and what is answered where it isn't there."""

from typing import Any

import pytest
from rest_rig import AS_ALICE, AS_BOB, NOWHERE, basic
from service_rig import ALICE, CLIENT_SECRET, IDENTITIES, MANAGER_CLIENT, TOKENS, Rest, bearer
from twinlock_service.context import Context
from twinlock_service.request.models import MAX_PAYLOAD
from yarl import URL

FUNCTION = {"function_name": "f", "function_code": "1\nf"}


async def test_the_version_needs_no_token(rest: Rest) -> None:
    answer = await rest.get("/v2/version", params={"service": "all"})
    assert answer.status == 200
    assert set(await answer.json()) == {"api", "min_ep_version", "min_sdk_version"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/oauth2/userinfo"),
        ("POST", "/v3/endpoints"),
        ("PUT", f"/v3/endpoints/{NOWHERE}"),
        ("GET", "/v2/endpoints"),
        ("GET", f"/v2/endpoints/{NOWHERE}"),
        ("DELETE", f"/v2/endpoints/{NOWHERE}"),
        ("GET", f"/v2/endpoints/{NOWHERE}/status"),
        ("GET", f"/v3/endpoints/{NOWHERE}/allowed_functions"),
        ("POST", f"/v2/endpoints/{NOWHERE}/lock"),
        ("POST", f"/v3/endpoints/{NOWHERE}/lock"),
        ("POST", f"/v3/endpoints/{NOWHERE}/submit"),
        ("POST", "/v3/functions"),
        ("GET", f"/v2/functions/{NOWHERE}"),
        ("DELETE", f"/v2/functions/{NOWHERE}"),
        ("GET", "/v2/get_amqp_result_connection_url"),
        ("GET", f"/v2/tasks/{NOWHERE}"),
        ("POST", "/v2/batch_status"),
        ("GET", f"/v2/taskgroup/{NOWHERE}"),
    ],
)
async def test_everything_else_does(rest: Rest, method: str, path: str) -> None:
    credentials = [
        {},
        bearer(""),
        bearer("wrong"),
        {"Authorization": TOKENS[ALICE]},
        basic(MANAGER_CLIENT, CLIENT_SECRET),
    ]
    for headers in credentials:
        answer = await rest.request(method, path, headers=headers, json={})
        assert answer.status == 401
        body = await answer.json()
        assert body["status"] == "Failed"
        assert body["http_status_code"] == 401
        assert body["code"] == 1
        assert "bearer token" in body["reason"]


async def register_function(rest: Rest, **fields: Any) -> str:
    """A function of Alice's."""
    answer = await rest.post("/v3/functions", headers=AS_ALICE, json={**FUNCTION, **fields})
    assert answer.status == 200
    return str((await answer.json())["function_uuid"])


async def test_a_function_is_its_owners_unless_it_is_public(rest: Rest) -> None:
    private, public = await register_function(rest), await register_function(rest, public=True)
    for function, headers, status in (
        (private, AS_ALICE, 200),
        (private, AS_BOB, 404),
        (public, AS_BOB, 200),
    ):
        assert (await rest.get(f"/v2/functions/{function}", headers=headers)).status == status
    assert (await rest.delete(f"/v2/functions/{public}", headers=AS_BOB)).status == 403
    assert (await rest.delete(f"/v2/functions/{public}", headers=AS_ALICE)).status == 200
    assert (await rest.get(f"/v2/functions/{public}", headers=AS_ALICE)).status == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/v3/functions", b"{", 400, "JSON"),
        ("/v3/functions", b"", 400, "JSON"),
        ("/v3/functions", b"\xff\xfe", 400, "JSON"),
        ("/v3/functions", b'{"function_name": "\\ud800", "function_code": "x"}', 400, "hex escape"),
        ("/v3/functions", b"[]", 422, "document"),
        ("/v3/functions", b'{"function_name": "f"}', 422, "function_code"),
        ("/v3/functions", b'{"function_name": 7, "function_code": "x"}', 422, "function_name"),
        ("/v3/endpoints", b'{"endpoint_name": ""}', 422, "endpoint_name"),
        ("/v3/endpoints", b'{"endpoint_name": "e", "metadata": []}', 422, "metadata"),
        ("/v3/endpoints", b'{"endpoint_name": "e", "high_assurance": true}', 422, "high_assurance"),
        (
            "/v3/endpoints",
            b'{"endpoint_name": "e", "authentication_policy": "7b1f2f6e-0000-4000-8000-000000000009"}',
            422,
            "authentication_policy",
        ),
        (f"/v3/endpoints/{NOWHERE}/submit", b'{"tasks": {}}', 422, "tasks"),
        (f"/v3/endpoints/{NOWHERE}/submit", b'{"tasks": {"x": ["y"]}}', 422, "tasks"),
        (f"/v3/endpoints/{NOWHERE}/submit", b'{"tasks": null}', 422, "tasks"),
        ("/v2/batch_status", b'{"task_ids": "x"}', 422, "task_ids"),
        ("/v3/endpoints/../submit", b"{}", 404, "submit"),
        ("/v3/endpoints/x/submit", b"{}", 400, "not a uuid"),
        ("/v2/nonsense", b"{}", 404, "nonsense"),
        ("/v2/version", b"{}", 405, "version"),
    ],
)
async def test_a_bad_request_is_told_what_is_wrong(
    rest: Rest, path: str, body: bytes, status: int, reason: str
) -> None:
    answer = await rest.post(path, headers=AS_ALICE, data=body)
    assert answer.status == status
    document = await answer.json()
    assert document["http_status_code"] == status
    assert reason in document["reason"]


async def test_arguments_that_are_too_long_are_refused_without_being_repeated(rest: Rest) -> None:
    body = {"tasks": {NOWHERE: ["A" * (MAX_PAYLOAD + 1)]}}
    answer = await rest.post(f"/v3/endpoints/{NOWHERE}/submit", headers=AS_ALICE, json=body)
    assert answer.status == 422
    assert "AAAA" not in await answer.text()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", f"/v3/endpoints/{NOWHERE}"),
        ("GET", f"/v2/endpoints/{NOWHERE}"),
        ("DELETE", f"/v2/endpoints/{NOWHERE}"),
        ("GET", f"/v2/endpoints/{NOWHERE}/status"),
        ("POST", f"/v3/endpoints/{NOWHERE}/lock"),
        ("POST", f"/v3/endpoints/{NOWHERE}/submit"),
        ("GET", f"/v2/functions/{NOWHERE}"),
        ("GET", f"/v2/tasks/{NOWHERE}"),
        ("GET", f"/v2/taskgroup/{NOWHERE}"),
    ],
)
async def test_what_there_is_not_is_named(rest: Rest, method: str, path: str) -> None:
    body = {"endpoint_name": "e", "tasks": {NOWHERE: ["1\na"]}}
    answer = await rest.request(method, path, headers=AS_ALICE, json=body)
    assert answer.status == 404
    assert NOWHERE in (await answer.json())["reason"]


async def test_nobody_sees_anothers_tasks_and_groups(rest: Rest, context: Context) -> None:
    group = context.tasks.new_group(IDENTITIES[ALICE])
    task = context.tasks.add(group, IDENTITIES[ALICE], NOWHERE, NOWHERE)
    for headers, status, seen in ((AS_ALICE, 200, [task]), (AS_BOB, 404, [])):
        assert (await rest.get(f"/v2/tasks/{task}", headers=headers)).status == status
        answer = await rest.post("/v2/batch_status", headers=headers, json={"task_ids": [task, NOWHERE]})
        assert list((await answer.json())["results"]) == seen
    assert (await rest.get(f"/v2/taskgroup/{group}", headers=AS_BOB)).status == 404


async def test_a_foreign_task_group_takes_no_tasks(rest: Rest, context: Context) -> None:
    function = await register_function(rest, public=True)
    endpoint = context.endpoints.register("manager", NOWHERE, {"endpoint_name": "mep", "multi_user": True})
    group = context.tasks.new_group(IDENTITIES[ALICE])
    body = {"tasks": {function: ["1\na"]}, "task_group_id": group}
    answer = await rest.post(f"/v3/endpoints/{endpoint.id}/submit", headers=AS_BOB, json=body)
    assert answer.status == 404
    assert group in (await answer.json())["reason"]


async def test_without_rabbitmq_a_submission_is_refused_and_not_recorded(rest: Rest, context: Context) -> None:
    endpoint = context.endpoints.register("manager", NOWHERE, {"endpoint_name": "mep", "multi_user": True})
    body = {"tasks": {await register_function(rest): ["1\na"]}}
    answer = await rest.post(f"/v3/endpoints/{endpoint.id}/submit", headers=AS_ALICE, json=body)
    assert answer.status == 503
    assert "RabbitMQ" in (await answer.json())["reason"]
    assert context.tasks.counts() == {}


@pytest.mark.parametrize("part", ["user_endpoint_config", "user_runtime"])
async def test_options_that_no_manager_endpoint_would_read_are_refused(rest: Rest, context: Context, part: str) -> None:
    """The manager endpoint would drop the command, and the user would wait."""
    endpoint = context.endpoints.register("manager", NOWHERE, {"endpoint_name": "mep", "multi_user": True})
    body = {"tasks": {await register_function(rest): ["1\na"]}, part: {"text": "x" * 2_000_000}}
    answer = await rest.post(f"/v3/endpoints/{endpoint.id}/submit", headers=AS_ALICE, json=body)
    assert answer.status == 413
    reason = (await answer.json())["reason"]
    assert "at most 524,288 are allowed" in reason
    assert "2,000," in reason
    assert context.tasks.counts() == {}


async def test_a_path_makes_no_line_of_its_own_in_the_log(
    rest: Rest, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    """Python reads a uuid from 31 digits and the end of a line."""
    found = "1"
    while not found.startswith("0"):
        found = context.endpoints.register("single", IDENTITIES[ALICE], {"endpoint_name": "e"}).id
    path = f"/v3/endpoints/%0a{found.replace('-', '')[1:]}/lock"
    answer = await rest.post(URL(path, encoded=True), headers=AS_ALICE)
    assert answer.status == 503
    [line] = [each.getMessage() for each in caplog.records if each.name == "twinlock_service.http_server.app"]
    assert "\n" not in line
