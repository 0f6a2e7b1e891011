"""Which licence a file is under, and whether the policy accepts it.

The source's metadata decides, else the licence texts that lie in the tree.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from license_expression import AND, OR, LicenseSymbol, LicenseWithExceptionSymbol, Licensing
from licenseclassifier import identify_license
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from codelupe_filters.contents import decode, normalise, read_bytes
from codelupe_filters.refusals import Refusal

PERMISSIVE = (
    "0BSD",
    "AFL-3.0",
    "Apache-1.1",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-2-Clause-Patent",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "CNRI-Python",
    "ECL-2.0",
    "HPND",
    "ISC",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MS-PL",
    "MulanPSL-2.0",
    "NCSA",
    "PHP-3.01",
    "PSF-2.0",
    "PostgreSQL",
    "Python-2.0",
    "UPL-1.0",
    "Unicode-3.0",
    "Unlicense",
    "W3C",
    "WTFPL",
    "X11",
    "ZPL-2.1",
    "Zlib",
    "blessing",
    "curl",
    "libpng-2.0",
)
"""SPDX identifiers of licences that ask for no more than naming the authors (after the Blue Oak Council's list)."""

_LICENCE_FILE = re.compile(
    rb"(?:un)?licen[cs]e(?:[-_.].*)?|(?:mit|apache|bsd)-licen[cs]e(?:[-_.].*)?|copying(?:[-_.].*)?", re.IGNORECASE
)
_SOURCE_SUFFIX = re.compile(rb"\.(?:py|go|rs|js|ts|tsx|dart|json|html?|ya?ml|toml)$", re.IGNORECASE)
_MAX_TEXTS = 200
_MAX_BYTES = 256 * 1024
_LICENSING = Licensing()
"""Without a list of licences: packaging knows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence as an SPDX expression, and how it became known."""

    expression: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


Licences = Mapping[bytes, Licence]
"""Licences by folder (``b""`` is the clone's own): each covers what lies under the folder."""


def stated_licence(metadata: str | None) -> Licence | None:
    """The licence that a source's metadata states, or None if that is no SPDX expression.

    GitHub, for one, says ``NOASSERTION`` where it cannot tell.
    """
    expression = _canonical(metadata) if metadata else None
    return Licence(expression=expression, evidence={"from": "metadata"}) if expression else None


def find_licences(root: bytes, paths: Iterable[bytes]) -> dict[bytes, Licence]:
    """Read the licence texts among these paths, the outermost first and at most 200 of them.

    Where several licences are recognised in a folder, all are said to hold: that is the careful reading of two texts
    side by side, which may also mean a choice.
    """
    candidates = sorted(filter(_is_licence_file, paths), key=lambda path: (path.count(b"/"), path))
    found: defaultdict[bytes, list[dict[str, Any]]] = defaultdict(list)
    for path in candidates[:_MAX_TEXTS]:
        found[_folder(path)] += _identify(root, path)
    return {folder: _all_hold(matches) for folder, matches in found.items() if matches}


def licence_of(path: bytes, licences: Licences) -> Licence | None:
    """The licence of the nearest folder above the path that has one."""
    folder = _folder(path)
    while folder and folder not in licences:
        folder = _folder(folder)
    return licences.get(folder)


@lru_cache(maxsize=1024)
def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether these licences (in lower case) allow what an SPDX expression asks for.

    AND asks for both sides, OR for one; WITH only adds permissions (SPDX specification, annex "SPDX License
    Expressions"). What is no such expression is not allowed.
    """
    canonical = _canonical(expression)
    return canonical is not None and _is_allowed(_LICENSING.parse(canonical), allowed)


def _is_allowed(asked: Any, allowed: frozenset[str]) -> bool:
    match asked:
        case AND(args=sides):
            return all(_is_allowed(side, allowed) for side in sides)
        case OR(args=sides):
            return any(_is_allowed(side, allowed) for side in sides)
        case LicenseWithExceptionSymbol(license_symbol=licence):
            return _is_allowed(licence, allowed)
        case LicenseSymbol(key=identifier):
            return identifier.rstrip("+").lower() in allowed
        case _:
            return False


def _canonical(expression: str) -> str | None:
    try:
        return canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return None


def _folder(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _is_licence_file(path: bytes) -> bool:
    name = path.rpartition(b"/")[2]
    return bool(_LICENCE_FILE.fullmatch(name)) and not _SOURCE_SUFFIX.search(name)


def _identify(root: bytes, path: bytes) -> list[dict[str, Any]]:
    """What is recognised in a text: each licence's identifier, and between which characters its words stand."""
    try:
        text = decode(normalise(read_bytes(root, path, _MAX_BYTES)))
    except Refusal:
        return []
    place = path.decode(errors="backslashreplace")
    return [{"path": place, "id": it.id, "start": it.start, "end": it.end} for it in identify_license(text)]


def _all_hold(matches: list[dict[str, Any]]) -> Licence:
    expression = " AND ".join(sorted({match["id"] for match in matches}))
    return Licence(expression=expression, evidence={"from": "file", "path": matches[0]["path"], "matches": matches})
