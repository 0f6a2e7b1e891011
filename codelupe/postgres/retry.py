"""A database that is away: say so once, pause, and try again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

import anyio
import structlog

from codelupe.errors import DatabaseUnavailable

PAUSE_SECONDS = 0.5

T = TypeVar("T")

log = structlog.get_logger("codelupe")


def is_unavailable(error: BaseException, *also: type[Exception]) -> bool:
    """Whether the error says that the database is away, itself or through all that a task group raised together."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_unavailable(one, *also) for one in error.exceptions)
    return isinstance(error, (DatabaseUnavailable, *also))


class RetryWhileUnavailable:
    """Around each round of a loop: a round that fails because the database is away ends quietly, after a pause.

    The first failed round logs ``database_unavailable`` as a warning (as debug output if ``quiet``: where another loop
    of the process says it), those that follow as debug output, and the next round that succeeds logs
    ``database_available``. ``activity`` names the loop in both. Errors of the types ``also`` count as absence; any
    other error passes through. The pause ends early when ``stop`` is set.

    ::

        attempt = RetryWhileUnavailable("partitions")
        while True:
            async with attempt:
                await keep_partitions()
    """

    def __init__(
        self,
        activity: str,
        *,
        also: tuple[type[Exception], ...] = (),
        stop: anyio.Event | None = None,
        quiet: bool = False,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._activity = activity
        self._also = also
        self._stop = stop or anyio.Event()
        self._quiet = quiet
        self._pause_seconds = pause_seconds
        self._away_since: float | None = None

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            self.record_success()
            return False
        if not is_unavailable(error, *self._also):
            return False
        self._record_failure(error)
        with anyio.move_on_after(self._pause_seconds):
            await self._stop.wait()
        return True

    def _record_failure(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        is_new = self._away_since is None and not self._quiet
        (log.warning if is_new else log.debug)(
            "database_unavailable", activity=self._activity, error=getattr(error, "message", str(error))
        )
        if self._away_since is None:
            self._away_since = anyio.current_time()

    def record_success(self) -> None:
        """The database has answered; a round that goes on for long after that says so itself."""
        if self._away_since is not None:
            seconds = round(anyio.current_time() - self._away_since, 1)
            (log.debug if self._quiet else log.info)(
                "database_available", activity=self._activity, away_seconds=seconds
            )
            self._away_since = None


async def retry_while_unavailable(
    step: Callable[[], Awaitable[T]],
    activity: str,
    *,
    also: tuple[type[Exception], ...] = (),
    pause_seconds: float = PAUSE_SECONDS,
) -> T:
    """Take a step, again and again until the database is there for it; returns what the step returns."""
    attempt = RetryWhileUnavailable(activity, also=also, pause_seconds=pause_seconds)
    while True:
        async with attempt:
            return await step()
