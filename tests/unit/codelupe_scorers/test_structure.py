from __future__ import annotations

import pytest

from codelupe import SourceFile
from codelupe_scorers.structure import Structure
from codelupe_text.syntax import MAX_BYTES
from tests.unit.codelupe_scorers.samples import LANGUAGES, sample, source

FUNCTION = "def f{n}(a):\n    b = a + 1\n    c = b * a\n    print(c)\n    return b\n\n\n"
GOOD = "".join(FUNCTION.format(n=n) for n in range(5))


def points(file: SourceFile | str) -> float:
    return Structure(1).score(source(file) if isinstance(file, str) else file).value


def test_small_flat_functions_have_all_points() -> None:
    assert points(GOOD) == 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sound_program_does_well_in_every_language(language: str) -> None:
    assert points(sample(language)) >= 60


@pytest.mark.parametrize(
    "worse",
    [
        pytest.param(GOOD + "x = (1 +\n$$ ??", id="errors"),
        pytest.param("x = 1\ny = 2\n" * 20 + GOOD, id="outside"),
        pytest.param("def f():\n" + "    x = 1\n" * 160, id="long"),
        pytest.param(
            "def f(a):\n" + "".join("    " * n + "if a:\n" for n in range(1, 9)) + "    " * 9 + "b()\n", id="deep"
        ),
        pytest.param("def f(): ...\ndef g(): ...\n" * 10, id="declarations"),
        pytest.param("def f():\n    return 1\n", id="tiny"),
        pytest.param("import a\nimport b\n" * 10, id="imports"),
    ],
)
def test_each_fault_costs_points(worse: str) -> None:
    assert points(worse) < points(GOOD) - 15


def test_what_is_mostly_no_code_has_no_points() -> None:
    assert points("$ ( ) ]] ?? !! " * 40) == 0
    assert points("a" * (MAX_BYTES + 1)) == 0


def test_a_language_without_grammar_is_neither_good_nor_bad() -> None:
    score = Structure(1).score(source("IDENTIFICATION DIVISION.", "COBOL"))
    assert (score.value, score.reasons) == (50, ("no grammar for COBOL",))


def test_the_reasons_say_what_was_seen() -> None:
    reasons = Structure(1).score(source(GOOD + "x = (")).reasons
    assert any("5 functions and 0 types" in reason for reason in reasons)
    assert any("fit no rule" in reason for reason in reasons)
