"""The crash test's checker sees every kind of broken promise, here planted by hand, and none where none is."""

from __future__ import annotations

import pytest

from codelupe.log import Entry, EventLog
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from tests.chaos.appenders import Root
from tests.chaos.checker import find_violations, prepare
from tests.chaos.plugin import EXPECTED, emitted_because_of

pytestmark = pytest.mark.anyio

PLANTED = load_queries("tests.chaos", "planted")
ALSO = {
    "lost_event": {"effect_without_event"},
    "doubled_event": {"lost_effect", "cursor_off"},
    "doubled_emission": {"lost_effect", "cursor_off"},
    "later_than_now": {"worker_left"},
}
"""What else such a case breaks."""


@pytest.fixture
async def finished(database: Database) -> Database:
    """What a run leaves that went as it should, with two events in one stream and one in another."""
    roots = [Root(number=number, batch=batch) for number, batch in ((0, 1), (1, 1), (2, 2))]
    await prepare(database, roots)
    log = EventLog(database)
    for root in roots:
        await log.publish(root.event())
    for one in EXPECTED:
        for root in roots:
            if one.emits_every and root.number % one.emits_every == 0:
                await log.publish(emitted_because_of(root.event()), metadata={"by": one.name})
    await database.execute(PLANTED.what_a_sound_run_leaves)
    return database


async def kinds(database: Database) -> set[str]:
    return {violation.kind for violation in await find_violations(database)}


async def test_a_sound_run_is_found_sound(finished: Database) -> None:
    assert await kinds(finished) == set()


@pytest.mark.parametrize("kind", [name for name in PLANTED if name != "what_a_sound_run_leaves"])
async def test_a_broken_promise_is_found(finished: Database, kind: str) -> None:
    await finished.execute(getattr(PLANTED, kind))
    assert await kinds(finished) == {kind} | ALSO.get(kind, set())


async def test_an_append_that_never_ends_is_found(finished: Database) -> None:
    log = EventLog(finished)
    async with finished.transaction() as connection:
        await log.append(connection, [Entry(event=Root(number=3, batch=1).event())])
        assert await kinds(finished) == {"open_barrier"}
