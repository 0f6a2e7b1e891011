"""The files that samples are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from codelupe import SourceFile


class CodeFile(BaseModel):
    """A stored file with all that says where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository_id: str
    repository: str
    commit: str
    licence: str | None
    path: str
    language: str | None
    content_hash: str
    """In hexadecimal digits."""
    split: str
    score: float | None = None
    """Its quality, 0 to 100."""
    content: str

    @property
    def source(self) -> SourceFile:
        """What formats see of it."""
        return SourceFile(path=self.path, content=self.content, language=self.language, licence=self.licence)
