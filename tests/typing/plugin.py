"""A plugin as its author's type checker sees it; mypy and pyright read this file, nothing runs it.

Where a use is wrong on purpose the comment names the objection. A checker that stops objecting reports the comment as
unnecessary, so that either change fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

import typer
from pydantic import BaseModel

from codelupe import (
    FOR_EVER,
    BatchContext,
    BatchSubscription,
    Connection,
    Database,
    Directories,
    EventLog,
    Executor,
    FileRule,
    HandlerContext,
    Job,
    JobContext,
    Objection,
    Progress,
    Reject,
    Repository,
    RepositoryRule,
    RepositorySource,
    RetryLater,
    RetryPolicy,
    Score,
    Scorer,
    SearchDocument,
    SearchFilter,
    SearchHit,
    SearchIndex,
    SearchSort,
    Service,
    SourceFile,
    Subscription,
    WorkerLost,
    hookimpl,
)
from codelupe.commands import (
    AsJson,
    ConfigFile,
    Profile,
    Session,
    err,
    out,
    plain,
    print_json,
    print_table,
    printable,
    with_session,
)
from codelupe_events import BatchReady, Event, Reason, RepoCloned, RepoEmpty, event


class PainterSettings(BaseModel):
    """What the user may set."""

    colour: str = "red"


@event(version=1)
class PictureDrawn(Event, frozen=True, kw_only=True):
    """An event of the plugin's own."""

    repository_id: str

    def stream(self) -> str:
        return f"picture/{self.repository_id}"


assert_type(PictureDrawn(repository_id="a"), PictureDrawn)


# --- handlers ---


def count(text: str, least: int) -> int:
    return text.count(" ") + least


async def draw(cloned: RepoCloned, context: HandlerContext) -> None:
    """What a handler may do."""
    assert_type(context.attempt, int)
    assert_type(context.name, str)
    assert_type(context.checkpoint, dict[str, Any] | None)
    assert_type(context.database, Database)
    assert_type(context.directories, Directories)
    assert_type(context.executor, Executor)
    assert_type(await context.executor.run(count, "a b", 1), int)
    assert_type(await context.executor.map(count, ["a b"], 1), list[int | WorkerLost])
    await context.save_checkpoint({"strokes": 3})
    context.progress(1, None, "strokes", colour="red")
    if context.attempt > 3:
        raise Reject("it cannot be drawn")
    if context.attempt > 2:
        raise RetryLater("no paint", after=timedelta(minutes=1))
    async with context.transaction() as connection:
        assert_type(connection, Connection)
        context.emit(PictureDrawn(repository_id=cloned.repository_id))


async def draw_all(events: Sequence[BatchReady], context: BatchContext) -> None:
    """A handler of many events at once."""
    assert_type(context.connection, Connection)
    for each in events:
        context.emit(PictureDrawn(repository_id=str(each.batch_id)), because=each)


async def clean(context: JobContext) -> None:
    """A job."""
    async with context.transaction() as connection:
        assert_type(connection, Connection)
        context.emit(RepoEmpty(repository_id="a", url="file:///a"), key="a")
    assert_type(context.appended, int)


# --- what implements the protocols ---


class Mirrors:
    """A source."""

    name = "mirrors"

    async def discover(self) -> AsyncIterator[Repository]:
        """One repository."""
        yield Repository(source="mirrors", external_id="1", full_name="a/b", url="file:///a", revision="1")


class NoForks:
    """A rule for repositories."""

    name = "no-forks"

    def check(self, repository: Repository) -> Reason | None:
        """Refuses forks."""
        assert_type(repository.stars, int)
        return Reason(rule=self.name, detail="a fork") if repository.is_fork else None


class Short:
    """A rule for files."""

    name = "short"
    version = 1

    def check(self, file: SourceFile) -> Objection | str | None:
        """Refuses long files."""
        assert_type(file.language, str | None)
        return "long" if len(file.content) > 100 else None


class Beauty:
    """A dimension of the score."""

    name = "beauty"
    version = 1
    weight = 0.5

    def score(self, file: SourceFile) -> Score | None:
        """Everything is beautiful."""
        return Score(value=100.0, reasons=(file.path,))


