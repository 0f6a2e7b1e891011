"""The data set's card: what is in it, how it was chosen, how to read it, whom to ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec

from codelupe import Connection, load_queries
from codelupe_dataset.manifest import Manifest
from codelupe_dataset.selection import Selection

SQL = load_queries("codelupe_sql", "export")
_BAR = 40
"""Characters of the longest bar of the histogram."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The files counted in all the ways that the card tells; each row as the query gives it."""

    languages: Sequence[asyncpg.Record]
    licences: Sequence[asyncpg.Record]
    histogram: Sequence[asyncpg.Record]
    scorers: Sequence[asyncpg.Record]
    rules: Sequence[dict[str, Any]]


async def read_facts(connection: Connection, selection: Selection) -> Facts:
    """Count the files that fit."""
    arguments = selection.as_arguments()
    sets = [row["rules"] for row in await connection.fetch(SQL.rules, *arguments)]
    rules = {(rule["name"], rule["version"]): rule for rules in sets for rule in rules}
    return Facts(
        languages=await connection.fetch(SQL.languages, *arguments),
        licences=await connection.fetch(SQL.licences, *arguments),
        histogram=await connection.fetch(SQL.histogram, *arguments),
        scorers=await connection.fetch(SQL.scorers, *arguments),
        rules=list(rules.values()),
    )


def render_card(manifest: Manifest, facts: Facts) -> str:
    """The card in Markdown, with the front matter that hubs of data sets read."""
    return "\n\n".join([_front_matter(manifest), *_contents(manifest, facts), *_choice(manifest, facts), _use()]) + "\n"


def _front_matter(manifest: Manifest) -> str:
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        license="other",
        license_name="per-file",
        tags=["code", "codelupe"],
        task_categories=["text-generation"],
        configs=[{"config_name": "default", "data_files": f"part-*.{manifest.options.format}"}],
    )
    return f"---\n{data.to_yaml()}\n---"


def _contents(manifest: Manifest, facts: Facts) -> list[str]:
    count = f"{manifest.files:,} source files of public repositories, each with where it comes from and why it is here"
    return [
        "# Source files",
        f"{count}. Exported by CodeLupe {manifest.codelupe} on {manifest.begun_at:%Y-%m-%d}.",
        "## Languages",
        _table(("language", "files", "characters"), facts.languages),
        "## Licences",
        "Each file keeps its own licence, in the column `licence`: an SPDX expression.",
        _table(("licence", "files", "characters"), facts.licences),
        "## Scores",
        _histogram(facts.histogram),
    ]


def _choice(manifest: Manifest, facts: Facts) -> list[str]:
    asked = {
        name: value for name, value in msgspec.to_builtins(manifest.options.selection).items() if value is not None
    }
    return [
        "## How the files were chosen",
        "Files that every rule let pass, one of each cluster of near duplicates; of these, the ones that fit:",
        _table(("asked for", ""), asked.items()),
        "Rules that were asked:",
        _table(("rule", "version"), [(rule["name"], rule["version"]) for rule in facts.rules]),
        "Scores are weighted means of these dimensions, from 0 to 100:",
        _table(("dimension", "version", "files"), facts.scorers),
    ]


def _use() -> str:
    return """\
## Reading and citing it

One row is one file. `repository`, `url`, `commit`, `path` and `content_hash` say which; `scores` gives each dimension's
value, weight, version and reasons; `cluster` is the cluster of near duplicates for which the file stands, if any.
`export.json` names the shards, the options and the state of the database that this was made from. Cite that together
with the version of CodeLupe above, and cite the repositories by URL and commit.

## Being forgotten

Secrets and personal data that were recognised are replaced by placeholders; something may have been overlooked. If you
want a repository out, ask those who published this data set. `codelupe forget owner/repo` keeps it out of everything
they make from then on; they export again and withdraw this one, since a copy made before still holds it."""


def _table(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(value) for value in _values(row))} |" for row in rows)])


def _values(row: Any) -> Iterable[Any]:
    return row.values() if isinstance(row, asyncpg.Record) else row


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _histogram(rows: Sequence[asyncpg.Record]) -> str:
    most = max((row["files"] for row in rows), default=1)
    lines = []
    for row in rows:
        at_least, count = row["at_least"], row["files"]
        lines.append(f"{at_least:>3} to {at_least + 10:>3}  {'#' * -(-count * _BAR // most):<{_BAR}}  {count:,}")
    return "\n".join(["```text", *lines, "```"])
