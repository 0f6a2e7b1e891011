"""One outage of the database, however many loops of the process meet it: one warning, and one line at its end."""

from __future__ import annotations

import time

import anyio
import asyncpg
import structlog

from codelupe.postgres.sessions import Backend, Session, end_orphans

log = structlog.get_logger("codelupe")


class Outage:
    """Begins with the first who meets it and is over when all who met it came through or gave up."""

    def __init__(self) -> None:
        self._met_by: set[object] = set()
        self._activity = ""
        self._since = 0.0
        self.silent_at = 0.0
        """When a connection was last found to answer no longer: those that have rested since before are as dead."""
        self.orphans: list[Backend] = []
        """What serves those at the other end, where it is not known yet, and may hold locks."""
        self._ending = anyio.Lock()

    def met_silence(self, session: Session) -> None:
        """Cut a connection that answers no longer."""
        session.terminate()
        self.silent_at = time.monotonic()
        if session.backend is not None:
            self.orphans.append(session.backend)

    async def end_orphans(self, session: Session, *, within: float) -> None:
        """End what is left at the server of such connections, through one that answers."""
        async with self._ending:
            if not (orphans := list(self.orphans)):
                return
            try:
                await end_orphans(session, orphans, within=within)
            except asyncpg.InsufficientPrivilegeError as error:
                log.warning("orphans_remain", error=str(error), hint="Their transactions end within 300 seconds.")
            del self.orphans[: len(orphans)]

    def met_by(self, who: object, activity: str, error: str) -> None:
        """``who`` could not do this because the database is away; the first one is a warning, the rest debug output."""
        is_new = not self._met_by
        if is_new:
            self._activity, self._since = activity, time.monotonic()
        self._met_by.add(who)
        (log.warning if is_new else log.debug)("database_unavailable", activity=activity, error=error)

    def over_for(self, who: object) -> None:
        """``who`` met it and came through, or tries no more."""
        if who not in self._met_by:
            return
        self._met_by.remove(who)
        if not self._met_by:
            seconds = round(time.monotonic() - self._since, 1)
            log.info("database_available", activity=self._activity, away_seconds=seconds)
