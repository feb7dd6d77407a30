from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragft_pipeline.store.files import (
    publish_folder,
    write_all_atomically,
    write_atomically,
    write_json,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "pointer.json"
    write_json(file, {"champion": "old"})
    with pytest.raises(TypeError):
        write_json(file, {"champion": object()})
    with pytest.raises(TypeError):
        write_atomically(file, "not bytes")  # type: ignore[arg-type]
    assert json.loads(file.read_text()) == {"champion": "old"}


def test_many_files_are_written_or_left_as_they_were(tmp_path: Path) -> None:
    files = {tmp_path / f"{n % 3}" / f"{n}.txt": f"text {n}".encode() for n in range(40)}
    write_all_atomically(files)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    with pytest.raises(TypeError):
        write_all_atomically({**dict.fromkeys(files, b"new"), tmp_path / "x": "text"})  # type: ignore[dict-item]
    assert all(path.read_bytes() == data for path, data in files.items())


def test_the_first_publisher_of_a_folder_wins(tmp_path: Path) -> None:
    final = tmp_path / "artifacts" / "final"
    for text, first in (("one", True), ("two", False)):
        staged = tmp_path / text
        (staged / "model").mkdir(parents=True)
        (staged / "model" / "file").write_text(text)
        assert publish_folder(staged, final) is first
        assert not staged.exists()
    assert (final / "model" / "file").read_text() == "one"


def test_publishing_over_a_file_is_an_error(tmp_path: Path) -> None:
    staged, final = tmp_path / "staged", tmp_path / "final"
    staged.mkdir()
    final.write_text("in the way")
    with pytest.raises(OSError, match="final"):
        publish_folder(staged, final)
