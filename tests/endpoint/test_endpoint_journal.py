"""The journal's files: what they say after damage of any kind, and how long they stay."""

import asyncio
import errno
import os
import resource
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgpack
import pytest
import pytest_asyncio
from endpoint_rig import LIMIT_S
from hypothesis import given
from hypothesis import strategies as st
from twinlock_endpoint.journal import dispatched, frames, journal, records, segments
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.journal.recovery import Reader
from twinlock_endpoint.task import Task


class Diary:
    """A journal, written a record after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(journal.read(folder))

    async def take(self, task_id: str, body: bytes = b"\x01body") -> None:
        """Have a task on disk."""
        task = Task(task_id, "f", body, {"num_nodes": 2}, ("a.b",))
        await asyncio.wait_for(self.journal.taken(task, 1), LIMIT_S)

    def files(self) -> list[Path]:
        """The journal's files, the oldest first."""
        return sorted((self.folder / "journal").glob("*.journal"))

    async def close(self) -> None:
        """All is written."""
        await self.journal.close(LIMIT_S)


@pytest_asyncio.fixture
async def diary(tmp_path: Path) -> AsyncIterator[Diary]:
    """An empty one."""
    yield Diary(tmp_path)


async def test_a_task_comes_back_as_it_was(diary: Diary) -> None:
    await diary.take("a", b"\x01" + bytes(range(256)))
    diary.journal.tried("a", 3)
    diary.journal.answered("b", b"result")
    await diary.close()
    unfinished = journal.read(diary.folder).unfinished
    assert unfinished["a"].task == Task("a", "f", b"\x01" + bytes(range(256)), {"num_nodes": 2}, ("a.b",))
    assert unfinished["a"].attempts == 3
    assert (unfinished["b"].task, unfinished["b"].result) == (None, b"result")


