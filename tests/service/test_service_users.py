"""The users file: what it gives, and what is refused."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from twinlock_service.errors import StartError
from twinlock_service.users.directory import Users, load_users
from twinlock_service.users.users_file import read_users_file

ALICE_ID = "7b1f2f6e-0000-4000-8000-000000000001"
LINKED_ID = "7b1f2f6e-0000-4000-8000-000000000003"
CLIENT_ID = "7b1f2f6e-0000-4000-8000-0000000000ff"

GOOD = f"""\
users:
  alice@site.example:
    id: {ALICE_ID.upper()}
    name: Alice Example
    organization: Example Site
    token: sesame-alice
    linked: [{{id: {LINKED_ID}, username: alice@elsewhere.example}}]
  bob@site.example: {{id: 7b1f2f6e-0000-4000-8000-000000000002, token: sesame-bob}}
clients:
  {CLIENT_ID}: {{secret: sesame-client}}
"""


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    """A users file."""
    path = folder / "users.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_user_is_found_by_token(tmp_path: Path) -> None:
    users = load_users(write(tmp_path, GOOD))
    login = users.by_token("sesame-alice")
    assert login is not None
    assert (login.identity.id, login.identity.username) == (ALICE_ID, "alice@site.example")
    assert users.by_id(ALICE_ID) == login.identity
    for wrong in ("", "sesame", "SESAME-ALICE", "sesame-client", "sesame-al\udcffce"):
        assert users.by_token(wrong) is None


def test_a_digest_does_for_a_token(tmp_path: Path) -> None:
    users = load_users(write(tmp_path, hidden("sesame-alice", "2999-01-01T00:00:00Z")))
    login = users.by_token("sesame-alice")
    assert login is not None
    assert not login.expired
    assert users.by_credential(login.credential) == login
    assert "sesame" not in repr(login)


def test_a_token_expires(tmp_path: Path) -> None:
    users = load_users(write(tmp_path, hidden("sesame-alice", "2026-01-02T03:04:05+00:00")))
    login = users.by_token("sesame-alice")
    assert login is not None
    assert login.expired
    assert login.expiry() == "2026-01-02 03:04 UTC"
    assert users.by_credential(login.credential) is None


def test_a_token_written_by_hand_expires_too(tmp_path: Path) -> None:
    document = read_users_file(write(tmp_path, GOOD + "service: {token_days: 2}\n"))
    for days, expired in ((1.9, False), (2.1, True)):
        login = Users(document, lambda _, days=days: time.time() - days * 24 * 3600).by_token("sesame-alice")  # type: ignore[misc]
        assert login is not None
        assert login.expired is expired


def hidden(token: str, expires: str) -> str:
    """A users file with the digest of Alice's token."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    entry = f"{{sha256: {digest}, created: 2026-01-01T00:00:00Z, expires: {expires}}}"
    return f"users: {{alice@site.example: {{id: {ALICE_ID}, tokens: [{entry}]}}}}\n"


def test_a_client_is_found_by_its_secret(tmp_path: Path) -> None:
    users = load_users(write(tmp_path, GOOD))
    client = users.by_secret(CLIENT_ID, "sesame-client")
    assert client is not None
    assert client.identity.id == CLIENT_ID
    assert client.identity.username == f"{CLIENT_ID}@clients.auth.globus.org"
    for name, secret in ((CLIENT_ID, ""), (CLIENT_ID, "sesame-alice"), (ALICE_ID, "sesame-client"), ("", "")):
        assert users.by_secret(name, secret) is None


def test_the_identity_set_has_the_effective_identity_first(tmp_path: Path) -> None:
    alice = load_users(write(tmp_path, GOOD)).by_id(ALICE_ID)
    assert alice is not None
    first, second = alice.identity_set()
    assert alice.ids == {ALICE_ID, LINKED_ID}
    assert (first["sub"], first["id"], first["username"]) == (ALICE_ID, ALICE_ID, "alice@site.example")
    assert (second["sub"], second["username"]) == (LINKED_ID, "alice@elsewhere.example")
    # The fields that start commands have, after the public agent's source.
    fields = "sub id username email name organization identity_provider identity_provider_display_name"
    assert set(first) == {*fields.split(), "last_authentication", "identity_type", "status"}
    assert first["organization"] == "Example Site"
    assert first["identity_provider"] != second["identity_provider"]


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o602, 0o601])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, GOOD, mode)
    with pytest.raises(StartError, match=rf"chmod 600 {path}") as caught:
        load_users(path)
    assert caught.value.exit_code == os.EX_NOPERM


def test_a_group_may_read_it(tmp_path: Path) -> None:
    assert load_users(write(tmp_path, GOOD, 0o640)).by_token("sesame-bob")


def test_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="absent") as caught:
        load_users(tmp_path / "absent")
    assert caught.value.exit_code == os.EX_NOINPUT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("users: [sesame-alice", "line 1 is not valid YAML"),
        (
            "users:\n  a: {id: sesame-alice}\n  a: {}",
            "line 3 has a key that is on line 2 already; remove one of the two",
        ),
        ("- sesame-alice", "document"),
        ("users: {a: {id: sesame-x, token: t}}", r"users\.a\.id"),
        (f"users: {{'a b': {{id: {ALICE_ID}}}}}", r"users\.a b"),
        (f"users: {{a: {{id: {ALICE_ID}, tokens: [{{sha256: sesame-x}}]}}}}", r"users\.a\.tokens\.0\.sha256"),
        (hidden("t", "2026-01-02 03:04:05"), r"tokens\.0\.expires: .*timezone"),
        ("service: {token_days: 0}", r"service\.token_days"),
        ("service: {tokn_days: 3}", r"service\.tokn_days"),
        (f"users: {{a: {{id: {ALICE_ID}, token: ''}}}}", r"users\.a\.token"),
        (f"users: {{a: {{id: {ALICE_ID}, token: t, tokn: sesame-y}}}}", r"users\.a\.tokn"),
        ("clients: {sesame: {secret: s}}", r"clients\."),
        (GOOD.replace("sesame-bob", "sesame-alice"), "share a token"),
        (GOOD.replace("8000-000000000002", "8000-000000000001"), "share an id"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_its_secrets(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(StartError, match=reason) as caught:
        load_users(write(tmp_path, text))
    assert caught.value.exit_code == os.EX_DATAERR
    assert "sesame-" not in str(caught.value)
