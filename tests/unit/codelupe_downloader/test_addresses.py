from __future__ import annotations

from pathlib import Path

import pytest

from codelupe_downloader.addresses import NotPublic, missing_folder, require_public
from codelupe_downloader.git import RepositoryRefused

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.1",
            "0",
            "0x7f000001",
            "2130706433",
            "017700000001",
            "localhost",
            "\uff11\uff12\uff17.0.0.1",
        ),
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
    ],
)
async def test_a_host_inside_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(NotPublic, match="on this machine or its network"):
        await require_public(host)


@pytest.mark.parametrize("host", ["140.82.121.4", "2606:50c0:8000::153", "no-such-name.invalid", "64:ff9b::8c52:7904"])
async def test_others_are_left_to_git(host: str) -> None:
    await require_public(host)


@pytest.mark.parametrize("host", ["[::1", "[127.0.0.1", "a" * 64 + ".example", "a..b"])
async def test_what_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(RepositoryRefused, match="no name of a host"):
        await require_public(host)


def test_only_what_is_on_this_machine_can_be_missing_here(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    there = (tmp_path / "a b").as_uri()
    missing = str(tmp_path / "c d")
    assert [missing_folder(url) for url in (there, str(tmp_path), "https://host/r", "host:r", "http://[bad/", "")] == [
        None
    ] * 6
    assert missing_folder((tmp_path / "c d").as_uri()) == missing_folder(missing) == missing
    assert missing_folder(f"file://host{tmp_path}") is None
    assert missing_folder("/" + "x" * 5000) is not None
