"""What the private node's folder keeps: never half of a file, and a damaged one of an earlier release stops nothing."""

import os
import pwd
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from twinlock_service.errors import StartError
from twinlock_service.rabbitmq.child_process import end_stale
from twinlock_service.rabbitmq.node_files import administrator_password, write_config
from twinlock_service.rabbitmq.node_ports import Ports, kept_ports

ACCOUNT = pwd.getpwuid(os.geteuid())
PORTS = Ports(20_001, 20_002, 20_003, 20_004)
DAMAGED = {"empty": "", "half": '{"users": [{"na', "zeros": "\0" * 64}
OTHERS = {"keys are missing": '{"amqp": 20001}', "a list": "[]"}


@contextmanager
def full_disk() -> Iterator[None]:
    """Files can be made, and nothing be written into them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_login_is_as_it_was_if_it_can_not_be_written(tmp_path: Path) -> None:
    write_config(tmp_path, PORTS, "sesame", ACCOUNT)
    with pytest.raises(OSError, match="File too large"), full_disk():
        write_config(tmp_path, PORTS, "sesame", ACCOUNT)
    assert administrator_password(tmp_path) == "sesame"


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_login_is_made_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "definitions.json").write_text(text)
    password = administrator_password(tmp_path)
    write_config(tmp_path, PORTS, password, ACCOUNT)
    assert administrator_password(tmp_path) == password


async def test_ports_that_can_not_be_noted_do_not_stop_the_next_start(tmp_path: Path) -> None:
    async with AsyncExitStack() as claims:
        with pytest.raises(OSError, match="File too large"), full_disk():
            kept_ports(tmp_path, claims)
    async with AsyncExitStack() as claims:
        chosen = kept_ports(tmp_path, claims)
    async with AsyncExitStack() as claims:
        assert kept_ports(tmp_path, claims) == chosen


@pytest.mark.parametrize("text", [*DAMAGED.values(), *OTHERS.values()], ids=[*DAMAGED, *OTHERS])
async def test_damaged_ports_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    async with AsyncExitStack() as claims:
        with pytest.raises(StartError, match=f"{tmp_path}/ports.json.* is damaged; restore it, or remove it") as caught:
            kept_ports(tmp_path, claims)
    assert caught.value.exit_code == os.EX_DATAERR


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_note_of_processes_is_dropped(tmp_path: Path, text: str) -> None:
    note = tmp_path / "processes.json"
    note.write_text(text)
    end_stale(note, 1)
    assert not note.exists()
