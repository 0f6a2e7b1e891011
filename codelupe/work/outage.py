"""Something that plugin code cannot do without is away: said once when it begins, and once when it ends."""

from __future__ import annotations

import anyio
import structlog


class Outage:
    """However often it is met, it logs ``began`` as a warning, then as debug output, and ``ended`` with its seconds."""

    def __init__(self, began: str, ended: str) -> None:
        self._began = began
        self._ended = ended
        self._log: structlog.stdlib.BoundLogger
        self._since: float | None = None
        self._met_at = 0.0

    def meet(self, log: structlog.stdlib.BoundLogger, **fields: object) -> None:
        """Plugin code has met it."""
        self._met_at = anyio.current_time()
        if self._since is None:
            self._since = self._met_at
            self._log = log.try_unbind("stream", "attempt")
            log.warning(self._began, **fields)
        else:
            log.debug(self._began, **fields)

    def record_success(self, *, since: float) -> None:
        """What began at that time has succeeded; what began before the outage was last met says nothing of its end."""
        if self._since is not None and since >= self._met_at:
            self._log.info(self._ended, seconds=round(anyio.current_time() - self._since, 1))
            self._since = None
