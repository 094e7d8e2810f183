"""The command `twinlock-client`. In the place of ssh is a program that runs the command in another folder."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import twinlock_client
from client_rig import ACCOUNT_KEY, ADA, VerifyingHost
from nacl.signing import SigningKey
from signed_rig import MANAGER, delegated, make_key, public
from twinlock_client.__main__ import main
from twinlock_client.records import enrolled
from twinlock_client.session import Asked, SavedSession
from twinlock_signed.dsse import public_half
from twinlock_signed.errors import Refused
from twinlock_signed.replay import revoked_ids
from twinlock_signed.result_key import load_or_make, public_line

SOURCES = Path(twinlock_client.__file__).parent.parent
OTHER = "99999999-2222-4333-8444-555555555555"
USAGE, REFUSED, IO = 100, 65, 74


def client(*arguments: str | Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    """How the command ends."""
    argv = [sys.executable, "-m", "twinlock_client", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "COLUMNS": "120"}
    return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=120, env=environment, check=False)


def refused(*arguments: str | Path, code: int = REFUSED) -> str:
    """What it says when it refuses something: one line, without a traceback."""
    done = client(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("twinlock-client")
    assert "Traceback" not in done.stderr
    return done.stderr


def printed(*arguments: str | Path) -> str:
    """What it prints when it is done."""
    done = client(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class RemoteHome:
    """The account's home at the site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.parent / "ssh.log"
        """The arguments of each call of ssh, a line each."""

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteHome:
    """The home that ssh leads to."""
    home = RemoteHome(tmp_path / "remote")
    home.folder.mkdir(mode=0o700)
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(
        f'#!/bin/sh\n[ "$1" = -V ] && exec /usr/bin/ssh -V\necho "$@" >> {home.log}\nfor last; do :; done\n'
        f"cd {home.folder} && echo 'Welcome to the cluster!' >&2 && HOME={home.folder} exec sh -c \"$last\"\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return home


def result_key(remote: RemoteHome) -> str:
    """The account's result key, which its endpoint has made; its public half."""
    return public_half(load_or_make(remote.folder / ".local/state/twinlock/result.key"))


def test_help() -> None:
    shown = printed("--help")
    for command in ("check", "enroll", "delegate", "revoke", "show"):
        assert re.search(rf"^ +{command} ", shown, re.MULTILINE)
        told = printed(command, "--help")
        assert f"  twinlock-client {command}" in told, "an example"
        assert max(map(len, told.splitlines())) <= 120
    assert "exit codes: 0 done; 1 a check has failed; 65" in shown


@pytest.mark.parametrize("arguments", [(), ("sign",), ("show", "more"), ("revoke", "ada@cluster.example.org")])
def test_usage(arguments: tuple[str, ...]) -> None:
    assert "--help" in refused(*arguments, code=USAGE)


def test_enroll_by_ssh(remote: RemoteHome) -> None:
    key = result_key(remote)
    assert printed("enroll", str(ADA), MANAGER) == (
        f"enrolled: results of {ADA} at {MANAGER} have to be signed by {key}\n"
    )
    assert enrolled.key(ADA, MANAGER) == key
    assert "-a -x -o ClearAllForwardings=yes -- ada@cluster.example.org cat " in remote.log.read_text()
    assert printed("enroll", str(ADA), MANAGER, "--ssh", "login1")
    assert " -- login1 cat " in remote.log.read_text()


def test_enroll_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(public_line(ACCOUNT_KEY))
    printed("enroll", str(ADA), MANAGER.upper(), "--file", path)
    assert enrolled.key(ADA, MANAGER) == public_half(ACCOUNT_KEY)
    assert enrolled.key(ADA, OTHER) is None


def test_another_key_is_enrolled_only_if_that_is_said(tmp_path: Path, home: Path) -> None:
    path, new = tmp_path / "key", SigningKey.generate()
    path.write_text(public_line(ACCOUNT_KEY))
    for manager in (MANAGER, OTHER):
        printed("enroll", str(ADA), manager, "--file", path)
    path.write_text(public_line(new))
    assert "another key is enrolled" in refused("enroll", str(ADA), MANAGER, "--file", path)
    assert enrolled.key(ADA, MANAGER) == public_half(ACCOUNT_KEY)
    printed("enroll", str(ADA), MANAGER, "--file", path, "--replace")
    assert enrolled.key(ADA, MANAGER) == public_half(new)
    assert enrolled.key(ADA, OTHER) == public_half(ACCOUNT_KEY)
    place = home / ".config/twinlock-client/enrolled"
    assert (place.stat().st_mode & 0o777, place.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_enroll_without_a_key_there(remote: RemoteHome) -> None:
    said = refused("enroll", str(ADA), MANAGER)
    assert "No such file or directory" in said
    assert "submit a task, whose result will be JSON, then enroll" in said
    assert enrolled.read() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "There is no result key"), ("\x1b[2J\n", "There is no result key"), (None, "No such file")],
)
def test_enroll_from_a_file_that_has_no_key(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "key").write_text(text)
    said = refused("enroll", str(ADA), MANAGER, "--file", tmp_path / "key", code=IO if text is None else REFUSED)
    assert reason in said


