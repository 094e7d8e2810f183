"""Identities to accounts, by globus-identity-mapping itself."""

import asyncio
import contextlib
import grp
import json
import logging
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from broker_rig import ALICE, UEP, identity
from twinlock_broker.endpoints.pipeline import check_name
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity import account, watch
from twinlock_broker.identity.mapping import Mapper, same_user
from twinlock_broker.identity.resolver import Resolver
from twinlock_broker.metrics import REGISTRY

EXPRESSION = "expression_identity_mapping#1.0.0"
BOB = "7b1f2f6e-0000-4000-8000-000000000002"


def expression(*mappings: dict[str, Any]) -> dict[str, Any]:
    """A mapping document."""
    return {"DATA_TYPE": EXPRESSION, "mappings": list(mappings)}


AT_SITE = {"source": "{username}", "match": "(.*)@site\\.example", "output": "{0}"}
LABS = {"source": "{username}", "match": "(.*)@lab\\.example", "output": "lab-{0}"}


def mapper(path: Path, *documents: Any) -> Mapper:
    """One by a file with these documents."""
    path.write_text(json.dumps(documents))
    return Mapper(path, UEP)


def test_the_first_mapper_that_knows_somebody_wins(tmp_path: Path) -> None:
    made = mapper(tmp_path / "map.json", expression(LABS), expression(AT_SITE))
    match = made.map([identity(), identity(BOB, "bob@elsewhere.example")])[0]
    assert match.user == "alice"
    assert match.identity == ALICE
    assert match.candidates == [[], [{ALICE: ["alice"]}]]


def test_nobody_is_told_who_he_is(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"bob@elsewhere\.example.*administrator"):
        mapper(tmp_path / "map.json", expression(AT_SITE)).map([identity(BOB, "bob@elsewhere.example")])


def test_an_odd_identity_doesnt_break_the_next_mapper(tmp_path: Path) -> None:
    by_auth = {"source": "{last_authentication}", "match": "never", "output": "x"}
    made = mapper(tmp_path / "map.json", expression(by_auth), expression(AT_SITE))
    assert made.map([identity()])[0].user == "alice"


