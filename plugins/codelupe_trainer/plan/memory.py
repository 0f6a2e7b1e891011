"""The memory of a training by part, computed from its shape.

The formulas follow the tensors that transformers' layers, peft's LoRA, bitsandbytes' 4-bit linear and TRL's fused head
keep; :mod:`codelupe_trainer.plan.trace` runs just these and counts, and the tests hold both against one another.

In the formulas, a layer has H hidden and I intermediate features, Q those of its query heads and K those of its key
heads; T tokens pass through it at a time; a number that is computed with has c bytes. What is below a thousandth of the
whole, such as the position embeddings, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from codelupe_trainer.plan.model_shape import ModelShape

GIB = 2**30
CONTEXT = round(0.8 * GIB)
"""What CUDA's context, cuBLAS and the kernels take beside all tensors: 0.5 to 0.8 GiB on today's cards."""

FloatType = Literal["float32", "bfloat16"]
_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2}

_NF4_BLOCK = 64
"""Weights that share a scale of 8 bits (QLoRA, 2023)."""
_SCALE_BLOCK = 256
"""Scales that share one in float32, by double quantisation; and optimiser states that share one, in bitsandbytes."""
_LEAST_IN_8_BITS = 4096
"""bitsandbytes keeps the states of smaller matrices in float32."""
_HEAD_TOKENS, _HEAD_COLUMNS = 4096, 32768
"""TRL's fused head computes the logits of so many tokens and vocabulary entries at a time (``chunked_logprob.py``)."""


@dataclass(frozen=True, kw_only=True)
class TrainingShape:
    """All that decides how much memory the training of an adapter takes, but for the model."""

    micro_batch: int = 1
    """Rows that pass through the model at a time."""
    row_tokens: int = 4096
    rank: int = 256
    adapter_dtype: FloatType = "bfloat16"
    compute_dtype: FloatType = "bfloat16"
    """What is computed with: bfloat16 on a card, under autocast; float32 on a CPU."""
    dropout: bool = False
    """Whether the adapter's inputs are dropped now and then, by whatever share: each projection then keeps its own."""
    quantised: bool = True
    """Whether the linear layers' weights are NF4 with double quantisation."""
    checkpointing: bool = True
    """Whether only the layers' inputs are kept, and the rest is computed again in the backward pass."""
    optimizer: Literal["adamw_8bit", "adamw"] = "adamw_8bit"
    attention: Literal["sdpa", "varlen"] = "sdpa"
    """sdpa gets a mask for packed rows, and keys and values repeated for all query heads; varlen needs neither."""
    head: Literal["triton", "torch"] = "triton"
    """TRL's fused head: by its Triton kernels, as on a card, or without them."""
    processes: int = 1
    """Processes that train together, each on a card of its own: the memory is that of one."""
    cast_cache: bool = False
    """Whether autocast keeps its bfloat16 copies of float32 adapters until the forward pass is over. torch's default,
    and without use here: no weight is read twice in a pass."""

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model at a time."""
        return self.micro_batch * self.row_tokens

    @property
    def casts_adapter(self) -> bool:
        """Whether autocast turns the adapter's float32 into bfloat16 wherever it is used."""
        return self.adapter_dtype != self.compute_dtype


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by part. The first seven are there all the time, the others at one moment or another of a step."""

    weights: int
    """The linear layers, quantised or not, with norms and biases."""
    embeddings: int
    """Embedding table and head."""
    adapters: int
    gradients: int
    buckets: int = 0
    """The gradients once more, in the form in which DDP exchanges them."""
    optimizer: int
    """The optimiser's states."""
    context: int
    """What the framework takes beside all tensors."""

    checkpoints: int
    """The layers' inputs and the mask; without checkpointing, all activations that the backward pass needs."""
    forward: int
    """The last layer's or the head's forward pass, with autocast's copies of the adapter if it keeps them."""
    layer: int
    """One layer, computed again, and the gradients in it."""
    dequantised: int
    """The largest weight, dequantised."""
    loss: int
    """A tile of logits, and what the head keeps for its backward pass."""
    update: int
    """What the optimiser's step takes for itself, when the backward pass is over."""

    @property
    def always(self) -> dict[str, int]:
        """The parts that are there all the time."""
        return {
            "weights": self.weights,
            "embeddings and head": self.embeddings,
            "adapter": self.adapters,
            "gradients": self.gradients,
            **({"gradients of DDP": self.buckets} if self.buckets else {}),
            "optimiser states": self.optimizer,
            "framework and context": self.context,
        }

    @property
    def moments(self) -> dict[str, dict[str, int]]:
        """The parts that are there at one moment of a step only."""
        kept = {"activations kept for backward": self.checkpoints}
        return {
            "forward pass": kept | {"a layer or the head, forward": self.forward},
            "loss": kept | {"logits and loss": self.loss},
            "backward pass of a layer": kept
            | {"one layer, backward": self.layer, "dequantised weight": self.dequantised},
            "optimiser step": {"what the optimiser takes for it": self.update},
        }

    @property
    def resident(self) -> int:
        """What is there all the time."""
        return sum(self.always.values())

    @property
    def peak_at(self) -> str:
        """The moment that takes most."""
        moments = self.moments
        return max(moments, key=lambda name: sum(moments[name].values()))

    @property
    def at_peak(self) -> dict[str, int]:
        """The parts that are there at that moment."""
        return self.always | self.moments[self.peak_at]

    @property
    def peak(self) -> int:
        """The most that is there at a time."""
        return sum(self.at_peak.values())

    @property
    def tensors(self) -> int:
        """The same without the framework: what a trace counts."""
        return self.peak - self.context


