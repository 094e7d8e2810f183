"""Where signers are found: which sources count, and what one that fails means."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from twinlock_signed.account import is_account, is_site, own_account
from twinlock_signed.errors import ConfigError
from twinlock_signed.ssh import signer_sources
from twinlock_signed.ssh.signer_sources import AuthorizedKeys, Command, File, find, lines

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP9rc//m1UTnyRNveRNe+Ola80v6OMbhVVH4ImE7nxtC"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to own files")


def make(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of ada, who has this process's uid."""
    (tmp_path / "home").mkdir(mode=0o755)

    def entry(name: str) -> pwd.struct_passwd:
        if name != "ada":
            raise KeyError(name)
        return pwd.struct_passwd(("ada", "x", os.geteuid(), 0, "", str(tmp_path / "home"), "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwnam", entry)
    return tmp_path / "home"


@needs_root
def test_all_sources_count_in_their_order(tmp_path: Path, home: Path) -> None:
    command = make(tmp_path / "command", f'#!/bin/sh\necho "$1 cert-authority {KEY}"\necho "{KEY} by $1"\n', 0o755)
    sources = (
        File(str(make(tmp_path / "all", f"ada,bob {KEY}\n"))),
        File(str(make(tmp_path / "ada" / "signers", f"{KEY}\n")).replace("ada", "%u")),
        Command((str(command), "%u")),
        AuthorizedKeys(),
    )
    make(home / ".ssh" / "authorized_keys", f'{KEY}\ncommand="x" {KEY}\n')
    found = find(sources, "ada")
    assert [each.problem for each in found] == ["", "", "", ""]
    assert lines(found).decode().splitlines() == [
        f"ada,bob {KEY}",
        f"ada {KEY}",
        f"ada cert-authority {KEY}",
        f"ada {KEY}",
        f"ada {KEY}",
    ]
    assert found[3].parsed.skipped[0].startswith("line 2: it has the option command")
    assert list(map(str, sources))[2:] == [f"{command} %u", "~/.ssh/authorized_keys"]


@needs_root
def test_an_account_without_files_has_no_signers(tmp_path: Path, home: Path) -> None:
    assert all(each == (each.source, ((), ()), "") for each in find((File(f"{tmp_path}/%u"), AuthorizedKeys()), "ada"))


@needs_root
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (lambda folder: File(f"{folder}/none"), "No such file"),
        (lambda folder: File(str(make(folder / "open", KEY, 0o666))), "open: its group or others can change it"),
        (lambda folder: File(str(folder)), "not a regular file"),
        (lambda folder: Command(("/bin/false",)), "/bin/false: it ended with 1; see why by running it"),
        (lambda folder: Command((str(make(folder / "c", "#!/bin/sh\n", 0o777)),)), "/c: its group or others"),
        (lambda folder: Command((str(make(folder / "c", "#!/bin/sh\n")),)), "Permission denied"),
        (lambda folder: File(str(make(folder / "long", "#" * ((1 << 20) + 1)))), "more than 1048576 bytes"),
    ],
)
def test_a_source_that_fails_has_no_signers(tmp_path: Path, source: Callable[[Path], File], problem: str) -> None:
    """What a command printed before it failed doesn't count either, and the other sources do."""
    tmp_path.chmod(0o755)
    good = File(str(make(tmp_path / "good", f"ada {KEY}\n")))
    found = find((source(tmp_path), good), "ada")
    assert problem in found[0].problem
    assert lines(found).decode() == f"ada {KEY}\n"


@needs_root
def test_a_key_without_a_name_is_nobodys_where_all_accounts_have_one_source(tmp_path: Path) -> None:
    command = make(tmp_path / "command", f"#!/bin/sh\necho '{KEY}'\necho 'ada {KEY}'\n", 0o755)
    for source in (File(str(make(tmp_path / "all", f"{KEY}\nada {KEY}\n"))), Command((str(command),))):
        (found,) = find((source,), "bob")
        assert found.parsed.lines == (f"ada {KEY}",)
        assert "doesn't say whose it is; write the account's name before it" in found.parsed.skipped[0]


