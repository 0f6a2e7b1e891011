"""Measures models alike, on code that none of them was trained on and on problems."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import PeftModel

from codelupe import CodelupeError, LikelihoodEvaluator, Problem, ProblemEvaluator, Sample, SampleRequest, ScoredText
from codelupe_trainer.child.generating import AT_A_TIME, Written, judge, write
from codelupe_trainer.child.models import (
    Tokenizer,
    identify,
    load_encoder,
    load_model,
    load_tokenizer,
    prepare,
    require_base,
)
from codelupe_trainer.child.resumable import ADAPTER_WEIGHTS
from codelupe_trainer.child.stop import Stopped, StopRequest
from codelupe_trainer.exports import read_files
from codelupe_trainer.gate.measurements import (
    GENERATION,
    Header,
    Measurement,
    MeasurementFile,
    Values,
    measurement_path,
)
from codelupe_trainer.gate.rule import PLAIN
from codelupe_trainer.jobs import FILES, Activity, BaseIdentity, Measured, MeasureJob, OnReport, Step, unpack
from codelupe_trainer.samples.completion import Completion, complete
from codelupe_trainer.samples.drawing import sample_request, why_dropped
from codelupe_trainer.samples.encoding import Encoder
from codelupe_trainer.samples.files import CodeFile

_PROMPT_TOKENS = 512
"""What a short generation is about: what the model is shown, and what the author wrote behind it."""

_AT_ONCE = 256
"""Tokens whose logits are held in float32: with Qwen's vocabulary those of a long window take gigabytes."""

T = TypeVar("T")


def measure(job: MeasureJob, on_report: OnReport, stop: StopRequest) -> Measured:
    """Measure each of the job's models, and leave what was measured in the folder, at its ``measurement_path``.

    Raises:
        Unusable: an adapter belongs to another base.
        SandboxMissing: there are problems whose answers are run in one.
        Stopped: it was asked to; what was measured counts.
    """
    base = prepare(job.settings, job.bases, on_report)
    identity = identify(base, job.settings)
    for trained, theirs in job.trained_on.items():
        require_base(identity, theirs, trained)
    tokenizer = load_tokenizer(base)
    encoder = load_encoder(base, tokenizer, job.settings)
    on_report(Activity(what="loading the models"))
    model = _load(base, job)
    bench = _Bench(model, tokenizer, encoder, job)
    total = len(job.models) * bench.count
    done = 0
    with stop.postponed(), torch.inference_mode():
        for name, adapter in job.models.items():
            path = measurement_path(job.folder, name)
            header = bench.header(adapter, identity)
            with MeasurementFile(path, header) as file, _in_use(model, name, adapter):
                for asked in bench.measure(file):
                    done += asked
                    on_report(Step(done=done, total=total))
                    if stop:
                        raise Stopped
    return Measured()


def _load(base: str, job: MeasureJob) -> Any:
    model: Any = load_model(base, job.settings)
    for name, adapter in job.models.items():
        if adapter is not None and isinstance(model, PeftModel):
            model.load_adapter(adapter, name)
        elif adapter is not None:
            model = PeftModel.from_pretrained(model, adapter, adapter_name=name)
    return model.eval()


@contextmanager
def _in_use(model: Any, name: str, adapter: Path | None) -> Iterator[None]:
    """The base alone, or with one of its adapters."""
    if adapter is not None:
        model.set_adapter(name)
        yield
    elif isinstance(model, PeftModel):
        with model.disable_adapter():
            yield
    else:
        yield


