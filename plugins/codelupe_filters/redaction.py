"""Takes secrets and personal data out of a text and leaves typed placeholders in their places.

Kingfisher looks for them, by its own rules and by those in ``secret_rules.yaml``, in one pass and without asking
any client on the network. What it takes for an address but no person could be reached at is left as it is.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from importlib.resources import as_file, files
from itertools import islice
from typing import NamedTuple

from kingfisher_sdk import Finding, Rules, Scanner

from codelupe import Objection

_PERSONAL = {"EMAIL", "IP_ADDRESS"}
_ASSIGNED = "ASSIGNED_SECRET"
_EXAMPLE_HOST = re.compile(rb"(?:.+[.@])?(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost|local)")
_NO_HOST = re.compile(
    rb".+\.(?:png|jpe?g|gif|svg|webp|ico|js|ts|css|json|html?|py|rs|go|dart|java|md|txt|sh|ya?ml|toml|xml|lock|self)"
)
_NO_PERSON = {b"git", b"svn", b"hg"}
_VERSION_BEFORE = re.compile(
    rb"(?:version|release|section|\bver|\brev|\boid|\bsec|\bv|\xa7|[=<>~^!]=|[<>~^]|[-.\\])[\s\"'`=:(]*\Z",
    re.IGNORECASE,
)
_VERSION_AFTER = re.compile(rb"[-+.]?[A-Za-z0-9]")
_REPEATED = re.compile(rb"(?=.*[0-9])(?=.*[A-Za-z])\S{8,}", re.DOTALL)
_SMALL = 32
MOST_SECRETS = 100
"""The repetitions of so many are looked for: a bound on the time that a file may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """A text without secrets, how many of each kind were taken out, and their share of its bytes."""

    content: bytes
    counts: Mapping[str, int] = field(default_factory=dict)
    share: float = 0
    secrets: int = 0
    """How many different ones, addresses not counted."""


@dataclass(frozen=True)
class MaxRedacted:
    """Not more than such a share of secrets and personal data, nor more than 100 different secrets."""

    most: float
    name = "redacted"
    version = 1

    def check(self, redacted: Redacted) -> Objection | None:
        if redacted.secrets > MOST_SECRETS:
            detail = f"{redacted.secrets} different secrets, at most {MOST_SECRETS} are allowed"
        elif redacted.share > self.most:
            detail = f"{redacted.share:.0%} secrets and personal data, at most {self.most:.0%} are allowed"
        else:
            return None
        return Objection(
            detail=detail, evidence={"share": round(redacted.share, 4), "redactions": dict(redacted.counts)}
        )


class _Span(NamedTuple):
    start: int
    end: int
    kind: str


def redact(data: bytes, key: bytes, cache: str) -> Redacted:
    """The text with a placeholder for each secret, such as ``<GITHUB_PAT:1a2b3c4d>`` or ``<EMAIL:1>``.

    A secret's placeholder is the same everywhere: it ends in a hash with the key. Addresses, of which there are too
    few to hash, are numbered within the text. ``data`` is UTF-8; ``cache`` is a folder of this user's alone, where
    compiled rules are kept.
    """
    findings = load_scanner(cache).scan(data)
    spans = _merge([*_spans(data, findings)]) if findings else []
    return _replace(data, spans, key) if spans else Redacted(content=data)


def compile_rules(cache: str) -> None:
    """See that the folder holds the compiled rules."""
    load_scanner(cache)


@cache
def load_scanner(cache: str) -> Scanner:
    """The scanner of this process: loading takes 0.3 s, and 3 s where the folder holds no compiled rules yet."""
    with as_file(files(__package__) / "secret_rules.yaml") as rules:
        return Scanner(Rules([rules], cache_dir=cache))


