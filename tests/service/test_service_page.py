"""The page: who gets in, and what each sees there."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import yaml
from service_rig import ALICE, BOB, IDENTITIES, TOKENS, Rest, bearer, token_entry, users_file
from twinlock_service.context import Context
from twinlock_service.limits import chunks
from twinlock_service.page import status_page
from twinlock_service.request import bodies
from twinlock_service.state import tasks
from twinlock_service.users.directory import load_users

ROOT = "root@site.example"
ROOT_TOKEN = "a token of the service's administrator"  # of this test alone


@pytest.fixture
def context(context: Context, tmp_path: Path) -> Context:
    """A service's parts, with an administrator among the users, and something of Alice's and of Bob's."""
    file = users_file(tmp_path / "page.yaml")
    document = yaml.safe_load(file.read_text())
    root = {"id": str(uuid.uuid4()), "tokens": [token_entry(ROOT_TOKEN)], "administrator": True}
    file.write_text(yaml.safe_dump({**document, "users": {**document["users"], ROOT: root}}))
    context.users = load_users(file)
    for name in (ALICE, BOB):
        owner = IDENTITIES[name]
        endpoint = context.endpoints.register("single", owner, {"endpoint_name": f"of-{name}"})
        context.tasks.add(context.tasks.new_group(owner), owner, endpoint.id, str(uuid.uuid4()))
    return context


def things(context: Context, name: str) -> set[str]:
    """The uuids of what a user has, and the name."""
    endpoints = context.endpoints.owned_by(IDENTITIES[name])
    return {name, *endpoints, *(each.id for each in context.tasks.latest(9, IDENTITIES[name]))}


async def log_in(rest: Rest, token: str, **headers: str) -> Any:
    """The answer to the form."""
    return await rest.post("/login", data={"token": token}, headers=headers, allow_redirects=False)


async def page(rest: Rest, token: str = "") -> str:
    """The page as it is shown, with the token in the form first if there is one."""
    if token:
        assert (await log_in(rest, token)).status == 303
    return await (await rest.get("/")).text()


def session(answer: Any) -> str:
    """The cookie of a login, as a browser sends it."""
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


async def seen_with(rest: Rest, cookie: str) -> str:
    """The page as it is shown to a browser that has this cookie alone."""
    rest.session.cookie_jar.clear()
    return await (await rest.get("/", headers={"Cookie": cookie})).text()


async def test_a_stranger_sees_a_form_and_nothing_else(rest: Rest, context: Context) -> None:
    for path in ("/", f"/?token={TOKENS[ALICE]}"):
        answer = await rest.get(path)
        text = await answer.text()
        assert answer.status == 401
        assert '<form method="post" action="/login">' in text
        assert not [each for each in things(context, ALICE) | things(context, BOB) if each in text]


async def test_a_person_sees_their_own_things_only(rest: Rest, context: Context) -> None:
    text = await page(rest, TOKENS[ALICE])
    assert all(each in text for each in things(context, ALICE))
    assert not [each for each in things(context, BOB) if each in text]
    assert ROOT not in text


async def test_an_administrator_sees_everything(rest: Rest, context: Context) -> None:
    text = await page(rest, ROOT_TOKEN)
    assert all(each in text for each in things(context, ALICE) | things(context, BOB))


async def test_a_program_may_send_a_token_as_to_any_call(rest: Rest, context: Context) -> None:
    answer = await rest.get("/", headers=bearer(TOKENS[BOB]))
    assert answer.status == 200
    text = await answer.text()
    assert all(each in text for each in things(context, BOB))
    assert not [each for each in things(context, ALICE) if each in text]
    assert (await rest.get("/", headers=bearer("wrong"))).status == 401


async def test_the_cookie_is_for_the_browser_and_this_site_alone(rest: Rest) -> None:
    answer = await log_in(rest, TOKENS[ALICE])
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    [cookie] = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert cookie["httponly"]
    assert (cookie["samesite"], cookie["path"]) == ("Strict", "/")
    assert 0 < int(cookie["max-age"]) <= 24 * 3600
    assert TOKENS[ALICE] not in answer.headers["Set-Cookie"]


async def test_the_cookie_opens_no_other_call(rest: Rest) -> None:
    await log_in(rest, TOKENS[ALICE])
    for method, path in (("GET", "/v2/endpoints"), ("POST", "/v3/functions"), ("GET", "/v2/oauth2/userinfo")):
        assert (await rest.request(method, path)).status == 401


