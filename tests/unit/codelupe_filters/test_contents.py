from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_filters.contents import content_hash, decode, normalise, read_bytes
from codelupe_filters.refusals import READING_RULES, WALK_RULES, Refusal


@given(st.binary(max_size=300))
def test_any_bytes_become_text_or_a_reason(data: bytes) -> None:
    normal = normalise(data)
    readable = (
        not normal.startswith(b"version https://git-lfs.github.com/spec/")
        and not ({0} & set(normal))
        and normal.decode(errors="ignore").encode() == normal
        and normal.decode(errors="ignore").strip()
    )
    if readable:
        assert decode(normal).encode() == normal
    else:
        with pytest.raises(Refusal) as refused:
            decode(normal)
        assert refused.value.rejection.rule in READING_RULES


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"x = 1\0", "binary"),
        (b"caf\xe9 = 1\n", "undecodable"),
        ("x = 1\n".encode("utf-16"), "undecodable"),
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "lfs-pointer"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, rule: str) -> None:
    with pytest.raises(Refusal) as refused:
        decode(data)
    assert refused.value.rejection.rule == rule


def test_line_ends_and_byte_order_marks_make_no_difference() -> None:
    assert normalise(b"\xef\xbb\xbfa\r\nb\r\n") == b"a\nb\n"
    assert content_hash(normalise(b"a\r\nb\r\n")) == content_hash(b"a\nb\n")
    assert len(content_hash(b"")) == 16


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"12345")
    root = bytes(tmp_path)
    assert read_bytes(root, b"a.py", 5) == b"12345"
    with pytest.raises(Refusal) as refused:
        read_bytes(root, b"a.py", 4)
    assert refused.value.rejection.rule == "too-large"


def test_links_pipes_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder").mkdir()
    expected = {
        b"link.py": "unreadable",
        b"pipe.py": "special-file",
        b"gone.py": "unreadable",
        b"folder": "special-file",
    }
    for path, rule in expected.items():
        with pytest.raises(Refusal) as refused:
            read_bytes(bytes(tmp_path), path, 1000)
        assert refused.value.rejection.rule == rule
        assert rule in WALK_RULES + READING_RULES
