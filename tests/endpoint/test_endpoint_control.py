"""The connection to the manager endpoint, whose place the test takes: audit, figures, fresh credentials."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from endpoint_rig import Broker, Queues, Running, limited, until, value
from endpoint_tasks import double
from manager_socket import ManagerSocket, states
from twinlock_service.rabbitmq.management import Management
from twinlock_service.rabbitmq.node_files import VHOST

pytestmark = pytest.mark.system

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\nheartbeat_period: 5\n"
LOCAL = """
engine: {type: GlobusComputeEngine, max_workers_per_node: 1, provider: {type: LocalProvider, max_blocks: 1}}
heartbeat_period: 5
"""


def wait_for(path: str) -> str:
    import pathlib
    import time

    pathlib.Path(path + ".began").touch()
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return "done"


def test_no_audited_task_runs_before_its_record_is_written(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(THREADS, control=str(manager.path), audited=True)
    manager.accept()
    task = queues.submit(double, 4)
    first = manager.receive("audit")
    assert states(first) == ["RECEIVED", "EXEC_START"]
    assert all(f"tid={task} " in record for record in first["records"])
    manager.send({"type": "unaudited", "number": first["number"]})
    assert manager.receive("audit") == first, "it is asked for again, and the task waits"
    assert task not in queues.results
    manager.send({"type": "audited", "number": first["number"]})
    assert value(queues.result(task)) == 8
    assert states(manager.receive("audit")) == ["EXEC_END"]


def test_records_that_a_lost_connection_took_come_again(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(THREADS, control=str(manager.path), audited=True)
    manager.accept()
    task = queues.submit(double, 5)
    first = manager.receive("audit")
    manager.hang_up()
    manager.accept()
    assert manager.receive("audit") == first
    manager.send({"type": "audited", "number": first["number"]})
    assert value(queues.result(task)) == 10


def test_a_function_that_isnt_allowed_is_audited_too(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(THREADS, control=str(manager.path), audited=True, allowed_functions=[str(uuid.uuid4())])
    manager.accept()
    queues.submit(double, 4)
    assert states(manager.receive("audit")) == ["RECEIVED", "FAILED - Function not permitted on endpoint"]


def begin(manager: ManagerSocket, queues: Queues, home: Path) -> str:
    """An audited task that has begun."""
    task = queues.submit(wait_for, str(home / "go"))
    manager.confirm_start()
    until((home / "go.began").exists)
    return task


def test_tasks_of_an_engine_that_breaks_have_an_end_in_the_audit(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, home: Path
) -> None:
    running = endpoint(LOCAL, control=str(manager.path), audited=True)
    manager.accept()
    begin(manager, queues, home)
    for zygote in running.parts("zygote"):
        with suppress(psutil.NoSuchProcess):  # a fork of it that ended with it
            zygote.kill()
    assert states(manager.receive("audit")) == ["FAILED - The engine can't run tasks any more"]
    queues.submit(double, 4)
    manager.confirm_start()
    assert states(manager.receive("audit")) == ["FAILED - The engine can't run tasks any more"]


def test_a_task_that_the_endpoints_end_interrupts_has_an_end_in_the_audit(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, home: Path
) -> None:
    running = endpoint(THREADS, control=str(manager.path), audited=True)
    manager.accept()
    begin(manager, queues, home)
    running.signal()
    assert states(manager.receive("audit")) == ["FAILED - The endpoint was shut down"]


def test_tasks_that_a_full_disk_doesnt_take_are_audited_too(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    running = endpoint(THREADS, control=str(manager.path), audited=True)
    manager.accept()
    manager.receive("journal")
    with limited(running.pid, "fsize", 0):
        task = queues.submit(double, 4)
        assert states(manager.receive("audit")) == ["RECEIVED", "FAILED - It can't be noted on disk"]
        assert "can't note the task on disk" in queues.result(task).data
    task = queues.submit(double, 4)
    begun = manager.receive("audit")
    with limited(running.pid, "fsize", 0):
        manager.send({"type": "audited", "number": begun["number"]})
        assert states(manager.receive("audit")) == ["FAILED - It can't be noted on disk"]
        assert "can't note the task on disk" in queues.result(task).data


def test_the_manager_hears_the_engines_figures(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(THREADS, control=str(manager.path))
    manager.accept()
    while "total_workers" not in (message := manager.receive("figures"))["figures"]:
        continue
    assert message["figures"]["total_workers"] == 1
    own = {"type", "figures", "condition", "jobs", "histograms", "reports"}
    assert message.keys() == own, "who has signed is for verified mode"


def test_the_manager_hears_what_the_journal_has(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, home: Path
) -> None:
    running = endpoint(THREADS, control=str(manager.path))
    manager.accept()
    assert manager.receive("journal")["tasks"] == 0
    tasks = [queues.submit(wait_for, str(home / "go")) for _ in range(3)]
    while manager.receive("journal")["tasks"] < 1:
        pass
    (home / "go").touch()
    assert [value(queues.result(task)) for task in tasks] == ["done"] * 3
    while manager.receive("journal")["tasks"] > 0:
        pass
    running.signal()


def test_what_the_manager_ends_no_other_endpoint_goes_on_with(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, home: Path
) -> None:
    running = endpoint(THREADS, control=str(manager.path))
    manager.accept()
    tasks = [queues.submit(wait_for, str(home / "go")) for _ in range(3)]
    until(lambda: (home / "go.began").exists() and queues.figures()["outstanding_tasks"] == 3)
    manager.send({"type": "end", "reason": "the administrator stopped it"})
    first, *others = [queues.result(task).data for task in tasks]
    assert "The endpoint was shut down (the administrator stopped it), while it had this task" in first
    assert all("was shut down (the administrator stopped it) before that" in text for text in others)
    assert running.end().code == 0
    assert "0 tasks stay in the journal" in running.log()


@pytest.mark.parametrize("message", [{"type": "dance"}, [], {"type": "credentials", "amqp_creds": {"x": 1}}])
def test_what_the_manager_cant_mean_ends_the_connection_and_nothing_else(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, message: object
) -> None:
    endpoint(THREADS, control=str(manager.path))
    manager.accept()
    manager.send(message)
    manager.accept()
    assert value(queues.result(queues.submit(double, 6))) == 12


def test_without_a_manager_the_endpoint_works(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(THREADS, control="/nonexistent/control.sock")
    assert value(queues.result(queues.submit(double, 7))) == 14
    until(lambda: "No manager endpoint: [Errno 2]" in running.log())


def manage(broker: Broker, call: Callable[[Management], Awaitable[None]]) -> None:
    """Make a call of RabbitMQ's management API."""

    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            await call(Management(session, broker.node.management_url, VHOST))

    asyncio.run(work())


def test_fresh_credentials_take_over_when_the_old_ones_are_refused(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, broker: Broker
) -> None:
    old, new = (f"login-{uuid.uuid4()}" for _ in range(2))
    manage(broker, lambda management: management.user(old, "hush", read=".*", write=".*"))
    running = endpoint(THREADS, amqp_creds=creds(queues, broker, old), control=str(manager.path))
    manager.accept()
    assert value(queues.result(queues.submit(double, 8))) == 16
    manage(broker, lambda management: management.user(new, "hush", read=".*", write=".*"))
    manager.send({"type": "credentials", "amqp_creds": creds(queues, broker, new)})
    until(lambda: "fresh credentials" in running.log())
    manage(broker, lambda management: management.delete_user(old))
    assert value(queues.result(queues.submit(double, 9))) == 18
    manage(broker, lambda management: management.delete_user(new))


def creds(queues: Queues, broker: Broker, user: str) -> dict[str, Any]:
    """The endpoint's credentials, for another login."""
    url = str(broker.node.url.with_user(user).with_password("hush"))
    text = json.dumps(queues.creds()).replace(broker.endpoint_url, url)
    found: dict[str, Any] = json.loads(text)
    return found
