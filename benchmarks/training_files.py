"""Real files to train on: the Python packages that are installed beside CodeLupe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import xxhash

from codelupe_text.shared_runs import Index, Problem
from codelupe_trainer.gate.comparing import HeldOut
from codelupe_trainer.gate.windows import Candidate, cut_window
from codelupe_trainer.jobs import FILES
from codelupe_trainer.samples.files import CodeFile

_SEED = 42


def package_files(package: str) -> Iterator[CodeFile]:
    """Its modules of 200 to 8,000 characters, by path.

    Raises:
        LookupError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"the package {package} is not installed")
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        content = path.read_text(encoding="utf-8", errors="replace")
        if 200 <= len(content) <= 8000:
            yield CodeFile(
                repository_id=f"installed:{package}",
                repository=f"installed/{package}",
                commit="",
                licence=None,
                path=f"{package}/{path.relative_to(root)}",
                language="Python",
                content_hash=xxhash.xxh3_128_hexdigest(content.encode()),
                split="train",
                content=content,
            )


def cut_file(file: CodeFile, most_bytes: int) -> CodeFile | None:
    """A window of the file as a set has it, on which it decides; None where there is nothing in it."""
    candidate = Candidate(
        file_id=0,
        repository_id=file.repository_id,
        group_id=file.repository_id,
        language=file.language,
        content=file.content,
        content_hash=bytes.fromhex(file.content_hash),
        is_young=None,
        known=None,
        part=None,
    )
    window = cut_window(candidate, most_bytes, _SEED)
    if window is None:
        return None
    changes = {"content": window.text, "content_hash": window.text_hash.hex(), "split": "decides"}
    return file.model_copy(update=changes)


def index_of(windows: Iterable[CodeFile]) -> Index:
    """The product's filter: what has a run of words in common with one of the windows goes into no batch."""
    return Index([Problem(id=one.content_hash, texts=(one.content,)) for one in windows])


def as_held_out(windows: Iterable[CodeFile]) -> list[HeldOut]:
    """The windows as the gate looks at them: each repository is a group, and all of them decide."""
    return [
        HeldOut(hash=one.content_hash, group_id=one.repository_id, language=one.language, part="decides", is_young=None)
        for one in windows
    ]


def write_job_files(folder: Path, training: Sequence[CodeFile], validation: Sequence[CodeFile]) -> None:
    """Leave them where a job finds its files, in an order that has nothing to do with where they come from."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [*training, *(file.model_copy(update={"split": "validation"}) for file in validation)]
    lines = (file.model_dump_json() + "\n" for file in sorted(files, key=lambda file: file.content_hash))
    (folder / FILES).write_text("".join(lines), encoding="utf-8")
