from __future__ import annotations

from pathlib import Path

import pytest

from codelupe_filters.licences import find_licences, licence_of

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


def found(root: Path, texts: dict[str, str]) -> dict[bytes, str]:
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return find_licences(bytes(root), [path.encode() for path in texts])


def test_a_licence_covers_its_folder_and_a_nearer_one_wins(tmp_path: Path) -> None:
    licences = found(tmp_path, {"LICENSE": MIT, "third/COPYING.md": ISC, "third/a.py": "x", "src/a.py": "x"})
    assert licences == {b"": "MIT", b"third": "ISC"}
    assert licence_of(b"src/deep/a.py", licences) == "MIT"
    assert licence_of(b"third/deep/a.py", licences) == "ISC"
    assert licence_of(b"thirds/a.py", licences) == "MIT"


def test_several_licences_of_a_folder_all_hold(tmp_path: Path) -> None:
    assert found(tmp_path, {"LICENSE-MIT": MIT, "LICENSE-ISC": ISC}) == {b"": "ISC AND MIT"}


def test_without_a_licence_it_is_unknown(tmp_path: Path) -> None:
    licences = found(tmp_path, {"LICENSE": "All rights reserved, ask us.\n", "a.py": "x"})
    assert licences == {}
    assert licence_of(b"a.py", licences) is None


@pytest.mark.parametrize("name", ["LICENSE", "licence.txt", "COPYING", "UNLICENSE", "MIT-LICENSE.txt", "License.md"])
def test_the_usual_names_are_looked_at(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, {name: MIT}) == {b"": "MIT"}


@pytest.mark.parametrize("name", ["license.py", "licenses.json", "license_check.go", "relicense", "README.md"])
def test_code_about_licences_is_not(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, {name: MIT}) == {}


def test_unreadable_licence_files_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").symlink_to("/etc/passwd")
    (tmp_path / "COPYING").write_bytes(b"\xff\xfe\0\0")
    assert find_licences(bytes(tmp_path), [b"LICENSE", b"COPYING", b"sub/LICENSE"]) == {}
