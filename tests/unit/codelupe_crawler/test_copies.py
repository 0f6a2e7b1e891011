from __future__ import annotations

from pathlib import Path

import pytest

from codelupe_crawler import copies
from codelupe_crawler.local import LocalSource
from codelupe_crawler.settings import CrawlerSettings

pytestmark = pytest.mark.anyio


def make_copy(folder: Path, name: str, revision: str) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    (place / copies.REVISION_FILE).write_text(revision)
    return place


def test_copies_of_every_version_go_and_those_of_others_stay(tmp_path: Path) -> None:
    newest = make_copy(tmp_path, "rich-14.1", "14.1")
    for name, revision in (("rich-13.0", "13.0"), ("rich-1_2.0", "1!2.0"), ("rich-click-1.0", "1.0"), ("rich~0", "ab")):
        make_copy(tmp_path, name, revision)
    (tmp_path / ".rich-14.2").mkdir()
    assert copies._remove(tmp_path, newest) == ["rich-13.0", "rich-14.1", "rich-1_2.0"]
    assert {path.name for path in tmp_path.iterdir()} == {"rich-click-1.0", "rich~0", ".rich-14.2"}


def test_only_copies_of_our_own_are_removed(tmp_path: Path) -> None:
    elsewhere = make_copy(tmp_path / "users", "rich-14.1", "14.1")
    (tmp_path / "sources" / "work").mkdir(parents=True)
    (tmp_path / "sources" / "file").touch()
    for place in (elsewhere, tmp_path / "sources" / "work", tmp_path / "sources" / "file", tmp_path / "none", Path()):
        assert copies._remove(tmp_path / "sources", place) == []
    assert elsewhere.exists()
    assert (tmp_path / "sources" / "work").exists()


async def test_of_a_forgotten_source_no_copy_is_made(tmp_path: Path) -> None:
    for name in ("secret", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("a = 1\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")

    async def forgotten(source: str) -> frozenset[str]:
        return frozenset({f"{source}:{tmp_path}/secret"})

    named = CrawlerSettings(sources=tuple(str(tmp_path / name) for name in ("secret", "open", "link")))
    source = LocalSource(named, tmp_path / "sources", forgotten)
    assert [repository.external_id async for repository in source.discover()] == [str(tmp_path / "open")]
    assert [path.name.partition("~")[0] for path in (tmp_path / "sources").iterdir()] == ["open"]