@pytest.mark.parametrize("cut", [1, 9, 10, 11, 30])
async def test_a_record_that_was_cut_off_costs_no_other(
    diary: Diary, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    for task in "abc":
        await diary.take(task)
    await diary.close()
    (file,) = diary.files()
    data = file.read_bytes()
    file.write_bytes(data[:-cut])
    assert list(journal.read(diary.folder).unfinished) == ["a", "b"]
    assert "a record that wasn't written to its end" in caplog.text
    following = Diary(diary.folder)
    await following.take("d")
    await following.close()
    assert list(journal.read(diary.folder).unfinished) == ["a", "b", "d"]


async def test_a_damaged_record_costs_no_other_and_is_told(diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    for task in ("first", "second", "third"):
        await diary.take(task)
    await diary.close()
    (file,) = diary.files()
    file.write_bytes(file.read_bytes().replace(b"second", b"sEcond"))
    assert list(journal.read(diary.folder).unfinished) == ["first", "third"]
    assert "The journal's file 1 is damaged" in caplog.text
    assert "a task may be lost with them" in caplog.text


@pytest.mark.parametrize(
    "odd",
    [
        17,
        ["x"],
        [9, "a"],
        [1, "a", 1, "f", {}, []],
        [1, "a", 1, "f", {}, [], 5],
        [1, "a", float("inf"), "f", {}, [], b""],
        [2, "a"],
        [2, "a", 1],
        [2, "a", None, True],
        [2, "a", float("inf"), True],
        [3, "a"],
        [3, "a", None],
        [3, "a", 1 << 62],
    ],
)
def test_a_record_of_something_unknown_costs_no_other_and_is_told(
    tmp_path: Path, odd: object, caplog: pytest.LogCaptureFixture
) -> None:
    task = Task("sound", "f", b"body", {}, ())
    payloads = [bytes(msgpack.packb(odd)), records.taken(task, 1)]
    pieces = [part for payload in payloads for part in frames.parts(payload)]
    segments.path_of(tmp_path, 1).write_bytes(b"".join([frames.HEADER, *pieces]))
    reader = Reader(tmp_path)
    reader.read(None)
    assert reader.unfinished["sound"].task == task
    assert f"has at {len(frames.HEADER)} something unknown" in caplog.text


@given(st.lists(st.binary(max_size=60), max_size=6), st.data())
def test_whatever_bytes_a_file_has_the_sound_frames_are_found(payloads: list[bytes], data: st.DataObject) -> None:
    pieces = [frames.HEADER]
    for payload in payloads:
        noise = data.draw(st.binary(max_size=30))
        if b"\xd5" in noise:
            noise = b""
        pieces += [noise, *frames.parts(payload)]
    whole = b"".join(pieces) + data.draw(st.binary(max_size=30))
    found = list(frames.frames(whole))
    assert [one.payload for one in found if one.payload is not None][: len(payloads)] == payloads
    assert sum(one.length for one in found) == len(whole) - len(frames.HEADER), "every byte is accounted for"


async def test_records_wait_for_others_while_many_tasks_are_open(diary: Diary) -> None:
    """Ends of tasks that weren't taken here, such as refused ones and a predecessor's, make no difference."""
    for number in range(100):
        diary.journal.finished(f"refused {number}")
    await asyncio.gather(*[diary.take(f"{number}") for number in range(20)])
    waited = []
    for number in range(20):
        began = time.monotonic()
        await asyncio.wait_for(diary.journal.answered(f"{number}", b"result"), LIMIT_S)
        waited.append(time.monotonic() - began)
    assert min(waited) > 0.002, "three milliseconds, in which other records may come"
    await diary.close()


async def test_files_go_when_nobody_needs_them(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT", 2000)
    for number in range(200):
        await diary.take(f"{number}", b"x" * 500)
        diary.journal.finished(f"{number}")
    await diary.close()
    assert len(diary.files()) <= 2
    assert not journal.read(diary.folder).unfinished


async def test_a_task_that_runs_for_long_keeps_no_other_in_the_journal(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT", 2000)
    await diary.take("long", b"y" * 700)
    diary.journal.tried("long", 2)
    for number in range(200):
        await diary.take(f"{number}", b"x" * 500)
        diary.journal.finished(f"{number}")
    await diary.close()
    assert len(diary.files()) <= 8
    unfinished = journal.read(diary.folder).unfinished
    assert list(unfinished) == ["long"]
    assert unfinished["long"].attempts == 2
    assert unfinished["long"].task is not None
    assert unfinished["long"].task.body == b"y" * 700


async def test_what_a_predecessor_left_goes_with_its_end_too(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT", 2000)
    for number in range(20):
        await diary.take(f"{number}", b"x" * 500)
    await diary.close()
    following = Diary(diary.folder)
    for number in range(20):
        following.journal.finished(f"{number}")
    await following.close()
    assert len(following.files()) == 1
    assert not journal.read(diary.folder).unfinished


@pytest.mark.parametrize(("begun", "attempts"), [(None, 1), (set(), 0), ({"a"}, 1)])
async def test_what_was_sent_to_no_worker_has_not_begun(diary: Diary, begun: set[str] | None, attempts: int) -> None:
    await diary.take("a")
    await diary.close()
    reader = Reader(diary.folder / "journal")
    reader.read(begun)
    assert reader.unfinished["a"].attempts == attempts


async def test_what_had_begun_once_stays_so_for_every_later_endpoint(diary: Diary) -> None:
    await diary.take("a")
    diary.journal.tried("a", 1)
    await diary.close()
    reader = Reader(diary.folder / "journal")
    reader.read(set())
    assert reader.unfinished["a"].attempts == 1


def test_the_tasks_that_an_engine_sent_to_workers(tmp_path: Path) -> None:
    path, ids = tmp_path / "begun", [uuid.uuid4() for _ in range(2)]
    dispatched.create(path)
    notes = dispatched.Notes(path)
    notes.add([str(ids[0])])
    with path.open("ab") as file:
        file.write(ids[1].bytes[:9])
    assert dispatched.peek(path) == {str(ids[0])}, "the second was never sent: its id wasn't written to its end"
    dispatched.empty(path)
    notes.add([str(ids[1])])
    assert dispatched.take(path) == {str(ids[1])}
    assert dispatched.peek(path) is None
    path.write_bytes(b"another-boot-of-the-host" + bytes(40))
    assert dispatched.peek(path) is None


async def test_ends_that_a_full_disk_doesnt_take_are_written_when_it_does(diary: Diary) -> None:
    await diary.take("a")
    (file,) = diary.files()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, limits[1]))
    try:
        diary.journal.finished("a")
        with pytest.raises(OSError, match="File too large"):
            await diary.take("b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await diary.take("c")
    await diary.close()
    reader = journal.read(diary.folder)
    assert (list(reader.unfinished), list(reader.done)) == (["c"], ["a"])


async def test_a_file_that_cant_be_cut_back_after_a_failed_write_costs_no_later_record(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int, _size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(segments, "SEGMENT", 2000)
    await diary.take("a")
    (file,) = diary.files()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, limits[1]))
    try:
        with monkeypatch.context() as broken:
            broken.setattr(os, "ftruncate", refuse)
            with pytest.raises(OSError, match="File too large"):
                await diary.take("b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await diary.take("c", b"y" * 700)
    for number in range(200):  # until what is needed of the first files is copied out of them
        await diary.take(f"{number}", b"x" * 500)
        diary.journal.finished(f"{number}")
    await diary.close()
    unfinished = journal.read(diary.folder).unfinished
    assert set(unfinished) == {"a", "c"}
    assert unfinished["c"].task is not None
    assert unfinished["c"].task.body == b"y" * 700
