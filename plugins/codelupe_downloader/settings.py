"""What ``[plugins.downloader]`` may say."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, field_validator

from codelupe_git.credentials import Credential, address_of, read_credentials, without_credential

Protocol = Literal["https", "http", "ssh", "git", "file"]


class DownloaderSettings(BaseModel):
    """What is cloned, within which limits, and how much of it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(default=4, ge=1, le=64, description="Clones at a time in one process.")
    concurrency_per_host: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Clones from one host at a time, by all processes that share the repositories' folder.",
    )
    timeout: timedelta = Field(
        default=timedelta(minutes=10),
        gt=timedelta(0),
        description="How long one clone may take, in seconds or as `PT10M`.",
    )
    max_size: ByteSize = Field(
        default=ByteSize(1 << 30),
        gt=0,
        description="Largest clone on disk, in bytes or as `1GiB`; checked while it grows.",
    )
    min_free_space: ByteSize = Field(
        default=ByteSize(1 << 30), ge=0, description="Space that must stay free on the disk; below it, cloning waits."
    )
    keep_size: ByteSize | None = Field(
        default=None,
        ge=0,
        description="Space for clones, in bytes or as `100GiB`; past it those used longest ago whose files are"
        " extracted are removed, all of these with `0`. Unset, they stay.",
    )
    allowed_protocols: frozenset[Protocol] = Field(
        default=frozenset({"https", "file"}),
        description="How repositories may be fetched; `file` is for those on this machine.",
    )
    credentials: SecretStr | None = Field(
        default=None,
        description="What hosts are shown that ask for it: lines of `https://user:token@host`, as in the file of"
        " git-credential-store(1).",
    )

    @field_validator("credentials")
    @classmethod
    def _are_credentials(cls, lines: SecretStr | None) -> SecretStr | None:
        read_credentials(lines.get_secret_value() if lines else "")
        return lines

    @cached_property
    def _credentials(self) -> dict[str, Credential]:
        return read_credentials(self.credentials.get_secret_value() if self.credentials else "")

    def credential_for(self, url: str) -> tuple[str, Credential | None]:
        """The URL without a credential that may stand in it, and that one or the one set for its host."""
        bare, credential = without_credential(url)
        return bare, credential or self._credentials.get(address_of(bare))
