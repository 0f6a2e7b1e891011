from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codelupe_scorers
from codelupe import Score, Scorer, SourceFile
from codelupe_scorers.quality import score_file, score_files
from codelupe_scorers.settings import ScorersSettings
from codelupe_text.syntax import MAX_BYTES
from tests.processes import cpu_seconds
from tests.unit.codelupe_scorers.samples import LANGUAGES, NASTY, sample, source

OWN = codelupe_scorers.codelupe_scorers(ScorersSettings())


class Fixed:
    """Says the same of every file."""

    version = 3

    def __init__(self, name: str, weight: float, value: float | None) -> None:
        self.name = name
        self.weight = weight
        self._value = value

    def score(self, file: SourceFile) -> Score | None:
        return None if self._value is None else Score(value=self._value, reasons=(f"{file.path} is so",))


def quality(*scorers: Scorer) -> float | None:
    return score_file(source("x"), scorers).value


def test_the_score_is_the_weighted_mean() -> None:
    assert quality(Fixed("a", 3, 100), Fixed("b", 1, 20)) == 80


def test_what_does_not_apply_and_what_weighs_nothing_is_left_out() -> None:
    it = score_file(source("x"), [Fixed("a", 3, 50), Fixed("b", 1, None), Fixed("c", 0, 0)])
    assert it.value == 50
    assert it.dimensions == {
        "a": {"value": 50, "version": 3, "weight": 3, "reasons": ["a is so"]},
        "b": {"value": None, "version": 3, "weight": 1, "reasons": []},
    }


def test_without_any_dimension_there_is_no_score() -> None:
    assert quality() is None
    assert quality(Fixed("a", 1, None)) is None


@pytest.mark.parametrize(("value", "bounded"), [(-5, 0), (500, 100), (math.inf, 100), (math.nan, 0)])
def test_a_scorer_cannot_leave_the_scale(value: float, bounded: float) -> None:
    assert quality(Fixed("a", 1, value)) == bounded


def test_a_number_of_a_library_s_own_is_stored_as_a_plain_one() -> None:
    """Such as numpy's, which JSON does not know."""

    class Float64(float): ...

    assert type(score_file(source("x"), [Fixed("a", 1, Float64(7))]).dimensions["a"]["value"]) is float


def test_documented_flat_code_is_good_and_a_table_is_not() -> None:
    scores = {language: score_file(sample(language), OWN).value for language in LANGUAGES}
    assert all(value is not None and value >= 70 for value in scores.values()), scores
    table = "ROWS = [\n" + "    (1, 2, 'three'),\n" * 60 + "]\n"
    value = score_file(source(table), OWN).value
    assert value is not None
    assert value < 40


PIECES = [
    *(
        "def ",
        "fn ",
        "func ",
        "class A",
        "let ",
        "const ",
        "import ",
        "export ",
        "unsafe ",
        "eval(",
        "exec(",
        "select a ",
    ),
    *(
        "f",
        "a",
        "(",
        ")",
        "{",
        "}",
        "[",
        ":",
        ";",
        ",",
        "\n",
        "    ",
        "\t",
        "if ",
        "#",
        '"',
        "'",
        "`",
        "${",
        "=>",
        "//",
        "/*",
    ),
    *("\x00", "\ud800", "\u2028", "\ufeff", "é", "名"),
]
TEXTS = st.text(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=80).map("".join)
FILES = st.builds(
    SourceFile,
    path=st.text(max_size=20) | st.just("a.tsx"),
    content=TEXTS,
    language=st.sampled_from([*LANGUAGES, "COBOL", None]),
    licence=st.none(),
)


@pytest.mark.parametrize("scorer", OWN, ids=lambda scorer: scorer.name)
@settings(max_examples=150, deadline=None)
@given(file=FILES)
def test_any_text_has_a_score_from_0_to_100_in_each_dimension_or_none(scorer: Scorer, file: SourceFile) -> None:
    it = scorer.score(file)
    assert it is None or (0 <= it.value <= 100 and all(it.reasons))


@settings(max_examples=150, deadline=None)
@given(file=FILES)
def test_any_text_has_a_score_from_0_to_100(file: SourceFile) -> None:
    it = score_file(file, OWN)
    assert it.value is not None
    assert 0 <= it.value <= 100


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("content", NASTY.values(), ids=NASTY.keys())
def test_hostile_texts_are_scored_in_bounded_time(content: str, language: str) -> None:
    """In so many times what an ordinary text of the greatest size takes: some ten seconds against 25 ms."""
    ordinary = sample(language).content
    ordinary *= MAX_BYTES // len(ordinary)
    usual = cpu_seconds(lambda: score_file(source(ordinary, language), OWN))
    values: list[float | None] = []
    assert cpu_seconds(lambda: values.append(score_file(source(content, language), OWN).value)) < 400 * usual
    [value] = values
    assert value is not None
    assert 0 <= value <= 100


def test_scoring_twice_gives_the_same() -> None:
    once = score_file(sample("Rust"), OWN)
    assert score_files([sample("Rust"), sample("Go"), sample("Rust")], OWN)[::2] == [once, once]


def test_scorers_travel_to_worker_processes() -> None:
    assert pickle.loads(pickle.dumps(OWN)) == OWN
    assert {scorer.name.replace("-", "_"): scorer.weight for scorer in OWN} == ScorersSettings().model_dump()
