"""Logging and the word with systemd, against real sockets."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from codelupe.errors import ConfigurationError
from codelupe.observability import journald, systemd
from codelupe.observability.journald import LONGEST_VALUE
from codelupe.observability.logs import configure_logging
from codelupe.observability.systemd import hide_service_manager, notify, watchdog_interval
from tests.processes import HANGS


@pytest.fixture(autouse=True)
def restored_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(systemd, "_hidden", {})
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "socket"))
        bound.settimeout(HANGS)
        yield bound


@pytest.fixture
def journal_socket(receiver: socket.socket, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    monkeypatch.setattr(journald, "JOURNAL_SOCKET", Path(receiver.getsockname()))
    monkeypatch.setattr(journald, "sendv", None)  # systemd-python knows no other place
    configure_logging("info", "journal")
    return receiver


def received_record(receiver: socket.socket) -> dict[str, str]:
    """Parses the native protocol as its specification describes it."""
    rest, fields = receiver.recv(1 << 20), {}
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if not separator:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields[name.decode()] = value.decode()
    return fields


def raised(error: Exception) -> Exception:
    """The error as a handler finds it, with a traceback."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def json_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    captured = capsys.readouterr()
    assert captured.out == ""
    record: dict[str, Any] = json.loads(captured.err)
    return record


class TestJournal:
    def test_every_field_can_be_matched(self, journal_socket: socket.socket) -> None:
        structlog.get_logger("filters").bind(stage="filters.file-rules").warning("file_left_out", path="a.py", size=3)
        assert received_record(journal_socket) == {
            "MESSAGE": "file_left_out stage=filters.file-rules path=a.py size=3",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "codelupe",
            "CODELUPE_EVENT": "file_left_out",
            "CODELUPE_STAGE": "filters.file-rules",
            "CODELUPE_PATH": "a.py",
            "CODELUPE_SIZE": "3",
            "CODELUPE_LOGGER": "filters",
            "CODELUPE_PLUGIN": "filters",
        }

    def test_values_of_several_lines_survive(self, journal_socket: socket.socket) -> None:
        text = "one\nCODELUPE_FORGED=yes\n\nPRIORITY=0"
        structlog.get_logger().info("text_seen", text=text, after="x")
        fields = received_record(journal_socket)
        assert fields["CODELUPE_TEXT"] == text
        assert fields["CODELUPE_AFTER"] == "x"
        assert fields["PRIORITY"] == "6"
        assert "CODELUPE_FORGED" not in fields

    def test_a_traceback_has_its_own_field(self, journal_socket: socket.socket) -> None:
        structlog.get_logger().error("handler_failed", exc_info=raised(ValueError("broken")))
        fields = received_record(journal_socket)
        assert fields["MESSAGE"] == "handler_failed"
        assert fields["PRIORITY"] == "3"
        assert fields["CODELUPE_TRACEBACK"].startswith("Traceback")
        assert fields["CODELUPE_TRACEBACK"].endswith("ValueError: broken")

    def test_long_values_are_cut_with_a_mark(self, journal_socket: socket.socket) -> None:
        structlog.get_logger().info("output_seen", output="x" * (LONGEST_VALUE + 5))
        assert received_record(journal_socket)["CODELUPE_OUTPUT"] == "x" * LONGEST_VALUE + "… [5 more characters]"

    def test_odd_names_and_values_do_no_harm(self, journal_socket: socket.socket) -> None:
        structlog.get_logger().info("file_seen", **{"größe in %": 1, "x" * 100: 2}, path="caf\udce9", parts=["a", "ü"])
        fields = received_record(journal_socket)
        assert fields["CODELUPE_GR_SSE_IN__"] == "1"
        assert fields["CODELUPE_" + "X" * 55] == "2"
        assert fields["CODELUPE_PATH"] == r"caf\udce9"
        assert fields["CODELUPE_PARTS"] == '["a", "ü"]'

    def test_records_go_to_stderr_while_the_journal_is_away(
        self, journal_socket: socket.socket, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = Path(journal_socket.getsockname())
        journal_socket.close()
        structlog.get_logger().info("unheard")
        assert json_line(capsys)["event"] == "unheard"
        path.unlink()
        structlog.get_logger().info("unheard_again")
        assert json_line(capsys)["event"] == "unheard_again"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as restarted:
            restarted.bind(str(path))
            structlog.get_logger().info("heard")
            assert received_record(restarted)["MESSAGE"] == "heard"

    def test_asking_for_a_missing_journal_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journald, "JOURNAL_SOCKET", tmp_path / "missing")
        with pytest.raises(ConfigurationError, match="no journal"):
            configure_logging("info", "journal")


