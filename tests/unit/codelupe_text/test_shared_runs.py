"""Which problems a text shares ten words in a row with."""

from __future__ import annotations

from codelupe_text.shared_runs import Index, Problem

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]


def problem(id_: str, words: list[str]) -> Problem:
    return Problem(id=id_, texts=(" ".join(words),))


def test_all_problems_that_share_a_run_are_named() -> None:
    index = Index([problem("first", WORDS), problem("second", [*WORDS[:10], "other"]), problem("third", WORDS[::-1])])
    assert index.problems_in(f"x = ({', '.join(WORDS[:10])})") == {"first", "second"}
    assert index.problems_in(" ".join(WORDS[1:11])) == {"first"}
    assert index.problems_in(" ".join(WORDS[:9])) == frozenset()


def test_a_run_that_many_problems_have_is_none_of_theirs() -> None:
    index = Index([problem(str(number), WORDS[:10]) for number in range(4)])
    assert not index.problems_in(" ".join(WORDS))


def test_an_empty_index_finds_nothing() -> None:
    assert Index([]).problems_in(" ".join(WORDS)) == frozenset()
    assert Index([]).find(" ".join(WORDS)) is None
