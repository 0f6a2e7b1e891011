"""Base models and their tokenizers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from codelupe import atomic_folder
from codelupe_trainer.base_models import packaged_gguf
from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.locks import exclusive
from codelupe_trainer.jobs import Activity, OnReport
from codelupe_trainer.samples import SampleMaker
from codelupe_trainer.settings import TrainerSettings

Tokenizer = Any
"""Transformers' own tokenizer classes share no useful type."""

_BOUNDARY_TOKENS = 8
"""Room for what joining lines and template costs beyond the sum of its parts."""


def prepare(settings: TrainerSettings, bases: Path, on_report: OnReport) -> str:
    """Set the threads; return where the base model is: a folder or a hub id. A packaged one is converted once."""
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    gguf = packaged_gguf(settings.base)
    if gguf is None:
        return settings.base
    folder = bases / gguf.stem
    with exclusive(bases / ".lock"):
        if not folder.exists():
            on_report(Activity(what="converting the base model"))
            _convert(gguf, folder)
    return str(folder)


def load_model(base: str) -> PreTrainedModel:
    """The base model on the GPU in bfloat16, or on the CPU in float32. Quantisation belongs here."""
    on_gpu = torch.cuda.is_available()
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=torch.bfloat16 if on_gpu else torch.float32,
        device_map={"": 0} if on_gpu else None,
        attn_implementation="sdpa",
    )
    return model


def load_tokenizer(base: str) -> Tokenizer:
    """The base's tokenizer, able to pad.

    Raises:
        Unusable: it has no chat template.
    """
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.chat_template is None:
        raise Unusable(f"the base model {base} has no chat template; choose one that is tuned to follow instructions")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def sample_maker(tokenizer: Tokenizer, max_length: int) -> SampleMaker:
    """Makes samples that fit ``max_length`` with the chat template around them."""

    def count_tokens(texts: Any) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    empty = [{"role": "user", "content": "\n\n"}, {"role": "assistant", "content": ""}]
    [template] = count_tokens([tokenizer.apply_chat_template(empty, tokenize=False)])
    return SampleMaker(count_tokens, max_length - template - _BOUNDARY_TOKENS, tokenizer.get_added_vocab())


def _convert(gguf: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    with atomic_folder(folder) as unfinished:
        model.save_pretrained(unfinished)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(unfinished)
