"""``codelupe search``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from codelupe import CodelupeError, ConfigurationError, SearchFilter, SearchHit, SearchIndex, SearchSort
from codelupe.commands import AsJson, ConfigFile, Profile, Session, err, out, print_json, print_table, with_session


class _QueryOrCommand(TyperGroup):
    """Whatever is no command of this group is a query."""

    default_command = "query"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_query = bool(args) and args[0] not in self.commands and args[0] != "--help"
        return super().parse_args(ctx, [self.default_command, *args] if is_query else args)


app = typer.Typer()
group = typer.Typer(
    cls=_QueryOrCommand,
    no_args_is_help=True,
    help="Search the discovered repositories: codelupe search WORDS [OPTIONS].",
)
app.add_typer(group, name="search")


@group.command()
def query(
    words: Annotated[
        list[str],
        typer.Argument(help='Words; "a phrase"; or between two; -word leaves one out. Best in single quotes.'),
    ],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    language: Annotated[list[str] | None, typer.Option(help="In this language. Repeatable: in one of them.")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="With this topic. Repeatable: with all of them.")] = None,
    licence: Annotated[
        list[str] | None, typer.Option(help="Under this licence, such as MIT. Repeatable: under one of them.")
    ] = None,
    min_stars: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="With at least so many stars.")] = 0,
    pushed_since: Annotated[datetime | None, typer.Option(help="Pushed to since then; UTC.")] = None,
    sort: Annotated[SearchSort, typer.Option(help="What comes first.")] = "relevance",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 20,
    after: Annotated[str | None, typer.Option(help="Go on behind the hit with this cursor.")] = None,
) -> None:
    """Search the discovered repositories; `codelupe search WORDS` is short for it."""
    where = SearchFilter(
        languages=tuple(language or ()),
        topics=tuple(topic or ()),
        licences=tuple(licence or ()),
        min_stars=min_stars,
        pushed_since=None if pushed_since is None else _in_utc(pushed_since),
    )

    async def do(session: Session) -> None:
        hits = await _index(session).search(" ".join(words), limit, where=where, sort=sort, after=after)
        if as_json:
            print_json(hits)
            return
        if not hits:
            _explain_nothing(is_filtered=where != SearchFilter())
            return
        _show(hits)
        if len(hits) == limit and hits[-1].cursor is not None:
            err.print(f"For more: --after {hits[-1].cursor}", markup=False, soft_wrap=True)

    with_session(config, profile, do)


@group.command()
def reindex(config: ConfigFile = None, profile: Profile = None) -> None:
    """Build the search index anew from the log, beside the one in use, and put it in its place."""

    async def do(session: Session) -> None:
        index = _index(session)
        build = getattr(index, "reindex", None)
        if build is None:
            raise CodelupeError(
                f"the search index {index.name!r} cannot be built anew",
                hint="`codelupe replay search.index` hands out what it was made from.",
            )
        with _shown() as report:
            await build(report)
        err.print("The search index has been built anew.")

    with_session(config, profile, do)


def _index(session: Session) -> SearchIndex:
    name = session.settings.search_index
    indexes = session.gather().search_indexes
    if name not in indexes:
        raise ConfigurationError(
            f"no plugin offers the search index {name!r}", hint="`codelupe plugins list` shows the plugins."
        )
    return indexes[name]


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _show(hits: list[SearchHit]) -> None:
    print_table(
        ["repository", "language", "stars", "description"],
        [(hit.full_name, hit.language, hit.stars, hit.description) for hit in hits],
    )


def _explain_nothing(*, is_filtered: bool) -> None:
    out.print("Nothing found.")
    err.print(
        "Fewer words or conditions may find more."
        if is_filtered
        else "Words are matched as they are. `codelupe status` shows how many repositories are known.",
        soft_wrap=True,
    )


@contextmanager
def _shown() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error if that is a terminal; how far the log has been read."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        bar = progress.add_task("log")

        def report(position: int, end: int) -> None:
            progress.update(bar, completed=position, total=end)

        yield report
