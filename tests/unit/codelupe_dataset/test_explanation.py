from __future__ import annotations

from typing import Any

import pytest

from codelupe_dataset.explanation import _verdicts

RULES = [{"name": name, "version": 1} for name in ("language", "licence", "generated")]


@pytest.mark.parametrize(
    ("rejected_by", "verdicts"),
    [
        (None, ["passed", "passed", "passed"]),
        ("language", ["refused", "not asked", "not asked"]),
        ("generated", ["passed", "passed", "refused"]),
        ("exact-duplicate", ["passed", "passed", "passed"]),
    ],
)
def test_the_first_rule_that_objects_is_the_last_that_is_asked(rejected_by: str | None, verdicts: list[str]) -> None:
    rejection: dict[str, Any] = {"rule": rejected_by, "version": 1, "detail": "no"}
    found = _verdicts(RULES, rejected_by, rejection if rejected_by else None)
    assert [one["verdict"] for one in found] == verdicts
    assert [bool(one["evidence"]) for one in found] == [verdict == "refused" for verdict in verdicts]
