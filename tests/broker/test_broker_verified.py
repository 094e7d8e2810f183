"""`twinlock verified USER`, run by root: whose signatures count, and what a home that its owner has prepared does."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from signed_rig import MANAGER, SITE, keygen, make_key, public, sign
from spawner_rig import gone
from twinlock_broker.errors import Fatal
from twinlock_broker.signers import answer, asking, look
from twinlock_signed import result_key
from twinlock_signed.delegation import NAMESPACE
from twinlock_signed.dsse import public_half
from twinlock_testbed.users import throw_away

TWINLOCK = Path(sys.executable).with_name("twinlock")
ID = "4f1c3a0b6c1e4d5f8a7b9c0d1e2f3a4b"
pytestmark = pytest.mark.system  # an account whose owner does as they like


class Host:
    """Root's files, and the home of an account."""

    def __init__(self, folder: Path, account: pwd.struct_passwd) -> None:
        self.folder = folder
        self.account = account
        self.name = account.pw_name
        self.home = Path(account.pw_dir)
        self.key = make_key(folder / "key")
        (folder / "endpoint").mkdir(mode=0o755)
        self.configure()

    def configure(self, **values: Any) -> None:
        """Write `verified.toml`, with these values in place of the usual ones, or in addition."""
        whole = {
            "manager": MANAGER,
            "site": SITE,
            "endpoint_dir": str(self.folder / "endpoint"),
            "control": "/run/control.sock",
            "broker_uid": 1,
            "amqp_hosts": ["amqp.example.org:443"],
            "signers": [str(self.folder / "signers"), "~/.ssh/authorized_keys"],
        }
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in (whole | values).items())
        self.write("verified.toml", text)
        self.write("signers", f"{self.name} {public(self.key)}\n")

    def write(self, name: str, text: str | bytes, mode: int = 0o644) -> Path:
        """Write a file of root's."""
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    def put(self, name: str, text: str = "") -> Path:
        """Write a file of the account's into its home."""
        path = self.home / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(text)
        for each in (path, *path.relative_to(self.home).parents):
            os.chown(self.home / each, self.account.pw_uid, self.account.pw_gid)
        return path

    def ask(self, *words: str | Path, about: str = "", **how: Any) -> "subprocess.CompletedProcess[str]":
        """The command's outcome."""
        argv = [TWINLOCK, "verified", "--config", self.folder / "verified.toml", *words, about or self.name]
        return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, **how)

    def found(self) -> dict[str, Any]:
        """What it prints as JSON."""
        found: dict[str, Any] = json.loads(self.ask("--json").stdout)
        return found


@pytest.fixture(scope="module")
def account() -> Iterator[pwd.struct_passwd]:
    """An account."""
    with throw_away(f"twl-signs{os.getpid()}") as made:
        yield made


@pytest.fixture
def host(account: pwd.struct_passwd) -> Iterator[Host]:
    """The host, with an empty home."""
    home = Path(account.pw_dir)
    for path in home.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Host(Path(name), account)


def fingerprint(key: Path) -> str:
    """A key's fingerprint, by ssh-keygen."""
    return keygen("-l", "-f", f"{key}.pub").decode().split()[1]


def counts_for_ssh_keygen(host: Host, line: str) -> bool:
    """Whether ssh-keygen finds the account by a signature of the host's key, which the line names."""
    statement, signers, signature = (host.folder / name for name in ("statement", "alone", "signature"))
    statement.write_text("a statement")
    signers.write_text(line)
    signature.write_bytes(sign(host.key, statement.read_bytes()))
    command: list[str | Path] = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-n",
        NAMESPACE,
        "-I",
        host.name,
        "-f",
        signers,
        "-s",
        signature,
    ]
    return subprocess.run(command, input=statement.read_bytes(), capture_output=True, check=False).returncode == 0


@pytest.mark.cases(2)
@pytest.mark.parametrize("moment", ["19600101", "19691231235959Z", "19700101Z", "19700102000000Z", "29990101"])
def test_a_key_counts_from_the_time_that_ssh_keygen_reads(host: Host, moment: str) -> None:
    """It takes no notice of lines with times before 1970."""
    line = f'{host.name} valid-after="{moment}" {public(host.key)}\n'
    host.write("signers", line)
    [found] = host.found()["sources"][0]["signers"]
    assert (found["problem"] == "") == counts_for_ssh_keygen(host, line)


