"""The model card: what a model is, what it was made of, how it did, how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from codelupe_trainer.records import Comparison, ModelRecord

_REPOSITORIES_SHOWN = 200
_WRITTEN = {
    "next_line": "next line exactly the author's",
    "edit_similarity": "edit similarity to the author's code",
    "syntax_valid": "no more syntax errors than the author's code",
    "ends": "comes to an end by itself",
}


def render_card(record: ModelRecord, comparison: Comparison | None = None) -> str:
    """The card in Markdown, with the front matter that model hubs read."""
    parts = [
        _front_matter(record),
        f"# {record.model_id}\n\nA LoRA adapter for `{record.settings.base}`, trained by CodeLupe to complete code.",
        _training(record),
        _data(record),
        _comparison(comparison),
        _loading(record),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(record: ModelRecord) -> str:
    from huggingface_hub import ModelCardData

    base = record.settings.base
    is_local = ":" in base or base.startswith(("/", "."))
    data = ModelCardData(
        base_model=None if is_local else base,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["code", "codelupe", "lora"],
    )
    return f"---\n{data.to_yaml()}\n---"


def _training(record: ModelRecord) -> str:
    settings = record.settings
    totals = record.totals
    stopped = "stopped early" if record.stopped_early else "ran to its end"
    rows = {
        "base": f"`{record.base.id}`, revision {record.base.revision or 'none'}, fingerprint "
        f"`{record.base.fingerprint[:16]}`, weights {settings.quantisation}",
        "training loss": f"{record.train_loss:.4f} nats per completion token, mean over the run",
        "validation loss": f"{record.validation_loss:.4f}, at the best evaluation",
        "steps": f"{record.steps:,} of {record.rows_per_step} rows; {stopped}",
        "files": f"{record.samples:,} for training, {record.validation_samples:,} for validation",
        "samples": f"{_counts(totals.formats)}; {totals.cut:,} show only a part of their file",
        "steps left out": ", ".join(map(str, record.skipped_steps)) or "none",
        "dropped files": _counts(totals.dropped) or "none",
        "tokens": f"{totals.learned:,} learned, {totals.masked:,} only read, {totals.padding:,} of padding",
        "rows": f"{totals.rows:,} of up to {settings.max_length:,} tokens, "
        + ("packed" if settings.packing else "a sample each"),
        "adapter": f"rank {settings.lora.rank}, alpha {settings.lora.alpha}, dropout {settings.lora.dropout:g}",
        "learning rate": f"{settings.learning_rate:g}, cosine, warm-up over {settings.warmup_share:.0%} of the steps",
        "seed": str(settings.seed),
        "time": f"{record.seconds:.0f} s",
    }
    return "## Training\n\n" + _table(("", ""), rows.items())


def _data(record: ModelRecord) -> str:
    shown = record.repositories[:_REPOSITORIES_SHOWN]
    left = len(record.repositories) - len(shown)
    files = sum(record.licences.values())
    replayed = record.splits.get("replay", 0)
    line = ", ".join(map(str, record.batches or [record.batch_id]))
    summary = (
        f"## Data\n\nBatch {record.batch_id}: {files:,} files of {len(record.repositories):,} repositories with a "
        f"quality score of {record.settings.min_score:g} or more. `provenance.jsonl` names repository, commit, "
        "licence, path and content hash of each."
    )
    parts = [
        summary,
        f"{replayed:,} of them come from earlier batches and were learned from again." if replayed else "",
        f"It goes on from `{record.parent}`; together they were trained on the batches {line}."
        if record.parent
        else "",
        f"{record.unused_files:,} more files of the batch were not used." if record.unused_files else "",
        f"Licences: {_counts(record.licences)}.",
        f"Languages: {_counts(record.languages)}.",
        _table(
            ("repository", "commit", "files"),
            ((_cell(one.name), f"`{_cell(one.commit)}`", f"{one.files:,}") for one in shown),
        ),
        f"… and {left:,} more repositories." if left else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return "## Comparison\n\nNot yet compared with the model in use."
    verdict = "Promoted." if comparison.promoted else "Rejected:"
    reasons = [f"- {one.rule}: {one.detail}" for one in comparison.decision.reasons]
    used = comparison.evaluation_set
    extent = (
        f"Measured on version {used.version} of the evaluation set (`{used.hash[:16]}`): {used.windows:,} windows of "
        f"{used.groups:,} groups of repositories decide, from which no model has learned. In bits per byte, so lower "
        f"is better; the gain is over `{_cell(comparison.current)}`, with its 95% interval."
    )
    parts = ["## Comparison", "\n".join([verdict, *reasons]), extent, _gains(comparison), _written(comparison)]
    return "\n\n".join([*parts, *_problems(comparison)])


def _gains(comparison: Comparison) -> str:
    header = ("measure", "over", _cell(comparison.current), "this model", "gain", "interval", "groups", "windows")
    rows = (
        (
            *(_cell(row.measure), _cell(row.over), f"{row.gain.current:.4f}", f"{row.gain.candidate:.4f}"),
            f"{row.gain.gain:+.4f}",
            "none" if row.gain.low is None or row.gain.high is None else f"{row.gain.low:+.4f} to {row.gain.high:+.4f}",
            *(f"{row.gain.groups:,}", f"{row.gain.windows:,}"),
        )
        for row in comparison.decision.table
    )
    return _table(header, rows)


def _written(comparison: Comparison) -> str:
    names = {"current": comparison.current, "candidate": "this model", "base": "base"}
    header = ("of what it wrote", *(_cell(names[role]) for role in comparison.metrics))
    rows = [
        (label, *(f"{figures[name]:.3f}" if name in figures else "" for figures in comparison.metrics.values()))
        for name, label in _WRITTEN.items()
        if any(name in figures for figures in comparison.metrics.values())
    ]
    return _table(header, rows) if rows else "No code was generated."


def _problems(comparison: Comparison) -> Iterator[str]:
    for name, passes in comparison.decision.anchors.items():
        yield (
            f"Of {_cell(name)} both solve {passes.both:,} problems, only `{_cell(comparison.current)}` solves "
            f"{passes.lost:,}, only this model {passes.gained:,}, and neither {passes.neither:,}."
        )


def _loading(record: ModelRecord) -> str:
    packaged = record.settings.base.startswith("package:")
    origin = (
        f"The base is the GGUF file of the Python package `{record.settings.base.partition(':')[2]}`, dequantised; "
        "`adapter_config.json` says where its converted form lies.\n\n"
        if packaged
        else ""
    )
    return f"""## Use

{origin}```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = "path/to/{record.model_id}"
model = AutoPeftModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
messages = [{{"role": "user", "content": "Continue this Python file.\\n\\ndef mean(values):"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))
```"""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_cell(name)} {count:,}" for name, count in counts.items())


def _cell(text: str) -> str:
    """Text of other people's, harmless in a table of Markdown."""
    return "".join("\\" + c if c in "|`*_[]<>\\" else c if c.isprintable() else " " for c in text)
