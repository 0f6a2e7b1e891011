"""What the registry takes, writes, reads back, describes and refuses."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_events import (
    CrawlRequested,
    Event,
    InvalidEventData,
    ModelRejected,
    Reason,
    RepoCloned,
    RepoDiscovered,
    RepoEmpty,
    TrainingCompleted,
    TrainingFailed,
    UnknownEventType,
    UnknownEventVersion,
    decode,
    decode_all,
    encode,
    encode_all,
    event,
    event_types,
    json_schema,
    registry,
)

EVENTS = [one for one in event_types() if one.__module__.startswith("codelupe_events")]
_INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(int, _INT64)
st.register_type_strategy(datetime, st.datetimes(timezones=st.just(UTC)))


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is forgotten after it."""
    monkeypatch.setattr(registry, "_declarations", dict(registry._declarations))


@pytest.fixture
def renamed(own_registry: None) -> type[Event]:
    """An event in its third version: ``name`` became ``full_name``, then ``stars`` came."""

    def split(data: dict[str, Any]) -> dict[str, Any]:
        return {"full_name": data["name"]}

    def count(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "stars": 0}

    @event(version=3, upcasters={1: split, 2: count})
    class Renamed(Event, frozen=True, kw_only=True):
        full_name: str
        stars: int

        def stream(self) -> str:
            return f"renamed/{self.full_name}"

    return Renamed


# --- round trip ---


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_what_is_written_is_read_back_the_same(cls: type[Event], data: st.DataObject) -> None:
    original = data.draw(st.from_type(cls))
    assert decode(cls.__name__, cls.version, encode(original)) == original


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_every_event_names_its_stream_and_fits_the_exported_schema(cls: type[Event], data: st.DataObject) -> None:
    original = data.draw(st.from_type(cls))
    family, slash, key = original.stream().partition("/")
    assert family in {"batch", "crawl", "evaluation", "repo", "subscription"}
    assert slash
    assert key == original.stream().removeprefix(f"{family}/")
    _validator(cls.__name__).validate(msgspec.json.decode(encode(original)))


@given(events=st.lists(st.one_of(*map(st.from_type, EVENTS[:4])), max_size=5))
def test_many_are_written_and_read_as_each_alone(events: list[Event]) -> None:
    written = encode_all(events)
    assert written == [encode(one) for one in events]
    recorded = [(type(one).__name__, one.version, data.decode()) for one, data in zip(events, written, strict=True)]
    assert decode_all(recorded) == events


def test_many_of_one_type_keep_their_line_ends() -> None:
    events = [
        RepoEmpty(repository_id=f"a:{end}", url=f"x{end}y") for end in ("\n", "\r\n", "\x0b", "\x85", "\u2028", "")
    ]
    written = encode_all(events)
    assert decode_all([("RepoEmpty", 1, data.decode()) for data in written]) == events


def test_one_that_is_unfit_among_many_is_refused() -> None:
    fit = RepoEmpty(repository_id="a:b", url="c")
    with pytest.raises(InvalidEventData, match="RepoEmpty version 1"):
        encode_all([fit, RepoEmpty(repository_id="a:b", url=7), fit])  # type: ignore[arg-type]
    with pytest.raises(InvalidEventData, match="url"):
        encode_all([fit, RepoEmpty(repository_id="a:b", url=b"bytes"), fit])  # type: ignore[arg-type]
    good = encode(fit).decode()
    with pytest.raises(InvalidEventData, match="RepoEmpty version 1"):
        decode_all([("RepoEmpty", 1, good), ("RepoEmpty", 1, "{}")])
    with pytest.raises(UnknownEventType, match="Nobody"):
        decode_all([("Nobody", 1, good)] * 2)
    with pytest.raises(UnknownEventVersion, match="9"):
        decode_all([("RepoEmpty", 9, good)] * 2)


def test_many_old_ones_are_read_as_the_newest(renamed: type[Event]) -> None:
    old = [(renamed.__name__, 1, '{"name":"a/b"}')] * 3
    assert decode_all(old) == [decode(*one) for one in old]


def test_events_are_frozen() -> None:
    made = RepoEmpty(repository_id="local:rich", url="file:///rich")
    with pytest.raises(AttributeError):
        made.url = "file:///other"  # type: ignore[misc]


# --- what cannot be written ---


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_refused_before_it_is_recorded(value: float) -> None:
    it = TrainingCompleted(
        batch_id=1,
        model_id="m",
        path="m",
        steps=1,
        samples=1,
        train_loss=value,
        validation_loss=1.0,
        stopped_early=False,
        seconds=1.0,
    )
    with pytest.raises(InvalidEventData, match=r"TrainingCompleted version 2: .*train_loss"):
        encode(it)


@pytest.mark.parametrize(
    "broken",
    [
        RepoEmpty(repository_id="a", url=5),  # type: ignore[arg-type]
        RepoEmpty(repository_id="a", url=object()),  # type: ignore[arg-type]
        ModelRejected(batch_id=1, model_id="m", metrics={"current": 1.0}, reasons=()),  # type: ignore[dict-item]
    ],
)
def test_a_value_of_the_wrong_type_is_refused_before_it_is_recorded(broken: Event) -> None:
    with pytest.raises(InvalidEventData, match=type(broken).__name__):
        encode(broken)


# --- what cannot be read ---


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(UnknownEventType, match=r"RepoPainted \(version 2\)"):
        decode("RepoPainted", 2, b"{}")