def test_each_key_of_the_account_is_listed_with_what_limits_it(host: Host) -> None:
    names = ("ca", "later", "old", "git", "gone", "bobs", "user")
    keys = {name: make_key(host.folder / name) for name in names}
    weak = make_key(host.folder / "weak", "-t", "rsa", "-b", "1024")
    lines = {
        "ca": ("*,!bob cert-authority", keys["ca"]),
        "later": (f'{host.name} valid-after="29990101Z"', keys["later"]),
        "old": (f'{host.name} valid-after="20200101",valid-before="20200201"', keys["old"]),
        "git": (f'{host.name} namespaces="git,file"', keys["git"]),
        "weak": (host.name, weak),
        "gone": (host.name, keys["gone"]),
        "bobs": (f"bob,*,!{host.name}", keys["bobs"]),
    }
    host.configure(revoked=str(host.write("revoked", f"{public(keys['gone'])}\n")))
    host.write("signers", "nonsense\n" + "".join(f"{head} {public(key)}\n" for head, key in lines.values()))
    host.put(".ssh/authorized_keys", f'{public(keys["user"])}\ncommand="x" {public(host.key)}\n')
    site, own = host.found()["sources"]
    assert [each["fingerprint"] for each in site["signers"]] == [
        fingerprint(key) for name, (_, key) in lines.items() if name != "bobs"
    ]
    assert [(each["kind"], each["bits"]) for each in site["signers"]] == [("ED25519", 256)] * 4 + [
        ("RSA", 1024),
        ("ED25519", 256),
    ]
    problems = [each["problem"] for each in site["signers"]]
    assert problems[:3] == ["", "it isn't valid yet", "it has expired"]
    assert problems[3].startswith("it is for the namespaces git,file only")
    assert problems[4:] == ["it is too weak", "it is revoked by the site"]
    assert [each["is_authority"] for each in site["signers"]] == [True] + [False] * 5
    assert (site["signers"][2]["valid_after"], site["signers"][2]["valid_before"]) == ("20200101", "20200201")
    assert site["skipped"] == ["line 1: it is neither a public key nor names a signer"]
    assert (own["source"], [each["fingerprint"] for each in own["signers"]]) == (
        "~/.ssh/authorized_keys",
        [fingerprint(keys["user"])],
    )
    assert own["skipped"][0].startswith("line 2: it has the option command")


def test_a_key_on_a_revocation_list_doesnt_count(host: Host) -> None:
    other = make_key(host.folder / "other")
    keygen("-q", "-k", "-f", host.folder / "krl", f"{host.key}.pub")
    host.configure(revoked=str(host.write("krl", (host.folder / "krl").read_bytes())))
    host.write("signers", "".join(f"{host.name} {public(key)}\n" for key in (host.key, other)))
    assert [each["problem"] for each in host.found()["sources"][0]["signers"]] == ["it is revoked by the site", ""]


def test_what_the_account_has_revoked_and_signs_results_with(host: Host) -> None:
    key = SigningKey.generate()
    host.put(result_key.PUBLIC_PLACE[2:], result_key.public_line(key))
    host.put(".config/twinlock/revoked", f"{ID}\nbefore 2026-11-29T18:00:00Z\n")
    found = host.found()
    assert (found["account"], found["site"], found["manager"]) == (host.name, SITE, MANAGER)
    assert (found["problems"], found["result_key"], found["no_result_key"]) == ([], public_half(key), "")
    assert found["revoked"] == {"delegations": [ID], "more_delegations": 0, "before": "2026-11-29T18:00:00Z"}
    done = host.ask()
    assert done.returncode == 0
    assert result_key.read_public(done.stdout) == public_half(key)
    assert all(word in done.stdout for word in (ID, "before 2026-11-29T18:00:00Z", fingerprint(host.key)))


def test_an_account_that_never_ran_signed_work(host: Host) -> None:
    done = host.ask()
    assert (done.returncode, done.stderr) == (0, "")
    assert "revoked by the user: nothing" in done.stdout
    assert "no key of its results: " in done.stdout
    assert "it is made when the account's first endpoint in this mode starts" in done.stdout
    assert list(host.home.iterdir()) == [], "nothing is made"


