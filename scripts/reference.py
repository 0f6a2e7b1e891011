"""Write docs/reference/ from the code: settings, command line, hooks, events, database.

The pages tell only what the code says of itself: fields' descriptions, help texts, docstrings, comments in the
migrations. Plugins that are not CodeLupe's own are left out, installed or not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from codelupe.host.discovery import load_plugins
from codelupe.host.host import Host
from scripts.reference_pages.cli import cli_page
from scripts.reference_pages.database import database_page
from scripts.reference_pages.events import events_page
from scripts.reference_pages.hooks import hooks_page
from scripts.reference_pages.settings import settings_page

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
_MARK = "<!-- Made by scripts/reference.py: change the code, then run `make docs`. -->\n\n"


def main() -> None:
    """Write the pages, or with ``--check`` fail if one is not what it would be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="fail if a page is stale")
    if not parser.parse_args().check:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name, text in pages().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
    elif stale := stale_pages():
        sys.exit(f"stale in docs/reference: {', '.join(stale)}\nRun `make docs` and commit them.")


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    host = first_party_plugins()
    made = {
        "settings.md": settings_page(host),
        "cli.md": cli_page(host),
        "hooks.md": hooks_page(),
        "events.md": events_page(host),
        "database.md": database_page(),
    }
    return {name: f"{_MARK}{text.rstrip()}\n" for name, text in made.items()}


def stale_pages() -> list[str]:
    """The names of the pages on disk that differ from what the code says now."""
    return [
        name
        for name, text in pages().items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]


def first_party_plugins() -> Host:
    """CodeLupe's own plugins, all of which must load."""
    found = [plugin for plugin in Host(load_plugins()).plugins if plugin.distribution == "codelupe"]
    if broken := [f"{plugin.name}: {plugin.error}" for plugin in found if plugin.error]:
        sys.exit(f"broken plugins: {'; '.join(broken)}")
    return Host(found)


if __name__ == "__main__":
    main()
