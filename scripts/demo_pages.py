"""Runs the demo in a state directory of its own and writes what it prints into the pages that quote it.

A page quotes the demo between ``<!-- demo: NAME -->`` and ``<!-- demo: end -->``: ``run`` is what
``codelupe run --profile demo --until-idle`` ends with, ``status`` what ``codelupe status`` prints then.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "tutorial" / "first-run.md")
QUOTE = re.compile(r"<!-- demo: (?P<name>run|status) -->\n(?P<text>.*?)<!-- demo: end -->\n", re.DOTALL)
_HOME = "/home/you/codelupe/.codelupe"


def run_demo(state: Path) -> dict[str, str]:
    """What the demo prints on standard output, by name."""
    environment = {**os.environ, "CODELUPE_STATE_DIR": str(state), "COLUMNS": "116"}
    codelupe = [sys.executable, "-m", "codelupe"]
    commands = {"run": ["run", "--profile", "demo", "--until-idle"], "status": ["status", "--profile", "demo"]}
    return {
        name: subprocess.run(
            [*codelupe, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.replace(str(state), _HOME)
        for name, command in commands.items()
    }


def quoted(text: str) -> str:
    """As an indented block, without the spaces that fill a table's lines."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"\n{textwrap.indent(lines.strip(), '    ')}\n\n"


def main() -> None:
    """Run it and write the pages."""
    with tempfile.TemporaryDirectory(prefix="codelupe-demo-") as folder:
        Path(folder).chmod(0o755)  # the embedded server drops root's rights
        printed = run_demo(Path(folder).resolve() / "state")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        text = QUOTE.sub(
            lambda it: f"<!-- demo: {it['name']} -->\n{quoted(printed[it['name']])}<!-- demo: end -->\n", text
        )
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
