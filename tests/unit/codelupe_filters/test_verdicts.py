from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_filters.verdicts import MAX_PATH_BYTES, Verdict, readable_path

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
    assert not Verdict(path=b"a", size_bytes=1, rejected_by="binary", rejected_detail="a NUL byte at 0").is_kept
