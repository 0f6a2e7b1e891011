from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_filters.licences import PERMISSIVE, Licence, find_licences, is_allowed, licence_of, stated_licence

MIT = """MIT License

Copyright (c) 2026 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
ISC = """ISC License

Copyright (c) 2026 Somebody

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
"""


def found(root: Path, texts: dict[str, str]) -> dict[bytes, Licence]:
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return find_licences(bytes(root), [path.encode() for path in texts])


def expressions(licences: dict[bytes, Licence]) -> dict[bytes, str]:
    return {folder: licence.expression for folder, licence in licences.items()}


def test_a_licence_covers_its_folder_and_a_nearer_one_wins(tmp_path: Path) -> None:
    licences = found(tmp_path, {"LICENSE": MIT, "third/COPYING.md": ISC, "third/a.py": "x", "src/a.py": "x"})
    assert expressions(licences) == {b"": "MIT", b"third": "ISC"}
    assert licence_of(b"src/deep/a.py", licences) == licences[b""]
    assert licence_of(b"third/deep/a.py", licences) == licences[b"third"]
    assert licence_of(b"thirds/a.py", licences) == licences[b""]


def test_several_licences_of_a_folder_all_hold(tmp_path: Path) -> None:
    [licence] = found(tmp_path, {"LICENSE-MIT": MIT, "LICENSE-ISC": ISC}).values()
    assert licence.expression == "ISC AND MIT"
    assert [(it["path"], it["id"]) for it in licence.evidence["matches"]] == [
        ("LICENSE-ISC", "ISC"),
        ("LICENSE-MIT", "MIT"),
    ]


def test_the_evidence_says_where_the_words_of_a_licence_stand(tmp_path: Path) -> None:
    [licence] = found(tmp_path, {"LICENSE": MIT}).values()
    [match] = licence.evidence["matches"]
    assert (licence.evidence["from"], licence.evidence["path"]) == ("file", "LICENSE")
    assert "Permission is hereby granted" in MIT[match["start"] : match["end"]]


def test_without_a_licence_it_is_unknown(tmp_path: Path) -> None:
    licences = found(tmp_path, {"LICENSE": "All rights reserved, ask us.\n", "a.py": "x"})
    assert licences == {}
    assert licence_of(b"a.py", licences) is None


@pytest.mark.parametrize("name", ["LICENSE", "licence.txt", "COPYING", "UNLICENSE", "MIT-LICENSE.txt", "License.md"])
def test_the_usual_names_are_looked_at(tmp_path: Path, name: str) -> None:
    assert expressions(found(tmp_path, {name: MIT})) == {b"": "MIT"}


@pytest.mark.parametrize("name", ["license.py", "licenses.json", "license_check.go", "relicense", "README.md"])
def test_code_about_licences_is_not(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, {name: MIT}) == {}


def test_unreadable_licence_files_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").symlink_to("/etc/passwd")
    (tmp_path / "COPYING").write_bytes(b"\xff\xfe\0\0")
    assert find_licences(bytes(tmp_path), [b"LICENSE", b"COPYING", b"sub/LICENSE"]) == {}


@pytest.mark.parametrize(
    ("metadata", "expression"),
    [
        ("MIT", "MIT"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("NOASSERTION", None),
        ("Other", None),
        ("", None),
        (None, None),
    ],
)
def test_metadata_counts_where_it_is_an_spdx_expression(metadata: str | None, expression: str | None) -> None:
    licence = stated_licence(metadata)
    assert (licence and licence.expression) == expression
    assert licence is None or licence.evidence == {"from": "metadata"}


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only OR MIT AND ISC", True),
        ("GPL-3.0-only AND MIT OR ISC", True),
        ("GPL-3.0-only AND (MIT OR ISC)", False),
        ("(GPL-3.0-only OR MIT) AND ISC", True),
        ("(GPL-3.0-only OR (MIT AND LGPL-3.0-only)) AND ISC", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0 OR MIT", True),
        ("Apache-2.0+", True),
        ("LicenseRef-Own", False),
        ("MIT AND", False),
        ("()", False),
        ("", False),
        ("(" * 5000 + "MIT" + ")" * 5000, False),
    ],
)
def test_alternatives_and_conditions_are_weighed(expression: str, allowed: bool) -> None:
    assert is_allowed(expression, frozenset({"mit", "isc", "apache-2.0"})) is allowed


IDS = st.sampled_from(["MIT", "ISC", "GPL-3.0-only", "MPL-2.0"])
EXPRESSIONS = st.recursive(
    IDS, lambda parts: st.tuples(parts, st.sampled_from(["AND", "OR"]), parts).map(lambda it: f"({' '.join(it)})")
)


@given(EXPRESSIONS)
def test_any_expression_is_weighed_as_logic_has_it(expression: str) -> None:
    allowed = {"MIT", "ISC"}
    logic = expression.replace("AND", "and").replace("OR", "or")
    for name in ("MIT", "ISC", "GPL-3.0-only", "MPL-2.0"):
        logic = logic.replace(name, str(name in allowed))
    assert is_allowed(expression, frozenset(map(str.lower, allowed))) is eval(logic)


@given(st.text())
def test_any_text_is_a_licence_or_not(text: str) -> None:
    assert isinstance(is_allowed(text, frozenset({"mit"})), bool)
    licence = stated_licence(text)
    assert licence is None or stated_licence(licence.expression) == licence


def test_every_permissive_licence_is_one_that_spdx_knows() -> None:
    assert [stated_licence(name) for name in PERMISSIVE] == [
        Licence(expression=name, evidence={"from": "metadata"}) for name in PERMISSIVE
    ]
    assert "MIT" in PERMISSIVE
    assert not any("GPL" in name or "MPL" in name or "CC-BY" in name for name in PERMISSIVE)
