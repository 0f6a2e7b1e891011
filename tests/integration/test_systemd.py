"""The shipped unit under a real systemd, with the real daemon, journald and the embedded database."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.systemd.sandbox import Sandbox, Unavailable, booted
from tests.processes import HANGS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("systemd")]

REPOSITORY = Path(__file__).parents[2]
SOURCE = "/opt/codelupe-source"
PYTHONPATH = f"{SOURCE}:{SOURCE}/events:{SOURCE}/sql:{SOURCE}/plugins"
UNIT = REPOSITORY / "contrib/systemd/codelupe.service"
WATCHDOG_S = 8
"""Long for a daemon that lives on a slow machine, since it ends one that is silent for so long."""
START = "ExecStart=\nExecStart=/opt/codelupe/bin/python -m codelupe run\n"
"""The script beside it names the Python of where the environment lies outside, perhaps in /tmp."""
SETTINGS = """
lease_seconds = 5
[plugins.crawler]
sources = []
installed_packages = false
"""
TRIVIAL = """
[Service]
Type=notify
NotifyAccess=all
WatchdogSec=1
ExecStart=/bin/sh -c 'systemd-notify --ready; exec sleep 3600'
"""
PROBE = """
import subprocess
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

def main() -> None:
    layer = torch.nn.Linear(512, 512)
    layer(torch.randn(64, 512)).square().mean().backward()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert sum(pool.map(abs, range(-3, 0))) == 6
    for command in (
        "git init -q origin",
        "git -C origin -c user.name=n -c user.email=e@x commit -q --allow-empty -m c",
        "git clone -q --depth=1 file:///var/lib/codelupe/origin clone",
    ):
        subprocess.run(command.split(), cwd="/var/lib/codelupe", check=True)
    print(f"gradient {layer.weight.grad.norm() > 0}")


if __name__ == "__main__":
    main()
"""
"""What the stages do to a machine: train, use several processes, run git."""
UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
UNIT_SUCCEEDED = "7ad2d189f7e94e70a38c781354912448"
"""SD_MESSAGE_UNIT_STARTED and SD_MESSAGE_UNIT_SUCCESS of sd-messages.h."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A booted system whose /opt/codelupe is the virtual environment of these tests."""
    environment, python = Path(sys.prefix), Path(sys.executable).resolve()
    etc = {
        "systemd/system/codelupe.service": UNIT.read_text(),
        "systemd/system/codelupe.service.d/test.conf": f"{drop_in(python)}{START}WatchdogSec={WATCHDOG_S}\n",
        "systemd/system/trivial.service": TRIVIAL,
        "systemd/system/probe.service": probe_unit(),
        "systemd/system/probe.service.d/test.conf": drop_in(python),
        "codelupe/probe.py": PROBE,
        "codelupe/codelupe.toml": SETTINGS,
    }
    try:
        binds = {environment: "/opt/codelupe", REPOSITORY: SOURCE}
        with booted(etc, binds, reachable=[python]) as system:
            yield system
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


def drop_in(python: Path) -> str:
    """What the tests' environment needs: its editable sources, which may lie in /tmp, and a Python in a home."""
    lies_in_a_home = any(python.is_relative_to(home) for home in ("/root", "/home"))
    loosened = "ProtectHome=no\n" if lies_in_a_home else ""
    return f"[Service]\n{loosened}Environment=PYTHONPATH={PYTHONPATH}\n"


def probe_unit() -> str:
    """The shipped unit with another program in it."""
    text = re.sub(
        r"^ExecStart=.*",
        "ExecStart=/opt/codelupe/bin/python /etc/codelupe/probe.py",
        UNIT.read_text(),
        flags=re.MULTILINE,
    )
    return re.sub(r"^(Restart|WatchdogSec)=.*", "", text.replace("Type=notify", "Type=oneshot"), flags=re.MULTILINE)