@pytest.mark.parametrize(
    ("user", "endpoint", "reason"),
    [
        ("ada", MANAGER, "user 'ada': it is not an account and a site"),
        ("-oProxyCommand=x@cluster.example.org", MANAGER, "--help"),
        ("a b@cluster.example.org", MANAGER, "it is not an account and a site"),
        (str(ADA), "my-endpoint", "endpoint 'my-endpoint': it is not a uuid"),
    ],
)
def test_users_and_endpoints_that_are_none(remote: RemoteHome, user: str, endpoint: str, reason: str) -> None:
    assert reason in refused("enroll", user, endpoint, code=USAGE if user.startswith("-") else REFUSED)
    assert not remote.log.exists()


def test_a_destination_that_would_be_an_option(remote: RemoteHome) -> None:
    assert "it is no destination" in refused("enroll", str(ADA), MANAGER, "--ssh=-oProxyCommand=touch /tmp/x")
    assert not remote.log.exists()


def test_control_characters_from_the_other_side(tmp_path: Path, remote: RemoteHome) -> None:
    (tmp_path / "bin/ssh").write_text("#!/bin/sh\nprintf '\\033]0;owned\\007no\\nroute\\233' >&2\nexit 255\n")
    said = refused("enroll", str(ADA), MANAGER)
    assert "ssh ada@cluster.example.org: ]0;ownedno route" in said
    assert all(mark.isprintable() or mark == "\n" for mark in said)


def test_control_characters_in_a_files_name(tmp_path: Path, ada: Path) -> None:
    path = tmp_path / "\x1b[2Jnew"
    path.write_text("mine")
    for said in (
        refused("delegate", str(ADA), MANAGER, path, "--key", ada),
        refused("enroll", str(ADA), MANAGER, "--file", f"{path}-none", code=IO),
    ):
        assert all(mark.isprintable() or mark == "\n" for mark in said)


def test_delegate(tmp_path: Path, ada: Path) -> None:
    options, path = tmp_path / "options.json", tmp_path / "tonight"
    options.write_text('{"nodes": 2}')
    said = printed("delegate", str(ADA), MANAGER, path, "--key", ada, "--options", options, "--hours", "0.5")
    one = SavedSession(path)
    signed = one.numbered(MANAGER, {"nodes": 2}).sign(Asked("", "", "", {}, []), None)
    accepted, _ = VerifyingHost.knowing(ada).accept(signed.texts)
    assert accepted.id in said
    assert accepted.expires - accepted.issued == 1800
    assert accepted.user_runtime["globus_compute_sdk_version"].startswith("4.")
    assert path.stat().st_mode & 0o777 == 0o600
    assert accepted.id in printed("show")


