from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from codelupe_text.ngrams import WORD, ngram_hashes

TEXT = st.text(alphabet=st.sampled_from("ab_9é漢 \n.(\0\ud800"), max_size=60) | st.text(max_size=60)
SIZES = st.integers(min_value=1, max_value=12)


def runs(text: str, size: int) -> list[tuple[str, ...]]:
    words = WORD.findall(text)
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


@given(st.lists(TEXT, max_size=4), SIZES)
def test_hashes_are_equal_where_the_words_are(texts: list[str], size: int) -> None:
    grams = [gram for text in texts for gram in runs(text, size)]
    hashes = [number for text in texts for number in ngram_hashes(text, size).tolist()]
    assert len(hashes) == len(grams)
    assert len(set(zip(grams, hashes, strict=True))) == len(set(grams)) == len(set(hashes))


@given(st.lists(st.from_regex(WORD, fullmatch=True), min_size=1, max_size=12), st.lists(st.sampled_from(" \n(.\0")))
def test_what_stands_between_words_does_not_count(words: list[str], gaps: list[str]) -> None:
    between = "".join(gaps) or "-"
    assert ngram_hashes(between.join(words), 3).tolist() == ngram_hashes(" ".join(words), 3).tolist()


def test_words_do_not_run_together() -> None:
    assert ngram_hashes("ab c", 2) != ngram_hashes("a bc", 2)
    assert ngram_hashes("ab", 1) != ngram_hashes("ba", 1)


def test_a_word_repeated_without_end_is_hashed_in_one_go() -> None:
    assert len(set(ngram_hashes("word " * 200_000, 5).tolist())) == 1


def test_there_is_no_collision_among_very_many() -> None:
    numbers = ngram_hashes(" ".join(map(str, range(200_000))), 1).tolist()
    assert len(set(numbers)) == 200_000
    counts = [0] * 16
    for number in numbers:
        counts[number >> 60] += 1
        counts[number & 15] += 1
    assert all(24_000 < count < 26_000 for count in counts)


def test_another_process_has_the_same_hashes() -> None:
    program = "from codelupe_text.ngrams import ngram_hashes; print(*ngram_hashes('def é(a, b): return a', 3))"
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.split() == [str(number) for number in ngram_hashes("def é(a, b): return a", 3)]
