"""From docstrings to Markdown."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

Rows = Iterable[Sequence[str]]


def doc_of(thing: Any) -> str:
    """The docstring in Markdown, empty if there is none."""
    return markdown(inspect.getdoc(thing) or "")


def is_private(thing: Any) -> bool:
    """Whether its docstring says so, in Sphinx's words: a public name that is not for plugins."""
    return ":meta private:" in (inspect.getdoc(thing) or "")


def markdown(docstring: str) -> str:
    """The few marks that docstrings use, in Markdown's form."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring).replace("``", "`")
    return re.sub(r"^Raises:\n((?:    .*\n?)+)", lambda found: _raises(found[1]), text, flags=re.MULTILINE)


def _raises(block: str) -> str:
    errors = re.sub(r"\n +", " ", textwrap.dedent(block)).strip().splitlines()
    return "Raises: " + "; ".join(re.sub(r"^([\w., ]+): ", r"`\1`: ", error.rstrip(".")) for error in errors) + "."


def attribute_docs(*things: type[Any] | ModuleType) -> dict[str, str]:
    """The strings that follow assignments in classes or modules, by the name assigned to."""
    found: dict[str, str] = {}
    trees = [ast.parse(textwrap.dedent(inspect.getsource(thing))) for thing in things]
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        body = getattr(node, "body", None)
        for assignment, following in itertools.pairwise(body if isinstance(body, list) else []):
            match assignment, following:
                case (
                    ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)])
                    | ast.AnnAssign(target=ast.Name(id=name) | ast.Attribute(attr=name)),
                    ast.Expr(ast.Constant(str(text))),
                ):
                    found[name] = markdown(inspect.cleandoc(text))
    return found


def signature(name: str, function: Any) -> str:
    """The function's parameters and result, as code."""
    return f"```python\n{name}{inspect.signature(function)}\n```".replace("'", "")


def field_table(rows: Rows) -> str:
    """Fields as (name, type, default, meaning); a default may be ``required``."""
    cells = [(f"`{name}`", f"`{kind}`", _default(default), meaning) for name, kind, default, meaning in rows]
    return table(("field", "type", "default", "meaning"), cells)


def _default(text: str) -> str:
    return text if text == "required" else f"`{text}`"


def table(columns: Sequence[str], rows: Rows) -> str:
    """A Markdown table; line breaks become spaces, a column without any text is left out."""
    cells = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in rows]
    shown = [index for index in range(len(columns)) if any(row[index] for row in cells)]
    picked = [[row[index] for index in shown] for row in (columns, ["---"] * len(columns), *cells)]
    return "\n".join(f"| {' | '.join(row)} |" for row in picked)
