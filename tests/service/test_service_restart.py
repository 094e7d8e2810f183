"""What survives the service: nothing that runs, everything that was recorded."""

import json
import os
import pwd
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path

import pytest
from globus_compute_sdk import Executor
from rabbit_control import cut_user
from service_rig import (
    ALICE,
    PORT,
    TOKENS,
    Manager,
    Service,
    UserEndpoint,
    bearer,
    end_sdk,
    free_port,
    manager,
    manager_clients,
    sdk_client,
    users_file,
)
from service_rig import URL as SERVICE_URL
from site_rig import eventually
from twinlock_testbed.users import throw_away
from yarl import URL

pytestmark = [pytest.mark.system, pytest.mark.thorough]


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
        wait(futures, 180)
    end_sdk()
    return sorted(future.result(0) for future in futures)


@pytest.mark.cases(1)
@pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_restart_forgets_nothing_and_leaves_nothing_behind(running: Service, end: signal.Signals, code: int) -> None:
    with manager() as mep:
        group, endpoint = submit(mep, 2)
        endpoint.run(endpoint.next_task()[1])
        assert running.owners() == {pwd.getpwnam("rabbitmq").pw_uid}
        os.kill(running.daemon.pid, end)
        assert running.quiet(180)
    assert running.stop() == code
    running.start()
    again = manager_clients()[1].update_endpoint(mep.id, {"endpoint_name": "mep", "multi_user": True})
    assert dict(again.data) == mep.credentials
    successor = UserEndpoint(endpoint.credentials)
    successor.run(successor.next_task()[1])
    assert reloaded(group) == [0, 1]
    successor.close()


def test_a_node_takes_a_new_login_where_the_former_is_damaged(running: Service) -> None:
    with manager() as mep:
        group, endpoint = submit(mep, 1)
        endpoint.close()
        running.stop()
        for name in ("definitions.json", "processes.json"):
            (running.state / "rabbitmq" / name).write_text("")
        running.start()
        successor = UserEndpoint(endpoint.credentials)
        successor.run(successor.next_task()[1])
        assert reloaded(group) == [0]
        successor.close()


def test_it_can_be_stopped_while_it_starts(running: Service) -> None:
    running.stop()
    running.launch()
    running.daemon.wait_for_line("starting a private RabbitMQ node", 180)
    assert eventually(lambda: bool(running.processes()), 180)
    assert running.stop() == 0
    assert running.quiet(180)


def test_it_ends_when_its_rabbitmq_does(running: Service) -> None:
    for pid in running.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not running.daemon.alive(), 180)
    assert running.stop() == os.EX_UNAVAILABLE
    assert "ended by itself" in running.daemon.output()
    assert running.quiet(180)


def test_it_connects_again_when_its_connection_breaks(running: Service) -> None:
    with manager() as mep:
        group, endpoint = submit(mep, 1)
        break_connections(running)
        _, task = endpoint.next_task()
        endpoint.run(task)
        assert reloaded(group) == [0]
        endpoint.close()


def test_a_submission_waits_until_it_has_connected_again(running: Service) -> None:
    """It is refused at once otherwise. The SDK would ask some more times, but doesn't do so here."""

    def see(text: str, act: Callable[[], None]) -> None:
        """Do something, and wait until the service says this once more."""
        before = running.daemon.output().count(text)
        act()
        assert eventually(lambda: running.daemon.output().count(text) > before, 180)

    def lose_connection() -> None:
        see("connecting again", lambda: break_connections(running))

    with manager() as mep:
        function = sdk_client(ALICE).register_function(give)
        for _ in range(2):  # each time it waits longer before it connects again
            see("connected to RabbitMQ", lose_connection)
        lose_connection()
        assert posted(f"/v3/endpoints/{mep.id}/submit", {"tasks": {function: ["1"]}}) == 200
        endpoint = mep.user_endpoint()
        endpoint.next_task()
        endpoint.close()


def posted(path: str, body: object) -> int:
    """The status of the answer to a request of Alice's, which is made once."""
    headers = {**bearer(TOKENS[ALICE]), "Content-Type": "application/json"}
    request = urllib.request.Request(SERVICE_URL + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=180) as answer:
        return int(answer.status)


def break_connections(running: Service) -> None:
    """Closes what connections the administrator has: the service's."""
    url = running.urls()["management_url"]
    cut_user(url, str(URL(url).user))


def test_a_second_service_on_the_same_state_is_refused(running: Service) -> None:
    argv = [
        "twinlock-service",
        "--port",
        str(free_port()),
        "--state",
        str(running.state),
        "--users",
        f"{running.folder}/users.yaml",
    ]
    login = running.state / "amqp.json"
    before = login.stat().st_mtime_ns, login.read_bytes()
    second = subprocess.run(argv, capture_output=True, text=True, timeout=180, env=environment())
    assert second.returncode == os.EX_TEMPFAIL
    assert f"{running.state} is in use by another twinlock-service; " in second.stderr
    assert (second.stdout, second.stderr.count("\n")) == ("", 1)
    assert (login.stat().st_mtime_ns, login.read_bytes()) == before
    with manager() as mep:
        submit(mep, 1)[1].close()


def without_login(url: URL) -> str:
    return str(url.with_user(None))


def test_a_port_that_is_taken_is_named(running: Service, tmp_path: Path) -> None:
    amqp, management = (URL(running.urls()[name]) for name in ("url", "management_url"))
    argv = [
        "twinlock-service",
        "--port",
        str(PORT),
        "--state",
        str(tmp_path / "state"),
        "--users",
        str(users_file(tmp_path / "users.yaml", rabbitmq={"user": amqp.user, "password": amqp.password})),
    ]
    argv += ["--amqp", without_login(amqp), "--amqp-management", without_login(management)]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=180, env=environment())
    assert second.returncode == os.EX_UNAVAILABLE
    assert f"127.0.0.1:{PORT}" in second.stderr


def test_any_user_can_run_it(folder: Path) -> None:
    with throw_away(f"twl-runner{os.getpid()}") as account:
        home = folder / "runner"
        home.mkdir()
        users_file(home / "users.yaml")
        for path in (home, home / "users.yaml"):
            os.chown(path, account.pw_uid, account.pw_gid)
        service = Service(home, port=free_port(), user=account.pw_name)
        service.start()
        assert service.owners() == {account.pw_uid}
        assert service.stop() == 0
        assert service.quiet(180)


def environment() -> dict[str, str]:
    """Where the programs are."""
    return {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
