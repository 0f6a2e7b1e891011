"""The paged source of docs/how-to/add-a-source.md, asked by the real crawler over HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

import codelupe_crawler
from codelupe import Database
from codelupe_events import CrawlCompleted, CrawlSliceCompleted, RepoDiscovered
from tests.conftest import RunUntilIdle
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "docs" / "how-to" / "example-paged-source"
PAGE = 10


class ForgeServer(ThreadingHTTPServer):
    """Has 35 repositories of each owner."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, int]] = []
        self.limited: dict[tuple[str, int], int] = {}
        """How often a page is answered by 429."""
        self.held: tuple[str, int] | None = None
        """A page that is not answered before it is :attr:`released`."""
        self.released = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: ForgeServer

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        page = address.path.rpartition("/")[2], int(parse_qs(address.query)["page"][0])
        self.server.asked.append(page)
        if self.server.held == page:
            self.server.released.wait(HANGS)
        if self.server.limited.get(page, 0) > 0:
            self.server.limited[page] -= 1
            self._answer(429, {})
        else:
            self._answer(200, page_of(*page))

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the name of the base class


def page_of(owner: str, page: int, total: int = 35) -> dict[str, object]:
    numbers = range(PAGE * (page - 1), min(total, PAGE * page))
    names = [f"{owner}/{number}" for number in numbers]
    found = [{"id": name, "name": name, "clone_url": f"https://host/{name}.git", "commit": "c1"} for name in names]
    return {"total": total, "next": page + 1 if PAGE * page < total else None, "repositories": found}


@pytest.fixture
def forge() -> Iterator[ForgeServer]:
    with ForgeServer() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLE)
    return {"crawler": codelupe_crawler, "forge": import_module("codelupe_forge")}


async def test_each_page_is_asked_for_once_and_a_limit_is_waited_for(
    run_until_idle: RunUntilIdle, plugins: dict[str, ModuleType], forge: ForgeServer
) -> None:
    forge.limited = {("ann", 3): 2}
    events = await run_until_idle(plugins, {"forge": {"url": forge.url, "owners": ["ann", "bob"]}})
    pages = [(owner, page) for owner in ("ann", "bob") for page in (1, 2, 3, 4)]
    assert sorted(forge.asked) == sorted([*pages, ("ann", 3), ("ann", 3)])
    assert len([each for each in events if isinstance(each, RepoDiscovered)]) == 70
    done = [(each.query, each.seen, each.missed) for each in events if isinstance(each, CrawlSliceCompleted)]
    assert sorted(done) == [("ann", 35, 0), ("bob", 35, 0)]
    [crawl] = [each for each in events if isinstance(each, CrawlCompleted)]
    assert crawl.mode == "deep", "it has no terms, and so everything is asked for"


DAEMON = """
import sys
import anyio
import codelupe_crawler, codelupe_forge
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.daemon import Daemon
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host

_, url, state, forge = sys.argv
plugins = {"crawler": codelupe_crawler, "forge": codelupe_forge}
host = Host([Plugin(name=name, distribution="test", version="0", target=it) for name, it in plugins.items()])
settings = {"state_dir": state, "database_url": url, "lease_seconds": 3}
settings["plugins"] = {"forge": {"url": forge, "owners": ["ann"]}}
raw = RawSettings([Layer("command line", settings)])
anyio.run(Daemon(validate(raw, host.settings_models(), environment={}).settings, host, until_idle=True).run)
"""


async def test_a_killed_daemon_goes_on_at_the_page_that_it_had_come_to(
    run_until_idle: RunUntilIdle,
    plugins: dict[str, ModuleType],
    forge: ForgeServer,
    database: Database,
    database_url: str,
    tmp_path: Path,
) -> None:
    forge.held = ("ann", 3)
    (tmp_path / "daemon.py").write_text(DAEMON)
    arguments = [sys.executable, str(tmp_path / "daemon.py"), database_url, str(tmp_path / "killed"), forge.url]
    environment = {"PYTHONPATH": ":".join([str(EXAMPLE), *filter(None, sys.path)])}
    daemon = await anyio.open_process(arguments, env=environment, stdout=None, stderr=None)
    with anyio.fail_after(HANGS):
        while ("ann", 3) not in forge.asked:
            await anyio.sleep(0.01)
    daemon.kill()
    await daemon.wait()
    assert await database.fetchval("select count(*) from repositories") == 20
    forge.released.set()

    events = await run_until_idle(plugins, {"forge": {"url": forge.url, "owners": ["ann"]}})

    assert forge.asked[:4] == [("ann", 1), ("ann", 2), ("ann", 3), ("ann", 3)]
    assert len([each for each in events if isinstance(each, RepoDiscovered)]) == 35
    first = next(each for each in events if isinstance(each, CrawlSliceCompleted))
    assert (first.seen, first.new, first.total, first.missed) == (35, 35, 35, 0)
