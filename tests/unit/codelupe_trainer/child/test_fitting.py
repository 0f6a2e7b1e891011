"""What a training is given on a card that others use, too."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from codelupe_trainer.child.errors import Unusable, Waiting
from codelupe_trainer.child.fitting import fit_card
from codelupe_trainer.plan.bases import shape_of
from codelupe_trainer.plan.memory import GIB, TrainingShape
from codelupe_trainer.plan.run_plan import training_shape
from codelupe_trainer.settings import TrainerSettings


def fitted(free: float, total: float, **values: object) -> TrainingShape:
    settings = TrainerSettings.model_validate(values)
    asked = training_shape(settings, on_card=True)
    return fit_card(shape_of(settings.base), asked, round(free * GIB), round(total * GIB), settings)


def test_an_empty_card_of_32_gib_takes_the_adapter_in_float32() -> None:
    assert fitted(31.3, 31.3).adapter_dtype == "float32"
    assert fitted(31.3, 31.3, lora={"dtype": "bfloat16"}).adapter_dtype == "bfloat16"
    assert fitted(22.8, 22.8).adapter_dtype == "bfloat16"


def test_the_micro_batch_is_lowered_to_what_is_free() -> None:
    assert fitted(31.3, 31.3, micro_batch=4, lora={"dtype": "bfloat16"}).micro_batch == 4
    assert fitted(25, 31.3, micro_batch=4, lora={"dtype": "bfloat16"}).micro_batch == 2


def test_others_on_the_card_are_waited_for_and_change_no_numbers() -> None:
    with pytest.raises(Waiting, match=r"takes 2\d\.\d GiB, and other programs leave 20\.0 of the card's 31\.3"):
        fitted(20, 31.3)


def test_a_card_that_is_too_small_is_refused_with_the_parts_and_what_would_fit() -> None:
    with pytest.raises(Unusable) as caught:
        fitted(7.8, 7.8)
    for words in ("embeddings and head", "optimiser states", "What would fit", "base = Qwen/Qwen2.5-Coder-"):
        assert words in str(caught.value)
