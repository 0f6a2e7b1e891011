"""What a model that is being trained would write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from codelupe_trainer.child.models import Tokenizer
from codelupe_trainer.child.rows import Example
from codelupe_trainer.child.stop import StopRequest

_TOKENS = 64


def predict(
    model: Any, tokenizer: Tokenizer, examples: Sequence[Example], stop: StopRequest
) -> Iterator[tuple[str, str, str]]:
    """Prompt, what its author wrote, and how the model goes on, of 64 tokens at most, each the likeliest.

    It ends early when it is to stop. Training goes on as if this had not happened: nothing random is drawn, and no
    weight, gradient or mode is changed.
    """
    with _inference(model):
        for example in examples:
            continuation = _continue(model, tokenizer, example.prompt, stop)
            if stop:
                return
            texts = (example.prompt, example.answer[:_TOKENS], continuation)
            prompt, answer, written = (tokenizer.decode(ids) for ids in texts)
            yield prompt, answer, written


@contextmanager
def _inference(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _continue(model: Any, tokenizer: Tokenizer, prompt: list[int], stop: StopRequest) -> list[int]:
    def is_over(ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return torch.full((len(ids),), bool(stop), device=ids.device)

    ids = torch.tensor([prompt], device=model.device)
    generated = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=_TOKENS,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        stopping_criteria=[is_over],
    )
    written: list[int] = generated[0, len(prompt) :].tolist()
    return written
