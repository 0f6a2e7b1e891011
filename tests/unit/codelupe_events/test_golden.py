"""Every version of every event has a golden file, and no recorded event ever becomes unreadable.

``golden/<Event>.v<version>.json`` holds an example as it was recorded in that version (``data``) and the version's
JSON Schema without its prose (``schema``). Such a file is never changed: what changes an event's encoding or schema
is a new version of it, with a golden file of its own and an upcaster from the one before.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from codelupe_events import Event, decode, encode, event_types

FOLDER = Path(__file__).with_name("golden")
FILE_NAME = re.compile(r"(\w+)\.v(\d+)\.json")
EVENTS = {cls.__name__: cls for cls in event_types() if cls.__module__.partition(".")[0] == "codelupe_events"}
VERSIONS = [(name, version) for name, cls in EVENTS.items() for version in range(1, cls.version + 1)]
NEWEST = [(name, cls.version) for name, cls in EVENTS.items()]
FORMER = [(old, name) for name, cls in EVENTS.items() for old in cls.former_names]

_SAMPLES: dict[Any, Any] = {str: "text", int: 1, float: 0.5, bool: True}


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_every_version_has_a_golden_file(name: str, version: int) -> None:
    path = _path(name, version)
    assert path.exists(), f"write {path}, for example with\n{json.dumps(_draft(EVENTS[name]), indent=2)}"


@pytest.mark.parametrize(("name", "version"), NEWEST)
def test_the_newest_version_is_encoded_as_its_golden_file(name: str, version: int) -> None:
    data = _golden(name, version)["data"]
    encoded = encode(decode(name, version, json.dumps(data)))
    assert json.loads(encoded) == data, f"{name} is written in another way now: give it version {version + 1}"
    assert set(data) == set(EVENTS[name].__struct_fields__), "the example names every field, optional ones too"


@pytest.mark.parametrize(("name", "version"), NEWEST)
def test_the_newest_version_has_the_schema_of_its_golden_file(name: str, version: int) -> None:
    assert _schema(EVENTS[name]) == _golden(name, version)["schema"], (
        f"the fields of {name} have changed: give it version {version + 1} and an upcaster from version {version}"
    )


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_every_version_can_be_read(name: str, version: int) -> None:
    golden = _golden(name, version)
    jsonschema.validate(golden["data"], golden["schema"], cls=jsonschema.Draft202012Validator)
    assert type(decode(name, version, json.dumps(golden["data"]))) is EVENTS[name]


def test_no_golden_file_is_left_over() -> None:
    names = [FILE_NAME.fullmatch(path.name) for path in FOLDER.iterdir()]
    assert all(names), "only golden files belong there"
    former = {old for old, _ in FORMER}
    assert sorted((match[1], int(match[2])) for match in names if match and match[1] not in former) == sorted(VERSIONS)


@pytest.mark.parametrize(("old", "name"), FORMER)
def test_what_was_recorded_under_a_former_name_is_read_under_the_new_one(old: str, name: str) -> None:
    assert type(decode(old, 1, json.dumps(_golden(old, 1)["data"]))) is EVENTS[name]


def _path(name: str, version: int) -> Path:
    return FOLDER / f"{name}.v{version}.json"


def _golden(name: str, version: int) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(_path(name, version).read_text(encoding="utf-8"))
    return golden


def _schema(cls: type[Event]) -> Any:
    """The JSON Schema of the class; its prose may change without a new version."""
    return _without_prose(json.loads(msgspec.json.encode(msgspec.json.schema(cls))))


def _without_prose(schema: Any) -> Any:
    match schema:
        case dict():
            is_prose = {key for key in ("title", "description") if isinstance(schema.get(key), str)}
            return {key: _without_prose(value) for key, value in schema.items() if key not in is_prose}
        case list():
            return [_without_prose(each) for each in schema]
        case _:
            return schema


def _draft(cls: type[Event]) -> dict[str, Any]:
    """What a new golden file could hold."""
    fields = msgspec.structs.fields(cls)
    data = {field.encode_name: _SAMPLES.get(field.type, "…") for field in fields}
    return {"data": data, "schema": _schema(cls)}
