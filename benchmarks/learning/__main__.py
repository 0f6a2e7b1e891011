"""``make bench-learning``: batches of real packages from three domains, one after another, with and without replay.

SmolLM2 is trained and measured by the product's own child, and the gate's own rule decides which model the next batch
goes on from. All are measured on packages of the same domains that no model has seen.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import anyio
from rich.console import Console
from rich.progress import Progress

from benchmarks.machine import describe_machine, describe_packages
from benchmarks.models import ModelFolder
from benchmarks.training_files import as_held_out, cut_file, index_of, package_files
from codelupe_trainer.gate.comparing import compare, figures
from codelupe_trainer.gate.evaluators import ChatEvaluator, PlainEvaluator
from codelupe_trainer.gate.measurements import Key, Measurement
from codelupe_trainer.gate.rule import PLAIN, Limits, decide
from codelupe_trainer.samples.files import CodeFile

FOLDER = Path(".codelupe/benchmark-learning")
WINDOW_BYTES = 512
LIMITS = Limits()
REPLAY_SHARE = 0.15
"""As the setting `replay_share`."""
_VALIDATION = 8
_SETTINGS = {
    "profile": "smollm2-135m-cpu",
    "samples_per_step": 4,
    "eval_every": 1000,
    "learning_rate": 5e-4,
    "gate": {"generations": 0, "problems": 0},
}


@dataclass(frozen=True)
class Domain:
    """What one batch is of."""

    name: str
    learned: Sequence[str]
    """Packages to learn from."""
    held_out: Sequence[str]
    """Packages to measure on; each is a group."""


DOMAINS = (
    Domain(
        "numbers",
        ("sympy", "scipy", "mpmath"),
        ("networkx", "sklearn", "numpy", "pandas", "narwhals", "joblib", "torchgen"),
    ),
    Domain(
        "network",
        ("aiohttp", "elasticsearch", "opentelemetry"),
        ("urllib3", "requests", "werkzeug", "httpcore", "huggingface_hub", "prometheus_client", "elastic_transport"),
    ),
    Domain(
        "text",
        ("rich", "pygments", "markdown"),
        ("markdown_it", "jinja2", "typer", "tqdm", "jsonschema", "yaml", "pathspec"),
    ),
)


@dataclass(frozen=True)
class Row:
    """One model."""

    model: str
    outcome: str
    reasons: tuple[str, ...]
    bits_per_byte: dict[str, float]
    """Of plain code by domain, over all of them, and as a chat."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--files", type=int, default=160, help="of a batch (%(default)s)")
    parser.add_argument("--steps", type=int, default=24, help="of a training, of four samples each (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    with Progress(console=Console(stderr=True)) as progress:
        rows = anyio.run(partial(learn, ModelFolder(FOLDER, progress), DOMAINS, arguments.files, arguments.steps))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    print(describe_machine())
    print(describe_packages("torch", "transformers", "peft", "trl"))
    print(f"- batches of {arguments.files} files, trainings of {arguments.steps} steps of four samples\n")
    print(_table(rows))


async def learn(
    models: ModelFolder, domains: Sequence[Domain], files: int, steps: int, windows: int = 14, limits: Limits = LIMITS
) -> list[Row]:
    """The base, and the models of each batch with replay and without."""
    held_out = {domain.name: list(_windows(domain, windows)) for domain in domains}
    index = index_of(one for some in held_out.values() for one in some)
    batches = []
    for domain in domains:
        found = [file for package in domain.learned for file in package_files(package)]
        allowed = [file for file in found if not index.problems_in(file.content)]
        batches.append(sorted(allowed, key=lambda file: file.content_hash)[:files])
    bench = _Bench(models, held_out, steps, limits)
    rows = [await bench.row("base", None, None)]
    for name, share in (("with replay", REPLAY_SHARE), ("without", 0.0)):
        rows += await bench.line(name, domains, batches, share)
    return rows


def _windows(domain: Domain, of_each: int) -> Iterator[CodeFile]:
    for package in domain.held_out:
        for file in list(package_files(package))[:of_each]:
            if (window := cut_file(file, WINDOW_BYTES)) is not None:
                yield window


class _Bench:
    def __init__(
        self, models: ModelFolder, windows: Mapping[str, Sequence[CodeFile]], steps: int, limits: Limits
    ) -> None:
        self._models = models
        self._windows = windows
        self._all = [one for some in windows.values() for one in some]
        self._steps = steps
        self._limits = limits
        self._measured: dict[str, Mapping[Key, Measurement]] = {}

    async def line(
        self, name: str, domains: Sequence[Domain], batches: Sequence[Sequence[CodeFile]], share: float
    ) -> list[Row]:
        """A model of each batch, each going on from the one promoted last."""
        rows: list[Row] = []
        in_use, adapter = "base", None
        for number, domain in enumerate(domains):
            model = f"{domain.name}, {name}" if number else domain.name
            replayed = _replayed(batches[:number], share, len(batches[number]))
            trained = await self._models.train(
                model,
                {**_SETTINGS, "max_steps": self._steps},
                [*batches[number][_VALIDATION:], *replayed],
                batches[number][:_VALIDATION],
                adapter,
            )
            rows.append(await self.row(model, trained, in_use))
            if rows[-1].outcome == "promoted":
                in_use, adapter = model, trained
        return rows

    async def row(self, model: str, adapter: Path | None, in_use: str | None) -> Row:
        """What the model needs, and whether it replaces the one in use."""
        measured = await self._models.measure(
            {model: adapter}, _SETTINGS, self._all, (PlainEvaluator(), ChatEvaluator())
        )
        self._measured |= measured
        found = measured[model]
        by_domain = {name: figures(as_held_out(some), found)[PLAIN] for name, some in self._windows.items()}
        whole = figures(as_held_out(self._all), found)
        bits = {**by_domain, "all": whole[PLAIN], "chat": whole["chat"]}
        if in_use is None:
            return Row(model, "", (), bits)
        compared = compare(as_held_out(self._all), self._measured[in_use], found)
        decision = decide(compared, self._limits)
        return Row(model, decision.outcome, tuple(reason.rule for reason in decision.reasons), bits)


def _replayed(earlier: Sequence[Sequence[CodeFile]], share: float, size: int) -> list[CodeFile]:
    """Files of earlier batches, in turn from each package: so many that they make up this share of all."""
    packages = defaultdict[str, list[CodeFile]](list)
    for batch in earlier:
        for file in batch[_VALIDATION:]:
            packages[file.repository_id].append(file)
    draw = random.Random(42)
    turns = [
        (turn, draw.random(), file)
        for files in packages.values()
        for turn, file in enumerate(draw.sample(files, len(files)))
    ]
    wanted = round(share / (1 - share) * size)
    drawn = sorted(turns, key=lambda one: one[:2])[:wanted]
    return [file.model_copy(update={"split": "replay"}) for _, _, file in drawn]


def _table(rows: Sequence[Row]) -> str:
    """Bits per byte, with the change against the base in percent."""
    names = list(rows[0].bits_per_byte)
    lines = [["model", *names, "decision"], ["---"] * (len(names) + 2)]
    for row in rows:
        changes = (
            f"{value:.4f} ({value / first - 1:+.1%})"
            for value, first in zip(row.bits_per_byte.values(), rows[0].bits_per_byte.values(), strict=True)
        )
        lines.append([row.model, *changes, ", ".join((row.outcome, *row.reasons))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
