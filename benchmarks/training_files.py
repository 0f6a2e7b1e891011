"""Real files to train on: the Python packages that are installed beside CodeLupe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import xxhash

from codelupe_trainer.jobs import FILES
from codelupe_trainer.samples.files import CodeFile


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


def write_job_files(folder: Path, training: Sequence[CodeFile], validation: Sequence[CodeFile]) -> None:
    """Leave them where a job finds its files, in an order that has nothing to do with where they come from."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [*training, *(file.model_copy(update={"split": "validation"}) for file in validation)]
    lines = (file.model_dump_json() + "\n" for file in sorted(files, key=lambda file: file.content_hash))
    (folder / FILES).write_text("".join(lines), encoding="utf-8")
