"""What was used is not used again, and what was revoked isn't used at all."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_rig import delegated
from twinlock_signed.errors import ConfigError, Refused
from twinlock_signed.replay import revoked_ids
from twinlock_signed.replay.claims import Claims, open_claims
from twinlock_signed.replay.ranges import Ranges
from twinlock_signed.statement import digest

NOW = 1_764_444_444
DIGEST = digest(b"a delegation")
FIRST, SECOND = "11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002"
TASK, COPY = "22222222-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"


@given(st.lists(st.integers(0, 30)))
def test_ranges_are_a_set(numbers: list[int]) -> None:
    ranges, known = Ranges(), set[int]()
    for number in numbers:
        assert (number in ranges) == (number in known)
        ranges.add(number)
        known.add(number)
    assert {number for first, last in ranges for number in range(first, last + 1)} == known
    starts = [first for first, _ in ranges]
    ends = [last for _, last in ranges]
    assert all(later > end + 1 for later, end in zip(starts[1:], ends, strict=False)), "no two of them touch"


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    (tmp_path / "home").mkdir(mode=0o700)
    return open_claims(tmp_path / "home" / "claims", tmp_path / "home", NOW)


ISSUED = delegated(issued=NOW, expires=NOW + 3600)


def test_the_first_endpoint_has_it(claims: Claims) -> None:
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert taken.admit(7, TASK)
    for _ in range(2):
        with pytest.raises(Refused, match=rf"taken by another endpoint before \({FIRST}\); start a new session"):
            claims.take(DIGEST, ISSUED, SECOND)
    taken.close()
    with pytest.raises(Refused, match="taken by another endpoint"):
        claims.take(DIGEST, ISSUED, SECOND)
    claims.take(digest(b"another"), ISSUED, SECOND).close()


def test_the_same_endpoint_has_it_again_after_its_end(claims: Claims) -> None:
    first = claims.take(DIGEST, ISSUED, FIRST)
    assert first.admit(7, TASK)
    first.sync()
    first.close()
    again = claims.take(DIGEST, ISSUED, FIRST)
    assert not again.admit(7, TASK)
    assert again.admit(8, COPY)
    again.close()


def test_a_claim_that_was_let_go_records_nothing(claims: Claims) -> None:
    """Neither there nor in the file that was opened next."""
    taken = claims.take(DIGEST, ISSUED, FIRST)
    taken.close()
    other = claims.take("0" * 64, ISSUED, FIRST)
    with pytest.raises(OSError, match="Bad file descriptor"):
        taken.admit(1, TASK)
    assert other.admit(1, COPY)
    other.close()


def test_a_second_process_of_the_same_endpoint_has_not(claims: Claims) -> None:
    """The broker may start two, on two hosts."""
    first = claims.take(DIGEST, ISSUED, FIRST)
    with pytest.raises(Refused, match="Another process of this endpoint has the delegation"):
        claims.take(DIGEST, ISSUED, FIRST)
    first.close()
    claims.take(DIGEST, ISSUED, FIRST).close()


def test_a_process_that_is_killed_lets_go(claims: Claims) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nsys.path[:0] = sys.argv[3:]\n"
        "from signed_rig import delegated\nfrom twinlock_signed.replay.claims import Claims\n"
        f"claim = Claims(Path(sys.argv[1]), 0).take({DIGEST!r}, delegated(), {FIRST!r})\n"
        f"claim.admit(1, {TASK!r})\nprint('taken', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(claims.folder), "--", *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        with pytest.raises(Refused, match="Another process"):
            claims.take(DIGEST, ISSUED, FIRST)
        process.kill()
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert not taken.admit(1, TASK)
    taken.close()


def test_a_number_is_looked_up_before_it_is_taken(claims: Claims) -> None:
    """What was only looked up is still free, also for another task."""
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert taken.is_new(7, TASK)
    assert taken.admit(7, COPY)
    assert not taken.is_new(7, COPY)
    with pytest.raises(Refused, match=f"a copy of task {COPY}"):
        taken.is_new(7, TASK)
    taken.close()


@pytest.mark.parametrize("reopened", [False, True])
def test_a_number_is_one_tasks(claims: Claims, reopened: bool) -> None:
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert taken.admit(7, TASK)
    assert taken.admit(0, "22222222-0000-4000-8000-000000000003")
    if reopened:
        taken.close()
        taken = claims.take(DIGEST, ISSUED, FIRST)
    assert not taken.admit(7, TASK), "it came once more"
    with pytest.raises(Refused, match=f"a copy of task {TASK}, which was accepted before; see that one's result"):
        taken.admit(7, COPY)
    assert taken.admit(8, COPY)
    taken.close()


def test_many_numbers(claims: Claims) -> None:
    """More than are read at once."""
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert all(taken.admit(number, TASK) for number in range(9000))
    taken.close()
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert not any(taken.admit(number, TASK) for number in (0, 4095, 4096, 8999))
    assert taken.admit(9000, COPY)
    with pytest.raises(Refused, match=f"copy of task {COPY}"):
        taken.admit(9000, TASK)
    taken.close()


def test_half_a_record_is_none(claims: Claims) -> None:
    """A crash may leave it. What is recorded next is whole again."""
    taken = claims.take(DIGEST, ISSUED, FIRST)
    for number in (1, 2):
        taken.admit(number, TASK)
    taken.close()
    path = claims.folder / DIGEST
    os.truncate(path, path.stat().st_size - 1)
    for _ in range(2):
        taken = claims.take(DIGEST, ISSUED, FIRST)
        assert not taken.admit(1, TASK)
        taken.admit(2, COPY)
        taken.close()
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert not taken.admit(2, COPY)
    taken.close()


def test_a_disk_that_is_full(claims: Claims) -> None:
    """A number that couldn't be recorded isn't accepted, and is once there is room again."""
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert taken.admit(1, TASK)
    size = (claims.folder / DIGEST).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 10):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
        try:
            with pytest.raises(OSError, match=r"File too large|cut off"):
                taken.admit(2, TASK)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert taken.admit(2, COPY)
    taken.close()
    taken = claims.take(DIGEST, ISSUED, FIRST)
    assert not taken.admit(1, TASK)
    assert not taken.admit(2, COPY)
    taken.close()


def test_a_claim_that_was_cut_off_is_nobodys(claims: Claims) -> None:
    (claims.folder / DIGEST).touch()
    with pytest.raises(Refused, match="an endpoint that ended at that moment"):
        claims.take(DIGEST, ISSUED, FIRST)


@pytest.mark.parametrize("endpoint", ["", FIRST.upper().replace("1", "A"), f"{FIRST}\n", "../x"])
def test_an_endpoint_without_a_uuid(claims: Claims, endpoint: str) -> None:
    with pytest.raises(ValueError, match="is not a uuid in small letters"):
        claims.take(DIGEST, ISSUED, endpoint)
    assert not (claims.folder / DIGEST).exists()


def test_a_claim_that_is_a_link(claims: Claims, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(f"{FIRST}\n")
    (claims.folder / DIGEST).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        claims.take(DIGEST, ISSUED, FIRST)


def test_a_lost_folder_replays_nothing_from_before(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    folder = tmp_path / "home" / "claims"
    open_claims(folder, tmp_path / "home", NOW - 10_000).take(DIGEST, ISSUED, FIRST).close()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    claims = open_claims(folder, tmp_path / "home", NOW + 301)
    with pytest.raises(Refused, match=r"issued more than 300 s before .*; start a new session"):
        claims.take(DIGEST, ISSUED, FIRST)
    claims.take(DIGEST, delegated(issued=NOW + 1), FIRST).close()


@pytest.mark.parametrize("lost", ["made", "claims"])
def test_a_folder_without_its_time_counts_as_new(tmp_path: Path, lost: str) -> None:
    (tmp_path / "home" / "claims").mkdir(mode=0o700, parents=True)
    folder, home = tmp_path / "home" / "claims", tmp_path / "home"
    home.chmod(0o700)
    if lost == "made":
        open_claims(folder, home, NOW)
        (folder / "made").unlink()
    assert open_claims(folder, home, NOW + 1000).made == NOW + 1000
    assert open_claims(folder, home, NOW + 2000).made == NOW + 1000, "it stays"
    assert [path.name for path in folder.iterdir()] == ["made"]


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "\u0661", "1" * 19 + "x"])
def test_a_time_that_is_none(claims: Claims, text: str) -> None:
    (claims.folder / "made").write_text(text)
    with pytest.raises(ConfigError, match="is not a time in seconds; remove it"):
        open_claims(claims.folder, claims.folder.parent, NOW)


@pytest.mark.parametrize("place", [".", "claims"])
def test_a_folder_that_others_can_write_to(tmp_path: Path, place: str) -> None:
    (tmp_path / "claims").mkdir()
    tmp_path.chmod(0o700)
    (tmp_path / place).chmod(0o770)
    with pytest.raises(ConfigError, match="its group or others can change it"):
        open_claims(tmp_path / "claims", tmp_path, NOW)


def revoked(folder: Path, text: str) -> revoked_ids.Revoked:
    (folder / "revoked").write_text(text)
    return revoked_ids.read(folder / "revoked")


def test_nothing_is_revoked_without_a_file(tmp_path: Path) -> None:
    revoked_ids.check(ISSUED, revoked_ids.read(tmp_path / "none"))
    revoked_ids.check(ISSUED, revoked(tmp_path, "\n# nothing\n"))


@pytest.mark.parametrize("reason", ["Not a directory", "Too many levels of symbolic links"])
def test_a_folder_that_cannot_be_looked_into_may_revoke_anything(tmp_path: Path, reason: str) -> None:
    folder = tmp_path / "twinlock"
    folder.touch() if reason == "Not a directory" else folder.symlink_to(folder)
    with pytest.raises(ConfigError, match=f"{reason}; correct that, until then nothing runs"):
        revoked_ids.read(folder / "revoked")


def test_ids_that_a_user_has_revoked(tmp_path: Path) -> None:
    found = revoked(tmp_path, f"# stolen\n{'f' * 32}\n  {ISSUED.id}  # of monday\r\n")
    with pytest.raises(Refused, match=f"The delegation {ISSUED.id} is revoked by ~/.config/twinlock/revoked; start"):
        revoked_ids.check(ISSUED, found)
    revoked_ids.check(delegated(id="0" * 32), found)


def test_a_time_before_which_all_is_revoked(tmp_path: Path) -> None:
    """2025-11-29T19:27:24Z is `NOW`: `date -u -d @1764444444`."""
    for text, is_revoked in (
        ("19:27:24Z", False),
        ("19:27:25Z", True),
        ("19:27:23Z\nbefore 2025-11-29T20:00:00Z", True),
    ):
        found = revoked(tmp_path, f"before 2025-11-29T{text}\nbefore 2020-01-01T00:00:00Z\n")
        if is_revoked:
            with pytest.raises(Refused, match="is revoked"):
                revoked_ids.check(ISSUED, found)
        else:
            revoked_ids.check(ISSUED, found)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "before",
            "before yesterday",
            "before 2025-11-29",
            "before 2025-11-29T19:27:24",
            "before 2025-13-29T19:27:24Z",
        ),
        *("before 2025-11-29T19:27:24+01:00", "F" * 32, "f" * 31, f"id {'f' * 32}", "after 2025-11-29T19:27:24Z", "\0"),
    ],
)
def test_what_can_not_be_understood_might_revoke_anything(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"revoked: line 2.*; correct it, until then nothing runs"):
        revoked(tmp_path, f"# revoked\n{line}\n")


def test_a_file_that_can_not_be_read_might_revoke_anything(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder" / "revoked").mkdir(parents=True)
    (tmp_path / "long").write_text("#" * ((1 << 20) + 1))
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("none")
    below = ("folder/revoked", "long/revoked", "circle/revoked", "nowhere/revoked")
    for name in ("pipe", "long", "circle", "nowhere", *below):
        with pytest.raises(ConfigError):
            revoked_ids.read(tmp_path / name)