def memory_of(model: ModelShape, shape: TrainingShape) -> Memory:
    """The memory that training ``model`` in this ``shape`` takes, by part."""
    kept = _kept_by_layer(model, shape)
    inputs = model.layers * shape.tokens * model.hidden * _BYTES[shape.compute_dtype]
    kept_by_layers = inputs if shape.checkpointing else model.layers * kept
    adapters = model.adapter_parameters(shape.rank) * _BYTES[shape.adapter_dtype]
    dequantised = _dequantised(model, shape)
    return Memory(
        weights=_weights(model, shape),
        embeddings=(model.embedding_parameters + model.head_parameters) * _BYTES[shape.compute_dtype],
        adapters=adapters,
        gradients=adapters,
        buckets=adapters if shape.processes > 1 else 0,
        optimizer=optimizer_states(model, shape),
        context=CONTEXT,
        checkpoints=kept_by_layers + _mask(shape),
        forward=max(_forward_of_layer(model, shape), _head_forward(model, shape)) + _cached_casts(model, shape),
        layer=(kept if shape.checkpointing else 0) + _backward_of_layer(model, shape, dequantised),
        dequantised=dequantised,
        loss=_head_backward(model, shape),
        # torch's AdamW takes the roots of all second moments at a time; bitsandbytes' works in place.
        update=adapters if shape.optimizer == "adamw" else 0,
    )


