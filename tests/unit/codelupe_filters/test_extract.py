from __future__ import annotations

from pathlib import Path

import pytest

from codelupe import RetryLater
from codelupe_filters.contents import content_hash
from codelupe_filters.extract import _chunks, _records
from codelupe_filters.verdicts import Verdict

CODE = b"x = 1\n"


def verdict(path: str = "a.py", size: int = 6, rule: str | None = None) -> Verdict:
    return Verdict(
        path=path.encode(), size_bytes=size, content_hash=content_hash(CODE), rejected_by=rule, rejected_detail=rule
    )


def test_chunks_hold_few_files_and_few_bytes() -> None:
    large = [verdict(str(n), 5_000_000) for n in range(3)]
    assert [len(chunk) for chunk in _chunks(large)] == [1, 1, 1]
    small = [verdict(str(n)) for n in range(450)]
    assert [len(chunk) for chunk in _chunks(small)] == [200, 200, 50]
    assert [one for chunk in _chunks(small) for one in chunk] == small
    refused = [verdict(str(n), 5_000_000, "too-large") for n in range(150)]
    assert [len(chunk) for chunk in _chunks(refused)] == [150]
    assert list(_chunks([])) == []


def test_a_record_has_the_content_that_was_judged(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(CODE.replace(b"\n", b"\r\n"))
    [kept, refused] = _records(bytes(tmp_path), [verdict(), verdict(rule="generated")], 1000)
    assert (kept[0], kept[3]) == ("a.py", "x = 1\n")
    assert refused[3] is None


@pytest.mark.parametrize("now", [b"y = 2\n", None])
def test_a_file_that_changed_since_is_tried_again(tmp_path: Path, now: bytes | None) -> None:
    if now is not None:
        (tmp_path / "a.py").write_bytes(now)
    with pytest.raises(RetryLater, match="changed"):
        _records(bytes(tmp_path), [verdict()], 1000)
