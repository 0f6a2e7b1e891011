import pytest

from codelupe_trainer.plan.bases import known_models
from codelupe_trainer.plan.memory import TrainingShape
from codelupe_trainer.plan.time import TOKENS_PER_FILE, Card, disk_of, flops_per_token, known_cards, work_of

LARGE = known_models()["qwen2.5-coder-14b"].shape
SHAPE = TrainingShape()


def test_a_batch_of_1000_files_is_838000_tokens_and_59_steps() -> None:
    work = work_of(LARGE, SHAPE, 950, samples_per_step=16, epochs=1, max_steps=None)
    assert (work.files, work.steps, work.tokens) == (950, 60, 950 * TOKENS_PER_FILE)
    twice = work_of(LARGE, SHAPE, 950, samples_per_step=16, epochs=2, max_steps=None)
    assert (twice.steps, twice.tokens, twice.flops) == (120, 2 * work.tokens, 2 * work.flops)


def test_max_steps_leaves_files_unused() -> None:
    work = work_of(LARGE, SHAPE, 950, samples_per_step=16, epochs=1, max_steps=10)
    assert (work.files, work.steps) == (160, 10)


def test_no_sample_is_longer_than_a_row() -> None:
    work = work_of(LARGE, TrainingShape(row_tokens=512), 10, samples_per_step=16, epochs=1, max_steps=None)
    assert work.tokens == 5120


def test_a_token_of_the_14b_shape_takes_a_hundred_billion_operations() -> None:
    """By hand: 13.2 G weights thrice, 1.1 G of the adapter four times, 0.78 G of the head thrice, 2 operations each."""
    matrices = 2 * (3 * 13_212_057_600 + 4 * 1_101_004_800 + 3 * 152_064 * 5120)
    attention = 48 * 4 * 5120 * 4096 * 4
    assert flops_per_token(LARGE, SHAPE) == matrices + attention
    assert flops_per_token(LARGE, TrainingShape(attention="varlen")) < flops_per_token(LARGE, SHAPE)
    assert flops_per_token(LARGE, TrainingShape(checkpointing=False)) < flops_per_token(LARGE, SHAPE)


def test_hours_are_the_work_over_a_share_of_the_peak() -> None:
    work = work_of(LARGE, SHAPE, 1000, samples_per_step=16, epochs=1, max_steps=None)
    assert work.hours(Card(memory=32, tflops=100)) == pytest.approx(work.flops / 35e12 / 3600)
    assert known_cards()["RTX 5090"].memory == 32


def test_the_adapter_on_disk_is_two_gigabytes_not_two_hundred_megabytes() -> None:
    half, full = (disk_of(LARGE, TrainingShape(adapter_dtype=dtype)) for dtype in ("bfloat16", "float32"))
    assert (round(half.adapter / 1e9, 2), round(full.adapter / 1e9, 2)) == (2.2, 4.4)
    assert half.base == half.merged == 2 * LARGE.parameters
    assert half.checkpoints == pytest.approx(2 * (half.adapter + 2.237e9), rel=0.001)
    assert half.training == half.base + half.adapter + half.checkpoints
