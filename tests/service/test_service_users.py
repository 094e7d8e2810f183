"""The users file: what it gives, and what is refused."""

import os
from pathlib import Path

import pytest
from twinlock_service.errors import StartError
from twinlock_service.users import load_users

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
    alice = users.by_token("sesame-alice")
    assert alice is not None
    assert (alice.id, alice.username) == (ALICE_ID, "alice@site.example")
    assert users.token_of("alice@site.example") == "sesame-alice"
    assert users.by_id(ALICE_ID) == alice
    for wrong in ("", "sesame", "SESAME-ALICE", "sesame-client"):
        assert users.by_token(wrong) is None
    assert users.token_of("mallory@site.example") is None


def test_a_client_is_found_by_its_secret(tmp_path: Path) -> None:
    users = load_users(write(tmp_path, GOOD))
    client = users.by_secret(CLIENT_ID, "sesame-client")
    assert client is not None
    assert client.id == CLIENT_ID
    assert client.username == f"{CLIENT_ID}@clients.auth.globus.org"
    for name, secret in ((CLIENT_ID, ""), (CLIENT_ID, "sesame-alice"), (ALICE_ID, "sesame-client"), ("", "")):
        assert users.by_secret(name, secret) is None


def test_the_identity_set_has_the_effective_identity_first(tmp_path: Path) -> None:
    alice = load_users(write(tmp_path, GOOD)).by_token("sesame-alice")
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
        ("- sesame-alice", "document"),
        ("users: {a: {id: sesame-x, token: t}}", r"users\.a\.id"),
        (f"users: {{a: {{id: {ALICE_ID}}}}}", r"users\.a\.token"),
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
