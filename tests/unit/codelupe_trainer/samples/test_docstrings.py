from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe import Sample
from codelupe_trainer.samples.docstrings import INSTRUCTIONS, DocstringFormat
from tests.unit.codelupe_scorers.samples import NASTY
from tests.unit.codelupe_trainer.samples.definitions import CODE, rows_in_order, shown
from tests.unit.codelupe_trainer.samples.requests import PLENTY, count_words, request
from tests.unit.codelupe_trainer.samples.test_functions import LANGUAGES, broken
from tests.unit.codelupe_trainer.samples.test_windows import codes, texts


def make(content: str, room: int = PLENTY, language: str | None = "Python", seed: int = 0) -> Sample | None:
    return DocstringFormat().make(request(content, room, language=language, seed=str(seed)))


def answers(content: str, language: str) -> dict[str, str]:
    """What is made over many draws: the code of each answer."""
    made = (make(content, language=language, seed=seed) for seed in range(60))
    return {sample.answer: shown(sample) for sample in made if sample is not None}


@pytest.mark.parametrize(
    ("language", "documentation"),
    [
        (
            "Python",
            {
                '    """An account with a balance that never falls below zero."""',
                (
                    '        """Pay the amount in and return the new balance of the account.\n\n'
                    '        Raises:\n            ValueError: it is negative.\n        """'
                ),
            },
        ),
        (
            "TypeScript",
            {
                "/**\n * Keeps the newest values that were put in, up to a limit.\n */",
                "  /** Looks a value up, and falls back to the other one. */",
            },
        ),
        (
            "JavaScript",
            {"/**\n * Reads the configuration, and fills in what it lacks.\n * @param {string} path\n */"},
        ),
        ("TSX", {"/** Shows a list of names, each with its number before it. */"}),
        (
            "Go",
            {
                "// Stack holds numbers, of which only the last one can be taken.",
                "// Pop takes the number on top, or says that there is none.\n//",
                "// Sizer tells how many numbers are kept at present.",
            },
        ),
        (
            "Rust",
            {
                "/// A stack of numbers, of which only the last one can be taken.",
                "    /// Takes the number on top, if there is one at all.",
            },
        ),
        (
            "Dart",
            {
                "/// A stack of numbers, of which only the last one can be taken.",
                "  /// Takes the number on top, and waits if there is none.",
            },
        ),
    ],
)
def test_the_answer_is_the_documentation_as_it_stands(language: str, documentation: set[str]) -> None:
    made = answers(CODE[language], language)
    assert made.keys() == documentation
    assert [answer for answer, code in made.items() if answer in code] == []


def test_the_question_is_the_definition_without_it() -> None:
    [code] = [code for answer, code in answers(CODE["Rust"], "Rust").items() if answer.startswith("    ///")]
    assert code == (
        "    #[inline]\n    pub fn pop(&mut self) -> Option<T>\n    where\n        T: Clone,\n    {\n"
        "        self.size -= 1;\n        self.items.pop()\n    }"
    )
    [code] = [code for answer, code in answers(CODE["Python"], "Python").items() if "Pay" in answer]
    assert code.startswith("    @trace(\n        level=3,\n    )\n    async def pay(\n")
    assert "        # It is checked first.\n\n        def check() -> None:\n" in code
    assert code.endswith("        return self.balance")


def test_an_editor_gets_the_file_back_by_putting_the_answer_in() -> None:
    content = 'def double(number):\n    """Return twice the number it is given."""\n    n = 2 * number\n    return n'
    sample = make(content)
    assert sample is not None
    head, _, body = shown(sample).partition("\n")
    assert f"{head}\n{sample.answer}\n{body}" == content
    assert not sample.is_cut
    assert sample.ends


BODY = "    first = 1\n    return first\n"


