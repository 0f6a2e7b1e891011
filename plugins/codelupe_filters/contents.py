"""Reads files of a clone: bytes in, text or the reason why there is none out.

Text is stored normalised: without a byte order mark and with Unix line ends. Its hash is xxh3-128 of that.
"""

from __future__ import annotations

import codecs
import os
import stat

import xxhash

from codelupe import Objection
from codelupe_filters.refusals import Refusal

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Without O_NONBLOCK opening a pipe would wait for its writer.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_bytes(root: bytes, path: bytes, max_bytes: int) -> bytes:
    """The file's bytes.

    Raises:
        Refusal: too large, or it cannot be read, or it is a link or a device by now.
    """
    try:
        descriptor = os.open(root + b"/" + path, _FLAGS)
        try:
            return _read_regular(descriptor, max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Refusal("unreadable", error.strerror or str(error)) from error


def _read_regular(descriptor: int, max_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Refusal("special-file", "neither a file nor a folder")
    if status.st_size > max_bytes:
        detail = f"{status.st_size} bytes, at most {max_bytes} are read"
        raise Refusal("too-large", Objection(detail=detail, evidence={"bytes": status.st_size, "most": max_bytes}))
    return os.read(descriptor, status.st_size)


def normalise(data: bytes) -> bytes:
    """Without a UTF-8 byte order mark, and with Unix line ends."""
    return data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")


def decode(data: bytes) -> str:
    """The text in these bytes.

    Raises:
        Refusal: it is no UTF-8 text, has nothing in it, or only points to a large file kept elsewhere.
    """
    if data.startswith(_UTF16_MARKS):
        raise Refusal("undecodable", "UTF-16, only UTF-8 is read")
    if (position := data.find(b"\0")) >= 0:
        raise Refusal("binary", Objection(detail=f"a NUL byte at {position}", evidence={"position": position}))
    if data.startswith(_LFS_POINTER):
        raise Refusal("lfs-pointer", "the content is kept by Git LFS")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        detail = f"not UTF-8 at byte {error.start}"
        raise Refusal("undecodable", Objection(detail=detail, evidence={"position": error.start})) from error
    if not text.strip():
        raise Refusal("empty", "nothing but white space")
    return text


def content_hash(data: bytes) -> bytes:
    """The 16 bytes by which normalised content is known."""
    return xxhash.xxh3_128_digest(data)
