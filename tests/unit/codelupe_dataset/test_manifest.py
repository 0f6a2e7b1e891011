from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from codelupe_dataset.manifest import (
    ExportError,
    Manifest,
    Options,
    Shard,
    Snapshot,
    read_manifest,
    write_manifest,
)
from codelupe_dataset.selection import Selection


def manifest(*shards: Shard) -> Manifest:
    return Manifest(
        codelupe="1",
        begun_at=datetime(2026, 1, 2, tzinfo=UTC),
        options=Options(format="jsonl", selection=Selection(language="Go", min_score=70), shard_files=5),
        snapshot=Snapshot(files=7, last_id=9, fingerprint="-12"),
        shards=list(shards),
    )


def test_what_is_written_is_read_back_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    written = manifest(Shard(name="part-00000.jsonl", files=5, bytes=10, last_id=6))
    write_manifest(tmp_path, manifest())
    write_manifest(tmp_path, written)
    assert read_manifest(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]


def test_it_counts_its_shards() -> None:
    assert (manifest().files, manifest().last_id) == (0, 0)
    shards = [Shard(name=f"{n}", files=n, bytes=1, last_id=10 * n) for n in (2, 3)]
    assert (manifest(*shards).files, manifest(*shards).last_id) == (5, 30)


def test_a_folder_that_is_not_there_or_holds_hidden_files_only_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "new") is None
    (tmp_path / ".part-00000.jsonl.tmp").touch()
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"codelupe": 1}', "\xff"])
def test_a_broken_one_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text, encoding="latin-1")
    with pytest.raises(ExportError, match=r"export\.json cannot be read"):
        read_manifest(tmp_path)
