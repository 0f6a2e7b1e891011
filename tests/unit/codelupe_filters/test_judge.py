from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codelupe import Objection, SourceFile
from codelupe_filters.contents import content_hash
from codelupe_filters.file_rules import file_rules
from codelupe_filters.judge import Judge, detect_language, judge_file
from codelupe_filters.licences import Licence
from codelupe_filters.redaction import MaxRedacted
from codelupe_filters.refusals import WALK_RULES, Rejection
from codelupe_filters.settings import FiltersSettings
from codelupe_filters.verdicts import COLUMNS, Verdict
from codelupe_filters.walk import Found

CODE = b"def add(one, other):\n    return one + other\n"


MIT = Licence(expression="MIT", evidence={"from": "metadata"})
SETTINGS = FiltersSettings(languages=("Python", "TypeScript"))


@pytest.fixture
def judge(tmp_path: Path, secrets_cache: str) -> Judge:
    return Judge(
        root=bytes(tmp_path),
        max_file_bytes=1000,
        licences={b"": MIT},
        rules=tuple(file_rules(SETTINGS)),
        max_redacted=MaxRedacted(0.2),
        redaction_key=b"key",
        secrets_cache=secrets_cache,
    )


def verdict(judge: Judge, path: str, content: bytes) -> Verdict:
    place = Path(os.fsdecode(judge.root)) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return judge.judge(Found(path.encode(), len(content)))


def test_code_is_kept_with_all_that_is_known(judge: Judge) -> None:
    assert verdict(judge, "tests/test_a.py", CODE.replace(b"\n", b"\r\n")) == Verdict(
        path=b"tests/test_a.py",
        size_bytes=len(CODE) + 2,
        content=CODE,
        content_hash=content_hash(CODE),
        characters=len(CODE),
        language="Python",
        licence=MIT,
        is_permissive=True,
        labels=("test",),
    )


def test_secrets_are_gone_from_content_hash_and_size(judge: Judge) -> None:
    it = verdict(judge, "a.py", b"# by jo@corp.net\n" + CODE * 3)
    redacted = b"# by <EMAIL:1>\n" + CODE * 3
    assert it.content == redacted
    assert (it.content_hash, it.characters) == (content_hash(redacted), len(redacted))
    assert it.redactions == {"EMAIL": 1}
    assert it.size_bytes == len(redacted) + 2


def test_a_file_of_secrets_is_refused(judge: Judge) -> None:
    it = verdict(judge, "a.py", b"mail = 'jo@corp.net'\n")
    assert it.rejection
    assert (it.rejection.rule, it.content, it.redactions) == ("redacted", None, {"EMAIL": 1})
    assert it.rejection.evidence == {"share": round(11 / 21, 4), "redactions": {"EMAIL": 1}}


def test_no_rule_that_sees_content_sees_a_secret(judge: Judge) -> None:
    quoting = replace(judge, rules=(Quoting("quoting"), *judge.rules))
    it = verdict(quoting, "a.py", b"# by jo@corp.net\n" + CODE * 3)
    assert it.rejection
    assert it.rejection.rule == "quoting"
    assert "<EMAIL:1>" in it.rejection.detail
    assert "corp" not in str(it)


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
def test_a_refused_file_has_rule_and_detail(judge: Judge, path: str, content: bytes, rule: str) -> None:
    it = verdict(judge, path, content)
    assert it.rejection
    assert it.rejection.rule == rule
    assert it.rejection.detail
    assert (it.size_bytes, it.content) == (len(content), None)
    assert (it.content_hash is None) == (rule == "too-large")


@dataclass
class Quoting:
    """Objects to everything and says all that it saw."""

    name: str
    version = 3

    def check(self, file: SourceFile) -> Objection:
        return Objection(
            detail=f"{self.name} saw {file.path} in {file.language} under {file.licence}: {file.content}",
            evidence={"length": len(file.content)},
        )


def test_the_first_objection_decides(judge: Judge) -> None:
    it = verdict(replace(judge, rules=(Quoting("one"), Quoting("two"))), "a.py", CODE)
    assert it.rejection == Rejection(
        rule="one",
        version=3,
        detail=f"one saw a.py in Python under MIT: {CODE.decode()}",
        evidence={"length": len(CODE)},
    )


def test_rules_on_paths_come_first_and_the_rule_set_says_so(judge: Judge) -> None:
    it = replace(judge, rules=(Quoting("one"), *file_rules(SETTINGS)))
    assert verdict(it, "a.rb", b"puts 1\n").rejection == Rejection(
        rule="language", version=1, detail="Ruby is not wanted", evidence={"language": "Ruby"}
    )
    rules = it.rule_set()
    names = [rule["name"] for rule in rules]
    assert names[:5] == list(WALK_RULES)
    assert names[10:12] == ["language", "dot-file"]
    assert names.index("licence") < names.index("redacted") < names.index("one") < names.index("generated")
    assert rules[names.index("one")] == {"name": "one", "version": 3, "settings": {"name": "one"}}
    assert rules[names.index("long-lines")]["settings"] == {"longest": 1000, "mean": 100, "longest_of_prose": 100_000}
    assert rules[names.index("dot-file")] == {"name": "dot-file", "version": 1}
    assert json.loads(json.dumps(rules))[names.index("language")]["settings"] == {"wanted": ["Python", "TypeScript"]}


def test_only_plain_fields_are_settings(judge: Judge) -> None:
    @dataclass
    class Heavy(Quoting):
        known: frozenset[int] = frozenset(range(10))
        tables: tuple[dict[str, int], ...] = ({},)
        share: float = 0.5

    rules = replace(judge, rules=(Heavy("heavy"),)).rule_set()
    assert rules[-1] == {"name": "heavy", "version": 3, "settings": {"name": "heavy", "share": 0.5}}


def test_a_file_that_vanished_is_unreadable(judge: Judge) -> None:
    it = judge.judge(Found(b"gone.py", 7))
    assert it.rejection
    assert (it.rejection.rule, it.size_bytes) == ("unreadable", 7)


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
def test_any_name_and_bytes_get_a_decision(judge: Judge, name: bytes, content: bytes) -> None:
    path = judge.root + b"/" + name
    Path(os.fsdecode(path)).write_bytes(content)
    it = judge.judge(Found(name, len(content)))
    os.unlink(path)  # noqa: PTH108 - the name is bytes
    if it.rejection:
        assert it.content is None
        assert it.rejection.detail
    else:
        assert it.content_hash == content_hash(it.content or b"")
    assert it.as_row().count(b"\t") == len(COLUMNS) - 1
    assert it.as_row().count(b"\n") == 1


def test_judges_travel_to_worker_processes_and_rows_come_back(judge: Judge) -> None:
    assert pickle.loads(pickle.dumps(judge)) == judge
    it = verdict(judge, "a.py", CODE)
    assert judge_file(Found(b"a.py", len(CODE)), judge) == it.as_row()
