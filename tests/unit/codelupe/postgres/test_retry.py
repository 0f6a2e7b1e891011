"""A loop outlives a database that goes away: it says so once, pauses, and goes on."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from codelupe.errors import DatabaseUnavailable
from codelupe.postgres.retry import RetryWhileUnavailable, is_unavailable, retry_while_unavailable
from tests.processes import HANGS

pytestmark = pytest.mark.anyio


class Step:
    """Raises these errors, one in each call, then returns 7."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 7


async def test_a_step_is_taken_until_the_database_is_there() -> None:
    away = DatabaseUnavailable("gone", hint="Start it.")
    with capture_logs() as lines:
        assert await retry_while_unavailable(Step(away, away), "feed") == 7
    assert [(one["log_level"], one["event"]) for one in lines] == [
        ("warning", "database_unavailable"),
        ("debug", "database_unavailable"),
        ("info", "database_available"),
    ]
    assert {one["activity"] for one in lines} == {"feed"}
    assert lines[0]["error"] == "gone"
    assert lines[2]["away_seconds"] >= 1


async def test_a_step_that_succeeds_says_nothing() -> None:
    with capture_logs() as lines:
        assert await retry_while_unavailable(Step(), "feed") == 7
    assert lines == []


async def test_each_outage_is_news() -> None:
    attempt = RetryWhileUnavailable("feed", pause_seconds=0)
    step = Step(DatabaseUnavailable("gone"))
    with capture_logs() as lines:
        for _ in range(2):
            async with attempt:
                await step()
            async with attempt:
                await step()
            step.errors.append(DatabaseUnavailable("gone again"))
    assert [one["log_level"] for one in lines] == ["warning", "info"] * 2


async def test_other_errors_pass_through_unless_they_count() -> None:
    with pytest.raises(LookupError):
        await retry_while_unavailable(Step(LookupError("mine")), "feed")
    assert await retry_while_unavailable(Step(LookupError("mine")), "feed", also=(LookupError,)) == 7


@pytest.mark.parametrize(
    ("errors", "is_absence"),
    [
        ([DatabaseUnavailable("gone")], True),
        ([DatabaseUnavailable("gone"), ExceptionGroup("inner", [DatabaseUnavailable("gone")])], True),
        ([DatabaseUnavailable("gone"), ValueError("mine")], False),
    ],
)
async def test_what_a_task_group_raises_is_absence_if_all_of_it_is(errors: list[Exception], is_absence: bool) -> None:
    group = ExceptionGroup("tasks", errors)
    assert is_unavailable(group) is is_absence
    if is_absence:
        with capture_logs() as lines:
            assert await retry_while_unavailable(Step(group), "feed", pause_seconds=0) == 7
        assert lines[0]["error"] == "gone"


async def test_the_pause_ends_when_it_is_told_to_stop() -> None:
    stop = anyio.Event()
    attempt = RetryWhileUnavailable("feed", stop=stop, pause_seconds=3600)
    with anyio.fail_after(HANGS):
        async with anyio.create_task_group() as group, attempt:
            group.start_soon(_set, stop)
            raise DatabaseUnavailable("gone")


async def _set(event: anyio.Event) -> None:
    event.set()


async def test_cancellation_ends_it_during_a_pause() -> None:
    step = Step(DatabaseUnavailable("gone"))
    async with anyio.create_task_group() as group:
        group.start_soon(retry_while_unavailable, step, "feed")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert step.errors == []
