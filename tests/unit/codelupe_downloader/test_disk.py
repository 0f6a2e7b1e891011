from __future__ import annotations

import subprocess
from pathlib import Path

import anyio
import pytest

from codelupe import remove_tree
from codelupe_downloader.disk import TooLarge, check, size_on_disk, watcher
from codelupe_downloader.git import DiskFull
from tests.processes import HANGS

pytestmark = pytest.mark.anyio


def test_sizes_are_counted_in_blocks_without_following_links(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "one").write_bytes(b"x" * 4097)
    (folder / "empty").touch()
    (folder / "link").symlink_to(tmp_path)
    assert size_on_disk(folder) == 4096 * (1 + 2 + 1 + 1)
    assert size_on_disk(tmp_path / "missing") == 0


def test_each_limit_has_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 4096)
    assert check(tmp_path, 4096, 0) == 4096
    with pytest.raises(TooLarge, match="has 4,096 bytes; at most 4,095"):
        check(tmp_path, 4095, 0)
    with pytest.raises(DiskFull, match="must stay so"):
        check(tmp_path, 4096, 1 << 60)


async def test_a_watcher_returns_when_the_folder_has_grown_too_far(tmp_path: Path) -> None:
    sizes: list[int] = []

    def look(folder: Path, max_size: int, min_free_space: int) -> int:
        sizes.append(check(folder, max_size, min_free_space))
        if len(sizes) == 2:
            folder.mkdir()
        if len(sizes) == 4:
            (folder / "a").write_bytes(b"x" * 20_000)
        return sizes[-1]

    with anyio.fail_after(HANGS):
        assert isinstance(await watcher(tmp_path / "clone", 10_000, 0, look)(), TooLarge)
    assert sizes == [0, 0, 0, 0]


def test_a_deep_tree_is_measured(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    subprocess.run(["mkdir", "-p", "--", f"{deep}/{'d/' * 1500}"], check=True)
    assert size_on_disk(deep) == 4096 * 1500
    remove_tree(deep)