def test_if_nobody_can_sign_the_exit_code_says_so(host: Host) -> None:
    host.write("signers", f'{host.name} valid-before="20200101" {public(host.key)}\n')
    done = host.ask()
    assert (done.returncode, "NOBODY CAN SIGN" in done.stdout) == (os.EX_CONFIG, True)
    assert "DOESN'T COUNT: it has expired" in done.stdout


SECRET = "root's own secret"


def _fifo(path: Path, _: Host) -> None:
    os.mkfifo(path)


def _secret(path: Path, host: Host) -> None:
    path.symlink_to(host.write("secret", SECRET, 0o600))


def _endless(path: Path, _: Host) -> None:
    path.symlink_to("/dev/zero")


def _huge(path: Path, _: Host) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def _loop(path: Path, _: Host) -> None:
    path.symlink_to(path)


def _terminal(path: Path, _: Host) -> None:
    path.write_bytes(b'\x1b]0;owned\x07\x1b[2J\nssh-ed25519 \xc2\x9b31m\n\x1b[31m="\x1b[0m" x\n' * 100)


PREPARED = (_fifo, _secret, _endless, _huge, _loop, _terminal)
PLACES = (".ssh/authorized_keys", ".config/twinlock/revoked", result_key.PUBLIC_PLACE[2:])


@pytest.mark.cases(4)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("prepare", PREPARED)
def test_a_home_that_its_owner_has_prepared(host: Host, place: str, prepare: Callable[[Path, Host], None]) -> None:
    path = host.put(place)
    path.unlink()
    prepare(path, host)
    os.chown(path, host.account.pw_uid, host.account.pw_gid, follow_symlinks=False)
    done = host.ask()
    assert done.returncode == (os.EX_CONFIG if place == PLACES[1] else 0), done.stderr
    assert fingerprint(host.key) in done.stdout, "the other source counts"
    assert ("NOTHING RUNS" in done.stdout) == (place == PLACES[1])
    shown = done.stdout + done.stderr
    assert SECRET not in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_of_the_key_for_results_the_private_half_is_not_needed(host: Host) -> None:
    """It may be whatever it likes, and the answer is the same."""
    key = SigningKey.generate()
    host.put(result_key.PUBLIC_PLACE[2:], result_key.public_line(key))
    os.mkfifo(host.home / result_key.PLACE[2:], 0o600)
    assert host.found()["result_key"] == public_half(key)


def test_an_account_with_very_many_lines(host: Host) -> None:
    line = f"{public(host.key)}\n"
    host.put(".ssh/authorized_keys", 2000 * line + 2000 * "x\n")
    host.put(".config/twinlock/revoked", "".join(f"{number:032x}\n" for number in range(2000)))
    found = host.found()
    own = found["sources"][1]
    assert (len(own["signers"]), own["more_signers"]) == (look.MOST, 2000 - look.MOST)
    assert (len(own["skipped"]), own["more_skipped"]) == (look.MOST, 2000 - look.MOST)
    assert found["revoked"]["more_delegations"] == 2000 - look.MOST


def test_the_process_is_the_accounts_and_has_nothing_of_roots(host: Host) -> None:
    seen = host.put("seen")
    words = "id -u; id -G; umask; pwd; env | grep -c HUSH; tty; ls -l /proc/$PPID/fd | grep -c signers"
    command = host.write("command", f"#!/bin/sh\n{{ {words}; }} > {seen}\n", 0o755)
    host.configure(signers=[[str(command), "%u"]])
    with open(host.folder / "signers") as mine:
        host.ask("--json", env=os.environ | {"HUSH": "hush"}, pass_fds=[mine.fileno()])
    groups = " ".join(map(str, os.getgrouplist(host.name, host.account.pw_gid)))
    assert seen.read_text().splitlines() == [*(str(host.account.pw_uid), groups, "0077", "/", "0", "not a tty", "0")]


