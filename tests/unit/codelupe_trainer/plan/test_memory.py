from dataclasses import replace
from typing import Any

import pytest

from codelupe_trainer.plan.bases import known_models
from codelupe_trainer.plan.memory import (
    CONTEXT,
    GIB,
    FloatType,
    TrainingShape,
    memory_of,
    nf4_bytes,
    optimizer_states,
    usable,
)

LARGE = known_models()["qwen2.5-coder-14b"].shape


def test_the_parts_of_the_14b_shape() -> None:
    memory = memory_of(LARGE, TrainingShape())
    in_gib = {
        "weights": 6.35,
        "embeddings": 2.90,
        "adapters": 2.05,
        "gradients": 2.05,
        "optimizer": 2.08,
        "checkpoints": 1.89,
        "dequantised": 0.14,
    }
    assert {name: round(getattr(memory, name) / GIB, 2) for name in in_gib} == in_gib
    assert memory.peak_at == "backward pass of a layer"
    assert memory.peak == memory.resident + sum(memory.moments[memory.peak_at].values())
    assert memory.tensors + CONTEXT == memory.peak


def test_float32_adapters_double_adapter_and_gradients_but_not_8_bit_states() -> None:
    half, full = (memory_of(LARGE, TrainingShape(adapter_dtype=dtype)) for dtype in ("bfloat16", "float32"))
    assert (full.adapters, full.gradients) == (2 * half.adapters, 2 * half.gradients)
    assert full.optimizer == half.optimizer


def test_several_processes_exchange_the_gradients_in_buckets_of_their_own() -> None:
    alone, together = (memory_of(LARGE, TrainingShape(processes=processes)) for processes in (1, 4))
    assert together.peak - alone.peak == together.buckets == together.gradients
    assert together.always.keys() - alone.always.keys() == {"gradients of DDP"}


def test_autocasts_cache_costs_one_adapter_in_bfloat16_in_the_forward_pass() -> None:
    without = TrainingShape(adapter_dtype="float32")
    extra = memory_of(LARGE, replace(without, cast_cache=True)).forward - memory_of(LARGE, without).forward
    assert extra == 2 * LARGE.adapter_parameters(256)


@pytest.mark.parametrize(
    "more",
    [
        {"micro_batch": 2},
        {"row_tokens": 8192},
        {"rank": 512},
        {"adapter_dtype": "float32"},
        {"dropout": True},
        {"quantised": False},
        {"checkpointing": False},
        {"optimizer": "adamw"},
        {"head": "torch"},
        {"compute_dtype": "float32"},
    ],
)
def test_each_of_these_takes_more(more: dict[str, Any]) -> None:
    shape = TrainingShape()
    assert memory_of(LARGE, replace(shape, **more)).peak > memory_of(LARGE, shape).peak


def test_varlen_takes_less_than_sdpa_with_its_mask() -> None:
    sdpa, varlen = (memory_of(LARGE, TrainingShape(attention=kind)) for kind in ("sdpa", "varlen"))
    assert varlen.peak < sdpa.peak


def test_nf4_takes_4_bits_and_an_eighth_more() -> None:
    """QLoRA (2023) gives 0.127 bits a weight for the scales, with double quantisation."""
    weights = 64 * 256 * 1000
    assert 8 * nf4_bytes(weights) / weights == pytest.approx(4 + 0.127, abs=0.001)


def test_small_matrices_keep_their_states_in_float32() -> None:
    model = known_models()["smollm2-135m"].shape  # 576 features: below rank 8, no matrix beside them has 4,096 elements
    matrices = list(model.adapter_matrices(4))
    small = sum(size for size in matrices if size < 4096)
    large = [size for size in matrices if size >= 4096]
    assert small > 0
    assert large
    scales = sum(2 * 4 * -(-size // 256) for size in large)
    assert optimizer_states(model, TrainingShape(rank=4)) == model.layers * (8 * small + 2 * sum(large) + scales)


def test_plain_adamw_has_states_of_the_adapters_type() -> None:
    sizes: dict[FloatType, int] = {"float32": 4, "bfloat16": 2}
    for dtype, size in sizes.items():
        states = optimizer_states(LARGE, TrainingShape(optimizer="adamw", adapter_dtype=dtype))
        assert states == 2 * size * LARGE.adapter_parameters(256)


def test_a_card_of_32_gib_has_31_for_use() -> None:
    assert usable(32 * GIB) / GIB == pytest.approx(31.3)
