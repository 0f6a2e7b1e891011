"""Where the embedded server's socket goes and how trouble with files is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from codelupe.errors import StateDirectoryError
from codelupe.postgres.embedded.home import PORT, Account, choose_socket_folder, prepare_home, reporting_file_errors


class TestChooseSocketFolder:
    def test_it_lies_beside_the_data(self) -> None:
        assert choose_socket_folder(Path("/var/lib/codelupe/postgres")) == Path("/var/lib/codelupe/postgres/run")

    @pytest.mark.parametrize("length", range(60, 130, 3))
    def test_the_path_of_the_socket_fits_into_an_address(self, length: int) -> None:
        socket = choose_socket_folder(Path("/" + "x" * length)) / f".s.PGSQL.{PORT}"
        assert len(os.fsencode(socket)) <= 107

    @pytest.mark.parametrize("name", ["two words", "a,b", "caf\udce9", "ü", 'quo"te', "$(id)", "100%"])
    def test_odd_names_stay_out_of_settings_and_urls(self, name: str) -> None:
        assert name not in str(choose_socket_folder(Path("/srv") / name))

    def test_each_folder_has_its_own(self) -> None:
        first, second = (choose_socket_folder(Path("/srv") / ("x" * 100) / name) for name in ("a", "b"))
        assert first != second
        assert first == choose_socket_folder(Path("/srv") / ("x" * 100) / "a")

    def test_a_long_temporary_folder_is_no_obstacle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/" + "y" * 100)
        assert choose_socket_folder(Path("/" + "x" * 100)).parent == Path("/tmp")


class TestAccount:
    def test_this_processs_own_user_needs_no_switch(self) -> None:
        assert "user" not in Account(os.geteuid(), os.getegid()).process_options

    def test_another_user_takes_none_of_our_groups_along(self) -> None:
        options = Account(12345, 12346).process_options
        assert (options["user"], options["group"], options["extra_groups"]) == (12345, 12346, [])

    def test_none_of_our_variables_reach_the_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGDATA", "/elsewhere")
        assert set(Account(1, 1).process_options["env"]) == {"PATH", "LC_ALL"}

    def test_it_knows_what_it_may_use(self, tmp_path: Path) -> None:
        own = Account(os.geteuid(), os.getegid())
        assert own.can_use(tmp_path)
        assert not own.can_use(tmp_path / "missing")


def test_a_parent_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match="Not a directory"):
        prepare_home(tmp_path / "file" / "postgres")


def test_errors_of_files_name_the_folder_and_the_way_out() -> None:
    with pytest.raises(StateDirectoryError) as raised, reporting_file_errors(Path("/srv/data")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert raised.value.message == "the database cannot be kept in /srv/data: No space left on device"
    assert raised.value.hint is not None
    assert "CODELUPE_STATE_DIR" in raised.value.hint
