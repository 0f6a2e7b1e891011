"""What an exported model's folder says about it, beside the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from codelupe import atomic_folder
from codelupe_trainer.jobs import Exported, ExportJob
from codelupe_trainer.model_folder import CARD, PROVENANCE, RECORD

ADAPTER_CARD = "ADAPTER.md"
_REPORT = "export.json"


def copy_adapter(folder: Path, to: Path) -> None:
    """Copy a model's folder, whole or not at all.

    Raises:
        OSError: ``to`` exists, or the disk is full.
    """
    with atomic_folder(to) as unfinished:
        shutil.copytree(folder, unfinished, dirs_exist_ok=True)


def describe(folder: Path, job: ExportJob, result: Exported) -> None:
    """Write the card, what was measured, and what the adapter's folder says about where the model comes from."""
    for name, copy in ((CARD, ADAPTER_CARD), (RECORD, RECORD), (PROVENANCE, PROVENANCE)):
        if (job.adapter / name).exists():
            shutil.copyfile(job.adapter / name, folder / copy)
    (folder / _REPORT).write_text(result.model_dump_json(indent=2), encoding="utf-8")
    (folder / CARD).write_text(_render_card(job, result), encoding="utf-8")
    for path in folder.iterdir():  # safetensors keeps files from other users, such as the one that serves the model
        shutil.copymode(folder / CARD, path)


def _render_card(job: ExportJob, result: Exported) -> str:
    form = {"original": "the base's own weights", "dequantised": "the base's weights as NF4 holds them, dequantised"}
    held = "as a GGUF file" if job.form == "gguf" else "by transformers"
    summary = (
        f"`{job.settings.base}` with the adapter `{job.adapter.name}` in its weights, written {held}. It was merged "
        f"into {form[result.merged_into]}. `{ADAPTER_CARD}` says how the adapter was trained, on what, and how it did."
    )
    return "\n\n".join([f"# {job.adapter.name}, merged", summary, _losses(result)]) + "\n"


def _losses(result: Exported) -> str:
    if not result.losses:
        return "It was not measured after merging."
    names = {"trained": "as it was trained, adapter beside base"}
    rows = [
        f"| {names.get(name, f'merged into the {name} base')} | {loss:.5f} |" for name, loss in result.losses.items()
    ]
    heading = f"Mean loss on {result.samples:,} of the files on which its training was watched:"
    return "\n".join([heading, "", "| model | nats per completion token |", "| --- | --- |", *rows])
