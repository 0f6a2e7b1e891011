"""What is under way, and what it last said of itself."""

from __future__ import annotations

import pytest

from codelupe import Progress
from codelupe.observability.progress import ProgressTracker


def at(done: float) -> Progress:
    return Progress(done=done, total=10, unit="files")


def test_work_is_shown_while_it_lasts_with_its_latest_progress() -> None:
    progress = ProgressTracker()
    with progress.working("filters.file-rules", "repo/a"):
        assert progress.of("filters.file-rules") == [("repo/a", None)]
        progress.report("filters.file-rules", "repo/a", at(1))
        progress.report("filters.file-rules", "repo/a", at(2))
        assert progress.of("filters.file-rules") == [("repo/a", at(2))]
    assert progress.of("filters.file-rules") == []


def test_stages_and_streams_are_told_apart() -> None:
    progress = ProgressTracker()
    with progress.working("a", "repo/1"), progress.working("a", "repo/2"), progress.working("b", "repo/1"):
        progress.report("a", "repo/2", at(5))
        assert progress.of("a") == [("repo/1", None), ("repo/2", at(5))]
        assert progress.of("b") == [("repo/1", None)]
        assert progress.of("c") == []


def test_work_that_fails_is_taken_down_too() -> None:
    progress = ProgressTracker()
    with pytest.raises(ValueError, match="bad"), progress.working("a", "repo/1"):
        progress.report("a", "repo/1", at(1))
        raise ValueError("bad")
    assert progress.of("a") == []


def test_the_next_piece_of_work_starts_without_the_last_one_s_progress() -> None:
    progress = ProgressTracker()
    with progress.working("a", "repo/1"):
        progress.report("a", "repo/1", at(9))
    with progress.working("a", "repo/1"):
        assert progress.of("a") == [("repo/1", None)]


def test_a_late_word_does_not_bring_finished_work_back() -> None:
    progress = ProgressTracker()
    with progress.working("a", "repo/1"):
        pass
    progress.report("a", "repo/1", at(9))
    assert progress.of("a") == []


def test_the_time_that_a_stage_works_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("codelupe.observability.progress.time.monotonic", lambda: now)
    progress = ProgressTracker()
    with progress.working("a", "repo/1"):
        now += 2
        with progress.working("a", "repo/2"), progress.working("b", "repo/1"):
            now += 3
    with pytest.raises(ValueError, match="bad"), progress.working("b", "repo/1"):
        now += 0.5
        raise ValueError("bad")
    assert dict(progress.seconds) == {"a": 8.0, "b": 3.5}
