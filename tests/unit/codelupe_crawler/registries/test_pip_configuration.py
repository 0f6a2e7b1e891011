from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from codelupe_crawler.registries.fetching import Fetcher
from codelupe_crawler.registries.pip_configuration import PYPI, PipConfiguration, read_configuration
from codelupe_crawler.registries.release import RegistryFailed

pytestmark = pytest.mark.anyio


def test_without_configuration_it_is_pypi() -> None:
    assert read_configuration("") == PipConfiguration(indexes=(PYPI,), credentials={})


def test_pip_s_order_holds() -> None:
    found = read_configuration(
        ":env:.index-url='https://three.example/simple'\n"
        "download.index-url='https://two.example/simple'\ndownload.proxy='http://proxy:3128'\n"
        "global.index-url='https://one.example/simple'\nglobal.proxy='http://other:3128'\ninstall.proxy='http://third'\n"
    )
    assert found.indexes == ("https://three.example/simple",)
    assert found.proxy == "http://proxy:3128"


def test_several_indexes_with_credentials_are_told_apart() -> None:
    found = read_configuration(
        "global.index-url='https://user:p%40ss@one.example:8443/simple/'\n"
        "global.extra-index-url='https://token@two.example/simple\\nfile:///srv/simple https://one.example:8443/simple'\n"
        "global.trusted-host='two.example\\nthree.example'\nglobal.cert='/etc/ca.pem'\nglobal.client-cert='/etc/me.pem'\n"
    )
    assert found.indexes == (
        *("https://one.example:8443/simple", "https://two.example/simple"),
        "file:///srv/simple",
    )
    assert found.credentials == {"one.example:8443": ("user", "p@ss"), "two.example": ("token", "")}
    assert found.trusted_hosts == {"two.example", "three.example"}
    assert (found.certificates, found.client_certificate) == ("/etc/ca.pem", "/etc/me.pem")


@pytest.mark.parametrize("value", ["true", "1", "Yes"])
def test_no_index_means_none(value: str) -> None:
    with pytest.raises(RegistryFailed, match="no-index"):
        read_configuration(f"global.no-index='{value}'\n")
    assert read_configuration("global.no-index='false'\n").indexes == (PYPI,)


def test_a_value_that_cannot_be_read_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(RegistryFailed, match="says of index-url what cannot be read") as raised:
        read_configuration("global.index-url='https://user:secret@one.example\n")
    assert "secret" not in str(raised.value)


def test_a_trusted_host_needs_no_certificate_and_others_do(tmp_path: Path) -> None:
    configuration = read_configuration("")
    assert configuration.tls(trusted=False).verify_mode == ssl.CERT_REQUIRED
    assert configuration.tls(trusted=True).verify_mode == ssl.CERT_NONE
    missing = read_configuration(f"global.cert='{tmp_path}/absent.pem'\n")
    with pytest.raises(RegistryFailed, match="certificates that pip is to use cannot be read"):
        missing.tls(trusted=False)


async def test_a_host_is_not_asked_in_the_clear_unless_it_is_trusted() -> None:
    async with Fetcher(read_configuration(""), 1) as fetcher:
        with pytest.raises(RegistryFailed, match=r"index\.example is not asked without https"):
            await fetcher.get("http://index.example/simple/", limit=1)
