"""What status and Prometheus tell of a training under way."""

from __future__ import annotations

from typing import Any

from codelupe.host.status_sections import guard_status_section
from codelupe_trainer.progress_views import progress_metrics, progress_tables
from codelupe_trainer.views import status_sections

GPU = {
    "number": 0,
    "name": "NVIDIA H200",
    "used": 0.93,
    "memory_used": 23 << 30,
    "memory_total": 139 << 30,
    "celsius": 55,
    "watts": None,
}
FIGURES = {
    "loss": 1.25,
    "eval_loss": 1.5,
    "learning_rate": 1e-4,
    "grad_norm": 0.75,
    "tokens_per_second": 1600.0,
    "learned_tokens_per_second": 1000.0,
    "padding": 0.25,
    "memory": 2.0 * 2**30,
    "memory_peak": 3.0 * 2**30,
}


def progress(**changes: Any) -> dict[str, Any]:
    told = {"model": "m-0007", "at": "2026-11-30T12:00:00+00:00", "activity": None, "step": 12, "steps": 1060}
    return told | {"figures": FIGURES, "gpus": [GPU]} | changes


def training(of: dict[str, Any] | None) -> dict[str, Any]:
    totals = {"total_training_runs": 3, "total_samples_trained": 3000}
    return {"status": "training", "model_loaded": None, "state": totals, "train_metrics": {}, "progress": of}


def gauges(of: dict[str, Any] | None) -> dict[str, float]:
    """By name and labels, as Prometheus would get them."""
    section = guard_status_section("trainer", status_sections()[0], None)
    assert section.metrics is not None
    return {
        f"{metric.name} {' '.join(labels.values())}".strip(): value
        for metric in section.metrics(training(of))
        for labels, value in metric.samples
    }


def test_each_figure_of_a_step_and_of_a_card_is_a_gauge() -> None:
    assert gauges(progress()) == {
        "runs_total": 3,
        "samples_total": 3000,
        "steps done": 12,
        "steps total": 1060,
        "step_loss train": 1.25,
        "step_loss validation": 1.5,
        "learning_rate": 1e-4,
        "gradient_norm": 0.75,
        "tokens_per_second all": 1600,
        "tokens_per_second learned": 1000,
        "padding_share": 0.25,
        "memory_bytes now": 2 * 2**30,
        "memory_bytes peak": 3 * 2**30,
        "gpu_used_share 0 NVIDIA H200": 0.93,
        "gpu_memory_used_bytes 0 NVIDIA H200": 23 << 30,
        "gpu_memory_total_bytes 0 NVIDIA H200": 139 << 30,
        "gpu_temperature_celsius 0 NVIDIA H200": 55,
    }


def test_a_training_before_its_first_step_and_none_at_all_have_no_figures() -> None:
    before = progress(activity="loading the base model", step=0, steps=None, figures={}, gpus=[])
    assert gauges(before) == gauges(None) == {"runs_total": 3, "samples_total": 3000}


def test_labels_do_not_grow_with_the_number_of_trainings() -> None:
    """PrefectHQ/prometheus-prefect-exporter#84, epoch8/airflow-exporter#77: series without bound."""
    first, later = (
        {(metric.name, *labels.items()) for metric in progress_metrics(told) for labels, _ in metric.samples}
        for told in (progress(), progress(model="m-0008", step=13, steps=77))
    )
    assert first == later


def test_the_status_shows_the_step_and_the_cards() -> None:
    step, cards = progress_tables(progress())
    assert step.title == "training of m-0007: step 12 of 1,060"
    assert dict(zip(step.columns, step.rows[0], strict=True)) == {
        "loss": "1.2500",
        "evaluated": "1.5000",
        "rate": "1.00e-04",
        "gradient": "0.75",
        "tokens/s": "1,600",
        "learned/s": "1,000",
        "padding": "25.0%",
        "memory": "2.0 GiB",
        "peak": "3.0 GiB",
    }
    assert list(cards.rows[0]) == ["0", "NVIDIA H200", "93%", "23.0 GiB", "139.0 GiB", "55", None]


def test_the_status_says_what_goes_on_before_the_first_step() -> None:
    [step] = progress_tables(progress(activity="loading the base model", steps=None, figures={}, gpus=[]))
    assert step.title == "training of m-0007: loading the base model"
    assert set(step.rows[0]) == {None}
