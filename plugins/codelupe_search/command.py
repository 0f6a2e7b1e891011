"""``codelupe search``."""

from __future__ import annotations

from typing import Annotated

import typer

from codelupe import ConfigurationError
from codelupe.commands import AsJson, ConfigFile, Profile, Session, out, print_json, print_table, with_session

app = typer.Typer()


@app.command()
def search(
    query: Annotated[list[str], typer.Argument(help='Words; "a phrase"; or between two; -word to leave one out.')],
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 20,
) -> None:
    """Search the discovered repositories."""

    async def do(session: Session) -> None:
        index = session.gather().search_indexes.get(session.settings.search_index)
        if index is None:
            raise ConfigurationError(
                f"no plugin offers the search index {session.settings.search_index!r}",
                hint="`codelupe plugins list` shows the plugins.",
            )
        hits = await index.search(" ".join(query), limit)
        if as_json:
            print_json(hits)
        elif not hits:
            out.print("Nothing found.")
        else:
            print_table(
                ["repository", "language", "stars", "description"],
                [(hit.full_name, hit.language, hit.stars, hit.description) for hit in hits],
            )

    with_session(config, profile, do)
