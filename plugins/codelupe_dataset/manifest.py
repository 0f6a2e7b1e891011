"""What an export says of itself: of what, how far, and which shards are whole."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from codelupe import CodelupeError, write_file
from codelupe_dataset.selection import Selection

NAME = "export.json"


class ExportError(CodelupeError):
    """The data set cannot be written there, or what is there is of another one."""

    code = "export"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    format: str
    selection: Selection
    shard_files: int
    """Files a shard."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The files as they were when the export began; ``fingerprint`` changes with anything that is exported of them."""

    files: int
    last_id: int
    fingerprint: str


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """A whole one; ``last_id`` is its last file's."""

    name: str
    files: int
    bytes: int
    last_id: int


class Manifest(msgspec.Struct, kw_only=True):
    """Kept in the folder beside the shards, and written anew after each of them."""

    codelupe: str
    """The version that began it."""
    begun_at: datetime
    options: Options
    snapshot: Snapshot
    shards: list[Shard]
    complete: bool = False

    @property
    def files(self) -> int:
        return sum(shard.files for shard in self.shards)

    @property
    def last_id(self) -> int:
        return self.shards[-1].last_id if self.shards else 0


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an export that was begun there.

    Raises:
        ExportError: it cannot be read, or other things lie there.
    """
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise ExportError(f"{folder} is not empty and holds no export", hint="Name a new folder.") from None
        return None
    except msgspec.DecodeError as error:
        raise ExportError(f"{path} cannot be read: {error}", hint="Name another folder, or delete this one.") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put it in the place of the earlier one."""
    write_file(folder / NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
