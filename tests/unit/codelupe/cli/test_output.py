"""Tables in a terminal that is narrower than they would like to be."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from codelupe.cli.output import make_table

NAME = "smollm2-135m-instruct-0001"


def printed(rows: list[tuple[str, str]], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(make_table(["name", "what it is about"], rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_name_stays_in_one_piece_to_be_copied(width: int) -> None:
    assert NAME in printed([(NAME, "losses " * 30)], width)


def test_a_long_name_is_folded_and_nothing_of_it_is_lost() -> None:
    path = "/".join(["folder"] * 12) + "/file.py"
    lines = printed([(path, "")], 40).splitlines()
    assert max(map(len, lines)) <= 40
    assert "".join(line[:40].strip() for line in lines[1:]) == path
