"""``python -m codelupe_trainer.plan.trace``: runs a training's true shape without its numbers, and counts its memory.

Reads models and shapes as JSON on standard input and writes a :class:`~codelupe_trainer.plan.tracing.Traced` of each on
standard output. The layers are transformers', the adapters peft's, the head TRL's; all tensors are torch's FakeTensors,
which have a size and no content. What needs a card has a stand-in: the dequantising linear of bitsandbytes, Triton's
kernels, CUDA's dropout, FlashAttention.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import trl.kernels.chunked_logprob as trl_head
import trl.trainer.utils as trl_utils
from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CONFIG_MAPPING, AttentionInterface, AutoModelForCausalLM

from codelupe_trainer.plan.memory import TrainingShape, optimizer_states
from codelupe_trainer.plan.model_shape import ModelShape

_NF4_BLOCK, _SCALE_BLOCK = 64, 256


def main() -> None:
    """Answer the requests on standard input."""
    requests = json.load(sys.stdin)
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    traced = [trace(ModelShape(**one["model"]), TrainingShape(**one["shape"])) for one in requests]
    with answer:
        json.dump(traced, answer)


def trace(model: ModelShape, shape: TrainingShape) -> dict[str, int]:
    """Bytes that are there all the time, and at the most in the forward and in the backward pass of a micro-batch.

    It is not the first one of its step, so that the gradients are there. The optimiser's states are added.
    """
    with _as_on_card(shape):
        network = _network(model, shape)
        with FakeTensorMode(allow_non_fake_inputs=True):
            _give_storage(network)
            live = _LiveBytes()
            live.add(*_resident(network))
            resident = live.now
            with live:
                loss = _forward(network, shape)
                forward = live.take_peak()
                loss.backward()  # type: ignore[no-untyped-call]
                backward = live.take_peak()
    states = optimizer_states(model, shape)
    return {"resident": resident + states, "forward": forward + states, "backward": backward + states}


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that come out of torch's operations, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self._peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        self.add(*(each for each in tree_leaves(result) if isinstance(each, torch.Tensor)))
        return result

    def add(self, *tensors: torch.Tensor) -> None:
        """Count these, each storage once."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if id(storage) not in self._seen:
                self._watch(storage)
        self._peak = max(self._peak, self.now)

    def take_peak(self) -> int:
        """The most since the last time."""
        peak, self._peak = self._peak, self.now
        return peak

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()

        def freed(_: object) -> None:
            del self._seen[key]
            self.now -= size

        self.now += size
        self._seen[key] = weakref.ref(storage, freed)


# --- the model ---


def _network(model: ModelShape, shape: TrainingShape) -> Any:
    """The base model with its adapter and TRL's head, on the meta device."""
    config = CONFIG_MAPPING[model.architecture](**model.to_config())
    dtype = getattr(torch, shape.compute_dtype)
    with torch.device("meta"):
        base: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=dtype, attn_implementation=shape.attention
        )
        if shape.quantised:
            _quantise(base, dtype)
        trl_utils.add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
        lora = LoraConfig(
            task_type="CAUSAL_LM",
            r=shape.rank,
            lora_dropout=0.05 if shape.dropout else 0.0,
            target_modules=list(model.projections),
        )
        network = get_peft_model(base, lora)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(getattr(torch, shape.adapter_dtype))
    network.train()
    if shape.checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
        network.enable_input_require_grads()
    return network


