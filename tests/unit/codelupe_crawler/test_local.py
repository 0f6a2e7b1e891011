from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from codelupe import Repository
from codelupe_crawler.local import LocalSource
from codelupe_crawler.settings import CrawlerSettings
from tests.git_server import make_repository

pytestmark = pytest.mark.anyio


def written_at(folder: Path) -> dict[Path, int]:
    """When all that lies there was changed last."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


async def everything(source: LocalSource) -> list[Repository]:
    return [repository async for repository in source.discover()]


async def test_a_source_that_is_missing_is_reported_once_and_the_others_go_on(tmp_path: Path) -> None:
    make_repository(tmp_path / "there", {"a.py": b"a"}).close()
    named = (str(tmp_path / "missing"), str(tmp_path / "there"))
    source = LocalSource(CrawlerSettings(sources=named), tmp_path / "sources")
    with capture_logs() as logs:
        assert [each.external_id for each in await everything(source)] == [named[1]]
        assert await everything(source) != []
    [warning] = [entry for entry in logs if entry["log_level"] == "warning"]
    assert (warning["event"], warning["source"]) == ("source_unavailable", named[0])
    assert warning["hint"]
    make_repository(tmp_path / "missing", {"a.py": b"a"}).close()
    assert len(await everything(source)) == 2


async def test_a_password_in_a_source_is_not_logged(tmp_path: Path) -> None:
    with capture_logs() as logs:
        settings = CrawlerSettings(sources=("http://user:secret@127.0.0.1:1/owner/repo",))
        assert await everything(LocalSource(settings, tmp_path)) == []
    assert [entry["event"] for entry in logs] == ["source_credentials_left_out", "source_unavailable"]
    assert "secret" not in str(logs)


async def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    for name in ("plain", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").touch()
    (tmp_path / "sources").touch()
    settings = CrawlerSettings(sources=(str(tmp_path / "plain"), str(tmp_path / "other")))
    with capture_logs() as logs:
        assert await everything(LocalSource(settings, tmp_path / "sources")) == []
    assert [entry["event"] for entry in logs] == ["source_unavailable"] * 2


async def test_crawling_the_same_environment_again_makes_no_copy_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one file of the copies is written, nor a folder."""
    small = {"pluggy", "iniconfig", "anyio"}
    with monkeypatch.context() as patched:
        from codelupe_crawler import local, packages

        patched.setattr(
            local, "installed_packages", lambda _: [p for p in packages.installed_packages() if p.label in small]
        )
        source = LocalSource(CrawlerSettings(installed_packages=True), tmp_path)
        first = await everything(source)
        assert {repository.external_id for repository in first} == small
        written = written_at(tmp_path)
        assert await everything(source) == first
        assert written_at(tmp_path) == written