@pytest.fixture
def service(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The system with the daemon started; `systemctl start` waits for READY=1."""
    try:
        sandbox.run("systemctl", "start", "codelupe")
    except AssertionError as error:
        error.add_note(sandbox.run("journalctl", "--no-pager", "--lines=50", "--unit=codelupe"))
        raise
    yield sandbox
    sandbox.run("systemctl", "stop", "codelupe")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.1)


def wait_until_it_is(active_state: str, sandbox: Sandbox, unit: str = "codelupe") -> None:
    wait_until(lambda: sandbox.show(unit, "ActiveState")["ActiveState"] == active_state)


def monotonic_s(record: dict[str, str]) -> float:
    return int(record["__MONOTONIC_TIMESTAMP"]) / 1e6


def heard_at_s(sandbox: Sandbox) -> float:
    """When the daemon last told systemd that it lives, in systemd's own time."""
    return int(sandbox.show("codelupe", "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]) / 1e6


def test_the_sandbox_is_a_real_systemd(sandbox: Sandbox) -> None:
    """Its watchdog kills a service that says READY and then nothing more, so what passes below means something."""
    sandbox.run("systemctl", "start", "trivial")
    wait_until_it_is("failed", sandbox, "trivial")
    shown = sandbox.show("trivial", "ActiveState", "Result")
    assert shown == {"ActiveState": "failed", "Result": "watchdog"}


def test_systemd_finds_no_fault_with_the_unit(sandbox: Sandbox) -> None:
    assert sandbox.run("systemd-analyze", "verify", "codelupe.service") == ""


def test_its_hardening_leaves_room_for_the_work(sandbox: Sandbox) -> None:
    sandbox.run("systemctl", "start", "probe")
    printed = [record["MESSAGE"] for record in sandbox.journal("_SYSTEMD_UNIT=probe.service")]
    assert "gradient True" in printed


def test_it_is_active_when_the_daemon_says_ready(service: Sandbox) -> None:
    assert service.run("systemctl", "is-active", "codelupe").strip() == "active"
    started = service.journal("CODELUPE_EVENT=started")[-1]
    announced = service.journal(f"MESSAGE_ID={UNIT_STARTED}", "UNIT=codelupe.service")[-1]
    assert monotonic_s(started) <= monotonic_s(announced)


def test_the_journal_has_its_fields(service: Sandbox) -> None:
    record = service.journal("_SYSTEMD_UNIT=codelupe.service", "CODELUPE_EVENT=started")[-1]
    assert record["SYSLOG_IDENTIFIER"] == "codelupe"
    assert record["PRIORITY"] == "6"
    assert record["_TRANSPORT"] == "journal"
    assert record["MESSAGE"].startswith("started version=")
    assert "crawler" in json.loads(record["CODELUPE_PLUGINS"])
    assert service.journal("CODELUPE_EVENT=no_such_event") == []


def test_the_watchdog_hears_of_it(service: Sandbox) -> None:
    before = service.show("codelupe", "MainPID", "WatchdogUSec")
    assert before["WatchdogUSec"] == f"{WATCHDOG_S}s"
    first = heard_at_s(service)
    wait_until(lambda: heard_at_s(service) > first + 1.5 * WATCHDOG_S)
    after = service.show("codelupe", "MainPID", "ActiveState", "NRestarts", "Result")
    assert after == {"MainPID": before["MainPID"], "ActiveState": "active", "NRestarts": "0", "Result": "success"}


def test_root_can_ask_the_running_daemon(service: Sandbox) -> None:
    """The database belongs to the service's own user, in a folder that only it and root can reach."""
    environment = {"CODELUPE_STATE_DIR": "/var/lib/codelupe", "HOME": "/root", "PYTHONPATH": PYTHONPATH}
    program = ("/opt/codelupe/bin/python", "-m", "codelupe")
    status = json.loads(service.run(*program, "status", "--json", environment=environment))
    assert {subscription["dead_lettered"] for subscription in status["subscriptions"]} == {0}
    assert service.run("systemctl", "is-active", "codelupe").strip() == "active"


def test_stopping_is_clean(service: Sandbox) -> None:
    """It ends by itself: of one that the unit's time limit had to kill, the result is ``timeout``."""
    invocation = service.show("codelupe", "InvocationID")["InvocationID"]
    service.run("systemctl", "stop", "codelupe")
    assert service.show("codelupe", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert service.journal(f"MESSAGE_ID={UNIT_SUCCEEDED}", f"INVOCATION_ID={invocation}")
    records = service.journal(f"_SYSTEMD_INVOCATION_ID={invocation}", "_TRANSPORT=journal")
    assert [record["CODELUPE_EVENT"] for record in records][-2:] == ["stopped", "postgres_stopped"]


def test_a_daemon_that_hangs_is_ended_and_started_again(service: Sandbox) -> None:
    before = service.show("codelupe", "MainPID")["MainPID"]
    service.run("kill", "-STOP", before)
    wait_until(lambda: service.show("codelupe", "NRestarts")["NRestarts"] != "0")
    wait_until_it_is("active", service)
    assert service.show("codelupe", "MainPID")["MainPID"] != before
    printed = [str(record["MESSAGE"]) for record in service.journal(f"_PID={before}", "_TRANSPORT=stdout")]
    assert "Fatal Python error: Aborted" in printed


def test_a_killed_daemon_is_started_again_on_the_same_data(service: Sandbox) -> None:
    before = service.show("codelupe", "MainPID")["MainPID"]
    service.run("systemctl", "kill", "--signal=KILL", "codelupe")
    wait_until(lambda: service.show("codelupe", "NRestarts")["NRestarts"] != "0")
    wait_until_it_is("active", service)
    after = service.show("codelupe", "MainPID")["MainPID"]
    assert after != before
    assert service.journal("CODELUPE_EVENT=postgres_started", f"_PID={after}")
    assert not service.journal("CODELUPE_EVENT=migration_applied", f"_PID={after}")


def test_wrong_settings_are_not_tried_again(sandbox: Sandbox) -> None:
    sandbox.run("sed", "-i", "1i no_such_setting = 1", "/etc/codelupe/codelupe.toml")
    try:
        with pytest.raises(AssertionError, match="systemctl start codelupe ended with 1"):
            sandbox.run("systemctl", "start", "codelupe")
        shown = sandbox.show("codelupe", "ActiveState", "ExecMainStatus")
        assert shown == {"ActiveState": "failed", "ExecMainStatus": "78"}
        messages = [record["MESSAGE"] for record in sandbox.journal("_SYSTEMD_UNIT=codelupe.service")]
        assert any("no_such_setting" in str(message) for message in messages)
    finally:
        sandbox.run("sed", "-i", "1d", "/etc/codelupe/codelupe.toml")
        sandbox.run("systemctl", "reset-failed", "codelupe")
