"""`twinlock top`: its table, and what its keys do at a running broker."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
from broker_rig import MANAGER, UEP, Told, endpoint_user, request
from broker_site import OTHER, Site, another
from top_rig import answer, keys, row, screen, until
from twinlock_broker.endpoints.registry import State
from twinlock_broker.top import broker_link, columns, figures, head, view
from twinlock_broker.top import keys as key_table
from twinlock_broker.top.app import Top
from twinlock_broker.top.broker_link import look
from twinlock_broker.top.columns import BY_TITLE, COLUMNS
from twinlock_broker.top.figures import Figures
from twinlock_broker.top.lines import Line
from twinlock_broker.top.picture import Picture
from twinlock_broker.top.units import duration, size
from twinlock_broker.top.view import View, arrange

TWINLOCK = Path(sys.executable).with_name("twinlock")
TASKS = {"running_tasks": 2, "queued_tasks": 3, "total_workers": 4, "idle_workers": 1, "memory_bytes": 1 << 20}


def ids(found: list[Line]) -> list[str]:
    """The endpoints' uuids in the table's order, or the users' names."""
    return [line.id[:8].lstrip("0") or line.user for line in found]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (359_999, "99:59:59"), (360_000, "4d04h"), (-5, "0:00:00")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (999, "999"),
        (1024, "1.0K"),
        (300 << 20, "300M"),
        (1000 << 20, "1.0G"),
        (1 << 60, "1024P"),
    ],
)
def test_sizes(value: float | None, shown: str) -> None:
    assert size(value) == shown


def test_an_endpoint_that_does_not_tell_running_tasks_from_waiting_ones() -> None:
    found = figures.of_row(row(1, figures={"outstanding_tasks": 3}))
    assert (found.running, found.queued, found.workers) == (None, 3, None)
    assert figures.of_row(row(1)) == Figures(jobs=0)


def test_a_sum_is_of_what_is_known() -> None:
    found = figures.total([Figures(running=1, idle_left=5), Figures(running=2, cpu=50), Figures()])
    assert found == Figures(running=3, cpu=50)


def test_the_highest_number_comes_first_and_what_is_not_known_last() -> None:
    rows = [row(number, figures=has) for number, has in ((1, None), (2, {"cpu_percent": 5}), (3, {"cpu_percent": 70}))]
    chosen = view.sorted_by(View(), "CPU")
    assert ids(arrange(rows, chosen)) == ["3", "2", "1"]
    assert ids(arrange(rows, view.sorted_by(chosen, "CPU"))) == ["2", "3", "1"]


def test_every_column_sorts() -> None:
    rows = [row(1, figures=TASKS), row(2, pid=0, seconds=None)]
    for title in BY_TITLE:
        for reverse in (False, True):
            assert len(arrange(rows, View(title, reverse, tree=reverse))) >= len(rows)


@pytest.mark.parametrize(
    ("words", "left"), [("", ["1", "2"]), ("BOB", ["2"]), ("gpu bob", ["2"]), ("gpu ada", []), ("4711", ["1"])]
)
def test_a_filter_is_words_that_a_line_must_have(words: str, left: list[str]) -> None:
    rows = [row(1, jobs=["4711"]), row(2, "bob", options='{"partition":"gpu"}')]
    assert ids(arrange(rows, View(filter=words))) == left


def test_the_tree_has_sums_above_what_they_are_sums_of() -> None:
    rows = [row(1, "bob", figures=TASKS), row(2, "ada", figures=TASKS), row(3, "bob", figures=TASKS)]
    found = arrange(rows, View("RUN", tree=True))
    assert ids(found) == ["bob", "1", "3", "ada", "2"]
    assert (found[0].figures.running, found[0].endpoints) == (4, 2)
    assert ids(arrange(rows, view.fold(View("RUN", tree=True), "bob"))) == ["bob", "ada", "2"]


@pytest.mark.parametrize("width", range(8, 260, 7))
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    rows = [row(1, "a-name-that-is-long-and-longer", options="x" * 99, jobs=["123456"] * 20, figures=TASKS)]
    lines = arrange(rows, View("OPTIONS", tree=True))
    fitted = columns.fit(COLUMNS, lines, width)
    shown = [columns.heading(fitted, "JOBS"), *(columns.text(fitted, line) for line in lines)]
    assert max(map(len, shown)) <= width
    assert shown[0].startswith("USER")


def test_which_columns_there_is_room_for() -> None:
    lines = arrange([row(1, figures=TASKS)], View())
    narrow = columns.heading(columns.fit(COLUMNS, lines, 80)).split()
    assert narrow == ["USER", "ENDPOINT", "STATE", "AGE", "RUN", "QUEUE", "DONE", "MEM", "CPU", "IDLE"]
    wide = columns.heading(columns.fit(COLUMNS, lines, 200)).split()
    assert wide == [column.title for column in COLUMNS]


