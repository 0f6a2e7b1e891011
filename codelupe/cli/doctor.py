"""``codelupe doctor``: is everything here that a run needs?"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import anyio
import typer

from codelupe import state
from codelupe.cli.output import out, plain, print_json
from codelupe.cli.session import AsJson, ConfigFile, Profile, Setup, load, open_session
from codelupe.errors import CodelupeError
from codelupe.journal import configure_logging
from codelupe.postgres import Database
from codelupe.postgres.migrate import own_migrations, pending_migrations
from codelupe.queries import load_queries
from codelupe.status import read_stages

_DATABASE = load_queries("codelupe_sql", "database")
_LOG = load_queries("codelupe_sql", "log")
_OLDEST_POSTGRES = 150000
_LEAST_FREE_BYTES = 2 * 1024**3
_LONG_TRANSACTION_SECONDS = 60.0

Verdict = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Finding:
    """What one look found, and what to do about it."""

    what: str
    verdict: Verdict
    detail: str
    hint: str = ""


def doctor(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Look for whatever keeps CodeLupe from working; ends with 1 if something does."""
    configure_logging("critical", "auto")
    setup = load(config, profile)
    findings = [_git(), _state(setup), _disk(setup), *_plugins(setup), _training(), *anyio.run(_database, setup)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    raise typer.Exit(int(any(finding.verdict == "bad" for finding in findings)))


def _print(finding: Finding) -> None:
    mark = {"good": "[green]good[/]   ", "warning": "[yellow]warning[/]", "bad": "[red]bad[/]    "}[finding.verdict]
    out.print(f"{mark} {plain(finding.what)}: {plain(finding.detail)}", highlight=False, soft_wrap=True)
    if finding.hint:
        out.print(f"        {plain(finding.hint)}", highlight=False, soft_wrap=True)


def _git() -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "bad", "not in PATH", "Install it (Debian: apt-get install git).")
    return Finding("git", "good", subprocess.check_output(["git", "--version"], text=True).strip())


def _state(setup: Setup) -> Finding:
    folders = setup.directories
    try:
        state.create(folders)
    except CodelupeError as error:
        return Finding("state directory", "bad", error.message, error.hint or "")
    return Finding("state directory", "good", str(folders.state))


def _disk(setup: Setup) -> Finding:
    place = next(folder for folder in (setup.directories.state, *setup.directories.state.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / 1024**3:.1f} GiB free"
    if free < _LEAST_FREE_BYTES:
        return Finding("disk", "warning", detail, "Make room: clones, models and the database need it.")
    return Finding("disk", "good", detail)


def _plugins(setup: Setup) -> list[Finding]:
    setup.host.gather(setup.settings.plugins, Database("postgresql:///unused"), setup.directories)
    active = Finding("plugins", "good", ", ".join(plugin.name for plugin in setup.host.active) or "none")
    return [
        active,
        *(
            Finding(f"plugin {plugin.name}", "warning", str(plugin.error), f"Mend or disable {plugin.distribution}.")
            for plugin in setup.host.broken
        ),
    ]


def _training() -> Finding:
    try:
        found = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft"))
    except PackageNotFoundError as error:
        return Finding("training", "warning", f"{error.name} is not installed", "pip install 'codelupe[train]'")
    return Finding("training", "good", found)


async def _database(setup: Setup) -> list[Finding]:
    try:
        async with open_session(setup) as session:
            database = session.database
            return [await _server(database), await _schema(database), *await _work(database)]
    except CodelupeError as error:
        verdict: Verdict = "warning" if "no database" in error.message else "bad"
        return [Finding("database", verdict, error.message, error.hint or "")]


async def _server(database: Database) -> Finding:
    number = await database.fetchval(_DATABASE.server_version_number)
    detail = f"PostgreSQL {await database.fetchval(_DATABASE.server_version)} at {database.where}"
    if number < _OLDEST_POSTGRES:
        return Finding("database", "bad", detail, "PostgreSQL 15 or newer is needed.")
    return Finding("database", "good", detail)


async def _schema(database: Database) -> Finding:
    if missing := await pending_migrations(database, own_migrations()):
        detail = f"{len(missing)} migrations to apply"
        return Finding("schema", "warning", detail, "`codelupe db migrate` applies them.")
    return Finding("schema", "good", "up to date")


async def _work(database: Database) -> list[Finding]:
    if await pending_migrations(database, own_migrations()):
        return []
    parked = sum(stage["parked"] for stage in await read_stages(database))
    letters = Finding("dead letters", "good", "none")
    if parked:
        letters = Finding("dead letters", "warning", f"{parked}", "`codelupe dead-letters list` says why.")
    fences = await database.fetch(_LOG.fences)
    oldest = fences[0]["seconds"] if fences else 0.0
    detail = f"the oldest transaction that is appending is {oldest:.0f} s old"
    if oldest > _LONG_TRANSACTION_SECONDS:
        hint = f"Readers wait for it: see pid {fences[0]['pid']} in pg_stat_activity."
        return [letters, Finding("event log", "warning", detail, hint)]
    return [letters, Finding("event log", "good", detail)]
