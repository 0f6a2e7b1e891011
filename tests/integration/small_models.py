"""``python -m tests.integration.small_models make|look FOLDER``: models made and looked at in a process with torch.

``make`` leaves in the folder ``smollm2-0001``, an adapter of the base in ``smollm2.json``; ``qwen2``, a tiny random
base; and ``qwen2-0001``, an adapter that has learned the files of the job ``qwen2.json`` beside it in NF4. ``look``
compares these with what was exported to ``smollm2-gguf`` and ``qwen2-gguf``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split, Whitespace
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, Qwen2Config, Qwen2ForCausalLM

from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.exporting import encode_files
from codelupe_trainer.child.gguf_file import QWEN2_PIECES, write_gguf
from codelupe_trainer.child.merging import merge, pass_through_nf4
from codelupe_trainer.child.models import load_encoder, load_model, load_tokenizer, prepare
from codelupe_trainer.jobs import ExportJob, GgufType
from codelupe_trainer.samples.encoding import Encoded

QUESTION = "<|im_start|>user\nContinue this Python file.\n\ndef mean(values):<|im_end|>\n<|im_start|>assistant\n"
GENERATED = 24
STEPS = 30


def make(folder: Path) -> None:
    """Bases and adapters."""
    smollm2 = _job(folder, "smollm2")
    base = prepare(smollm2.settings, smollm2.bases, lambda _: None)
    model = _with_adapter(load_model(base, smollm2.settings))
    for name, values in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=0.01)
    _save(model, base, smollm2.adapter)
    _make_qwen2(base, folder / "qwen2")
    _learn(_job(folder, "qwen2"))


def look(folder: Path) -> dict[str, Any]:
    """What the exported models are like."""
    smollm2, qwen2 = _job(folder, "smollm2"), _job(folder, "qwen2")
    base = prepare(smollm2.settings, smollm2.bases, lambda _: None)
    return {
        "smollm2": _answer(merge(base, smollm2.adapter, "original"), load_tokenizer(base)),
        "smollm2-gguf": _answer(*_from_gguf(smollm2.to)),
        "qwen2": _answer(merge(qwen2.settings.base, qwen2.adapter, "dequantised"), load_tokenizer(qwen2.settings.base)),
        "qwen2-gguf": _answer(*_from_gguf(qwen2.to)),
        "refusals": _refusals(qwen2, folder),
        "divergences": _divergences(qwen2),
        "dequantised_difference": _dequantised_difference(qwen2),
    }


def _job(folder: Path, name: str) -> ExportJob:
    return ExportJob.model_validate_json((folder / f"{name}.json").read_bytes())


def _samples(job: ExportJob, base: str) -> list[Encoded]:
    return encode_files(job, load_encoder(base, load_tokenizer(base), job.settings))


def _make_qwen2(tokenizer_of: str, folder: Path) -> None:
    """With biases, untied embeddings, and more rows than tokens; the tokenizer divides text as Qwen's."""
    tokenizer = load_tokenizer(tokenizer_of)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(QWEN2_PIECES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 64,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="bfloat16",
    )
    model = Qwen2ForCausalLM(config).bfloat16()
    for name, values in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values, std=0.1)
    model.save_pretrained(folder)


def _learn(job: ExportJob) -> None:
    base = job.settings.base
    model = _with_adapter(load_model(base, job.settings))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=3e-3)
    for _ in range(STEPS):
        for sample in _samples(job, base):
            model(input_ids=torch.tensor([sample.ids]), labels=torch.tensor([sample.labels])).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    _save(model, base, job.adapter)


def _with_adapter(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear"))


def _save(model: Any, base: str, folder: Path) -> None:
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)


def _from_gguf(folder: Path) -> tuple[Any, Any]:
    [file] = folder.glob("*.gguf")
    how = {"gguf_file": file.name, "quantization_config": GgufConfig(dequantize=True)}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how)
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=file.name)


def _answer(model: Any, tokenizer: Any) -> list[int]:
    """The question in tokens, and what the model answers."""
    inputs = tokenizer(QUESTION, return_tensors="pt", add_special_tokens=False)
    written: list[int] = model.float().generate(**inputs, max_new_tokens=GENERATED, do_sample=False)[0].tolist()
    return written


def _divergences(job: ExportJob) -> dict[str, float]:
    """Mean Kullback-Leibler divergence from the base in NF4 with its adapter, in nats per token of the answers.

    Of what was exported, of what merging into each form of the base gives, and of merging into the one in NF4.
    """
    base = job.settings.base
    trained = PeftModel.from_pretrained(load_model(base, job.settings), job.adapter)
    models: dict[str, Any] = {
        "exported": _from_gguf(job.to)[0],
        "original": _in_float32(merge(base, job.adapter, "original")),
        "dequantised": _in_float32(merge(base, job.adapter, "dequantised")),
        "in NF4": PeftModel.from_pretrained(load_model(base, job.settings), job.adapter).merge_and_unload(),
    }
    samples = _samples(job, base)
    return {name: _divergence(trained, model, samples) for name, model in models.items()}


def _refusals(job: ExportJob, folder: Path) -> list[str]:
    """What is said of models and tokenizers that cannot be written as GGUF."""
    base = job.settings.base
    said = []
    for change in (
        {"use_sliding_window": True},
        {"rope_parameters": {"rope_type": "yarn"}},
        {"model_type": "gemma"},
        {"vocab_size": 100},
        {},
    ):
        model: Any = AutoModelForCausalLM.from_pretrained(base)
        model.config.__dict__ |= change
        tokenizer = load_tokenizer(base)
        if not change:
            tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
        try:
            write_gguf(model, tokenizer, folder / "never.gguf", "never", GgufType.f16)
        except Unusable as error:
            said.append(str(error))
    return [*said, *(path.name for path in folder.glob("never*"))]


def _in_float32(model: Any) -> Any:
    return model.float()


@torch.inference_mode()
def _divergence(trained: Any, model: Any, samples: list[Encoded]) -> float:
    nats: list[float] = []
    for sample in samples:
        ids = torch.tensor([sample.ids])
        expected, found = (
            each(input_ids=ids, logits_to_keep=sample.learned + 1).logits[0, :-1].float().log_softmax(-1)
            for each in (trained, model)
        )
        nats += (expected.exp() * (expected - found)).sum(-1).tolist()
    return sum(nats) / len(nats)


def _dequantised_difference(job: ExportJob) -> float:
    """The largest one between weights that went through NF4 and those that transformers loads so."""
    ours: Any = AutoModelForCausalLM.from_pretrained(job.settings.base, dtype=torch.float32)
    pass_through_nf4(ours)
    theirs: Any = load_model(job.settings.base, job.settings)
    pairs = zip(ours.parameters(), theirs.dequantize().parameters(), strict=True)
    return max(float((one - other).abs().max()) for one, other in pairs)


if __name__ == "__main__":
    torch.manual_seed(1)
    torch.set_num_threads(1)
    result = {"make": make, "look": look}[sys.argv[1]](Path(sys.argv[2]))
    sys.stdout.write(json.dumps(result))
