from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_trainer.plan.bases import known_models
from codelupe_trainer.plan.fit import DoesNotFit, fit
from codelupe_trainer.plan.memory import GIB, TrainingShape, memory_of

LARGE = known_models()["qwen2.5-coder-14b"].shape
ASKED = TrainingShape(micro_batch=4)


def test_float32_is_taken_where_it_fits_at_some_micro_batch() -> None:
    found = fit(LARGE, ASKED, round(25 * GIB))
    assert (found.shape.adapter_dtype, found.shape.micro_batch, found.times_accumulation) == ("float32", 1, 4)


def test_bfloat16_is_taken_where_float32_fits_at_none() -> None:
    found = fit(LARGE, ASKED, round(23 * GIB))
    assert (found.shape.adapter_dtype, found.shape.micro_batch, found.times_accumulation) == ("bfloat16", 2, 2)


def test_a_type_that_was_asked_for_stays() -> None:
    assert fit(LARGE, ASKED, round(30 * GIB), "bfloat16").shape == replace(ASKED, adapter_dtype="bfloat16")
    with pytest.raises(DoesNotFit):
        fit(LARGE, ASKED, round(23 * GIB), "float32")


def test_on_a_cpu_the_adapter_is_float32() -> None:
    shape = TrainingShape(compute_dtype="float32", micro_batch=1)
    needed = memory_of(LARGE, replace(shape, adapter_dtype="float32")).peak
    assert fit(LARGE, shape, needed).shape.adapter_dtype == "float32"
    with pytest.raises(DoesNotFit):
        fit(LARGE, shape, needed - 1)


@pytest.mark.parametrize(("asked", "chosen"), [(6, 3), (3, 1), (12, 3)])
def test_tokens_a_step_stay_the_same(asked: int, chosen: int) -> None:
    shape = TrainingShape(micro_batch=asked, adapter_dtype="bfloat16")
    free = memory_of(LARGE, replace(shape, micro_batch=chosen)).peak
    found = fit(LARGE, shape, free, "bfloat16")
    assert found.shape.micro_batch == chosen
    assert found.shape.micro_batch * found.times_accumulation == asked


@given(free=st.integers(0, 80 * GIB), micro_batch=st.integers(1, 16))
def test_what_is_chosen_fits_and_the_next_larger_does_not(free: int, micro_batch: int) -> None:
    shape = TrainingShape(micro_batch=micro_batch)
    smallest = replace(shape, micro_batch=1)
    if memory_of(LARGE, smallest).peak > free:
        with pytest.raises(DoesNotFit) as refused:
            fit(LARGE, shape, free)
        assert all(one.peak <= free for one in refused.value.proposals)
        return
    found = fit(LARGE, shape, free)
    assert found.memory == memory_of(LARGE, found.shape)
    assert found.memory.peak <= free
    larger = [size for size in range(found.shape.micro_batch + 1, micro_batch + 1) if micro_batch % size == 0]
    assert all(memory_of(LARGE, replace(found.shape, micro_batch=size)).peak > free for size in larger)


def test_a_refusal_has_the_table_and_the_figures_of_what_would_fit() -> None:
    with pytest.raises(DoesNotFit) as caught:
        fit(LARGE, ASKED, round(16 * GIB))
    refused = caught.value
    assert refused.shape.micro_batch == 1
    assert "the training takes 19.30 GiB even with a micro-batch of 1, and 16.00 GiB are free:" in refused.message
    for part in ("weights", "gradients", "optimiser states", "framework and context", "one layer, backward"):
        assert part in refused.message
    assert [one.change for one in refused.proposals] == ["lora.rank = 64", "base = Qwen/Qwen2.5-Coder-7B-Instruct"]
    for proposal in refused.proposals:
        assert str(proposal) in str(refused.hint)


def test_a_longer_row_than_need_be_is_told() -> None:
    shape = TrainingShape(rank=64, row_tokens=16384)
    with pytest.raises(DoesNotFit) as caught:
        fit(LARGE, shape, round(20 * GIB))
    assert "max_length = 8192" in [one.change for one in caught.value.proposals]


def test_an_unquantised_base_without_checkpointing_is_told_of_both() -> None:
    shape = TrainingShape(quantised=False, checkpointing=False)
    large = memory_of(LARGE, replace(shape, checkpointing=True, adapter_dtype="bfloat16")).peak
    with pytest.raises(DoesNotFit) as caught:
        fit(LARGE, shape, large)
    assert "gradient_checkpointing = true" in [one.change for one in caught.value.proposals]


def test_a_card_too_small_for_any_change_says_so() -> None:
    with pytest.raises(DoesNotFit, match="no single change"):
        fit(LARGE, ASKED, 0)
