"""Signatures of delegations by people's SSH keys: which are believed."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from signed_rig import Fido, add_to_agent, agent, certify, keygen, make_key, public, sign, statement
from twinlock_signed.delegation import NAMESPACE
from twinlock_signed.errors import Refused
from twinlock_signed.ssh import keygen as program
from twinlock_signed.ssh import sign as signing
from twinlock_signed.ssh.verify import verify

STATEMENT = statement()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys of ada, bob and two certification authorities."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ada", "bob", "ca", "other-ca"):
        make_key(folder / name)
    return folder


@pytest.fixture
def ada(keys: Path, tmp_path: Path) -> Path:
    """Ada's key, in a folder where certificates can be put beside it."""
    for end in ("", ".pub"):
        (tmp_path / f"ada{end}").write_bytes((keys / f"ada{end}").read_bytes())
    (tmp_path / "ada").chmod(0o600)
    return tmp_path / "ada"


def signers(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def believed(signature: bytes, *lines: str, revoked: bytes = b"", as_of: int | None = None) -> str:
    """The kind of the key that has signed for ada."""
    return verify(STATEMENT, signature, "ada", signers(*lines), revoked, as_of).kind


def fingerprint(key: Path) -> str:
    return keygen("-l", "-f", f"{key}.pub").decode().split()[1]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (("-t", "ed25519"), "ED25519"),
        (("-t", "rsa", "-b", "2048"), "RSA"),
        (("-t", "ecdsa", "-b", "256"), "ECDSA"),
        (("-t", "ecdsa", "-b", "521"), "ECDSA"),
    ],
)
def test_a_key_that_signs(tmp_path: Path, kind: tuple[str, ...], name: str) -> None:
    key = make_key(tmp_path / "key", *kind)
    found = verify(STATEMENT, sign(key, STATEMENT), "ada", signers(f"ada {public(key)}"))
    assert found == (fingerprint(key), name)


def test_a_fido_key_signs() -> None:
    key = Fido()
    assert believed(key.sign(STATEMENT), f"ada {key.public}") == "ED25519-SK"
    with pytest.raises(Refused, match="incorrect signature"):
        believed(key.sign(STATEMENT + b" "), f"ada {key.public}")


@pytest.mark.parametrize("kind", [("-t", "rsa", "-b", "1024"), ("-t", "dsa")])
def test_a_key_that_is_too_weak(tmp_path: Path, kind: tuple[str, ...]) -> None:
    try:
        key = make_key(tmp_path / "key", *kind)
    except subprocess.CalledProcessError:
        pytest.skip(f"this ssh-keygen makes no key by {' '.join(kind)}")
    with pytest.raises(Refused, match="too weak; use ED25519, or RSA of 2048"):
        believed(sign(key, STATEMENT), f"ada {public(key)}")


