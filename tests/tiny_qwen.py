"""A random Qwen2 of two layers, wide enough that bitsandbytes keeps its 8-bit optimiser's states in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from tests.training import byte_tokenizer

HIDDEN_SIZE = 512
"""With rank 16 and above, each matrix of an adapter has the 4,096 elements below which states stay in float32."""


def make_tiny_qwen(folder: Path, *, broken_token: int | None = None) -> Path:
    """Write configuration, weights, and a tokenizer whose tokens are bytes; about 25 MB.

    The weights are the same each time. ``broken_token`` gets an embedding that is no number.
    """
    tokenizer = byte_tokenizer()
    config: Any = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=2 * HIDDEN_SIZE,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = Qwen2ForCausalLM(config)
    if broken_token is not None:
        model.get_input_embeddings().weight.data[broken_token] = torch.nan
    stops = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    generation: Any = GenerationConfig
    model.generation_config = generation(eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
