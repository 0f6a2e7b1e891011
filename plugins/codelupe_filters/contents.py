"""Reads files of a clone: bytes in, text or the reason why there is none out.

Text is stored normalised: without a byte order mark and with Unix line ends. Its hash is xxh3-128 of that.
"""

from __future__ import annotations

import codecs
import os
import stat

import xxhash

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Refusal(Exception):
    """A file is left out: the rule's name, and what it saw."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


def read_bytes(root: bytes, path: bytes, max_bytes: int) -> bytes:
    """The file's bytes.

    Raises:
        Refusal: too large, or it cannot be read, or it is a link or a device by now.
    """
    try:
        # Without O_NONBLOCK opening a pipe would wait for its writer.
        descriptor = os.open(root + b"/" + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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
        raise Refusal("too-large", f"{status.st_size} bytes, at most {max_bytes} are read")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(max_bytes)


def file_size(root: bytes, path: bytes) -> int:
    """The file's bytes by number, 0 if it cannot be looked at."""
    try:
        return os.lstat(root + b"/" + path).st_size
    except OSError:
        return 0


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
        raise Refusal("binary", f"a NUL byte at {position}")
    if data.startswith(_LFS_POINTER):
        raise Refusal("lfs-pointer", "the content is kept by Git LFS")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Refusal("undecodable", f"not UTF-8 at byte {error.start}") from error
    if not text.strip():
        raise Refusal("empty", "nothing but white space")
    return text


def content_hash(data: bytes) -> bytes:
    """The 16 bytes by which normalised content is known."""
    return xxhash.xxh3_128_digest(data)
