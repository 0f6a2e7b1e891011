"""The source of docs/how-to/add-a-source.md, asked by the real crawler."""

from __future__ import annotations

import subprocess
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import codelupe_crawler
from codelupe_events import RepoDiscovered
from tests.conftest import RunUntilIdle

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "docs" / "how-to" / "example-source"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLE)
    return import_module("codelupe_mirrors")


def make_mirror(path: Path) -> str:
    """A bare repository with one commit; returns its id."""
    subprocess.run(["git", "init", "--quiet", "--bare", path], check=True)
    git = ["git", "-C", str(path), "-c", "user.name=M", "-c", "user.email=m@localhost"]
    tree = subprocess.check_output([*git, "mktree"], input="", text=True).strip()
    commit = subprocess.check_output([*git, "commit-tree", tree, "-m", "Begin"], text=True).strip()
    subprocess.run([*git, "update-ref", "HEAD", commit], check=True)
    return commit


async def test_mirrors_are_discovered_and_empty_ones_are_not(
    plugin: ModuleType, run_until_idle: RunUntilIdle, tmp_path: Path
) -> None:
    commit = make_mirror(tmp_path / "alice" / "tool.git")
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "bob" / "empty.git"], check=True)

    events = await run_until_idle(
        {"crawler": codelupe_crawler, "mirrors": plugin}, {"mirrors": {"folder": str(tmp_path)}}
    )

    url = (tmp_path / "alice" / "tool.git").as_uri()
    assert [event for event in events if isinstance(event, RepoDiscovered)] == [
        RepoDiscovered(
            repository_id="mirrors:alice/tool", source="mirrors", full_name="alice/tool", url=url, revision=commit
        ),
    ]
