"""Submissions while the endpoint is being deleted: each is refused, or its tasks end."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest
from service_rig import ALICE, BOB, TOKENS, URL, Service, bearer

pytestmark = pytest.mark.system

ROUNDS, SUBMISSIONS = 8, 6
LIMIT = 180.0
"""Seconds for the tasks to end."""


class Caller:
    """A user's calls, and the tasks that were accepted."""

    def __init__(self, session: aiohttp.ClientSession, who: str) -> None:
        self._session = session
        self._headers = bearer(TOKENS[who])
        self.tasks: list[str] = []

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """The status of the answer, and its document."""
        async with self._session.request(method, URL + path, json=body, headers=self._headers) as answer:
            return answer.status, json.loads(await answer.read())

    async def submit(self, endpoint: str, function: str, number: int) -> int:
        """Submit a task, some moments after the others; the status of the answer."""
        await asyncio.sleep(number / 100)
        body = {"tasks": {function: ["x"]}, "user_endpoint_config": {"number": number}}
        status, answer = await self.call("POST", f"/v3/endpoints/{endpoint}/submit", body)
        self.tasks += answer["tasks"][function] if status == 200 else []
        return status

    async def waiting(self) -> list[str]:
        """Which of the tasks have not ended."""
        status, answer = await self.call("POST", "/v2/batch_status", {"task_ids": self.tasks})
        assert (status, set(answer["results"])) == (200, set(self.tasks))
        return [task for task, each in answer["results"].items() if each["status"] == "waiting-for-ep"]


async def delete(caller: Caller, endpoint: str) -> None:
    """Delete an endpoint; RabbitMQ may be busy with it for another request."""
    async with asyncio.timeout(LIMIT):
        while (await caller.call("DELETE", f"/v2/endpoints/{endpoint}"))[0] == 503:
            await asyncio.sleep(0.05)


@pytest.mark.thorough
async def test_no_task_waits_for_an_endpoint_that_is_gone(service: Service) -> None:
    async with aiohttp.ClientSession() as session:
        alice, bob = Caller(session, ALICE), Caller(session, BOB)
        function = {"function_name": "f", "function_code": "1\nf", "public": True}
        name = (await alice.call("POST", "/v3/functions", function))[1]["function_uuid"]
        for _ in range(ROUNDS):
            registration = {"endpoint_name": "e", "multi_user": True}
            endpoint = (await alice.call("POST", "/v3/endpoints", registration))[1]["endpoint_id"]
            submissions = [who.submit(endpoint, name, number) for number in range(SUBMISSIONS) for who in (alice, bob)]
            statuses = await asyncio.gather(*submissions, delete(alice, endpoint))
            assert set(statuses[:-1]) <= {200, 404, 503}
            await delete(alice, endpoint)
        end = time.monotonic() + LIMIT
        while await alice.waiting() or await bob.waiting():
            assert time.monotonic() < end, "tasks wait for an endpoint that was deleted"
            await asyncio.sleep(0.1)
