"""Which SSH key signs a delegation: each kind that people have, verified as a host does."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_rig import ADA, VerifyingHost
from signed_rig import HOUR, MANAGER, add_to_agent, agent, certify, keygen, make_key, public
from twinlock_client import delegations, ssh_keys
from twinlock_client.session import Asked, Numbered
from twinlock_signed.errors import Refused
from twinlock_signed.ssh import sign as signing

FIDO = Path(__file__).parents[1] / "helpers/sk_software.c"

ASKED = Asked("04\ncode", "11\n[]", "11\n{}", {}, [])


def accepted(host: VerifyingHost, key: str | Path | None) -> str:
    """The id of a delegation that was made with the key, with a task, and that the host has accepted."""
    made = delegations.make(ADA, MANAGER, {"nodes": 2}, {}, HOUR, ssh_keys.choose(key))
    said, _ = host.accept(Numbered(made, iter([0])).sign(ASKED, None).texts)
    assert said == made.said
    return said.id


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An SSH agent without keys, which the client uses; its socket."""
    with agent(tmp_path) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        yield socket


@pytest.mark.parametrize("kind", [("-t", "ed25519"), ("-t", "rsa", "-b", "2048"), ("-t", "ecdsa", "-b", "256")])
def test_a_key_file(tmp_path: Path, kind: tuple[str, ...]) -> None:
    key = make_key(tmp_path / "key", *kind)
    assert accepted(VerifyingHost.knowing(key), key)


def test_a_key_file_below_the_home(home: Path) -> None:
    (home / ".ssh").mkdir()
    key = make_key(home / ".ssh" / "id_ed25519")
    assert accepted(VerifyingHost.knowing(key), "~/.ssh/id_ed25519")


def test_each_delegation_is_another_one(ada: Path) -> None:
    host = VerifyingHost.knowing(ada)
    assert accepted(host, ada) != accepted(host, ada)


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    """A key that needs a passphrase."""
    key = make_key(tmp_path / "encrypted")
    keygen("-q", "-p", "-P", "", "-N", "correct horse", "-f", key)
    return key


def askpass(folder: Path, passphrase: str) -> Path:
    """A program that ssh-keygen asks for a passphrase where there is no terminal."""
    program = folder / "askpass"
    program.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
    program.chmod(0o755)
    return program


def test_an_encrypted_key(tmp_path: Path, encrypted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("SSH_ASKPASS", str(askpass(tmp_path, "correct horse")))
    assert accepted(VerifyingHost.knowing(encrypted), encrypted)
    monkeypatch.setenv("SSH_ASKPASS", str(askpass(tmp_path, "wrong")))
    with pytest.raises(Refused, match=r"encrypted: ssh-keygen can't sign with it \(.*passphrase"):
        accepted(VerifyingHost.knowing(encrypted), encrypted)


def check(key: Path, **keywords: Any) -> "subprocess.Popen[str]":
    """The command `twinlock-client check`, which has the key sign."""
    argv = [sys.executable, "-m", "twinlock_client", "check", str(ADA), MANAGER, "--key", str(key)]
    environment = {**os.environ, "PYTHONPATH": str(Path(ssh_keys.__file__).parent.parent)}
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=environment, **keywords)


def test_an_encrypted_key_without_a_terminal(encrypted: Path) -> None:
    """ssh-keygen then takes the delegation for the passphrase, and calls that a wrong one."""
    with check(encrypted, start_new_session=True) as process:
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "There is no terminal to type its passphrase; give the key to an agent (`ssh-add`)" in printed


def test_an_encrypted_key_that_the_agent_has(tmp_path: Path, encrypted: Path, agents: str) -> None:
    """Its passphrase was asked for when it was added."""
    plain = tmp_path / "plain"
    plain.write_bytes(encrypted.read_bytes())
    plain.chmod(0o600)
    keygen("-q", "-p", "-P", "correct horse", "-N", "", "-f", plain)
    add_to_agent(agents, plain)
    assert accepted(VerifyingHost.knowing(encrypted), f"{encrypted}.pub")


def test_the_agents_only_key(ada: Path, agents: str) -> None:
    add_to_agent(agents, ada)
    line = public(ada)
    ada.unlink()
    assert accepted(VerifyingHost(f"ada {line}"), None)


def fingerprint(key: Path) -> str:
    return keygen("-l", "-f", f"{key}.pub").decode().split()[1]


def test_several_keys_in_the_agent(tmp_path: Path, ada: Path, agents: str) -> None:
    other = make_key(tmp_path / "other")
    for key in (ada, other):
        add_to_agent(agents, key)
    with pytest.raises(Refused, match="the SSH agent has several that fit; give `key`") as caught:
        accepted(VerifyingHost.knowing(ada), None)
    assert all(fingerprint(key) in str(caught.value) for key in (ada, other))
    assert accepted(VerifyingHost.knowing(other), fingerprint(other))
    with pytest.raises(Refused, match="no good signature"):
        accepted(VerifyingHost.knowing(ada), fingerprint(other))


def test_an_agent_without_that_key(tmp_path: Path, ada: Path, agents: str) -> None:
    with pytest.raises(Refused, match=r"no key: the SSH agent hasn't got one; use `ssh-add`.* It has: none"):
        accepted(VerifyingHost.knowing(ada), None)
    add_to_agent(agents, ada)
    other = make_key(tmp_path / "other")
    with pytest.raises(Refused, match="hasn't got one"):
        accepted(VerifyingHost.knowing(other), fingerprint(other))


def test_no_agent(ada: Path) -> None:
    with pytest.raises(Refused, match="there is no SSH agent; start one, or give `key`"):
        accepted(VerifyingHost.knowing(ada), None)


