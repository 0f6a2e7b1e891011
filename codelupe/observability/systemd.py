"""A word with the service manager: readiness and the watchdog (sd_notify(3))."""

from __future__ import annotations

import os
import socket

import structlog

_SYSTEMD_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_hidden: dict[str, str] = {}
log = structlog.get_logger(__name__)


def notify(state: str) -> None:
    """Tell the service manager, such as ``READY=1`` (sd_notify(3)). Without one, do nothing."""
    address = _variable("NOTIFY_SOCKET")
    if not address:
        return
    try:
        send_datagram(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError as error:
        log.warning("service_manager_not_told", state=state, reason=str(error))


def watchdog_interval() -> float | None:
    """Seconds within which the service manager must hear ``WATCHDOG=1``; None when it does not watch this process."""
    for_whom = _variable("WATCHDOG_PID")
    if for_whom and for_whom != str(os.getpid()):
        return None
    microseconds = _variable("WATCHDOG_USEC")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) > 0 else None


def hide_service_manager() -> None:
    """Take the service manager's variables out of the environment, so that no child speaks in this process's name."""
    for name in _SYSTEMD_VARIABLES:
        if name in os.environ:
            _hidden[name] = os.environ.pop(name)


def _variable(name: str) -> str:
    return os.environ.get(name) or _hidden.get(name, "")


def send_datagram(datagram: bytes, address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(1)
        sender.sendto(datagram, address)
