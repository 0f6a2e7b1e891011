"""What a step takes: tokens by time, padding, memory."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from datasets import Dataset

from codelupe_trainer.child import figures
from codelupe_trainer.child.figures import StepFigures
from codelupe_trainer.child.ranks import Ranks
from codelupe_trainer.child.rows import Example, _examples


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(figures, "time", clock)
    return clock


PADDED = {
    "input_ids": torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    "labels": torch.tensor([[-100, -100, 7, 8], [-100, 6, -100, -100]]),
}
PACKED = {
    "input_ids": torch.tensor([[5, 6, 7, 5, 6, 7, 8, 9]]),
    "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]]),
    "labels": torch.tensor([[-100, 6, 7, -100, -100, -100, 8, 9]]),
}


def test_padding_counts_for_no_speed(clock: Clock) -> None:
    step = StepFigures(Ranks())
    step.begin()
    step.add(PADDED)
    step.add(PADDED)
    clock.now += 2
    found = step.of_step()
    assert found["tokens_per_second"] == 12 / 2
    assert found["learned_tokens_per_second"] == 6 / 2
    assert found["padding"] == 4 / 16


def test_packed_rows_have_no_padding(clock: Clock) -> None:
    step = StepFigures(Ranks())
    step.begin()
    step.add(PACKED)
    clock.now += 4
    found = step.of_step()
    assert (found["tokens_per_second"], found["learned_tokens_per_second"], found["padding"]) == (2, 1, 0)


def test_neither_checkpoints_nor_what_lies_between_two_steps_take_a_step_s_time(clock: Clock) -> None:
    step = StepFigures(Ranks())
    step.begin()
    step.add(PADDED)
    clock.now += 1
    assert step.of_step()["tokens_per_second"] == 6
    clock.now += 1000  # an evaluation
    step.begin()
    step.add(PADDED)
    with step.apart():
        clock.now += 500
    clock.now += 2
    assert step.of_step()["tokens_per_second"] == 6 / 2


def test_a_step_that_a_former_process_has_done_tells_no_speed(clock: Clock) -> None:
    step = StepFigures(Ranks())
    step.begin()
    clock.now += 0.001
    assert step.of_step().keys() == {"memory", "memory_peak"}


def test_memory_is_that_of_this_process() -> None:
    found = StepFigures(Ranks()).of_step()
    assert 2**26 < found["memory"] <= found["memory_peak"] < 2**40


def test_examples_are_the_first_whose_prompts_are_short() -> None:
    prompts = [600, 512, *range(3, 20)]
    samples = [{"input_ids": [*range(size), 1, 2], "labels": [-100] * size + [1, 2]} for size in prompts]
    found = _examples(Dataset.from_list(samples))
    assert [len(one.prompt) for one in found] == [512, *range(3, 12)]
    assert found[1] == Example([0, 1, 2], [1, 2])
