"""What the log does with events that it cannot read, data that it cannot hold, and servers that cannot write."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from codelupe import (
    BatchContext,
    BatchSubscription,
    CodelupeError,
    Database,
    HandlerContext,
    Reject,
    RetryLater,
    Subscription,
)
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe.log.entries import EventRefused
from codelupe.log.records import derive_key
from codelupe.views.pipeline import read_subscriptions
from codelupe.work.dead_letters import EVERYTHING, list_dead_letters, retry_dead_letters
from codelupe_events import (
    BatchReady,
    Event,
    FilesExtracted,
    InvalidEventData,
    Reason,
    RepoDiscovered,
    RepoEmpty,
    RepoRejected,
    UnknownEventType,
    encode,
    event,
    registry,
)
from tests.integration.test_cli import Shell
from tests.plugins import FAST, batch, empty, make_plugin

pytestmark = pytest.mark.anyio

KINDS = [Subscription, BatchSubscription]
LIMIT = 1_000_000
"""Bytes of an event's data."""


class Notes:
    """A plugin that notes what it is handed, one event or many a call."""

    def __init__(self, kind: type[Subscription | BatchSubscription], *events: type[Event]) -> None:
        self.handled: list[Any] = []
        handler: Any = self._handle if kind is Subscription else self._handle_all
        subscription: Any = kind(name="s", events=events, handler=handler, retry=FAST)
        self.plugin = make_plugin(subscriptions=[subscription])

    async def _handle(self, event: Event, context: HandlerContext) -> None:
        self.handled.append(event)

    async def _handle_all(self, events: Sequence[Event], context: BatchContext) -> None:
        self.handled.extend(events)


