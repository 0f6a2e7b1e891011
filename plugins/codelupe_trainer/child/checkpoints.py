"""Checkpoints of a run: each is whole or absent, and is taken up by the run that it belongs to."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from codelupe import move_into_place, remove_tree, write_file
from codelupe_trainer.child.errors import DiskFull
from codelupe_trainer.child.ranks import Ranks
from codelupe_trainer.jobs import BaseIdentity, TrainJob

_MANIFEST = "manifest.json"
_KEPT = 2
"""Newest checkpoints that are kept, besides the one with the best adapter."""
_OF_A_RUN = {
    *("seed", "system", "formats", "weigh_by_score", "max_length", "packing", "samples_per_step", "epochs"),
    *("max_steps", "max_validation_files", "quantisation", "gradient_checkpointing", "optimizer"),
    *("learning_rate", "warmup_share", "eval_every", "patience", "lora"),
}
"""The settings with which a checkpoint stands and falls. Micro-batch and processes only divide a step's rows."""


class Damaged(Exception):
    """A checkpoint that is needed has changed since it was written."""


class FileFacts(BaseModel):
    """What a file was when it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    xxh3: str


class Manifest(BaseModel):
    """What a checkpoint holds and where in the run it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """As :func:`run_identity` has it."""
    step: int
    """Steps that are done."""
    rows: int
    """Rows of the next step whose gradients are in the checkpoint."""
    losses: tuple[float, ...] = ()
    """What each rank has of that step's loss by then, if there are such rows; other ranks cannot go on from these."""
    awaits_evaluation: bool
    best: int | None
    """The step with the best adapter so far, whose checkpoint is needed in the end."""
    files: dict[str, FileFacts] = {}


def run_identity(job: TrainJob, base: BaseIdentity, adapter_dtype: str, hashes: Iterable[str]) -> str:
    """What a run is: its settings, base and parent, what is drawn, and the content hashes of its files in order."""
    digest = hashlib.sha256()
    for content_hash in hashes:
        digest.update(content_hash.encode() + b"\n")
    settings = job.settings.model_dump(mode="json", include=_OF_A_RUN)
    identity = {
        "settings": settings,
        "base": base.model_dump(),
        "adapter_dtype": adapter_dtype,
        "draw": job.draw,
        "parent": job.parent and job.parent.name,
        "files": digest.hexdigest(),
    }
    return json.dumps(identity, sort_keys=True)


class Checkpoints:
    """Those of one run, ``checkpoint-<steps>`` in its folder, which the first rank keeps."""

    def __init__(self, folder: Path, run: str, ranks: Ranks) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ranks = ranks
        self.run = run
        self.unfinished = folder / "unfinished"
        """Where a checkpoint is written, under the name that it will have."""

    def path(self, step: int) -> Path:
        return self._folder / f"checkpoint-{step}"

    def newest(self) -> tuple[Manifest | None, list[str]]:
        """The newest one to go on from, and those that are newer or of other runs, each with what is wrong with it.

        The latter are deleted. One whose best adapter is lost is among them: the run could not end as it should.
        """
        skipped = list(self._remove_others())
        for step in self._steps():
            try:
                manifest = self.check(step)
                if manifest.best is not None and manifest.best != step:
                    self.check(manifest.best)
            except Damaged as damage:
                skipped.append(f"checkpoint-{step}: {damage}")
                remove_tree(self.path(step))
            else:
                return manifest, skipped
        return None, skipped

    def check(self, step: int) -> Manifest:
        """Compare a checkpoint with its manifest.

        Raises:
            Damaged: it is cut or changed, or there is none.
        """
        folder = self.path(step)
        manifest = _read_manifest(folder)
        if manifest is None:
            raise Damaged(f"{folder / _MANIFEST} is missing or cut")
        for name, facts in manifest.files.items():
            path = folder / name
            if not path.is_file():
                raise Damaged(f"{path} is missing")
            if (size := path.stat().st_size) != facts.size:
                raise Damaged(f"{path} has {size:,} bytes of {facts.size:,}")
            if _hash(path) != facts.xxh3:
                raise Damaged(f"{path} holds other bytes than were written")
        return manifest

    @contextmanager
    def new(self, manifest: Manifest, size: int) -> Iterator[Path]:
        """A folder for all ranks to fill with a checkpoint of about ``size`` bytes. When the block ends it is there,
        whole, in the place of an earlier one of the same step, and those that are not needed any more are deleted.

        Raises:
            DiskFull: there is no room, before or while it is written.
        """
        folder = self.unfinished / self.path(manifest.step).name
        if self._ranks.is_first:
            size = self._make_room(size)
            remove_tree(self.unfinished)
            folder.mkdir(parents=True)
        try:
            self._ranks.wait()
            yield folder
            self._ranks.wait()
            if self._ranks.is_first:
                self._finish(folder, manifest)
        except Exception as error:
            # torch and safetensors report a full disk each in its own way.
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(self._folder, size, self._free()) from error
            self._ensure_free(size - _size(folder), cause=error)
            raise
        finally:
            if self._ranks.is_first:
                remove_tree(self.unfinished)

    def _make_room(self, size: int) -> int:
        earlier = self._steps()
        size = max([size, *(_size(self.path(step)) for step in earlier[:1])])
        self._ensure_free(size * max(1, _KEPT - len(earlier)))
        return size

    def _finish(self, folder: Path, manifest: Manifest) -> None:
        files = {path.name: FileFacts(size=path.stat().st_size, xxh3=_hash(path)) for path in folder.iterdir()}
        write_file(folder / _MANIFEST, manifest.model_copy(update={"files": files}).model_dump_json(indent=2))
        move_into_place(folder, self.path(manifest.step), replace=True)
        self._rotate(manifest.best)

    def _remove_others(self) -> Iterator[str]:
        for step in self._steps():
            manifest = _read_manifest(self.path(step))
            if manifest is not None and manifest.run != self.run:
                remove_tree(self.path(step))
                yield f"checkpoint-{step}: it belongs to another run"

    def _steps(self) -> list[int]:
        """Newest first."""
        return sorted((int(path.name.rpartition("-")[2]) for path in self._folder.glob("checkpoint-*")), reverse=True)

    def _rotate(self, best: int | None) -> None:
        for step in self._steps()[_KEPT:]:
            if step != best:
                remove_tree(self.path(step))

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _ensure_free(self, needed: int, *, cause: Exception | None = None) -> None:
        if (free := self._free()) < needed:
            raise DiskFull(self._folder, needed, free) from cause


def _read_manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.model_validate_json((folder / _MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
