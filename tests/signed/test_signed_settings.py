"""The administrator's file for verified work."""

import os
from pathlib import Path

import pytest
from twinlock_signed import settings
from twinlock_signed.errors import ConfigError
from twinlock_signed.keys import KEYS, Address
from twinlock_signed.ssh.signer_sources import AuthorizedKeys, Command, File

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to own files")

SITE = "what users call the site; they sign for ACCOUNT@SITE"
MANAGER = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Root's, with an endpoint folder in it."""
    tmp_path.chmod(0o755)
    (tmp_path / "endpoint" / "parts").mkdir(parents=True)
    for name in ("endpoint/parts/slurm.j2", "endpoint/user_config_template.yaml.j2", "revoked", "signers"):
        (tmp_path / name).touch(mode=0o644)
    return tmp_path


def write(folder: Path, **changes: str) -> Path:
    """A good file, or with other values, as they stand in it; an empty one is left out."""
    values = {
        "manager": f'"{MANAGER}"',
        "site": '"cluster.example.org"',
        "endpoint_dir": f'"{folder}/endpoint"',
        "control": '"/run/twinlock-broker/control.sock"',
        "broker_uid": "990",
        "amqp_hosts": '["compute.amqps.globus.org:443"]',
        "signers": '["~/.ssh/authorized_keys"]',
    } | changes
    path = folder / "verified.toml"
    path.write_text("".join(f"{name} = {value}\n" for name, value in values.items() if value))
    path.chmod(0o644)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        settings.load(path)
    return str(error.value)


def test_defaults(folder: Path) -> None:
    found = settings.load(write(folder))
    assert found.manager == MANAGER
    assert found.amqp_hosts == {Address("compute.amqps.globus.org", 443)}
    assert found.signers == (AuthorizedKeys(),)
    assert found.longest_delegation == 24 * 60 * 60
    assert (found.allowed_functions, found.revoked) == (None, None)
    assert found.claims_of("ada", Path("/home/ada")) == Path("/home/ada/.local/state/twinlock") / MANAGER


def test_all_keys(folder: Path) -> None:
    digest = "0f" * 32
    found = settings.load(
        write(
            folder,
            allowed_functions=f'["{digest}"]',
            amqp_hosts='["[::1]:5671", "mq.example.org:5671"]',
            claims='"/shared/claims/%u"',
            longest_delegation="3600",
            revoked=f'"{folder}/revoked"',
            signers=f'["{folder}/signers", "{folder}/%u/signers", ["/bin/echo", "%u"], "~/.ssh/authorized_keys"]',
        )
    )
    assert found.allowed_functions == frozenset([digest])
    assert found.amqp_hosts == {Address("::1", 5671), Address("mq.example.org", 5671)}
    assert found.claims_of("ada", Path("/home/ada")) == Path("/shared/claims/ada")
    assert (found.longest_delegation, found.revoked) == (3600, folder / "revoked")
    assert found.signers == (
        File(f"{folder}/signers"),
        File(f"{folder}/%u/signers"),
        Command(("/bin/echo", "%u")),
        AuthorizedKeys(),
    )


def test_each_key_is_a_setting() -> None:
    assert [key.name for key in KEYS] == list(settings.Settings._fields)


def test_all_faults_are_told_at_once(folder: Path) -> None:
    path = write(folder, manager="", site='"Cluster"', singers="[]")
    assert refused(path).splitlines() == [
        f"{path}: unknown key 'singers'; did you mean 'signers'?",
        f"{path}: manager is missing; it has to be a uuid in small letters: the manager endpoint's uuid",
        f"{path}: site is 'Cluster'; it has to be a host name in small letters: {SITE}",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("manager", '"x"'), ("manager", "1"), ("endpoint_dir", '"endpoint"'), ("control", '"a\\u0000b"')),
        *(("broker_uid", '"990"'), ("broker_uid", "-1"), ("broker_uid", "true"), ("broker_uid", "4294967295")),
        *(("amqp_hosts", "[]"), ("amqp_hosts", '["a"]'), ("amqp_hosts", '["a:0"]'), ("amqp_hosts", '["a:65536"]')),
        *(("amqp_hosts", '["amqp://a:5671"]'), ("amqp_hosts", '["*:443"]'), ("amqp_hosts", '["A:443"]')),
        *(("amqp_hosts", '"a:443"'), ("amqp_hosts", "[443]"), ("amqp_hosts", '["user@a:443"]')),
        *(("claims", '"/shared/claims"'), ("claims", '"claims/%u"'), ("claims", "1")),
        *(("longest_delegation", "0"), ("longest_delegation", "3600.0"), ("longest_delegation", '"1h"')),
        *(("allowed_functions", '["00000000-0000-0000-0000-000000000000"]'), ("allowed_functions", '""')),
        *(("signers", "[]"), ("signers", '["authorized_keys"]'), ("signers", "[[]]"), ("signers", '[["ls"]]')),
        *(("signers", '"~/.ssh/authorized_keys"'), ("signers", "[1]"), ("signers", '[["/bin/echo", 1]]')),
        *(("signers", '[["/bin/%u"]]'), ("signers", '[["/bin/sh", "/home/%u/signers"]]')),
    ],
)
def test_values_of_another_kind(folder: Path, key: str, value: str) -> None:
    assert refused(write(folder, **{key: value})).startswith(f"{folder}/verified.toml: {key} is ")


@pytest.mark.parametrize(
    "place",
    ["verified.toml", "endpoint", "endpoint/parts", "endpoint/parts/slurm.j2", "revoked", "signers", "command", "."],
)
def test_what_others_than_root_can_change(folder: Path, place: str) -> None:
    (folder / "command").write_text("#!/bin/sh\n")
    signers = f'["{folder}/signers", ["/bin/sh", "{folder}/command", "%u"]]'
    path = write(folder, revoked=f'"{folder}/revoked"', signers=signers)
    for each in (folder / "command", path):
        each.chmod(0o755)
    settings.load(path)
    (folder / place).chmod(0o775)
    assert refused(path).startswith(f"{folder / place}: ")
    (folder / place).chmod(0o755)
    os.chown(folder / place, 54321, 0)
    assert refused(path).startswith(f"{folder / place}: ")


def test_a_folder_that_is_elsewhere(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "endpoint" / "link").symlink_to(folder / "elsewhere")
    assert refused(write(folder)).startswith(f"{folder}/endpoint/link: what is in the folder that it links to")


@pytest.mark.parametrize("key", ["endpoint_dir", "revoked"])
def test_what_is_not_there(folder: Path, key: str) -> None:
    assert refused(write(folder, **{key: '"/nonexistent/x"'})).startswith("/nonexistent/x: No such file or directory")


def test_a_file_that_is_no_toml(folder: Path) -> None:
    path = write(folder)
    path.write_bytes(b"manager = \n")
    assert refused(path).startswith(f"{path}: Invalid value")
    path.write_bytes(b"\xff")
    assert refused(path).startswith(f"{path}: ")
