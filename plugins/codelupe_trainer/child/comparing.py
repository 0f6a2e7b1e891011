"""Measures two models alike on files that neither was trained on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from peft import PeftModel

from codelupe_trainer.child.models import (
    Tokenizer,
    identify,
    load_encoder,
    load_model,
    load_tokenizer,
    prepare,
    require_base,
)
from codelupe_trainer.exports import read_files
from codelupe_trainer.jobs import FILES, Activity, Compared, CompareJob, Measured, OnReport, Step
from codelupe_trainer.samples.completion import Completion, complete
from codelupe_trainer.samples.drawing import sample_request, why_dropped
from codelupe_trainer.samples.encoding import IGNORED, Encoder
from codelupe_trainer.samples.files import CodeFile
from codelupe_trainer.settings import TrainerSettings
from codelupe_trainer.syntax import count_errors

_GENERATED_AT_A_TIME = 8


def compare(job: CompareJob, on_report: OnReport) -> Compared:
    """Loss on all samples of the job's files, and code generated for the first of them, by both models."""
    base = prepare(job.settings, job.bases, on_report)
    identity = identify(base, job.settings)
    for adapter, theirs in job.trained_on.items():
        require_base(identity, theirs, adapter)
    tokenizer = load_tokenizer(base)
    encoder = load_encoder(base, tokenizer, job.settings)
    samples = list(_samples(job, encoder))
    if not samples:
        return Compared()
    on_report(Activity(what="loading the models"))
    model = _load(base, job)
    bench = _Bench(model, tokenizer, encoder, samples, job.settings, on_report)
    with _in_use(model, job):
        current = bench.measure()
    model.set_adapter("candidate")
    return Compared(
        samples=len(samples), generations=len(bench.generated_for), current=current, candidate=bench.measure()
    )


def _samples(job: CompareJob, encoder: Encoder) -> Iterator[_Held]:
    for file in read_files(job.folder / FILES):
        request = sample_request(file, encoder, job.settings.max_length, "gate")
        if why_dropped(file, encoder) is None and (completion := complete(request)) is not None:
            yield _Held(file, completion)


def _load(base: str, job: CompareJob) -> Any:
    model = PeftModel.from_pretrained(load_model(base, job.settings), job.candidate, adapter_name="candidate")
    if job.current is not None:
        model.load_adapter(job.current, "current")
    return model.eval()


@contextmanager
def _in_use(model: Any, job: CompareJob) -> Iterator[None]:
    """The model in use: the base alone, or with its adapter."""
    if job.current is None:
        with model.disable_adapter():
            yield
    else:
        model.set_adapter("current")
        yield


@dataclass(frozen=True)
class _Held:
    """A held-out file, in two parts."""

    file: CodeFile
    completion: Completion


class _Bench:
    """Puts the same questions to each model."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        encoder: Encoder,
        samples: list[_Held],
        settings: TrainerSettings,
        on_report: OnReport,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._samples = samples
        self._settings = settings
        self._on_report = on_report
        self._done = 0
        self.generated_for = samples[: settings.gate.generations]

    @torch.inference_mode()
    def measure(self) -> Measured:
        """One model's figures."""
        loss = self._loss()
        attempts = list(self._attempts())
        valid = [attempt.is_valid for attempt in attempts if attempt.is_valid is not None]
        return Measured(
            loss=loss,
            exact_match=fmean(attempt.starts_exactly for attempt in attempts),
            edit_similarity=fmean(attempt.similarity for attempt in attempts),
            syntax_valid=fmean(valid) if valid else None,
        )

    def _loss(self) -> float:
        """Sample by sample: without padding, and with the memory of one."""
        nats, tokens = 0.0, 0
        for sample in self._samples:
            encoded = self._encoder.encode(sample.completion.sample, self._settings.max_length)
            assert encoded is not None, "completions are made to fit"
            answered = encoded.learned
            logits = self._model(
                input_ids=torch.tensor([encoded.ids], device=self._model.device), logits_to_keep=answered + 1
            ).logits[0, :-1]
            target = torch.tensor([one for one in encoded.labels if one != IGNORED], device=logits.device)
            nats += torch.nn.functional.cross_entropy(logits.float(), target, reduction="sum").item()
            tokens += answered
            self._advance(1, loss=nats / tokens)
        return nats / tokens

    def _attempts(self) -> Iterator[_Attempt]:
        for start in range(0, len(self.generated_for), _GENERATED_AT_A_TIME):
            samples = self.generated_for[start : start + _GENERATED_AT_A_TIME]
            for sample, ids in zip(samples, self._generate(samples), strict=True):
                yield self._attempt(sample, ids)
            self._advance(len(samples))

    def _generate(self, samples: Sequence[_Held]) -> list[list[int]]:
        prompts = [self._encoder.prompt(sample.completion.sample) for sample in samples]
        inputs = self._tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        out = self._model.generate(
            **inputs.to(self._model.device),
            max_new_tokens=self._settings.gate.generated_tokens,
            do_sample=False,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        rows: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
        return rows

    def _attempt(self, sample: _Held, ids: list[int]) -> _Attempt:
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        author = self._tokenizer(sample.completion.rest, add_special_tokens=False)["input_ids"]
        same_length = self._tokenizer.decode(author[: self._settings.gate.generated_tokens])
        ended = self._tokenizer.eos_token_id in ids
        return _Attempt(sample=sample, text=text.strip("\n"), reference=same_length, ended=ended)

    def _advance(self, samples: int, **figures: float) -> None:
        self._done += samples
        total = 2 * (len(self._samples) + len(self.generated_for))
        self._on_report(Step(done=self._done, total=total, figures=figures))


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """What a model wrote for a sample, beside what the author wrote in as many tokens."""

    sample: _Held
    text: str
    reference: str
    ended: bool
    """Whether the model came to an end by itself, and was not cut off."""

    @property
    def starts_exactly(self) -> bool:
        return self.text.split("\n")[0].rstrip() == self.sample.completion.rest.split("\n")[0].rstrip()

    @property
    def similarity(self) -> float:
        return difflib.SequenceMatcher(None, self.text, self.reference, autojunk=False).ratio()

    @property
    def is_valid(self) -> bool | None:
        """Whether it has no more syntax errors than the author's code up to the same line; None for no grammar."""
        lines = self.text.split("\n")
        whole = lines if self.ended or len(lines) == 1 else lines[:-1]
        author = self.sample.completion.rest.split("\n")[: len(whole)]
        errors, expected = self._errors(whole), self._errors(author)
        if errors is None or expected is None:
            return None
        return bool(self.text.strip()) and errors <= expected

    def _errors(self, lines: Sequence[str]) -> int | None:
        return count_errors(self.sample.file.language, "\n".join([self.sample.completion.context, *lines]))
