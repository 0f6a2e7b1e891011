"""The settings ``[plugins.search]``."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class ElasticsearchSettings(BaseModel):
    """Where Elasticsearch is, for ``search_index = "elasticsearch"``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: tuple[str, ...] = Field(
        default=("http://localhost:9200",),
        min_length=1,
        description="The cluster's nodes, such as `https://node-1:9200`; when one is away the next is asked.",
    )
    alias: str = Field(
        default="github-coding-repos",
        pattern=r"^[a-z0-9][a-z0-9.-]{0,199}$",
        description="What the index is called. It is an alias; the index behind it has a number.",
    )
    api_key: SecretStr | None = Field(default=None, description="An API key, as Elasticsearch encodes it.")
    username: str | None = Field(default=None, description="A user, in place of an API key.")
    password: SecretStr | None = Field(default=None, description="That user's password.")
    ca_certs: Path | None = Field(
        default=None, description="File of the certificates that vouch for the nodes; unset, those of the system."
    )
    timeout_seconds: float = Field(default=30, gt=0, le=600, description="How long one request may take.")
    shards: int = Field(default=1, ge=1, le=1024, description="Shards of an index that is made from now on.")
    replicas: int = Field(default=1, ge=0, le=100, description="Copies of each shard.")

    @field_validator("urls")
    @classmethod
    def _are_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for number, url in enumerate(urls, start=1):
            parts = urlsplit(url)
            if parts.username is not None or parts.password is not None:
                raise ValueError(
                    f"number {number} holds credentials; they belong into api_key, or username and password"
                )
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"number {number} is no address such as https://node-1:9200")
        return urls

    @model_validator(mode="after")
    def _has_one_way_in(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.api_key is not None and self.username is not None:
            raise ValueError("give an api_key, or username and password, not both")
        return self


class SearchSettings(BaseModel):
    """``[plugins.search]``: where the index over repositories is, if not in Postgres."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    elasticsearch: ElasticsearchSettings = Field(
        default_factory=ElasticsearchSettings, description="Where Elasticsearch is."
    )
