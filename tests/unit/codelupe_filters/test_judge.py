from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codelupe import SourceFile
from codelupe_filters.contents import content_hash
from codelupe_filters.file_rules import file_rules
from codelupe_filters.judge import Judge, detect_language, judge_files
from codelupe_filters.settings import FiltersSettings
from codelupe_filters.verdicts import Verdict

CODE = b"def add(one, other):\n    return one + other\n"


def judge(root: Path, **changes: object) -> Judge:
    values: dict[str, object] = {
        "root": bytes(root),
        "languages": frozenset({"python", "typescript"}),
        "max_file_bytes": 1000,
        "rules": tuple(file_rules(FiltersSettings())),
        "licences": {b"": "MIT"},
    }
    return Judge(**values | changes)  # type: ignore[arg-type]


def verdict(root: Path, path: str, content: bytes, **changes: object) -> Verdict:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
    [it] = judge_files(judge(root, **changes), [path.encode()])
    return it


def test_code_is_kept_with_all_that_is_known(tmp_path: Path) -> None:
    assert verdict(tmp_path, "tests/test_a.py", CODE.replace(b"\n", b"\r\n")) == Verdict(
        path=b"tests/test_a.py",
        size_bytes=len(CODE) + 2,
        content_hash=content_hash(CODE),
        characters=len(CODE),
        language="Python",
        licence="MIT",
        labels=("test",),
    )


@pytest.mark.parametrize(
    ("path", "content", "rule"),
    [
        ("a.py", b"x" * 1001, "too-large"),
        ("a.py", b"x = '\0'", "binary"),
        ("a.py", b"\xff\xfex\0", "undecodable"),
        ("a.py", b"\n", "empty"),
        ("a.rb", b"puts 1\n", "language"),
        ("LICENSE", b"words\n", "language"),
        ("vendor/a.py", CODE, "vendored"),
    ],
)
def test_a_refused_file_has_rule_and_detail(tmp_path: Path, path: str, content: bytes, rule: str) -> None:
    it = verdict(tmp_path, path, content)
    assert it.rejected_by == rule
    assert it.rejected_detail
    assert it.size_bytes == len(content)
    assert (it.content_hash is None) == (rule == "too-large")


def test_the_first_objection_decides(tmp_path: Path) -> None:
    class Objecting:
        version = 1

        def __init__(self, name: str) -> None:
            self.name = name

        def check(self, file: SourceFile) -> str | None:
            return f"{self.name} saw {file.path} in {file.language} under {file.licence}"

    it = verdict(tmp_path, "a.py", CODE, rules=(Objecting("one"), Objecting("two")))
    assert (it.rejected_by, it.rejected_detail) == ("one", "one saw a.py in Python under MIT")


def test_a_file_that_vanished_is_unreadable(tmp_path: Path) -> None:
    [it] = judge_files(judge(tmp_path), [b"gone.py"])
    assert (it.rejected_by, it.size_bytes) == ("unreadable", 0)


@pytest.mark.parametrize(
    ("path", "content", "language"),
    [
        (b"a.py", b"x = 1\n", "Python"),
        (b"tool", b"#!/usr/bin/env python3\nprint(1)\n", "Python"),
        (b"a.tsx", b"export const A = () => <b>hi</b>\n", "TypeScript"),
        (b"a.ts", b"<?xml version='1.0'?><!DOCTYPE TS><TS></TS>\n", "XML"),
        (b"a.mjs", b"export default 1\n", "JavaScript"),
        (b"a.dart", b"void main() {}\n", "Dart"),
        (b"nothing", b"words and words\n", None),
        (b"caf\xe9\n.py", b"x = 1\n", "Python"),
    ],
)
def test_the_language_comes_from_name_and_content(path: bytes, content: bytes, language: str | None) -> None:
    assert detect_language(path, content) == language


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    name=st.binary(min_size=1, max_size=50).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b"..")),
    content=st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode(errors="replace")),
)
def test_any_name_and_bytes_get_a_decision(tmp_path: Path, name: bytes, content: bytes) -> None:
    path = os.path.join(bytes(tmp_path), name)  # noqa: PTH118 - the name is bytes
    Path(os.fsdecode(path)).write_bytes(content)
    [it] = judge_files(judge(tmp_path), [name])
    os.unlink(path)  # noqa: PTH108 - the name is bytes
    assert it.is_kept == (it.rejected_detail is None)
    assert it.size_bytes == len(content)


def test_judges_and_verdicts_travel_to_worker_processes(tmp_path: Path) -> None:
    it = judge(tmp_path)
    assert pickle.loads(pickle.dumps(it)) == it
    assert pickle.loads(pickle.dumps(verdict(tmp_path, "a.py", CODE))) == verdict(tmp_path, "a.py", CODE)