@pytest.mark.parametrize("version", [-1, 0, 2, 99])
def test_an_unknown_version_is_named_with_those_that_are_known(version: int) -> None:
    with pytest.raises(UnknownEventVersion, match=f"RepoEmpty version {version} .* versions 1 to 1"):
        decode("RepoEmpty", version, b'{"repository_id": "a", "url": "b"}')


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"repository_id": "a"}', "url"),
        (b'{"repository_id": "a", "url": 5}', "url"),
        (b'{"repository_id": "a", "url": "b", "colour": "red"}', "colour"),
        (b'{"repository_id": "a", "url"', "truncated"),
        (b"[]", "array"),
        (b'{"repository_id": "a", "url": "\xff"}', "utf-8"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_reason(data: bytes, complaint: str) -> None:
    with pytest.raises(InvalidEventData, match=rf"RepoEmpty version 1: .*{complaint}"):
        decode("RepoEmpty", 1, data)


# --- versions ---


@pytest.mark.parametrize(
    ("version", "data", "stars"),
    [
        (1, b'{"name": "textualize/rich"}', 0),
        (2, b'{"full_name": "textualize/rich"}', 0),
        (3, b'{"full_name": "textualize/rich", "stars": 7}', 7),
    ],
)
def test_old_versions_are_read_as_the_newest(renamed: type[Event], version: int, data: bytes, stars: int) -> None:
    it = decode("Renamed", version, data)
    assert type(it) is renamed
    assert msgspec.structs.asdict(it) == {"full_name": "textualize/rich", "stars": stars}
    assert it.stream() == "renamed/textualize/rich"


def test_what_an_upcaster_makes_is_checked_too(renamed: type[Event]) -> None:
    with pytest.raises(InvalidEventData, match=r"Renamed version 2: .*full_name"):
        decode("Renamed", 2, b'{"full_name": 5}')


@pytest.mark.parametrize("data", [b"{}", b'"text"', b"[1]"])
def test_old_data_that_an_upcaster_cannot_read_is_an_event_error(renamed: type[Event], data: bytes) -> None:
    with pytest.raises(InvalidEventData, match="Renamed version 1"):
        decode("Renamed", 1, data)


def test_a_version_without_its_upcaster_is_refused(own_registry: None) -> None:
    with pytest.raises(ValueError, match="Painted version 4 has no upcaster from version 2"):

        @event(version=4, upcasters={1: dict, 3: dict})
        class Painted(Event, frozen=True, kw_only=True):
            pass


# --- names ---


def test_a_name_belongs_to_one_module(own_registry: None) -> None:
    class RepoEmpty(Event, frozen=True, kw_only=True):
        pass

    with pytest.raises(ValueError, match=r"RepoEmpty of .*test_registry is declared already by codelupe_events\.repo"):
        event()(RepoEmpty)


def test_a_module_that_is_loaded_again_may_declare_its_events_again(own_registry: None) -> None:
    assert event()(RepoEmpty) is RepoEmpty


def test_an_event_that_does_not_name_its_stream_says_so(own_registry: None) -> None:
    @event()
    class Homeless(Event, frozen=True, kw_only=True):
        pass

    with pytest.raises(TypeError, match="Homeless does not say which stream"):
        Homeless().stream()


def test_event_types_come_by_name() -> None:
    names = [cls.__name__ for cls in event_types()]
    assert names == sorted(names)
    assert {"RepoDiscovered", "BatchReady", "ModelPromoted", "TaskDeadLettered"} <= set(names)


@pytest.mark.parametrize(
    ("made", "stream"),
    [
        (RepoEmpty(repository_id="local:rich", url=""), "repo/local:rich"),
        (TrainingFailed(batch_id=3, model_id="m", error=""), "batch/3"),
        (CrawlRequested(), "crawl/all"),
        (CrawlRequested(source="local"), "crawl/local"),
    ],
)
def test_streams_are_as_documented(made: Event, stream: str) -> None:
    assert made.stream() == stream


# --- JSON Schema ---


def test_the_exported_schema_is_valid_json_schema() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {cls.__name__ for cls in EVENTS} <= set(schema["$defs"])
    assert schema["$defs"]["RepoCloned"]["x-version"] == RepoCloned.version


def test_the_exported_schema_tells_right_from_wrong() -> None:
    right = {"repository_id": "a", "revision": "1", "score": 1.5, "reasons": [{"rule": "stars", "detail": "3 < 10"}]}
    wrongs = [
        {**right, "score": "much"},
        {**right, "colour": "red"},
        {**right, "reasons": [{"rule": "stars"}]},
        {"repository_id": "a"},
    ]
    assert _validator("RepoRejected").is_valid(right)
    assert [_validator("RepoRejected").is_valid(wrong) for wrong in wrongs] == [False] * len(wrongs)


def test_optional_fields_have_defaults_in_the_schema() -> None:
    properties = json_schema()["$defs"]["RepoDiscovered"]["properties"]
    assert properties["stars"]["default"] == 0
    least = RepoDiscovered(repository_id="a:b", source="a", full_name="b", url="u", revision="r")
    assert set(json_schema()["$defs"]["RepoDiscovered"]["required"]) == {
        "repository_id",
        "source",
        "full_name",
        "url",
        "revision",
    }
    _validator("RepoDiscovered").validate(msgspec.json.decode(encode(least)))


def test_reasons_compare_by_value() -> None:
    assert Reason(rule="stars", detail="few") == Reason(rule="stars", detail="few")


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json_schema()
    return jsonschema.Draft202012Validator({**schema["$defs"][name], "$defs": schema["$defs"]})