def test_a_home_or_a_command_that_never_answers(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = host.put("pids")
    command = host.write("command", f"#!/bin/sh\necho $$ $PPID > {pids}\nexec sleep 600\n", 0o755)
    host.configure(signers=[[str(command)]])
    monkeypatch.setattr(asking, "LIMIT", 10.0)
    with pytest.raises(Fatal, match="there is no answer after 10 s") as caught:
        asking.ask(host.folder / "verified.toml", host.name)
    assert caught.value.status == os.EX_TEMPFAIL
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_others_than_root_ask_about_themselves_only(host: Host) -> None:
    uid, gid = host.account.pw_uid, host.account.pw_gid
    own: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": []}
    assert host.ask(**own).returncode == 0
    done = host.ask(about="daemon", **own)
    assert (done.returncode, "only root may ask about another account" in done.stderr) == (os.EX_NOPERM, True)


@pytest.mark.parametrize(
    ("user", "reason"), [("no-such-account", "no account 'no-such-account'"), ("root", "runs as root")]
)
def test_accounts_that_no_work_is_for(host: Host, user: str, reason: str) -> None:
    done = host.ask(about=user)
    assert (done.returncode, reason in done.stderr) == (os.EX_NOUSER, True)


def test_a_file_that_cant_be_used_is_reported_with_all_its_faults(host: Host) -> None:
    host.configure(site="Bad_Site", longest_delegation=0, no_such_key=1)
    done = host.ask()
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert all(name in done.stderr for name in ("site is 'Bad_Site'", "longest_delegation", "'no_such_key'"))
    (host.folder / "verified.toml").unlink()
    done = host.ask()
    assert (done.returncode, "name the site's verified.toml with --config" in done.stderr) == (os.EX_NOINPUT, True)


def test_a_file_that_the_account_cant_read(host: Host) -> None:
    """Its endpoints couldn't either."""
    host.write("verified.toml", (host.folder / "verified.toml").read_text(), 0o600)
    done = host.ask()
    assert (done.returncode, "Permission denied" in done.stderr) == (os.EX_CONFIG, True)


def test_a_folder_that_the_account_can_list_and_not_enter(host: Host) -> None:
    host.write("endpoint/user_config_template.yaml.j2", "")
    (host.folder / "endpoint").chmod(0o744)
    done = host.ask()
    assert done.returncode == os.EX_CONFIG
    assert "endpoint/user_config_template.yaml.j2: Permission denied; users have to be able to" in done.stderr


GOOD: dict[str, Any] = {
    "site": SITE,
    "manager": MANAGER,
    "sources": [],
    "revoked": {"delegations": [], "more_delegations": 0, "before": ""},
    "problems": [],
    "result_key": "",
    "no_result_key": "none",
}


def test_an_answer_has_nothing_that_a_terminal_acts_upon() -> None:
    evil = "\x1b[2J\u202e\ntwinlock-result-key-v1 " + "0" * 64
    found = answer.read(json.dumps({"found": GOOD | {"no_result_key": evil, "problems": ["x" * 10_000]}}).encode())
    assert found["no_result_key"].isprintable()
    assert len(found["problems"][0]) == 1000


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"7",
        b"[" * 100_000,
        b'{"found": {}}',
        b'{"error": 7}',
        *(
            json.dumps({"found": GOOD | change}).encode()
            for change in (
                {"result_key": "0" * 63},
                {"result_key": "0" * 64 + "\n"},
                {"site": "x\ny"},
                {"manager": "x"},
                {"problems": ["x"] * 1001},
                {"more": 1},
                {"revoked": None},
            )
        ),
    ],
)
def test_answers_that_are_none(text: bytes) -> None:
    with pytest.raises(Fatal) as caught:
        answer.read(text)
    assert caught.value.status == os.EX_SOFTWARE


def test_an_answer_without_an_end_is_cut_off(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_COMMAND", ("/usr/bin/yes",))
    started = time.monotonic()
    with pytest.raises(Fatal, match="a process of the account has made it up"):
        asking.ask(host.folder / "verified.toml", host.name)
    assert time.monotonic() - started < asking.LIMIT


def test_the_keys_of_a_login_stay_behind() -> None:
    """In a process of its own, since a test's own keyring is the whole run's."""
    code = (
        "import ctypes\nfrom twinlock_broker import keyring\nlibc = ctypes.CDLL(None)\n"
        "def own(): return libc.syscall(keyring.KEYCTL, 0, -3, 1)\n"
        "before = own()\nkeyring.leave()\nprint(before, own())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    before, after = map(int, done.stdout.split())
    if before < 0:
        pytest.skip("there are no keyrings here: keyctl(2) is forbidden")
    assert after > 0
    assert after != before
