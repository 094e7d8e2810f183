"""Registrations that RabbitMQ lets fail: they leave nothing behind."""

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from rest_rig import AS_ALICE
from service_rig import Rest
from twinlock_service.context import Context
from twinlock_service.rabbitmq.management import Management
from twinlock_service.rabbitmq.topology import Topology
from yarl import URL


class FullRabbitmq:
    """RabbitMQ's management API where users and exchanges can be made, and no queues."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.deleted: set[str] = set()

    async def serve(self, request: web.Request) -> web.Response:
        """Serve any call."""
        kind = request.path.split("/")[2]
        if request.method == "DELETE":
            self.deleted.add(request.path)
        elif kind == "queues":
            return web.Response(status=500, text="no room")
        elif kind in {"users", "exchanges"}:
            self.made.add(request.path)
        return web.Response(status=204)


async def register(rest: Rest) -> int:
    """Register an endpoint of Alice; the answer's status."""
    return (await rest.post("/v3/endpoints", headers=AS_ALICE, json={"endpoint_name": "e"})).status


async def listed(rest: Rest) -> object:
    """Alice's endpoints."""
    return await (await rest.get("/v2/endpoints", headers=AS_ALICE)).json()


async def test_without_rabbitmq_a_registration_is_refused_and_not_recorded(rest: Rest) -> None:
    """An agent tries again, and would have an endpoint more each time."""
    assert await register(rest) == 503
    assert await listed(rest) == []


async def test_what_was_made_in_rabbitmq_for_a_registration_that_failed_is_deleted(
    rest: Rest, context: Context
) -> None:
    rabbitmq = FullRabbitmq()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", rabbitmq.serve)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        login = URL(str(server.make_url("/"))).with_user("admin").with_password("hush")
        context.topology = Topology(Management(session, login, "v"), URL("amqp://127.0.0.1:1/v"))
        assert await register(rest) == 503
    assert len(rabbitmq.made) == 2, "a user and an exchange"
    assert rabbitmq.made <= rabbitmq.deleted
    assert await listed(rest) == []
