"""What every command needs first: settings, plugins and, for most, the database."""

from __future__ import annotations

import asyncio
import signal
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import anyio
import asyncpg
import typer

from codelupe.config.directories import Directories, locate_directories
from codelupe.config.settings import Settings
from codelupe.config.sources import Configuration, RawSettings, read_settings, validate
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
    config: Path | None, profile: str | None, overrides: dict[str, Any] | None = None, *, sources: Sequence[str] = ()
) -> Session:
    """Read the settings, load the plugins, validate. ``sources`` are given to the plugins that take some.

    Raises:
        ConfigurationError: anything about the settings is wrong, or no plugin takes sources.
    """
    raw = read_settings(profile=profile, file=config, overrides=overrides)
    plugins = chosen_plugins(raw)
    for plugin in plugins:
        plugin.load()
    host = Host(plugins)
    if sources:
        raw = _with_sources(raw, host, sources)
    return Session(configuration=validate(raw, host.settings_models()), host=host)


def _with_sources(raw: RawSettings, host: Host, sources: Sequence[str]) -> RawSettings:
    if not (settings := host.source_settings()):
        raise ConfigurationError("no plugin takes sources", hint="`codelupe plugins list` shows the plugins.")
    *below, overrides = raw.layers
    values = {**overrides.values}
    for plugin, setting in settings.items():
        assign(values, f"plugins.{plugin}.{setting}", list(sources))
    return RawSettings([*below, replace(overrides, values=values)])


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """``["plugins.example.every=60"]`` as a tree. A value that is not TOML is taken as a string.

    Raises:
        ConfigurationError: an assignment has no ``=``, or lies within one that holds a single value.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigurationError(
                f"--set {assignment!r} is not of the form KEY=VALUE", hint="For example --set log_level=debug."
            )
        assign(tree, key.strip(), _toml_value(text))
    return tree


def assign(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into the tree under its dotted key.

    Raises:
        ConfigurationError: there is a single value where the key needs a table.
    """
    *parents, last = key.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigurationError(f"{key} is set, but {part} is given a value of its own", hint="Leave one out.")
    tree[last] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


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
