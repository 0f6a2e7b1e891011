from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_trainer.samples.completion import CONTEXT_SHARE, INSTRUCTIONS, CompletionFormat, complete
from tests.unit.codelupe_trainer.samples.requests import PLENTY, count_words, request
from tests.unit.codelupe_trainer.samples.test_windows import codes, texts


@given(texts | codes, st.integers(60, 400))
def test_every_file_with_something_in_it_makes_a_sample_that_fits(content: str, room: int) -> None:
    made = complete(request(content, room))
    if made is None:
        assert len(content.strip("\n")) < 2
        return
    assert made.context in content
    assert made.rest in content
    assert made.rest
    assert sum(count_words([made.sample.prompt, made.sample.answer])) <= room


@given(st.lists(st.text("xyz", min_size=1, max_size=20), min_size=2, max_size=40))
def test_a_short_file_is_used_whole_and_cut_near_the_share(lines: list[str]) -> None:
    content = "\n".join(lines)
    made = complete(request(content))
    assert made is not None
    assert f"{made.context}\n{made.rest}" == content
    assert made.ends
    assert not made.is_cut
    longest = max(map(len, lines)) + 1
    assert abs(len(made.context) + 1 - CONTEXT_SHARE * len(content)) <= longest


def test_every_instruction_is_used_and_names_the_language() -> None:
    used = {complete(request(f"a = {number}\nb = 2\nc = 3")).instruction for number in range(100)}  # type: ignore[union-attr]
    assert used == {instruction.format(language="Python") for instruction in INSTRUCTIONS}
    made = complete(request("one\ntwo", language=None))
    assert made is not None
    assert "source" in made.instruction


@pytest.mark.parametrize("content", ["x", "x\n", "\n\nx\n"])
def test_nothing_can_be_cut_in_one_character(content: str) -> None:
    assert complete(request(content)) is None


def test_a_window_that_stops_before_the_end_does_not_end_the_sample() -> None:
    content = "".join(f"line {number}\n" for number in range(300))
    made = [CompletionFormat().make(request(content, 80, seed=str(seed))) for seed in range(200)]
    assert all(sample is not None and sample.is_cut for sample in made)
    ending = [sample for sample in made if sample is not None and sample.ends]
    assert 0 < len(ending) < 20
    assert all(sample.answer.endswith("line 299") for sample in ending)


def test_indentation_survives_and_blank_lines_around_the_cut_do_not() -> None:
    made = complete(request("def f(x):\n\n\n    return x + 1\n\n", PLENTY))
    assert made is not None
    assert (made.context, made.rest) == ("def f(x):", "    return x + 1")
    assert made.sample.prompt == f"{made.instruction}\n\ndef f(x):"