# --- events that this code does not know ---


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is forgotten after it."""
    monkeypatch.setattr(registry, "_declarations", dict(registry._declarations))


def old_code() -> Any:
    """The event as the code of its first version declares it."""

    class WallPainted(Event, frozen=True, kw_only=True):
        wall: int
        colour: str

        def stream(self) -> str:
            return f"wall/{self.wall}"

    return event(version=1)(WallPainted)


def new_code(upcast: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Any:
    """The event as the code of its second version declares it: ``colour`` became ``hue``."""

    class WallPainted(Event, frozen=True, kw_only=True):
        wall: int
        hue: str

        def stream(self) -> str:
            return f"wall/{self.wall}"

    return event(version=2, upcasters={1: upcast or rename_colour})(WallPainted)


def rename_colour(data: dict[str, Any]) -> dict[str, Any]:
    return {"wall": data["wall"], "hue": data["colour"]}


def forget(cls: type[Event]) -> None:
    """The package that declares it is not installed any more."""
    del registry._declarations[cls.__name__]


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_that_nobody_knows_is_left_alone_and_shown(
    kind: type[Subscription | BatchSubscription],
    make_daemon: Callable[..., Daemon],
    database: Database,
    tmp_path: Path,
) -> None:
    log = EventLog(database)
    painted = old_code()
    forget(painted)
    for one in (batch(1), painted(wall=1, colour="red"), batch(2)):
        await log.publish(one)
    notes = Notes(kind, BatchReady)
    await make_daemon({"test": notes.plugin}).run()
    assert notes.handled == [batch(1), batch(2)]
    assert await list_dead_letters(database) == []
    recorded = [one async for one in log.read()][1]
    with pytest.raises(UnknownEventType, match=r"no installed package declares the event WallPainted \(version 1\)"):
        recorded.decode()
    shown = await Shell(tmp_path, CODELUPE_DATABASE_URL=database.url)("events", "show", "2", "--json")
    assert shown.json()["data"] == {"wall": 1, "colour": "red"}


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_that_nobody_knew_is_handled_once_its_package_is_installed(
    kind: type[Subscription | BatchSubscription], make_daemon: Callable[..., Daemon], database: Database
) -> None:
    painted = old_code()
    forget(painted)
    await EventLog(database).publish(painted(wall=1, colour="red"))
    await make_daemon({"test": Notes(kind, BatchReady).plugin}).run()
    notes = Notes(kind, old_code())
    await make_daemon({"later": notes.plugin}).run()
    assert [one.colour for one in notes.handled] == ["red"]


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_of_newer_code_waits_with_its_stream_until_that_code_is_here(
    kind: type[Subscription | BatchSubscription], make_daemon: Callable[..., Daemon], database: Database
) -> None:
    log = EventLog(database)
    older = old_code()
    await log.publish(older(wall=1, colour="red"))
    newer = new_code()
    await log.publish(newer(wall=1, hue="green"))
    older = old_code()
    for wall, colour in ((1, "blue"), (2, "white")):
        await log.publish(older(wall=wall, colour=colour))

    notes = Notes(kind, older)
    await make_daemon({"test": notes.plugin}).run()
    assert sorted((one.wall, one.colour) for one in notes.handled) == [(1, "red"), (2, "white")]
    assert await list_dead_letters(database) == []
    assert [counts["waiting"] for counts in await read_subscriptions(database)] == [2]

    notes = Notes(kind, new_code())
    await make_daemon({"test": notes.plugin}).run()
    assert [(one.wall, one.hue) for one in notes.handled] == [(1, "green"), (1, "blue")]
    assert await list_dead_letters(database) == []


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_that_its_upcaster_cannot_read_waits_until_that_is_mended(
    kind: type[Subscription | BatchSubscription], make_daemon: Callable[..., Daemon], database: Database
) -> None:
    await EventLog(database).publish(old_code()(wall=1, colour="red"))
    await make_daemon({"test": Notes(kind, new_code(upcast=lambda data: {"hue": data["paint"]})).plugin}).run()
    [letter] = await list_dead_letters(database)
    assert letter.error == "InvalidEventData: WallPainted version 1 cannot be brought up to 2: KeyError('paint')"
    notes = Notes(kind, new_code())
    await retry_dead_letters(database, EVERYTHING)
    await make_daemon({"test": notes.plugin}).run()
    assert [one.hue for one in notes.handled] == ["red"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_whose_record_was_damaged_is_dead_lettered_and_the_others_are_handled(
    kind: type[Subscription | BatchSubscription], make_daemon: Callable[..., Daemon], database: Database
) -> None:
    for number in (1, 2, 3):
        await EventLog(database).publish(batch(number))
    await database.execute("""update events set data = data || '{"files": "many"}' where position = 2""")
    notes = Notes(kind, BatchReady)
    await make_daemon({"test": notes.plugin}).run()
    assert sorted(one.batch_id for one in notes.handled) == [1, 3]
    [letter] = await list_dead_letters(database)
    assert letter.error.startswith("InvalidEventData: BatchReady version 1: Expected `int`, got `str`")


# --- data that does not fit ---

SOUND: dict[type[Event], dict[str, Any]] = {
    BatchReady: {"batch_id": 1, "files": 1, "characters": 1, "repositories": 1, "min_score": 0.5},
    FilesExtracted: {"repository_id": "a:b", "commit": "c", "stored": 1, "rejected": {}, "seconds": 1.0},
    RepoDiscovered: {"repository_id": "a:b", "source": "a", "full_name": "b", "url": "u", "revision": "r"},
    RepoEmpty: {"repository_id": "a:b", "url": "u"},
    RepoRejected: {"repository_id": "a:b", "revision": "r", "score": 1.0, "reasons": ()},
}
MISFITS: dict[str, tuple[type[Event], dict[str, Any]]] = {
    "a number for a text": (RepoEmpty, {"url": 5}),
    "bytes for a text": (RepoEmpty, {"url": b"file:///a"}),
    "a moment for a text": (RepoEmpty, {"url": datetime(2026, 1, 1, tzinfo=UTC)}),
    "a text for a moment": (RepoDiscovered, {"pushed_at": "2026-01-01T00:00:00Z"}),
    "a text for a number": (BatchReady, {"files": "1"}),
    "nothing for a number": (BatchReady, {"files": None}),
    "a truth for a number": (BatchReady, {"files": True}),
    "not a number": (BatchReady, {"min_score": math.nan}),
    "a number without end": (BatchReady, {"files": 10**5000}),
    "numbers for keys": (FilesExtracted, {"rejected": {1: 2}}),
    "a dict for a reason": (RepoRejected, {"reasons": ({"rule": "a", "detail": "b"},)}),
    "a reason of numbers": (RepoRejected, {"reasons": (Reason(rule=1, detail="b"),)}),  # type: ignore[arg-type]
}


def misfit(name: str) -> Event:
    """An event with a value that does not fit its field, which nothing checks when it is made."""
    cls, wrong = MISFITS[name]
    return cls(**{**SOUND[cls], **wrong})


@pytest.mark.parametrize("name", MISFITS)
async def test_data_that_would_be_read_back_as_something_else_are_refused(database: Database, name: str) -> None:
    with pytest.raises(InvalidEventData, match=MISFITS[name][0].__name__):
        await EventLog(database).publish(misfit(name))
    assert await database.fetchval("select count(*) from events") == 0


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("number", [1, 5, 50])
async def test_with_one_misfit_among_them_no_event_is_appended(database: Database, number: int, keyed: bool) -> None:
    events = [*(batch(each) for each in range(number)), misfit("a number for a text")]
    entries = [Entry(event=one, key=derive_key(index) if keyed else None) for index, one in enumerate(events)]
    with pytest.raises(InvalidEventData):
        await EventLog(database).publish_all(entries)
    assert await database.fetchval("select count(*) from events") == 0
    assert await database.fetchval("select count(*) from event_keys") == 0


# --- what Postgres cannot hold ---


def url_of(size: int, character: str = "x") -> RepoEmpty:
    """An event whose data have this many bytes."""
    around = len(encode(RepoEmpty(repository_id="a", url="")))
    return RepoEmpty(repository_id="a", url=character * ((size - around) // len(character.encode())))


async def test_an_event_may_have_a_million_bytes_and_not_one_more(database: Database) -> None:
    log = EventLog(database)
    await log.publish(url_of(LIMIT))
    for refused in (url_of(LIMIT + 1), url_of(LIMIT + 2, "é")):
        with pytest.raises(EventRefused, match=r"RepoEmpty has 1,000,00\d bytes; the limit is 1,000,000"):
            await log.publish(refused)
    with pytest.raises(EventRefused, match=r"metadata of RepoEmpty has .* bytes; the limit is 1,000,000"):
        await log.publish(empty(1), metadata={"by": "x" * LIMIT})
    assert [recorded.decode() async for recorded in log.read()] == [url_of(LIMIT)]


UNFIT_TEXTS = {"NUL": "a\x00b", "surrogate": "a\udcffb"}
PLACES: dict[str, Callable[[str], Entry]] = {
    "a value": lambda text: Entry(event=RepoEmpty(repository_id="a", url=text)),
    "a value after a backslash": lambda text: Entry(event=RepoEmpty(repository_id="a", url="\\" + text[1:])),
    "a key": lambda text: Entry(event=FilesExtracted(**{**SOUND[FilesExtracted], "rejected": {text: 1}})),
    "the metadata": lambda text: Entry(event=empty(1), metadata={"by": text}),
    "a key of the metadata": lambda text: Entry(event=empty(1), metadata={text: 1}),
    "the stream": lambda text: Entry(event=anywhere(text)),
}


def anywhere(stream: Any) -> Event:
    """An event with whatever it is for a stream's name, which is not among its data."""

    class Anywhere(Event, frozen=True, kw_only=True):
        def stream(self) -> str:
            return cast("str", stream)

    return event()(Anywhere)()


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("fault", UNFIT_TEXTS)
@pytest.mark.parametrize("place", PLACES)
async def test_text_that_postgres_cannot_hold_is_refused_wherever_it_is(
    database: Database, place: str, fault: str
) -> None:
    with pytest.raises(EventRefused, match=fault):
        await EventLog(database).publish_all([PLACES[place](UNFIT_TEXTS[fault])])
    assert await database.fetchval("select count(*) from events") == 0


