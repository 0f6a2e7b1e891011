from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from codelupe_crawler.files import MAX_FILE_BYTES, is_source, languages, main_language, read_text, walk


@pytest.mark.parametrize(
    "path",
    ["a/b.py", "a.PYI", "x.rs", "README", "readme.md", "LICENSE", "LICENSE-MIT", "COPYING.txt", "licenses/NOTICE"],
)
def test_source_text_readmes_and_licences_are_taken(path: str) -> None:
    assert is_source(PurePosixPath(path))


@pytest.mark.parametrize(
    "path",
    ["a.so", "a.pyc", "__pycache__/a.cpython-311.py", "data.json", "reader.txt", "../a.py", ".git/a.py", "x/.GIT/a.py"],
)
def test_everything_else_is_left_out(path: str) -> None:
    assert not is_source(PurePosixPath(path))


@pytest.mark.parametrize(
    ("suffix", "language"),
    [
        *((".py", "Python"), (".pyi", "Python"), (".pyx", "Cython"), (".rs", "Rust"), (".go", "Go"), (".h", "C")),
        *((".hpp", "C++"), (".cu", "Cuda"), (".ts", "TypeScript"), (".tsx", "TypeScript"), (".mjs", "JavaScript")),
        *((".php", "PHP"), (".sql", "SQL"), (".r", "R"), (".dart", "Dart"), (".sh", "Shell"), (".jl", "Julia")),
    ],
)
def test_a_suffix_has_the_language_that_one_expects(suffix: str, language: str) -> None:
    assert languages()[suffix] == language


def test_the_main_language_has_more_than_half_of_the_files() -> None:
    def paths(*names: str) -> list[PurePosixPath]:
        return [PurePosixPath(name) for name in names]

    assert main_language(paths("a.py", "b.pyi", "c.rs", "LICENSE", "README")) == "Python"
    assert main_language(paths("a.py", "b.rs")) is None
    assert main_language(paths("LICENSE")) is None
    assert main_language([]) is None


def test_only_text_of_modest_size_inside_the_root_is_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.py").write_bytes(b"secret")
    (root / "good.py").write_bytes(b"caf\xe9")
    (root / "binary.py").write_bytes(b"a\0b")
    (root / "large.py").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    (root / "out.py").symlink_to(tmp_path / "secret.py")
    (root / "loop.py").symlink_to(root / "loop.py")
    (root / "folder.py").mkdir()
    os.mkfifo(root / "pipe.py")
    read = {path.name: read_text(path, root) for path in [*root.iterdir(), root / "gone.py", root / "../secret.py"]}
    assert {name: content for name, content in read.items() if content is not None} == {"good.py": b"caf\xe9"}


def test_a_walk_is_sorted_and_passes_hidden_folders_and_links_over(tmp_path: Path) -> None:
    for name in ("b/z.py", "b/a.py", "a.py", ".venv/lib.py", "b/data.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    assert [str(path) for path in walk(tmp_path)] == ["a.py", "b/a.py", "b/z.py"]
