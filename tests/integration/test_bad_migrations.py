"""Plugins' migrations: a failing one breaks its plugin and nothing else, and none touches what is not the plugin's.

Reports: mlebreuil/netbox-contract#172, netbox-community/netbox-docker#1249 (a plugin's migration stops the host),
tracewayapp/traceway#361 (a migration is killed half-way, again and again).
"""

from __future__ import annotations

import json
import socket
import types
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from codelupe import Database, Subscription, hookimpl
from codelupe.daemon import prepare_database
from codelupe.errors import DatabaseUnavailable, MigrationError
from codelupe.host.discovery import Plugin
from codelupe.host.host import Host
from codelupe.host.migrations import migrate_plugins
from codelupe_events import BatchReady
from tests.integration.test_cli import NO_PLUGINS, Shell
from tests.logged import Logged
from tests.plugins import import_path, install_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio


def plugin(folder: Path, name: str, migrations: Mapping[str, str | bytes]) -> Plugin:
    """One that brings these files, and a subscription."""
    (folder / name).mkdir()
    for file, text in migrations.items():
        (folder / name / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    async def handle(event: object, context: object) -> None: ...

    @hookimpl
    def codelupe_migrations() -> Path:
        return folder / name

    @hookimpl
    def codelupe_subscriptions() -> list[Subscription]:
        return [Subscription(name="s", events=(BatchReady,), handler=handle)]

    target = types.SimpleNamespace(
        codelupe_migrations=codelupe_migrations, codelupe_subscriptions=codelupe_subscriptions
    )
    return Plugin(name=name, distribution=name, version="1", target=target)


async def tables(database: Database, schema: str) -> list[str]:
    rows = await database.fetch(
        "select relname from pg_class where relkind = 'r' and relnamespace = to_regnamespace($1) order by 1", schema
    )
    return [row["relname"] for row in rows]


BAD: dict[str, tuple[Mapping[str, str | bytes], str]] = {
    "syntax": ({"0001_x.sql": "create table good ();\ncreate tabel x();"}, "0001_x of bad failed in line 2: syntax"),
    "failing later": ({"0001_x.sql": "create table half (); select 1 / 0"}, "division by zero"),
    "two of one number": ({"0001_a.sql": "", "0001_b.sql": ""}, "two migrations with the number 0001"),
    "no UTF-8": ({"0001_x.sql": b"select '\xff'"}, "UnicodeDecodeError"),
    "NUL": ({"0001_x.sql": "select '\0'"}, "0001_x of bad failed"),
    "commit": ({"0001_x.sql": "create table half (); commit; create table more ();"}, "transaction"),
    "rollback": ({"0001_x.sql": "create table half (); rollback;"}, "transaction"),
    "commit and begin": ({"0001_x.sql": "commit; begin; create table half ();"}, "transaction"),
    "commit in a block": ({"0001_x.sql": "create table half (); do $$ begin commit; end $$"}, "transaction"),
    "host's table": (
        {"0001_x.sql": "create table repositories (id int); drop table processed_files cascade;"},
        "exist",
    ),
    "connection": ({"0001_x.sql": "select pg_terminate_backend(pg_backend_pid())"}, "0001_x of bad"),
    "cancelled": ({"0001_x.sql": "select pg_cancel_backend(pg_backend_pid()), pg_sleep(60)"}, "0001_x of bad failed"),
    "role": ({"0001_x.sql": "set role no_such_role"}, "no_such_role"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_failing_migration_breaks_its_plugin_alone(kind: str, database: Database, tmp_path: Path) -> None:
    files, cause = BAD[kind]
    good = {"0001_paint.sql": "create table paint ();"}
    host = Host([plugin(tmp_path, "a", good), plugin(tmp_path, "bad", files), plugin(tmp_path, "z", good)])
    before = await tables(database, "public")
    with anyio.fail_after(HANGS):
        await prepare_database(database, host)
    [broken] = host.broken
    assert (broken.name, cause in (broken.error or "")) == ("bad", True), broken.failure
    assert broken.failed_at("codelupe_migrations")
    assert await tables(database, "plugin_a") == await tables(database, "plugin_z") == ["paint"]
    assert await tables(database, "plugin_bad") == []
    assert await tables(database, "public") == before
    assert await database.fetchval("select count(*) from schema_migrations where owner = 'bad'") == 0


async def test_a_folder_that_cannot_be_read_breaks_its_plugin(database: Database, tmp_path: Path) -> None:
    bad = plugin(tmp_path, "bad", {})
    (tmp_path / "bad").rmdir()
    await prepare_database(database, host := Host([bad]))
    assert host.broken == [bad]
    expected = (
        f"FileNotFoundError: the folder of bad's migrations is missing: {tmp_path / 'bad'}. Does [tool.setuptools"
    )
    assert expected in (bad.error or "")


async def test_a_migration_that_was_changed_afterwards_breaks_its_plugin(database: Database, tmp_path: Path) -> None:
    for text, broken in (("create table x ()", []), ("create table x (n int)", ["bad"])):
        folder = tmp_path / str(len(broken))
        folder.mkdir()
        host = Host([plugin(folder, "bad", {"0001_x.sql": text})])
        await prepare_database(database, host)
        assert [one.name for one in host.broken] == broken
    assert "0001_x of bad was changed" in (host.broken[0].error or "")


async def test_a_migration_without_end_is_cut_and_db_migrate_is_named(database: Database, tmp_path: Path) -> None:
    host = Host([plugin(tmp_path, "bad", {"0001_x.sql": "create table x (); select pg_sleep(600)"})])
    with anyio.fail_after(HANGS):
        assert await migrate_plugins(database, host, seconds=0.3) == []
    [broken] = host.broken
    assert "0001_x of bad failed" in (broken.error or "")
    assert "statement timeout" in (broken.error or "")
    assert await tables(database, "plugin_bad") == []


async def test_nothing_of_its_session_stays(database: Database, tmp_path: Path) -> None:
    await database.execute("create role plain")
    try:
        files = {
            "0001_x.sql": "create temp table scratch (); set role plain; set search_path = no; set lock_timeout = 7",
            "0002_y.sql": "create table y as select current_user::text as who, current_setting('lock_timeout') as wait",
        }
        host = Host([plugin(tmp_path, "sets", files)])
        await prepare_database(database, host)
        assert host.broken == []
        me = await database.fetchval("select current_user::text")
        assert tuple(await database.fetchrow("select * from plugin_sets.y") or ()) == (me, "30s")
        sessions = [
            await database.fetchrow("select current_user::text, current_schema()::text, to_regclass('scratch')::text")
            for _ in range(5)
        ]
        assert {tuple(row or ()) for row in sessions} == {(me, "public", None)}
    finally:
        await database.execute("drop role plain")


async def test_what_lay_in_public_stays_and_can_be_moved(database: Database, tmp_path: Path) -> None:
    """An upgrade: what a plugin's migrations made before plugins had schemas."""
    first = "create table paint (colour text); insert into paint values ('red')"
    old = plugin(tmp_path, "old", {"0001_paint.sql": first})
    [applied] = Host([old]).migrations()
    await database.execute(first)
    await database.execute(
        "insert into schema_migrations (owner, number, name, checksum) values ('old', 1, 'paint', $1)", applied.checksum
    )
    await prepare_database(database, host := Host([old]))
    assert "paint" in await tables(database, "public")
    (tmp_path / "old" / "0002_move.sql").write_text("alter table if exists public.paint set schema plugin_old;")
    await prepare_database(database, host)
    assert host.broken == []
    assert await database.fetchval("select colour from plugin_old.paint") == "red"


async def test_an_administrator_may_make_the_schema(database: Database, tmp_path: Path) -> None:
    """Where the role that connects may not create schemas."""
    await database.execute("create schema plugin_z")
    await database.execute("create role narrow login")
    try:
        await database.execute("grant usage, create on schema plugin_z, public to narrow")
        await database.execute("grant select, insert on schema_migrations to narrow")
        narrow = database.url.replace("postgresql://", "postgresql://narrow@", 1).replace("narrow@postgres@", "narrow@")
        files = {"0001_x.sql": "create table x ()"}
        host = Host([plugin(tmp_path, "bad", files), plugin(tmp_path, "z", files)])
        async with Database(narrow) as connected:
            assert await connected.fetchval("select current_user::text") == "narrow"
            await migrate_plugins(connected, host)
        assert [one.name for one in host.broken] == ["bad"]
        assert "permission denied" in (host.broken[0].error or "")
        assert await tables(database, "plugin_z") == ["x"]
    finally:
        await database.execute("drop owned by narrow; drop role narrow")


async def test_codelupe_s_own_failing_migration_ends_the_run(database: Database, tmp_path: Path) -> None:
    await database.execute("update schema_migrations set checksum = 'x' where number = 1 and owner = 'codelupe'")
    with pytest.raises(ExceptionGroup) as caught:
        await prepare_database(database, Host([plugin(tmp_path, "z", {"0001_x.sql": "create table x ()"})]))
    assert caught.group_contains(MigrationError, match="0001_event_log of codelupe was changed")
    assert await tables(database, "plugin_z") == []


async def test_a_database_that_is_away_is_no_plugin_s_fault(tmp_path: Path) -> None:
    good = plugin(tmp_path, "z", {"0001_x.sql": "create table x ()"})
    with pytest.raises(DatabaseUnavailable):
        await migrate_plugins(Database("postgresql://127.0.0.1:1/none"), Host([good]))
    assert good.failure is None


async def test_the_service_manager_is_asked_for_time(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tracewayapp/traceway#361."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    await prepare_database(database, Host([plugin(tmp_path, "slow", {"0001_x.sql": "select pg_sleep(0.2)"})]))
    manager.settimeout(HANGS)
    assert manager.recv(100) == b"EXTEND_TIMEOUT_USEC=30000000"
    manager.close()


# --- installed, by the command line ---


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    """With one bad and one good plugin installed."""
    install_plugin(tmp_path / "site", "badsql", migrations={"0001_x.sql": "create tabel x();"})
    install_plugin(tmp_path / "site", "goodsql", migrations={"0001_x.sql": "create table x();"})
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url, PYTHONPATH=import_path(tmp_path / "site"))


async def test_the_daemon_runs_without_the_plugin_whose_migration_fails(shell: Shell) -> None:
    """mlebreuil/netbox-contract#172, netbox-community/netbox-docker#1249."""
    ended = await shell("run", "--until-idle", "--set", NO_PLUGINS, "--set", "log_format=json")
    records = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    [broken] = [one for one in records if one["event"] == "plugin_broken"]
    assert ended.code == 0
    assert (broken["plugin"], broken["hook"]) == ("badsql", "codelupe_migrations")
    assert "0001_x of badsql failed" in broken["error"]


async def test_db_migrate_applies_the_others_and_names_the_broken_one(shell: Shell, database: Database) -> None:
    waiting = (await shell("db", "status", "--json")).json()["pending_migrations"]
    assert waiting == ["badsql 0001_x", "goodsql 0001_x"]
    doctor = json.loads((await shell("doctor", "--json")).out)
    [finding] = [one for one in doctor if one["what"] == "plugins' tables"]
    assert "2 migrations of badsql, goodsql" in finding["detail"]
    migrated = await shell("db", "migrate")
    assert (migrated.code, migrated.out) == (1, "applied goodsql 0001_x\n")
    assert (
        'badsql is broken: migration 0001_x of badsql failed in line 1: syntax error at or near "tabel"' in migrated.err
    )
    assert "correct it and start again. (in codelupe_migrations)" in migrated.err
    assert await tables(database, "plugin_goodsql") == ["x"]
    again = await shell("db", "migrate")
    assert (again.code, again.out) == (1, ""), "what failed is still to be applied"
    listed = await shell("plugins", "list")
    assert "badsql: migrations to apply: 1; `codelupe db migrate` applies them, or says why not" in listed.err


async def test_the_list_names_migrations_that_are_missing_or_were_changed(shell: Shell, tmp_path: Path) -> None:
    missing = install_plugin(tmp_path / "site", "missing", migrations={})
    changed = install_plugin(tmp_path / "site", "changed", migrations={"0001_x.sql": "create table x ()"})
    await shell("db", "migrate")
    (missing / "migrations").rmdir()
    (changed / "migrations" / "0001_x.sql").write_text("create table y ()")
    listed = await shell("plugins", "list")
    assert listed.code == 1
    assert "missing is broken: FileNotFoundError: the folder of missing's migrations is missing" in listed.err
    assert "changed is broken: migration 0001_x of changed was changed after it had been applied. " in listed.err


async def test_a_migration_is_said_to_begin(database: Database, tmp_path: Path, logged: Logged) -> None:
    await prepare_database(database, Host([plugin(tmp_path, "z", {"0001_x.sql": "create table x ()"})]))
    assert logged.count("migration_started", owner="z", number=1, name="x") == 1
