"""Lines that name signers, and which of them count."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_rig import Fido, certify, keygen, make_key, public, sign, statement
from twinlock_signed.account import is_account
from twinlock_signed.errors import ConfigError, Refused
from twinlock_signed.ssh import revoked_keys
from twinlock_signed.ssh.signer_lines import allowed_signers, authorized_keys
from twinlock_signed.ssh.verify import verify


def blob(kind: bytes) -> str:
    """Bytes that begin as those of a key of this type."""
    return base64.b64encode(len(kind).to_bytes(4, "big") + kind + b"\0\0\0\x20" + bytes(range(32))).decode()


BLOB = blob(b"ssh-ed25519")
KEY = f"ssh-ed25519 {BLOB}"


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (KEY, f"ada {KEY}"),
        (f"{KEY} ada's laptop, \u00e9", f"ada {KEY}"),
        (f"  {KEY}\r", f"ada {KEY}"),
        (f"bob {KEY}", f"bob {KEY}"),
        (f"*@example.org,!bob  {KEY} x", f"*@example.org,!bob {KEY}"),
        (f"ada cert-authority {KEY}", f"ada cert-authority {KEY}"),
        (f'ada Cert-Authority,NAMESPACES="a@b,c" {KEY}', f'ada cert-authority,namespaces="a@b,c" {KEY}'),
        (
            f'ada valid-after="20260101",valid-before="20261231235959Z" {KEY}',
            f'ada valid-after="20260101",valid-before="20261231235959Z" {KEY}',
        ),
    ],
)
def test_lines_of_a_site(line: str, read: str) -> None:
    assert allowed_signers(line.encode(), "ada") == ((read,), ())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f'command="rsync" {KEY}', "neither a public key nor names a signer"),
        (f'restrict,command="rsync" {KEY}', "neither a public key nor names a signer"),
        (f'ada command="rsync" {KEY}', "the option command"),
        (f"ada restrict {KEY}", "the option restrict"),
        (f'ada cert-authority,principals="bob" {KEY}', "the option principals"),
        (f'ada expiry-time="20990101" {KEY}', "the option expiry-time"),
        (f'ada valid-before="tomorrow" {KEY}', "valid-before has a value that can't be understood"),
        (f"ada valid-before {KEY}", "valid-before has a value"),
        (f'ada cert-authority="yes" {KEY}', "cert-authority has a value"),
        (f'ada namespaces="a\\"b" {KEY}', "namespaces has a value"),
        (f'ada namespaces="a",namespaces="b" {KEY}', "the option namespaces more than once"),
        ('ada namespaces="a', "no public key"),
        (f"ada cert-authority,{KEY}", "no public key"),
        ("ada", "neither a public key nor names a signer"),
        ("ada ssh-ed25519", "no public key"),
        (f"ada ssh-ed25519 {BLOB}!", "no public key"),
        (f"ada ssh-rsa {BLOB}", "no public key"),
        (f"ada ssh-dss {blob(b'ssh-dss')}", "no public key"),
        (f"ada ssh-ed25519-cert-v01@openssh.com {blob(b'ssh-ed25519-cert-v01@openssh.com')}", "no public key"),
    ],
)
def test_lines_of_a_site_that_dont_count(line: str, reason: str) -> None:
    parsed = allowed_signers(f"# a comment\n\n{line}\nbob {KEY}\n".encode(), "ada")
    assert parsed.lines == (f"bob {KEY}",)
    assert len(parsed.skipped) == 1
    assert parsed.skipped[0].startswith("line 3: ")
    assert reason in parsed.skipped[0]


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\0"])
def test_only_a_newline_ends_a_line(end: str) -> None:
    """As it is for ssh-keygen; what follows others is part of the comment."""
    assert allowed_signers(f"bob {KEY} x{end}ada {KEY}".encode("latin-1"), "ada") == ((f"bob {KEY}",), ())


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (KEY, f"ada {KEY}"),
        (f"cert-authority {KEY}", f"ada cert-authority {KEY}"),
        (f'EXPIRY-TIME="202612312359" {KEY} x', f'ada valid-before="202612312359" {KEY}'),
    ],
)
def test_lines_of_authorized_keys(line: str, read: str) -> None:
    assert authorized_keys(line.encode(), "ada") == ((read,), ())


@pytest.mark.parametrize(
    "line",
    [
        f'command="rsync --server" {KEY}',
        f'command="echo \\"a\\", ssh-ed25519 {BLOB}" {KEY}',
        f"restrict {KEY}",
        f"no-pty {KEY}",
        f'from="10.0.0.0/8" {KEY}',
        f'cert-authority,principals="bob" {KEY}',
        f"cert-authority,verify-required {KEY}",
        f'environment="A=ada {KEY}" {KEY}',
        f"bob {KEY}",
        f'namespaces="git" {KEY}',
        f'valid-before="20990101" {KEY}',
        f"command={KEY}",
        f'expiry-time="20990101",command="x" {KEY}',
    ],
)
def test_lines_of_authorized_keys_that_dont_count(line: str) -> None:
    """With these a login can't do anything it likes, or isn't the account's at all."""
    parsed = authorized_keys(line.encode(), "ada")
    assert parsed.lines == ()
    assert len(parsed.skipped) == 1


WORDS = st.sampled_from(
    [
        *(
            KEY,
            BLOB,
            "ssh-ed25519",
            "ssh-rsa",
            "ada",
            "bob",
            "*",
            '"',
            "\\",
            ",",
            " ",
            "\t",
            "\n",
            "\r",
            "#",
            "=",
            "\0",
        ),
        *("cert-authority", 'command="x"', 'namespaces="git"', 'expiry-time="20300101"', "restrict", "\x85", "\u2028"),
    ]
)


