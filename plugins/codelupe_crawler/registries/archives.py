"""Reading the source files out of a release's archive, whatever its maker had in mind.

Nothing is unpacked to the disk, so links, devices, owners and modes have no meaning here: what is read are regular
files, by a path below the release's top folder that git can hold.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO

from codelupe_crawler.files import MAX_FILE_BYTES, is_source

MAX_ARCHIVE_BYTES = 64 << 20
MAX_ZIP_BYTES = 16 << 20
"""A zip's list of members is read whole before they can be counted."""
MAX_UNPACKED_BYTES = 512 << 20
"""Of all that the archive holds."""
MAX_SOURCE_BYTES = 128 << 20
"""Of what is taken; it is held in memory."""
MAX_MEMBERS = 50_000
_MAX_HEADER_BYTES = 32 << 10
"""Longer headers of a tar hold no names; what reads them takes time that grows with the square of their length."""
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 1024
_ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class ArchiveRefused(Exception):
    """An archive is broken, or larger than is taken; the text says which."""


def read_archive(archive: bytes, *, metadata: str) -> dict[str, bytes]:
    """The source files by their path, and the file ``metadata`` if it lies at the top.

    Raises:
        ArchiveRefused: it is no archive, is broken, or holds more than is taken.
    """
    read = _read_zip if archive.startswith(b"PK") else _read_tar
    try:
        members = _limited(read(archive, lambda path: str(path) == metadata or is_source(path)))
        return {str(path): content for path, content in members if b"\0" not in content}
    except ArchiveRefused:
        raise
    except Exception as error:  # tarfile and zipfile raise many kinds for what is broken
        raise ArchiveRefused(f"its archive is broken: {type(error).__name__}") from error


_Wanted = Callable[[PurePosixPath], bool]
_Members = Iterator[tuple[PurePosixPath, bytes]]


def _limited(members: _Members) -> _Members:
    size = 0
    for path, content in members:
        size += len(content)
        if size > MAX_SOURCE_BYTES:
            raise ArchiveRefused(f"it holds more than {MAX_SOURCE_BYTES >> 20} MiB of source files")
        yield path, content


def _read_tar(archive: bytes, wanted: _Wanted) -> _Members:
    with gzip.GzipFile(fileobj=io.BytesIO(archive)) as unpacked:
        stream = _Forward(unpacked)
        with tarfile.TarFile(fileobj=stream) as tar:
            for number, member in enumerate(_members(tar)):
                _check_count(number)
                path = _place(member.name)
                is_file = member.isreg() and not member.issparse() and 0 <= member.size <= MAX_FILE_BYTES
                if is_file and path is not None and wanted(path):
                    stream.seek(member.offset_data)
                    yield path, stream.take(member.size)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Each as it comes; unlike an iteration over the archive, without keeping them."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        yield member


def _read_zip(archive: bytes, wanted: _Wanted) -> _Members:
    if len(archive) > MAX_ZIP_BYTES:
        raise ArchiveRefused(f"it is a zip of more than {MAX_ZIP_BYTES >> 20} MiB")
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        members = packed.infolist()
        _check_count(len(members))
        for member in members:
            path = _place(member.filename)
            is_file = not member.is_dir() and member.file_size <= MAX_FILE_BYTES and not _is_link(member)
            if is_file and member.compress_type in _ZIP_METHODS and path is not None and wanted(path):
                with packed.open(member) as content:
                    yield path, content.read(MAX_FILE_BYTES)


def _check_count(number: int) -> None:
    if number > MAX_MEMBERS:
        raise ArchiveRefused(f"it holds more than {MAX_MEMBERS:,} files")


def _is_link(member: zipfile.ZipInfo) -> bool:
    kind = member.external_attr >> 28
    return kind not in (0, 0o10)


def _place(name: str) -> PurePosixPath | None:
    """The path below the top folder; None where it has none, leads out of it, or no file system could hold it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\0" in name:
        return None
    encoded = [part.encode(errors="surrogateescape") for part in path.parts]
    if max(map(len, encoded)) > _MAX_NAME_BYTES or len(b"/".join(encoded)) > _MAX_PATH_BYTES:
        return None
    return PurePosixPath(*path.parts[1:])


class _Forward(io.RawIOBase, IO[bytes]):
    """What is unpacked, up to a limit and never twice: an archive whose headers lead back has no end."""

    def __init__(self, unpacked: gzip.GzipFile) -> None:
        self._unpacked = unpacked
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        """The bytes of a header."""
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise ArchiveRefused("its archive has a header that is too long")
        return self.take(size)

    def take(self, size: int) -> bytes:
        """So many bytes; fewer at the end."""
        content = self._unpacked.read(size)
        self._position += len(content)
        if self._position > MAX_UNPACKED_BYTES:
            raise ArchiveRefused(f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB")
        return content

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Pass over what lies before."""
        if whence != io.SEEK_SET or offset < self._position:
            raise ArchiveRefused("its archive leads back to what was read before")
        while offset > self._position and self.take(min(offset - self._position, 1 << 20)):
            pass
        return self._position