async def test_pages_are_neither_kept_nor_framed(rest: Rest) -> None:
    await log_in(rest, TOKENS[ALICE])
    for path in ("/", "/logout"):
        answer = await rest.request("GET" if path == "/" else "POST", path, allow_redirects=False)
        assert answer.headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_the_style_comes_from_the_service_and_nothing_is_inline(rest: Rest, context: Context) -> None:
    style = await rest.get("/style.css")
    assert (style.status, style.content_type) == (200, "text/css")
    form = await (await rest.get("/")).text()
    for text in (form, await page(rest, TOKENS[ALICE])):
        assert '<link rel="stylesheet" href="/style.css">' in text
        assert not re.search(r"<style|<script| style=", text)
    assert "unsafe-inline" not in (await rest.get("/")).headers["Content-Security-Policy"]


async def test_a_token_that_is_no_good_is_told_what_to_do(rest: Rest, context: Context, tmp_path: Path) -> None:
    wrong = await log_in(rest, "<b>wrong</b>")
    assert wrong.status == 401
    assert "Set-Cookie" not in wrong.headers
    text = await wrong.text()
    assert "twinlock-service user token NAME" in text
    assert "<b>" not in text
    file = users_file(tmp_path / "expired.yaml", users={ALICE: expired(TOKENS[ALICE])})
    context.users = load_users(file)
    assert "expired on 20" in await (await log_in(rest, TOKENS[ALICE])).text()


def expired(token: str) -> dict[str, Any]:
    """A user whose token expired."""
    return {"id": IDENTITIES[ALICE], "tokens": [token_entry(token, days=-1)]}


async def test_a_form_of_another_site_does_nothing(rest: Rest) -> None:
    here = f"http://{rest.host}:{rest.port}"
    foreign = (
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": f"http://{rest.host}:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": here, "Sec-Fetch-Site": "same-site"},
    )
    for headers in foreign:
        answer = await log_in(rest, TOKENS[ALICE], **headers)
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers
    assert (await log_in(rest, TOKENS[ALICE], Origin=here, **{"Sec-Fetch-Site": "same-origin"})).status == 303
    for headers in foreign:
        assert (await rest.post("/logout", headers=headers)).status == 403
    assert ALICE in await page(rest)


async def test_a_form_that_is_too_large_is_refused(rest: Rest) -> None:
    assert (await log_in(rest, "x" * 100_000)).status == 413


