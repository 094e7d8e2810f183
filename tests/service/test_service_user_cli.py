"""`twinlock-service user`: what it prints, what it writes, and what it refuses."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from service_rig import ALICE, BOB, IDENTITIES, TOKENS, users_file
from twinlock_service.users.directory import load_users

USAGE = 100
CAROL = "carol@site.example"


def user(*words: str, file: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command on a users file."""
    argv = [sys.executable, "-m", "twinlock_service", "user", *words, "--users", str(file)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False, **more)


def tokens(file: Path, name: str) -> list[dict[str, str]]:
    """A user's tokens, as the command lists them for programs."""
    shown = user("list", "--json", file=file)
    assert shown.returncode == 0
    return list(json.loads(shown.stdout)[name]["tokens"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A users file with Alice and Bob."""
    return users_file(tmp_path / "users.yaml", rabbitmq={"user": "admin", "password": "sesame"})


def test_a_new_user_gets_a_token_which_the_file_does_not_have(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    made = user("add", CAROL, "--name", "Carol Example", file=file)
    assert made.returncode == 0
    assert made.stdout.count("\n") == 1
    token = made.stdout.strip()
    assert token not in file.read_text() + made.stderr
    assert stat.S_IMODE(file.stat().st_mode) & 0o027 == 0
    login = load_users(file).by_token(token)
    assert login is not None
    assert (login.identity.username, login.identity.name, login.expired) == (CAROL, "Carol Example", False)
    assert not login.identity.administrator


def test_the_identity_can_be_given(file: Path) -> None:
    identity = "7b1f2f6e-0000-4000-8000-00000000cccc"
    assert user("add", CAROL, "--id", identity, "--administrator", file=file).returncode == 0
    carol = load_users(file).by_id(identity)
    assert carol is not None
    assert (carol.username, carol.administrator) == (CAROL, True)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("settings", "words", "days"),
    [({}, [], 30), ({"token_days": 7}, [], 7), ({"token_days": 7}, ["--days", "2"], 2)],
)
def test_a_token_has_its_days(tmp_path: Path, settings: dict[str, int], words: list[str], days: int) -> None:
    file = users_file(tmp_path / "users.yaml", service=settings)
    assert user("token", ALICE, *words, file=file).returncode == 0
    expires = datetime.fromisoformat(tokens(file, ALICE)[-1]["expires"])
    assert abs(datetime.now(UTC) + timedelta(days=days) - expires) < timedelta(hours=1)


def test_a_further_token_leaves_the_others_good_and_drops_those_that_expired(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    entry = {"sha256": "0" * 64, "created": "2025-01-01T00:00:00Z", "expires": "2025-02-01T00:00:00Z"}
    document["users"][ALICE]["tokens"].append(entry)
    file.write_text(yaml.safe_dump(document))
    assert "(expired)" in user("list", file=file).stdout
    token = user("token", ALICE, file=file).stdout.strip()
    users = load_users(file)
    for each in (token, TOKENS[ALICE], TOKENS[BOB]):
        assert users.by_token(each)
    assert len(tokens(file, ALICE)) == 2


def test_one_token_or_all_of_a_user_are_revoked(file: Path) -> None:
    further = [user("token", ALICE, file=file).stdout.strip() for _ in range(2)]
    second = tokens(file, ALICE)[1]["token"]
    assert user("revoke", ALICE, second, file=file).returncode == 0
    users = load_users(file)
    assert [bool(users.by_token(each)) for each in (TOKENS[ALICE], *further)] == [True, False, True]
    assert user("revoke", ALICE, file=file).returncode == 0
    users = load_users(file)
    assert not any(users.by_token(each) for each in (TOKENS[ALICE], *further))
    assert users.by_token(TOKENS[BOB])
    assert users.by_id(IDENTITIES[ALICE]), "the user stays"
    assert f"{ALICE}  {IDENTITIES[ALICE]}  none" in user("list", file=file).stdout


def test_a_user_is_removed(file: Path) -> None:
    assert user("remove", ALICE, file=file).returncode == 0
    users = load_users(file)
    assert users.by_id(IDENTITIES[ALICE]) is None
    assert users.by_token(TOKENS[BOB])


def test_a_change_keeps_what_else_is_in_the_file_and_whose_it_is(file: Path) -> None:
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 0, 12345)
    before, owner = yaml.safe_load(file.read_text()), file.stat()
    assert user("add", CAROL, file=file).returncode == 0
    after = yaml.safe_load(file.read_text())
    del after["users"][CAROL]
    assert after == before
    now = file.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (owner.st_mode, owner.st_uid, owner.st_gid)
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_change_hides_tokens_that_were_written_by_hand(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    document["users"][ALICE]["token"] = "sesame-alice"
    file.write_text(yaml.safe_dump(document))
    shown = user("list", file=file)
    assert "by hand" in shown.stdout
    assert "sesame-alice" not in shown.stdout + shown.stderr
    assert user("token", BOB, file=file).returncode == 0
    assert "sesame-alice" not in file.read_text()
    assert load_users(file).by_token("sesame-alice")


@pytest.mark.thorough
def test_changes_at_the_same_time_are_all_made(file: Path) -> None:
    names = [f"user{number}@site.example" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda name: user("add", name, file=file), names))
    assert [each.returncode for each in done] == [0] * 6
    users = load_users(file)
    assert all(users.by_token(each.stdout.strip()) for each in done)


@pytest.mark.cases(3)
@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["add", ALICE], os.EX_DATAERR, f"user token {ALICE}"),
        (["add", CAROL, "--id", IDENTITIES[BOB]], os.EX_DATAERR, "share an id"),
        (["token", CAROL], os.EX_NOUSER, CAROL),
        (["revoke", CAROL], os.EX_NOUSER, CAROL),
        (["revoke", ALICE, "feedfeedfeed"], os.EX_NOUSER, "feedfeedfeed"),
        (["remove", CAROL], os.EX_NOUSER, CAROL),
        (["add", "a b"], USAGE, "no spaces"),
        (["add", "x\ty"], USAGE, "control characters"),
        (["add", CAROL, "--days", "0"], USAGE, "days from 1 to 3650"),
        (["add", CAROL, "--id", "x"], USAGE, "--id"),
        (["add"], USAGE, "USER"),
        (["grant", ALICE], USAGE, "grant"),
    ],
)
def test_what_is_refused_changes_nothing(file: Path, words: list[str], code: int, reason: str) -> None:
    before = file.read_text()
    shown = user(*words, file=file)
    assert (shown.returncode, shown.stdout) == (code, "")
    assert reason in shown.stderr
    assert file.read_text() == before


@pytest.mark.parametrize("words", [["list"], ["token", ALICE], ["remove", ALICE], ["revoke", ALICE]])
def test_a_missing_file_is_named_and_not_made(tmp_path: Path, words: list[str]) -> None:
    shown = user(*words, file=tmp_path / "absent")
    assert shown.returncode == os.EX_NOINPUT
    assert str(tmp_path / "absent") in shown.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "place"), [(["token", ALICE], "absent/users.yaml"), (["add", CAROL], "absent/absent/users.yaml")]
)
def test_a_missing_folder_is_a_missing_file(tmp_path: Path, words: list[str], place: str) -> None:
    """The folder itself is made for a first user; those above it aren't."""
    shown = user(*words, file=tmp_path / place)
    assert shown.returncode == os.EX_NOINPUT
    assert f"users file {tmp_path / place}: No such file or directory" in shown.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["token", ALICE], ["add", CAROL]])
def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").touch()
    shown = user(*words, file=tmp_path / "file" / "users.yaml")
    assert shown.returncode == os.EX_NOINPUT
    assert f"users file {tmp_path}/file/users.yaml: Not a directory" in shown.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_somebody_else_can_not_change_it(tmp_path: Path, folder: Path) -> None:
    """Not even who may write the folder and read the file."""
    place = folder / "shared"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    file = users_file(place / "users.yaml")
    os.chown(file, 0, 65534)
    file.chmod(0o640)
    before = file.read_text()
    shown = user("add", CAROL, file=file, user=65534, group=65534, extra_groups=[], cwd="/")
    assert shown.returncode == os.EX_NOPERM
    assert "only root and its owner" in shown.stderr
    assert file.read_text() == before
    assert [each.name for each in place.iterdir()] == [file.name]
