"""Base models and their tokenizers."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    GgufConfig,
    PreTrainedModel,
)
from transformers.utils.hub import cached_file

from codelupe import atomic_folder
from codelupe_trainer.base_models import packaged_gguf
from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.locks import exclusive
from codelupe_trainer.jobs import Activity, BaseIdentity, OnReport
from codelupe_trainer.samples.encoding import Encoder
from codelupe_trainer.settings import TrainerSettings

Tokenizer = Any
"""Transformers' own tokenizer classes share no useful type."""


def prepare(settings: TrainerSettings, bases: Path, on_report: OnReport) -> str:
    """Set the threads; return where the base model is: a folder or a hub id. A packaged one is converted once."""
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    gguf = packaged_gguf(settings.base)
    if gguf is None:
        return settings.base
    folder = bases / gguf.stem
    with exclusive(bases / ".lock"):
        if not folder.exists():
            on_report(Activity(what="converting the base model"))
            _convert(gguf, folder)
    return str(folder)


def identify(base: str, settings: TrainerSettings) -> BaseIdentity:
    """Which model ``base`` is: a folder or a hub id, as :func:`prepare` returns it.

    Raises:
        Unusable: its folder has no configuration or no tokenizer.
        OSError: the hub does not answer, or there is no such model.
    """
    if base.startswith(("/", ".", "~")) and not Path(base).is_dir():
        raise Unusable(f"there is no folder {base}, where the base model is to be")
    gguf = packaged_gguf(settings.base)
    paths = [gguf] if gguf is not None else [_file(base, name) for name in ("config.json", "tokenizer.json")]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    revision = None if gguf is not None or Path(base).is_dir() else _commit(Path(paths[0]))
    return BaseIdentity(id=settings.base, revision=revision, fingerprint=digest.hexdigest())


def require_base(base: BaseIdentity, theirs: BaseIdentity | None, adapter: str) -> None:
    """Refuse an adapter of another base, also where its matrices have the same shapes. None: its base is not known.

    Raises:
        Unusable: it is one.
    """
    if theirs is not None and (theirs.revision, theirs.fingerprint) != (base.revision, base.fingerprint):
        raise Unusable(
            f"the base {_described(base)} is not the one that {adapter} was trained on, {_described(theirs)}: bring "
            "that one back, or name the new one by another path, so that training begins with it"
        )


def _described(base: BaseIdentity) -> str:
    return f"{base.id} (revision {base.revision}, fingerprint {base.fingerprint[:16]})"


def load_model(base: str, settings: TrainerSettings) -> PreTrainedModel:
    """The base on the card in bfloat16, or on the CPU in float32; its weights in 4 bits if the settings say so."""
    on_card = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_card else torch.float32
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=dtype,
        device_map={"": torch.cuda.current_device()} if on_card else None,
        attn_implementation="sdpa",
        quantization_config=nf4(dtype) if settings.quantisation == "nf4" else None,
    )
    return model


def load_tokenizer(base: str) -> Tokenizer:
    """The base's tokenizer, able to pad."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_encoder(base: str, tokenizer: Tokenizer, settings: TrainerSettings) -> Encoder:
    """Makes the base's tokens.

    Raises:
        UnfitBase: it has no chat template, or its generation does not stop at the end of a turn.
    """
    stops = GenerationConfig.from_pretrained(base).eos_token_id
    return Encoder(tokenizer, stops if isinstance(stops, list) else [stops], settings.system)


def nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's quantisation (Dettmers and others, arXiv 2305.14314)."""
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _commit(path: Path) -> str | None:
    """Of a file in the hub's cache, which keeps it under ``snapshots/<commit>``."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None


def _file(base: str, name: str) -> str:
    if Path(base).is_dir():
        path = str(Path(base) / name)
        if not Path(path).is_file():
            raise Unusable(f"the folder {base} is no base model: it has no {name}")
        return path
    found = cached_file(base, name)
    assert found is not None, "it would have raised"
    return found


def _convert(gguf: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    with atomic_folder(folder) as unfinished:
        model.save_pretrained(unfinished)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(unfinished)
