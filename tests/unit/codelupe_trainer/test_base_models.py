from __future__ import annotations

from pathlib import Path

import pytest

from codelupe_trainer.base_models import NoSuchModel, model_id, packaged_gguf, short_name


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that would fail if it were imported."""
    folder = tmp_path / "some_model"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_other_bases_are_no_packages() -> None:
    assert packaged_gguf("Qwen/Qwen2.5-Coder-14B-Instruct") is None
    assert packaged_gguf("models/of/mine") is None


def test_the_file_of_a_package_is_found_without_importing_it(package: Path) -> None:
    gguf = package / "Some-Model-1B.Q4_K_M.gguf"
    gguf.touch()
    assert packaged_gguf("package:some_model") == gguf
    assert model_id("package:some_model", 12) == "some-model-1b-0012"


@pytest.mark.parametrize("names", [[], ["a.gguf", "b.gguf"]])
def test_a_package_must_hold_one_file(package: Path, names: list[str]) -> None:
    for name in names:
        (package / name).touch()
    with pytest.raises(NoSuchModel, match=f"holds {len(names)} GGUF files"):
        packaged_gguf("package:some_model")


@pytest.mark.parametrize("name", ["no_such_model", "../evil", ""])
def test_a_missing_package_is_named_with_what_to_do(name: str) -> None:
    with pytest.raises(NoSuchModel, match="pip install"):
        packaged_gguf(f"package:{name}")


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("Qwen/Qwen2.5-Coder-14B-Instruct", "qwen2.5-coder-14b-instruct"),
        ("/srv/models/My Model/", "my-model"),
        ("package:no_such_model", "no-such-model"),
        ("..", "base"),
        ("é/ü", "base"),
    ],
)
def test_short_names_are_fit_for_files(base: str, name: str) -> None:
    assert short_name(base) == name
