"""Makes a training fit the memory of this machine before anything large is loaded."""

from __future__ import annotations

import os

import torch
from transformers import AutoConfig

from codelupe_trainer.child.errors import Unusable, Waiting
from codelupe_trainer.child.ranks import Ranks
from codelupe_trainer.jobs import Activity, OnReport
from codelupe_trainer.plan.fit import DoesNotFit, Fit, fit
from codelupe_trainer.plan.memory import CONTEXT, GIB, FloatType, TrainingShape, usable
from codelupe_trainer.plan.model_shape import ModelShape, UnknownShape
from codelupe_trainer.plan.run_plan import training_shape
from codelupe_trainer.settings import TrainerSettings


def fit_memory(base: str, settings: TrainerSettings, on_report: OnReport, ranks: Ranks) -> TrainingShape:
    """How the training is run here, by all ranks: what its adapter's numbers are, and how many rows pass at a time.

    The numbers are chosen by what the card has, and not by what is free on it, so that a run goes on as it began. A
    model whose shape is not known is trained as the settings say.

    Raises:
        Unusable: it does not fit this card or machine; the message has the memory by part, and what would fit.
        Waiting: it would fit, but others fill the card.
    """
    on_card = torch.cuda.is_available()
    asked = training_shape(settings, on_card=on_card)
    try:
        model = ModelShape.from_config(AutoConfig.from_pretrained(base).to_dict())
    except UnknownShape as error:
        on_report(Activity(what=f"no memory plan: {error}"))
        return asked
    if not on_card:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks.size
        return _fit_machine(model, asked, memory, settings).shape
    free, total = torch.cuda.mem_get_info()
    shapes = ranks.gather(fit_card(model, asked, free + CONTEXT, usable(total), settings))
    return min(shapes, key=lambda shape: (shape.adapter_dtype == "float32", shape.micro_batch))


def fit_card(
    model: ModelShape, asked: TrainingShape, free: int, total: int, settings: TrainerSettings
) -> TrainingShape:
    """What fits the ``free`` bytes of a card that has ``total`` to give.

    Raises:
        Unusable: nothing would, were the card empty.
        Waiting: nothing does now.
    """
    planned = _fit_machine(model, asked, total, settings)
    dtype: FloatType = planned.shape.adapter_dtype
    try:
        return fit(model, planned.shape, free, dtype).shape
    except DoesNotFit as problem:
        raise Waiting(
            f"the training takes {problem.memory.peak / GIB:.1f} GiB, and other programs leave {free / GIB:.1f} of the "
            f"card's {total / GIB:.1f} GiB free"
        ) from problem


def _fit_machine(model: ModelShape, asked: TrainingShape, total: int, settings: TrainerSettings) -> Fit:
    try:
        return fit(model, asked, total, settings.lora.dtype)
    except DoesNotFit as problem:
        raise Unusable(f"{problem.message}\n{problem.hint}") from problem
