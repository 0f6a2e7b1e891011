"""Writing many documents: each has its id and its version, so that a request may be repeated, and each its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from codelupe import Reject
from codelupe_search.elasticsearch.connection import ElasticsearchUnavailable, described
from codelupe_search.entry import Entry

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

log = structlog.get_logger("search")

_MOST_BYTES = 1_000_000
"""Of a request: what can be sent at once without holding up others, and enough for a thousand repositories."""
_STALE = 409
_MISSING = 404
_TOO_LARGE = 413
_FOR_NOW = (403, 429)
"""Of a document: the index is blocked for writes, such as for a full disk; or there is too much to do."""


@dataclass(frozen=True, kw_only=True)
class Write:
    """A document, or the mark that a repository is removed, at a version."""

    id: str
    version: int
    source: bytes

    @classmethod
    def document(cls, entry: Entry) -> Write:
        values = asdict(entry)
        del values["version"]
        return cls(id=entry.repository_id, version=entry.version, source=_encode({**values, "removed": False}))

    @classmethod
    def removal(cls, repository_id: str, version: int) -> Write:
        """A mark, for Elasticsearch remembers the version of what it has deleted for a minute only."""
        return cls(id=repository_id, version=version, source=_encode({"repository_id": repository_id, "removed": True}))


@dataclass(kw_only=True)
class Outcome:
    """What became of the documents that were not taken. One that was stale is not among them."""

    has_moved: bool = False
    """An alias was not there any more."""
    put_off: Counter[str] = field(default_factory=Counter)
    """How many were refused for now, by reason."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why, by id."""

    def require_taken(self) -> None:
        """Raise what the contract of a search index says.

        Raises:
            ElasticsearchUnavailable: some are to come again.
            Reject: some cannot be taken.
        """
        if self.put_off:
            [(reason, _)] = self.put_off.most_common(1)
            raise ElasticsearchUnavailable(f"Elasticsearch refused {self.put_off.total()} documents for now: {reason}")
        if self.refused:
            repository_id, reason = next(iter(self.refused.items()))
            more = f", and {len(self.refused) - 1} more" if len(self.refused) > 1 else ""
            raise Reject(f"Elasticsearch cannot take the document of {repository_id}{more}: {reason}")


async def write_all(client: AsyncElasticsearch, writes: Sequence[Write], targets: Sequence[str]) -> Outcome:
    """Write all of them to each of these aliases.

    Raises:
        ApiError, TransportError: of a request as a whole.
    """
    outcome = Outcome()
    for chunk in _chunks([_Lines.of(write, targets) for write in writes]):
        await _send(client, chunk, outcome)
    return outcome


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """What a request says of one document."""

    id: str
    body: bytes

    @classmethod
    def of(cls, write: Write, targets: Sequence[str]) -> _Lines:
        return cls(id=write.id, body=b"".join(_action(write, target) + write.source + b"\n" for target in targets))


def _chunks(documents: Sequence[_Lines]) -> Iterator[list[_Lines]]:
    chunk: list[_Lines] = []
    size = 0
    for each in documents:
        if chunk and size + len(each.body) > _MOST_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += len(each.body)
    if chunk:
        yield chunk


async def _send(client: AsyncElasticsearch, chunk: Sequence[_Lines], outcome: Outcome) -> None:
    from elasticsearch import ApiError

    try:
        lines: Any = b"".join(each.body for each in chunk)  # the client also takes what is encoded, and does not say so
        answer = await client.bulk(operations=lines)
    except ApiError as error:
        if error.status_code != _TOO_LARGE:
            raise
        if len(chunk) == 1:
            outcome.refused[chunk[0].id] = f"its document of {len(chunk[0].body):,} bytes is too large"
            return
        for half in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
            await _send(client, half, outcome)
        return
    if answer["errors"]:
        for item in answer["items"]:
            _sort_out(item["index"], outcome)


def _action(write: Write, target: str) -> bytes:
    action = {
        "_index": target,
        "_id": write.id,
        "version": write.version,
        "version_type": "external",
        "require_alias": True,
    }
    return _encode({"index": action}) + b"\n"


def _sort_out(item: dict[str, Any], outcome: Outcome) -> None:
    status = item["status"]
    if status < 300 or status == _STALE:
        return
    if status == _MISSING:
        outcome.has_moved = True
    elif status >= 500 or status in _FOR_NOW:
        outcome.put_off[described(item["error"])] += 1
    else:
        outcome.refused[item["_id"]] = described(item["error"])


_encode = msgspec.json.Encoder().encode