@pytest.mark.parametrize(
    "content",
    [
        f"def f():\n{BODY}",
        f'def f():\n    """Short."""\n{BODY}',
        f'def f():\n    """TODO: say what this one is good for."""\n{BODY}',
        f'def f():\n    """----------------------------------------"""\n{BODY}',
        f'def f():\n    """Copyright 2026 by all of the authors."""\n{BODY}',
        f"# Says what this function is good for.\ndef f():\n{BODY}",
        f'def f(): """Says what this function is good for."""; {BODY.strip()}',
        f'def f():\n    """Says what this function is good for."""; x = 1\n{BODY}',
        'def f():\n    """Says what this function is good for."""\n    ...\n',
        f'def f(:\n    """Says what this function is good for."""\n{BODY}',
    ],
)
def test_python_without_documentation_of_its_own_makes_no_sample(content: str) -> None:
    assert make(content) is None


@pytest.mark.parametrize(
    ("language", "above"),
    [
        ("JavaScript", "// Says what this function is good for."),
        ("JavaScript", "/* Says what this function is good for. */"),
        ("JavaScript", "/** Says what this function is good for. */\n"),
        ("JavaScript", "/**\n * @license MIT, by all of the authors\n */"),
        ("Go", "// Copyright 2026 by all of the authors.\n// Use of this file is governed by its licence."),
        ("Go", "//go:generate something-with-a-long-name"),
        ("Rust", "// Says what this function is good for."),
        ("Rust", "//// Says what this function is good for."),
        ("Dart", "// Says what this function is good for."),
    ],
)
def test_other_comments_are_no_documentation(language: str, above: str) -> None:
    heads = {"Go": "package a\n\n%s\nfunc f() int {\n", "Rust": "%s\nfn f() -> u8 {\n", "Dart": "%s\nint f() {\n"}
    content = heads.get(language, "%s\nfunction f() {\n") % above + "  a();\n  return b();\n}\n"
    if language == "Rust":
        content = content.replace("return b();", "b()")
    assert make(content, language=language) is None
    documented = {"Go": "//", "JavaScript": "/**"}.get(language, "///")
    end = " */" if documented == "/**" else ""
    assert make(content.replace(above, f"{documented} Says what this function is good for.{end}"), language=language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("ending", ["\r\n", "\t\n"])
def test_line_ends_and_tabs_are_kept(language: str, ending: str) -> None:
    content = CODE[language].replace("\n", ending).replace("  ", "\t")
    sample = make(content, language=language)
    assert sample is not None
    assert sample.answer in content


def test_every_instruction_is_used_and_names_what_is_lacking() -> None:
    used = {
        sample.prompt.partition("\n")[0]
        for seed in range(60)
        if (sample := make(CODE["TSX"], language="TSX", seed=seed))
    }
    expected = {
        each.format(language="TSX", kind="function", documentation="documentation comment") for each in INSTRUCTIONS
    }
    assert used == expected


@given(broken(), st.integers(0, 200))
def test_broken_code_makes_a_sample_that_fits_or_none(code: tuple[str, str], room: int) -> None:
    language, content = code
    sample = make(content, room, language)
    if sample is None:
        return
    assert sum(count_words([sample.prompt, sample.answer])) <= room
    assert sample.answer in content
    assert rows_in_order(shown(sample), content)


@given(texts | codes | st.text(), st.sampled_from(LANGUAGES))
def test_no_text_makes_it_fail(content: str, language: str) -> None:
    make(content, 100, language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("content", [*NASTY.values(), "x" * 1_000_000], ids=[*NASTY, "one line of a megabyte"])
def test_hostile_texts_make_no_sample(content: str, language: str) -> None:
    assert make(content, language=language) is None


def test_documentation_stands_above_a_decoration_that_ends_in_the_signature_s_row() -> None:
    method = "  /** Shows what there is to see. */\n  @On({\n    name: 'a',\n  }) show() {\n    a();\n    b();\n  }\n"
    sample = make(f"class A {{\n{method}}}\n", language="TypeScript")
    assert sample is not None
    assert f"{sample.answer}\n{shown(sample)}\n" == method