@pytest.mark.parametrize("width", range(60, 160, 9))
def test_numbers_are_shown_whole(width: int) -> None:
    has = TASKS | {"done_tasks": 123_456_789, "cpu_percent": 12_800, "idle_seconds_left": 80_000}
    lines = arrange([row(1, "christine-the-second", seconds=300_000, figures=has, options="x" * 50)], View())
    fitted = columns.fit(COLUMNS, lines, width)
    shown = columns.text(fitted, lines[0]).split()
    for column, _ in fitted:
        assert not column.of_number or column.cell(lines[0]) in shown


def test_no_key_is_given_twice() -> None:
    given = [name for key in key_table.KEYS for name in key.names.split(",")]
    given += [column.key for column in COLUMNS if column.key]
    assert len(set(given)) == len(given)


def test_the_head_of_an_older_broker() -> None:
    older = {name: value for name, value in answer().items() if name not in ("version", "amqp", "starts")}
    _, second = head.head(older)
    assert "spawner connected" in second
    assert "AMQP" not in second


def test_what_is_wrong_stands_in_the_head() -> None:
    order = {"reason": "misuse", "by": "root", "since": 0}
    found = answer(drain=order, blocked={f"user-{number}": order for number in range(5)}, spawner_connected=False)
    shown = "\n".join(head.above(Picture(found, 0, "it is away"), 65))
    assert "SPAWNER NOT CONNECTED, AMQP commands up, heartbeats DOWN" in shown
    assert "DRAINING, nothing is started: since " in shown
    assert "and 3 more blocked accounts" in shown
    assert "the broker doesn't answer: it is away; trying again\nSTALE: what is shown is 0:01:05 old\n" in shown


def alone(*rows: dict[str, object]) -> Top:
    """The program without a broker."""
    return Top(Path("/nowhere/admin.sock"), Picture(answer(*rows), monotonic()))


async def test_texts_of_users_are_shown_as_they_are() -> None:
    options = '{"a":"[bold]x[/bold] [@click=app.quit]y[/]"}'
    app = alone(row(1, "[red]eve", options=options, condition="[blink]no[/nope]"))
    async with app.run_test(size=(200, 24)) as pilot:
        shown = await until(pilot, lambda seen: "[red]eve" in seen)
        assert options in shown
        assert "[blink]no[/nope]" in shown
        await keys(pilot, "b")
        assert "Why is [red]eve to be blocked?" in screen(app)


async def test_what_was_chosen_stays_chosen_in_another_order() -> None:
    app = alone(*(row(number, figures={"cpu_percent": number}, options=f"own-{number}") for number in range(1, 40)))
    async with app.run_test(size=(80, 24)) as pilot:
        await keys(pilot, "end")
        notes = await until(pilot, lambda seen: "own-39" in seen)
        assert "00000027" in notes
        await keys(pilot, "C")
        assert "own-39" in screen(app)
        await keys(pilot, "C")
        shown = screen(app)
        assert "own-39" in shown
        assert "CPU^" in shown


async def test_a_filter_is_typed_kept_and_removed() -> None:
    app = alone(row(1, "ada"), row(2, "bob"))
    async with app.run_test(size=(80, 24)) as pilot:
        await keys(pilot, "slash", *"bo", "enter")
        shown = await until(pilot, lambda seen: "00000001" not in seen)
        assert "00000002" in shown
        assert "filter: bo" in shown
        await keys(pilot, "slash", "x")
        await until(pilot, lambda seen: "no endpoint matches" in seen)
        await keys(pilot, "escape")
        shown = await until(pilot, lambda seen: "00000001" in seen)
        assert "filter:" not in shown


async def test_the_tree_is_folded_and_unfolded() -> None:
    app = alone(row(1, "ada"), row(2, "bob"))
    async with app.run_test(size=(80, 24)) as pilot:
        await keys(pilot, "t", "home", "enter")
        await until(pilot, lambda seen: "+ ada" in seen and "00000001" not in seen)
        await keys(pilot, "enter")
        await until(pilot, lambda seen: "- ada" in seen and "00000001" in seen)


async def test_the_keys_are_shown() -> None:
    app = alone()
    async with app.run_test(size=(80, 40)) as pilot:
        assert "no endpoints" in await until(pilot, lambda seen: "? keys" in seen)
        await keys(pilot, "question_mark")
        shown = await until(pilot, lambda seen: "Sort by a column" in seen)
        assert "IDLE: how long until it ends" in shown
        await keys(pilot, "escape", "ctrl+c")
    assert app.return_code == 0


@pytest.fixture
async def top(site: Site, monkeypatch: pytest.MonkeyPatch) -> Top:
    """The program at a site whose user has an endpoint at work."""
    monkeypatch.setattr(broker_link, "PERIOD", 0.1)
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    path = site.runtime / "admin.sock"
    return Top(path, await asyncio.to_thread(look, path))


