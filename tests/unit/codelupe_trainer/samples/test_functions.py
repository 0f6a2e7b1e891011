from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe import Sample
from codelupe_trainer.samples.functions import INSTRUCTIONS, FunctionFormat
from tests.unit.codelupe_scorers.samples import NASTY
from tests.unit.codelupe_trainer.samples.definitions import CODE, PYTHON, TYPESCRIPT, rows_in_order, shown
from tests.unit.codelupe_trainer.samples.requests import PLENTY, count_words, request
from tests.unit.codelupe_trainer.samples.test_windows import codes, texts

LANGUAGES = sorted(CODE)


def make(content: str, room: int = PLENTY, language: str | None = "Python", seed: int = 0) -> Sample | None:
    return FunctionFormat().make(request(content, room, language=language, seed=str(seed)))


def answers(content: str, language: str = "Python", room: int = PLENTY) -> dict[str, Sample]:
    """What is made over many draws, by the first row of the answer."""
    made = (make(content, room, language, seed) for seed in range(120))
    return {sample.answer.split("\n")[0].strip(): sample for sample in made if sample is not None}


def documented(content: str) -> str:
    """The code without its documentation, so that all definitions are drawn alike."""
    kept = [line for line in content.split("\n") if not line.strip().startswith(("///", "// ", "/**", "*", '"""'))]
    return "\n".join(kept)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("seed", range(20))
def test_question_and_answer_are_the_file_s_rows_up_to_the_definition_s_end(language: str, seed: int) -> None:
    sample = make(CODE[language], language=language, seed=seed)
    assert sample is not None
    assert CODE[language].startswith(f"{shown(sample)}\n")
    assert sample.answer in CODE[language]
    assert rows_in_order(f"{shown(sample)}\n{sample.answer}", CODE[language])
    assert (sample.form, sample.ends) == ("chat", True)


@pytest.mark.parametrize(
    ("language", "first_rows"),
    [
        (
            "Python",
            {'"""An account with a balance that never falls below zero."""', "def check() -> None:", "first = 1"},
        ),
        ("TypeScript", {"private values = new Map<K, V>();", "const found = this.values.get(key);"}),
        ("JavaScript", {"const text = await fs.promises.readFile(path);"}),
        ("TSX", {"const rows = names.map((name, at) => <li key={at}>{name}</li>);"}),
        ("Go", {"items []T", "if s.size == 0 {", "Size() int"}),
        ("Rust", {"items: Vec<T>,", "self.size -= 1;"}),
        ("Dart", {"final List<T> items;", "await ready;"}),
    ],
)
def test_documented_definitions_are_preferred(language: str, first_rows: set[str]) -> None:
    expected = {"def __init__(self, owner: str) -> None:" if "An account" in row else row for row in first_rows}
    assert answers(CODE[language], language).keys() == expected


@pytest.mark.parametrize(
    ("language", "first_rows"),
    [
        ("TypeScript", {"const value = this.values.get(key);", "let sum = 0;"}),
        ("JavaScript", {"for (let n = 0; n < limit; n++) {", "files.push(file);"}),
        ("Dart", {"final size = items.length;", "int sum() => items.reduce((a, b) => a + b);"}),
    ],
)
def test_without_documentation_every_definition_is_drawn(language: str, first_rows: set[str]) -> None:
    assert first_rows <= answers(documented(CODE[language]), language).keys()


def test_a_question_ends_with_decorations_signature_and_docstring() -> None:
    pay = answers(PYTHON)["def check() -> None:"]
    assert shown(pay).endswith(
        "    @trace(\n        level=3,\n    )\n    async def pay(\n        self,\n        amount: int,\n"
        "    ) -> int:  # in cents\n        # It is checked first.\n"
        '        """Pay the amount in and return the new balance of the account.\n\n'
        '        Raises:\n            ValueError: it is negative.\n        """'
    )
    assert pay.answer == (
        "        def check() -> None:\n            if amount < 0:\n                raise ValueError(amount)\n\n"
        "        check()\n        self.balance += amount\n        return self.balance"
    )
    assert pay.is_cut


def test_an_overloaded_method_is_asked_for_below_its_other_signatures() -> None:
    get = answers(TYPESCRIPT, "TypeScript")["const found = this.values.get(key);"]
    assert shown(get).endswith(
        "  get(key: K): V;\n  get(key: K, fallback: V): V;\n"
        "  /** Looks a value up, and falls back to the other one. */\n  get(key: K, fallback?: V): V {"
    )
    assert get.answer.endswith("    return found ?? fallback!;\n  }")


