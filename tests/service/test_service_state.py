"""What the database keeps, and what it refuses."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinlock_service.errors import StartError
from twinlock_service.state import tokens as tokens_module
from twinlock_service.state.database import open_database, transaction
from twinlock_service.state.endpoints import MISSED_HEARTBEATS, Endpoints, user_endpoint_id
from twinlock_service.state.functions import Functions
from twinlock_service.state.result_logins import ResultLogin, ResultLogins
from twinlock_service.state.tasks import Tasks
from twinlock_service.state.tokens import LIFETIME, Grant, Tokens
from twinlock_service.users.directory import NEVER, Identity, Login

ALICE, BOB = "7b1f2f6e-0000-4000-8000-000000000001", "7b1f2f6e-0000-4000-8000-000000000002"
OF_BOB = Login(Identity(BOB, "bob@site.example", "Bob", "", ""), "c0ffee" * 10, NEVER)
MEP = "7b1f2f6e-0000-4000-8000-0000000000ee"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "service.sqlite"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """An open database."""
    with closing(open_database(path)) as connection:
        yield connection


@pytest.fixture
def task(db: sqlite3.Connection) -> str:
    """A task of Alice's that waits for an endpoint."""
    tasks = Tasks(db)
    return tasks.add(tasks.new_group(ALICE), ALICE, MEP, "f")


def test_everything_is_there_after_a_restart(path: Path) -> None:
    with closing(open_database(path)) as before:
        endpoint = Endpoints(before).register("manager", ALICE, {"endpoint_name": "mep"})
        child = Endpoints(before).user_endpoint(endpoint.id, BOB, {"account": "x"})
        Endpoints(before).reported(child.id, 30.0, '{"active": true}')
        function = Functions(before).add(ALICE, {"function_name": "f"}, "1\nf")
        group = Tasks(before).new_group(BOB)
        task = Tasks(before).add(group, BOB, child.id, function)
        Tasks(before).finish(task, "success", b"result")
        token, login = Tokens(before).issue(ALICE, "funcx_service"), ResultLogins(before).of(OF_BOB)
    with closing(open_database(path)) as after:
        assert Endpoints(after)[endpoint.id] == endpoint
        assert Endpoints(after)[child.id].online
        assert Endpoints(after).user_endpoint(endpoint.id, BOB, {"account": "x"}).password == child.password
        found = Functions(after).get(function)
        assert found is not None
        assert (found.code, found.owner) == ("1\nf", ALICE)
        done = Tasks(after).get(task)
        assert done is not None
        assert (done.status, done.result, done.group_id) == ("success", b"result", group)
        assert Tokens(after).find(token) == Grant(ALICE, "funcx_service")
        assert ResultLogins(after).of(OF_BOB) == login


def test_only_the_owner_can_read_the_files(path: Path, db: sqlite3.Connection) -> None:
    Tasks(db).new_group(ALICE)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert len(modes) > 1
    assert set(modes.values()) == {0o600}


def test_tokens_are_not_in_the_file(path: Path, db: sqlite3.Connection) -> None:
    token = Tokens(db).issue(ALICE, "funcx_service")
    for file in path.parent.iterdir():
        assert token.encode() not in file.read_bytes()


def test_tokens_expire(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    token = Tokens(db).issue(ALICE, "funcx_service")
    assert Tokens(db).find(token)
    assert Tokens(db).find(token + "x") is None
    later = time.time() + LIFETIME + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert Tokens(db).find(token) is None


def test_a_state_of_version_1_is_taken_over(path: Path, db: sqlite3.Connection) -> None:
    """Its RabbitMQ users belong to no token, so that they are deleted; its clients have to log in again."""
    group = Tasks(db).new_group(ALICE)
    db.executescript(
        "DROP TABLE tokens; CREATE TABLE tokens (digest TEXT, client TEXT, resource_server TEXT, expires REAL);"
        "CREATE TABLE amqp_users (owner TEXT PRIMARY KEY, password TEXT NOT NULL);"
        f"INSERT INTO amqp_users VALUES ('{BOB}', 'sesame'); PRAGMA user_version = 1;"
    )
    for _ in range(2):
        with closing(open_database(path)) as again:
            assert Tasks(again).group_owner(group) == ALICE
            assert ResultLogins(again).all() == [ResultLogin(f"user.{BOB}", BOB, "", "sesame")]
            assert Tokens(again).find(Tokens(again).issue(ALICE, "funcx_service"))


@pytest.mark.parametrize("content", [b"not a database, whatever its name says", b"SQLite format 3\x00" + b"\xff" * 200])
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StartError, match="move it away") as caught:
        open_database(path)
    assert caught.value.exit_code == os.EX_DATAERR


