"""The token and userinfo calls of Globus Auth, as far as the service has them."""

from typing import Any

import pytest
from rest_rig import AS_ALICE, NOWHERE, basic
from service_rig import ALICE, CLIENT_SECRET, IDENTITIES, MANAGER_CLIENT, TOKENS, Rest, bearer

COMPUTE_SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
PROJECTS_SCOPE = "urn:globus:auth:scope:auth.globus.org:manage_projects"


async def log_in(rest: Rest, scope: str) -> dict[str, Any]:
    """The answer to a client's token call."""
    form = {"grant_type": "client_credentials", "scope": scope}
    answer = await rest.post("/v2/oauth2/token", data=form, headers=basic(MANAGER_CLIENT, CLIENT_SECRET))
    assert answer.status == 200
    return dict(await answer.json())


async def test_the_scheme_may_be_written_in_any_case(rest: Rest) -> None:
    """So RFC 9110, section 11.1, has it."""
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {TOKENS[ALICE]}"}
        assert (await rest.get("/v2/endpoints", headers=headers)).status == 200
    client = {"Authorization": basic(MANAGER_CLIENT, CLIENT_SECRET)["Authorization"].replace("Basic", "basic")}
    form = {"grant_type": "client_credentials", "scope": COMPUTE_SCOPE}
    assert (await rest.post("/v2/oauth2/token", data=form, headers=client)).status == 200


async def test_a_token_for_each_resource_server_that_was_asked_for(rest: Rest) -> None:
    one = await log_in(rest, COMPUTE_SCOPE)
    assert (one["resource_server"], one["scope"], one["other_tokens"]) == ("funcx_service", COMPUTE_SCOPE, [])
    both = await log_in(rest, f"openid {COMPUTE_SCOPE}[{PROJECTS_SCOPE} *urn:x:y[z]] {PROJECTS_SCOPE}")
    by_server = {each["resource_server"]: each for each in (both, *both["other_tokens"])}
    assert by_server["funcx_service"]["scope"] == COMPUTE_SCOPE
    assert by_server["auth.globus.org"]["scope"] == f"openid {PROJECTS_SCOPE}"
    assert by_server["funcx_service"]["access_token"] != by_server["auth.globus.org"]["access_token"]
    assert both["token_type"] == "Bearer"
    assert both["expires_in"] > 3600


async def test_a_token_is_good_for_its_resource_server_only(rest: Rest) -> None:
    compute = (await log_in(rest, COMPUTE_SCOPE))["access_token"]
    auth = (await log_in(rest, "openid"))["access_token"]
    for token, path, status in (
        (compute, "/v2/endpoints", 200),
        (compute, "/v2/oauth2/userinfo", 401),
        (auth, "/v2/endpoints", 401),
        (auth, "/v2/oauth2/userinfo", 200),
    ):
        assert (await rest.get(path, headers=bearer(token))).status == status


async def test_userinfo_says_who_it_is(rest: Rest) -> None:
    token = (await log_in(rest, "openid"))["access_token"]
    client = await (await rest.get("/v2/oauth2/userinfo", headers=bearer(token))).json()
    assert client["sub"] == MANAGER_CLIENT
    assert client["preferred_username"] == f"{MANAGER_CLIENT}@clients.auth.globus.org"
    assert [each["sub"] for each in client["identity_set"]] == [MANAGER_CLIENT]
    alice = await (await rest.get("/v2/oauth2/userinfo", headers=AS_ALICE)).json()
    assert (alice["sub"], alice["preferred_username"]) == (IDENTITIES[ALICE], ALICE)


@pytest.mark.parametrize(
    ("headers", "form", "error"),
    [
        (basic(MANAGER_CLIENT, "wrong"), {}, "invalid_client"),
        (basic(NOWHERE, CLIENT_SECRET), {}, "invalid_client"),
        ({"Authorization": "Basic ???"}, {}, "invalid_client"),
        ({}, {}, "invalid_client"),
        (basic(MANAGER_CLIENT, CLIENT_SECRET), {"grant_type": "password"}, "unsupported_grant_type"),
        (
            basic(MANAGER_CLIENT, CLIENT_SECRET),
            {"scope": "urn:globus:auth:scope:transfer.api.globus.org:all"},
            "invalid_scope",
        ),
    ],
)
async def test_a_refused_token_call_says_why(
    rest: Rest, headers: dict[str, str], form: dict[str, str], error: str
) -> None:
    body = {"grant_type": "client_credentials", "scope": COMPUTE_SCOPE, **form}
    answer = await rest.post("/v2/oauth2/token", data=body, headers=headers)
    assert answer.status == (401 if error == "invalid_client" else 400)
    assert (await answer.json())["error"] == error
