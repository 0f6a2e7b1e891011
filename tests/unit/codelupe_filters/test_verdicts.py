from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_filters.licences import Licence
from codelupe_filters.refusals import Rejection
from codelupe_filters.verdicts import COLUMNS, MAX_PATH_BYTES, Verdict, readable_path

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"src/main.py", "src/main.py"),
        ("src/größe.py".encode(), "src/größe.py"),
        (b"caf\xe9.py", r"caf\xe9.py"),
        (rb"caf\xe9.py", r"caf\\xe9.py"),
        (b"two\nlines.py", r"two\nlines.py"),
        (b'it\'s "quoted".py', 'it\'s "quoted".py'),
        ("turned\u202ename.py".encode(), r"turned\u202ename.py"),
    ],
)
def test_a_path_is_written_readably(path: bytes, text: str) -> None:
    assert readable_path(path) == text


@given(NAMES)
def test_any_path_becomes_one_printable_line_of_bounded_size(path: bytes) -> None:
    text = readable_path(path * 60)
    assert text.isprintable()
    assert len(text.encode()) <= MAX_PATH_BYTES


@given(NAMES, NAMES)
def test_different_paths_stay_different(one: bytes, other: bytes) -> None:
    assert (readable_path(one) == readable_path(other)) == (one == other)


def test_long_paths_that_differ_at_their_end_stay_different() -> None:
    start = b"a/" * 2000
    assert readable_path(start + b"x.py") != readable_path(start + b"y.py")


def test_a_verdict_with_a_rule_is_not_kept() -> None:
    assert Verdict(path=b"a", size_bytes=1).is_kept
    assert not Verdict(
        path=b"a", size_bytes=1, rejection=Rejection(rule="binary", version=1, detail="a NUL byte at 0")
    ).is_kept


def test_a_row_has_a_value_for_each_column() -> None:
    verdict = Verdict(
        path=b"a\tb.py",
        size_bytes=9,
        content=b"x = '\\n'\n\ty\r\n",
        content_hash=b"\x01\xff",
        characters=8,
        language="Python",
        licence=Licence(expression="MIT", evidence={"from": "metadata"}),
        is_permissive=True,
        labels=("test",),
        redactions={"EMAIL": 1},
    )
    row = verdict.as_row()
    assert row.endswith(b"\n")
    assert dict(zip(COLUMNS, row[:-1].split(b"\t"), strict=True)) == {
        "file_path": rb"a\\tb.py",
        "language": b"Python",
        "licence": b"MIT",
        "licence_evidence": b'{"from":"metadata"}',
        "is_permissive": b"t",
        "content": rb"x = '\\n'\n\ty\r\n",
        "content_hash": rb"\\x01ff",
        "size_bytes": b"9",
        "characters": b"8",
        "labels": b"{test}",
        "redactions": b'{"EMAIL":1}',
        "rejected_by": rb"\N",
        "rejection": rb"\N",
    }


def test_a_refused_file_s_row_tells_why() -> None:
    rejection = Rejection(rule="r", version=2, detail='saw "it"', evidence={"lines": 3, "rule": "not this"})
    *_, rule, reason = Verdict(path=b"a", size_bytes=1, rejection=rejection).as_row()[:-1].split(b"\t")
    assert rule == b"r"
    assert json.loads(reason.replace(rb"\\", b"\\")) == {"lines": 3, "rule": "r", "version": 2, "detail": 'saw "it"'}
