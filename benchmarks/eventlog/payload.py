"""The event that every system carries: JSON of 200 bytes, in one of 1,000 streams."""

from __future__ import annotations

import msgspec

PAYLOAD_BYTES = 200
STREAMS = 1000


class Payload(msgspec.Struct, frozen=True):
    """``number`` counts events, ``sent_ns`` is the sender's monotonic clock, which all processes of a machine share."""

    number: int
    sent_ns: int
    text: str


def padding(number: int, sent_ns: int = 0) -> str:
    """The text that fills the event's JSON up to its size."""
    return "x" * (PAYLOAD_BYTES - len(f'{{"number":{number},"sent_ns":{sent_ns},"text":""}}'))


def payload(number: int, sent_ns: int = 0) -> Payload:
    return Payload(number, sent_ns, padding(number, sent_ns))


def encoded(number: int, sent_ns: int = 0) -> bytes:
    return msgspec.json.encode(payload(number, sent_ns))


def decoded(data: bytes | str) -> Payload:
    return msgspec.json.decode(data, type=Payload)


def stream(number: int) -> str:
    return f"bench/{number % STREAMS}"
