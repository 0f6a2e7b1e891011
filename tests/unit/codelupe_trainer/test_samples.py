from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from codelupe_trainer.samples import CONTEXT_SHARE, INSTRUCTIONS, CodeFile, Sample, SampleMaker

PLENTY = 1_000_000


def code_file(content: str, language: str | None = "Python") -> CodeFile:
    return CodeFile(
        repository_id="local:one",
        repository="local/one",
        commit="c0ffee",
        licence="MIT",
        path="one.py",
        language=language,
        content_hash=xxhash.xxh3_128_hexdigest(content.encode()),
        split="train",
        content=content,
    )


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(re.findall(r"\w+|\S|\n", text)) for text in texts]


def make(content: str, max_tokens: int = PLENTY, control_tokens: Sequence[str] = ()) -> Sample | None:
    return SampleMaker(count_words, max_tokens, control_tokens).make(code_file(content))


# What Postgres can hold.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
codes = st.lists(st.text("ab(){}=:# \t.\r\u2028", max_size=30), max_size=60).map("\n".join)


@given(texts | codes, st.integers(-10, 200))
def test_any_text_makes_a_valid_sample_or_none(content: str, max_tokens: int) -> None:
    sample = make(content, max_tokens)
    if sample is None:
        return
    assert sample.context.strip()
    assert sample.completion.strip()
    assert sample.context in content
    assert sample.completion in content
    assert sum(count_words([sample.instruction, sample.context, sample.completion])) <= max_tokens


@given(texts | codes, st.integers(10, 200))
def test_the_same_file_always_makes_the_same_sample(content: str, max_tokens: int) -> None:
    assert make(content, max_tokens) == make(content, max_tokens)


@given(st.lists(st.text("xyz", min_size=1, max_size=20), min_size=2, max_size=40))
def test_a_short_file_is_used_whole_and_cut_near_the_share(lines: list[str]) -> None:
    content = "\n".join(lines)
    sample = make(content)
    assert sample is not None
    assert f"{sample.context}\n{sample.completion}" == content
    longest = max(map(len, lines)) + 1
    assert abs(len(sample.context) + 1 - CONTEXT_SHARE * len(content)) <= longest


@given(st.integers(60, 400), st.integers(30, 50))
def test_a_window_of_a_long_file_fills_what_there_is_room_for(lines: int, max_tokens: int) -> None:
    content = "".join(f"line {number}\n" for number in range(lines))
    sample = make(content, max_tokens)
    assert sample is not None
    used = sum(count_words([sample.instruction, f"{sample.context}\n{sample.completion}\n"]))
    assert max_tokens - 4 < used <= max_tokens


def test_windows_of_different_files_start_at_different_places() -> None:
    starts = set()
    for number in range(50):
        sample = make("\n".join([f"first {number}", *(f"line {n}" for n in range(200))]), 60)
        assert sample is not None
        starts.add(sample.context.split("\n")[0])
    assert len(starts) > 25


def test_every_instruction_is_used_and_names_the_language() -> None:
    samples = [make(f"a = {number}\nb = 2\nc = 3") for number in range(100)]
    used = {sample.instruction for sample in samples if sample is not None}
    assert used == {instruction.format(language="Python") for instruction in INSTRUCTIONS}


def test_a_file_without_a_language_is_source() -> None:
    sample = SampleMaker(count_words, PLENTY).make(code_file("one\ntwo", language=None))
    assert sample is not None
    assert "source" in sample.instruction


@pytest.mark.parametrize("content", ["", "\n\n\n", "one line only", "one line\n", "\n \n  x = 1\n\n", "   \n\t\n"])
def test_what_cannot_be_split_makes_no_sample(content: str) -> None:
    assert make(content) is None


def test_lines_too_long_for_the_room_make_no_sample() -> None:
    assert make("\n".join(["x " * 500] * 5), 100) is None


def test_a_file_that_could_speak_for_the_user_makes_no_sample() -> None:
    content = "text = '<|im_end|>'\nprint(text)"
    assert make(content) is not None
    assert make(content, control_tokens=("<|im_start|>", "<|im_end|>")) is None


def test_indentation_survives_and_blank_lines_around_the_cut_do_not() -> None:
    sample = make("def f(x):\n\n\n    return x + 1\n\n")
    assert sample is not None
    assert (sample.context, sample.completion) == ("def f(x):", "    return x + 1")


def test_messages_are_a_question_and_its_answer() -> None:
    sample = make("def f():\n    return 1\n    # the end")
    assert sample is not None
    assert sample.prompt == [{"role": "user", "content": f"{sample.instruction}\n\ndef f():"}]
    assert sample.answer == [{"role": "assistant", "content": "    return 1\n    # the end"}]
