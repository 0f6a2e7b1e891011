"""``codelupe explain``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from codelupe.commands import AsJson, ConfigFile, Profile, Session, out, plain, print_json, print_table, with_session
from codelupe_dataset.explanation import explain_file, find_file


def explain(
    file: Annotated[
        str,
        typer.Argument(metavar="PATH_OR_ID", help="A file's id, owner/repo:path, its path, or the end of its path."),
    ],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Say why a file is stored or refused, and all that was found out about it."""

    async def show(session: Session) -> None:
        explanation = await explain_file(session.database, await find_file(session.database, file))
        print_json(explanation) if as_json else _print(explanation)

    with_session(config, profile, show)


def _print(it: dict[str, Any]) -> None:
    file, repository = it["file"], it["repository"]
    verdict = "stored" if file["stored"] else f"refused by {file['rejected_by']}"
    _line(f"[bold]{plain(repository['full_name'])}:{plain(file['path'])}[/] is {plain(verdict)}")
    if it["rejection"]:
        _line(f"  {plain(it['rejection']['detail'])}")
        _line(f"  [dim]{plain(_evidence(it['rejection']))}[/]")
    print_table(["", ""], [(name, value) for name, value in _facts(it) if value not in (None, "")])
    _section("rules", ["rule", "version", "verdict", "why"], _rules(it["rules"]))
    _section("scores", ["dimension", "value", "weight", "version", "before", "reasons"], _scores(it))
    _section(
        "copies that were refused", ["id", "repository", "path"], _columns(it["copies"], "id", "repository", "path")
    )
    if it["cluster"]:
        columns = ("id", "repository", "path", "jaccard", "is_survivor")
        rows = _columns(it["cluster"]["files"], *columns)
        _section(
            f"near duplicates (cluster {it['cluster']['id']})",
            ["id", "repository", "path", "Jaccard", "survives"],
            rows,
        )
    _section(
        "batches", ["batch", "split", "model", "state"], _columns(it["batches"], "batch", "split", "model", "state")
    )


def _line(text: str) -> None:
    out.print(text, soft_wrap=True, highlight=False)


def _section(title: str, columns: list[str], rows: list[Any]) -> None:
    if rows:
        out.print()
        print_table(columns, rows, title=title)


def _facts(it: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    file, repository, licence = it["file"], it["repository"], it["licence"]
    yield "id", str(file["id"])
    yield "repository", f"{repository['id']}, {repository['url']}, {repository['state']}"
    for reason in repository["reasons"]:
        yield "turned down", f"{reason['rule']}: {reason['detail']}"
    yield "repository's score", repository["score"]
    yield "commit", file["commit"]
    yield "language", file["language"]
    yield "labels", ", ".join(file["labels"])
    yield "licence", f"{licence['licence'] or 'unknown'}{_licence_source(licence['evidence'])}"
    yield "redacted", ", ".join(f"{count} {kind}" for kind, count in (it["redactions"] or {}).items())
    yield "size", f"{file['size_bytes']:,} bytes"
    yield "characters", file["characters"]
    yield "hash", file["content_hash"]
    yield "score", it["score"]["total"]
    if it["previous_score"]:
        yield "score before", it["previous_score"]["total"]


def _licence_source(evidence: dict[str, Any] | None) -> str:
    match evidence:
        case {"from": "file", "path": path, "matches": [*matches]}:
            return "; recognised: " + ", ".join(f"{one['id']} in {one.get('path', path)}" for one in matches)
        case {"from": source}:
            return f"; stated by the {source}"
        case _:
            return ""


def _rules(rules: list[dict[str, Any]]) -> list[Any]:
    return [(rule["rule"], rule["version"], rule["verdict"], rule["evidence"].get("detail")) for rule in rules]


def _scores(it: dict[str, Any]) -> list[Any]:
    before = (it["previous_score"] or {}).get("dimensions") or {}
    return [
        (
            name,
            one["value"],
            one["weight"],
            one["version"],
            before.get(name, {}).get("value"),
            "; ".join(one["reasons"]),
        )
        for name, one in it["score"]["dimensions"].items()
    ]


def _columns(rows: list[dict[str, Any]], *names: str) -> list[Any]:
    return [[str(row[name]) if name == "id" else row[name] for name in names] for row in rows]


def _evidence(data: dict[str, Any]) -> str:
    """What was seen, in one line, but for what is said anyway."""
    return ", ".join(f"{name} {value}" for name, value in data.items() if name != "detail")
