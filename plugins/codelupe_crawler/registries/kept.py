"""Releases as bare git repositories: one for each package, whole or not there, with what was found in the archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from codelupe import atomic_folder
from codelupe_crawler.copies import REVISION_FILE
from codelupe_crawler.files import main_language
from codelupe_crawler.registries.release import About
from codelupe_crawler.snapshots import commit

_KEPT_FILE = "codelupe-release.json"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a release's files."""

    revision: str
    language: str | None
    size_kib: int
    about: About


def read_kept(place: Path) -> Kept | None:
    """What is kept there; None if nothing whole is."""
    try:
        return msgspec.json.decode((place / _KEPT_FILE).read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return None


def keep(place: Path, revision: str, files: Mapping[str, bytes], about: About) -> Kept:
    """Make it a repository of these files, in the place of an earlier release.

    Raises:
        OSError: the folder cannot be written.
        codelupe_crawler.git.GitFailed: git refused.
    """
    kept = Kept(
        revision=revision,
        language=main_language(map(PurePosixPath, files)),
        size_kib=-(-sum(map(len, files.values())) // 1024),
        about=about,
    )
    with atomic_folder(place, replace=True) as unfinished:
        commit(unfinished, sorted(files.items()), message=f"{place.name} {revision}")
        (unfinished / _KEPT_FILE).write_bytes(msgspec.json.encode(kept))
        (unfinished / REVISION_FILE).write_text(revision)
    return kept