@needs_root
def test_what_a_command_printed_before_it_failed(tmp_path: Path) -> None:
    command = make(tmp_path / "command", f"#!/bin/sh\necho '{KEY}'\nexit 3\n", 0o755)
    (found,) = find((Command((str(command),)),), "ada")
    assert (found.parsed.lines, found.problem) == ((), f"{command}: it ended with 3; see why by running it")


@needs_root
def test_a_command_has_no_environment_and_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIL", "1")
    command = make(tmp_path / "command", f'#!/bin/sh\n[ -n "$EVIL" ] || read x || echo "ada {KEY}"\n', 0o755)
    mine, given = os.dup(0), os.open(make(tmp_path / "input", "a line\n"), os.O_RDONLY)
    os.dup2(given, 0)
    try:
        (found,) = find((Command((str(command),)),), "ada")
    finally:
        os.dup2(mine, 0)
        os.close(mine)
        os.close(given)
    assert found.parsed.lines == (f"ada {KEY}",)


@needs_root
def test_a_command_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signer_sources, "LIMIT", 0.2)
    (found,) = find((Command(("/bin/sleep", "1000")),), "ada")
    assert "it took more than 0 s" in found.problem


@pytest.mark.parametrize("place", [".", ".ssh", ".ssh/authorized_keys"])
def test_authorized_keys_that_others_can_change(home: Path, place: str) -> None:
    make(home / ".ssh" / "authorized_keys", KEY)
    (home / place).chmod(0o775)
    (found,) = find((AuthorizedKeys(),), "ada")
    assert found.parsed.lines == ()
    assert "its group or others can change it" in found.problem


def test_authorized_keys_that_are_a_pipe(home: Path) -> None:
    (home / ".ssh").mkdir(mode=0o755)
    os.mkfifo(home / ".ssh" / "authorized_keys", 0o600)
    (found,) = find((AuthorizedKeys(),), "ada")
    assert "not a regular file" in found.problem


def test_authorized_keys_of_nobody(home: Path) -> None:
    (found,) = find((AuthorizedKeys(),), "bob")
    assert "~/.ssh/authorized_keys: it can't be read" in found.problem


ODD = ["", "-i", "a/b", "..", ".", "a,b", "a*", "?", "!a", "a b", "a\n", "\u00e4da", '"ada"', "#ada", "a\0", "x" * 257]


@pytest.mark.parametrize("name", ODD)
def test_names_that_no_signed_work_is_for(name: str) -> None:
    assert not is_account(name)
    with pytest.raises(ConfigError, match="signed work can't be for this name"):
        find((AuthorizedKeys(),), name)


@pytest.mark.parametrize("name", ["ada", "ada.l-1", "DOMAIN\\ada", "ada@EXAMPLE.ORG", "_x$"])
def test_names_that_signed_work_can_be_for(name: str) -> None:
    assert is_account(name)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        *(("cluster.example.org", True), ("hpc", True), ("a-1.b", True), ("x" * 63 + ".y", True)),
        *(("", False), ("Cluster", False), ("-a.b", False), ("a..b", False), ("a@b", False), ("a.b\n", False)),
        *(("x" * 64 + ".y", False), ("x." * 127, False), ("a." * 126 + "ab", False), ("a_b", False)),
    ],
)
def test_names_of_sites(name: str, good: bool) -> None:
    assert is_site(name) is good


def test_the_account_of_this_process() -> None:
    assert own_account() == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("name", "back", "reason"),
    [
        ("ada", 1, "it is uid .* and uid 1; give each uid a name of its own"),
        ("ada lovelace", 0, "account 'ada lovelace': signed work can't be for this name"),
        (None, 0, "the user database has no account for it; see `getent passwd"),
    ],
)
def test_an_account_that_no_signed_work_is_for(
    monkeypatch: pytest.MonkeyPatch, name: str | None, back: int, reason: str
) -> None:
    def entry(uid: int) -> pwd.struct_passwd:
        if name is None:
            raise KeyError
        return pwd.struct_passwd((name, "x", uid, 0, "", "/", ""))

    monkeypatch.setattr(pwd, "getpwuid", lambda uid: entry(uid))
    monkeypatch.setattr(pwd, "getpwnam", lambda _: entry(back or os.getuid()))
    with pytest.raises(ConfigError, match=reason):
        own_account()