def test_a_database_of_a_later_version_is_refused(path: Path) -> None:
    with closing(open_database(path)) as db:
        db.execute("PRAGMA user_version = 1000")
    with pytest.raises(StartError, match="version 1000"):
        open_database(path)


def test_a_transaction_that_fails_leaves_nothing(db: sqlite3.Connection) -> None:
    def fail() -> None:
        with transaction(db):
            Tasks(db).new_group(ALICE)
            raise InterruptedError

    before = db.execute("SELECT count(*) FROM task_groups").fetchone()[0]
    with pytest.raises(InterruptedError):
        fail()
    assert db.execute("SELECT count(*) FROM task_groups").fetchone()[0] == before


def test_a_task_ends_once(db: sqlite3.Connection, task: str) -> None:
    tasks = Tasks(db)
    assert tasks.finish(task, "success", b"first")
    assert not tasks.finish(task, "failed", b"second")
    ended = tasks.get(task)
    assert ended is not None
    assert (ended.status, ended.result) == ("success", b"first")
    assert ended.completed is not None
    assert not tasks.finish(MEP, "success", b"unknown")


def test_a_task_that_has_ended_is_not_taken_back(db: sqlite3.Connection, task: str) -> None:
    tasks = Tasks(db)
    tasks.finish(task, "success", b"")
    tasks.forget([task])
    assert tasks.get(task)


def test_an_endpoint_owes_what_has_not_ended(db: sqlite3.Connection, task: str) -> None:
    tasks = Tasks(db)
    assert tasks.outstanding(MEP) == [task]
    assert tasks.unforwarded(10) == []
    tasks.finish(task, "failed", b"")
    assert tasks.outstanding(MEP) == []
    assert tasks.unforwarded(10) == [task]
    tasks.mark_forwarded([task])
    assert tasks.unforwarded(10) == []


def test_the_status_page_reads_no_results(db: sqlite3.Connection, task: str) -> None:
    Tasks(db).finish(task, "success", b"secret")
    assert [(each.id, each.status, each.result) for each in Tasks(db).latest(5)] == [(task, "success", None)]


def test_an_endpoint_that_goes_quiet_is_offline(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = Endpoints(db)
    endpoint = endpoints.register("manager", ALICE, {"endpoint_name": "mep"}).id
    assert not endpoints[endpoint].online
    endpoints.reported(endpoint, 30.0, "{}")
    now = time.time()
    for seconds, online in ((0, True), (31, True), (30 * MISSED_HEARTBEATS + 1, False)):
        monkeypatch.setattr(time, "time", lambda later=now + seconds: later)
        assert endpoints[endpoint].online is online
    endpoints.reported(endpoint, 0.0, "{}")
    assert not endpoints[endpoint].online


def test_a_manager_takes_its_user_endpoints_with_it(db: sqlite3.Connection) -> None:
    endpoints = Endpoints(db)
    mep = endpoints.register("manager", ALICE, {"endpoint_name": "mep"}).id
    child = endpoints.user_endpoint(mep, BOB, {})
    assert endpoints.children(mep) == [child.id]
    endpoints.delete(mep)
    assert endpoints.ids() == []


@given(JSON.map(lambda each: {"a": each, "b": 1}))
def test_the_order_of_keys_does_not_make_another_endpoint(config: dict[str, object]) -> None:
    shuffled = dict(reversed(config.items()))
    assert user_endpoint_id(MEP, ALICE, config) == user_endpoint_id(MEP, ALICE, shuffled)
    UUID(user_endpoint_id(MEP, ALICE, config))


def test_user_configuration_and_manager_make_another_endpoint() -> None:
    variants: list[Callable[[], str]] = [
        lambda: user_endpoint_id(MEP, ALICE, {}),
        lambda: user_endpoint_id(MEP, BOB, {}),
        lambda: user_endpoint_id(BOB, ALICE, {}),
        lambda: user_endpoint_id(MEP, ALICE, {"a": 1}),
        lambda: user_endpoint_id(MEP, ALICE, {"a": "1"}),
        lambda: user_endpoint_id(MEP, ALICE, {"a": [1]}),
        lambda: user_endpoint_id(MEP, ALICE, {"a": None}),
    ]
    assert len({variant() for variant in variants}) == len(variants)


def test_a_client_has_so_many_tokens(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MOST", 2)
    tokens = Tokens(db)
    of_another = tokens.issue("another", "funcx_service")
    first, *others = [tokens.issue("client", "funcx_service") for _ in range(3)]
    assert tokens.find(first) is None
    assert all(tokens.find(each) for each in (*others, of_another))
