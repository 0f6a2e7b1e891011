from __future__ import annotations

from huggingface_hub import ModelCard

from codelupe_events import Reason
from codelupe_trainer.card import render_card
from codelupe_trainer.gate.rule import Decision, Outcome, Passes, Row
from codelupe_trainer.gate.statistics import Gain
from codelupe_trainer.records import Comparison, EvaluationSet, ModelRecord, RepositoryShare
from codelupe_trainer.settings import TrainerSettings
from tests.training import BASE, TOTALS


def record(base: str = "org/base", **changes: object) -> ModelRecord:
    values = {
        "model_id": "base-0007",
        "key": "b5b1d1e6-2a5c-5a53-9d5c-6c1d2f6a7e11",
        "batch_id": 7,
        "settings": TrainerSettings(base=base),
        "base": BASE,
        "totals": TOTALS,
        "rows_per_step": 3,
        "steps": 30,
        "samples": 480,
        "validation_samples": 24,
        "unused_files": 5,
        "train_loss": 2.25,
        "validation_loss": 2.125,
        "stopped_early": True,
        "seconds": 61.0,
        "licences": {"MIT": 500, "unknown": 4},
        "languages": {"Python": 504},
        "repositories": [RepositoryShare(id="local:a", name="local/a", commit="c0ffee", files=504)],
    }
    return ModelRecord.model_validate(values | changes)


def comparison(outcome: Outcome = "promoted", *reasons: Reason, low: float | None = 0.125) -> Comparison:
    high = None if low is None else 0.375
    gain = Gain(current=2.5, candidate=2.25, low=low, high=high, groups=21, windows=1234)
    return Comparison(
        current="base-0003",
        decision=Decision(
            outcome=outcome,
            reasons=reasons,
            table=(Row(measure="plain", over="all", gain=gain),),
            anchors={"human-eval": Passes(both=9, lost=1, gained=2, neither=152)},
        ),
        metrics={"base": {"ends": 0.5}, "current": {"ends": 0.25, "next_line": 0.125}, "candidate": {"ends": 0.75}},
        evaluation_set=EvaluationSet(version=3, hash="e" * 64, groups=21, windows=1234),
    )


def front_matter(card: str) -> dict[str, object]:
    fields: dict[str, object] = ModelCard(card).data.to_dict()  # type: ignore[no-untyped-call]
    return fields


def test_the_card_says_what_the_model_was_made_of() -> None:
    card = render_card(record())
    for fact in (
        *("base-0007", "`org/base`", "2.2500 nats", "2.1250", "30 of 3 rows; stopped early"),
        *("480 for training, 24 for validation", "rank 256, alpha 512", "Batch 7: 504 files of 1 repositories"),
        *(
            "5 more files of the batch were not used",
            "MIT 500, unknown 4",
            "Python 504",
            "| local/a | `c0ffee` | 504 |",
        ),
        *("completion 400, infill 80; 7 show only a part", "control-tokens 3", "80 of up to 4,096 tokens, packed"),
        *("200,000 learned, 100,000 only read, 0 of padding", "`org/base`, revision 0123abc, fingerprint `ffff"),
        *("AutoPeftModelForCausalLM", "Not yet compared"),
    ):
        assert fact in card


def test_a_hub_base_is_in_the_front_matter_and_others_are_not() -> None:
    assert front_matter(render_card(record()))["base_model"] == "org/base"
    assert "base_model" not in front_matter(render_card(record("package:some_model")))
    assert "base_model" not in front_matter(render_card(record("/srv/base")))


def test_a_packaged_base_is_explained() -> None:
    assert "GGUF file of the Python package `some_model`" in render_card(record("package:some_model"))


def test_a_promoted_model_shows_what_all_were_measured_by() -> None:
    card = render_card(record(), comparison())
    for fact in (
        "Promoted.",
        "version 3 of the evaluation set (`eeeeeeeeeeeeeeee`): 1,234 windows of 21 groups",
        "| plain | all | 2.5000 | 2.2500 | +0.2500 | +0.1250 to +0.3750 | 21 | 1,234 |",
        "| of what it wrote | base | base-0003 | this model |",
        "| comes to an end by itself | 0.500 | 0.250 | 0.750 |",
        "| next line exactly the author's |  | 0.125 |  |",
        "Of human-eval both solve 9 problems, only `base-0003` solves 1, only this model 2, and neither 152.",
    ):
        assert fact in card


def test_what_could_not_be_told_is_left_out() -> None:
    card = render_card(record(), comparison(low=None))
    assert "| +0.2500 | none | 21 |" in card
    assert "syntax" not in card


def test_a_rejected_model_shows_why() -> None:
    reasons = Reason(rule="gain-plain", detail="a gain is not sure"), Reason(rule="old-batches", detail="worse")
    card = render_card(record(), comparison("rejected", *reasons))
    assert "Rejected:\n- gain-plain: a gain is not sure\n- old-batches: worse\n\nMeasured on" in card


def test_hostile_names_cannot_break_out_of_the_table() -> None:
    name = "a|b\n# [click](http://x) <img>`"
    share = RepositoryShare(id="x", name=name, commit="c0ffee", files=1)
    [line] = [line for line in render_card(record(repositories=[share])).splitlines() if "click" in line]
    assert line.startswith("| a\\|b # \\[click\\]")
    assert "\\<img\\>\\`" in line


def test_a_long_list_of_repositories_is_cut() -> None:
    shares = [RepositoryShare(id=str(n), name=f"r{n}", commit="c", files=1) for n in range(205)]
    card = render_card(record(repositories=shares))
    assert "| r199 |" in card
    assert "r200" not in card
    assert "and 5 more repositories" in card
