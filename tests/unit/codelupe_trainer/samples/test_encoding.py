from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe import Sample
from codelupe_trainer.samples.encoding import IGNORED, Encoder, UnfitBase
from tests.training import CHATML, CONTROL_TOKENS, byte_tokenizer
from tests.unit.codelupe_trainer.samples.test_windows import texts

TOKENIZER = byte_tokenizer()
TEXT_END, _, TURN_END = TOKENIZER.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
QWEN = Encoder(TOKENIZER, [TEXT_END, TURN_END], "You are a test.")


def sample(prompt: str = "question", answer: str = "answer", **fields: object) -> Sample:
    values = {"prompt": prompt, "answer": answer, "form": "chat", "ends": True, "is_cut": False}
    return Sample(**(values | fields))  # type: ignore[arg-type]


@given(texts, texts, st.sampled_from(["chat", "text"]), st.booleans())
def test_training_begins_with_the_tokens_of_generation(prompt: str, answer: str, form: str, ends: bool) -> None:
    asked = sample(prompt, answer or "x", form=form, ends=ends)
    encoded = QWEN.encode(asked, 10_000)
    assert encoded is not None
    begin = QWEN.prompt(asked)
    assert encoded.ids[: len(begin)] == begin
    assert encoded.labels[: len(begin)] == [IGNORED] * len(begin)
    assert encoded.labels[len(begin) :] == encoded.ids[len(begin) :]
    learned = TOKENIZER.decode(encoded.ids[len(begin) :])
    assert learned == asked.answer + ({"chat": "<|im_end|>", "text": "<|endoftext|>"}[form] if ends else "")
    assert len(encoded.ids) == len(encoded.labels) == len(begin) + encoded.learned


def test_a_chat_has_the_system_line_and_ends_without_the_templates_newline() -> None:
    encoded = QWEN.encode(sample(), 10_000)
    assert encoded is not None
    assert TOKENIZER.decode(encoded.ids) == (
        "<|im_start|>system\nYou are a test.<|im_end|>\n<|im_start|>user\nquestion<|im_end|>\n<|im_start|>assistant\n"
        "answer<|im_end|>"
    )
    assert QWEN.overhead == len(encoded.ids) - len("question") - len("answer")


def test_an_answer_that_is_too_long_loses_its_end_and_the_marker() -> None:
    whole = QWEN.encode(sample(), 10_000)
    assert whole is not None
    for missing in range(1, 7):
        cut = QWEN.encode(sample(), len(whole.ids) - missing)
        assert cut is not None
        assert cut.ids == whole.ids[:-missing]
        assert TURN_END not in cut.ids[-3:]
    assert QWEN.encode(sample(), len(whole.ids) - 7) is None


def test_a_base_that_does_not_stop_at_the_end_of_a_turn_is_refused() -> None:
    """axolotl#2073, unsloth#3721: Qwen's base models never end an answer."""
    with pytest.raises(UnfitBase, match=r"does not stop at '<\|im_end\|>', which ends a turn of its chat template"):
        Encoder(TOKENIZER, [TEXT_END])


def test_a_base_that_does_not_stop_at_the_end_of_a_text_cannot_learn_texts() -> None:
    encoder = Encoder(TOKENIZER, [TURN_END])
    assert encoder.encode(sample(form="text", ends=False), 100) is not None
    with pytest.raises(UnfitBase, match=r"end with <\|endoftext\|>, where the base's generation does not stop"):
        encoder.encode(sample(form="text"), 100)


def test_a_base_without_a_chat_template_is_refused() -> None:
    with pytest.raises(UnfitBase, match="has no chat template"):
        Encoder(byte_tokenizer(CONTROL_TOKENS, None), [TURN_END])


def test_a_template_that_takes_no_system_line_is_refused() -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system line') }}{% endif %}" + CHATML
    with pytest.raises(UnfitBase, match="no system line"):
        Encoder(byte_tokenizer(CONTROL_TOKENS, strict), [TURN_END], "You are a test.").prompt(sample())
