"""A running service follows its users file: who is let in, and whose connections to RabbitMQ end."""

import secrets
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
import pytest
import yaml
from globus_compute_sdk import Client, Executor
from globus_sdk import AccessTokenAuthorizer, ComputeClientV3, GlobusAPIError
from pika.exceptions import AMQPError
from service_rig import (
    ALICE,
    URL,
    Manager,
    Service,
    UserEndpoint,
    end_sdk,
    sdk_client,
    sdk_with,
    token_entry,
    without_heartbeats,
)
from site_rig import eventually

pytestmark = pytest.mark.system

LIMIT = 180.0
"""Seconds for a change to be in force; it takes one or two."""


def give(value: int) -> int:
    """A user's function."""
    return value


class Person:
    """Somebody who was added while the service ran."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.name = f"{uuid.uuid4()}@site.example"
        self.token = self.change("add")

    def change(self, command: str, *words: str) -> str:
        """Runs a command of `twinlock-service user`; gives what it prints."""
        argv = [sys.executable, "-m", "twinlock_service", "user", command, self.name, *words]
        file = self._service.folder / "users.yaml"
        done = subprocess.run([*argv, "--users", file], capture_output=True, text=True, timeout=180, check=True)
        return done.stdout.strip()

    def client(self) -> Client:
        """The official SDK with this person's token, as soon as the service knows it."""
        assert eventually(lambda: lets_in(self.token), LIMIT)
        return sdk_with(self.token)


@pytest.fixture
def person(running: Service) -> Person:
    """A new user."""
    return Person(running)


def lets_in(token: str) -> bool:
    """Whether the service takes a token."""
    try:
        sdk_with(token).get_endpoints()
    except GlobusAPIError as error:
        if error.http_status != 401:
            raise
        return False
    return True


def is_open(connection: pika.BlockingConnection) -> bool:
    """Whether RabbitMQ hasn't closed a connection."""
    try:
        connection.process_data_events(0)
    except AMQPError:
        return False
    return bool(connection.is_open)


@contextmanager
def reading_results(client: Client) -> Iterator[pika.BlockingConnection]:
    """A connection as the SDK makes it for results."""
    connection = pika.BlockingConnection(without_heartbeats(client.get_result_amqp_url()["connection_url"]))
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


def refuses(url: str) -> bool:
    """Whether RabbitMQ refuses the login in a URL."""
    try:
        pika.BlockingConnection(pika.URLParameters(url)).close()
    except AMQPError:
        return True
    return False


def test_a_new_user_is_let_in_and_their_tasks_run(person: Person, mep: Manager) -> None:
    client = person.client()
    task = client.run(7, endpoint_id=mep.id, function_id=client.register_function(give))
    endpoint = mep.user_endpoint()
    endpoint.run(endpoint.next_task()[1])
    assert eventually(lambda: not client.get_task(task)["pending"], LIMIT)
    assert client.get_result(task) == 7
    endpoint.close()


def test_revoking_a_token_ends_its_connections_and_no_others(person: Person) -> None:
    first = person.client()
    further = person.change("token")
    assert eventually(lambda: lets_in(further), LIMIT)
    with (
        reading_results(first) as connection,
        reading_results(sdk_with(further)) as same_person,
        reading_results(sdk_client(ALICE)) as somebody_else,
    ):
        url = first.get_result_amqp_url()["connection_url"]
        person.change("revoke", id_of(person.token))
        assert eventually(lambda: not is_open(connection), LIMIT)
        assert refuses(url)
        assert not lets_in(person.token)
        assert is_open(same_person)
        assert is_open(somebody_else)
        person.change("revoke")
        assert eventually(lambda: not is_open(same_person), LIMIT)
        assert is_open(somebody_else)


def test_an_expired_token_says_what_to_do_next(running: Service, person: Person, mep: Manager) -> None:
    client = person.client()
    function = client.register_function(give)
    with reading_results(client) as connection:
        replace_tokens(running, person, token_entry(person.token, days=-1))
        assert eventually(lambda: not is_open(connection), LIMIT)
    with pytest.raises(GlobusAPIError, match=rf"expired on .* UTC.*`twinlock-service user token {person.name}`"):
        client.run(1, endpoint_id=mep.id, function_id=function)
    executor = Executor(endpoint_id=mep.id, client=client)
    try:
        future = executor.submit_to_registered_function(function, (1,))
        assert "twinlock-service user token" in str(future.exception(LIMIT))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        end_sdk()


def test_a_token_expires_without_a_change_of_the_file(running: Service, person: Person) -> None:
    seconds = 8.0
    with reading_results(person.client()) as connection:
        replace_tokens(running, person, token_entry(person.token, days=seconds / 86400))
        assert eventually(lambda: not is_open(connection), LIMIT)
    assert not lets_in(person.token)


def test_removing_a_user_cuts_off_what_the_user_has(person: Person, mep: Manager) -> None:
    """Also endpoints, a single-user one and one that a manager runs; the manager itself stays."""
    client = person.client()
    rest = ComputeClientV3(base_url=URL, authorizer=AccessTokenAuthorizer(person.token))
    single = Manager(rest.register_endpoint({"endpoint_name": "mine"}).data)
    client.run(1, endpoint_id=mep.id, function_id=client.register_function(give))
    endpoint = UserEndpoint(mep.command()[1]["kwargs"]["amqp_creds"])
    with reading_results(client) as connection:
        person.change("remove")
        # It looks at the AMQP connections of the rig's endpoints.
        for each in (connection, single._connection, endpoint._connection):  # noqa: SLF001
            assert eventually(lambda each=each: not is_open(each), LIMIT)  # type: ignore[misc]  # bound at once
    for agent in (single, endpoint):
        assert refuses(agent.credentials["heartbeat_queue_info"]["connection_url"])
    assert not lets_in(person.token)
    assert is_open(mep._connection)  # noqa: SLF001 - the AMQP connection of the rig's endpoint


def test_a_file_that_is_broken_changes_nothing(running: Service, person: Person) -> None:
    with reading_results(person.client()) as connection:
        file = running.folder / "users.yaml"
        good = file.read_text()
        try:
            file.write_text("users: [")
            running.daemon.wait_for_line("what it said before stays in force", LIMIT)
            assert lets_in(person.token)
            assert is_open(connection)
        finally:
            file.write_text(good)
        person.change("revoke")
        assert eventually(lambda: not is_open(connection), LIMIT)


@pytest.mark.thorough
def test_what_was_revoked_while_the_service_was_away_stays_out(running: Service, person: Person) -> None:
    url = person.client().get_result_amqp_url()["connection_url"]
    running.stop()
    person.change("revoke")
    running.start()
    assert refuses(url)
    assert not lets_in(person.token)


def test_no_token_gets_into_the_log_or_the_state(running: Service, person: Person) -> None:
    person.client()
    secret = secrets.token_urlsafe(24)
    lets_in(secret)
    files = [running.folder / "log", *(path for path in running.state.glob("*") if path.is_file())]
    for file in files:
        content = file.read_bytes()
        assert person.token.encode() not in content
        assert secret.encode() not in content


def id_of(token: str) -> str:
    """By what `user list` names a token."""
    return token_entry(token)["sha256"][:12]


def replace_tokens(service: Service, person: Person, *entries: dict[str, Any]) -> None:
    """Has the users file say something else of a person's tokens."""
    file = service.folder / "users.yaml"
    document = yaml.safe_load(file.read_text())
    document["users"][person.name]["tokens"] = list(entries)
    beside = file.with_name("users.new")
    beside.touch(mode=0o600)
    beside.write_text(yaml.safe_dump(document))
    beside.replace(file)
