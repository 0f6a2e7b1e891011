"""The packages installed in this Python environment, each as a repository of the source files that it brought."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distributions
from importlib.metadata import distribution as find_distribution
from pathlib import Path, PurePosixPath

import anyio.to_thread
import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from codelupe import Repository
from codelupe_crawler.copies import copy_name
from codelupe_crawler.files import MAX_FILE_BYTES, is_document, is_source, main_language, read_text
from codelupe_crawler.licences import licence_of
from codelupe_crawler.snapshots import Files, Snapshots

_LEFT_OUT = {"codelupe"}
_METADATA_FOLDER = re.compile(r".*\.(dist|egg)-info")
_LICENCE_FOLDERS = {"licenses", "license_files"}


def installed_packages(needed_for: Sequence[str] = ()) -> Iterator[InstalledPackage]:
    """Every package that Python finds, the first of each name, but for CodeLupe itself and editable ones.

    With ``needed_for`` only those that these requirements need, whatever else is installed beside them.
    """
    wanted = required_by(needed_for) if needed_for else None
    seen = set(_LEFT_OUT)
    for distribution in distributions():
        name = _name(distribution)
        if name is None or (wanted is not None and name not in wanted):
            continue
        if name not in seen and not _is_editable(distribution):
            seen.add(name)
            yield InstalledPackage(name, distribution)


def required_by(requirements: Sequence[str]) -> set[str]:
    """The normalised names of all that these requirements need, themselves included, as far as it is installed."""
    waiting = [Requirement(text) for text in requirements]
    needed: dict[str, set[str]] = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras} - needed.setdefault(name, set())
        needed[name] |= extras
        try:
            below = [Requirement(text) for text in (find_distribution(name).requires or ())] if extras else []
        except PackageNotFoundError:
            del needed[name]
            continue
        waiting += [each for each in below if any(_applies(each, extra) for extra in extras)]
    return set(needed)


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _name(distribution: Distribution) -> str | None:
    """The normalised name; None where an uninstallation has left a folder without its metadata."""
    try:
        name = distribution.metadata["Name"]
        return canonicalize_name(name) if name else None
    except (TypeError, ValueError, OSError):
        return None


def _is_editable(distribution: Distribution) -> bool:
    """See "Recording the Direct URL Origin of installed distributions" (PEP 610)."""
    try:
        origin = msgspec.json.decode(distribution.read_text("direct_url.json") or "{}")
        return bool(origin.get("dir_info", {}).get("editable"))
    except (msgspec.DecodeError, AttributeError):
        return False


class InstalledPackage:
    """One installed distribution."""

    def __init__(self, name: str, distribution: Distribution) -> None:
        self.label = name
        self._distribution = distribution

    async def external_id(self) -> str:
        return self.label

    async def describe(self, snapshots: Snapshots) -> Repository | None:
        """The package as a repository, made on first sight; None if it brought no source file."""
        files = await anyio.to_thread.run_sync(lambda: self.files)
        if not files:
            return None
        metadata, version = self._distribution.metadata, self._distribution.version
        place = copy_name(self.label, version)
        return Repository(
            source="local",
            external_id=self.label,
            full_name=f"pypi/{self.label}",
            url=await snapshots.keep(place, version, self._read),
            revision=version,
            description=metadata["Summary"],
            language=main_language(files),
            licence=licence_of(metadata),
            size_kib=-(-sum(file.size or 0 for file in files.values()) // 1024),
        )

    @cached_property
    def files(self) -> dict[PurePosixPath, PackagePath]:
        """The source files in the package's RECORD, by their place in the repository."""
        found = {}
        for file in self._distribution.files or ():
            path = _place(file)
            if path is not None and (file.size or 0) <= MAX_FILE_BYTES:
                found[path] = file
        return found

    def _read(self) -> Files:
        root = Path(str(self._distribution.locate_file(""))).resolve()
        for path, file in sorted(self.files.items()):
            content = read_text(Path(str(file.locate())), root)
            if content is not None:
                yield str(path), content


def _place(file: PurePosixPath) -> PurePosixPath | None:
    """Where the file goes: licences move from the metadata to the top, all else stays; None leaves it out."""
    if file.is_absolute() or not is_source(file):
        return None
    if not _METADATA_FOLDER.fullmatch(file.parts[0]):
        return file
    if not is_document(file):
        return None
    inner = file.parts[1:]
    return PurePosixPath(*inner[1:] if inner[0] in _LICENCE_FOLDERS and len(inner) > 1 else inner)
