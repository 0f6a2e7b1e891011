from __future__ import annotations

import pytest

from codelupe_scorers.documentation import Documentation
from tests.unit.codelupe_scorers.samples import LANGUAGES, sample, source

BODY = "    total = a + sum(range(a))\n    print(total, a * total)\n    return total\n\n\n"
BARE = f"def f(a):\n{BODY}def g(a):\n{BODY}"
DOCUMENTED = BARE.replace("):\n", '):\n    """Add a little to a number and return it."""\n')


def points(content: str, language: str = "Python") -> float:
    score = Documentation(1).score(source(content, language))
    assert score is not None
    return score.value


def test_docstrings_on_everything_have_all_points() -> None:
    assert points(DOCUMENTED) == 100


def test_no_word_has_none() -> None:
    assert points(BARE) == 0


def test_the_points_follow_the_share_of_what_is_documented() -> None:
    half = DOCUMENTED.replace('    """Add a little to a number and return it."""\n', "", 1)
    assert points(BARE) < points(half) < points(DOCUMENTED)


def test_comments_all_over_are_no_documentation_of_functions() -> None:
    assert 0 < points(BARE.replace("    total =", "    # the sum\n    total =")) < 50


def test_a_file_that_is_mostly_comment_loses_points() -> None:
    assert points(DOCUMENTED + "# words and words and words and words\n" * 60) < points(DOCUMENTED)


def test_a_hash_in_a_string_is_no_comment() -> None:
    assert points('a = "# no comment"\n' * 3) == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_documents_in_its_own_way(language: str) -> None:
    score = Documentation(1).score(sample(language))
    assert score is not None
    assert score.value > 60
    assert "2 of 3 functions and types are documented" in score.reasons


def test_without_a_tree_it_does_not_apply() -> None:
    assert Documentation(1).score(source("x", "COBOL")) is None
