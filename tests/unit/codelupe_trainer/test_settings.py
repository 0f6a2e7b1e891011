from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from codelupe_trainer.settings import TrainerSettings


def fields(model: type[BaseModel]) -> Iterator[FieldInfo]:
    for field in model.model_fields.values():
        yield field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation)


def test_every_setting_is_described() -> None:
    described = list(fields(TrainerSettings))
    assert len(described) > 25
    assert all(field.description for field in described)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_files": 200, "max_files": 100}, "min_files must not be above max_files"),
        ({"min_characters": 9000}, "min_characters must not be above max_characters"),
        ({"held_out_share": 1}, "held_out_share"),
        ({"lora": {"rnak": 8}}, "lora.rnak"),
        ({"base": ""}, "base"),
    ],
)
def test_bad_values_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainerSettings.model_validate(values)