class _Bench:
    """Puts the same questions to each model."""

    def __init__(self, model: Any, tokenizer: Tokenizer, encoder: Encoder, job: MeasureJob) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._settings = job.settings
        self._files = list(read_files(job.folder / FILES))
        evaluators = unpack(job.evaluators)
        self._likelihoods = [one for one in evaluators if isinstance(one, LikelihoodEvaluator) and self._can_ask(one)]
        limit = job.settings.gate.problems
        self._tests = [one for one in evaluators if isinstance(one, ProblemEvaluator) and limit]
        self._versions = {one.name: one.version for one in self._likelihoods}
        self._versions |= {one.name: one.version for one in self._tests}
        self._problems = {one.name: list(one.problems())[:limit] for one in self._tests}
        self._texts = [
            (evaluator, file)
            for evaluator in self._likelihoods
            for file in self._files
            if file.split != "validation" or evaluator.name == PLAIN
        ]
        self._completions = list(self._short_completions())

    @property
    def count(self) -> int:
        """How many questions each model is asked."""
        return len(self._texts) + len(self._completions) + sum(map(len, self._problems.values()))

    def header(self, adapter: Path | None, base: BaseIdentity) -> Header:
        """What tells that a model was asked these questions."""
        return Header(
            adapter="" if adapter is None else _hash(adapter / ADAPTER_WEIGHTS),
            base=base.fingerprint,
            quantisation=self._settings.quantisation,
            system=self._settings.system,
            evaluators=self._versions,
            generated_tokens=self._settings.gate.generated_tokens,
        )

    def measure(self, file: MeasurementFile) -> Iterator[int]:
        """Ask the model in use what the file does not know yet, and put it there; says each time how much was asked."""
        for evaluator, held_out in self._texts:
            if (evaluator.name, held_out.content_hash) not in file.known:
                file.add(self._score(evaluator, held_out))
            yield 1
        for some in batched(self._completions, AT_A_TIME):
            self._write_completions([one for one in some if (GENERATION, one[0].content_hash) not in file.known], file)
            yield len(some)
        for tests in self._tests:
            for problems in batched(self._problems[tests.name], AT_A_TIME):
                self._solve(tests, [one for one in problems if (tests.name, one.id) not in file.known], file)
                yield len(problems)

    def _can_ask(self, evaluator: LikelihoodEvaluator) -> bool:
        return self._encoder.control_tokens.issuperset(evaluator.control_tokens)

    # --- how likely texts are ---

    def _score(self, evaluator: LikelihoodEvaluator, file: CodeFile) -> Measurement:
        text = self._text(evaluator, file)
        ids, scored = self._encoder.score(text) if text is not None else ([], 0)
        if text is None or not scored or len(ids) > self._model.config.max_position_embeddings:
            return Measurement(by=evaluator.name, of=file.content_hash, values={})
        inputs = torch.tensor([ids], device=self._model.device)
        logits = self._model(input_ids=inputs, logits_to_keep=scored + 1).logits[0, :-1]
        target = inputs[0, -scored:].to(logits.device)
        nats = 0.0
        for some in (slice(start, start + _AT_ONCE) for start in range(0, scored, _AT_ONCE)):
            nats += torch.nn.functional.cross_entropy(logits[some].float(), target[some], reduction="sum").item()
        values: Values = {"nats": nats, "bytes": len(text.scored.encode())}
        return Measurement(by=evaluator.name, of=file.content_hash, values=values)

    def _text(self, evaluator: LikelihoodEvaluator, file: CodeFile) -> ScoredText | None:
        """What the evaluator makes of the file; None also where it fails."""
        if why_dropped(file, self._encoder) is not None:
            return None
        try:
            return evaluator.text(self._request(file, evaluator.name, self._settings.max_length))
        except CodelupeError:
            return None

    def _request(self, file: CodeFile, asker: str, room: int) -> SampleRequest:
        return sample_request(file, self._encoder, room, f"gate/{asker}")

    # --- what is written ---

    def _short_completions(self) -> Iterator[tuple[CodeFile, Completion]]:
        held_out = [one for one in self._files if one.split != "validation"]
        for file in held_out[: self._settings.gate.generations]:
            completion = complete(self._request(file, GENERATION, _PROMPT_TOKENS))
            if why_dropped(file, self._encoder) is None and completion is not None:
                yield file, completion

    def _write_completions(self, some: Sequence[tuple[CodeFile, Completion]], file: MeasurementFile) -> None:
        tokens = self._settings.gate.generated_tokens
        written = self._write([completion.sample for _, completion in some], tokens)
        for (held_out, completion), one in zip(some, written, strict=True):
            author = self._tokenizer(completion.rest, add_special_tokens=False)["input_ids"][:tokens]
            values = judge(one, held_out.source, completion, self._tokenizer.decode(author))
            file.add(Measurement(by=GENERATION, of=held_out.content_hash, values=values))

    def _solve(self, evaluator: ProblemEvaluator, problems: Sequence[Problem], file: MeasurementFile) -> None:
        for problem, written in zip(problems, self._write(problems, evaluator.max_tokens), strict=True):
            solved = evaluator.is_solved(problem.id, written.text)
            file.add(Measurement(by=evaluator.name, of=problem.id, values={"solved": float(solved)}))

    def _write(self, asked: Sequence[Sample | Problem], tokens: int) -> list[Written]:
        prompts = [self._encoder.prompt(one) for one in asked]
        return write(self._model, self._tokenizer, prompts, tokens) if prompts else []


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time (Python 3.12's ``itertools.batched``)."""
    return (items[start : start + size] for start in range(0, len(items), size))
