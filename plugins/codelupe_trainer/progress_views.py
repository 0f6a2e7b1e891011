"""How a training that goes on is doing, for the status and for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codelupe import Metric, Table

_GAUGES: dict[str, tuple[str, dict[str, dict[str, str]]]] = {
    "step_loss": (
        "Loss of the training under way in nats per learned token: of its newest step, and of its last evaluation.",
        {"loss": {"of": "train"}, "eval_loss": {"of": "validation"}},
    ),
    "learning_rate": ("Learning rate of its newest step.", {"learning_rate": {}}),
    "gradient_norm": ("Norm of that step's gradient before it is clipped.", {"grad_norm": {}}),
    "tokens_per_second": (
        "Tokens of that step, all but padding and the learned ones, by its time without evaluations and checkpoints.",
        {"tokens_per_second": {"tokens": "all"}, "learned_tokens_per_second": {"tokens": "learned"}},
    ),
    "padding_share": ("Share of padding in the rows of that step, from 0 to 1.", {"padding": {}}),
    "memory_bytes": (
        "What the training's tensors take on the card or, without one, what its process takes of the machine's memory.",
        {"memory": {"of": "now"}, "memory_peak": {"of": "peak"}},
    ),
}
"""Gauges with their meaning and the labels of each figure. None names a model: there would be ever more series."""

_OF_A_GPU = {
    "gpu_used_share": ("Share of the last second or less in which the card computed, from 0 to 1.", "used"),
    "gpu_memory_used_bytes": ("Memory of the card that is in use, by any process.", "memory_used"),
    "gpu_memory_total_bytes": ("Memory of the card.", "memory_total"),
    "gpu_temperature_celsius": ("Temperature of the card.", "celsius"),
    "gpu_power_watts": ("Power that the card draws.", "watts"),
}


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


_Columns = Mapping[str, tuple[str, Callable[[Any], str]]]
_FIGURES: _Columns = {
    "loss": ("loss", "{:.4f}".format),
    "eval_loss": ("evaluated", "{:.4f}".format),
    "learning_rate": ("rate", "{:.2e}".format),
    "grad_norm": ("gradient", "{:.3g}".format),
    "tokens_per_second": ("tokens/s", "{:,.0f}".format),
    "learned_tokens_per_second": ("learned/s", "{:,.0f}".format),
    "padding": ("padding", "{:.1%}".format),
    "memory": ("memory", _gib),
    "memory_peak": ("peak", _gib),
}
_CARDS: _Columns = {
    "number": ("card", str),
    "name": ("name", str),
    "used": ("used", "{:.0%}".format),
    "memory_used": ("memory", _gib),
    "memory_total": ("of", _gib),
    "celsius": ("°C", str),
    "watts": ("W", "{:.0f}".format),
}


def progress_metrics(progress: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Gauges of the training under way and of the cards; without samples if there is none."""
    figures = progress["figures"] if progress else {}
    steps = {"done": progress["step"], "total": progress["steps"]} if progress and progress["steps"] else {}
    yield Metric(
        name="steps",
        meaning="Steps of the training under way: done, and in total.",
        samples=[({"of": name}, count) for name, count in steps.items()],
    )
    for name, (meaning, labels_of) in _GAUGES.items():
        samples = [(labels, figures[figure]) for figure, labels in labels_of.items() if figure in figures]
        yield Metric(name=name, meaning=meaning, samples=samples)
    gpus = progress["gpus"] if progress else []
    for name, (meaning, figure) in _OF_A_GPU.items():
        told = [gpu for gpu in gpus if gpu[figure] is not None]
        samples = [({"gpu": str(gpu["number"]), "name": gpu["name"]}, gpu[figure]) for gpu in told]
        yield Metric(name=name, meaning=meaning, samples=samples)


def progress_tables(progress: Mapping[str, Any]) -> list[Table]:
    """The step and its figures, and the cards."""
    step = f"step {progress['step']:,} of {progress['steps']:,}" if progress["steps"] else "no step yet"
    title = f"training of {progress['model']}: {progress['activity'] or step}"
    tables = [_table(title, _FIGURES, [progress["figures"]])]
    return [*tables, _table("graphics cards", _CARDS, progress["gpus"])] if progress["gpus"] else tables


def _table(title: str, columns: _Columns, rows: Sequence[Mapping[str, Any]]) -> Table:
    def cells(row: Mapping[str, Any]) -> list[str | None]:
        return [None if row.get(name) is None else as_text(row[name]) for name, (_, as_text) in columns.items()]

    return Table(title=title, columns=[heading for heading, _ in columns.values()], rows=[cells(row) for row in rows])
