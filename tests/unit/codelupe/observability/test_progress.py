"""What is under way, and what it last said of itself."""

from __future__ import annotations

import pytest

from codelupe import Progress
from codelupe.observability.progress import ProgressTracker


def at(done: float, total: float | None = 10, unit: str = "files") -> Progress:
    return Progress(done=done, total=total, unit=unit)


def latest(tracker: ProgressTracker, name: str) -> list[tuple[str, Progress | None]]:
    return [(work.stream, work.progress) for work in tracker.of(name)]


class Clock:
    """The time that the tracker sees, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("codelupe.observability.progress.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_work_is_shown_while_it_lasts_with_its_latest_progress() -> None:
    progress = ProgressTracker()
    with progress.working("filters.file-rules", "repo/a"):
        assert latest(progress, "filters.file-rules") == [("repo/a", None)]
        progress.report("filters.file-rules", "repo/a", at(1))
        progress.report("filters.file-rules", "repo/a", at(2))
        assert latest(progress, "filters.file-rules") == [("repo/a", at(2))]
    assert latest(progress, "filters.file-rules") == []


def test_stages_and_streams_are_told_apart() -> None:
    progress = ProgressTracker()
    with progress.working("a", "repo/1"), progress.working("a", "repo/2"), progress.working("b", "repo/1"):
        progress.report("a", "repo/2", at(5))
        assert latest(progress, "a") == [("repo/1", None), ("repo/2", at(5))]
        assert latest(progress, "b") == [("repo/1", None)]
        assert latest(progress, "c") == []


def test_work_that_fails_is_taken_down_too() -> None:
    progress = ProgressTracker()
    with pytest.raises(ValueError, match="bad"), progress.working("a", "repo/1"):
        progress.report("a", "repo/1", at(1))
        raise ValueError("bad")
    assert latest(progress, "a") == []


def test_the_next_piece_of_work_starts_without_the_last_one_s_progress() -> None:
    progress = ProgressTracker()
    with progress.working("a", "repo/1"):
        progress.report("a", "repo/1", at(9))
    with progress.working("a", "repo/1"):
        assert latest(progress, "a") == [("repo/1", None)]


def test_a_late_word_does_not_bring_finished_work_back() -> None:
    progress = ProgressTracker()
    with progress.working("a", "repo/1"):
        pass
    progress.report("a", "repo/1", at(9))
    assert latest(progress, "a") == []


def test_the_time_that_a_subscription_works_adds_up(clock: Clock) -> None:
    progress = ProgressTracker()
    with progress.working("a", "repo/1"):
        clock.now += 2
        with progress.working("a", "repo/2"), progress.working("b", "repo/1"):
            clock.now += 3
    with pytest.raises(ValueError, match="bad"), progress.working("b", "repo/1"):
        clock.now += 0.5
        raise ValueError("bad")
    assert dict(progress.seconds) == {"a": 8.0, "b": 3.5}


def test_the_rest_takes_as_long_as_the_pace_so_far_says(clock: Clock) -> None:
    tracker = ProgressTracker()
    with tracker.working("a", "batch/1"):
        clock.now += 20
        tracker.report("a", "batch/1", Progress(done=0, total=None, unit="", activity="loading"))
        clock.now += 10
        [loading] = tracker.of("a")
        assert (loading.elapsed, loading.to_go) == (30, None)
        tracker.report("a", "batch/1", at(2))
        assert tracker.of("a")[0].to_go is None, "nothing is known of the pace yet"
        clock.now += 6
        tracker.report("a", "batch/1", at(4))
        assert tracker.of("a")[0].to_go == 18, "2 files took 6 s, and 6 are left; the loading does not count"


@pytest.mark.parametrize("after", [at(1, total=50), at(1, unit="bytes")])
def test_another_count_has_a_pace_of_its_own(clock: Clock, after: Progress) -> None:
    tracker = ProgressTracker()
    with tracker.working("a", "batch/1"):
        tracker.report("a", "batch/1", at(1))
        clock.now += 100
        tracker.report("a", "batch/1", at(2))
        tracker.report("a", "batch/1", after)
        assert tracker.of("a")[0].to_go is None


def test_an_estimated_total_that_is_bettered_leaves_the_pace(clock: Clock) -> None:
    tracker = ProgressTracker()
    with tracker.working("a", "crawl"):
        tracker.report("a", "crawl", at(100, total=1000))
        clock.now += 10
        tracker.report("a", "crawl", at(200, total=1200))
        assert tracker.of("a")[0].to_go == 100, "100 took 10 s, and 1,000 are left"


def test_what_has_no_end_has_no_time_to_go(clock: Clock) -> None:
    tracker = ProgressTracker()
    with tracker.working("a", "crawl"):
        for done in (1, 2):
            tracker.report("a", "crawl", at(done, total=None))
            clock.now += 1
        assert tracker.of("a")[0].to_go is None
