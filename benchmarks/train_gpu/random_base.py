"""A base model of a true shape with random weights, quantised layer by layer as the product loads them."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.auto import AutoHfQuantizer

from codelupe_trainer.child.models import nf4
from codelupe_trainer.plan.model_shape import ModelShape

_SPREAD = 0.02
"""Standard deviation of the weights, that of Qwen's ``initializer_range``."""


def random_base(shape: ModelShape, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """No more than one weight is there unquantised at a time: 14 billion take their 4 bits and little else."""
    config = CONFIG_MAPPING[shape.architecture](**shape.to_config())
    quantisation = nf4(dtype)
    made: Any = AutoModelForCausalLM
    with torch.device("meta"):
        network = made.from_config(config, dtype=dtype, attn_implementation="sdpa")
    replace_with_bnb_linear(network, ["lm_head"], quantisation)
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, _filled(module, name, parameter, device, dtype))
    rotary = network.model.rotary_emb
    network.model.rotary_emb = type(rotary)(config=config).to(device)
    network.tie_weights()
    network.config.quantization_config = quantisation
    network.is_quantized = network.is_loaded_in_4bit = True
    network.quantization_method = quantisation.quant_method
    network.hf_quantizer = AutoHfQuantizer.from_config(quantisation)
    model: PreTrainedModel = network
    return model


def stand_in_tokenizer() -> Any:
    """The samples are tokens already; a trainer only asks what it pads with."""
    made: Any = PreTrainedTokenizerFast
    words = Tokenizer(WordLevel({"padding": 0, "end": 1}, unk_token="padding"))  # noqa: S106 - no password
    return made(tokenizer_object=words, pad_token="padding", eos_token="end")  # noqa: S106


def _filled(
    module: torch.nn.Module, name: str, parameter: torch.nn.Parameter, device: torch.device, dtype: torch.dtype
) -> torch.nn.Parameter:
    if isinstance(module, Linear4bit) and name == "weight":
        values = torch.empty((module.out_features, module.in_features), dtype=dtype, device=device)
        given: Any = module.weight
        quantised: Any = Params4bit(
            values.normal_(std=_SPREAD),
            requires_grad=False,
            compress_statistics=given.compress_statistics,
            quant_type=given.quant_type,
            quant_storage=given.quant_storage,
            module=module,
        )
        weight: torch.nn.Parameter = quantised.to(device)
        return weight
    values = torch.empty(parameter.shape, dtype=dtype, device=device)
    is_norm = parameter.dim() == 1 and name == "weight"
    filled = values.fill_(1) if is_norm else values.normal_(std=_SPREAD)
    return torch.nn.Parameter(filled, requires_grad=False)