async def test_text_that_only_looks_unfit_is_kept_as_it_is(database: Database) -> None:
    texts = [
        r"\u0000",
        r"\\u0000",
        r"\ud800",
        "\\\\",
        "\uffff",
        "\U0010ffff",
        "\x01\x1f\x7f",
        "\u2028",
        "🦊",
        "e\u0301",
        "",
    ]
    log = EventLog(database)
    await log.publish_all([Entry(event=RepoEmpty(repository_id=text, url=text)) for text in texts])
    events = [recorded.decode() async for recorded in log.read()]
    assert events == [RepoEmpty(repository_id=text, url=text) for text in texts]


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("text", ["x" * 100_000, "é" * 501], ids=["compressible", "short but not in bytes"])
async def test_a_stream_s_name_that_is_too_long_for_an_index_is_refused(database: Database, text: str) -> None:
    with pytest.raises(EventRefused, match="bytes; the limit is 1,000"):
        await EventLog(database).publish(anywhere(text))


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("kind", KINDS)
async def test_the_longest_allowed_name_of_a_stream_goes_all_the_way(
    kind: type[Subscription | BatchSubscription], make_daemon: Callable[..., Daemon], database: Database
) -> None:
    """Through every index that holds it, also as a dead letter, and however little it can be compressed."""
    name = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=1000))
    it = anywhere(name)
    await EventLog(database).publish_all([Entry(event=it)], expected={name: 0})
    forget(type(it))
    await make_daemon({"test": Notes(kind, type(it)).plugin}).run()
    assert [letter.stream for letter in await list_dead_letters(database)] == [name]
    registry._declarations.update({"Anywhere": registry._Declaration(type(it), {})})
    notes = Notes(kind, type(it))
    await retry_dead_letters(database, EVERYTHING)
    await make_daemon({"test": notes.plugin}).run()
    assert notes.handled == [it]


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("name", [None, 5, b"wall/1"])
async def test_a_stream_s_name_that_is_no_text_is_refused(database: Database, name: Any) -> None:
    with pytest.raises(EventRefused, match=r"Anywhere .*stream"):
        await EventLog(database).publish(anywhere(name))


