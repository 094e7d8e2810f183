"""What the client remembers in the user's home."""

import json
import multiprocessing
import os
import time
import uuid
from pathlib import Path

import pytest
from client_rig import ACCOUNT_KEY, ADA, EXPECTED, enroll
from signed_rig import MANAGER, delegated
from twinlock_client.records import enrolled, files, issued, submitted
from twinlock_client.records.enrolled import Enrolled
from twinlock_client.results import Expected
from twinlock_client.user import User
from twinlock_signed.dsse import public_half
from twinlock_signed.errors import Refused

GROUP = "22222222-2222-4333-8444-555555555555"


@pytest.fixture
def enrolled_file(home: Path) -> Path:
    """The list of enrolled keys, with one."""
    enroll()
    return home / ".config/twinlock-client/enrolled"


def test_a_key_is_of_one_account_at_one_endpoint(enrolled_file: Path) -> None:
    assert enrolled.key(ADA, MANAGER) == public_half(ACCOUNT_KEY)
    assert enrolled.key(User("bob", ADA.site), MANAGER) is None
    assert enrolled.key(User("ada", "other.example.org"), MANAGER) is None
    assert enrolled.key(ADA, GROUP) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_list_of_keys_that_others_can_change(enrolled_file: Path, mode: int) -> None:
    enrolled_file.chmod(mode)
    with pytest.raises(Refused, match="others could change it"):
        enrolled.key(ADA, MANAGER)


def test_a_list_of_keys_of_another_owner(enrolled_file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(enrolled_file, 65534, 65534)
    with pytest.raises(Refused, match="others could change it"):
        enrolled.key(ADA, MANAGER)


def test_a_list_of_keys_that_is_elsewhere(enrolled_file: Path, tmp_path: Path) -> None:
    """On a disk that may be mounted or not. Without it any result would be believed."""
    place = enrolled_file.rename(tmp_path / "disk")
    enrolled_file.symlink_to(place)
    assert enrolled.key(ADA, MANAGER) == public_half(ACCOUNT_KEY)
    place.unlink()
    with pytest.raises(Refused, match="it is a link that leads nowhere"):
        enrolled.key(ADA, MANAGER)


@pytest.mark.parametrize("is_loop", [True, False])
def test_a_list_of_keys_that_can_not_be_looked_at(enrolled_file: Path, is_loop: bool) -> None:
    """It isn't taken for an empty one."""
    folder = enrolled_file.parent
    folder.rename(folder.with_name("elsewhere"))
    if is_loop:
        folder.symlink_to(folder)
    else:
        folder.write_text("a file")
    with pytest.raises(OSError, match="twinlock-client/enrolled"):
        enrolled.key(ADA, MANAGER)


@pytest.mark.parametrize(
    "line", ["", "ada@cluster.example.org", f"{ADA} {MANAGER} {'x' * 64}", f"ada {MANAGER} {'0' * 64}"]
)
def test_a_line_that_is_no_key(enrolled_file: Path, line: str) -> None:
    """It might be the one that counts."""
    enrolled_file.write_text(f"{line}\n{enrolled_file.read_text()}")
    with pytest.raises(Refused):
        enrolled.key(ADA, MANAGER)


def test_keys_are_kept_beside_each_other(enrolled_file: Path) -> None:
    bob = Enrolled(User("bob", ADA.site), MANAGER, "0" * 64)
    enrolled.add(bob)
    enrolled.add(bob)
    assert len(enrolled.read()) == 2
    assert {path.name for path in enrolled_file.parent.iterdir()} == {"enrolled", "enrolled.lock"}


def enroll_many(name: str) -> None:
    """Enroll a key at 100 endpoints."""
    for number in range(100):
        enrolled.add(Enrolled(User(name, ADA.site), str(uuid.UUID(int=number)), "0" * 64))


def test_two_processes_enroll_at_once() -> None:
    """None loses what the other one has added."""
    processes = [multiprocessing.get_context("fork").Process(target=enroll_many, args=(name,)) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(enrolled.read()) == 200


def test_tasks_by_group() -> None:
    shell = Expected(ADA, MANAGER, "1" * 64, is_shell=True)
    submitted.add(GROUP, {"one": EXPECTED})
    submitted.add(GROUP, {"two": shell})
    assert submitted.read(GROUP) == {"one": EXPECTED, "two": shell}
    assert submitted.read(MANAGER) == {}


def test_a_damaged_line_costs_one_task(home: Path) -> None:
    submitted.add(GROUP, {"one": EXPECTED})
    [path] = (home / ".local/state/twinlock-client/tasks").iterdir()
    path.write_text(f'["half\n[1]\n{path.read_text()}')
    assert submitted.read(GROUP) == {"one": EXPECTED}


def test_old_groups_are_forgotten(home: Path) -> None:
    """After the service has forgotten them."""
    for _ in range(2):
        submitted.add(str(uuid.uuid4()), {"one": EXPECTED})
    old, kept = sorted((home / ".local/state/twinlock-client/tasks").iterdir())
    for path, days in ((old, 31), (kept, 29)):
        os.utime(path, (time.time() - days * 86400,) * 2)
    submitted.add(GROUP, {"one": EXPECTED})
    assert not old.exists()
    assert kept.exists()


def test_what_can_not_be_forgotten_costs_no_record(home: Path) -> None:
    """It would have each new group go unrecorded."""
    stray = home / ".local/state/twinlock-client/tasks/stray"
    stray.mkdir(parents=True)
    os.utime(stray, (0, 0))
    submitted.add(GROUP, {"one": EXPECTED})
    assert submitted.read(GROUP) == {"one": EXPECTED}


def test_a_full_disk_or_a_file_in_the_way_ends_no_submission(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / ".local").write_text("a file")
    submitted.add(GROUP, {"one": EXPECTED})
    issued.add(delegated())
    assert "`reload_tasks` won't know these tasks" in caplog.text
    assert "`twinlock-client show` won't list the delegation" in caplog.text


def test_delegations_that_have_expired_are_removed(home: Path) -> None:
    now = int(time.time())
    path = home / ".local/state/twinlock-client/delegations"
    files.append(path, [json.dumps(["aa" * 16, "x", MANAGER, now - 9, now - 1])] * 999)
    files.append(path, [json.dumps(["bb" * 16, "x", MANAGER, now, now + 99])])
    issued.add(delegated())
    assert [each.id for each in issued.read()] == ["bb" * 16, delegated().id]
    assert len(path.read_text().splitlines()) == 2