def test_an_agent_that_does_not_answer(ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_keys, "LIMIT", 0.3)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "silent"))
        with pytest.raises(Refused, match="didn't answer within 0 s; see why with `ssh-add -L`"):
            accepted(VerifyingHost.knowing(ada), None)


@pytest.fixture
def fido(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A FIDO key, in software: what ssh-keygen asks is real, and touching it isn't needed."""
    provider = tmp_path / "sk_software.so"
    command: list[str | Path] = ["gcc", "-shared", "-fPIC", "-o", provider, FIDO, "-l:libcrypto.so.3"]
    subprocess.run(command, check=True, timeout=120)
    monkeypatch.setenv("SSH_SK_PROVIDER", str(provider))
    return make_key(tmp_path / "id_ed25519_sk", "-t", "ed25519-sk", "-w", str(provider))


def test_a_fido_key(fido: Path, ada: Path) -> None:
    assert public(fido).startswith("sk-ssh-ed25519@openssh.com ")
    assert accepted(VerifyingHost.knowing(fido), fido)
    with pytest.raises(Refused, match="no good signature"):
        accepted(VerifyingHost.knowing(ada), fido)


def test_a_fido_key_that_waits_to_be_touched(fido: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person is told before it is touched, also where there is no terminal."""
    os.mkfifo(tmp_path / "touch")
    monkeypatch.setenv("SK_TOUCH", str(tmp_path / "touch"))
    with check(fido, start_new_session=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"Confirm user presence for key ED25519-SK {fingerprint(fido)}\n"
        (tmp_path / "touch").write_text("!")
        printed, rest = process.communicate(timeout=120)
    assert (process.returncode, rest) == (0, "")
    assert f"{fingerprint(fido)} signs delegations" in printed


def test_signing_where_nobody_can_be_told(fido: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without a terminal may have closed its stderr."""
    closed = io.StringIO()
    closed.close()
    for stderr in (closed, None):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert accepted(VerifyingHost.knowing(fido), fido)


def test_what_ssh_keygen_leaves_behind_is_not_waited_for(
    ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program for passphrases may live on, and hold its stderr."""
    program = tmp_path / "bin" / "ssh-keygen"
    program.parent.mkdir()
    real = shutil.which("ssh-keygen")
    program.write_text(f'#!/bin/sh\nsleep 600 < /dev/null > /dev/null &\necho $! > {tmp_path}/pid\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    host = VerifyingHost.knowing(ada)
    assert accepted(host, ada)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # it lives


def test_a_fido_key_that_is_not_there(fido: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_SK_PROVIDER", f"{fido}.none")
    with pytest.raises(Refused, match="ssh-keygen can't sign with it"):
        accepted(VerifyingHost.knowing(fido), fido)


def test_a_certificate(tmp_path: Path, ada: Path) -> None:
    ca = make_key(tmp_path / "ca")
    certificate = certify(ca, ada)
    assert accepted(VerifyingHost(f"ada cert-authority {public(ca)}"), certificate)


def test_a_certificate_in_the_agent(tmp_path: Path, ada: Path, agents: str) -> None:
    """The agent then has two that sign, the key and the certificate; the certificate's file chooses."""
    ca = make_key(tmp_path / "ca")
    certificate = certify(ca, ada)
    add_to_agent(agents, ada)
    ada.unlink()
    host = VerifyingHost(f"ada cert-authority {public(ca)}")
    assert accepted(host, certificate)
    with pytest.raises(Refused, match=r"several that fit; give `key`, the file of one \(its .pub or -cert.pub does\)"):
        accepted(host, None)


def test_a_key_that_the_site_does_not_know(tmp_path: Path, ada: Path) -> None:
    other = make_key(tmp_path / "other")
    with pytest.raises(Refused, match="no good signature for ada"):
        accepted(VerifyingHost.knowing(ada), other)


def test_a_key_that_is_bound_to_destinations(home: Path, ada: Path, agents: str) -> None:
    known_hosts = home / "known_hosts"
    known_hosts.write_text(f"cluster.example.org {public(ada)}\n")
    command: list[str | Path] = ["ssh-add", "-q", "-H", known_hosts, "-h", "cluster.example.org", ada]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    ada.unlink()
    with pytest.raises(Refused, match=r"agent refused operation.*keys that were added for certain destinations"):
        accepted(VerifyingHost(f"ada {known_hosts.read_text().split(' ', 1)[1].strip()}"), None)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [("nothing", None, "there is no such file"), ("junk", "junk\n", "ssh-keygen can't sign with it")],
)
def test_files_that_are_no_keys(tmp_path: Path, ada: Path, name: str, text: str | None, reason: str) -> None:
    if text:
        (tmp_path / name).write_text(text)
    with pytest.raises(Refused, match=reason):
        accepted(VerifyingHost.knowing(ada), tmp_path / name)


def test_a_key_in_the_home_of_nobody(ada: Path) -> None:
    with pytest.raises(Refused, match="key ~nobody-of-this-name/key: there is no such file"):
        accepted(VerifyingHost.knowing(ada), "~nobody-of-this-name/key")


def test_a_key_that_nobody_touches(ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or whose passphrase nobody types."""
    monkeypatch.setattr(signing, "LIMIT", 0.3)
    program = tmp_path / "ssh-keygen"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(Refused, match="nothing was signed within 0 s; touch the key or type the passphrase"):
        accepted(VerifyingHost.knowing(ada), ada)


def test_without_openssh(ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"install OpenSSH 8.9"):
        accepted(VerifyingHost.knowing(ada), ada)
