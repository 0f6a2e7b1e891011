from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from codelupe_dataset import shards
from codelupe_dataset.shards import SHARDS

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def record(number: int, content: str, **values: Any) -> dict[str, Any]:
    texts = ("repository_id", "repository", "url", "commit", "path", "language", "licence", "content_hash")
    score = {"dimension": "structure", "value": None, "weight": 2.0, "version": 1, "reasons": ["no function", ""]}
    known = {"id": number, "labels": [], "characters": len(content), "score": 70.25, "scores": [score], "cluster": None}
    return {**dict.fromkeys(texts, "x"), **known, "content": content, **values}


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    return list(parquet.read_table(path).to_pylist())


@pytest.mark.parametrize("kind", SHARDS)
@given(contents=st.lists(_TEXT, min_size=1, max_size=5), licence=st.none() | _TEXT)
def test_any_text_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, kind: str, contents: list[str], licence: str | None
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    records = [record(number, content, licence=licence) for number, content in enumerate(contents)]
    shard = SHARDS[kind](folder / f"part.{kind}")
    shard.write(records[:1])
    shard.write(records[1:])
    size = shard.complete()
    shard.discard()
    assert read(folder / f"part.{kind}") == records
    assert (folder / f"part.{kind}").stat().st_size == size
    assert [path.name for path in folder.iterdir()] == [f"part.{kind}"]


@pytest.mark.parametrize("kind", SHARDS)
def test_what_is_not_complete_leaves_nothing(tmp_path: Path, kind: str) -> None:
    shard = SHARDS[kind](tmp_path / "part")
    shard.write([record(1, "x")])
    assert not (tmp_path / "part").exists()
    shard.discard()
    shard.discard()
    assert list(tmp_path.iterdir()) == []


def test_no_more_content_waits_in_memory_than_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_GROUP_CHARACTERS", 100)
    shard = SHARDS["parquet"](tmp_path / "part")
    for number in range(10):
        shard.write([record(number, "x" * 40)])
    shard.complete()
    found = parquet.read_metadata(tmp_path / "part")
    assert [found.row_group(number).num_rows for number in range(found.num_row_groups)] == [3, 3, 3, 1]
