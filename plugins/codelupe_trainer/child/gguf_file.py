"""Writes a model as a GGUF file, which llama.cpp and what is built on it read.

What the parts are called is the gguf library's knowledge; how values go into them follows llama.cpp's
``convert_hf_to_gguf.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split
from transformers import PreTrainedModel

from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.models import Tokenizer
from codelupe_trainer.jobs import GgufType

_ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}
"""By the model type of transformers."""
_TYPES = {
    GgufType.f16: (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    GgufType.bf16: (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    GgufType.q8_0: (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
QWEN2_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "gpt-2": ByteLevel(add_prefix_space=False),
    "smollm": Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]),
    "qwen2": Sequence(
        [Split(Regex(QWEN2_PIECES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)],
    ),
}
"""What llama.cpp's names stand for (``unicode_regex_split`` in its ``llama-vocab.cpp``)."""
_TELLING = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n(normal) 3 33 333 3333 33333  3.3 3..3 a1b22 =======  ```````"
    " \"\"\"\"......!!!!!!?????? \u043d\u0435\u0449\u043e I've been 'told he's there, 'RE you sure? We'Ve a'lL\r\n\tx"
)
"""Text that pre-tokenizers divide in different ways; llama.cpp's converter tells them apart by such a one."""


def write_gguf(model: PreTrainedModel, tokenizer: Tokenizer, to: Path, name: str, type_: GgufType) -> None:
    """Write model and tokenizer; matrices are of the type, vectors stay in 32 bits.

    Raises:
        Unusable: GGUF has no form for such a model or tokenizer, or this module none to write it.
    """
    architecture = _architecture(model)
    quantisation, file_type = _TYPES[type_]
    writer = gguf.GGUFWriter(to, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_hyperparameters(writer, model.config)
    _add_tokenizer(writer, tokenizer, model.config.vocab_size)
    tensors = list(_tensors(model, architecture, quantisation))
    for tensor in tensors:
        stored = gguf.quant_shape_to_byte_shape(tensor.values.shape, tensor.kind)
        writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8), math.prod(stored), tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.encode())
    writer.close()


def _architecture(model: PreTrainedModel) -> gguf.MODEL_ARCH:
    config: Any = model.config
    architecture = _ARCHITECTURES.get(config.model_type)
    if architecture is None:
        known = " and ".join(_ARCHITECTURES)
        raise Unusable(f"models of the type {config.model_type} cannot be written as GGUF, only {known}")
    rope_type = config.rope_parameters["rope_type"]
    if rope_type != "default":
        raise Unusable(f"a model whose positions are scaled ({rope_type}) cannot be written as GGUF")
    if getattr(config, "use_sliding_window", False):
        raise Unusable("a model with sliding-window attention cannot be written as GGUF")
    return architecture


def _add_hyperparameters(writer: gguf.GGUFWriter, config: Any) -> None:
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


# --- the tokenizer ---


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, size: int) -> None:
    texts, types = _tokens(tokenizer, size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer_name(tokenizer))
    writer.add_token_list(texts)
    writer.add_token_types(types)
    special = gguf.SpecialVocab(tokenizer.name_or_path, load_merges=True)
    special.add_special_token["bos"] = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    special.add_to_gguf(writer, quiet=True)


def _tokens(tokenizer: Tokenizer, size: int) -> tuple[list[str], list[gguf.TokenType]]:
    """All tokens in order with their kinds. A model may have rows for more than there are, to make its size even."""
    by_id = {id_: text for text, id_ in tokenizer.get_vocab().items()}
    if max(by_id) >= size:
        raise Unusable(f"the tokenizer has {max(by_id) + 1:,} tokens and the model knows only {size:,}")
    added = tokenizer.added_tokens_decoder
    texts, types = [], []
    for id_ in range(size):
        texts.append(by_id.get(id_, f"[PAD{id_}]"))
        if id_ not in by_id:
            types.append(gguf.TokenType.UNUSED)
        elif id_ in added:
            types.append(gguf.TokenType.CONTROL if added[id_].special else gguf.TokenType.USER_DEFINED)
        else:
            types.append(gguf.TokenType.NORMAL)
    return texts, types


def _pre_tokenizer_name(tokenizer: Tokenizer) -> str:
    """The name by which llama.cpp knows how text is divided before it is encoded, found by what is done to a text."""
    backend = tokenizer.backend_tokenizer
    found = backend.pre_tokenizer and [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(_TELLING)]
    for name, known in _PRE_TOKENIZERS.items():
        if found == [piece for piece, _ in known.pre_tokenize_str(_TELLING)]:
            return name
    known_names = ", ".join(_PRE_TOKENIZERS)
    raise Unusable(f"the tokenizer divides text in none of the ways that can be written as GGUF ({known_names})")


# --- the weights ---


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    name: str
    values: torch.Tensor
    kind: gguf.GGMLQuantizationType
    interleaved_heads: int | None
    """Of queries and keys of a Llama, whose rows are interleaved: transformers rotates the first half of a head
    against the second, llama.cpp each even row against the odd one after it (``LlamaModel.permute`` in its converter).
    """

    def encode(self) -> np.ndarray[Any, Any]:
        values = self.values.detach().float().cpu()
        if self.interleaved_heads is not None:
            rows, *columns = values.shape
            halves = values.reshape(self.interleaved_heads, 2, rows // self.interleaved_heads // 2, *columns)
            values = halves.swapaxes(1, 2).reshape(values.shape)
        encoded: np.ndarray[Any, Any] = gguf.quants.quantize(values.numpy(), self.kind)
        return encoded


def _tensors(
    model: PreTrainedModel, architecture: gguf.MODEL_ARCH, matrices: gguf.GGMLQuantizationType
) -> Iterator[_Tensor]:
    """All but what is tied to another."""
    config: Any = model.config
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    is_llama = architecture == gguf.MODEL_ARCH.LLAMA
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads} if is_llama else {}
    for name, values in model.named_parameters():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise Unusable(f"GGUF has no name for {name}")
        kind = matrices if values.ndim > 1 else gguf.GGMLQuantizationType.F32
        if values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = gguf.GGMLQuantizationType.F16
        yield _Tensor(name=known, values=values, kind=kind, interleaved_heads=heads.get(name.split(".")[-2]))
