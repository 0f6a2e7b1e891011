"""Behind PgBouncer: session mode works, the other two are refused by name."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from codelupe import Database, HandlerContext, Subscription
from codelupe.daemon import Daemon
from codelupe.errors import ConfigurationError
from codelupe.log import EventLog
from codelupe.postgres.embedded.home import PORT
from codelupe_events import BatchReady
from tests.integration.test_cli import NO_PLUGINS, Shell
from tests.plugins import batch, make_plugin
from tests.processes import HANGS

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer: apt-get install pgbouncer"),
]


@contextmanager
def bouncer(folder: Path, server_url: str, mode: str) -> Iterator[str]:
    """The URL of the database through a PgBouncer in this mode."""
    parts = urlsplit(server_url)
    host, name = parse_qs(parts.query)["host"][0], parts.path.lstrip("/")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "users.txt").write_text('"codelupe" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host={host} port={PORT} user=codelupe\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {folder}/users.txt\npool_mode = {mode}\ndefault_pool_size = 40\nmax_client_conn = 100\n"
    )
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    user = ["--user", Path(host).owner()] if os.geteuid() == 0 else []  # whom alone the server's socket is open to
    with subprocess.Popen([str(PROGRAM), "--quiet", *user, str(folder / "pgbouncer.ini")]) as process:
        try:
            _wait_for(port, process)
            yield f"postgresql://codelupe@127.0.0.1:{port}/{name}"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "pgbouncer did not start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=HANGS).close()
        except ConnectionRefusedError:
            continue
        return


async def test_session_mode_works(make_daemon: Callable[..., Daemon], database: Database, open_directory: Path) -> None:
    handled: list[tuple[int, str]] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        async with context.transaction() as connection:
            await connection.execute("set statement_timeout = '1h'")
            handled.append((event.batch_id, await connection.fetchval("show timezone")))

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    folder = open_directory / "session"
    folder.mkdir()
    for number in range(50):
        await EventLog(database).publish(batch(number))
    with bouncer(folder, database.url, "session") as url, anyio.fail_after(HANGS):
        await make_daemon({"test": it}, database_url=url).run()
        async with Database(url, connections=2, lent=True) as lent:
            await lent.execute("set timezone = 'Asia/Tokyo'")
            assert await lent.fetchval("show timezone") == "UTC"
            assert await lent.fetchval("show application_name") == "codelupe"
    assert sorted(number for number, _ in handled) == list(range(50))
    assert {timezone for _, timezone in handled} == {"UTC"}


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_another_mode_is_refused_by_name(
    database: Database, open_directory: Path, tmp_path: Path, mode: str
) -> None:
    folder = open_directory / mode
    folder.mkdir()
    with bouncer(folder, database.url, mode) as url, anyio.fail_after(HANGS):
        for _ in range(3):  # also when the server's sessions have served others
            with pytest.raises(ConfigurationError, match=f"PgBouncer at 127.0.0.1:.* is in {mode} mode") as caught:
                async with Database(url):
                    pass
        assert "pool_mode = session" in str(caught.value)
        shell = Shell(tmp_path, CODELUPE_DATABASE_URL=url)
        (await shell("run", "--set", NO_PLUGINS)).failed(78, f"is in {mode} mode", "pool_mode = session")


async def test_transaction_mode_is_found_beside_other_clients(database: Database, open_directory: Path) -> None:
    folder = open_directory / "busy"
    folder.mkdir()
    with bouncer(folder, database.url, "transaction") as url, anyio.fail_after(HANGS):
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(_be_busy, url)
            for _ in range(10):
                with pytest.raises(ConfigurationError, match="transaction mode"):
                    async with Database(url):
                        pass
            group.cancel_scope.cancel()


async def _be_busy(url: str) -> None:
    command = ["psql", "--quiet", "--no-psqlrc", "--output=/dev/null", url]
    queries = b"select pg_sleep(0.001);\n" * 20_000
    with anyio.CancelScope():
        await anyio.run_process(command, input=queries, check=False)