@pytest.mark.parametrize(
    ("language", "content"),
    [
        ("Python", "def f(): return 1\n"),
        ("Python", "def f():\n    return 1\n"),
        ("Python", 'def f():\n    """Says much about nothing at all."""\n'),
        ("Python", "def f():\n    # one\n    # two\n    pass\n"),
        ("Python", "def f():\n    raise NotImplementedError(\n        'later'\n    )\n"),
        ("Python", "class A(Protocol):\n    def f(self) -> int: ...\n"),
        ("Python", "def f():\n    a = (\n    b = 1\n    c = 2\n"),
        ("Python", "x = 1\ny = 2\n"),
        ("Python", ""),
        ("Go", "package a\n\nfunc f() { a(); b() }\n"),
        ("Go", "package a\n\nfunc f() int {\n\treturn 1\n}\n"),
        ("Rust", 'fn f() {\n    todo!(\n        "a"\n    )\n}\n'),
        ("Rust", "trait A {\n    fn f(&self);\n}\n"),
        ("TypeScript", "abstract class A {\n  abstract f(): void;\n}\n"),
        ("TypeScript", "declare function f(): void;\n"),
        ("JavaScript", "const f = (a) => a + 1;\n"),
        ("JavaScript", "function f() {\n  throw new Error(\n    'Not implemented');\n}\n".replace("(\n    ", "(")),
        ("JavaScript", "function f() { const a = 1;\n  return a + 1;\n}\n"),
        ("JavaScript", "function f() {\n  a();\n  b();\n} function g() { c(); }\n"),
        ("Rust", "impl A {\n    fn f(&self) -> u8 { 1 }\n    fn g(&self) -> u8 { 2 }\n}\n"),
        ("Dart", "int f() => 1;\n"),
        ("COBOL", "DISPLAY 'A'.\n"),
        (None, "def f():\n    a = 1\n    return a\n"),
    ],
)
def test_what_has_no_body_to_speak_of_makes_no_sample(language: str | None, content: str) -> None:
    assert make(content, language=language) is None


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("ending", ["\r\n", "\n\n", "\t\n"])
def test_line_ends_and_tabs_are_kept(language: str, ending: str) -> None:
    content = CODE[language].replace("\n", ending).replace("  ", "\t")
    sample = make(content, language=language)
    assert sample is not None
    assert sample.answer in content
    assert shown(sample) in content


