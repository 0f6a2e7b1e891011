"""Finds the licence of each file from the licence texts that lie in the tree."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from licenseclassifier import identify_license

from codelupe_filters.contents import Refusal, decode, normalise, read_bytes

_LICENCE_FILE = re.compile(
    rb"(?:un)?licen[cs]e(?:[-_.].*)?|(?:mit|apache|bsd)-licen[cs]e(?:[-_.].*)?|copying(?:[-_.].*)?", re.IGNORECASE
)
_SOURCE_SUFFIX = re.compile(rb"\.(?:py|go|rs|js|ts|tsx|dart|json|html?|ya?ml|toml)$", re.IGNORECASE)
_MAX_TEXTS = 200
_MAX_BYTES = 256 * 1024

Licences = Mapping[bytes, str]
"""SPDX expressions by folder (``b""`` is the clone's own): each covers what lies under the folder."""


def find_licences(root: bytes, paths: Iterable[bytes]) -> dict[bytes, str]:
    """Read the licence texts among these paths, the outermost first and at most 200 of them.

    Where several licences are recognised in a folder, all are said to hold: that is the careful reading of two texts
    side by side, which may also mean a choice.
    """
    candidates = sorted(filter(_is_licence_file, paths), key=lambda path: (path.count(b"/"), path))
    found: defaultdict[bytes, set[str]] = defaultdict(set)
    for path in candidates[:_MAX_TEXTS]:
        found[_folder(path)] |= _identify(root, path)
    return {folder: " AND ".join(sorted(names)) for folder, names in found.items() if names}


def licence_of(path: bytes, licences: Licences) -> str | None:
    """The licence of the nearest folder above the path that has one."""
    folder = _folder(path)
    while folder and folder not in licences:
        folder = _folder(folder)
    return licences.get(folder)


def _folder(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _is_licence_file(path: bytes) -> bool:
    name = path.rpartition(b"/")[2]
    return bool(_LICENCE_FILE.fullmatch(name)) and not _SOURCE_SUFFIX.search(name)


def _identify(root: bytes, path: bytes) -> set[str]:
    try:
        text = decode(normalise(read_bytes(root, path, _MAX_BYTES)))
    except Refusal:
        return set()
    return {match.id for match in identify_license(text)}
