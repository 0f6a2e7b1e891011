"""Merges adapters into the models they were trained beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.quantizers.base import get_keys_to_not_convert

from codelupe_trainer.child.errors import Unusable

Form = Literal["original", "dequantised"]
"""Of a base: its own weights, or these after they were in NF4."""


def merge(base: str, adapter: Path, form: Form) -> PreTrainedModel:
    """The base with the adapter in its weights, in the base's own type, on the CPU.

    A base in four bits would lose most of what the adapter adds (peft#2321, transformers#31293), so one that is stored
    like that is refused.

    Raises:
        Unusable: the base is stored quantised, or the adapter's values are no numbers.
    """
    if getattr(AutoConfig.from_pretrained(base), "quantization_config", None) is not None:
        raise Unusable(f"the base model {base} is stored quantised; name the one that it was made of as the base")
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", attn_implementation="sdpa")
    if form == "dequantised":
        pass_through_nf4(model)
    try:
        merged: Any = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise Unusable(f"{adapter} cannot be merged into {base}: {error}") from error
    kept: PreTrainedModel = merged.eval()
    return kept


def pass_through_nf4(model: PreTrainedModel) -> None:
    """Give each layer that NF4 would hold the weights that it would compute with."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    left_out = set(get_keys_to_not_convert(model))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name not in left_out:
            weight = module.weight.data
            in_nf4 = quantize_4bit(weight.to(device), compress_statistics=True, quant_type="nf4")
            module.weight.data = dequantize_4bit(*in_nf4).to(weight)