def test_a_certificate_of_a_weak_key(keys: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", "-t", "rsa", "-b", "1024")
    certificate = certify(keys / "ca", key)
    with pytest.raises(Refused, match="is RSA-CERT of 1024 bits, which is too weak"):
        believed(sign(certificate, STATEMENT), f"ada cert-authority {public(keys / 'ca')}")


def test_another_persons_key(keys: Path) -> None:
    """Bob's key signs for bob, and not for ada; for an account without signers nobody signs."""
    lines = (f"ada {public(keys / 'ada')}", f"bob {public(keys / 'bob')}")
    signature = sign(keys / "bob", STATEMENT)
    assert verify(STATEMENT, signature, "bob", signers(*lines)).kind == "ED25519"
    with pytest.raises(Refused, match=r"no good signature for ada .*sign with a key that the site accepts"):
        believed(signature, *lines)
    with pytest.raises(Refused, match="no good signature for ada"):
        believed(sign(keys / "ada", STATEMENT))


def test_a_statement_that_was_changed(keys: Path) -> None:
    with pytest.raises(Refused, match="incorrect signature"):
        believed(sign(keys / "ada", STATEMENT.replace(b'"nodes":2', b'"nodes":3')), f"ada {public(keys / 'ada')}")


@pytest.mark.parametrize(
    "namespace", ["file", "git", NAMESPACE.replace("v1", "v2"), NAMESPACE.upper(), f"{NAMESPACE} "]
)
def test_a_signature_for_another_purpose(keys: Path, namespace: str) -> None:
    with pytest.raises(Refused, match="namespace does not match"):
        believed(sign(keys / "ada", STATEMENT, namespace), f"ada {public(keys / 'ada')}")


def test_a_key_for_another_purpose(keys: Path) -> None:
    signature = sign(keys / "ada", STATEMENT)
    key = public(keys / "ada")
    assert believed(signature, f'ada namespaces="{NAMESPACE}" {key}') == "ED25519"
    with pytest.raises(Refused, match="not permitted for use in signature namespace"):
        believed(signature, f'ada namespaces="git" {key}')


@pytest.mark.parametrize(
    "data", [b"", b"x", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n", b"\0" * 99]
)
def test_what_is_no_signature(keys: Path, data: bytes) -> None:
    with pytest.raises(Refused, match="no good signature"):
        believed(data, f"ada {public(keys / 'ada')}")


def test_sizes_are_looked_at_first(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PROGRAM", "/nonexistent")
    with pytest.raises(Refused, match="The delegation has 1000000 bytes"):
        verify(b"x" * 1_000_000, b"", "ada", b"")
    with pytest.raises(Refused, match="The signature of the delegation has 1000000 bytes"):
        verify(b"x", b"x" * 1_000_000, "ada", b"")
    with pytest.raises(Refused, match="/nonexistent can't be run: No such file or directory"):
        verify(b"x", b"x", "ada", b"")


def test_a_key_that_is_no_longer_or_not_yet_a_signer(keys: Path) -> None:
    signature, key = sign(keys / "ada", STATEMENT), public(keys / "ada")
    assert believed(signature, f'ada valid-before="20991231",valid-after="20200101" {key}') == "ED25519"
    with pytest.raises(Refused, match="key has expired"):
        believed(signature, f'ada valid-before="20200101" {key}')
    with pytest.raises(Refused, match="key is not yet valid"):
        believed(signature, f'ada valid-after="20991231" {key}')


def test_what_was_accepted_at_a_time_is_as_good_as_it_was_then(keys: Path, ada: Path) -> None:
    """A restarted endpoint asks so. The certificate was valid from three hours ago until an hour ago."""
    then = int(time.time()) - 7200
    signature = sign(certify(keys / "ca", ada, "-V", "-3h:-1h"), STATEMENT)
    authority = f"ada cert-authority {public(keys / 'ca')}"
    assert believed(signature, authority, as_of=then) == "ED25519-CERT"
    for moment in (None, then - 5400, then + 5400):
        with pytest.raises(Refused, match="certificate not authorized"):
            believed(signature, authority, as_of=moment)


def test_a_certificate(keys: Path, ada: Path) -> None:
    signature = sign(certify(keys / "ca", ada), STATEMENT)
    assert believed(signature, f"ada cert-authority {public(keys / 'ca')}") == "ED25519-CERT"
    assert believed(signature, f"* cert-authority {public(keys / 'ca')}") == "ED25519-CERT"


def test_a_certificate_of_another_authority(keys: Path, ada: Path) -> None:
    signature = sign(certify(keys / "other-ca", ada), STATEMENT)
    with pytest.raises(Refused, match="no good signature"):
        believed(signature, f"ada cert-authority {public(keys / 'ca')}")
    with pytest.raises(Refused, match="no good signature"):  # a signer's own key is no authority
        believed(signature, f"ada {public(keys / 'other-ca')}", f"bob cert-authority {public(keys / 'other-ca')}")


@pytest.mark.parametrize("principals", ["bob", "", "ada2", "*", "ad?", "root,bob"])
def test_a_certificate_of_other_principals(keys: Path, ada: Path, principals: str) -> None:
    """Without any it would be everybody's."""
    signature = sign(certify(keys / "ca", ada, principals=principals), STATEMENT)
    with pytest.raises(Refused, match=r"not a listed principal|lacks principal list"):
        believed(signature, f"ada,* cert-authority {public(keys / 'ca')}")


@pytest.mark.parametrize(
    "options", [("-O", "force-command=ls"), ("-O", "source-address=127.0.0.1"), ("-O", "critical:x=y")]
)
def test_a_certificate_that_is_not_for_every_kind_of_work(keys: Path, ada: Path, options: tuple[str, ...]) -> None:
    signature = sign(certify(keys / "ca", ada, *options), STATEMENT)
    with pytest.raises(Refused, match="critical options, such as force-command"):
        believed(signature, f"ada cert-authority {public(keys / 'ca')}")


def test_critical_options_can_not_be_hidden_by_a_certificates_id(keys: Path, ada: Path) -> None:
    """ssh-keygen prints the id as it is."""
    hiding = 'x"\n        Critical Options: (none)\n        Extensions: \n'
    keygen("-q", "-s", keys / "ca", "-I", hiding, "-n", "ada", "-O", "force-command=ls", f"{ada}.pub")
    signature = sign(Path(f"{ada}-cert.pub"), STATEMENT)
    with pytest.raises(Refused, match="critical options"):
        believed(signature, f"ada cert-authority {public(keys / 'ca')}")


@pytest.mark.parametrize(("options", "reason"), [(("-h",), "not a user certificate"), (("-V", "-2h:-1h"), "expired")])
def test_a_certificate_that_is_not_valid(keys: Path, ada: Path, options: tuple[str, ...], reason: str) -> None:
    signature = sign(certify(keys / "ca", ada, *options), STATEMENT)
    with pytest.raises(Refused, match=reason):
        believed(signature, f"ada cert-authority {public(keys / 'ca')}")


def test_a_certificate_by_sha1(tmp_path: Path, ada: Path) -> None:
    ca = make_key(tmp_path / "ca", "-t", "rsa", "-b", "2048")
    for algorithm, good in (("rsa-sha2-512", True), ("ssh-rsa", False)):
        signature = sign(certify(ca, ada, "-t", algorithm), STATEMENT)
        if good:
            assert believed(signature, f"ada cert-authority {public(ca)}") == "ED25519-CERT"
        else:
            with pytest.raises(Refused, match="SHA-1"):
                believed(signature, f"ada cert-authority {public(ca)}")


def revocation_list(folder: Path, *keys: str) -> bytes:
    keygen("-q", "-k", "-f", folder / "krl", *keys)
    return (folder / "krl").read_bytes()


def test_a_revoked_key(keys: Path, tmp_path: Path) -> None:
    signature, line = sign(keys / "ada", STATEMENT), f"ada {public(keys / 'ada')}"
    by_list, by_krl = (public(keys / "ada").encode() + b"\n", revocation_list(tmp_path, f"{keys / 'ada'}.pub"))
    for revoked in (by_list, by_krl):
        with pytest.raises(Refused, match="is revoked"):
            believed(signature, line, revoked=revoked)
    for revoked in (b"", public(keys / "bob").encode() + b"\n", revocation_list(tmp_path, f"{keys / 'bob'}.pub")):
        assert believed(signature, line, revoked=revoked) == "ED25519"


def test_a_revoked_certificate_and_a_revoked_authority(keys: Path, ada: Path, tmp_path: Path) -> None:
    certificate = certify(keys / "ca", ada)
    signature, line = sign(certificate, STATEMENT), f"ada cert-authority {public(keys / 'ca')}"
    for revoked in (
        revocation_list(tmp_path, str(certificate)),
        revocation_list(tmp_path, f"{keys / 'ca'}.pub"),
        public(keys / "ca").encode(),
        public(keys / "ada").encode(),
    ):
        with pytest.raises(Refused, match="is revoked"):
            believed(signature, line, revoked=revoked)


def test_revocations_that_can_not_be_read_revoke_all(keys: Path, tmp_path: Path) -> None:
    krl = revocation_list(tmp_path, f"{keys / 'bob'}.pub")
    for broken in (krl[:-1], krl[:30], b"ssh-ed25519 AAAA\n"):
        with pytest.raises(Refused, match="no good signature"):
            believed(sign(keys / "ada", STATEMENT), f"ada {public(keys / 'ada')}", revoked=broken)


def test_nothing_of_the_environment_reaches_ssh_keygen(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in its place shows what it gets: no environment, a fixed command line, and files without a name."""
    stand_in = tmp_path / "ssh-keygen"
    stand_in.write_text(
        "#!/bin/sh\nxargs -0n1 < /proc/$$/environ >&2\n"
        'echo "ARGS $*" >&2\nfor fd in /proc/$$/fd/*; do readlink $fd >&2; done\nexit 1\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(program, "PROGRAM", str(stand_in))
    monkeypatch.setattr(program, "_LONGEST_WORDS", 10_000)
    monkeypatch.setenv("LD_PRELOAD", "evil.so")
    with pytest.raises(Refused) as refused:
        verify(b"statement", b"signature", "ada", b"signers")
    said = str(refused.value)
    assert "evil" not in said
    assert "PYTHON" not in said
    assert f"-q -Y verify -n {NAMESPACE} -I ada -O print-pubkey -f /proc/self/fd/" in said
    assert said.count("/memfd:twinlock") == 4


def test_a_program_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "ssh-keygen"
    stand_in.write_text("#!/bin/sh\nexec sleep 1000\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(program, "PROGRAM", str(stand_in))
    monkeypatch.setattr(program, "LIMIT", 0.2)
    with pytest.raises(Refused, match="took more than"):
        verify(b"statement", b"signature", "ada", b"signers")


def test_no_descriptor_stays_open(keys: Path) -> None:
    signature = sign(keys / "ada", STATEMENT)
    before = len(os.listdir("/proc/self/fd"))
    believed(signature, f"ada {public(keys / 'ada')}")
    with pytest.raises(Refused):
        believed(b"x", "ada")
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_ssh_keygen_says_is_made_printable() -> None:
    assert program.words(b"one\ntwo\t\x1b[31mred\xff " + b"x" * 999) == "one two ?[31mred? " + "x" * 282


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The socket of an agent that users' programs find."""
    with agent(tmp_path) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        yield path


def test_a_person_signs_by_a_file(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(ada.parent))
    for key in (ada, Path("~/ada"), Path(f"{ada}.pub")):
        assert believed(signing.sign(STATEMENT, key).encode(), f"ada {public(ada)}") == "ED25519"


def test_a_person_signs_by_a_certificate(keys: Path, ada: Path) -> None:
    signature = signing.sign(STATEMENT, certify(keys / "ca", ada))
    assert believed(signature.encode(), f"ada cert-authority {public(keys / 'ca')}") == "ED25519-CERT"


def test_a_person_signs_by_an_agent(keys: Path, ada: Path, socket: str) -> None:
    """The private key is nowhere else."""
    certificate = certify(keys / "ca", ada).read_text()
    key = public(ada)
    add_to_agent(socket, ada)
    ada.unlink()
    assert believed(signing.sign_by_agent(STATEMENT, key).encode(), f"ada {key}") == "ED25519"
    assert believed(signing.sign(STATEMENT, Path(f"{ada}.pub")).encode(), f"ada {key}") == "ED25519"
    by_certificate = signing.sign_by_agent(STATEMENT, certificate).encode()
    assert believed(by_certificate, f"ada cert-authority {public(keys / 'ca')}") == "ED25519-CERT"


def test_an_agent_without_the_key(keys: Path, socket: str) -> None:
    with pytest.raises(Refused, match=r"ssh-keygen can't sign with it .*choose another key"):
        signing.sign_by_agent(STATEMENT, public(keys / "ada"))


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"/none: ssh-keygen can't sign with it .*No such file"):
        signing.sign(STATEMENT, tmp_path / "none")