def _quantise(base: Any, dtype: torch.dtype) -> None:
    for module in list(base.model.layers.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(module, name, _Linear4bit(child, dtype))
    base.is_loaded_in_4bit = True


class _Linear4bit(Linear4bit):
    """Has bitsandbytes' packed weights and scales, and takes as much for itself as its ``MatMul4Bit`` on a card."""

    def __init__(self, linear: torch.nn.Linear, dtype: torch.dtype) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias, self.compute_dtype = linear.bias, dtype
        size = linear.weight.numel()
        weight: Any = torch.nn.Parameter(torch.empty((-(-size // 2), 1), dtype=torch.uint8), requires_grad=False)
        weight.compress_statistics, weight.quant_type = True, "nf4"
        self.weight = weight
        scales = -(-size // _NF4_BLOCK)
        self.absmax = torch.nn.Buffer(torch.empty(scales, dtype=torch.uint8))
        self.absmax_scales = torch.nn.Buffer(torch.empty(-(-scales // _SCALE_BLOCK)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _MatMul4Bit.apply(x.to(self.compute_dtype), self)  # type: ignore[no-untyped-call]
        return result.to(x.dtype)

    def dequantised(self) -> torch.Tensor:
        absmax = torch.empty_like(self.absmax, dtype=torch.float32)
        weight = torch.empty((self.out_features, self.in_features), dtype=self.compute_dtype)
        del absmax
        return weight


class _MatMul4Bit(torch.autograd.Function):
    """Dequantises the weight in the forward pass and again in the backward pass, and keeps nothing."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, linear: _Linear4bit) -> torch.Tensor:
        ctx.linear = linear
        return torch.nn.functional.linear(x, linear.dequantised(), linear.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.matmul(gradients[0], ctx.linear.dequantised()), None


def _give_storage(network: Any) -> None:
    """Move everything from the meta device to FakeTensors that count, with gradients; tied weights stay tied."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in made:
                made[id(parameter)] = _fake(parameter)
            setattr(module, name, made[id(parameter)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty_like(buffer, device="cpu"))


def _fake(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    fake = torch.nn.Parameter(
        torch.empty(parameter.shape, dtype=parameter.dtype), requires_grad=parameter.requires_grad
    )
    if parameter.requires_grad:
        fake.grad = torch.empty_like(fake)
    return fake


def _resident(network: Any) -> Iterator[torch.Tensor]:
    for parameter in network.parameters():
        yield parameter
        if parameter.grad is not None:
            yield parameter.grad
    yield from network.buffers()


def _forward(network: Any, shape: TrainingShape) -> torch.Tensor:
    rows, tokens = shape.micro_batch, shape.row_tokens
    ids = torch.zeros((rows, tokens), dtype=torch.long)
    mask = torch.ones((rows, 1, tokens, tokens), dtype=torch.bool) if shape.attention == "sdpa" else None
    autocast = torch.autocast(
        "cpu", torch.bfloat16, enabled=shape.compute_dtype == "bfloat16", cache_enabled=shape.cast_cache
    )
    with autocast:
        loss: torch.Tensor = network(
            input_ids=ids,
            labels=ids,
            attention_mask=mask,
            position_ids=torch.arange(tokens).expand(rows, tokens),
            use_cache=False,
            fused_lm_head=True,
        ).loss
    return loss


# --- what a card does otherwise than a CPU ---


@contextmanager
def _as_on_card(shape: TrainingShape) -> Iterator[None]:
    with ExitStack() as stack:
        for target, name, value in _stand_ins(shape):
            stack.enter_context(patch.object(target, name, value, create=True))
        yield


def _stand_ins(shape: TrainingShape) -> Iterator[tuple[Any, str, Any]]:
    is_autocast_enabled = torch.is_autocast_enabled
    # peft asks whether autocast is on, and means CUDA's.
    yield torch, "is_autocast_enabled", lambda device="cpu": is_autocast_enabled(device)
    yield torch.nn.Dropout, "forward", _dropout
    # All tokens have a label: how many have is nothing that FakeTensors know.
    yield trl_utils, "_use_triton", lambda _: False
    if shape.head == "triton":
        yield trl_head, "_use_triton", lambda _: True
        yield trl_head, "triton", SimpleNamespace(cdiv=lambda a, b: -(-a // b))
        for kernel in ("_forward_kernel", "_backward_kernel"):
            yield trl_head, kernel, _InPlace()
        # On a card cuBLAS adds into float32 without a copy.
        yield trl_head, "_addmm_fp32", lambda *_: None


class _InPlace:
    """A Triton kernel that works in place."""

    def __getitem__(self, grid: object) -> Any:
        return lambda *_, **__: None


def _dropout(self: torch.nn.Dropout, x: torch.Tensor) -> torch.Tensor:
    """As CUDA does it: the mask has one byte an element."""
    return torch.native_dropout(x, self.p, self.training)[0]


def _varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **_: Mapping[str, Any],
) -> tuple[torch.Tensor, None]:
    del module, attention_mask
    result: torch.Tensor = _FlashAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
    return result, None


class _FlashAttention(torch.autograd.Function):
    """Keeps queries, keys, values, the output and the logarithms of the rows' sums (FlashAttention, 2022)."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        rows, heads, tokens, width = query.shape
        result = torch.empty((rows, tokens, heads, width), dtype=query.dtype)
        ctx.save_for_backward(query, key, value, result, torch.empty((rows, heads, tokens)))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        del gradients
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


AttentionInterface.register("varlen", _varlen)

if __name__ == "__main__":
    main()
