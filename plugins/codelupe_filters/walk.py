"""Lists the files of a clone without following or opening any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from codelupe_filters.refusals import VERSION, Rejection
from codelupe_filters.verdicts import Verdict


class Found(NamedTuple):
    """A file by its path relative to the clone, and its bytes by number."""

    path: bytes
    size: int


@dataclass(kw_only=True)
class Listing:
    """What a walk found."""

    files: list[Found] = field(default_factory=list)
    """Regular files, sorted by their path."""
    refused: list[Verdict] = field(default_factory=list)
    """What is no file to read: links, devices, submodules, folders that cannot be entered."""


def walk(root: bytes, max_entries: int) -> Listing:
    """List a clone, all but its ``.git``; links and submodules are not entered.

    Past ``max_entries`` files, folders and others the walk stops and says so in a verdict on the clone itself.
    Raises nothing: what cannot be read is refused in the system's words.
    """
    listing = Listing()
    folders = [b""]
    left = max_entries
    while folders and left >= 0:
        folder = folders.pop()
        try:
            entries = _entries(root, folder, left + 1)
        except OSError as error:
            listing.refused.append(_refuse(folder or b".", "unreadable", error.strerror or str(error)))
            continue
        if folder and any(entry.name == b".git" for entry in entries):
            listing.refused.append(_refuse(folder, "submodule", "a repository of its own"))
            continue
        left -= len(entries)
        folders.extend(_sort_out(folder, entries, listing))
    if left < 0:
        listing.refused.append(_refuse(b".", "too-many-files", f"the walk stopped at more than {max_entries} entries"))
    listing.files.sort()
    return listing


def _entries(root: bytes, folder: bytes, limit: int) -> list[os.DirEntry[bytes]]:
    with os.scandir(root + b"/" + folder) as entries:
        return list(islice(entries, limit))


def _sort_out(folder: bytes, entries: list[os.DirEntry[bytes]], listing: Listing) -> Iterator[bytes]:
    """Put the entries where they belong; yields the folders to enter."""
    for entry in entries:
        path = folder + b"/" + entry.name if folder else entry.name
        try:
            if path == b".git":
                continue
            if entry.is_dir(follow_symlinks=False):
                yield path
            elif entry.is_file(follow_symlinks=False):
                listing.files.append(Found(path, entry.stat(follow_symlinks=False).st_size))
            elif entry.is_symlink():
                listing.refused.append(_refuse(path, "symbolic-link", "links are not followed"))
            else:
                listing.refused.append(_refuse(path, "special-file", "neither a file nor a folder"))
        except OSError as error:
            listing.refused.append(_refuse(path, "unreadable", error.strerror or str(error)))


def _refuse(path: bytes, rule: str, detail: str) -> Verdict:
    return Verdict(path=path, size_bytes=0, rejection=Rejection(rule=rule, version=VERSION, detail=detail))
