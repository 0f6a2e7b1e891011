"""A model's folder: it appears whole or not at all, and says in it what the model was made of."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from codelupe import atomic_folder, sync_folder, write_file, write_link
from codelupe_trainer.card import render_card
from codelupe_trainer.records import Comparison, ModelRecord, RepositoryShare
from codelupe_trainer.samples.files import CodeFile

RECORD, CARD, PROVENANCE, EVIDENCE = "training.json", "README.md", "provenance.jsonl", "evaluation.jsonl"


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

    Raises:
        OSError: there is a folder of this name, or the disk is full.
    """
    with atomic_folder(folder) as unfinished:
        shutil.copytree(adapter, unfinished, dirs_exist_ok=True)
        record = record.model_copy(update=_write_provenance(unfinished / PROVENANCE, files))
        (unfinished / RECORD).write_text(record.model_dump_json(indent=2), encoding="utf-8")
        (unfinished / CARD).write_text(render_card(record), encoding="utf-8")
    return record


class UnreadableRecord(Exception):
    """The folder's record was written by another version, or is damaged; the message names it."""


def read_record(folder: Path) -> ModelRecord | None:
    """What the folder says about its model; None if there is no such folder.

    Raises:
        UnreadableRecord: it cannot be understood.
    """
    try:
        sync_folder(folder.parent)
        return ModelRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, one["loc"])) for one in error.errors())
        raise UnreadableRecord(
            f"{folder / RECORD} was written by another version of CodeLupe, or is damaged: see its {fields}"
        ) from error


def add_comparison(folder: Path, comparison: Comparison, evidence: Iterable[str]) -> None:
    """Write the gate's decision into the model card, and what it was made of beside it, in JSON lines."""
    record = read_record(folder)
    assert record is not None
    write_file(folder / EVIDENCE, "".join(f"{line}\n" for line in evidence))
    write_file(folder / CARD, render_card(record, comparison))


def point_to(link: Path, folder: Path) -> None:
    """Let the symbolic link lead to the folder beside it."""
    write_link(link, folder.name)


def _write_provenance(path: Path, files: Iterable[CodeFile]) -> dict[str, object]:
    licences: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    repositories: Counter[tuple[str, str, str]] = Counter()
    with path.open("w", encoding="utf-8") as out:
        for file in files:
            row = Provenance.model_validate(file.model_dump(include=set(Provenance.model_fields)))
            out.write(row.model_dump_json() + "\n")
            splits[file.split] += 1
            licences[file.licence or "unknown"] += 1
            languages[file.language or "unknown"] += 1
            repositories[file.repository_id, file.repository, file.commit] += 1
    return {
        "splits": dict(splits),
        "licences": dict(licences.most_common()),
        "languages": dict(languages.most_common()),
        "repositories": [
            RepositoryShare(id=key[0], name=key[1], commit=key[2], files=files)
            for key, files in sorted(repositories.items(), key=lambda item: (-item[1], item[0]))
        ],
    }
