from __future__ import annotations

import pytest

from codelupe_scorers.self_containedness import SelfContainedness
from tests.unit.codelupe_scorers.samples import LANGUAGES, sample, source

REEXPORTS = {
    "Python": "from .a import first\nfrom .b import second\nfrom .c import third\n",
    "Go": 'package a\n\nimport (\n\t_ "example.org/first"\n\t_ "example.org/second"\n)\n',
    "Rust": "pub use crate::first::First;\npub use crate::second::Second;\n",
    "Dart": "export 'src/first.dart';\nexport 'src/second.dart';\n",
    "JavaScript": "export * from './first.js';\nexport { second } from './second.js';\n",
    "TypeScript": "export * from './first';\nexport { second } from './second';\n",
}
STUBS = {
    "Python": "def a(): pass\ndef b(): ...\n",
    "Go": "package a\nfunc a() {}\nfunc b() { }\n",
    "Rust": "fn a() {}\nfn b() { }\n",
    "Dart": "void a() {}\nvoid b() { }\n",
    "JavaScript": "function a() {}\nconst b = () => {};\n",
    "TypeScript": "function a(): void {}\nconst b = (): void => {};\n",
}
WILDCARDS = {
    "Python": ("from a import *\n", "from a import b\n"),
    "Go": ('package a\nimport . "b"\n', 'package a\nimport "b"\n'),
    "Rust": ("use b::*;\n", "use b::c;\n"),
}
BODY = {
    "Python": "def total(items):\n    result = 0\n    for item in items:\n        result += item\n    return result\n"
    * 3,
    "Go": "func total(items []int) int {\n\tresult := 0\n\tfor _, item := range items {\n\t\tresult += item\n\t}\n}\n"
    * 3,
    "Rust": "fn total(items: &[Item]) -> i32 {\n    items.iter().map(|item| item.value).sum()\n}\n" * 3,
}


def points(content: str, language: str) -> float:
    score = SelfContainedness(1).score(source(content, language))
    assert score is not None
    return score.value


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_program_of_its_own_has_all_points(language: str) -> None:
    score = SelfContainedness(1).score(sample(language))
    assert score is not None
    assert score.value == 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_file_of_imports_has_hardly_any(language: str) -> None:
    assert points(REEXPORTS[language], language) <= 40


@pytest.mark.parametrize("language", LANGUAGES)
def test_empty_functions_cost_points(language: str) -> None:
    score = SelfContainedness(1).score(source(STUBS[language], language))
    assert score is not None
    assert score.value == 80
    assert "2 of 2 functions have an empty body" in score.reasons


@pytest.mark.parametrize("language", sorted(WILDCARDS))
def test_names_that_come_in_unnamed_cost_points(language: str) -> None:
    wild, named = (head + BODY[language] for head in WILDCARDS[language])
    assert points(wild, language) == points(named, language) - 20 == 80


def test_a_require_is_an_import() -> None:
    score = SelfContainedness(1).score(source("const a = require('./a');\nconst b = other('./b');\n", "JavaScript"))
    assert score is not None
    assert score.reasons[0].startswith("1 imports")
    assert "1 of files beside it" in score.reasons


def test_without_a_tree_it_does_not_apply() -> None:
    assert SelfContainedness(1).score(source("x", "COBOL")) is None
