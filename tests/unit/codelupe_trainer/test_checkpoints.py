"""Checkpoints are whole or absent; what is wrong with one is said, and an older whole one is taken."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codelupe_trainer.child.checkpoints import Checkpoints, Damaged, Manifest, run_identity
from codelupe_trainer.child.errors import DiskFull
from codelupe_trainer.child.ranks import Ranks
from tests.training import BASE
from tests.unit.codelupe_trainer.test_process import job


def save(
    checkpoints: Checkpoints, step: int, best: int | None = None, content: bytes = b"weights", **fields: Any
) -> None:
    values = {"run": checkpoints.run, "rows": 0, "awaits_evaluation": False}
    manifest = Manifest.model_validate(values | {"step": step, "best": best} | fields)
    with checkpoints.new(manifest, len(content)) as folder:
        (folder / "adapter").write_bytes(content)
        (folder / "optimizer").write_bytes(content)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", "this run", Ranks())


def test_the_newest_is_taken(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() == (None, [])
    save(checkpoints, 9)
    save(checkpoints, 10, rows=3, losses=(1.5,))
    manifest, skipped = checkpoints.newest()
    assert manifest is not None
    assert (manifest.step, manifest.rows, manifest.losses, skipped) == (10, 3, (1.5,), [])


def test_two_are_kept_and_the_best(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step, best in ((1, None), (2, 1), (3, 2), (4, 2), (5, 2)):
        save(checkpoints, step, best)
    assert names(tmp_path / "checkpoints") == {"checkpoint-5", "checkpoint-4", "checkpoint-2"}


def test_one_of_the_same_step_takes_the_place_of_the_earlier(checkpoints: Checkpoints) -> None:
    save(checkpoints, 4, awaits_evaluation=True)
    save(checkpoints, 4, rows=2, best=4)
    manifest, _ = checkpoints.newest()
    assert manifest is not None
    assert (manifest.rows, manifest.awaits_evaluation) == (2, False)


def cut(path: Path) -> None:
    os.truncate(path, 3)


def zero(path: Path) -> None:
    path.write_bytes(bytes(7))


@pytest.mark.parametrize(
    ("harm", "file", "words"),
    [
        (cut, "optimizer", "has 3 bytes of 7"),
        (zero, "adapter", "holds other bytes than were written"),
        (Path.unlink, "adapter", "is missing"),
        (Path.unlink, "manifest.json", "is missing or cut"),
        (cut, "manifest.json", "is missing or cut"),
        (zero, "manifest.json", "is missing or cut"),
    ],
)
def test_a_damaged_one_does_not_block_an_older_whole_one(
    checkpoints: Checkpoints, harm: Callable[[Path], None], file: str, words: str
) -> None:
    save(checkpoints, 1)
    save(checkpoints, 2)
    harm(checkpoints.path(2) / file)
    manifest, [skipped] = checkpoints.newest()
    assert manifest is not None
    assert manifest.step == 1
    assert skipped.startswith("checkpoint-2: ")
    assert str(checkpoints.path(2) / file) in skipped
    assert words in skipped
    assert not checkpoints.path(2).exists()


def test_a_run_whose_best_is_damaged_goes_back_to_before_it(checkpoints: Checkpoints) -> None:
    """Otherwise it could not end with its best adapter."""
    save(checkpoints, 1)
    save(checkpoints, 2)
    save(checkpoints, 3, best=2)
    zero(checkpoints.path(2) / "adapter")
    manifest, skipped = checkpoints.newest()
    assert manifest is None
    assert [one.partition(":")[0] for one in skipped] == ["checkpoint-3", "checkpoint-2"]


def test_those_of_another_run_are_deleted(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """A batch that lost files to ``forget`` is another run; one of its steps may be a higher number."""
    save(Checkpoints(tmp_path / "checkpoints", "another run", Ranks()), 8)
    save(checkpoints, 3)
    manifest, skipped = checkpoints.newest()
    assert manifest is not None
    assert (manifest.step, skipped) == (3, ["checkpoint-8: it belongs to another run"])
    assert names(tmp_path / "checkpoints") == {"checkpoint-3"}


def test_a_run_is_its_settings_base_and_files_but_not_its_micro_batch() -> None:
    same = run_identity(job(), BASE, "float32", ["a", "b"])
    assert run_identity(job(micro_batch=4, threads=2), BASE, "float32", ["a", "b"]) == same
    others = [
        run_identity(job(learning_rate=1), BASE, "float32", ["a", "b"]),
        run_identity(job(), BASE.model_copy(update={"fingerprint": "0"}), "float32", ["a", "b"]),
        run_identity(job(), BASE, "bfloat16", ["a", "b"]),
        run_identity(job(), BASE, "float32", ["a"]),
        run_identity(job(), BASE, "float32", ["b", "a"]),
    ]
    assert same not in others


def test_what_raises_while_it_is_written_leaves_the_earlier(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save(checkpoints, 1)
    with pytest.raises(LookupError), checkpoints.new(Manifest(**_fields(2)), 1):
        raise LookupError
    assert names(tmp_path / "checkpoints") == {"checkpoint-1"}
    with pytest.raises(Damaged, match=r"checkpoint-2/manifest\.json is missing"):
        checkpoints.check(2)


def _fields(step: int) -> dict[str, Any]:
    fields = {"step": step, "rows": 0, "awaits_evaluation": False, "best": None}
    return {"run": "this run"} | fields


# --- a full disk ---

_MEBIBYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four mebibytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user cannot mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_room_for_two_is_asked_for_before_the_first(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk / "checkpoints", "this run", Ranks())
    with pytest.raises(DiskFull, match=r"small/checkpoints needs 6,291,456 bytes for checkpoints, and 4,\d+,\d+ are"):
        save_large(checkpoints, 1, 3 * _MEBIBYTE)
    save_large(checkpoints, 1, _MEBIBYTE)
    save_large(checkpoints, 2, _MEBIBYTE)
    assert names(small_disk / "checkpoints") == {"checkpoint-1", "checkpoint-2"}


def test_room_for_one_more_is_asked_for_before_each(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk / "checkpoints", "this run", Ranks())
    save_large(checkpoints, 1, _MEBIBYTE)
    save_large(checkpoints, 2, _MEBIBYTE)
    (small_disk / "other").write_bytes(bytes(int(1.5 * _MEBIBYTE)))
    with pytest.raises(DiskFull, match=r"needs 1,\d+,\d+ bytes for checkpoints, and \d+,\d+ are free"):
        save_large(checkpoints, 3, 1)
    assert checkpoints.newest()[0] is not None


def test_a_disk_that_fills_up_meanwhile_is_told_as_such(small_disk: Path) -> None:
    """torch and safetensors raise errors of their own kinds."""
    checkpoints = Checkpoints(small_disk / "checkpoints", "this run", Ranks())
    for error in (RuntimeError("unexpected pos 64 vs 0"), OSError(28, "No space left on device")):
        with (
            pytest.raises(DiskFull, match="the disk is full"),
            checkpoints.new(Manifest(**_fields(1)), 2 * _MEBIBYTE - 9999),
        ):
            (small_disk / "other").write_bytes(bytes(3 * _MEBIBYTE))
            raise error
        (small_disk / "other").unlink()
    assert names(small_disk / "checkpoints") == set()


def save_large(checkpoints: Checkpoints, step: int, size: int) -> None:
    with checkpoints.new(Manifest(**_fields(step)), size) as folder:
        (folder / "adapter").write_bytes(bytes(size))
