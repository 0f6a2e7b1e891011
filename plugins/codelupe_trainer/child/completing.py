"""Lets a model go on from the beginning of a file."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch
from peft import PeftModel

from codelupe import Sample
from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.models import identify, load_encoder, load_model, load_tokenizer, prepare, require_base
from codelupe_trainer.jobs import Activity, CompleteJob, Completion, OnReport
from codelupe_trainer.samples.completion import INSTRUCTIONS
from codelupe_trainer.samples.encoding import Encoder


def complete(job: CompleteJob, on_report: OnReport) -> Completion:
    """What the model writes after the job's text, each token the likeliest.

    Raises:
        Unusable: the text leaves no room, or the base is another than the model's.
    """
    base = prepare(job.settings, job.bases, on_report)
    tokenizer = load_tokenizer(base)
    if job.adapter is not None:
        require_base(identify(base, job.settings), job.trained_on, job.adapter.name)
    ids = _prompt(job, load_encoder(base, tokenizer, job.settings))
    on_report(Activity(what="loading the model"))
    model: Any = load_model(base, job.settings)
    if job.adapter is not None:
        model = PeftModel.from_pretrained(model, job.adapter)
    on_report(Activity(what="generating"))
    began = time.monotonic()
    with torch.inference_mode():
        generated = model.eval().generate(
            input_ids=torch.tensor([ids], device=model.device),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=model.device),
            max_new_tokens=job.tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    written = generated[0, len(ids) :].tolist()
    return Completion(
        text=tokenizer.decode(written, skip_special_tokens=True),
        prompt_tokens=len(ids),
        tokens=len(written),
        ended=written[-1] == tokenizer.eos_token_id,
        seconds=time.monotonic() - began,
    )


def _prompt(job: CompleteJob, encoder: Encoder) -> list[int]:
    """The question as in training, with as many of the last lines as leave room for the answer."""
    instruction = INSTRUCTIONS[0].format(language=job.language or "source")
    lines = job.context.strip("\n").split("\n")
    sizes = encoder.count_tokens([f"{instruction}\n\n", *(f"{line}\n" for line in lines)])
    room = job.settings.max_length - encoder.overhead - job.tokens - sizes[0]
    fitting = sum(size <= room for size in itertools.accumulate(reversed(sizes[1:])))
    if not fitting:
        raise Unusable(
            f"the last line and {job.tokens:,} tokens more do not fit into {job.settings.max_length:,} tokens"
        )
    context = "\n".join(lines[-fitting:])
    sample = Sample(prompt=f"{instruction}\n\n{context}", answer="", form="chat", ends=False, is_cut=False)
    return encoder.prompt(sample)
