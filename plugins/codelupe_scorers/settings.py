"""The settings ``[plugins.scorers]``: how much each dimension counts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ScorersSettings(BaseModel):
    """Weights of the dimensions in a file's score; only their proportion matters, and 0 leaves one out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    structure: float = Field(
        default=3, ge=0, description="Parses, has functions and types of sensible size and nesting."
    )
    documentation: float = Field(default=2, ge=0, description="Comments and docstrings where definitions begin.")
    complexity: float = Field(default=2, ge=0, description="Decisions per function.")
    naming: float = Field(default=2, ge=0, description="New names are written as the language writes them.")
    security: float = Field(default=1, ge=0, description="No eval, shell, SQL, TLS, unsafe … of the dangerous kind.")
    repetition: float = Field(default=1, ge=0, description="Lines and runs of words that occur only once.")
    self_containedness: float = Field(
        default=1, ge=0, description="The file is its own, not imports, re-exports and empty functions."
    )
