"""An innocent plugin: it writes down when each of its events reached it. Installed as it is; the test appends them."""

from __future__ import annotations

from codelupe import HandlerContext, Subscription, hookimpl
from codelupe_events import Event, event

MIGRATIONS = {"0001_songs.sql": "create table songs (number integer, handled_at timestamptz);"}


@event()
class CanarySang(Event, frozen=True, kw_only=True):
    """It is alive."""

    number: int

    def stream(self) -> str:
        return f"canary/{self.number % 10}"


async def hear(event: CanarySang, context: HandlerContext) -> None:
    async with context.transaction() as connection:
        await connection.execute("insert into plugin_canary.songs values ($1, clock_timestamp())", event.number)


@hookimpl
def codelupe_subscriptions() -> list[Subscription]:
    return [Subscription(name="hear", events=(CanarySang,), handler=hear)]