@pytest.mark.cases(1)
@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": NaN}', "[" * 100_000])
def test_delegate_with_options_that_are_none(tmp_path: Path, ada: Path, text: str) -> None:
    (tmp_path / "options").write_text(text)
    said = refused("delegate", str(ADA), MANAGER, tmp_path / "new", "--key", ada, "--options", tmp_path / "options")
    assert "JSON" in said
    assert not (tmp_path / "new").exists()


def test_delegate_needs_a_key_and_a_time(tmp_path: Path, ada: Path) -> None:
    assert "there is no SSH agent" in refused("delegate", str(ADA), MANAGER, tmp_path / "new")
    assert "--hours 0.0" in refused("delegate", str(ADA), MANAGER, tmp_path / "new", "--key", ada, "--hours", "0")
    (tmp_path / "new").write_text("mine")
    assert "is there already" in refused("delegate", str(ADA), MANAGER, tmp_path / "new", "--key", ada)
    assert (tmp_path / "new").read_text() == "mine"


def test_delegate_into_a_file_that_is_there(tmp_path: Path, ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to touch a key for nothing."""
    (tmp_path / "bin").mkdir()
    keygen = tmp_path / "bin/ssh-keygen"
    keygen.write_text(f'#!/bin/sh\ntouch {tmp_path}/asked\nexec /usr/bin/ssh-keygen "$@"\n')
    keygen.chmod(0o755)
    monkeypatch.setenv("PATH", str(keygen.parent), prepend=":")
    (tmp_path / "link").symlink_to("nowhere")
    assert "is there already" in refused("delegate", str(ADA), MANAGER, tmp_path / "link", "--key", ada)
    assert not (tmp_path / "asked").exists()
    printed("delegate", str(ADA), MANAGER, tmp_path / "new", "--key", ada)
    assert (tmp_path / "asked").exists()


@pytest.mark.cases(1)
@pytest.mark.parametrize("hours", ["nan", "inf", "1e7", "-1"])
def test_delegate_for_a_strange_time(tmp_path: Path, ada: Path, hours: str) -> None:
    said = refused("delegate", str(ADA), MANAGER, tmp_path / "new", "--key", ada, f"--hours={hours}")
    assert "a delegation is valid for a second or more, and for ten years or less" in said
    assert not (tmp_path / "new").exists()


def test_delegate_into_a_file_with_a_strange_name(tmp_path: Path, ada: Path) -> None:
    """What the terminal can't show doesn't stop it when the file is there already."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/to\xffnight\x1b")
    assert "/tonight: delegation" in printed("delegate", str(ADA), MANAGER, path, "--key", ada)
    assert os.path.exists(path)


def test_revoke_one(tmp_path: Path, ada: Path, remote: RemoteHome) -> None:
    """By a host's own reader of the file. A line before that somebody left without its end is still one."""
    printed("delegate", str(ADA), MANAGER, tmp_path / "one", "--key", ada)
    said = SavedSession(tmp_path / "one").delegated.said
    assert f"revoked for {ADA}: {said.id}" in printed("revoke", str(ADA), said.id)
    place = remote.folder / ".config/twinlock/revoked"
    assert revoked_ids.read(place).ids == {said.id}
    place.write_text("ab" * 16)
    printed("revoke", str(ADA), said.id)
    assert revoked_ids.read(place).ids == {said.id, "ab" * 16}
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_revoke_all(remote: RemoteHome) -> None:
    before = int(time.time())
    printed("revoke", str(ADA), "--all")
    assert before < revoked_ids.read(remote.folder / ".config/twinlock/revoked").before <= time.time() + 1


def test_revoke_what_was_made_in_the_same_second(capsys: pytest.CaptureFixture[str]) -> None:
    made = delegated(issued=int(time.time()))
    assert main(["revoke", str(ADA), "--all", "--print"]) == 0
    with pytest.raises(Refused, match="is revoked"):
        revoked_ids.check(made, revoked_ids.parse(Path("revoked"), capsys.readouterr().out.encode()))


def test_revoke_where_nobody_can_log_in(remote: RemoteHome) -> None:
    assert printed("revoke", str(ADA), "ab" * 16, "--print") == "ab" * 16 + "\n"
    assert not remote.log.exists()


@pytest.mark.parametrize("what", ["ab", "AB" * 16, "ab" * 16 + "\nbefore 2999-01-01T00:00:00Z", "x; rm -rf /"])
def test_revoke_what_is_no_id(remote: RemoteHome, what: str) -> None:
    assert "it is not 32 hexadecimal digits" in refused("revoke", str(ADA), what)
    assert not remote.log.exists()


def test_show(tmp_path: Path) -> None:
    shown = printed("show")
    assert shown.splitlines() == [
        "enrolled result keys: none, so only results in JSON are read",
        "valid delegations: none",
    ]
    (tmp_path / "key").write_text(public_line(ACCOUNT_KEY))
    printed("enroll", str(ADA), MANAGER, "--file", tmp_path / "key")
    assert f"  {ADA} at {MANAGER}: {public_half(ACCOUNT_KEY)}" in printed("show").splitlines()


def test_show_leaves_out_what_has_expired_or_is_junk(home: Path) -> None:
    now = int(time.time())
    place = home / ".local/state/twinlock-client/delegations"
    place.parent.mkdir(parents=True)
    rows = [["aa" * 16, str(ADA), MANAGER, now - 9, now - 1], ["bb" * 16, str(ADA), MANAGER, now, now + 60], [1], 7]
    rows += [["cc" * 16, str(ADA), MANAGER, "now", now + 60], [None, str(ADA), MANAGER, now, now + 60]]
    place.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + "{\n")
    shown = printed("show")
    assert "bb" * 16 in shown
    assert "aa" * 16 not in shown
    assert "cc" * 16 not in shown


