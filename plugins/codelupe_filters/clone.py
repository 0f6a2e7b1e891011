"""Where a clone lies, and at which commit it stands."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from git import InvalidGitRepositoryError, NoSuchPathError, Repo, SymbolicReference

from codelupe import Reject
from codelupe_git.clones import places_of, read_note


def locate(repositories: Path, path: str) -> Path:
    """The clone's folder.

    Raises:
        Reject: it is not there, or not below the folder of all repositories.
    """
    base = repositories.resolve()
    root = (base / path).resolve()
    if base not in root.parents:
        raise Reject(f"the clone {path!r} lies outside the repositories' folder {base}")
    if not root.is_dir():
        raise Reject(f"the clone {root} is not on disk; replay the downloader to have it again")
    return root


def find_clone(repositories: Path, repository_id: str, full_name: str, hints: Iterable[str | None]) -> Path:
    """Where the repository's clone lies: at one of the hints or, where another one has come there, under its name.

    Raises:
        Reject: it is not there, or not below the folder of all repositories.
    """
    paths = [hint for hint in hints if hint is not None]
    without_note: list[Path] = []
    for path in [
        *paths,
        *(str(place.relative_to(repositories)) for place in places_of(repositories, repository_id, full_name)),
    ]:
        with suppress(Reject):
            root = locate(repositories, path)
            note = read_note(root)
            if note is not None and note.repository_id == repository_id:
                return root
            if note is None and path in paths:
                without_note.append(root)
    if without_note:
        return without_note[0]
    root = locate(repositories, paths[-1])
    raise Reject(f"at {root} lies the clone of another repository; replay the downloader to have this one again")


def head_commit(root: Path) -> str:
    """The commit that is checked out, read from the clone's own files without running git.

    Raises:
        Reject: it is no git repository, or none with a commit.
    """
    try:
        with Repo(root) as repository:
            return SymbolicReference.dereference_recursive(repository, "HEAD")
    except (InvalidGitRepositoryError, NoSuchPathError, ValueError, OSError) as error:
        raise Reject(f"the clone {root} has no commit that can be read: {error}") from error