def _spans(data: bytes, findings: Iterable[Finding]) -> Iterator[_Span]:
    found = [(kind_of(finding.rule_id), finding) for finding in findings]
    # Some of Kingfisher's findings, its invisible ones, mean something only beside another one.
    is_alone = not any(finding.visible for _, finding in found if not finding.rule_id.startswith("codelupe."))
    secrets: dict[bytes, str] = {}
    for kind, finding in found:
        place = finding.location
        span = _Span(place["start_offset"], place["end_offset"], kind)
        if (finding.visible or not is_alone) and _is_meant(data, span):
            yield span
            if kind not in _PERSONAL:
                secrets.setdefault(data[span.start : span.end], kind)
    for secret, kind in islice(secrets.items(), MOST_SECRETS):
        yield from _repetitions(data, secret, kind)


def kind_of(rule: str) -> str:
    """What a placeholder calls the findings of a rule: ``betterleaks.github-pat`` finds ``GITHUB_PAT``."""
    name = re.sub(r"^(?:betterleaks|codelupe|kingfisher|custom|veles\.secrets)[./]|\.\d+$", "", rule)
    return re.sub(r"[^A-Z0-9]+", "_", name.upper())


def _is_meant(data: bytes, span: _Span) -> bool:
    secret = data[span.start : span.end]
    if span.kind == "EMAIL":
        return _is_mailbox(secret)
    if span.kind == "IP_ADDRESS":
        return _is_public_address(secret) and not _is_version(data, span)
    return span.kind != _ASSIGNED or bool(_REPEATED.fullmatch(secret))


def _is_mailbox(address: bytes) -> bool:
    name, _, host = address.lower().partition(b"@")
    return name not in _NO_PERSON and not _EXAMPLE_HOST.fullmatch(host) and not _NO_HOST.fullmatch(host)


def _is_public_address(text: bytes) -> bool:
    """Whether it is an address that a person may have.

    Four numbers below 32 are rather the number of a section or a version.
    """
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError:
        return False
    if not address.is_global or address.is_multicast:
        return False
    return max(address.packed) >= _SMALL if address.version == 4 else len(set(address.packed)) > 4


def _is_version(data: bytes, span: _Span) -> bool:
    before, after = data[max(0, span.start - 24) : span.start], data[span.end : span.end + 2]
    return bool(_VERSION_BEFORE.search(before) or _VERSION_AFTER.match(after))


def _repetitions(data: bytes, secret: bytes, kind: str) -> Iterator[_Span]:
    """Wherever the secret stands, also where nothing around it gives it away."""
    start = data.find(secret) if _REPEATED.fullmatch(secret) else -1
    while start >= 0:
        yield _Span(start, start + len(secret), kind)
        start = data.find(secret, start + len(secret))


def _merge(spans: list[_Span]) -> list[_Span]:
    """Spans in their order without overlaps; of those that overlap the kind of the first, or clearest, stands."""
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda it: (it.start, _vagueness(it.kind), -it.end, it.kind)):
        if merged and span.start < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def _vagueness(kind: str) -> int:
    return 2 if kind in _PERSONAL else kind == _ASSIGNED


def _replace(data: bytes, spans: list[_Span], key: bytes) -> Redacted:
    tags = _Tags(key)
    pieces, end, taken = [], 0, 0
    for span in spans:
        placeholder = f"<{span.kind}:{tags.tag(span.kind, data[span.start : span.end])}>"
        pieces += [data[end : span.start], placeholder.encode()]
        end, taken = span.end, taken + span.end - span.start
    return Redacted(
        content=b"".join([*pieces, data[end:]]),
        counts=dict(sorted(Counter(span.kind for span in spans).items())),
        share=taken / len(data),
        secrets=tags.secrets,
    )


class _Tags:
    """What tells a text's placeholders of one kind from each other."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: defaultdict[str, dict[bytes, str]] = defaultdict(dict)

    def tag(self, kind: str, secret: bytes) -> str:
        known = self._known[kind]
        if kind in _PERSONAL:
            return known.setdefault(secret.lower(), str(len(known) + 1))
        return known.setdefault(secret, blake2b(secret, key=self._key, digest_size=4).hexdigest())

    @property
    def secrets(self) -> int:
        return sum(len(known) for kind, known in self._known.items() if kind not in _PERSONAL)