def optimizer_states(model: ModelShape, shape: TrainingShape) -> int:
    """AdamW's two moments: of the adapter's type in torch, of 8 bits and a float32 scale a block in bitsandbytes."""
    if shape.optimizer == "adamw":
        return 2 * model.adapter_parameters(shape.rank) * _BYTES[shape.adapter_dtype]
    return model.layers * sum(
        2 * (size + 4 * -(-size // _SCALE_BLOCK)) if size >= _LEAST_IN_8_BITS else 2 * 4 * size
        for size in model.adapter_matrices(shape.rank)
    )


def nf4_bytes(weights: int) -> int:
    """Four bits a weight, eight a block of 64 for its scale, and 32 a block of 256 of these."""
    scales = -(-weights // _NF4_BLOCK)
    return -(-weights // 2) + scales + 4 * -(-scales // _SCALE_BLOCK)


def usable(total: int) -> int:
    """What a card lets processes have of ``total`` bytes: 31.3 of the 32 GiB that it is sold with."""
    return round(total * 31.3 / 32)


def _weights(model: ModelShape, shape: TrainingShape) -> int:
    c = _BYTES[shape.compute_dtype]
    linears = nf4_bytes(model.linear_parameters) if shape.quantised else model.linear_parameters * c
    return linears + (model.norm_parameters + model.bias_parameters) * c


def _kept_by_layer(model: ModelShape, shape: TrainingShape) -> int:
    """What one layer keeps for its backward pass, beside its input if that is a checkpoint."""
    c = _BYTES[shape.compute_dtype]
    per_token = (
        _kept_by_norms(model, shape)
        + _kept_by_attention(model, shape)
        + _kept_by_adapter(model, shape)
        # Of the MLP: what gate_proj and up_proj give, and the gate's activation.
        + 3 * model.intermediate * c
    )
    casts = sum(model.adapter_matrices(shape.rank)) * c if shape.casts_adapter else 0
    return shape.tokens * per_token + _mask(shape) * c + casts


def _kept_by_norms(model: ModelShape, shape: TrainingShape) -> int:
    """RMSNorm computes in float32 and keeps its input so, which may be the layer's."""
    inputs = 4 * model.hidden
    qk = 4 * (model.query_width + model.kv_width) if model.has_qk_norm else 0
    layer_input_is_kept = shape.checkpointing and shape.compute_dtype == "float32"
    return inputs * (1 if layer_input_is_kept else 2) + qk


def _kept_by_attention(model: ModelShape, shape: TrainingShape) -> int:
    """Queries, keys, values, the output, and the logarithm of each row's sum in float32 (FlashAttention, 2022)."""
    kv = model.kv_width if shape.attention == "varlen" else model.query_width
    return 2 * (model.query_width + kv) * _BYTES[shape.compute_dtype] + 4 * model.heads


def _kept_by_adapter(model: ModelShape, shape: TrainingShape) -> int:
    """What enters each of LoRA's matrices.

    Several projections read one input; with dropout, or a cast, each keeps a copy, and with dropout a mask of one byte.
    Attention's output is kept already.
    """
    c = _BYTES[shape.compute_dtype]
    inputs = [wide for wide, _ in model.projections.values()]
    through = len(inputs) * shape.rank * c
    if shape.dropout:
        return sum(inputs) * (c + 1) + through
    if shape.casts_adapter and not shape.quantised:
        return sum(inputs) * c + through
    return (2 * model.hidden + model.intermediate) * c + through


def _mask(shape: TrainingShape) -> int:
    """The mask of sdpa in bytes, a square a row. Each layer makes numbers of it, to add to the attention's logits."""
    return 0 if shape.attention == "varlen" else shape.micro_batch * shape.row_tokens**2


def _dequantised(model: ModelShape, shape: TrainingShape) -> int:
    if not shape.quantised:
        return 0
    largest = max(wide * high for wide, high in model.projections.values())
    return largest * _BYTES[shape.compute_dtype] + largest // _NF4_BLOCK * 4


def _backward_of_layer(model: ModelShape, shape: TrainingShape, dequantised: int) -> int:
    """The backward pass of down_proj, where a layer's peak is.

    Its input's gradient comes once from the base's weight and once from the adapter, and their sum is a third: 3 I,
    less the adapter's input that is freed by then. Before the sum there is the dequantised weight in its place. Beside
    them wait the gradients of the layer's output and, for the skip connection, of the MLP's.
    """
    inner = shape.tokens * model.intermediate * _BYTES[shape.compute_dtype]
    gradients = 2 * shape.tokens * model.hidden * _BYTES[shape.compute_dtype]
    return gradients + inner + max(0, inner - dequantised)


def _forward_of_layer(model: ModelShape, shape: TrainingShape) -> int:
    """The forward pass of up_proj: the gate, the base's and the adapter's output, and this scaled: 4 I."""
    c = _BYTES[shape.compute_dtype]
    return shape.tokens * (4 * model.intermediate + 2 * model.hidden) * c


def _cached_casts(model: ModelShape, shape: TrainingShape) -> int:
    if not (shape.casts_adapter and shape.cast_cache):
        return 0
    return model.adapter_parameters(shape.rank) * _BYTES[shape.compute_dtype]


def _head_forward(model: ModelShape, shape: TrainingShape) -> int:
    """What the last norm keeps in float32 and gives, those of its rows that have a label, and the tile."""
    c = _BYTES[shape.compute_dtype]
    return shape.tokens * model.hidden * (4 + 2 * c) + _tile(shape) * c


def _head_backward(model: ModelShape, shape: TrainingShape) -> int:
    """The same, and the gradient in float32. Without Triton a tile takes seven more of float32, and one of bytes."""
    columns = min(model.vocabulary, _HEAD_COLUMNS)
    in_torch = _tile(shape) * columns // _HEAD_COLUMNS * (7 * 4 + 1) if shape.head == "torch" else 0
    return _head_forward(model, shape) + 4 * shape.tokens * model.hidden + in_torch


def _tile(shape: TrainingShape) -> int:
    return min(shape.tokens, _HEAD_TOKENS) * _HEAD_COLUMNS
