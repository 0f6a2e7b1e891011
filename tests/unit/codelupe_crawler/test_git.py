from __future__ import annotations

from pathlib import Path

import pytest

from codelupe_crawler.git import GitFailed, head_of
from tests.git_server import make_repository, open_pipes

pytestmark = pytest.mark.anyio


async def test_the_head_of_a_repository_is_its_newest_commit(tmp_path: Path) -> None:
    with make_repository(tmp_path / "origin", {"a.py": b""}) as repository:
        assert await head_of(str(tmp_path / "origin"), within=30) == repository.head.commit.hexsha


async def test_a_repository_that_does_not_answer_in_time_is_said_and_leaves_no_pipe_open(tmp_path: Path) -> None:
    make_repository(tmp_path / "origin", {"a.py": b""}).close()
    before = open_pipes()
    with pytest.raises(GitFailed, match="no answer within 0 seconds"):
        await head_of(str(tmp_path / "origin"), within=0)
    assert open_pipes() == before
