from __future__ import annotations

from codelupe import WorkerLost
from codelupe_filters.extract import _chunks, _row
from codelupe_filters.walk import Found


def test_chunks_hold_few_files_and_few_bytes() -> None:
    large = [Found(str(n).encode(), 10_000_000) for n in range(3)]
    assert [len(chunk) for chunk in _chunks(large)] == [1, 1, 1]
    small = [Found(str(n).encode(), 6) for n in range(2500)]
    assert [len(chunk) for chunk in _chunks(small)] == [1000, 1000, 500]
    assert [one for chunk in _chunks(small) for one in chunk] == small
    assert list(_chunks([])) == []


def test_a_file_that_took_its_worker_along_is_refused_with_the_executor_s_reason() -> None:
    row = _row(Found(b"a.py", 6), WorkerLost("more than 30 s"))
    assert row.startswith(b"a.py\t")
    assert b"worker-limit" in row
    assert b"more than 30 s" in row
    assert _row(Found(b"a.py", 6), b"judged\n") == b"judged\n"