def test_a_byte_order_mark_and_letters_of_any_size_do_not_shift_rows() -> None:
    content = (
        "\ufeff# \U0001f600é\ndef größe(wörter):\n    '''Zählt \U0001f600.'''\n    n = '\u2028\x85\x0c'\n    return n\n"
    )
    sample = make(content)
    assert sample is not None
    assert f"{shown(sample)}\n{sample.answer}\n" == content
    assert not sample.is_cut


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("room", [10, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("seed", range(5))
def test_it_fits_and_shows_rows_of_the_file_in_their_order(language: str, room: int, seed: int) -> None:
    sample = make(CODE[language], room, language, seed)
    if sample is None:
        return
    assert sum(count_words([sample.prompt, sample.answer])) <= room
    assert rows_in_order(f"{shown(sample)}\n{sample.answer}", CODE[language])


def test_where_there_is_little_room_heads_and_imports_come_first_then_the_nearest_lines() -> None:
    filler = "".join(f"    value_{number} = {number}\n" for number in range(40))
    content = (
        f"import os\nimport sys\n\n\nclass A(B):\n    '''Of A.'''\n\n{filler}\n"
        "    def f(self):\n        '''Of f.'''\n        a = 1\n        return a\n"
    )
    code = shown(answers(content, room=90)["a = 1"])
    assert code.startswith("import os\nimport sys\n\nclass A(B):\n    '''Of A.'''\n\n    value_")
    assert code.endswith("    value_38 = 38\n    value_39 = 39\n\n    def f(self):\n        '''Of f.'''")
    assert "value_1 " not in code
    for room in range(55, 100):
        code = shown(answers(content, room=room)["a = 1"])
        assert "class A(B):\n" in code
        assert "import sys\n" in code or "value_" not in code


def test_a_definition_that_does_not_fit_leaves_it_to_a_smaller_one() -> None:
    long = "def long():\n" + "".join(f"    a{number} = {number}\n" for number in range(200))
    short = "def short():\n    b = 1\n    return b\n"
    for seed in range(20):
        sample = make(long + short, 60, seed=seed)
        assert sample is not None
        assert sample.answer == "    b = 1\n    return b"


def test_every_instruction_is_used() -> None:
    used = {
        sample.prompt.partition("\n")[0] for seed in range(60) if (sample := make(CODE["Go"], language="Go", seed=seed))
    }
    kinds = ("struct", "method", "interface")
    assert used <= {each.format(language="Go", kind=kind) for each in INSTRUCTIONS for kind in kinds}
    assert len({each for each in INSTRUCTIONS for kind in kinds if each.format(language="Go", kind=kind) in used}) == 5


@st.composite
def broken(draw: st.DrawFn) -> tuple[str, str]:
    """Code with something taken out of it, put into it, or both."""
    language = draw(st.sampled_from(LANGUAGES))
    content = CODE[language]
    start, stop = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    stop = min(stop, start + 40)
    return language, content[:start] + draw(st.text("(){}[]:;\"'`#/*\\\n\r\t é@<", max_size=5)) + content[stop:]


@given(broken(), st.integers(0, 300))
def test_broken_code_makes_a_sample_that_fits_or_none(code: tuple[str, str], room: int) -> None:
    language, content = code
    sample = make(content, room, language)
    if sample is None:
        return
    assert sum(count_words([sample.prompt, sample.answer])) <= room
    assert sample.answer in content
    assert rows_in_order(f"{shown(sample)}\n{sample.answer}", content)


@given(texts | codes | st.text(), st.sampled_from(LANGUAGES))
def test_no_text_makes_it_fail(content: str, language: str) -> None:
    make(content, 100, language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("content", [*NASTY.values(), "x" * 1_000_000], ids=[*NASTY, "one line of a megabyte"])
def test_hostile_texts_make_no_sample(content: str, language: str) -> None:
    assert make(content, language=language) is None


def test_deeply_nested_functions_are_drawn_from() -> None:
    opened = "".join(f"{'  ' * depth}function f{depth}() {{\n" for depth in range(80))
    content = opened + "a();\nb();\n" + "}\n" * 80
    sample = make(content, 300, "JavaScript")
    assert sample is not None
    assert sum(count_words([sample.prompt, sample.answer])) <= 300


@pytest.mark.parametrize(
    ("language", "head", "function"),
    [
        ("Rust", "impl<T> Stack<T> {", "    /// Of f.\n    fn f() -> u8 {\n        a();\n        1\n    }\n"),
        ("Rust", "mod inner {", "    /// Of f.\n    fn f() -> u8 {\n        a();\n        1\n    }\n"),
        ("TypeScript", "namespace Inner {", "  /** Of f. */\n  function f() {\n    a();\n    return 1;\n  }\n"),
        ("JavaScript", "class A extends B {", "  /** Of f. */\n  f() {\n    a();\n    return 1;\n  }\n"),
        ("Dart", "class A<T> extends B {", "  /// Of f.\n  int f() {\n    a();\n    return 1;\n  }\n"),
    ],
)
def test_the_head_around_is_shown_from_afar(language: str, head: str, function: str) -> None:
    comments = "".join(f"  // Line {number}.\n" for number in range(100))
    sample = make(f"{head}\n{comments}\n{function}}}\n", 70, language)
    assert sample is not None
    assert shown(sample).startswith(f"{head}\n\n")
    assert sample.answer.strip().startswith("a();")


def test_imports_inside_of_other_functions_are_not_shown_from_afar() -> None:
    lines = "".join(f"    # Line {number}.\n" for number in range(100))
    content = f"import a\n\ndef f():\n    import b\n{lines}\ndef g():\n    '''Of g.'''\n    x = 1\n    return x\n"
    code = shown(answers(content, room=60)["x = 1"])
    assert code.startswith("import a\n\n")
    assert "import b" not in code


def test_the_innermost_head_is_shown_first() -> None:
    lines = "".join(f"        # Line {number}.\n" for number in range(100))
    method = "        def f(self):\n            '''Of f.'''\n            x = 1\n            return x\n"
    content = f"class Outer(With, Many, Bases, Around):\n    class Inner:\n{lines}\n{method}"
    codes = [shown(answers(content, room=room)["x = 1"]) for room in range(40, 60)]
    assert any("class Inner:" in code and "class Outer" not in code for code in codes)
    assert not any("class Outer" in code and "class Inner:" not in code for code in codes)


def test_a_decoration_that_ends_in_the_signature_s_row_is_shown_whole() -> None:
    content = "/** Shows what there is to see. */\n@Component({\n  name: 'a',\n}) class A {\n  x = 1;\n  y = 2;\n}\n"
    sample = make(content, 60, "TypeScript")
    assert sample is not None
    assert shown(sample) == content.partition("  x = 1")[0].rstrip()