class Memory:
    """A search index."""

    name = "memory"

    async def index(self, documents: Sequence[SearchDocument]) -> None:
        """Forgets them."""
        for document in documents:
            assert_type(document.repository, Repository)
            assert_type(document.version, int)

    async def remove(self, versions: Mapping[str, int]) -> None:
        """Has none."""
        assert_type(FOR_EVER, int)

    async def search(
        self,
        query: str,
        limit: int,
        *,
        where: SearchFilter | None = None,
        sort: SearchSort = "relevance",
        after: str | None = None,
    ) -> list[SearchHit]:
        """Finds none."""
        return []


# --- commands ---

app = typer.Typer()


@app.command()
def pictures(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """List the pictures."""

    async def show(session: Session) -> None:
        assert_type(session.database, Database)
        assert_type(session.directories, Directories)
        assert_type(session.log, EventLog)
        assert_type(session.gather().search_indexes, dict[str, SearchIndex])
        if as_json:
            print_json([{"name": "a"}], on_one_line=True)
        else:
            print_table(["name", "strokes"], [("a", 3), (plain("[b]"), None)], title="Pictures")
            out.print(printable("\x1b"), markup=False)
        err.print("Done.")

    assert_type(config, Path | None)
    assert_type(profile, str | None)
    with_session(config, profile, show)


# --- hooks ---


@hookimpl
def codelupe_commands() -> typer.Typer:
    return app


@hookimpl
def codelupe_settings() -> type[PainterSettings]:
    return PainterSettings


@hookimpl
def codelupe_subscriptions(settings: PainterSettings) -> Iterable[Subscription | BatchSubscription]:
    assert_type(settings.colour, str)
    retry = RetryPolicy(attempts=2, base=timedelta(seconds=1))
    return [
        Subscription(name="draw", events=(RepoCloned,), emits=(PictureDrawn,), handler=draw, retry=retry),
        BatchSubscription(name="draw-all", events=(BatchReady,), handler=draw_all, size=10),
    ]


@hookimpl
def codelupe_jobs() -> Iterable[Job]:
    return [Job(name="clean", every=timedelta(hours=1), run=clean)]


@hookimpl
def codelupe_services() -> Iterable[Service]:
    return [Service(name="watch", run=clean, leader=True)]


assert_type(codelupe_jobs(), Iterable[Job])
assert_type(codelupe_commands(), typer.Typer)
sources: list[RepositorySource] = [Mirrors()]
repository_rules: list[RepositoryRule] = [NoForks()]
file_rules: list[FileRule] = [Short()]
scorers: list[Scorer] = [Beauty()]
index: SearchIndex = Memory()
shown = Progress(done=1, total=None, unit="strokes")


# --- wrong on purpose ---


def shows_at_once(session: Session) -> None:
    """No action of a command."""


with_session(None, None, shows_at_once)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
print_table("name", [1])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]


async def takes_no_context(cloned: RepoCloned) -> None:
    """No handler."""


def is_not_async(cloned: RepoCloned, context: HandlerContext) -> None:
    """No handler either."""


Subscription(name="a", events=(RepoCloned,), handler=takes_no_context)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Subscription(name="a", events=(RepoCloned,), handler=is_not_async)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Subscription(name="a", events=(str,), handler=draw)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Subscription(name="a", events=(RepoCloned,))  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
Job("a", timedelta(hours=1), clean)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
BatchSubscription(name="a", events=(BatchReady,), handler=draw)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Job(name="a", every=3600, run=clean)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
RetryLater("no paint")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
not_a_source: RepositorySource = NoForks()  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
not_a_scorer: Scorer = Short()  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


async def misuses(context: HandlerContext, batch: BatchContext) -> None:
    """What a handler may not do."""
    context.emit("RepoEmpty")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    batch.emit(RepoEmpty(repository_id="a", url="b"))  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    context.attempt.upper()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    await context.executor.run(count, "a b", 1).upper()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    RepoEmpty(repository_id="a")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Score(value="high")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
