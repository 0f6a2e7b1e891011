"""What the server says of a transaction is heard, in however many pieces it arrives."""

from __future__ import annotations

from typing import Any

import pytest

from codelupe.postgres.sessions import _completed, _Overhearing

READY = b"Z\0\0\0\5T"
ROW = b"D\0\0\0\x0f\0\1\0\0\0\5value"
SAVEPOINT = _completed(b"ROLLBACK") + READY


class InTransaction:
    """asyncpg's side, for which a transaction is open after each answer."""

    def data_received(self, data: bytes) -> None: ...

    def is_in_transaction(self) -> bool:
        return True


def watching() -> Any:
    it = _Overhearing(InTransaction())
    it.begin_watch()
    return it


@pytest.mark.parametrize(
    "commands",
    [("COMMIT", "BEGIN"), ("PREPARE TRANSACTION", "BEGIN"), ("ROLLBACK", "BEGIN"), ("ROLLBACK", "START TRANSACTION")],
)
def test_an_ending_is_heard_wherever_its_answer_is_cut(commands: tuple[str, str]) -> None:
    ended, begun = (_completed(command.encode()) for command in commands)
    answer = ROW + ended + ROW * 20 + begun + READY
    for at in range(len(answer)):
        it = watching()
        it.data_received(answer[:at])
        it.data_received(answer[at:])
        assert it.ended_transaction, at
    it = watching()
    for each in answer:
        it.data_received(bytes([each]))
    assert it.ended_transaction


def test_a_return_to_a_savepoint_is_no_ending_whatever_comes_in_later_answers() -> None:
    for at in range(1, len(SAVEPOINT)):
        it = watching()
        for data in (SAVEPOINT[:at], SAVEPOINT[at:], _completed(b"BEGIN") + READY):
            it.data_received(data)
        assert not it.ended_transaction, at
