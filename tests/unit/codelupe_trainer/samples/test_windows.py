from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_trainer.samples.windows import Window, cut_near, take_window
from tests.unit.codelupe_trainer.samples.requests import PLENTY, count_words

# What Postgres can hold.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
codes = st.lists(st.text("ab(){}=:# \t.\r\u2028", max_size=30), max_size=60).map("\n".join)


def window(text: str, room: int, seed: int = 0) -> Window | None:
    return take_window(text, room, count_words, Random(seed))


@given(texts | codes, st.integers(-10, 200), st.integers(0, 9))
def test_a_window_is_a_part_of_the_text_that_fits(text: str, room: int, seed: int) -> None:
    found = window(text, room, seed)
    if found is None:
        assert room < 4 * 4 or not text
        return
    assert found.text in text
    assert sum(count_words([found.text])) <= room
    assert found.begins <= text.startswith(found.text)
    assert found.ends <= text.endswith(found.text)
    assert found.is_cut == (found.text != text)


@given(st.lists(st.text("xyz", min_size=1, max_size=20), min_size=1, max_size=40))
def test_what_fits_is_taken_whole(lines: list[str]) -> None:
    assert window("\n".join(lines), PLENTY) == Window("\n".join(lines), begins=True, ends=True)


@given(st.integers(60, 400), st.integers(30, 50), st.integers(0, 9))
def test_a_window_of_a_long_text_fills_the_room_with_whole_lines(lines: int, room: int, seed: int) -> None:
    found = window("".join(f"line {number}\n" for number in range(lines)), room, seed)
    assert found is not None
    assert found.text.startswith("line ")
    assert found.text.endswith("\n")
    assert room - 3 < sum(count_words([found.text])) <= room


def test_windows_start_at_different_places() -> None:
    text = "".join(f"line {number}\n" for number in range(200))
    assert len({found.text for seed in range(50) if (found := window(text, 60, seed)) is not None}) > 25


@pytest.mark.parametrize("text", ["x " * 5000, "," * 5000, "é\u2028" * 5000, "short\n" + "x " * 5000 + "\nshort\n"])
def test_a_line_longer_than_the_room_is_parted(text: str) -> None:
    found = window(text, 100)
    assert found is not None
    assert found.text in text
    assert found.is_cut


@given(texts | codes, st.floats(0, 1))
def test_a_cut_leaves_something_on_both_sides(text: str, share: float) -> None:
    if len(text) >= 2:
        assert 0 < cut_near(text, share) < len(text)


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("a = 1\nb = 2\nc = 3", "a = 1\n"),
        ("one line with words", "one line "),
        ("onelongword", "onel"),
        ("\n\nx = 1", "\n\nx "),
        ("x = 1\n\n", "x "),
        ("ab", "a"),
        ("\n\n", "\n"),
    ],
)
def test_a_cut_is_at_a_line_else_at_a_space_else_anywhere(text: str, before: str) -> None:
    assert text[: cut_near(text, 0.35)] == before