def checked(*arguments: str | Path) -> tuple[int, dict[str, bool]]:
    """The exit code, and the findings with whether they are good."""
    done = client("check", str(ADA), MANAGER, *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, {line[5:]: line.startswith("ok") for line in done.stdout.splitlines()}


def fingerprint(key: Path) -> str:
    listed = subprocess.run(["ssh-keygen", "-l", "-f", f"{key}.pub"], capture_output=True, text=True, check=True)
    return listed.stdout.split()[1]


def test_check(ada: Path) -> None:
    code, found = checked("--key", ada)
    assert (code, set(found.values())) == (0, {True})
    assert f"key: {fingerprint(ada)} signs delegations" in found
    assert any(text.startswith("globus-compute-sdk 4.19.") for text in found)
    assert any("isn't enrolled, so only JSON is read" in text for text in found)


def test_check_where_a_file_can_not_be_read(home: Path, ada: Path) -> None:
    """The other findings are told all the same."""
    (home / ".config/twinlock-client/enrolled").mkdir(parents=True)
    code, found = checked("--key", ada)
    assert code == 1
    assert [text for text, is_good in found.items() if not is_good] == [
        f"{home}/.config/twinlock-client/enrolled: Is a directory; correct that, then check again"
    ]


def test_check_without_a_key(tmp_path: Path) -> None:
    code, found = checked()
    assert code == 1
    assert [text for text, is_good in found.items() if not is_good] == [
        "no key: there is no SSH agent; start one, or give `key`, such as ~/.ssh/id_ed25519"
    ]


def test_check_of_what_the_site_accepts(tmp_path: Path, ada: Path, remote: RemoteHome) -> None:
    """As far as a login shows it: a key with a forced command doesn't count, nor one that isn't there."""
    keys = remote.folder / ".ssh/authorized_keys"
    keys.parent.mkdir()
    for line, expected in (
        (public(ada), 0),
        (f'command="/bin/true" {public(ada)}', 1),
        (public(make_key(tmp_path / "other")), 1),
    ):
        keys.write_text(f"# mine\n{line}\n")
        code, found = checked("--key", ada, "--ssh", "login1")
        assert code == expected, found
        [said] = [text for text in found if text.startswith("site: ")]
        assert fingerprint(ada) in said
        assert ("which counts if the site takes keys from there" in said) is (expected == 0)


def test_check_with_an_old_openssh(tmp_path: Path, ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/ssh").write_text("#!/bin/sh\necho 'OpenSSH_8.8p1, OpenSSL' >&2\n")
    (tmp_path / "old/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "old"), prepend=":")
    code, found = checked("--key", ada)
    assert code == 1
    assert any("install version 8.9 or later" in text for text, is_good in found.items() if not is_good)
