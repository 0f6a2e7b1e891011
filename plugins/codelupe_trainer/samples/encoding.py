"""The one place where a sample becomes tokens: for training, for the gate, and for trying a model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from codelupe import Problem, Sample, ScoredText

IGNORED = -100
"""The label of a token from which nothing is learned (torch's cross-entropy passes it over)."""

_TEXT_END = "<|endoftext|>"


class UnfitBase(Exception):
    """The base model cannot be trained on these samples, however often it is tried; the message says why."""


@dataclass(frozen=True)
class Encoded:
    """A sample's tokens, and as many labels: those of the answer, and :data:`IGNORED` for those of the prompt."""

    ids: list[int]
    labels: list[int]

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(label != IGNORED for label in self.labels)


class Encoder:
    """Makes a base's tokens. Prompt and answer are tokenised apart, as they are when a model is asked.

    ``stops`` are the tokens at which the base's generation stops. ``system`` is the chat's first line; if it is empty,
    the template's own stands.

    Raises:
        UnfitBase: the base has no chat template, or its generation does not stop at the end of a turn.
    """

    def __init__(self, tokenizer: Any, stops: Collection[int], system: str = "") -> None:
        self._tokenizer = tokenizer
        self._stops = frozenset(stops)
        self._system = [{"role": "system", "content": system}] if system else []
        if tokenizer.chat_template is None:
            raise UnfitBase("the base model has no chat template; choose one that is tuned to follow instructions")
        self._turn_end = self._end_of_turn()

    @cached_property
    def control_tokens(self) -> frozenset[str]:
        """Texts that speak to the model in place of its user."""
        return frozenset(self._tokenizer.get_added_vocab())

    @cached_property
    def overhead(self) -> int:
        """Tokens that the chat template and the end marker take beside prompt and answer."""
        return len(self._chat("")) + 1

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        return [len(ids) for ids in self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def prompt(self, sample: Sample | ScoredText | Problem) -> list[int]:
        """What stands before the answer."""
        return self._chat(sample.prompt) if sample.form == "chat" else self._ids(sample.prompt)

    def score(self, text: ScoredText) -> tuple[list[int], int]:
        """The tokens of a text, and how many of them, the last ones, are to be scored.

        Where nothing stands before these, a model is told that a text begins, by the token that its tokenizer has for
        it: the beginning or, without one, the end of a text (as in EleutherAI's evaluation harness).
        """
        before = self.prompt(text) + self._ids(text.lead)
        if not before:
            begin = self._tokenizer.bos_token_id
            before = [self._tokenizer.eos_token_id if begin is None else begin]
        scored = self._ids(text.scored)
        return before + scored, len(scored)

    def encode(self, sample: Sample, max_length: int) -> Encoded | None:
        """The whole sample; an answer that is too long loses its end. None if there is no room for an answer."""
        prompt, answer = self.prompt(sample), self._ids(sample.answer)
        if sample.ends:
            answer.append(self._end(sample))
        room = max_length - len(prompt)
        if room < 1 or not answer:
            return None
        answer = answer[:room]
        return Encoded(prompt + answer, [IGNORED] * len(prompt) + answer)

    def _end(self, sample: Sample) -> int:
        if sample.form == "chat":
            return self._turn_end
        end: int | None = self._tokenizer.convert_tokens_to_ids(_TEXT_END)
        if end is None or end not in self._stops:
            raise UnfitBase(f"samples in text form end with {_TEXT_END}, where the base's generation does not stop")
        return end

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _chat(self, prompt: str) -> list[int]:
        messages = [*self._system, {"role": "user", "content": prompt}]
        return self._ids(self._render(messages, add_generation_prompt=True))

    def _render(self, messages: Sequence[dict[str, str]], **options: bool) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
        except TemplateError as error:
            raise UnfitBase(f"the base's chat template does not take a system line and a question: {error}") from error
        return text

    def _end_of_turn(self) -> int:
        """What the template writes behind an answer."""
        answer = "answer"
        messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
        behind = self._ids(self._render(messages).rpartition(answer)[2])
        if not behind or behind[0] not in self._stops:
            marker = self._tokenizer.decode(behind[:1])
            raise UnfitBase(
                f"the base's generation does not stop at {marker!r}, which ends a turn of its chat template: its "
                "answers would never end; choose a base that is tuned to follow instructions"
            )
        return behind[0]
