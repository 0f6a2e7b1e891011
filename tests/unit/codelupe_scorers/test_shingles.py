from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_scorers.shingles import MAX_CHARACTERS, bands, jaccard, shingles, similarities
from codelupe_text.ngrams import WORD
from tests.unit.codelupe_scorers.samples import SAMPLES

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "x", "y", "漢字", "_1"]), max_size=120)
LONG = st.lists(st.integers(0, 400).map(str), min_size=40, max_size=120)


def text_of(first: int, last: int) -> str:
    return " ".join(f"w{number}" for number in range(first, last))


def similarity(one: str, other: str) -> float:
    [value] = similarities((one, [other]))
    return value


def true_jaccard(one: str, other: str) -> float:
    """By Python's own sets of words."""
    sets = []
    for text in (one, other):
        words = WORD.findall(text)
        sets.append({tuple(words[start : start + 5]) for start in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@given(st.text() | WORDS.map(" ".join))
def test_any_text_has_a_signature_of_25_bands_or_none(text: str) -> None:
    found = shingles(text)
    if found is not None:
        assert len(found) >= 10
        numbers = bands(found)
        assert len(numbers) == 25
        assert all(-(2**63) <= number < 2**63 for number in numbers)
        assert numbers == bands(found)


@given(LONG, LONG)
def test_the_jaccard_index_is_symmetric_within_0_and_1_and_that_of_the_sets(one: list[str], other: list[str]) -> None:
    first, second = " ".join(one), " ".join(one[:20] + other)
    a, b = shingles(first), shingles(second)
    if a is not None and b is not None:
        assert 0 <= jaccard(a, b) == jaccard(b, a) <= 1
        assert jaccard(a, b) == pytest.approx(true_jaccard(first, second))


@given(LONG, st.lists(st.sampled_from([" ", "\n", " (", "), ", "\t// "]), min_size=120, max_size=120))
def test_the_same_words_with_other_space_and_signs_have_the_jaccard_index_1(words: list[str], gaps: list[str]) -> None:
    plain = " ".join(words)
    spread = "".join(word + gap for word, gap in zip(words, gaps, strict=False))
    a, b = shingles(plain), shingles(spread)
    if a is not None and b is not None:
        assert jaccard(a, b) == 1
        assert bands(a) == bands(b)


def test_what_is_too_short_or_too_long_is_not_compared() -> None:
    assert shingles("") is None
    assert shingles(text_of(0, 13)) is None
    assert shingles(text_of(0, 14)) is not None
    assert shingles("word " * 1000) is None
    assert shingles(text_of(0, 14).ljust(MAX_CHARACTERS)) is not None
    assert shingles(text_of(0, 14).ljust(MAX_CHARACTERS + 1)) is None
    assert similarity("a b c", "a b c") == 0


def test_near_duplicates_share_bands_and_others_do_not() -> None:
    for _, content in SAMPLES.values():
        original, changed = shingles(content), shingles(content + "\n# one more remark at the end\n")
        assert original is not None
        assert changed is not None
        assert jaccard(original, changed) > 0.8
        assert set(bands(original)) & set(bands(changed))
    everything = [shingles(content) for _, content in SAMPLES.values()]
    numbers = [number for found in everything if found is not None for number in bands(found)]
    assert len(set(numbers)) == 25 * len(SAMPLES)


def test_bands_are_found_with_the_probability_that_the_docs_state() -> None:
    """100 pairs at 0.8: 0.94 of them, give or take four standard deviations; at 0.5 only 0.024."""
    at = {0.8: 0, 0.5: 0}
    for value, shift in ((0.8, 25), (0.5, 75)):  # of 225 shingles: 200 / 250, 150 / 300
        for n in range(100):
            a, b = (
                shingles(text_of(1000 * n, 1000 * n + 229)),
                shingles(text_of(1000 * n + shift, 1000 * n + 229 + shift)),
            )
            assert a is not None
            assert b is not None
            assert jaccard(a, b) == pytest.approx(value)
            at[value] += bool(set(bands(a)) & set(bands(b)))
    assert at[0.8] >= 84
    assert at[0.5] <= 9


def test_a_signature_is_the_same_for_ever() -> None:
    """Stored bands are looked up by it: if this fails after an upgrade, VERSION must be raised."""
    found = shingles(text_of(0, 100))
    assert found is not None
    assert bands(found)[:2] == [2009595897444675346, -8777138033777815038]
