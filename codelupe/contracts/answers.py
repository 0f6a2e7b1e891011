"""What is wrong with what a contribution answers, in words; empty if nothing is."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec

from codelupe.contracts.evaluators import Problem, ScoredText
from codelupe.contracts.files import Objection, Score
from codelupe.contracts.repositories import Repository
from codelupe.contracts.samples import Sample
from codelupe.contracts.sources import Forecast, Gone, Page, Slice
from codelupe_events import GoneReason, Reason, RepoDescribed

_LONGEST_ID_BYTES = 900
"""Of a repository: it is part of the name of its stream."""
_LARGEST_NUMBERS = {"stars": 2**31 - 1, "forks": 2**31 - 1, "watchers": 2**31 - 1, "size_kib": 2**63 - 1}
"""Of a repository, by its field: what the columns of the table hold."""
_LONGEST_REPOSITORY = 100_000
_LONGEST_QUERY_BYTES = 2_000
"""Of a slice: an index row of Postgres holds 2,704."""
_LARGEST_TOTAL = 2**31 - 1
"""Of a slice: what the column holds."""


def faults_of_score(answer: Any) -> str:
    if answer is None:
        return ""
    if not isinstance(answer, Score):
        return unexpected(answer, "a Score or None")
    if not is_number(answer.value):
        return f"the score's value is {answer.value!r}, which is no number"
    if not 0 <= answer.value <= 100:
        return f"the score's value is {answer.value!r}, which is not from 0 to 100"
    return _faults_of_texts(answer.reasons)


def faults_of_sample(answer: Any) -> str:
    if answer is None:
        return ""
    if not isinstance(answer, Sample):
        return unexpected(answer, "a Sample or None")
    if fault := _faults_of_texts((answer.prompt, answer.answer)):
        return fault
    if not answer.answer:
        return "the sample's answer is empty"
    if fault := _fault_of_form("sample", answer.form):
        return fault
    flags: tuple[Any, ...] = (answer.ends, answer.is_cut)
    return "" if all(isinstance(flag, bool) for flag in flags) else f"ends and is_cut are {flags!r}, no truth values"


def faults_of_scored_text(answer: Any) -> str:
    if answer is None:
        return ""
    if not isinstance(answer, ScoredText):
        return unexpected(answer, "a ScoredText or None")
    if fault := _faults_of_texts((answer.prompt, answer.lead, answer.scored)):
        return fault
    return _fault_of_form("text", answer.form) if answer.scored else "what is to be scored is empty"


def faults_of_problems(answer: Any) -> str:
    if not isinstance(answer, list | tuple):
        return unexpected(answer, "a list of Problem")
    ids: set[str] = set()
    for each in answer:
        if not isinstance(each, Problem):
            return unexpected(each, "a Problem")
        if fault := _faults_of_texts((each.id, each.prompt)) or _fault_of_form("problem", each.form):
            return fault
        if not each.id or each.id in ids:
            return f"two problems have the id {each.id!r}" if each.id else "a problem has an empty id"
        ids.add(each.id)
    return "" if ids else "it has no problems"


def faults_of_verdict(answer: Any) -> str:
    return "" if isinstance(answer, bool) else unexpected(answer, "True or False")


def _fault_of_form(what: str, form: Any) -> str:
    return "" if form in ("chat", "text") else f"the {what}'s form is {form!r}, neither 'chat' nor 'text'"


def faults_of_objection(answer: Any) -> str:
    if answer is None:
        return ""
    if isinstance(answer, str):
        return _faults_of_texts((answer,))
    if not isinstance(answer, Objection):
        return unexpected(answer, "an Objection, a text or None")
    evidence: Any = answer.evidence
    if not isinstance(evidence, Mapping):
        return f"the evidence is {type(evidence).__name__}, not a mapping"
    encoded = msgspec.json.encode(dict(evidence))
    return "the evidence holds a NUL character" if b"\\u0000" in encoded else _faults_of_texts((answer.detail,))


def faults_of_reason(answer: Any) -> str:
    if answer is None:
        return ""
    if not isinstance(answer, Reason):
        return unexpected(answer, "a Reason or None")
    return _faults_of_texts((answer.rule, answer.detail))


def faults_of_repository(answer: Any) -> str:
    """What of a repository the log and the table cannot hold, in words; empty if there is nothing.

    Odd characters are no fault, for they are replaced where texts are stored.

    Raises:
        msgspec.ValidationError: a field has a value of the wrong type.
        Exception: a text is of a class of its own that cannot be written.
    """
    if not isinstance(answer, Repository):
        return unexpected(answer, "a Repository")
    event = answer.to_event(RepoDescribed)
    if len(event.repository_id.encode(errors="replace")) > _LONGEST_ID_BYTES:
        return f"a repository's id is {event.repository_id[:100]!r}…, which has more than {_LONGEST_ID_BYTES} bytes"
    if len(answer.external_id) == 0:
        return f"the repository {answer.full_name[:100]!r} has an empty external_id"
    faults = (*_faults_of_numbers(answer), *_faults_of_times(answer), *_faults_of_length(answer))
    return f"the repository {answer.id} has {faults[0]}" if faults else ""


def _faults_of_numbers(answer: Repository) -> Iterator[str]:
    for name, largest in _LARGEST_NUMBERS.items():
        if not 0 <= (number := getattr(answer, name) or 0) <= largest:
            yield f"{name} {number}, which is not from 0 to {largest}"


def _faults_of_times(answer: Repository) -> Iterator[str]:
    for name in ("pushed_at", "created_at"):
        time: datetime | None = getattr(answer, name)
        try:
            by_utc = time and time.astimezone(UTC)
        except OverflowError:
            yield f"{name} {time}, which is no time by UTC"
        else:
            if by_utc != time:
                yield f"{name} {time} without a time zone"


def _faults_of_length(answer: Repository) -> Iterator[str]:
    optional = (answer.language, answer.licence, answer.default_branch, answer.handle)
    texts = (
        *(answer.full_name, answer.url, answer.revision),
        *(text or "" for text in optional),
        *answer.topics,
        *answer.terms,
    )
    for text in (*texts, answer.description or ""):
        if type(text) is not str:
            msgspec.json.encode(text)
    if sum(map(len, texts)) > _LONGEST_REPOSITORY:
        yield f"more than {_LONGEST_REPOSITORY:,} characters without its description"


def faults_of_page(answer: Any) -> str:
    if not isinstance(answer, Page):
        return unexpected(answer, "a Page")
    if answer.instead and (answer.repositories or answer.next):
        return "the page has both repositories, or a next page, and slices in its place"
    found: Any = answer.repositories
    if not isinstance(found, Sequence):
        return unexpected(found, "a list of Repository")
    faults = (
        *map(faults_of_repository, found),
        *(faults_of_slices(answer.instead), _faults_of_gone(answer.gone), _fault_of_total(answer.total)),
        _faults_of_texts([text for text in (answer.next, answer.note) if text is not None]),
    )
    return next(filter(None, faults), "")


def faults_of_slices(answer: Any) -> str:
    if not isinstance(answer, Sequence) or not all(isinstance(each, Slice) for each in answer):
        return unexpected(answer, "a list of Slice")
    for each in answer:
        if not each.query or len(each.query.encode()) > _LONGEST_QUERY_BYTES:
            return f"a slice's query is {each.query[:100]!r}…, which has not 1 to {_LONGEST_QUERY_BYTES} bytes"
        if fault := _faults_of_texts((each.query, each.budget)) or _fault_of_total(each.total):
            return fault
    if len({each.query for each in answer}) < len(answer):
        return "two of the slices have the same query"
    return ""


def faults_of_accounts(answer: Any) -> str:
    if not isinstance(answer, Sequence) or isinstance(answer, str) or not answer:
        return unexpected(answer, "a list of names, one at least,")
    if fault := _faults_of_texts(tuple(answer)):
        return fault
    return "two of the accounts have the same name" if len(set(answer)) < len(answer) else ""


def faults_of_forecast(answer: Any) -> str:
    if not isinstance(answer, Forecast):
        return unexpected(answer, "a Forecast")
    least: Any = answer.least
    most: Any = math.inf if answer.most is None else answer.most
    spacing: Any = answer.spacing
    if not is_number(least) or not is_number(most) or not 0 <= least <= most:
        return f"it answered from {least!r} to {most!r} requests"
    if not isinstance(spacing, timedelta) or spacing < timedelta(0):
        return f"the spacing {spacing!r} is no time"
    return _faults_of_texts((answer.rate,))


def _fault_of_total(total: Any) -> str:
    if total is None or (isinstance(total, int) and not isinstance(total, bool) and 0 <= total <= _LARGEST_TOTAL):
        return ""
    return f"a slice has the total {total!r:.100}, which is not from 0 to {_LARGEST_TOTAL}"


def _faults_of_gone(answer: Any) -> str:
    if not isinstance(answer, Sequence):
        return unexpected(answer, "a list of Gone")
    for each in answer:
        if not isinstance(each, Gone):
            return unexpected(each, "a Gone")
        if each.reason not in get_args(GoneReason):
            return f"the reason {each.reason!r} is none of {', '.join(get_args(GoneReason))}"
        if fault := _faults_of_texts((each.external_id, each.detail or "")):
            return fault
    return ""


def _faults_of_texts(texts: Any) -> str:
    """Postgres holds neither NUL characters nor lone surrogates; encoding these raises, as does a class of its own."""
    if not isinstance(texts, tuple | list):
        return f"the reasons are {type(texts).__name__}, not a tuple"
    for text in texts:
        if not isinstance(text, str):
            return f"{text!r} is no text"
        if type(text) is not str or not text.isascii():
            msgspec.json.encode(text)
        if "\0" in text:
            return f"{text!r} has a NUL character"
    return ""


def unexpected(answer: object, wanted: str) -> str:
    if inspect.iscoroutine(answer):
        answer.close()
        return f"it is asynchronous, where {wanted} belongs: write `def`, without `async`"
    return f"it answered {_shown(answer)}, where {wanted} belongs"


def _shown(answer: object) -> str:
    try:
        return f"{answer!r}"[:200]
    except BaseException:
        return f"a {type(answer).__name__}"


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
