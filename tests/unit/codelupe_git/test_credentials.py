from __future__ import annotations

import pytest
from pydantic import SecretStr

from codelupe_git.credentials import (
    Credential,
    NoCredential,
    address_of,
    host_of,
    read_credentials,
    without_credential,
)

TOKEN = "s3cr3t/t@ken:x"


@pytest.mark.parametrize(
    ("url", "bare", "username", "password"),
    [
        ("https://host/o/r", "https://host/o/r", None, None),
        ("https://user:token@host/o/r", "https://host/o/r", "user", "token"),
        ("https://token@host/o/r.git", "https://host/o/r.git", "token", ""),
        ("https://user:pass%40word@host:8443/r", "https://host:8443/r", "user", "pass@word"),
        ("https://user:pa/ss@host/r", "https://host/r", "user", "pa/ss"),
        ("https://user:p@ss@host/r", "https://host/r", "user", "p@ss"),
        ("http://host:80/o/r@v1", "http://host:80/o/r@v1", None, None),
        ("ssh://git:word@host/r", "ssh://git@host/r", None, None),
        ("git@host:o/r", "git@host:o/r", None, None),
        ("https://u:a%0ahost=evil@host/r", "https://host/r", None, None),
        ("file:///srv/a@b", "file:///srv/a@b", None, None),
    ],
)
def test_a_url_is_parted_from_what_it_says_of_a_user(
    url: str, bare: str, username: str | None, password: str | None
) -> None:
    found, credential = without_credential(url)
    assert found == bare
    told = (credential.username, credential.password.get_secret_value()) if credential else (None, None)
    assert told == (username, password)


def test_credentials_are_lines_as_of_git_credential_store() -> None:
    found = read_credentials("# comment\n\nhttps://u:t@Host/\nhttp://a:b@localhost:80\n")
    assert {address: one.username for address, one in found.items()} == {
        "https://host": "u",
        "http://localhost:80": "a",
    }


@pytest.mark.parametrize("line", [TOKEN, "https://host", "ssh://u:p@host", "https://:tok@host"])
def test_what_is_no_credential_is_not_quoted(line: str) -> None:
    with pytest.raises(NoCredential) as error:
        read_credentials(f"https://u:t@host\n{line}")
    assert str(error.value) == "line 2 is not https://user:token@host"


def test_what_a_host_repeats_is_hidden_in_any_coding() -> None:
    credential = Credential(address="https://h", username="u", password=SecretStr(TOKEN))
    said = f"bad token {TOKEN}, s3cr3t%2Ft%40ken%3Ax, Basic dTpzM2NyM3QvdEBrZW46eA=="
    assert credential.hidden_in(said) == "bad token ***, ***, Basic ***"
    assert TOKEN not in repr(credential)


@pytest.mark.parametrize(
    ("url", "address", "host"),
    [
        ("https://GitHub.com/o/r", "https://github.com", "github.com"),
        ("https://u:p@host:8443/o", "https://host:8443", "host"),
        ("file:///srv/r", "", None),
        ("/srv/r", "", None),
        ("git@host:o/r", "", "host"),
        ("http://[bad/", "http://[bad", None),
        ("", "", None),
    ],
)
def test_hosts_and_addresses(url: str, address: str, host: str | None) -> None:
    assert (address_of(url), host_of(url)) == (address, host)
