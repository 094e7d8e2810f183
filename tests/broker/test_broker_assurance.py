"""A high assurance endpoint from its start to its audit log: broker, spawner, user endpoint and RabbitMQ are real."""

import asyncio
import json
import os
import re
import sys
import time
import uuid
from pathlib import Path

import pika
import pytest
from broker_process import Broker, broker_place, exported, running_spawner
from broker_rabbit import Rabbit
from broker_rest import rest_service
from broker_rig import MANAGER, amqp_creds, identity, message
from endpoint_rig import task_body, value
from globus_compute_common import messagepack
from twinlock_testbed.users import throw_away

pytestmark = [
    pytest.mark.system,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an endpoint of another account is started"),
]

USER = "twl-assured"
TEMPLATE = "engine: {type: ThreadPoolEngine, max_workers: 1}\nheartbeat_period: 5\n"
METRICS = (
    "twinlock_audit_writable 1.0",
    "twinlock_mapping_valid 1.0",
    'twinlock_start_stage_seconds_count{stage="online"} 1.0',
    f'twinlock_tasks{{state="queued",user="{USER}"}} 0.0',
    f'twinlock_workers{{state="idle",user="{USER}"}} 1.0',
    "twinlock_task_queue_seconds_count 1.0",
    "twinlock_task_seconds_count 1.0",
)


def double(number: int) -> int:
    return number * 2


async def queues(rabbit: Rabbit, endpoint: str) -> dict[str, object]:
    """Queues of a user endpoint with a login of its own; its `amqp_creds`."""
    for name in ("tasks", "results"):
        await rabbit.management.queue(name)
    await rabbit.management.bind("ep", "results", "results")
    await rabbit.management.user("uep-user", "hush", read="^tasks$", write="^ep$")
    url = rabbit.url.replace("ep-user", "uep-user")
    results = amqp_creds(url, key="results")["result_queue_info"] | {"queue": "results"}
    return amqp_creds(url) | {"endpoint_id": endpoint, "result_queue_info": results}


async def test_each_task_stands_in_the_audit_log_with_its_account(rabbit: Rabbit) -> None:
    endpoint, task, function = (str(uuid.uuid4()) for _ in range(3))
    program = [str(Path(sys.executable).with_name("twinlock-endpoint"))]
    policy = {"broker_user": "nobody", "system_uids": [], "programs": {"endpoint": program}}
    with (
        throw_away(USER) as account,
        broker_place(USER, TEMPLATE) as place,
        rest_service(rabbit.url, MANAGER) as service,
        running_spawner(place, policy) as spawner,
    ):
        log = place / "state" / "audit.log"
        (place / "ep" / "config.yaml").write_text(
            f"identity_mapping_config_path: map.json\nhigh_assurance: true\naudit_log_path: {log}\n"
        )
        (place / "state").chmod(0o711)  # the way to the control socket
        async with Broker.running(place, spawner, service, program="endpoint") as broker:
            assert service.asked[0][2]["high_assurance"] is True
            creds = await queues(rabbit, endpoint)
            name = f"uep.{MANAGER}.{endpoint}"
            command = message(name=name, amqp_creds=creds, user_opts={}) | {"globus_identity_set": [identity()]}
            headers = {"task_uuid": task, "function_uuid": function}
            await rabbit.commands([json.dumps(command).encode()], [properties()])
            await asyncio.to_thread(put, rabbit.admin, task_body(task, double, 4), headers)
            assert value(messagepack.unpack(await asyncio.to_thread(take, rabbit.admin))) == 8
            async with asyncio.timeout(180):
                while "EXEC_END" not in log.read_text():
                    await asyncio.sleep(0.05)
                while await missing_metrics(place):
                    await asyncio.sleep(0.5)
            await broker.stop()
        lines = [line for line in log.read_text().splitlines() if f"tid={task}" in line]
    row = rf"\S+ uid={account.pw_uid} pid=\d+ uep={endpoint} fid={function} tid={task} bid= "
    assert [re.sub(row, "", line) for line in lines] == ["RECEIVED", "EXEC_START", "EXEC_END"]


async def missing_metrics(place: Path) -> set[str]:
    """Which of the lines that there should be the metrics don't have yet."""
    return set(METRICS).difference((await exported(place)).splitlines())


def properties() -> pika.BasicProperties:
    """A command's, of now."""
    return pika.BasicProperties(content_type="application/json", timestamp=round(time.time()), delivery_mode=2)


def put(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Publish a task."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().basic_publish("", "tasks", body, pika.BasicProperties(headers=headers))


def take(url: str) -> bytes:
    """The next result, awaited for five minutes at most."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        _, _, body = next(connection.channel().consume("results", auto_ack=True, inactivity_timeout=300))
        assert body is not None
        return bytes(body)