async def test_an_endpoint_is_stopped_after_a_question_to_which_no_is_the_answer(
    site: Site, top: Top, told: Told
) -> None:
    (endpoint,) = site.supervisor.endpoints
    async with top.run_test(size=(80, 24)) as pilot:
        for leave in ("enter", "n", "escape"):
            await keys(pilot, "s")
            await until(pilot, lambda seen: f"Stop endpoint {UEP} of {endpoint_user()}" in seen)
            await keys(pilot, leave)
            await until(pilot, lambda seen: "Stop endpoint" not in seen)
        assert endpoint.state is State.RUNNING
        await keys(pilot, "s", "right", "enter")
        await until(pilot, lambda seen: f"{UEP} of {endpoint_user()} is ending" in seen)
        assert "administrator stopped" in await told.next()
        await until(pilot, lambda seen: "0 endpoints" in seen)


async def test_an_endpoint_that_ended_before_the_answer(site: Site, top: Top, told: Told) -> None:
    async with top.run_test(size=(80, 24)) as pilot:
        await keys(pilot, "s")
        await until(pilot, lambda seen: "Stop endpoint" in seen)
        await site.supervisor.stop(UEP)
        await told.next()
        await keys(pilot, "y")
        await until(pilot, lambda seen: "nothing is left of it" in seen)


async def test_all_endpoints_of_a_user_are_stopped(site: Site, top: Top) -> None:
    await site.supervisor.command(another("sleep", "x: 1"))
    endpoints = list(site.supervisor.endpoints)
    async with top.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda seen: "2 endpoints" in seen)
        await keys(pilot, "x")
        await until(pilot, lambda seen: f"Stop all 2 endpoints of {endpoint_user()}" in seen)
        await keys(pilot, "y")
        await until(pilot, lambda seen: f"2 endpoints of {endpoint_user()} are ending" in seen)
    assert {endpoint.id for endpoint in endpoints} == {UEP, OTHER}
    assert all(endpoint.state is not State.RUNNING for endpoint in endpoints)


async def test_a_user_is_blocked_with_a_reason_and_unblocked(site: Site, top: Top) -> None:
    async with top.run_test(size=(80, 24)) as pilot:
        await keys(pilot, "b", *"misuse", "escape")
        await keys(pilot, "b", *"misuse", "enter")
        await until(pilot, lambda seen: "Users are told: misuse" in seen)
        await keys(pilot, "enter")
        await keys(pilot, "b", "enter", "y")
        await until(pilot, lambda seen: f"blocked: {endpoint_user()}" in seen and "no reason was given" in seen)
        await keys(pilot, "b")
        await until(pilot, lambda seen: f"Unblock {endpoint_user()}?" in seen)
        await keys(pilot, "y")
        await until(pilot, lambda seen: "is no longer blocked" in seen and "blocked: " not in seen)


async def test_a_drain_begins_with_a_reason_and_ends(site: Site, top: Top) -> None:
    async with top.run_test(size=(80, 24)) as pilot:
        await keys(pilot, "d", *"kernel", "enter")
        await until(pilot, lambda seen: "Users are told: kernel" in seen)
        await keys(pilot, "y")
        await until(pilot, lambda seen: "DRAINING" in seen and ": kernel" in seen)
        await keys(pilot, "d")
        await until(pilot, lambda seen: "End the drain, and start endpoints again?" in seen)
        await keys(pilot, "y")
        await until(pilot, lambda seen: "DRAINING" not in seen)


async def test_it_goes_on_when_the_broker_is_back(site: Site, top: Top) -> None:
    path = site.runtime / "admin.sock"
    async with top.run_test(size=(80, 24)) as pilot:
        path.rename(site.runtime / "away.sock")
        shown = await until(pilot, lambda seen: "STALE" in seen)
        assert "the broker doesn't answer: " in shown
        assert UEP[:8] in shown, "the last picture stays"
        await keys(pilot, "s", "y")
        await until(pilot, lambda seen: seen.count("no broker there") == 2)
        (site.runtime / "away.sock").rename(path)
        await keys(pilot, "r")
        await until(pilot, lambda seen: "STALE" not in seen)


async def test_without_a_terminal_the_status_is_printed_again_and_again(site: Site) -> None:
    pipe = asyncio.subprocess.PIPE
    argv = (TWINLOCK, "top", "--socket", site.runtime / "admin.sock")
    process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    for _ in range(2):
        assert MANAGER.encode() in await asyncio.wait_for(process.stdout.readline(), 60)
        assert b"broker " in await asyncio.wait_for(process.stdout.readline(), 60)
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"no user endpoints\n"
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, errors) == (os.EX_OK, b"")


def test_only_top_on_a_terminal_loads_textual() -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "twinlock_broker.commands", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert "twinlock_broker.top.columns" in done.stderr
    assert not re.search(r"\btextual\b|\brich\b", done.stderr)
