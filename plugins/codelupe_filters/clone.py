"""Where a clone lies, and at which commit it stands."""

from __future__ import annotations

from pathlib import Path

from git import InvalidGitRepositoryError, NoSuchPathError, Repo, SymbolicReference

from codelupe import Reject


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