async def test_a_form_comes_as_browsers_send_it_or_not_at_all(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    form = "application/x-www-form-urlencoded"
    for kind in (form, f"{form}; charset=none", "multipart/form-data", "multipart/form-data; boundary=b"):
        answer = await rest.post("/login", data=b"token=\xff", headers={"Content-Type": kind})
        assert answer.status == 400, kind

    async def endless() -> AsyncIterator[bytes]:
        yield b"token="
        await asyncio.sleep(60)

    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    assert (await rest.post("/login", data=endless())).status == 408


@pytest.mark.parametrize("origin", ["http://[", "null", "//", "http://localhost:1/"])
async def test_an_origin_that_is_none_is_foreign(rest: Rest, origin: str) -> None:
    assert (await log_in(rest, TOKENS[ALICE], Origin=origin)).status == 403


async def test_the_page_of_one_with_large_endpoints_holds_up_nobody(
    rest: Rest, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While hers is made, others are served; hers are made a few at a time."""
    monkeypatch.setattr(chunks, "SLICE", 0.0)
    registration = {"endpoint_name": "e", "metadata": {"a": ["x"] * 10_000}}
    for _ in range(100):
        context.endpoints.register("single", IDENTITIES[ALICE], registration)
    pages = [asyncio.create_task(rest.get("/", headers=bearer(TOKENS[ALICE]))) for _ in range(20)]
    for _ in range(3):
        assert (await rest.get("/v2/version")).status == 200
    assert not all(each.done() for each in pages)
    for each in pages:
        assert (await (await each).text()).count(">single</td>") == 101


async def test_tasks_are_counted_up_to_a_number(rest: Rest, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (status_page, tasks):
        monkeypatch.setattr(module, "COUNTED", 3)
    group = context.tasks.new_group(IDENTITIES[ALICE])
    for _ in range(5):
        context.tasks.add(group, IDENTITIES[ALICE], "e", "f")
    assert "waiting-for-ep: 3 of the newest 3" in await page(rest, TOKENS[ALICE])


async def test_logging_out_ends_the_session_not_only_the_cookie(rest: Rest) -> None:
    cookie = session(await log_in(rest, TOKENS[ALICE]))
    assert ALICE in await seen_with(rest, cookie)
    answer = await rest.post("/logout", headers={"Cookie": cookie}, allow_redirects=False)
    assert answer.status == 303
    assert session(answer) == 'twinlock-session=""'
    assert ALICE not in await seen_with(rest, cookie)


async def test_a_session_ends_with_its_token(rest: Rest, context: Context, tmp_path: Path) -> None:
    assert ALICE in await page(rest, TOKENS[ALICE])
    before = context.users
    for file in (
        users_file(tmp_path / "revoked.yaml", users={ALICE: {"id": IDENTITIES[ALICE]}}),
        users_file(tmp_path / "expired.yaml", users={ALICE: expired(TOKENS[ALICE])}),
        users_file(tmp_path / "removed.yaml", users={}),
    ):
        context.users = load_users(file)
        assert ALICE not in await page(rest)
        context.users = before
        assert ALICE in await page(rest)


async def test_a_session_ends_after_some_hours(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    await log_in(rest, TOKENS[ALICE])
    monotonic = time.monotonic
    monkeypatch.setattr("twinlock_service.page.sessions.time.monotonic", lambda: monotonic() + 7 * 3600)
    assert ALICE in await page(rest)
    monkeypatch.setattr("twinlock_service.page.sessions.time.monotonic", lambda: monotonic() + 9 * 3600)
    assert ALICE not in await page(rest)


async def test_ones_many_logins_end_nobody_elses_session(rest: Rest) -> None:
    of_alice = session(await log_in(rest, TOKENS[ALICE]))
    of_bob = [session(await log_in(rest, TOKENS[BOB])) for _ in range(30)]
    assert ALICE in await seen_with(rest, of_alice)
    assert BOB in await seen_with(rest, of_bob[-1])
    assert BOB not in await seen_with(rest, of_bob[0])


async def test_what_users_chose_is_escaped(rest: Rest, context: Context) -> None:
    context.endpoints.register("manager", IDENTITIES[ALICE], {"endpoint_name": "<script>alert(1)</script>"})
    for token in (TOKENS[ALICE], ROOT_TOKEN):
        text = await page(rest, token)
        assert "&lt;script&gt;" in text
        assert "<script>" not in text


@pytest.fixture
def lookalike(context: Context) -> str:
    """An endpoint of Bob's that looks like Alice's and names her as its admin."""
    registration = {"endpoint_name": f"of-{ALICE}", "admins": [IDENTITIES[ALICE]]}
    return context.endpoints.register("single", IDENTITIES[BOB], registration).id


@pytest.mark.parametrize("query", ["", "?role=owner", "?role=any"])
async def test_being_named_as_an_admin_puts_nothing_in_ones_list(rest: Rest, lookalike: str, query: str) -> None:
    for name, listed in ((ALICE, False), (BOB, True)):
        found = await (await rest.get(f"/v2/endpoints{query}", headers=bearer(TOKENS[name]))).json()
        assert (lookalike in [each["uuid"] for each in found]) is listed


async def test_the_page_has_endpoints_of_others_under_their_owners_names(rest: Rest, lookalike: str) -> None:
    own, _, others = (await page(rest, TOKENS[ALICE])).partition("Endpoints of others")
    assert lookalike not in own
    assert lookalike in others
    assert BOB in others


async def test_an_admin_may_manage_an_endpoint_and_not_run_tasks_as_its_owner(rest: Rest, lookalike: str) -> None:
    headers = bearer(TOKENS[ALICE])
    shown = await (await rest.get(f"/v2/endpoints/{lookalike}", headers=headers)).json()
    assert shown["owner"] == IDENTITIES[BOB]
    function = {"function_name": "f", "function_code": "1\nf"}
    made = await (await rest.post("/v3/functions", headers=headers, json=function)).json()
    body = {"tasks": {made["function_uuid"]: ["1\na"]}}
    refused = await rest.post(f"/v3/endpoints/{lookalike}/submit", headers=headers, json=body)
    assert refused.status == 403
    assert "belongs to somebody else" in (await refused.json())["reason"]


async def test_a_public_endpoint_is_found_by_all_who_look_for_any(rest: Rest, context: Context) -> None:
    fields = {"endpoint_name": "open", "multi_user": True, "public": True}
    public = context.endpoints.register("manager", IDENTITIES[BOB], fields).id
    for query, listed in (("", False), ("?role=owner", False), ("?role=any", True)):
        found = await (await rest.get(f"/v2/endpoints{query}", headers=bearer(TOKENS[ALICE]))).json()
        assert (public in [each["uuid"] for each in found]) is listed
