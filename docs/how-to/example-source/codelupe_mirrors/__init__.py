"""A source of repositories: the mirrors that lie in one folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
from pydantic import BaseModel, Field

from codelupe import Repository, RepositorySource, hookimpl


class MirrorsSettings(BaseModel):
    """Where the mirrors lie."""

    folder: Path = Field(Path("/srv/git"), description="Folder with bare repositories `OWNER/NAME.git`.")


class Mirrors:
    """Every ``OWNER/NAME.git`` below a folder."""

    name = "mirrors"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def discover(self) -> AsyncIterator[Repository]:
        """All of them but those without a commit."""
        for path in await anyio.to_thread.run_sync(lambda: sorted(self._folder.glob("*/*.git"))):
            head = await anyio.run_process(["git", "-C", str(path), "rev-parse", "--verify", "HEAD"], check=False)
            if head.returncode == 0:
                name = f"{path.parent.name}/{path.stem}"
                yield Repository(
                    source=self.name,
                    external_id=name,
                    full_name=name,
                    url=path.as_uri(),
                    revision=head.stdout.decode().strip(),
                )


@hookimpl
def codelupe_settings() -> type[MirrorsSettings]:
    return MirrorsSettings


@hookimpl
def codelupe_repository_sources(settings: MirrorsSettings) -> list[RepositorySource]:
    return [Mirrors(settings.folder)]
