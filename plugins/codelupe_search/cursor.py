"""Cursors: the place of a hit in its order, as a text that says nothing to others."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Annotated

import msgspec

from codelupe import CodelupeError, SearchSort

_Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float
_Text = Annotated[str, msgspec.Meta(pattern=r"^[^\0]*$")]
_Key = _Number | _Text


class InvalidCursor(CodelupeError):
    """It is not one of a hit of such a search."""

    code = "invalid-cursor"


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """The place of a hit: by what it is sorted, and its id."""

    sort: SearchSort
    key: int | float | str
    repository_id: str

    def encode(self) -> str:
        return urlsafe_b64encode(msgspec.json.encode((self.sort, self.key, self.repository_id))).decode()

    @classmethod
    def decode(cls, text: str, sort: SearchSort) -> Cursor:
        """The cursor that the text says.

        Raises:
            InvalidCursor: it is of a search with another order, or no cursor at all.
        """
        try:
            found = msgspec.json.decode(urlsafe_b64decode(text.encode()), type=tuple[SearchSort, _Key, _Text])
        except (ValueError, msgspec.MsgspecError) as error:
            raise InvalidCursor(f"{text[:100]!r} is no cursor", hint="Take one that a search has answered.") from error
        made_for, key, repository_id = found
        if made_for != sort or isinstance(key, str) != (sort == "name"):
            raise InvalidCursor(
                f"the cursor is of a search sorted by {made_for}, not by {sort}", hint="Repeat that search's options."
            )
        return cls(sort=sort, key=key, repository_id=repository_id)