_LOG = """
import structlog
from codelupe.observability import journald
from codelupe.observability.logs import configure_logging
assert journald.sendv is not None
configure_logging("info", "journal")
structlog.get_logger("filters").warning("file_left_out", path="caf\\udce9", text="one\\nPRIORITY=0", long="x" * 300_000)
for path in journald.JOURNAL_SOCKET.parent.iterdir():
    path.unlink()
structlog.get_logger().info("unheard")
"""


def in_own_journal(folder: Path, *command: str) -> list[str]:
    """The command line that runs a command where the folder is the journal's."""
    place = "/run/systemd/journal"
    script = f'mount -t tmpfs none /run && mkdir -p {place} && mount --bind "$0" {place} && "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(folder), *command]


class TestLibrary:
    @pytest.fixture(autouse=True)
    def needs(self, tmp_path: Path) -> None:
        missing = [] if importlib.util.find_spec("systemd") else ["systemd-python"]
        if subprocess.run(in_own_journal(tmp_path, "true"), capture_output=True, check=False).returncode:
            missing.append("the right to mount")
        if missing and os.environ.get("CI") == "true":
            pytest.fail(f"CI needs {' and '.join(missing)}")
        if missing:
            pytest.skip(f"lacks {' and '.join(missing)}")

    def test_the_journal_gets_the_same_fields_and_none_means_stderr(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        journal.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(journal / "socket"))
            receiver.settimeout(HANGS)
            command = in_own_journal(journal, sys.executable, "-c", _LOG)
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            fields = received_record(receiver)
        assert fields["CODELUPE_LONG"] == "x" * LONGEST_VALUE + f"… [{300_000 - LONGEST_VALUE} more characters]"
        assert fields["CODELUPE_PATH"] == r"caf\udce9"
        assert fields["CODELUPE_TEXT"] == "one\nPRIORITY=0"
        assert (fields["PRIORITY"], fields["CODELUPE_EVENT"]) == ("4", "file_left_out")
        assert json.loads(ended.stderr)["event"] == "unheard"


