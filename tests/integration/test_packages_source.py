"""The source ``packages`` with the real pip and npm: against registries on loopback, and PyPI if it can be reached."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
import pytest
import structlog
from git import Repo
from structlog.testing import capture_logs

from codelupe import Gone, KnownRepository, Page, Repository, RetryLater, SourceMode, Want
from codelupe_crawler.copies import _remove
from codelupe_crawler.opt_out import OptOutList
from codelupe_crawler.registries import archives, clients
from codelupe_crawler.registries.release import RegistryFailed
from codelupe_crawler.registries.source import PackagesSource
from tests.package_registries import RegistryServer, registry_server, tar_gz

pytestmark = pytest.mark.anyio
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm: apt-get install npm")

SECRET = "s3cret-Passw0rd"
PKG_INFO = b"""Metadata-Version: 2.4
Name: Demo.Package
Version: 1.0
Summary: A demo \xe2\x80\x93 of packages
License-Expression: MIT
Keywords: parsing,Web Framework
Project-URL: Source, https://github.com/owner/demo

# Demo
"""
MARK = "the-package-s-code-ran"
HOSTILE_SETUP = f"from pathlib import Path\nPath({MARK!r}).touch()\n(Path.home() / {MARK!r}).touch()\n"
SDIST = {
    "demo_package-1.0/PKG-INFO": PKG_INFO,
    "demo_package-1.0/pyproject.toml": b'[build-system]\nrequires=[]\nbuild-backend="setup"\nbackend-path=["."]\n',
    "demo_package-1.0/setup.py": HOSTILE_SETUP.encode(),
    "demo_package-1.0/demo/__init__.py": b"x = 1\n",
    "demo_package-1.0/LICENSE": b"MIT\n",
    "../outside.py": b"x",
}
SCRIPTS = dict.fromkeys(["preinstall", "install", "postinstall", "prepare", "prepack", "postpack"], f"touch ~/{MARK}")
NPM_FILES = {
    "package/package.json": json.dumps({"name": "demo", "version": "1.0.0", "scripts": SCRIPTS}).encode(),
    "package/index.ts": b"export const x = 1;\n",
    "package/LICENSE": b"MIT\n",
    "package/../../outside.ts": b"x",
}


class Budget:
    def __init__(self) -> None:
        self.taken = 0
        self.closed: list[tuple[timedelta, str]] = []

    async def take(self, spacing: timedelta) -> None:
        self.taken += 1

    async def close(self, duration: timedelta, reason: str, *, account: bool = False) -> None:
        self.closed.append((duration, reason))


class Context:
    """What the crawler gives a source."""

    def __init__(self) -> None:
        self.log = structlog.get_logger("crawler")
        self.budgets: dict[str, Budget] = {}

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def budget(self, account: str, kind: str) -> Budget:
        return self.budgets.setdefault(kind, Budget())

    async def recall(self, key: str) -> str | None:
        return None

    async def remember(self, key: str, value: str) -> None:
        """It has nothing to remember."""

    async def oldest_known(self, *, seen_before: datetime, limit: int) -> Sequence[KnownRepository]:
        return ()


class Crawl:
    """Asks a source for packages, one after another, as the crawler does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = Context()
        self.forgotten: set[str] = set()
        self.opt_out = OptOutList()
        self.within = timedelta(seconds=30)

    def source(self, *packages: str) -> PackagesSource:
        async def forgotten(_: str) -> Collection[str]:
            return self.forgotten

        return PackagesSource(packages, self.folder, within=self.within, forgotten=forgotten, opt_out=self.opt_out)

    async def pages(self, *packages: str) -> list[Page]:
        asked = self.source(*packages)
        want = Want(mode=SourceMode.DEEP, at=self.context.now())
        slices = await asked.plan(want, self.context)
        [account] = await asked.accounts(self.context)
        async with asked.open(account, self.context) as session:
            return [await session.ask(each, None) for each in slices]

    async def one(self, package: str) -> Repository:
        [page] = await self.pages(package)
        [repository] = page.repositories
        return repository

    async def gone(self, package: str) -> Gone:
        [page] = await self.pages(package)
        assert page.repositories == ()
        [gone] = page.gone
        return gone


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, server: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose pip and npm are configured to use the server."""
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(
        f"[global]\nindex-url = http://{server.address}/simple/\nextra-index-url =\n"
    )
    (home / ".npmrc").write_text(f"registry=http://{server.address}/\nfetch-retries=0\n")
    for name in list(os.environ):
        if name.upper().startswith(("PIP_", "NPM_", "XDG_")) or name.lower().endswith("_proxy") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def crawl(tmp_path: Path, home: Path) -> Crawl:
    return Crawl(tmp_path / "sources")


def held(repository: Repository) -> dict[str, str]:
    with Repo(unquote(urlsplit(repository.url).path)) as repo:
        names = repo.git.ls_tree("-r", "--name-only", "-z", "HEAD").strip("\0").split("\0")
        return {name: repo.git.show(f"HEAD:{name}") for name in names}


def everything_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# --- Python ---


async def test_a_source_release_of_an_index_becomes_a_repository(crawl: Crawl, server: RegistryServer) -> None:
    old = server.put_file("demo-package-0.9.zip", b"", **{"upload-time": "2024-01-01T00:00:00Z"})
    server.put_page("demo-package", old, server.put_file("demo_package-1.0.tar.gz", tar_gz(SDIST)))
    repository = await crawl.one("pypi:Demo.Package")
    digest = server.answers["/simple/demo-package/"].body.decode().split('"sha256": "')[2][:12]
    assert repository == Repository(
        source="packages",
        external_id="pypi/demo-package",
        full_name="pypi/demo-package",
        url=repository.url,
        revision=f"1.0@sha256-{digest}",
        description="A demo \N{EN DASH} of packages",
        language="Python",
        licence="MIT",
        size_kib=1,
        topics=("parsing", "web framework"),
        pushed_at=datetime(2025, 5, 6, 7, 8, 9, tzinfo=UTC),
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
    )
    assert repository.id == "packages:pypi/demo-package"
    assert set(held(repository)) == {"setup.py", "demo/__init__.py", "LICENSE"}


async def test_what_is_kept_is_not_fetched_again_and_a_new_release_takes_its_place(
    crawl: Crawl, server: RegistryServer
) -> None:
    one = server.put_file("demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"1", "demo-1.0/PKG-INFO": PKG_INFO}))
    server.put_page("demo", one)
    first = await crawl.one("pypi:demo")
    assert await crawl.one("pypi:demo") == first
    assert server.requests == ["/simple/demo/", "/files/demo-1.0.tar.gz", "/simple/demo/"]
    server.put_page("demo", one, server.put_file("demo-1.1.tar.gz", tar_gz({"demo-1.1/b.py": b"2"})))
    second = await crawl.one("pypi:demo")
    assert second.url == first.url
    assert (second.revision[:4], held(second)) == ("1.1@", {"b.py": "2"})
    server.put_page("demo", server.put_file("demo-1.1.tar.gz", tar_gz({"demo-1.1/b.py": b"3"})))
    third = await crawl.one("pypi:demo")
    assert third.revision != second.revision
    assert held(third) == {"b.py": "3"}
    assert len(list(crawl.folder.iterdir())) == 1


async def test_nothing_of_a_package_is_run(crawl: Crawl, server: RegistryServer, home: Path) -> None:
    server.put_page("demo-package", server.put_file("demo_package-1.0.tar.gz", tar_gz(SDIST)))
    await crawl.one("pypi:demo-package")
    assert [path for path in (home.parent, Path.cwd()) if list(path.rglob(MARK))] == []


async def test_a_half_kept_copy_is_made_again(crawl: Crawl, server: RegistryServer) -> None:
    server.put_page("demo", server.put_file("demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"1"})))
    first = await crawl.one("pypi:demo")
    place = Path(unquote(urlsplit(first.url).path))
    (place / "codelupe-release.json").write_text("{")
    assert held(await crawl.one("pypi:demo")) == {"a.py": "1"}
    assert server.requests.count("/files/demo-1.0.tar.gz") == 2


async def test_the_copy_goes_when_the_package_is_forgotten(crawl: Crawl, server: RegistryServer) -> None:
    server.put_page("demo", server.put_file("demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"1"})))
    repository = await crawl.one("pypi:demo")
    place = Path(unquote(urlsplit(repository.url).path))
    assert _remove(crawl.folder, place) == [place.name]
    crawl.forgotten = {repository.id}
    server.requests.clear()
    assert await crawl.pages("pypi:demo") == [Page()]
    assert (server.requests, list(crawl.folder.iterdir())) == ([], [])


async def test_an_index_in_html_is_read(crawl: Crawl, server: RegistryServer) -> None:
    archive = tar_gz({"demo-1.0/a.py": b"1"})
    file = server.put_file("demo-1.0.tar.gz", archive)
    server.put_file("demo-2.0.tar.gz", archive)
    page = f"""<!DOCTYPE html><html><body>
        <a href="../../files/demo-1.0.tar.gz#sha256={file["hashes"]["sha256"]}" data-requires-python="&gt;=3">demo</a>
        <a href="../../files/demo-2.0.tar.gz" data-yanked="broken">demo-2.0.tar.gz</a>
        <a href="../../files/demo-3.0-py3-none-any.whl">a wheel</a><a>no link</a><a href="">empty</a>"""
    server.put("/simple/demo/", page.encode(), content_type="text/html; charset=utf-8")
    repository = await crawl.one("pypi:demo")
    assert (repository.revision[:4], repository.pushed_at) == ("1.0@", None)


async def test_an_index_in_files_is_read(crawl: Crawl, home: Path, tmp_path: Path) -> None:
    index = tmp_path / "an index"
    (index / "demo").mkdir(parents=True)
    (index / "demo/demo-1.0.tar.gz").write_bytes(tar_gz({"demo-1.0/a.py": b"1"}))
    (index / "demo/index.html").write_text('<a href="demo-1.0.tar.gz">demo-1.0.tar.gz</a>')
    (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {index.as_uri()}\n")
    assert (await crawl.one("pypi:demo")).revision == "1.0"
    assert (await crawl.gone("pypi:absent")).reason == "deleted"


async def test_a_page_of_a_server_does_not_lead_to_files_of_this_machine(
    crawl: Crawl, server: RegistryServer, tmp_path: Path
) -> None:
    secret = tmp_path / "demo-1.0.tar.gz"
    secret.write_bytes(tar_gz({"demo-1.0/a.py": b"secret"}))
    server.put_page("demo", {"filename": "demo-1.0.tar.gz", "url": secret.as_uri(), "hashes": {}})
    [page] = await crawl.pages("pypi:demo")
    assert page.note == "pypi:demo: it has no release with source"


@pytest.mark.parametrize(
    ("files", "revision"),
    [
        (["demo-1.0.tar.gz", "demo-1.10.tar.gz", "demo-1.9.tar.gz"], "1.10"),
        (["demo-1.0.tar.gz", "demo-2.0rc1.tar.gz"], "1.0"),
        (["demo-2.0rc1.tar.gz", "demo-2.0b2.tar.gz"], "2.0rc1"),
        (["demo-1.0.tar.gz", "demo-2.0-py3-none-any.whl", "demo-x.tar.gz", "other-9.tar.gz", "demo-3.0.exe"], "1.0"),
        (["demo-1.0.zip", "demo-1.0.tar.gz"], "1.0"),
    ],
)
async def test_the_newest_final_release_is_taken(
    files: list[str], revision: str, crawl: Crawl, server: RegistryServer
) -> None:
    archive = tar_gz({"demo-1.0/a.py": b"1"})
    server.put_page("demo", *(server.put_file(name, archive, hashes={}) for name in files))
    assert (await crawl.one("pypi:demo")).revision == revision


async def test_a_yanked_release_is_passed_over(crawl: Crawl, server: RegistryServer) -> None:
    one = server.put_file("demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"1"}))
    two = server.put_file("demo-2.0.tar.gz", b"", yanked="it was a mistake")
    server.put_page("demo", one, two)
    assert (await crawl.one("pypi:demo")).revision.startswith("1.0@")
    server.put_page("demo", one | {"yanked": True}, two)
    assert await crawl.gone("pypi:demo") == Gone(
        external_id="pypi/demo", reason="deleted", detail="every release is yanked"
    )


async def test_a_package_that_is_gone_is_a_fact_and_no_error(crawl: Crawl, server: RegistryServer) -> None:
    server.put("/simple/blocked/", status=451)
    server.put_page("sick", status="quarantined")
    server.put_page("wheels", server.put_file("wheels-1.0-py3-none-any.whl", b""))
    server.put_page("old", server.put_file("old-1.tar.gz", tar_gz({"old/a.py": b""})), status="archived")
    pages = await crawl.pages("pypi:absent", "pypi:blocked", "pypi:sick", "pypi:wheels", "pypi:old")
    assert [gone.reason for page in pages for gone in page.gone] == ["deleted", "blocked", "disabled"]
    assert pages[3].note == "pypi:wheels: it has no release with source"
    assert [repository.is_archived for repository in pages[4].repositories] == [True]


async def test_an_address_that_is_no_index_tells_nothing_of_a_package(crawl: Crawl, server: RegistryServer) -> None:
    del server.answers["/simple/"]
    with pytest.raises(RegistryFailed, match="there is no index at the address on 127"):
        await crawl.pages("pypi:demo")
    server.put("/simple/demo/", b'{"message": "please log in"}', content_type="application/json")
    with pytest.raises(RegistryFailed, match="a page that is not an index's"):
        await crawl.pages("pypi:demo")
    server.put("/simple/demo/", b"please log in", content_type="text/plain")
    with pytest.raises(RegistryFailed, match="a page that is not an index's"):
        await crawl.pages("pypi:demo")


@pytest.mark.parametrize("status", [401, 403, 500, 502])
async def test_an_error_of_an_index_tells_nothing_of_a_package(
    status: int, crawl: Crawl, server: RegistryServer
) -> None:
    server.put("/simple/demo/", status=status)
    with pytest.raises(RegistryFailed, match=rf"127\.0\.0\.1 answered {status}"):
        await crawl.pages("pypi:demo")


async def test_an_archive_that_is_not_the_listed_one_is_not_kept(crawl: Crawl, server: RegistryServer) -> None:
    server.put_page("demo", server.put_file("demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"1"})))
    server.put("/files/demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"evil"}))
    with pytest.raises(RegistryFailed, match=r"the archive of demo 1\.0 is not the one that its index lists"):
        await crawl.pages("pypi:demo")
    del server.answers["/files/demo-1.0.tar.gz"]
    with pytest.raises(RegistryFailed, match=r"the archive of demo 1\.0 is not where its index says"):
        await crawl.pages("pypi:demo")
    assert not crawl.folder.exists()


async def test_a_hostile_archive_costs_that_package_only(crawl: Crawl, server: RegistryServer) -> None:
    server.put_page("bad", server.put_file("bad-1.0.tar.gz", b"\x1f\x8b nonsense"))
    server.put_page("data", server.put_file("data-1.0.tar.gz", tar_gz({"data-1.0/a.csv": b"1"})))
    server.put_page("good", server.put_file("good-1.0.tar.gz", tar_gz({"good-1.0/a.py": b"1"})))
    bad, data, good = await crawl.pages("pypi:bad", "pypi:data", "pypi:good")
    assert bad.note == "pypi:bad: its archive is broken: BadGzipFile"
    assert data.note == "pypi:data: its newest release holds no source file"
    assert len(good.repositories) == 1


async def test_an_archive_that_is_too_large_is_not_read_to_its_end(
    crawl: Crawl, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codelupe_crawler.registries.pypi.MAX_ARCHIVE_BYTES", 1 << 20)
    server.put_page("demo", server.put_file("demo-1.0.tar.gz", bytes(2 << 20)))
    [page] = await crawl.pages("pypi:demo")
    assert page.note == f"pypi:demo: {server.address} sends more than 1 MiB"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 30),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 1),
        ({"Retry-After": "99999999999999999999"}, 3600),
        ({"Retry-After": "soon"}, 60),
        ({}, 60),
    ],
)
async def test_a_registry_that_limits_is_left_alone(
    headers: dict[str, str], seconds: int, crawl: Crawl, server: RegistryServer
) -> None:
    server.put("/simple/demo/", status=429, headers=headers)
    with pytest.raises(RetryLater, match="answered 429") as raised:
        await crawl.pages("pypi:demo")
    assert not raised.value.counts
    assert crawl.context.budgets["pypi"].closed == [(timedelta(seconds=seconds), "127.0.0.1 answered 429")]
    assert crawl.context.budgets["pypi"].taken == 1


async def test_a_silent_registry_costs_its_time_only(crawl: Crawl, server: RegistryServer) -> None:
    server.hangs.set()
    crawl.within = timedelta(seconds=2)
    with anyio.fail_after(20), pytest.raises(RegistryFailed, match=r"took longer than 2 seconds|ReadTimeout"):
        await crawl.pages("pypi:demo")


async def test_a_registry_that_is_not_there_is_an_error(crawl: Crawl, home: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://reader:{SECRET}@127.0.0.1:{unused.getsockname()[1]}/simple"
        (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {address}\n")
        with pytest.raises(RegistryFailed, match=r"127\.0\.0\.1:\d+ cannot be asked: ConnectError") as raised:
            await crawl.pages("pypi:demo")
    assert SECRET not in str(raised.value)


async def test_credentials_of_pip_are_used_and_never_shown(
    crawl: Crawl, server: RegistryServer, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"http://reader:{SECRET}@{server.address}/simple"
    (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {address}\n")
    server.authorization = "Basic " + base64.b64encode(f"reader:{SECRET}".encode()).decode()
    server.put_page("demo", server.put_file("demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"1"})))
    with capture_logs() as logs:
        repository = await crawl.one("pypi:demo")
        assert (await crawl.gone("pypi:absent")).reason == "deleted"
        server.authorization = "Basic other"
        with pytest.raises(RegistryFailed) as raised:
            await crawl.pages("pypi:demo")
    said = f"{repository} {raised.value!r} {raised.value.__cause__!r} {logs} {capsys.readouterr()}"
    assert SECRET not in said
    assert SECRET.encode() not in everything_below(crawl.folder)


async def test_credentials_go_to_the_host_they_are_for(crawl: Crawl, server: RegistryServer, home: Path) -> None:
    with registry_server() as other:
        file = other.put_file("demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"1"}))
        server.put_page("demo", file | {"url": f"http://{other.address}/files/demo-1.0.tar.gz"})
        address = f"http://reader:{SECRET}@{server.address}/simple"
        (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {address}\n")
        await crawl.one("pypi:demo")
        assert other.authorizations == [None]
    assert None not in server.authorizations


async def test_pip_s_further_indexes_and_netrc_are_used(crawl: Crawl, server: RegistryServer, home: Path) -> None:
    with registry_server() as other:
        netrc = home / ".netrc"
        netrc.write_text(f"machine 127.0.0.1 login reader password {SECRET}\n")
        netrc.chmod(0o600)
        other.authorization = "Basic " + base64.b64encode(f"reader:{SECRET}".encode()).decode()
        other.put_page("demo", other.put_file("demo-2.0.tar.gz", tar_gz({"demo-2.0/a.py": b"2"})))
        server.put_page("demo", server.put_file("demo-1.0.tar.gz", tar_gz({"demo-1.0/a.py": b"1"})))
        configuration = f"index-url = http://{server.address}/simple\nextra-index-url = http://{other.address}/simple/"
        (home / ".config/pip/pip.conf").write_text(f"[global]\n{configuration}\n")
        assert (await crawl.one("pypi:demo")).revision.startswith("2.0@")
        other.answers.clear()
        other.put("/simple/demo/", status=500)
        with pytest.raises(RegistryFailed, match="answered 500"):
            await crawl.pages("pypi:demo")


# --- npm ---


@needs_npm
async def test_a_release_of_npm_becomes_a_repository(crawl: Crawl, server: RegistryServer, home: Path) -> None:
    server.put_npm(
        "@scope/demo",
        "1.0.0",
        tar_gz(NPM_FILES),
        keywords=["Parsing", 5, "x" * 100, "parsing"],
        repository={"type": "git", "url": "git+https://github.com/owner/demo.git"},
        scripts=SCRIPTS,
    )
    repository = await crawl.one("npm:@scope/demo")
    assert repository == Repository(
        source="packages",
        external_id="npm/@scope/demo",
        full_name="npm/@scope/demo",
        url=repository.url,
        revision=repository.revision,
        description="A demo",
        language="TypeScript",
        licence="MIT",
        size_kib=1,
        topics=("parsing",),
        pushed_at=datetime(2025, 5, 6, 7, 8, 9, tzinfo=UTC),
        created_at=datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert repository.revision.startswith("1.0.0@sha512-")
    assert set(held(repository)) == {"index.ts", "LICENSE"}
    assert len(list(crawl.folder.iterdir())) == 1
    server.requests.clear()
    assert await crawl.one("npm:@scope/demo") == repository
    assert server.requests == ["/@scope/demo"]
    assert not list(home.parent.rglob(MARK))


@needs_npm
async def test_packages_whose_names_look_alike_are_kept_apart(crawl: Crawl, server: RegistryServer) -> None:
    server.put_npm("@a/b_c", "1.0.0", tar_gz({"package/one.js": b"1"}))
    server.put_npm("@a_b/c", "1.0.0", tar_gz({"package/two.js": b"2"}))
    one, two = await crawl.pages("npm:@a/b_c", "npm:@a_b/c")
    assert held(one.repositories[0]) == {"one.js": "1"}
    assert held(two.repositories[0]) == {"two.js": "2"}


@needs_npm
@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ({"license": "(MIT OR Apache-2.0)"}, "(MIT OR Apache-2.0)"),
        ({"license": {"type": "ISC", "url": "https://x"}}, "ISC"),
        ({"license": "", "licenses": [{"type": "MIT"}]}, "MIT"),
        ({"license": "", "licenses": [{"type": "MIT"}, {"type": "ISC"}]}, None),
        ({"license": "SEE LICENSE IN LICENSE.md"}, None),
        ({"license": "UNLICENSED"}, None),
        ({"license": None}, None),
        ({"license": 7, "keywords": "a, b", "deprecated": "use another", "description": {}}, None),
    ],
)
async def test_what_npm_says_may_be_anything(
    licence: dict[str, object], expected: str | None, crawl: Crawl, server: RegistryServer
) -> None:
    server.put_npm("demo", "1.0.0", tar_gz(NPM_FILES), **licence)
    repository = await crawl.one("npm:demo")
    assert repository.licence == expected
    assert repository.is_archived == ("deprecated" in licence)


@needs_npm
async def test_a_package_that_npm_has_not_is_a_fact(crawl: Crawl, server: RegistryServer) -> None:
    server.put_npm(
        "held", "0.0.1-security", tar_gz({}), repository={"url": "git+https://github.com/npm/security-holder"}
    )
    server.put("/untagged", json.dumps({"name": "untagged", "versions": {}, "dist-tags": {}}).encode())
    server.put("/blocked", status=451)
    pages = await crawl.pages("npm:absent", "npm:held", "npm:untagged", "npm:blocked")
    assert [gone.reason for page in pages for gone in page.gone] == ["deleted", "disabled", "deleted", "blocked"]
    del server.answers["/-/ping"]
    with pytest.raises(RegistryFailed, match="does not answer `npm ping`"):
        await crawl.pages("npm:absent")


@pytest.mark.parametrize(
    "answer",
    [
        *({"version": text} for text in ("http://127.0.0.1/evil.tgz", "1.0.0 || file:/etc", "../x", "1.0.0\n", "", 7)),
        *({}, "text", [], 5),
    ],
    ids=json.dumps,
)
async def test_a_version_that_is_none_is_not_given_to_npm(
    answer: object, crawl: Crawl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/npm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/commands\ncat {tmp_path}/answer\n')
    program.chmod(0o755)
    (tmp_path / "answer").write_text(json.dumps(answer))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(RegistryFailed):
        await crawl.pages("npm:demo")
    assert (tmp_path / "commands").read_text() == "view\n"


@needs_npm
async def test_errors_of_npm_s_registry_tell_nothing_of_a_package(crawl: Crawl, server: RegistryServer) -> None:
    server.put("/demo", status=403)
    with pytest.raises(RegistryFailed, match="npm failed with E403"):
        await crawl.pages("npm:demo")
    server.put("/demo", status=429)
    with pytest.raises(RetryLater, match="npm's registry answered 429"):
        await crawl.pages("npm:demo")
    assert len(crawl.context.budgets["npm"].closed) == 1
    server.put_npm("demo", "1.0.0", tar_gz(NPM_FILES))
    server.put("/demo/-/demo-1.0.0.tgz", tar_gz({"package/index.ts": b"evil"}))
    with pytest.raises(RegistryFailed, match="npm failed with EINTEGRITY"):
        await crawl.pages("npm:demo")
    assert list(crawl.folder.iterdir()) == []


@needs_npm
async def test_an_archive_that_is_too_large_ends_npm(
    crawl: Crawl, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "MAX_ARCHIVE_BYTES", 1 << 20)
    server.put_npm("demo", "1.0.0", bytes(3 << 20))
    [page] = await crawl.pages("npm:demo")
    assert page.note == "npm:demo: its archive has more than 64 MiB"
    assert list(crawl.folder.iterdir()) == []


@needs_npm
async def test_a_silent_registry_ends_npm(crawl: Crawl, server: RegistryServer) -> None:
    server.hangs.set()
    crawl.within = timedelta(seconds=2)
    with anyio.fail_after(20), pytest.raises(RegistryFailed, match="npm took longer than 2 seconds"):
        await crawl.pages("npm:demo")
    assert list(crawl.folder.iterdir()) == []


@needs_npm
async def test_the_token_of_npm_is_used_and_never_shown(
    crawl: Crawl, server: RegistryServer, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (home / ".npmrc").open("a") as file:
        file.write(f"//{server.address}/:_authToken={SECRET}\n")
    server.authorization = f"Bearer {SECRET}"
    server.put_npm("demo", "1.0.0", tar_gz(NPM_FILES))
    with capture_logs() as logs:
        repository = await crawl.one("npm:demo")
        server.authorization = "Bearer other"
        with pytest.raises(RegistryFailed, match="npm failed with E401") as raised:
            await crawl.pages("npm:demo")
    assert SECRET not in f"{repository} {raised.value!r} {logs} {capfd.readouterr()}"
    assert SECRET.encode() not in everything_below(crawl.folder)


# --- both ---


async def test_without_a_client_its_packages_wait_and_the_others_go_on(
    crawl: Crawl, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    asked = crawl.source("npm:one", "pypi:demo", "npm:two", "pypi:Demo")
    want = Want(mode=SourceMode.CHANGES, at=crawl.context.now())
    with capture_logs() as logs:
        for _ in range(2):
            slices = await asked.plan(want, crawl.context)
            assert [(each.query, each.budget) for each in slices] == [("pypi:demo", "pypi")]
    assert [(each["event"], each["client"]) for each in logs] == [("package_client_missing", "npm")]
    assert "Install Node.js" in logs[0]["hint"]
    assert await asked.plan(Want(mode=SourceMode.REFRESH, at=crawl.context.now()), crawl.context) == []


async def test_a_package_whose_owner_opted_out_is_not_stored(
    crawl: Crawl, server: RegistryServer, tmp_path: Path
) -> None:
    listed = tmp_path / "opt-out.txt"
    listed.write_text("pypi/other\nhttps://github.com/owner/demo\n")
    server.put_page("demo-package", server.put_file("demo_package-1.0.tar.gz", tar_gz(SDIST)))
    crawl.opt_out = OptOutList([listed])
    assert await crawl.pages("pypi:other", "pypi:demo-package") == [Page(), Page()]
    assert "/simple/other/" not in server.requests
    assert not crawl.folder.exists()
    listed.write_text("")
    repository = await crawl.one("pypi:demo-package")
    listed.write_text("owner\n")
    assert await crawl.pages("pypi:demo-package") == [Page()]
    assert not Path(unquote(urlsplit(repository.url).path)).exists()


async def test_a_small_package_of_the_real_pypi(tmp_path: Path) -> None:
    """With whatever pip is configured to use here."""
    crawl = Crawl(tmp_path / "sources")
    try:
        repository = await crawl.one("pypi:iniconfig")
    except RegistryFailed as error:
        pytest.skip(f"PyPI cannot be reached: {error}")
    assert (repository.language, repository.licence) == ("Python", "MIT")
    assert "src/iniconfig/__init__.py" in held(repository)
    assert archives.MAX_ARCHIVE_BYTES > repository.size_kib * 1024 > 1024
