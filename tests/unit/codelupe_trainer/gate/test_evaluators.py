"""The texts that models are measured by."""

from __future__ import annotations

import pytest

from codelupe import LikelihoodEvaluator, ScoredText
from codelupe_trainer.gate.evaluators import ChatEvaluator, InfillEvaluator, PlainEvaluator
from codelupe_trainer.samples.drawing import sample_request
from codelupe_trainer.samples.encoding import Encoder
from tests.training import byte_tokenizer, code_file

CODE = "".join(f"def add_{number}(first, second):\n    return first + second + {number}\n\n\n" for number in range(30))
ENCODER = Encoder(byte_tokenizer(), [byte_tokenizer().eos_token_id])


def text_of(evaluator: LikelihoodEvaluator, content: str, room: int = 64) -> ScoredText | None:
    return evaluator.text(sample_request(code_file(content), ENCODER, room, "gate"))


def test_plain_code_is_scored_as_it_stands() -> None:
    assert text_of(PlainEvaluator(), CODE) == ScoredText(prompt="", scored=CODE, form="text")


def test_of_a_gap_what_belongs_in_it_is_scored() -> None:
    found = text_of(InfillEvaluator(), CODE)
    assert found is not None
    before, _, behind = (
        found.prompt.removeprefix("<|fim_prefix|>").removesuffix("<|fim_middle|>").partition("<|fim_suffix|>")
    )
    assert before + found.scored + behind == CODE


def test_of_a_chat_the_answer_is_scored_without_its_first_lines() -> None:
    found = text_of(ChatEvaluator(), CODE)
    assert found is not None
    assert found.form == "chat"
    instruction, _, context = found.prompt.partition("\n\n")
    assert "Python" in instruction
    assert 64 <= len(found.lead) <= 64 + 40
    assert found.lead.endswith("\n")
    whole = CODE.strip("\n")
    assert whole.startswith(context)
    assert whole.endswith(found.lead + found.scored)
    assert len(context) == pytest.approx(0.35 * len(whole), abs=50)


@pytest.mark.parametrize("evaluator", [PlainEvaluator(), ChatEvaluator(), InfillEvaluator()], ids=lambda one: one.name)
def test_the_text_is_the_same_however_many_tokens_a_base_makes_of_it(
    evaluator: LikelihoodEvaluator,
) -> None:
    assert text_of(evaluator, CODE, room=8) == text_of(evaluator, CODE, room=100_000) is not None


@pytest.mark.parametrize("content", ["x", "x = 1\n", "\n\n", "x" * 90, " " * 500])
def test_too_little_code_is_not_asked_in_a_chat(content: str) -> None:
    assert text_of(ChatEvaluator(), content) is None


def test_one_long_line_is_parted_within_it() -> None:
    found = text_of(ChatEvaluator(), "x = [" + "1, " * 400 + "]")
    assert found is not None
    assert len(found.lead) == 64
    assert found.scored


def test_what_is_scored_comes_last_and_something_always_stands_before_it() -> None:
    plain, chat = text_of(PlainEvaluator(), CODE), text_of(ChatEvaluator(), CODE)
    assert plain is not None
    assert chat is not None
    ids, scored = ENCODER.score(plain)
    assert (len(ids), scored) == (len(CODE) + 1, len(CODE))
    assert ids[0] == byte_tokenizer().eos_token_id
    ids, scored = ENCODER.score(chat)
    decoded = byte_tokenizer().decode(ids)
    assert decoded.endswith(f"<|im_start|>assistant\n{chat.lead}{chat.scored}")
    assert byte_tokenizer().decode(ids[-scored:]) == chat.scored
