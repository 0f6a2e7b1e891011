"""The source ``packages``."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import anyio.to_thread

from codelupe import (
    Gone,
    Page,
    Repository,
    RetryLater,
    Slice,
    SourceContext,
    SourceMode,
    SourceSession,
    Want,
    remove_tree,
)
from codelupe_crawler.copies import copy_name
from codelupe_crawler.opt_out import OptOutList
from codelupe_crawler.registries.archives import ArchiveRefused, read_archive
from codelupe_crawler.registries.kept import Kept, keep, read_kept
from codelupe_crawler.registries.npm import open_npm
from codelupe_crawler.registries.pypi import METADATA, about_of, open_pypi
from codelupe_crawler.registries.release import (
    About,
    NoSource,
    Package,
    Registry,
    RegistryLimits,
    Release,
    Withdrawn,
)

NAME = "packages"
ACCOUNT = "clients"
"""Whatever the clients of registries are logged in as."""
_SPACING = timedelta(milliseconds=100)
_HINTS = {
    "pip": "Install it beside CodeLupe with `python -m ensurepip`, or take the packages of PyPI out of `packages`.",
    "npm": "Install Node.js, put npm into PATH, or take the packages of npm out of `packages`.",
}

Refuses = Callable[[Package, About], Awaitable[bool]]
"""Whether a package must not be stored."""


class PackagesSource:
    """The newest source release of each package that the settings name, as a git repository made of its files.

    A package is a slice, and all that its registry is asked for it (what there is, and the archive if that is new) is
    one request: an archive that was read is kept at once, so that a killed daemon fetches one package again at most.
    """

    name = NAME

    def __init__(
        self,
        packages: Sequence[str],
        folder: Path,
        *,
        within: timedelta,
        forgotten: Callable[[str], Awaitable[Collection[str]]],
        opt_out: OptOutList,
    ) -> None:
        self._packages = list(dict.fromkeys(map(Package.parse, packages)))
        self._folder = folder
        self._within = within.total_seconds()
        self._forgotten = forgotten
        self._opt_out = opt_out
        self._missing: set[str] = set()

    async def accounts(self, context: SourceContext) -> Sequence[str]:  # noqa: ARG002 - the contract's words
        """One, since no registry counts by account."""
        return [ACCOUNT]

    async def plan(self, want: Want, context: SourceContext) -> Sequence[Slice]:
        """Every package whose registry's client is here; there is nothing to look for, nor anything else to refresh."""
        if want.mode == SourceMode.REFRESH:
            return []
        missing = {client for client in {each.client for each in self._packages} if not _is_here(client)}
        for client in sorted(missing - self._missing):
            context.log.warning("package_client_missing", client=client, hint=_HINTS[client])
        self._missing = missing
        return [Slice(query=str(each), budget=each.registry) for each in self._packages if each.client not in missing]

    def open(self, account: str, context: SourceContext) -> AbstractAsyncContextManager[SourceSession]:  # noqa: ARG002
        """Around requests; a client is asked for its configuration when it is first needed."""
        return self._open(context)

    @asynccontextmanager
    async def _open(self, context: SourceContext) -> AsyncIterator[SourceSession]:
        async with AsyncExitStack() as stack:
            yield _Session(context, Registries(self._folder, self._within, stack), self._folder, self._refuses)

    async def _refuses(self, package: Package, about: About) -> bool:
        if f"{NAME}:{package.external_id}" in await self._forgotten(NAME):
            return True
        return (await self._opt_out.current()).is_listed(package.external_id, *about.links)


class Registries:
    """Registries by their names, each opened when it is first needed."""

    def __init__(self, folder: Path, within: float, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._within = within
        self._stack = stack
        self._open: dict[str, Registry] = {}

    async def get(self, name: str) -> Registry:
        """The registry ``pypi`` or ``npm``.

        Raises:
            RegistryFailed: its client cannot be asked.
        """
        if name not in self._open:
            within = self._within
            opened = open_pypi(within) if name == "pypi" else open_npm(self._folder / ".npm", within)
            self._open[name] = await self._stack.enter_async_context(opened)
        return self._open[name]


class _Session:
    def __init__(self, context: SourceContext, registries: Registries, folder: Path, refuses: Refuses) -> None:
        self._context = context
        self._registries = registries
        self._folder = folder
        self._refuses = refuses

    async def ask(self, slice: Slice, cursor: str | None) -> Page:  # noqa: A002, ARG002 - the contract's words
        """The package of this slice, fetched unless its newest release is kept already."""
        package = Package.parse(slice.query)
        budget = self._context.budget(ACCOUNT, package.registry)
        await budget.take(_SPACING)
        try:
            repository = await self._describe(package)
        except Withdrawn as error:
            return Page(gone=[Gone(external_id=package.external_id, reason=error.reason, detail=str(error))])
        except (NoSource, ArchiveRefused) as error:
            return Page(note=f"{package}: {error}")
        except RegistryLimits as error:
            await budget.close(timedelta(seconds=error.seconds), str(error))
            # Not after so many seconds: packages of the other registry need not wait.
            raise RetryLater(str(error), after=timedelta(0), counts=False) from error
        return Page(repositories=(repository,) if repository else ())

    async def _describe(self, package: Package) -> Repository | None:
        """The package as a repository; None if it must not be stored."""
        if await self._refuses(package, About()):
            return None
        registry = await self._registries.get(package.registry)
        release = await registry.newest(package.name)
        place = self._folder / _place(package)
        kept = await anyio.to_thread.run_sync(read_kept, place)
        if kept is None or kept.revision != release.revision:
            kept = await self._fetch(package, registry, release, place)
        elif await self._refuses(package, release.about or kept.about):
            await anyio.to_thread.run_sync(remove_tree, place)
            return None
        return _repository(package, release, kept, place) if kept else None

    async def _fetch(self, package: Package, registry: Registry, release: Release, place: Path) -> Kept | None:
        """Keep the release; None if it must not be stored, as is known only now."""
        archive = await registry.download(package.name, release)
        files = await anyio.to_thread.run_sync(lambda: read_archive(archive, metadata=METADATA))
        about = about_of(files.pop(METADATA, None)) if release.about is None else release.about
        if await self._refuses(package, about):
            return None
        if not files:
            raise NoSource("its newest release holds no source file")
        return await anyio.to_thread.run_sync(keep, place, release.revision, files, about)


def _is_here(client: str) -> bool:
    return find_spec("pip") is not None if client == "pip" else shutil.which(client) is not None


def _place(package: Package) -> str:
    """The folder of its copy, for every version the same; the hash tells ``@a/b_c`` from ``@a_b/c``."""
    address = hashlib.sha256(str(package).encode()).hexdigest()[:8]
    return copy_name(f"{package.registry}-{package.name}", address)


def _repository(package: Package, release: Release, kept: Kept, place: Path) -> Repository:
    about = release.about or kept.about
    return Repository(
        source=NAME,
        external_id=package.external_id,
        full_name=package.external_id,
        url=place.as_uri(),
        revision=release.revision,
        description=about.description,
        language=kept.language,
        licence=about.licence,
        size_kib=kept.size_kib,
        topics=about.keywords,
        is_archived=release.is_archived,
        pushed_at=release.published_at,
        created_at=release.created_at,
    )
