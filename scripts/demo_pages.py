"""Runs the demo in a state directory of its own and writes what it prints into the pages that quote it.

A page quotes the demo between ``<!-- demo: COMMAND -->`` and ``<!-- demo: end -->``: ``run`` stands for
``codelupe run --profile demo --until-idle``, any other command for what it prints afterwards. ``COMMAND | head -N`` and
``COMMAND | tail -N`` quote a part of that.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "tutorial" / "first-run.md")
QUOTE = re.compile(
    r"(?P<opening><!-- demo: (?P<command>(?!end)[^|\n]+?)(?: \| (?P<part>head|tail) -(?P<lines>\d+))? -->\n)"
    r"(?P<text>.*?)<!-- demo: end -->\n",
    re.DOTALL,
)
RUN = "run"
_WIDTH = 116
_HOME = "/home/you/codelupe/.codelupe"


def run_demo(state: Path, commands: set[str]) -> dict[str, str]:
    """What the demo, and then these commands, print on standard output."""
    environment = {**os.environ, "CODELUPE_STATE_DIR": str(state), "COLUMNS": str(_WIDTH)}

    def printed_by(command: str) -> str:
        arguments = [sys.executable, "-m", "codelupe", *shlex.split(command)]
        output = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        return output.replace(str(state), _HOME)

    demo = {RUN: printed_by("run --profile demo --until-idle")}
    return demo | {command: printed_by(command) for command in sorted(commands - {RUN})}


def quote(text: str, part: str | None, count: int) -> str:
    """An indented block. Where it leaves something out, it has an ellipsis."""
    lines = [_shortened(line.rstrip()) for line in text.rstrip().splitlines()]
    if part == "head" and count < len(lines):
        lines = [*lines[:count], "…"]
    if part == "tail" and count < len(lines):
        lines = ["…", *lines[-count:]]
    return "\n" + textwrap.indent("\n".join(lines), "    ") + "\n\n"


def _shortened(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


def main() -> None:
    """Run it and write the pages."""
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    commands = {found["command"] for text in texts.values() for found in QUOTE.finditer(text)}
    with tempfile.TemporaryDirectory(prefix="codelupe-demo-") as folder:
        Path(folder).chmod(0o755)  # the embedded server drops root's rights
        printed = run_demo(Path(folder).resolve() / "state", commands)

    def renewed(found: re.Match[str]) -> str:
        text = quote(printed[found["command"]], found["part"], int(found["lines"] or 0))
        return f"{found['opening']}{text}<!-- demo: end -->\n"

    for page, text in texts.items():
        page.write_text(QUOTE.sub(renewed, text), encoding="utf-8")


if __name__ == "__main__":
    main()