@pytest.mark.usefixtures("own_registry")
async def test_data_that_are_nested_too_deeply_are_refused(database: Database) -> None:
    class Nested(Event, frozen=True, kw_only=True):
        tree: list[Any]

        def stream(self) -> str:
            return "nested"

    tree: list[Any] = []
    for _ in range(100_000):
        tree = [tree]
    with pytest.raises(InvalidEventData, match="Nested"):
        await EventLog(database).publish(event()(Nested)(tree=tree))


# --- what handlers do with it ---

REFUSED: dict[str, Event] = {
    "limit is 1,000,000": url_of(LIMIT + 1),
    "NUL": RepoEmpty(repository_id="a", url="\x00"),
    "surrogate": RepoEmpty(repository_id="a", url="\ud800"),
    "Expected `str`": misfit("a number for a text"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", REFUSED)
async def test_a_handler_that_emits_what_is_refused_leaves_nothing_behind_and_is_dead_lettered(
    kind: type[Subscription | BatchSubscription], make_daemon: Callable[..., Daemon], database: Database, words: str
) -> None:
    await database.execute("create table effects (batch int)")

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute("insert into effects values ($1)", event.batch_id)
            context.emit(REFUSED[words] if event.batch_id == 2 else empty(event.batch_id))

    async def handle_all(events: Sequence[BatchReady], context: BatchContext) -> None:
        for one in events:
            await context.connection.execute("insert into effects values ($1)", one.batch_id)
            context.emit(REFUSED[words] if one.batch_id == 2 else empty(one.batch_id), because=one)

    handler: Any = handle if kind is Subscription else handle_all
    subscription: Any = kind(name="s", events=(BatchReady,), handler=handler, retry=FAST)
    for number in (1, 2, 3):
        await EventLog(database).publish(batch(number))
    await make_daemon({"test": make_plugin(subscriptions=[subscription])}).run()
    assert sorted(row["batch"] for row in await database.fetch("select batch from effects")) == [1, 3]
    [letter] = await list_dead_letters(database)
    assert letter.stream == "batch/2"
    assert words in letter.error
    emitted = {recorded.stream async for recorded in EventLog(database).read() if recorded.type == "RepoEmpty"}
    assert emitted == {"repo/test:1", "repo/test:3"}


@pytest.mark.parametrize("fault", UNFIT_TEXTS)
async def test_progress_that_postgres_cannot_hold_is_refused_and_harms_nothing(
    make_daemon: Callable[..., Daemon], database: Database, fault: str
) -> None:
    refusals: list[str] = []
    text = UNFIT_TEXTS[fault]

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        context.progress(1, None, text, figure=text)
        await context.save_checkpoint({"path": "sound"})
        for unfit in ({"path": text}, {text: 1}):
            with pytest.raises(CodelupeError, match=fault) as refusal:
                await context.save_checkpoint(unfit)
            refusals.append(str(refusal.value))
        if context.attempt == 1:
            raise RetryLater("see what is left", after=timedelta(0))
        assert context.checkpoint == {"path": "sound"}

    await EventLog(database).publish(batch(1))
    subscription = Subscription(name="s", events=(BatchReady,), handler=handle, retry=FAST)
    await make_daemon({"test": make_plugin(subscriptions=[subscription])}).run()
    assert await list_dead_letters(database) == []
    assert len(refusals) == 4


async def test_no_words_of_an_error_keep_it_from_being_recorded(
    make_daemon: Callable[..., Daemon], database: Database
) -> None:
    """NUL characters and lone surrogates in its message, its notes, its causes and its parts."""
    unfit = "".join(UNFIT_TEXTS.values())

    async def fail(event: BatchReady, context: HandlerContext) -> None:
        try:
            raise ExceptionGroup(unfit, [ValueError(unfit), OSError(2, unfit, unfit)])
        except ExceptionGroup as cause:
            error = (RuntimeError if event.batch_id == 1 else Reject)(unfit)
            error.add_note(f"note {unfit}")
            raise error from cause

    for number in (1, 2):
        await EventLog(database).publish(batch(number))
    subscription = Subscription(name="s", events=(BatchReady,), handler=fail, retry=FAST)
    await make_daemon({"test": make_plugin(subscriptions=[subscription])}).run()
    letters = await list_dead_letters(database)
    legible = "a\N{SYMBOL FOR NULL}ba\\udcffb"
    assert sorted(letter.error for letter in letters) == sorted([f"RuntimeError: {legible}", legible])
    for letter in letters:
        assert f"note {legible}" in letter.traceback
        assert f"ValueError: {legible}" in letter.traceback


@pytest.mark.parametrize(
    "arguments",
    [
        ["events", "tail", "--stream", "\udcff"],
        ["events", "tail", "--type", "\udcff"],
        ["dead-letters", "list", "--error", "\udcff"],
        ["dead-letters", "show", str(2**63)],
        ["replay", "scorers.score", "--stream", "\udcff", "--dry-run"],
    ],
)
async def test_an_argument_that_postgres_cannot_hold_is_answered_without_a_traceback(
    database: Database, tmp_path: Path, arguments: list[str]
) -> None:
    ended = await Shell(tmp_path, CODELUPE_DATABASE_URL=database.url)(*arguments)
    assert ended.code in (0, 1, 2)
