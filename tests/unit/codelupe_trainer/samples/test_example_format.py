"""The plugin of docs/how-to/add-a-sample-format.md, in use by the trainer."""

from __future__ import annotations

import pickle
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import codelupe_trainer
from codelupe import SourceFile
from codelupe.contracts.guards import guard_sample_format
from codelupe_trainer.samples.drawing import SampleMaker
from codelupe_trainer.settings import TrainerSettings
from tests.training import code_file
from tests.unit.codelupe_trainer.samples.test_encoding import QWEN, TOKENIZER

EXAMPLE = Path(__file__).parents[4] / "docs" / "how-to" / "example-format"
TESTS = code_file(
    "from tool import one\n\n\ndef test_one() -> None:\n    assert one() == 1\n", path="tests/test_tool.py"
)
TOOL = code_file("def one() -> int:\n    return 1\n", path="src/tool.py")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLE)
    return import_module("codelupe_tested")


def maker(plugin: ModuleType, max_length: int = 2000) -> SampleMaker:
    """As the training process has it: with formats that were pickled on the way."""
    offered = [guard_sample_format("tested", each) for each in plugin.codelupe_sample_formats()]
    formats = pickle.loads(pickle.dumps([*codelupe_trainer.codelupe_sample_formats(), *offered]))
    weights = TrainerSettings.model_validate({"formats": {"tests": 1000}}).formats
    return SampleMaker(formats, weights, QWEN, max_length, "1/42")


def test_tests_are_made_from_the_code_that_they_test(plugin: ModuleType) -> None:
    made = maker(plugin)
    encoded = made.make(TESTS, lambda: [TOOL.source])
    assert encoded is not None
    assert made.counts.formats == {"tests": 1}
    text = TOKENIZER.decode(encoded.ids)
    question, _, answer = text.partition("<|im_start|>assistant\n")
    assert TOOL.content in question
    assert answer == f"{TESTS.content}<|im_end|>"
    assert TOKENIZER.decode(encoded.ids[-encoded.learned :]) == answer


@pytest.mark.parametrize("neighbours", [[], [TOOL.model_copy(update={"path": "src/other.py"}).source]])
def test_without_the_tested_file_another_format_makes_the_sample(
    plugin: ModuleType, neighbours: list[SourceFile]
) -> None:
    made = maker(plugin)
    assert made.make(TESTS, lambda: neighbours) is not None
    assert made.make(TOOL, lambda: [TESTS.source]) is not None
    assert "tests" not in made.counts.formats
    assert not made.counts.failed


def test_what_does_not_fit_is_left_to_another_format(plugin: ModuleType) -> None:
    made = maker(plugin, max_length=150)
    assert made.make(TESTS, lambda: [TOOL.source]) is not None
    assert "tests" not in made.counts.formats


def test_files_of_tests_are_known_by_their_names(plugin: ModuleType) -> None:
    names = ("test_a.py", "a_test.go", "a.test.ts", "a.test.jsx", "a.py", "contest.py", "test_a.go")
    found = [plugin.TEST.fullmatch(name) for name in names]
    assert [match and "".join(filter(None, match.groups())) for match in found] == [
        *("a.py", "a.go", "a.ts", "a.jsx"),
        *(None, None, None),
    ]
