"""What every command needs first: settings, plugins and, for most, the database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import anyio
import asyncpg
import typer

from codelupe.cli.overrides import assign
from codelupe.config.directories import Directories, locate_directories
from codelupe.config.settings import Settings
from codelupe.config.sources import Configuration, RawSettings, read_settings, resolve, validate
from codelupe.daemon import open_database
from codelupe.errors import CodelupeError, ConfigurationError, DatabaseUnavailable
from codelupe.host.discovery import chosen_plugins
from codelupe.host.extensions import Extensions
from codelupe.host.host import Host
from codelupe.log import EventLog
from codelupe.observability.logs import configure_logging
from codelupe.postgres import Database
from codelupe.postgres.migrate import own_migrations, pending_migrations

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="CODELUPE_CONFIG", help="Settings file [default: /etc/codelupe/codelupe.toml]."),
]
"""The option ``--config``, for :func:`with_session`; its default is None."""
Profile = Annotated[
    str | None, typer.Option("--profile", envvar="CODELUPE_PROFILE", help="Built-in settings to start from: demo.")
]
"""The option ``--profile``, for :func:`with_session`; its default is None."""
AsJson = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]
"""The option ``--json``; its default is False."""
Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; VALUE is TOML. Repeatable.")
]


def _not_connected() -> Database:
    return Database("postgresql:///not-connected")


@dataclass(frozen=True, kw_only=True)
class Session:
    """Validated settings, the plugins that they apply to, and the database, once it is connected."""

    configuration: Configuration
    host: Host
    database: Database = field(default_factory=_not_connected)

    @property
    def settings(self) -> Settings:
        """The host's settings; those of the plugins are under ``plugins``."""
        return self.configuration.settings

    @property
    def directories(self) -> Directories:
        """The folders by these settings."""
        return locate_directories(self.settings)

    @cached_property
    def log(self) -> EventLog:
        """The event log in the database."""
        return EventLog(self.database)

    def gather(self) -> Extensions:
        """What all active plugins offer."""
        return self.host.gather(self.settings.plugins, self.database, self.directories)


def load(
    config: Path | None,
    profile: str | None,
    overrides: dict[str, Any] | None = None,
    *,
    sources: Sequence[str] = (),
    lenient: bool = False,
    built_in_only: bool = False,
) -> Session:
    """Read the settings, load the plugins, validate. ``sources`` are given to the plugins that take some.

    With ``lenient``, what the operator wrote wrongly is left out, and told in the configuration's ``problems``. With
    ``built_in_only`` the plugins of other distributions are disabled.

    Raises:
        ConfigurationError: the operator wrote something wrongly, and not ``lenient``; or no plugin takes sources.
    """
    raw = read_settings(profile=profile, file=config, overrides=overrides)
    plugins = chosen_plugins(raw, lenient=lenient, built_in_only=built_in_only)
    for plugin in plugins:
        plugin.load()
    host = Host(plugins)
    if sources:
        raw = _with_sources(raw, host, sources)
    configuration = (resolve if lenient else validate)(raw, host.settings_models())
    host.blame(configuration.faults)
    return Session(configuration=configuration, host=host)


def _with_sources(raw: RawSettings, host: Host, sources: Sequence[str]) -> RawSettings:
    if not (settings := host.source_settings()):
        raise ConfigurationError("no plugin takes sources", hint="`codelupe plugins list` shows the plugins.")
    *below, overrides = raw.layers
    values = {**overrides.values}
    for plugin, setting in settings.items():
        assign(values, f"plugins.{plugin}.{setting}", list(sources))
    return RawSettings([*below, replace(overrides, values=values)], raw.problems)


def has_database(session: Session) -> bool:
    """Whether one is named or was made; it may be away."""
    return session.settings.database_url is not None or (session.directories.state / "postgres").exists()


@asynccontextmanager
async def open_session(session: Session) -> AsyncIterator[Session]:
    """The database, for a command that looks at what a daemon has made.

    Raises:
        DatabaseUnavailable: it cannot be reached, or nothing has been made yet.
    """
    folders = session.directories
    if not has_database(session):
        raise DatabaseUnavailable(
            f"there is no database in {folders.state} yet",
            hint="`codelupe run` makes it; CODELUPE_STATE_DIR or CODELUPE_DATABASE_URL name another place.",
        )
    async with open_database(session.settings, folders) as database:
        yield replace(session, database=database)


async def require_schema(session: Session) -> None:
    """Make sure that the database has this version's tables.

    Raises:
        DatabaseUnavailable: it has not.
    """
    if missing := await pending_migrations(session.database, own_migrations()):
        raise DatabaseUnavailable(
            f"the database lacks {len(missing)} migrations", hint="`codelupe db migrate` or `codelupe run` apply them."
        )


def with_session(config: Path | None, profile: str | None, action: Callable[[Session], Awaitable[None]]) -> None:
    """Run a reading command on an open, migrated database. SIGTERM ends it as Ctrl-C does, by cancelling it."""

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with open_session(load(config, profile)) as session:
            await require_schema(session)
            await action(session)

    configure_logging("warning", "auto")
    try:
        anyio.run(run)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except asyncpg.DataError as error:  # an argument with a lone surrogate, a number beyond 64 bits
        raise CodelupeError(f"the database cannot look for that: {error}") from error