@given(st.lists(WORDS, max_size=12).map("".join))
def test_of_any_text_only_lines_of_the_known_form_are_left(text: str) -> None:
    """None of them names another account, or has an option that the text hasn't."""
    parsed = authorized_keys(text.encode(), "ada")
    for line in parsed.lines:
        principals, *options, kind, blob = line.split(" ")
        assert principals == "ada"
        assert kind == "ssh-ed25519"
        assert blob in text, "a key of the text, which may be the one above twice without a space"
        assert set(",".join(options).split(",")) <= {"", "cert-authority", 'valid-before="20300101"'}
        assert "command" not in line
        assert "\n" not in line
    allowed_signers(text.encode(), "ada")


def test_a_comment_can_not_be_made_a_signer(tmp_path: Path) -> None:
    """Real ssh-keygen reads what was written as it was meant."""
    mine, other = make_key(tmp_path / "mine"), make_key(tmp_path / "other")
    text = f"bob {public(mine)} ada {public(other)}\r\n#ada {public(other)}\n"
    lines = "".join(f"{line}\n" for line in allowed_signers(text.encode(), "ada").lines).encode()
    data = statement()
    assert verify(data, sign(mine, data), "bob", lines).kind == "ED25519"
    for key, account in ((mine, "ada"), (other, "ada"), (other, "bob")):
        with pytest.raises(Refused):
            verify(data, sign(key, data), account, lines)


@pytest.mark.parametrize(
    "option", ["cert-authority", 'expiry-time="20990101"', 'expiry-time="20200101"', 'command="x"', ""]
)
def test_a_line_of_authorized_keys_counts_as_it_does_for_ssh(tmp_path: Path, option: str) -> None:
    key, ca = make_key(tmp_path / "key"), make_key(tmp_path / "ca")
    data = statement()
    good = {"": True, 'expiry-time="20990101"': True}.get(option, False)
    lines = "\n".join(authorized_keys(f"{option} {public(key)}".encode(), "ada").lines).encode()
    if good:
        assert verify(data, sign(key, data), "ada", lines).kind == "ED25519"
    else:
        with pytest.raises(Refused):
            verify(data, sign(key, data), "ada", lines)
    signature = sign(certify(ca, key), data)
    lines = "\n".join(authorized_keys(f"{option} {public(ca)}".encode(), "ada").lines).encode()
    if option == "cert-authority":
        assert verify(data, signature, "ada", lines).kind == "ED25519-CERT"
    else:
        with pytest.raises(Refused):
            verify(data, signature, "ada", lines)


SIGNER = Fido()
SIGNED = statement()
SIGNATURE = SIGNER.sign(SIGNED)
NAMES = st.text(alphabet=[chr(code) for code in range(33, 127)], min_size=1, max_size=12).filter(is_account)


@given(NAMES, NAMES)
def test_a_name_is_only_itself(name: str, other: str) -> None:
    """For real ssh-keygen none of the names that are allowed is a pattern, a quotation or an option."""
    lines = "\n".join(authorized_keys(SIGNER.public.encode(), name).lines).encode()
    assert verify(SIGNED, SIGNATURE, name, lines).kind == "ED25519-SK"
    if other != name:
        with pytest.raises(Refused):
            verify(SIGNED, SIGNATURE, other, lines)


def write(path: Path, data: bytes | str) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(0o644)
    return str(path)


def test_revoked_keys_as_a_list(tmp_path: Path) -> None:
    text = f"# stolen\n\n  {KEY} of ada\nssh-dss AAAA\n{Fido().public}\n"
    read = revoked_keys.read(write(tmp_path / "revoked", text)).decode().splitlines()
    assert read[0] == KEY
    assert len(read) == 2


def test_revoked_keys_as_a_revocation_list(tmp_path: Path) -> None:
    keygen("-q", "-k", "-f", tmp_path / "krl", f"{make_key(tmp_path / 'key')}.pub")
    data = (tmp_path / "krl").read_bytes()
    assert revoked_keys.read(write(tmp_path / "copy", data)) == data


@pytest.mark.parametrize("line", ["SHA256:abc", f'command="x" {KEY}', f"ada {KEY}", "ssh-ed25519 AAAA", "x"])
def test_revoked_keys_that_can_not_be_understood(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "revoked", f"{KEY}\n{line}\n")
    with pytest.raises(ConfigError, match=f"{path}: line 2 is not a public key; correct it, until then nothing runs"):
        revoked_keys.read(path)


def test_revoked_keys_that_are_not_there_or_not_roots(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/none: No such file or directory"):
        revoked_keys.read(str(tmp_path / "none"))
    path = write(tmp_path / "revoked", "")
    assert revoked_keys.read(path) == b""
    Path(path).chmod(0o666)
    with pytest.raises(ConfigError, match="its group or others can change it"):
        revoked_keys.read(path)


def test_ssh_keygen_takes_the_list_that_is_left(tmp_path: Path) -> None:
    """One key that it can't read would revoke all."""
    key = make_key(tmp_path / "key")
    data = statement()
    read = revoked_keys.read(write(tmp_path / "revoked", f"ssh-dss AAAA\n# x\n{KEY} \u00e9\n"))
    assert verify(data, sign(key, data), "ada", f"ada {public(key)}".encode(), read).kind == "ED25519"
