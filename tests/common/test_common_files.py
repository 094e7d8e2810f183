"""Files that are replaced as a whole."""

from pathlib import Path

import pytest
from failing_disk import fail_syncs_of_folders
from twinlock_common.files import NotDurable, replacing, sync


@pytest.mark.parametrize("durable", [False, True])
def test_a_reader_meets_the_old_file_or_the_new_one(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file.json"
    path.write_text("one")
    with path.open() as opened_before:
        with replacing(path, durable=durable) as draft:
            draft.write_text("two")
            assert path.read_text() == "one"
        assert opened_before.read() == "one"
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("one")
    (tmp_path / "file.new").mkdir()  # in the way of the draft
    with pytest.raises(IsADirectoryError), replacing(path) as draft:
        draft.write_text("two")
    assert path.read_text() == "one"


def test_a_file_whose_folder_cant_be_synced_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_syncs_of_folders(monkeypatch)
    path = tmp_path / "file.json"
    path.write_text("one")
    with pytest.raises(NotDurable, match="Input/output error"), replacing(path, durable=True) as draft:
        draft.write_text("two")
    assert path.read_text() == "two"


def test_files_and_folders_can_be_synced_if_they_are_there(tmp_path: Path) -> None:
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "file.json")
