"""What several processes share, as far as one process shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.ranks import Ranks, is_consequence, launch
from codelupe_trainer.child.rows import Rows, in_order
from codelupe_trainer.settings import TrainerSettings
from tests.training import TOTALS


def rows_of(count: int, per_step: int) -> Rows:
    """Each row has its number as its only token."""
    data = {"input_ids": [[number] for number in range(count)], "labels": [[number] for number in range(count)]}
    data["seq_lengths"] = [[1]] * count
    dataset = Dataset.from_dict(data)
    return Rows(
        train=dataset,
        validation=dataset,
        files=count,
        validation_files=1,
        unused=frozenset(),
        samples=TOTALS,
        per_step=per_step,
        examples=list,
    )


def steps_of(count: int, per_step: int, ranks: int, epochs: int) -> list[list[int]]:
    """The numbers of each step's rows; a blank row, which has no label, is left out."""
    ordered = in_order(rows_of(count, per_step), TrainerSettings(epochs=epochs), ranks)
    labels = [label for [label, *_] in ordered["labels"]]
    size = per_step + -per_step % ranks
    steps = [labels[at : at + size] for at in range(0, len(labels), size)]
    assert all(len(step) == size for step in steps)
    return [[number for number in step if number != -100] for step in steps]


def test_a_step_has_the_same_rows_whatever_the_number_of_ranks() -> None:
    alone = steps_of(11, 4, 1, 2)
    assert [len(step) for step in alone] == [4, 4, 3, 4, 4, 3]
    for epoch in (alone[:3], alone[3:]):
        assert sorted(number for step in epoch for number in step) == list(range(11))
    assert alone[:3] != alone[3:]
    for ranks in (2, 3, 5, 8):
        assert steps_of(11, 4, ranks, 2) == alone


def test_who_is_alone_is_answered_at_once() -> None:
    ranks = Ranks()
    ranks.wait()
    assert (ranks.is_first, ranks.gather("a"), ranks.any(flag=False), ranks.mean(2)) == (True, ["a"], False, 2)
    assert ranks.from_first(lambda: 7) == 7


@pytest.mark.parametrize(("cards", "words"), [(1, "may use 1 card here"), (2, "may use 2 cards here")])
def test_more_processes_than_cards_are_refused(monkeypatch: pytest.MonkeyPatch, cards: int, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    with pytest.raises(Unusable, match=f"`processes` is 3, and training {words}: lower it"):
        launch(Path("job.json"), 3, 1)


@pytest.mark.parametrize(
    ("error", "consequence"),
    [
        (RuntimeError("[.../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:9923"), True),
        (torch.distributed.DistBackendError("NCCL communicator was aborted on rank 1"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), False),
        (ValueError("by peer"), False),
    ],
)
def test_an_error_that_only_follows_from_another_process_s_end_is_known(error: Exception, *, consequence: bool) -> None:
    assert is_consequence(error) == consequence
