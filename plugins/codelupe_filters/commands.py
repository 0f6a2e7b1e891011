"""``codelupe repos``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

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
    with_session,
)
from codelupe_filters.explanation import explain_repository
from codelupe_filters.known import HISTORY, Selection, Sort, State, find_repository, list_repositories, show_repository
from codelupe_filters.settings import FiltersSettings

app = typer.Typer()
repos = typer.Typer(no_args_is_help=True, help="Look at the repositories that are known, and why they are in or out.")
app.add_typer(repos, name="repos")

Reference = Annotated[
    str,
    typer.Argument(metavar="NAME_OR_ID", help="A repository's id, owner/repo, its URL, or the last part of its name."),
]
_IN_A_TABLE = 100


@repos.command("list")
def list_(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a line.")] = False,
    state: Annotated[State | None, typer.Option("--state", help="Only those that have come so far.")] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Only with this main language, such as rust, or unknown.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Only under this licence (SPDX), or unknown.")
    ] = None,
    min_stars: Annotated[
        int | None, typer.Option("--min-stars", min=0, max=2**31 - 1, help="Only with at least so many stars.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Only with this text in name, description or topics.")
    ] = None,
    sort: Annotated[
        Sort, typer.Option("--sort", help="By name, or the most, the best or the newest first.")
    ] = Sort.NAME,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, help=f"How many at most [default: {_IN_A_TABLE}; all with --json]."),
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="NAME_OR_ID", help="Go on after this repository.")
    ] = None,
) -> None:
    """List the repositories that are known."""
    selection = Selection(state=state, language=language, licence=licence, min_stars=min_stars, text=text)

    async def show_them(session: Session) -> None:
        last = after and await find_repository(session.database, after)
        if as_json:
            async for each in list_repositories(session.database, selection, sort, after=last, limit=limit):
                print_json(each, on_one_line=True)
        else:
            shown = limit or _IN_A_TABLE
            found = list_repositories(session.database, selection, sort, after=last, limit=shown + 1)
            _print_list([each async for each in found], shown, are_all=selection == Selection() and after is None)

    with_session(config, profile, show_them)


def _print_list(found: list[dict[str, Any]], shown: int, *, are_all: bool) -> None:
    if not found:
        out.print("No repository is known yet." if are_all else "No such repositories.")
        if are_all:
            err.print("`codelupe run` crawls the sources in the settings; `codelupe status` shows how far it is.")
        return
    columns = ("repository", "language", "licence", "stars", "forks", "score", "state")
    rows = [[*(each[name] for name in columns), ", ".join(each["rejected_by"])] for each in found[:shown]]
    print_table([*columns, "rejected by"], rows)
    if len(found) > shown:
        last = found[shown - 1]["id"]
        err.print(
            f"There are more: --after '{plain(last)}' goes on, --json shows all.", highlight=False, soft_wrap=True
        )


@repos.command()
def show(repository: Reference, config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Tell all that is known about a repository, and what became of it."""

    async def show_it(session: Session) -> None:
        known = await show_repository(session, await find_repository(session.database, repository))
        print_json(known) if as_json else _print_repository(known)

    with_session(config, profile, show_it)


def _print_repository(it: dict[str, Any]) -> None:
    _line(f"[bold]{plain(it['repository']['full_name'])}[/] is {it['repository']['state']}")
    print_table(["", ""], [(name, value) for name, value in _facts(it) if value not in (None, "", False)])
    events = [(str(one["position"]), one["recorded_at"][:19], one["type"], one["data"]) for one in it["history"]]
    _section("history", ["position", "recorded at", "event", "data"], events)
    if len(events) == HISTORY:
        stream = f"repo/{it['repository']['id']}"
        err.print(
            f"The newest {HISTORY}: `codelupe events tail --stream '{plain(stream)}'` shows more.", soft_wrap=True
        )


def _facts(it: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in it["repository"].items():
        if name not in ("full_name", "state"):
            yield name.replace("_", " "), ", ".join(value) if isinstance(value, list) else value
    yield "verdict", it["verdict"]["verdict"]
    yield "score", it["verdict"]["score"]
    for reason in it["verdict"]["reasons"]:
        yield "turned down", f"{reason['rule']}: {reason['detail']}"
    if clone := it["clone"]:
        yield "clone", clone["path"] if clone["is_there"] else f"{clone['path']} (deleted)"
        yield "commit", clone["commit"]
        yield "size of the clone", clone["size_bytes"]
        yield "cloned at", clone["cloned_at"]
    if (files := it["files"])["seen"]:
        yield "files", f"{files['stored']:,} of {files['seen']:,} stored, {files['good']:,} at 70 or more"
        yield "mean score of files", files["mean_score"]
        yield "files refused", ", ".join(f"{count:,} {rule}" for rule, count in files["rejected_by"].items())
    if forgotten := it["forgotten"]:
        yield "forgotten", f"by {forgotten['by']} on {forgotten['at']:%Y-%m-%d}: {forgotten['reason']}"


@repos.command()
def explain(repository: Reference, config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Say what each rule sees in a repository, and where the points of its score come from."""

    async def explain_it(session: Session) -> None:
        found = await find_repository(session.database, repository)
        settings: FiltersSettings = session.settings.plugins.filters  # type: ignore[attr-defined] # each plugin's own
        explanation = await explain_repository(session.database, found, settings, session.gather().repository_rules)
        print_json(explanation) if as_json else _print_explanation(explanation)

    with_session(config, profile, explain_it)


def _print_explanation(it: dict[str, Any]) -> None:
    repository, recorded, score = it["repository"], it["recorded"], it["score"]
    _line(f"[bold]{plain(repository['full_name'])}[/] is {it['verdict']} by the present settings")
    if recorded["verdict"] is None:
        _line("  It has not been judged yet.")
    elif recorded["verdict"] != it["verdict"]:
        stream = plain(f"repo/{repository['id']}")
        _line(f"  It was {recorded['verdict']}; to have it judged again:")
        _line(f"  codelupe replay filters.repository-rules --stream '{stream}'")
    rows = [(one["rule"], one["verdict"], one["saw"], one["reason"]) for one in it["rules"]]
    _section("rules", ["rule", "verdict", "what it sees", "why it is asked"], rows)
    criteria = [(one["criterion"], one["points"], one["most"], one["saw"], one["reason"]) for one in score["criteria"]]
    total = ("score", score["total"], 100.0, f"at least {score['least']:g} is asked for", None)
    _section("score", ["criterion", "points", "of", "what it sees", "why it counts"], [*criteria, total])


def _line(text: str) -> None:
    out.print(text, soft_wrap=True, highlight=False)


def _section(title: str, columns: list[str], rows: list[Any]) -> None:
    if rows:
        out.print()
        print_table(columns, rows, title=title)
