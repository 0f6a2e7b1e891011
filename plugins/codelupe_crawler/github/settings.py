"""What ``[plugins.crawler.github]`` may say."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_TOKEN = re.compile(r"[!-~]+")
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}


class GitHubSettings(BaseModel):
    """What of GitHub is crawled, and on whose behalf."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=False, description="Whether GitHub is crawled.")
    tokens: tuple[SecretStr, ...] = Field(
        default=(),
        description="Personal access tokens, in a credential one a line; they need no scope. Tokens of one account"
        " share its limits. Without one, GitHub answers a third as often and cannot count in advance.",
    )
    contact: str = Field(
        default="", description="An address in the User-Agent, by which GitHub can reach the operator."
    )
    languages: tuple[str, ...] = Field(
        default=("Rust", "Go", "Python", "TypeScript", "JavaScript", "Dart"),
        description="Languages of which everything is found in mode `deep`, as GitHub names them.",
    )
    gate: str = Field(
        default="stars:>=10 forks:>=3 archived:false mirror:false template:false",
        max_length=130,
        description="Qualifiers of GitHub's search that every repository has to meet.",
    )
    pages_per_term: int = Field(default=5, ge=1, le=10, description="Pages of a hundred that are asked for a term.")
    refresh_requests: int = Field(
        default=500, ge=0, description="Requests of one refresh; each asks what has become of a hundred repositories."
    )
    api_url: str = Field(default="https://api.github.com", description="Where the API is.")

    @field_validator("tokens", mode="before")
    @classmethod
    def _one_a_line(cls, tokens: object) -> object:
        """A credential is a text."""
        return tuple(tokens.split()) if isinstance(tokens, str) else tokens

    @field_validator("tokens")
    @classmethod
    def _are_tokens(cls, tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        """The text of the error does not quote them."""
        for number, token in enumerate(tokens, 1):
            if not _TOKEN.fullmatch(token.get_secret_value()):
                raise ValueError(f"token {number} holds a character that no token has, or is empty; copy it again")
        return tokens

    @field_validator("languages")
    @classmethod
    def _are_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for language in languages:
            if not language.strip() or not language.isprintable() or '"' in language:
                raise ValueError(f"{language!r} is no language")
        return languages

    @field_validator("api_url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        """Tokens go there."""
        parts = urlsplit(url)
        is_here = parts.scheme == "http" and parts.hostname in _THIS_MACHINE
        if not parts.hostname or not (parts.scheme == "https" or is_here):
            raise ValueError("it has to be https://HOST, or http:// on this machine")
        return url
