"""A model's folder: it appears whole or not at all, and says in it what the model was made of."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from codelupe_trainer.card import render_card
from codelupe_trainer.records import Comparison, ModelRecord, RepositoryShare
from codelupe_trainer.samples import CodeFile

_RECORD, _CARD, _PROVENANCE = "training.json", "README.md", "provenance.jsonl"


class Provenance(BaseModel):
    """Where one sample comes from."""

    model_config = ConfigDict(frozen=True)

    repository_id: str
    repository: str
    commit: str
    licence: str | None
    path: str
    content_hash: str
    split: str


def publish(folder: Path, adapter: Path, record: ModelRecord, files: Iterable[CodeFile]) -> ModelRecord:
    """Make the folder of the trained adapter and the files that it saw, and complete the record by them.

    Everything is written beside it first, so that a folder of this name is a whole one.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(adapter, temporary)
    record = record.model_copy(update=_write_provenance(temporary / _PROVENANCE, files))
    (temporary / _RECORD).write_text(record.model_dump_json(indent=2), encoding="utf-8")
    (temporary / _CARD).write_text(render_card(record), encoding="utf-8")
    temporary.rename(folder)
    return record


def read_record(folder: Path) -> ModelRecord | None:
    """What the folder says about its model; None if there is no such folder."""
    try:
        return ModelRecord.model_validate_json((folder / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def add_comparison(folder: Path, comparison: Comparison) -> None:
    """Write the gate's decision into the model card."""
    record = read_record(folder)
    assert record is not None
    temporary = folder / f".{_CARD}.tmp"
    temporary.write_text(render_card(record, comparison), encoding="utf-8")
    temporary.replace(folder / _CARD)


def point_to(link: Path, folder: Path) -> None:
    """Let the symbolic link lead to the folder beside it."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name, target_is_directory=True)
    temporary.replace(link)


def _write_provenance(path: Path, files: Iterable[CodeFile]) -> dict[str, object]:
    licences: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    repositories: Counter[tuple[str, str, str]] = Counter()
    with path.open("w", encoding="utf-8") as out:
        for file in files:
            row = Provenance.model_validate(file.model_dump(include=set(Provenance.model_fields)))
            out.write(row.model_dump_json() + "\n")
            licences[file.licence or "unknown"] += 1
            languages[file.language or "unknown"] += 1
            repositories[file.repository_id, file.repository, file.commit] += 1
    return {
        "licences": dict(licences.most_common()),
        "languages": dict(languages.most_common()),
        "repositories": [
            RepositoryShare(id=key[0], name=key[1], commit=key[2], files=files)
            for key, files in sorted(repositories.items(), key=lambda item: (-item[1], item[0]))
        ],
    }
