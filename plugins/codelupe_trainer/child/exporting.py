"""Writes a model in a form in which it can be served without its base."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from codelupe import atomic_folder
from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.gguf_file import write_gguf
from codelupe_trainer.child.merging import Form, merge
from codelupe_trainer.child.models import identify, load_encoder, load_model, load_tokenizer, prepare, require_base
from codelupe_trainer.exports import read_files
from codelupe_trainer.jobs import FILES, Activity, Exported, ExportJob, GgufType, OnReport, Step
from codelupe_trainer.models.export_folder import describe
from codelupe_trainer.samples.completion import complete
from codelupe_trainer.samples.drawing import sample_request, why_dropped
from codelupe_trainer.samples.encoding import Encoded, Encoder

_ROOM = 1.2
"""What a model takes while it answers, as a multiple of its weights; measured on nothing larger than a demo's model."""


def export(job: ExportJob, on_report: OnReport) -> Exported:
    """Merge into each form of the base, measure what comes of it, and write the better one.

    Raises:
        Unusable: it cannot be merged, or cannot be written in this form.
        OSError: the folder exists, or the disk is full.
    """
    base = prepare(job.settings, job.bases, on_report)
    require_base(identify(base, job.settings), job.trained_on, job.adapter.name)
    tokenizer = load_tokenizer(str(job.adapter))
    encoder = load_encoder(base, tokenizer, job.settings)
    model, result = _merge_best(base, _Measure(encode_files(job, encoder), on_report), job, on_report)
    on_report(Activity(what=f"writing {job.to}"))
    with atomic_folder(job.to) as unfinished:
        if job.form == "gguf":
            type_ = job.gguf_type or (GgufType.bf16 if model.dtype == torch.bfloat16 else GgufType.f16)
            write_gguf(model, tokenizer, unfinished / f"{job.adapter.name}-{type_}.gguf", job.adapter.name, type_)
        else:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
        describe(unfinished, job, result)
    return result


def _merge_best(base: str, measure: _Measure, job: ExportJob, on_report: OnReport) -> tuple[PreTrainedModel, Exported]:
    """The merged model with the lowest loss; of equal ones, that into what the adapter was trained beside."""
    forms: tuple[Form, ...] = ("dequantised", "original") if job.settings.quantisation == "nf4" else ("original",)
    if not measure.samples:
        on_report(Activity(what="merging"))
        return merge(base, job.adapter, forms[0]), Exported(merged_into=forms[0])
    measure.total = len(measure.samples) * (1 + len(forms))
    losses = {"trained": measure(_load_trained(base, job, on_report))}
    for form in forms:
        model = _merge(base, job, form, on_report)
        losses[form] = measure(model)
    kept = min(forms, key=losses.__getitem__)
    if kept != forms[-1]:
        del model
        model = _merge(base, job, kept, on_report)
    return model, Exported(merged_into=kept, samples=len(measure.samples), losses=losses)


def _load_trained(base: str, job: ExportJob, on_report: OnReport) -> Any:
    on_report(Activity(what="loading the model as it was trained"))
    return PeftModel.from_pretrained(load_model(base, job.settings), job.adapter).eval()


def _merge(base: str, job: ExportJob, form: Form, on_report: OnReport) -> PreTrainedModel:
    gc.collect()  # the parts of the model before hold each other, and two may not fit
    torch.cuda.empty_cache()
    on_report(Activity(what=f"merging into the {form} base"))
    model: Any = merge(base, job.adapter, form)
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > _ROOM * model.get_memory_footprint():
        model.to("cuda")
    return model  # type: ignore[no-any-return]


class _Measure:
    """Measures the mean loss of models on the answers in the job's files, in nats per token."""

    def __init__(self, samples: Sequence[Encoded], on_report: OnReport) -> None:
        self.samples = samples
        self.total = 0
        self._done = 0
        self._on_report = on_report

    @torch.inference_mode()
    def __call__(self, model: Any) -> float:
        nats, tokens = 0.0, 0
        for sample in self.samples:
            inputs = torch.tensor([sample.ids], device=model.device)
            logits = model(input_ids=inputs, logits_to_keep=sample.learned + 1).logits[0, :-1]
            target = inputs[0, -sample.learned :].to(logits.device)
            nats += torch.nn.functional.cross_entropy(logits.float(), target, reduction="sum").item()
            tokens += sample.learned
            self._done += 1
            self._on_report(Step(done=self._done, total=self.total, figures={"loss": nats / tokens}))
        if not math.isfinite(nats):
            raise Unusable(f"the loss is {nats}: the model cannot be used")
        return nats / tokens


def encode_files(job: ExportJob, encoder: Encoder) -> list[Encoded]:
    """The job's files, if it has some, as samples to complete."""
    path, max_length = job.folder / FILES, job.settings.max_length
    encoded = []
    for file in read_files(path) if path.exists() else ():
        completion = complete(sample_request(file, encoder, max_length, "export"))
        if why_dropped(file, encoder) is None and completion is not None:
            encoded.append(encoder.encode(completion.sample, max_length))
    return [each for each in encoded if each is not None]