def test_an_external_mapper(tmp_path: Path) -> None:
    program = tmp_path / "mapper"
    answer = {"DATA_TYPE": "identity_mapping_output#1.0.0", "result": [{"id": ALICE, "output": "ada"}]}
    program.write_text(f"#!/bin/sh\ncat >/dev/null; cat <<'END'\n{json.dumps(answer)}\nEND\n")
    program.chmod(0o755)
    document = {"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(program)]}
    assert mapper(tmp_path / "map.json", document).map([identity()])[0].user == "ada"


def test_a_changed_file_counts_at_once_and_a_bad_one_doesnt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "map.json"
    made = mapper(path, expression(AT_SITE))
    path.write_text(json.dumps([expression(AT_SITE | {"output": "new-{0}"})]))
    assert made.map([identity()])[0].user == "new-alice"
    path.write_text("[{")
    assert made.map([identity()])[0].user == "new-alice"
    assert "NOT IN FORCE" in caplog.text
    path.unlink()
    assert made.map([identity()])[0].user == "new-alice"


@pytest.mark.parametrize(
    "document", [{"DATA_TYPE": "astrology#1"}, 3, {"DATA_TYPE": "expression_identity_mapping#1.0.0"}]
)
def test_a_bad_file_at_the_start_is_fatal(tmp_path: Path, document: Any) -> None:
    with pytest.raises(Fatal) as ended:
        mapper(tmp_path / "map.json", document)
    assert ended.value.status == os.EX_CONFIG
    assert str(tmp_path / "map.json") in str(ended.value)


def test_a_single_mapper_needs_no_list(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text("\ufeff" + json.dumps(expression(AT_SITE), indent=2))  # as an editor of Windows saves it
    assert Mapper(path, UEP).map([identity()])[0].user == "alice"


@pytest.mark.parametrize("text", ['"x"', "3", "null", "{}", '[["x"]]'])
def test_what_is_neither_a_list_nor_a_mapper_is_fatal(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(Fatal, match="identity mapping can't be read"):
        Mapper(tmp_path / "map.json", UEP)


def test_a_mapping_that_can_not_be_used_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    good = expression(AT_SITE)
    for text, words in (
        (json.dumps([good])[:-1] + ",]", "not valid JSON: "),
        ("", "not valid JSON: Expecting value: line 1"),
        (json.dumps([good, {**good, "DATA_TYPE": "expression_identity_mapping#9.0.0"}]), "mapper 1 has the DATA_TYPE"),
        (json.dumps([{**good, "DATA_TYPE": "ldap_identity_mapping#1.0.0"}]), "write expression_identity_mapping#1.0.0"),
        (json.dumps([{**good, "mappings": [{"source": "{username}", "match": "x"}]}]), "a mapper lacks 'output'"),
    ):
        path.write_text(text)
        with pytest.raises(Fatal) as refused:
            Mapper(path, UEP)
        assert words in str(refused.value)
        assert "Error(" not in str(refused.value)


def test_same_user_mode_serves_the_login_only() -> None:
    assert same_user([identity(BOB), identity()], {ALICE}, "me").user == "me"
    with pytest.raises(CommandError, match="identity that registered it"):
        same_user([identity(BOB)], {ALICE}, "me")


def test_an_account_that_isnt_there() -> None:
    for name in ("no-such-user-here", "", "nul\0byte"):
        with pytest.raises(CommandError, match="doesn't exist on this host"):
            account.look_up(name)


def test_an_account() -> None:
    row = pwd.getpwuid(os.getuid())
    found = account.look_up(row.pw_name)
    assert (found.name, found.uid, found.home) == (row.pw_name, row.pw_uid, row.pw_dir)
    assert row.pw_gid in found.groups


def test_root_and_the_brokers_own_account_are_refused() -> None:
    root = account.look_up("root")
    with pytest.raises(CommandError, match="mapped to root"):
        account.check(root, own_uid=1000, privileged=True)
    nobody = account.look_up("nobody")
    with pytest.raises(CommandError, match="service account"):
        account.check(nobody, own_uid=nobody.uid, privileged=True)
    account.check(nobody, own_uid=nobody.uid, privileged=False)
    account.check(nobody, own_uid=1000, privileged=True)


@pytest.mark.parametrize("name", ["ada", "ada.b", "ada@SITE", "_a-b+c", "x$", "0123", "a" * 64])
def test_names_that_the_manual_allows(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["SITE\\ada", "al ice", "-a", ".a", "ä", "a$b", "a" * 65, "a/b", ""])
def test_names_that_it_doesnt_are_shown_as_they_are(name: str) -> None:
    with pytest.raises(CommandError) as refused:
        check_name(name)
    assert f"The account '{name}' has a name that can't be used here." in refused.value.text


def test_an_account_of_winbind_that_isnt_there_is_shown_as_it_is() -> None:
    with pytest.raises(CommandError) as refused:
        account.look_up("SITE\\no such ada")
    assert "the account 'SITE\\no such ada', which" in refused.value.text
    with pytest.raises(CommandError, match=r"the account 'a\\nb', which"):
        account.look_up("a\nb")


async def said(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait for a log line."""
    async with asyncio.timeout(60):
        while text not in caplog.text:
            await asyncio.sleep(0.01)


async def in_force(value: float) -> float:
    """Wait until the metrics say so of the file; when the mapping in force was read."""
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value("twinlock_mapping_valid") != value:
            await asyncio.sleep(0.01)
    loaded = REGISTRY.get_sample_value("twinlock_mapping_loaded_timestamp_seconds")
    assert loaded is not None
    return loaded


def watches(folder: Path) -> bool:
    """Whether the kernel tells this process of changes in the folder (fdinfo in proc(5))."""
    found = False
    for path in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found |= f"inotify wd:1 ino:{folder.stat().st_ino:x} " in path.read_text()
    return found


@pytest.fixture
def watchable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """A good mapping file in a folder of its own; what is logged of it is kept."""
    caplog.set_level(logging.INFO, "twinlock_broker")
    path = tmp_path / "folder" / "map.json"
    path.parent.mkdir()
    path.write_text(json.dumps(expression(AT_SITE)))
    return path


@pytest.mark.parametrize("kernel_tells", [True, False])
async def test_a_bad_file_is_told_before_anybody_needs_it_and_once(
    watchable: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kernel_tells: bool
) -> None:
    monkeypatch.setattr(watch, "LOOK_PERIOD", 3600 if kernel_tells else 0.05)
    watching = asyncio.create_task(watch.watch(Mapper(watchable, UEP)))
    async with asyncio.timeout(60):
        while not watches(watchable.parent):
            await asyncio.sleep(0.01)
    if kernel_tells:
        watchable.unlink()
    else:  # as on a network file system: the folder that the kernel watches isn't the one that changes
        watchable.parent.rename(watchable.parent.with_name("elsewhere"))
        watchable.parent.mkdir()
    await said(caplog, "NOT IN FORCE")
    loaded = await in_force(0)
    draft = watchable.with_suffix(".new")
    draft.write_text(json.dumps([expression(AT_SITE | {"output": "new-{0}"})]))
    draft.replace(watchable)
    await said(caplog, "read again")
    assert await in_force(1) > loaded
    watching.cancel()
    await asyncio.wait((watching,))
    assert caplog.text.count("NOT IN FORCE") == 1
    assert REGISTRY.get_sample_value("twinlock_mapping_valid") is None, "there is no mapping any more"


async def test_a_file_that_changed_before_it_was_watched_is_read_again(
    watchable: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_PERIOD", 3600)
    made = Mapper(watchable, UEP)
    watchable.write_text("[{")
    watching = asyncio.create_task(watch.watch(made))
    await said(caplog, "NOT IN FORCE")
    watching.cancel()


async def test_a_folder_that_can_not_be_watched_is_told_and_looked_at_all_the_same(
    watchable: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_PERIOD", 0.05)
    made = Mapper(watchable, UEP)
    away = watchable.parent.rename(watchable.parent.with_name("away"))
    watching = asyncio.create_task(watch.watch(made))
    await said(caplog, "can't be watched")
    away.rename(watchable.parent)
    watchable.write_text(json.dumps(expression(AT_SITE | {"output": "new-{0}"})))
    await said(caplog, "read again")
    watching.cancel()


async def test_the_first_match_is_taken_and_with_groups_the_first_in_one_of_them(tmp_path: Path) -> None:
    own = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    documents = [expression(AT_SITE | {"output": output}) for output in ("ghost", "daemon", "nobody", "bin")]
    made = mapper(tmp_path / "map.json", *documents)
    with pytest.raises(CommandError, match="account 'ghost', which doesn't exist"):
        await Resolver(made, ()).resolve([identity()])
    match, local = await Resolver(made, ("no-such-group", own)).resolve([identity()])
    assert (match.user, local.name) == ("nobody", "nobody")
    with pytest.raises(CommandError, match="'ghost', 'daemon', 'nobody', 'bin', which is in none of the groups"):
        await Resolver(made, ("no-such-group",)).resolve([identity()])
