"""Handlers that say "not now": told once when it begins, and once when it ends."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeGuard

import anyio
import structlog

from codelupe.errors import RetryLater


def can_be_obeyed(error: BaseException) -> TypeGuard[RetryLater]:
    """Whether it is a ``RetryLater`` that says after what time; any other is a failure like all others."""
    return isinstance(error, RetryLater) and isinstance(getattr(error, "after", None), timedelta)


class Postponement:
    """Of one subscription. The first ``RetryLater`` is a warning, the others are debug output until one succeeds."""

    def __init__(self) -> None:
        self._log: structlog.stdlib.BoundLogger
        self._since: float | None = None
        self._met_at = 0.0

    def meet(self, log: structlog.stdlib.BoundLogger, reason: str, after: timedelta) -> None:
        """A handler has put its work off."""
        self._met_at = anyio.current_time()
        is_new = self._since is None
        if is_new:
            self._since = self._met_at
            self._log = log.try_unbind("stream", "attempt")
        (log.warning if is_new else log.debug)("retry_later", reason=reason, after_seconds=after.total_seconds())

    def record_success(self, *, since: float) -> None:
        """What began at that time has succeeded; what began before it was last put off says nothing of the end."""
        if self._since is not None and since >= self._met_at:
            self._log.info("retry_later_over", seconds=round(anyio.current_time() - self._since, 1))
            self._since = None