class TestJson:
    def test_a_record_is_one_line_on_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("info", "json")
        key = uuid.uuid4()
        structlog.get_logger("codelupe.daemon").info("started", text="a\nb", key=key, odd={1: (2, None)})
        record = json_line(capsys)
        assert record.pop("timestamp").endswith("Z")
        assert record == {
            "event": "started",
            "level": "info",
            "logger": "codelupe.daemon",
            "text": "a\nb",
            "key": str(key),
            "odd": {"1": [2, None]},
        }

    @pytest.mark.parametrize("name", ["crawler", "codelupe_crawler", "codelupe_crawler.github"])
    def test_the_plugin_follows_from_the_loggers_name(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("info", "json")
        structlog.get_logger(name).info("seen")
        assert json_line(capsys)["plugin"] == "crawler"

    def test_less_severe_records_are_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("warning", "json")
        structlog.get_logger().info("ours")
        logging.getLogger("asyncio").info("theirs")
        assert capsys.readouterr().err == ""

    def test_a_closed_stderr_stops_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        configure_logging("info", "json")
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w", buffering=1, closefd=True) as broken:
            monkeypatch.setattr(sys, "stderr", broken)
            structlog.get_logger().info("unheard")
            monkeypatch.undo()
            with pytest.raises(BrokenPipeError):
                broken.close()


class TestStandardLibrary:
    def test_its_loggers_take_the_same_way(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("info", "json")
        error = raised(OSError("gone"))
        logging.getLogger("git.cmd").error("clone of %s failed", "https://me:pw@host/x", exc_info=error)
        record = json_line(capsys)
        assert record["logger"] == "git.cmd"
        assert record["level"] == "error"
        assert record["event"] == "clone of https://me:***@host/x failed"
        assert record["exception"].endswith("OSError: gone")
        assert "plugin" not in record

    @pytest.mark.parametrize(("number", "level"), [(25, "info"), (35, "warning"), (99, "critical")])
    def test_levels_of_their_own_are_rounded_down(
        self, number: int, level: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure_logging("info", "json")
        logging.getLogger("library").log(number, "100% sure")
        assert json_line(capsys)["level"] == level


class TestSecrets:
    @pytest.mark.parametrize("key", ["password", "db_password", "GITHUB_TOKEN", "client-secret", "Authorization"])
    def test_values_of_such_keys_are_removed(self, key: str, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("info", "json")
        structlog.get_logger().info("seen", **{key: "hunter2"}, headers=[{key: "hunter2"}])
        text = capsys.readouterr().err
        assert "hunter2" not in text
        assert text.count("***") == 2

    def test_counts_of_tokens_stay(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("info", "json")
        structlog.get_logger().info("trained", tokens=5, tokens_per_second=2.5)
        record = json_line(capsys)
        assert (record["tokens"], record["tokens_per_second"]) == (5, 2.5)

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("at postgresql://me:hunter2@host/db now", "at postgresql://me:***@host/db now"),
            ("postgresql:///db?user=me&password=hunter2", "postgresql:///db?user=me&password=***"),
            ("fatal: 'https://hunter2@github.com/a/b'", "fatal: 'https://***@github.com/a/b'"),
            ("ssh://git@github.com/a/b and http://localhost:80/ by a@b", None),
        ],
    )
    def test_passwords_in_urls_are_removed(
        self, text: str, shown: str | None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure_logging("info", "json")
        error = raised(RuntimeError(text))
        structlog.get_logger().error("failed", text=text, error=error, exc_info=error)
        record = json_line(capsys)
        assert record["text"] == record["error"] == (shown or text)
        assert record["exception"].endswith(f"RuntimeError: {shown or text}")


class TestAuto:
    SCRIPT = (
        "import structlog, codelupe.observability.logs as j;"
        "j.configure_logging('info', 'auto');"
        "structlog.get_logger().info('hi', a=1)"
    )

    def test_a_pipe_gets_json(self) -> None:
        done = subprocess.run([sys.executable, "-c", self.SCRIPT], capture_output=True, check=True)
        assert json.loads(done.stderr)["a"] == 1

    def test_a_terminal_gets_the_console(self) -> None:
        leader, follower = os.openpty()
        try:
            subprocess.run([sys.executable, "-c", self.SCRIPT], stderr=follower, check=True)
            shown = os.read(leader, 10_000).decode()
        finally:
            os.close(leader)
            os.close(follower)
        assert "hi" in shown
        assert "\x1b[" in shown

    def test_a_stderr_that_leads_to_the_journal_gets_its_protocol(
        self, receiver: socket.socket, tmp_path: Path
    ) -> None:
        with (tmp_path / "stream").open("w") as stream:
            found = os.fstat(stream.fileno())
            script = self.SCRIPT.replace(
                "j.configure",
                "j.journald.sendv = None; j.journald.JOURNAL_SOCKET = __import__('pathlib').Path(PATH); j.configure",
            )
            environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
            command = [sys.executable, "-c", script.replace("PATH", repr(receiver.getsockname()))]
            subprocess.run(command, stderr=stream, env=environment, check=True)
            assert received_record(receiver)["CODELUPE_A"] == "1"
            subprocess.run(command, stderr=subprocess.DEVNULL, env=environment, check=True)
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(1)


class TestServiceManager:
    def test_it_is_told(self, receiver: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", receiver.getsockname())
        notify("READY=1\nSTATUS=at work")
        assert receiver.recv(100) == b"READY=1\nSTATUS=at work"

    def test_its_socket_may_be_abstract(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name = f"codelupe-{uuid.uuid4()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
            bound.bind(f"\0{name}")
            monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
            notify("WATCHDOG=1")
            assert bound.recv(100) == b"WATCHDOG=1"

    def test_without_one_nothing_happens(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("info", "json")
        notify("READY=1")
        assert capsys.readouterr().err == ""

    def test_a_deaf_one_is_logged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure_logging("info", "json")
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "missing"))
        notify("READY=1")
        assert json_line(capsys)["event"] == "service_manager_not_told"

    @pytest.mark.parametrize(
        ("microseconds", "pid", "seconds"),
        [
            ("1500000", "", 1.5),
            pytest.param("1500000", str(os.getpid()), 1.5, id="own pid"),
            ("1500000", "1", None),
            ("", "", None),
            ("0", "", None),
            ("soon", "", None),
        ],
    )
    def test_the_watchdogs_time(
        self, microseconds: str, pid: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", microseconds)
        monkeypatch.setenv("WATCHDOG_PID", pid)
        assert watchdog_interval() == seconds

    def test_children_do_not_see_it(self, receiver: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", receiver.getsockname())
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        hide_service_manager()
        script = "import os; print(sorted(name for name in os.environ if name.startswith(('NOTIFY', 'WATCHDOG'))))"
        assert subprocess.check_output([sys.executable, "-c", script]).strip() == b"[]"
        notify("READY=1")
        assert receiver.recv(100) == b"READY=1"
        assert watchdog_interval() == 2
