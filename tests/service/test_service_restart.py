"""What survives the service: nothing that runs, everything that was recorded."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import wait
from pathlib import Path

import pytest
from globus_compute_sdk import Executor
from service_rig import (
    ALICE,
    PORT,
    Manager,
    Service,
    UserEndpoint,
    free_port,
    manager,
    manager_clients,
    owner,
    sdk_client,
    users_file,
)
from twinlock_testbed.users import throw_away

pytestmark = pytest.mark.system


def give(value: int) -> int:
    """A user's function."""
    return value


def submit(mep: Manager, count: int) -> tuple[str, UserEndpoint]:
    """Tasks of Alice: their group, and the endpoint that has to run them."""
    client = sdk_client(ALICE)
    batch = client.create_batch(create_websocket_queue=True)
    function = client.register_function(give)
    for value in range(count):
        batch.add(function, (value,))
    group = client.batch_run(mep.id, batch)["task_group_id"]
    return str(group), mep.user_endpoint()


def reloaded(group: str) -> list[object]:
    """The results of a group as a new executor gets them."""
    with Executor(client=sdk_client(ALICE), task_group_id=group) as executor:
        futures = list(executor.reload_tasks())
        wait(futures, 30)
        return sorted(future.result(0) for future in futures)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_forgets_nothing(service: Service, end: signal.Signals) -> None:
    with manager() as mep:
        group, endpoint = submit(mep, 2)
        endpoint.run(endpoint.next_task()[1])
        before = dict(mep.credentials)
        assert service.processes()
        os.kill(service.daemon.pid, end)
        assert service.quiet(20)
    service.stop()
    service.start()
    again = manager_clients()[1].update_endpoint(mep.id, {"endpoint_name": "mep", "multi_user": True})
    assert dict(again.data) == before
    successor = UserEndpoint(endpoint.credentials)
    successor.run(successor.next_task()[1])
    assert reloaded(group) == [0, 1]
    successor.close()


def test_it_leaves_nothing_behind_and_exits_with_success(service: Service) -> None:
    children = service.processes()
    assert {owner(pid) for pid in children} == {Path("/var/lib/rabbitmq").stat().st_uid}
    assert service.stop() == 0
    assert service.quiet(1)
    service.start()


def test_a_second_service_on_the_same_state_is_refused(service: Service) -> None:
    argv = [
        "twinlock-service",
        "--port",
        "5999",
        "--state",
        str(service.state),
        "--users",
        f"{service.folder}/users.yaml",
    ]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=environment())
    assert second.returncode == os.EX_TEMPFAIL
    assert "in use by another twinlock-service" in second.stderr


def test_a_port_that_is_taken_is_named(service: Service, tmp_path: Path) -> None:
    argv = [
        "twinlock-service",
        "--port",
        str(PORT),
        "--state",
        str(tmp_path / "state"),
        "--users",
        f"{service.folder}/users.yaml",
    ]
    argv += ["--amqp", service.admin_url(), "--amqp-management", management_url(service)]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment())
    assert second.returncode == os.EX_UNAVAILABLE
    assert f"127.0.0.1:{PORT}" in second.stderr


def test_any_user_can_run_it(folder: Path) -> None:
    with throw_away("twl-runner") as account:
        home = folder / "runner"
        home.mkdir()
        users_file(home / "users.yaml")
        for path in (home, home / "users.yaml"):
            os.chown(path, account.pw_uid, account.pw_gid)
        service = Service(home, port=free_port(), user=account.pw_name)
        service.start()
        children = service.processes()
        assert {owner(pid) for pid in children} == {account.pw_uid}
        assert service.stop() == 0
        assert service.quiet(1)


def management_url(service: Service) -> str:
    """RabbitMQ's management API, as its administrator."""
    return str(json.loads((service.state / "amqp.json").read_text())["management_url"])


def environment() -> dict[str, str]:
    """Where the programs are."""
    return {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
