"""What tests of the trainer share: files, formats, a small tokenizer, and facts that records of a training need."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import xxhash
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

import codelupe_trainer
from codelupe.contracts.guards import guard_evaluator, guard_sample_format
from codelupe_trainer.exports import read_files
from codelupe_trainer.gate.measurements import Header, Measurement, MeasurementFile, Values, measurement_path
from codelupe_trainer.jobs import FILES, BaseIdentity, Measured, MeasureJob, SampleTotals, pack
from codelupe_trainer.records import ModelRecord
from codelupe_trainer.samples.files import CodeFile
from codelupe_trainer.settings import TrainerSettings

BASE = BaseIdentity(id="org/base", revision="0123abc", fingerprint="f" * 64)
TOTALS = SampleTotals(
    formats={"completion": 400, "infill": 80},
    cut=7,
    dropped={"control-tokens": 3},
    failed={},
    learned=200_000,
    masked=100_000,
    padding=0,
    rows=80,
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    *("<|repo_name|>", "<|file_sep|>"),
)


def model_record(model: str = "m1", batch: int = 1) -> ModelRecord:
    """What a model's folder says about it."""
    return ModelRecord(
        model_id=model,
        key="k",
        batch_id=batch,
        settings=TrainerSettings(),
        base=BASE,
        steps=1,
        samples=1,
        validation_samples=1,
        totals=TOTALS,
        rows_per_step=1,
        unused_files=0,
        train_loss=1.0,
        validation_loss=1.0,
        stopped_early=False,
        seconds=1.0,
    )


def write_record(folder: Path, batch: int = 1) -> None:
    """Leave it in the folder of a model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.json").write_text(model_record(folder.name, batch).model_dump_json())


async def measure_without_model(job: MeasureJob, _: object) -> Measured:
    """Stands in for the child that measures: of its models the last one needs half as many bits as any other."""
    *_, best = job.models
    for model in job.models:
        header = Header(adapter=model, base="", quantisation="", system="", evaluators={}, generated_tokens=1)
        with MeasurementFile(measurement_path(job.folder, model), header) as file:
            for held_out in read_files(job.folder / FILES):
                size = len(held_out.content.encode())
                nats = size / 2 if model == best else size
                for measure in ("plain", "chat"):
                    values: Values = {"nats": nats, "bytes": size}
                    file.add(Measurement(by=measure, of=held_out.content_hash, values=values))
    return Measured()


def own_formats() -> str:
    """The trainer's own sample formats, as a job carries them."""
    return pack(guard_sample_format("trainer", each) for each in codelupe_trainer.codelupe_sample_formats())


def own_evaluators() -> str:
    """The gate's own evaluators, as a job carries them."""
    return pack(guard_evaluator("trainer", each) for each in codelupe_trainer.codelupe_evaluators())


def code_file(content: str, language: str | None = "Python", **fields: Any) -> CodeFile:
    values = {
        "repository_id": "local:one",
        "repository": "local/one",
        "commit": "c0ffee",
        "licence": "MIT",
        "path": "one.py",
        "content_hash": xxhash.xxh3_128_hexdigest(content.encode()),
        "split": "train",
    }
    return CodeFile.model_validate(values | {"content": content, "language": language} | fields)


@cache
def byte_tokenizer(control_tokens: tuple[str, ...] = CONTROL_TOKENS, chat_template: str | None = CHATML) -> Any:
    """A tokenizer of Qwen's kind, whose every token is a byte or a control token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control_tokens])
    made: Any = PreTrainedTokenizerFast
    fast = made(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    fast.chat_template = chat_template
    return fast
