from __future__ import annotations

import pytest

from codelupe_scorers.naming import Naming
from tests.unit.codelupe_scorers.samples import LANGUAGES, sample, source

GOOD = {
    "Python": "MAX_SIZE = 1\nclass HttpServer:\n    def read_line(self):\n        first_line = 1\n        _own = 2\n",
    "Go": "package a\ntype HTTP struct{}\nfunc readLine() { line := 1 }\nfunc TestRead_it() {}\nconst MaxSize = 1\n",
    "Rust": "const MAX_SIZE: u8 = 1;\nstruct HttpServer;\nfn read_line() { let first_line = 1; }\n",
    "Dart": "class HttpServer {\n  static const maxSize = 1;\n  void readLine() { var firstLine = 1; }\n}\n",
    "JavaScript": "const MAX_SIZE = 1;\nclass HttpServer { readLine() { const firstLine = 1; } }\nconst $node = 1;\n",
    "TypeScript": "const MAX_SIZE = 1;\nclass HttpServer { readLine() { const firstLine = 1; } }\ninterface Shape {}\n",
}
BAD = {
    "Python": "maxSize = 1\nclass http_server:\n    def readLine(self):\n        firstLine = 1\n",
    "Go": "package a\ntype http_server struct{}\nfunc read_line() { first_line := 1 }\nconst MAX_SIZE = 1\n",
    "Rust": "const maxSize: u8 = 1;\nstruct http_server;\nfn readLine() { let firstLine = 1; }\n",
    "Dart": "class http_server {\n  static const MAX_SIZE = 1;\n  void read_line() { var first_line = 1; }\n}\n",
    "JavaScript": "const max_size = 1;\nclass http_server { read_line() { const first_line = 1; } }\n",
    "TypeScript": "const a_size = 1;\nclass a_server { read_line() { const a_line = 1; } }\ninterface a_shape {}\n",
}


def points(content: str, language: str = "Python") -> float:
    score = Naming(1).score(source(content, language))
    assert score is not None
    return score.value


def reasons(content: str, language: str = "Python") -> tuple[str, ...]:
    score = Naming(1).score(source(content, language))
    assert score is not None
    return score.reasons


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_that_follow_the_languages_own_convention_are_all_counted_as_such(language: str) -> None:
    [reason] = reasons(GOOD[language], language)
    followed, total = (int(word) for word in reason.split() if word.isdigit())
    assert followed == total >= 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_of_another_languages_convention_have_no_points(language: str) -> None:
    assert points(BAD[language], language) == 0
    assert reasons(BAD[language], language)[0].startswith("0 of ")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sound_program_does_well_in_every_language(language: str) -> None:
    score = Naming(1).score(sample(language))
    assert score is not None
    assert score.value >= 60


def test_the_reasons_quote_names_that_break_the_convention() -> None:
    assert "not so readLine, writeLine" in reasons("def readLine(): pass\ndef writeLine(): pass\n")


def test_words_in_strings_and_comments_are_no_names() -> None:
    assert reasons('a = "def readLine(): pass"  # class http_server\n') == (
        "1 of 1 names follow the language's convention",
    )


def test_names_of_single_letters_tell_nothing() -> None:
    functions = "".join(f"def {name}(): return 1\n" for name in ("a", "b", "c", "d", "e", "g", "h", "i"))
    telling = "".join(f"def read_{name}(): return 1\n" for name in ("a", "b", "c", "d", "e", "g", "h", "i"))
    assert points(functions) == points(telling) / 2 == 50


def test_few_names_are_little_evidence() -> None:
    series = [points("".join(f"value_{n} = {n}\n" for n in range(count))) for count in (0, 2, 4, 8, 16)]
    assert series == sorted(series)
    assert (series[0], series[-1]) == (50, 100)


def test_without_a_tree_it_does_not_apply() -> None:
    assert Naming(1).score(source("x", "COBOL")) is None
