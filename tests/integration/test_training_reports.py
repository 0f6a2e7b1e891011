"""What befell users of other trainers, tried on this one with the real small model's tokenizer and weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import codelupe_trainer
from codelupe import Sample
from codelupe_trainer.jobs import TrainJob
from codelupe_trainer.process import CannotSucceed, run_child
from codelupe_trainer.samples.completion import complete
from codelupe_trainer.samples.drawing import sample_request
from codelupe_trainer.samples.encoding import IGNORED, Encoder
from codelupe_trainer.settings import TrainerSettings
from tests.integration.test_trainer import code_files, write_files
from tests.training import own_formats

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("trainer")]

MAX_LENGTH = 256


@pytest.fixture(scope="module")
def tokenizer(base_models: Path) -> Any:
    [folder] = base_models.glob("SmolLM2*")
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer, [tokenizer.eos_token_id])


@pytest.fixture(scope="module")
def samples(encoder: Encoder) -> list[Sample]:
    def make() -> Iterator[Sample]:
        for package in ("rich", "pluggy", "structlog", "anyio"):
            for file in code_files(package):
                made = complete(sample_request(file, encoder, MAX_LENGTH, "1/42"))
                assert made is not None
                yield made.sample

    return list(make())


def test_training_begins_with_the_tokens_of_generation(tokenizer: Any, encoder: Encoder, samples: list[Sample]) -> None:
    """trl#5213: tokenised together, 68 percent of these samples begin with other tokens than a question has."""
    joined = 0
    for sample in samples:
        encoded = encoder.encode(sample, MAX_LENGTH)
        assert encoded is not None
        prompt = encoder.prompt(sample)
        assert encoded.ids[: len(prompt)] == prompt
        assert encoded.labels[: len(prompt)] == [IGNORED] * len(prompt)
        text = tokenizer.decode(encoded.ids)
        joined += tokenizer(text, add_special_tokens=False)["input_ids"][: len(prompt)] != prompt
    assert len(samples) > 90
    assert joined > len(samples) / 2, "the report can be seen in these samples"


def test_the_end_marker_is_learned_where_the_code_ends_and_nothing_after_it(
    tokenizer: Any, encoder: Encoder, samples: list[Sample]
) -> None:
    """llamafactory#5561 and #7925 (not learned), llm-course#33 (masked, as the padding is the same token) and
    llamafactory#7306 (a newline after it is learned, too)."""
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    ending = 0
    for sample in samples:
        encoded = encoder.encode(sample, MAX_LENGTH)
        assert encoded is not None
        ending += sample.ends
        is_learned = encoded.labels[-1] == tokenizer.eos_token_id
        assert is_learned == (sample.ends and len(encoded.ids) < MAX_LENGTH) or len(encoded.ids) == MAX_LENGTH
        assert encoded.labels.count(tokenizer.eos_token_id) == is_learned
    assert 0 < ending < len(samples)


PACKED_AND_PADDED = """
import json, sys
from pathlib import Path
import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from codelupe_trainer.child.models import load_encoder, load_model, load_tokenizer, prepare
from codelupe_trainer.child.rows import read_rows
from codelupe_trainer.jobs import TrainJob

def rows(job):
    return read_rows(job, encoder, lambda report: None, False).train

def loss(batch):
    labels = batch.pop("labels")
    keep = {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask") if name in batch}
    logits = model(**keep, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).double(), labels[:, 1:].flatten(), reduction="sum", ignore_index=-100
    ).item()

job = TrainJob.model_validate_json(sys.stdin.read())
base = prepare(job.settings, job.bases, lambda report: None)
tokenizer = load_tokenizer(base)
encoder = load_encoder(base, tokenizer, job.settings)
model = load_model(base, job.settings).eval()
found = {}
with torch.inference_mode():
    for packing in (True, False):
        settings = job.settings.model_copy(update={"packing": packing})
        data = rows(job.model_copy(update={"settings": settings}))
        collate = DataCollatorForLanguageModeling(tokenizer.pad_token_id, padding_free=packing)
        found[len(data)] = sum(loss(collate([data[at]])) for at in range(len(data)))
json.dump(found, sys.stdout)
"""


def test_samples_in_one_row_do_not_see_one_another(base_models: Path, tmp_path: Path) -> None:
    """trl#3067 and #2834: packed, the loss is that of the samples one by one."""
    files = [file.model_copy(update={"content": file.content[:300]}) for file in islice(code_files("rich"), 12)]
    write_files(tmp_path, files, validation=1)
    settings = TrainerSettings.model_validate(
        {"profile": "smollm2-135m-cpu", "max_length": 512, "formats": {"completion": 1}, "threads": 1}
    )
    job = TrainJob(settings=settings, folder=tmp_path, bases=base_models, draw="1/42", formats=own_formats())
    result = subprocess.run(
        [sys.executable, "-c", PACKED_AND_PADDED],
        input=job.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    losses = {int(rows): loss for rows, loss in json.loads(result.stdout.splitlines()[-1]).items()}
    packed, padded = sorted(losses)
    assert padded == 11
    assert packed <= 6
    assert losses[packed] == pytest.approx(losses[padded], rel=1e-5)


async def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(
    base_models: Path, tmp_path: Path
) -> None:
    """axolotl#1813: memory that runs out after an hour is told before. This base's folder holds no weights at all."""
    [small] = base_models.glob("SmolLM2*")
    base = tmp_path / "base"
    base.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        (base / name).symlink_to(small / name)
    config = json.loads((small / "config.json").read_text())
    config |= {"num_hidden_layers": 500, "hidden_size": 9 * 2048, "intermediate_size": 65536, "head_dim": 2048}
    (base / "config.json").write_text(json.dumps(config))
    write_files(tmp_path / "work", list(islice(code_files("pluggy"), 4)), validation=1)
    settings = TrainerSettings.model_validate({"profile": "smollm2-135m-cpu", "base": str(base)})
    job = TrainJob(settings=settings, folder=tmp_path / "work", bases=base_models, draw="1/42", formats=own_formats())
    with pytest.raises(CannotSucceed, match=r"(?s)takes [0-9.]+ GiB even .* of 1.*embeddings and head") as caught:
        await run_child(job, lambda report: None)
    assert "What would fit: " in str(caught.value)


def test_the_formats_of_the_trainer_are_offered() -> None:
    names = [each.name for each in codelupe_trainer.codelupe_sample_formats()]
    assert {"completion", "infill", "repository-infill"} <= set(names)
    assert set(TrainerSettings().formats) <= set(names)
