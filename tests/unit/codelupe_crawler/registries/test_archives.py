from __future__ import annotations

import bz2
import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from codelupe_crawler.files import MAX_FILE_BYTES
from codelupe_crawler.registries import archives
from codelupe_crawler.registries.archives import ArchiveRefused, read_archive


def tar(*members: tuple[str, bytes] | tarfile.TarInfo, **options: int) -> bytes:
    """A tar.gz of files, and of members that are something else."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", **options) as file:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                file.addfile(info, io.BytesIO(member[1]))
    return packed.getvalue()


def zipped(members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return packed.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(archive: bytes) -> dict[str, bytes]:
    return read_archive(archive, metadata="PKG-INFO")


FILES = [
    ("demo-1.0/PKG-INFO", b"Name: demo\n"),
    ("demo-1.0/src/demo/__init__.py", b"x = 1\n"),
    ("demo-1.0/LICENSE", b"MIT"),
    ("demo-1.0/data.bin", b"1"),
    ("demo-1.0/setup.cfg", b""),
    ("demo-1.0/src/demo.egg-info/PKG-INFO", b"Name: other\n"),
    ("demo-1.0/binary.py", b"\0"),
    ("demo-1.0/large.py", b"#" * (MAX_FILE_BYTES + 1)),
]
TAKEN = {"PKG-INFO": b"Name: demo\n", "src/demo/__init__.py": b"x = 1\n", "LICENSE": b"MIT"}
HOSTILE = [
    "/demo/absolute.py", "../outside.py", "demo/../../outside.py", "demo/a/../b.py", "..", "/", "", ".", "top.py",
    "demo/.git/hooks/post-checkout.py", "demo/x/.GIT/y.py", "demo/__pycache__/x.py",
    f"demo/{'n' * 256}.py", f"demo/{'d/' * 600}x.py",
]  # fmt: skip
ODD = [
    "demo/-dash.py", "demo/new\nline.py", 'demo/quote"\\back.py', "demo/ space .py", "./demo/./dot.py",
    "demo/caf\N{LATIN SMALL LETTER E WITH ACUTE}.py", "demo/\N{RIGHT-TO-LEFT OVERRIDE}yp.py", "demo/..\\up.py",
    "demo/Case.py", "demo/case.py", "demo/~x.py", "demo/CON.py",
]  # fmt: skip
ODD_TAKEN = {name.removeprefix("./").removeprefix("demo/").removeprefix("./") for name in ODD}


def test_the_source_files_of_a_tar_are_read() -> None:
    assert read(tar(*FILES)) == TAKEN
    assert read(tar(*FILES, format=tarfile.USTAR_FORMAT)) == TAKEN
    assert read(tar(*FILES, format=tarfile.GNU_FORMAT)) == TAKEN


def test_the_source_files_of_a_zip_are_read() -> None:
    assert read(zipped(FILES)) == TAKEN


@pytest.mark.parametrize("pack", [lambda files: tar(*files), zipped], ids=["tar", "zip"])
def test_names_that_lead_out_are_left_out_and_odd_ones_are_kept(pack: object) -> None:
    assert callable(pack)
    hostile = [(name, b"x") for name in HOSTILE if name or pack is not zipped]
    assert set(read(pack([*hostile, *((name, b"x") for name in ODD)]))) == ODD_TAKEN


def test_names_that_are_no_text_come_through_as_bytes() -> None:
    [name] = read(tar(("demo/latin\udce9.py", b"x"), format=tarfile.GNU_FORMAT))
    assert name == "latin\udce9.py"


def test_a_name_with_nul_is_left_out() -> None:
    info = tarfile.TarInfo("demo/x.py")
    info.pax_headers = {"path": "demo/a\0b.py"}
    assert read(tar(info, ("demo/ok.py", b"1"), format=tarfile.PAX_FORMAT)) == {"ok.py": b"1"}


def test_links_devices_and_folders_are_no_files() -> None:
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    members = [special(f"demo/{number}.py", kind, "/etc/passwd") for number, kind in enumerate(kinds)]
    assert read(tar(*members, ("demo/ok.py", b"1"))) == {"ok.py": b"1"}
    link = zipfile.ZipInfo("demo/link.py")
    link.external_attr = 0o120777 << 16
    assert read(zipped([(link, b"/etc/passwd"), ("demo/folder.py/", b""), ("demo/ok.py", b"1")])) == {"ok.py": b"1"}


def test_of_a_name_that_comes_twice_the_last_counts() -> None:
    assert read(tar(("demo/a.py", b"1"), ("demo/a.py", b"2"))) == {"a.py": b"2"}


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 8 << 20)
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=9) as file:
        info = tarfile.TarInfo("demo/zeros.bin")
        info.size = 64 << 20
        file.write(info.tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    with pytest.raises(ArchiveRefused, match="it unpacks to more than 8 MiB"):
        read(bomb.getvalue())


@pytest.mark.parametrize("content", [b"x" * 100, b"\0" * 100], ids=["text", "binary"])
@pytest.mark.parametrize("pack", [lambda files: tar(*files), zipped], ids=["tar", "zip"])
def test_many_files_are_too_much_together(pack: object, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(pack)
    monkeypatch.setattr(archives, "MAX_SOURCE_BYTES", 1000)
    files = [(f"demo/{number}.py", content) for number in range(11)]
    assert len(read(pack(files[:10]))) in {0, 10}
    with pytest.raises(ArchiveRefused, match="more than 0 MiB of source files"):
        read(pack(files))


@pytest.mark.parametrize("pack", [lambda files: tar(*files), zipped], ids=["tar", "zip"])
def test_a_huge_count_is_refused(pack: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(pack)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 20)
    with pytest.raises(ArchiveRefused, match="it holds more than 20 files"):
        read(pack([(f"demo/{number}.bin", b"") for number in range(30)]))


def test_a_large_zip_is_refused_before_its_members_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ZIP_BYTES", 100)
    with pytest.raises(ArchiveRefused, match="it is a zip of more than"):
        read(zipped(FILES))


def test_what_a_zip_says_of_a_member_s_size_may_be_a_lie() -> None:
    archive = bytearray(zipped([("demo/a.py", b"x" * 5000)]))
    at = archive.rindex(b"PK\1\2")
    archive[at + 24 : at + 28] = struct.pack("<I", 10)
    with pytest.raises(ArchiveRefused, match="its archive is broken"):
        read(bytes(archive))


def test_methods_that_unpack_without_a_limit_are_not_used() -> None:
    bomb = zipped([("demo/a.py", b"x" * 1000)], zipfile.ZIP_BZIP2)
    assert read(bomb) == {}
    assert read(zipped([("demo/a.py", b"x" * 1000)], zipfile.ZIP_LZMA)) == {}


def header(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header whose size is whatever these twelve bytes say."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT)[:512])
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "size",
    [
        b"\xff" * 12,  # -1: leads back to the header itself, as in CVE-2025-8194
        b"\xff" * 10 + b"\xfe\x00",  # -512
        b"\x80" + b"\xff" * 11,  # more than there can be
        b"77777777777\0",
        b"notanumber!\0",
    ],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_a_header_with_an_impossible_size_ends(size: bytes, kind: bytes) -> None:
    archive = gzip.compress(header("demo/x.bin", size, kind) * 4 + bytes(1024))
    try:
        assert read(archive) == {}
    except ArchiveRefused:
        return


def test_a_long_header_is_refused_since_reading_it_takes_too_long() -> None:
    digits = b"1" * (1 << 20)  # as in CVE-2024-6232
    pax = header("demo/x", b"%011o\0" % len(digits), tarfile.XHDTYPE) + digits
    with pytest.raises(ArchiveRefused, match="a header that is too long"):
        read(gzip.compress(pax + bytes(1024)))


def test_a_sparse_file_is_left_out() -> None:
    info = tarfile.TarInfo("demo/sparse.py")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    try:
        assert read(tar(info, format=tarfile.PAX_FORMAT)) == {}
    except ArchiveRefused:
        return


BROKEN = {
    "empty": b"",
    "text": b"not an archive",
    "zip's mark": b"PK",
    "zip's header": b"PK\3\4" + bytes(100),
    "gzip's mark": b"\x1f\x8b",
    "gzip of text": gzip.compress(b"x" * 1000),
    "tar cut off": tar(*FILES)[:-200],
    "zip cut off": zipped(FILES)[:-10],
    "bzip2": bz2.compress(b"x"),
    "HTML": b"<html>\n",
}


@pytest.mark.parametrize("archive", BROKEN.values(), ids=BROKEN)
def test_what_is_no_whole_archive_is_refused(archive: bytes) -> None:
    with pytest.raises(ArchiveRefused, match="its archive is broken"):
        read(archive)


def test_an_empty_archive_holds_nothing() -> None:
    assert read(tar()) == read(zipped([])) == {}


def test_nothing_is_written_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read(tar(*FILES, *((name, b"x") for name in HOSTILE)))
    assert list(tmp_path.rglob("*")) == []
