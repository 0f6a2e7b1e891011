from __future__ import annotations

import pytest

from codelupe_scorers.outline import outline
from codelupe_text.syntax import MAX_BYTES, NoGrammar, NotParsed, parse
from tests.unit.codelupe_scorers.samples import LANGUAGES, sample, source


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_the_same_outline_of_the_same_program(language: str) -> None:
    it = outline(sample(language))
    [stack] = [definition for definition in it.definitions if definition.is_type]
    push, helper = it.functions
    assert (stack.is_documented, push.is_documented, helper.is_documented) == (True, True, False)
    assert (push.decisions, push.depth) == (3, 2)
    assert (helper.decisions, helper.depth) == (0, 0)
    assert (it.decisions, it.has_errors, it.error_share) == (0, False, 0)
    assert 0 < it.documentation < it.characters
    assert helper.last_row == it.rows - 1
    assert push.rows == {"Python": 6}.get(language, 8)


def test_tsx_is_parsed_by_its_own_grammar() -> None:
    content = "export function Title() {\n  return <h1 className='big'>Hi</h1>;\n}\n"
    assert not outline(source(content, "TypeScript", "a.tsx")).has_errors
    assert outline(source(content, "TypeScript", "a.ts")).has_errors


def test_a_nested_function_keeps_its_decisions_to_itself() -> None:
    it = outline(source("def f():\n    def g():\n        if x:\n            pass\n    return g\n"))
    outer, inner = it.functions
    assert (outer.decisions, outer.is_nested) == (0, False)
    assert (inner.decisions, inner.is_nested) == (1, True)


def test_an_else_if_chain_is_not_deep() -> None:
    chain = "function f(a) {\n  if (a) { b() }" + "\n  else if (c) { d() }" * 9 + "\n}\n"
    [function] = outline(source(chain, "JavaScript")).functions
    assert (function.decisions, function.depth) == (10, 1)


@pytest.mark.parametrize(
    "content",
    [
        "const f = () => { g() }\n",
        "const f = function () { g() }\n",
        "exports.f = () => { g() }\n",
        "const o = { f: () => { g() } }\n",
        "class A { f = () => { g() } }\n",
    ],
)
def test_a_function_has_a_name_whatever_gives_it(content: str) -> None:
    assert len(outline(source(content, "JavaScript")).functions) == 1


def test_a_callback_is_part_of_the_function_around() -> None:
    content = "function f() { xs.map((x) => { if (x) { y() } }) }\n"
    [function] = outline(source(content, "JavaScript")).functions
    assert function.decisions == 1


def test_a_licence_at_the_top_is_no_documentation() -> None:
    licence = "# Copyright 2026 Somebody\n# Licensed under the Apache License\n# See there.\n"
    assert outline(source(licence + "\nx = 1\n")).documentation == 0
    assert outline(source("x = 1\n" * 6 + licence)).documentation > 0


@pytest.mark.parametrize(
    ("before", "documented"),
    [("# About f.\n", True), ("# About f.\n\n", False), ("x = 1  # not about f\n", False), ("", False)],
)
def test_a_comment_documents_what_it_stands_right_above(before: str, documented: bool) -> None:
    [function] = outline(source(f"import a\n{before}def f():\n    pass\n")).functions
    assert function.is_documented is documented


def test_only_the_first_string_of_a_body_is_its_docstring() -> None:
    [function] = outline(source('def f():\n    x = 1\n    """Not about f."""\n')).functions
    assert not function.is_documented


def test_what_only_begins_like_a_pattern_is_not_taken_for_it() -> None:
    it = outline(source("'a' + b\n'c', d\n"))
    assert it.documentation == 0
    assert outline(source("const a = other('b');\n", "JavaScript")).imports == 0


def test_new_names_are_noted_by_what_they_name() -> None:
    it = outline(source("class A:\n    def f(self):\n        b = c.d\n        c.e = 1\n"))
    assert it.names == {"function": ["f"], "type": ["A"], "variable": ["b"], "constant": []}


def test_code_is_what_is_neither_comment_nor_licence() -> None:
    assert outline(source("# Copyright somebody\n\nx = 1  # why\n")).code == len("x=1")


def test_what_fits_no_rule_is_measured() -> None:
    it = outline(source("def f():\n    return 1\n\n$$$ ??? )))\n"))
    assert it.has_errors
    assert 0 < it.error_share < 1


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "x", "\ud800"])
def test_hardly_anything_has_an_outline_too(content: str) -> None:
    assert outline(source(content)).definitions == []


def test_rows_within_definitions_count_once() -> None:
    it = outline(source("class A:\n    def f(self):\n        pass\n\n    def g(self):\n        pass\nx = 1\n"))
    assert (it.rows_in_definitions, it.rows) == (6, 7)


def test_an_unknown_language_has_no_grammar() -> None:
    for language in ("COBOL", None):
        with pytest.raises(NoGrammar):
            outline(source("x", language))


def test_what_is_too_large_is_not_parsed() -> None:
    with pytest.raises(NotParsed, match="bytes"):
        outline(source("x" * (MAX_BYTES + 1)))


def test_parsing_stops_when_its_time_is_over() -> None:
    with pytest.raises(NotParsed, match="more than 0 s of CPU time"):
        parse(source("f(" * 30_000), seconds=0)
