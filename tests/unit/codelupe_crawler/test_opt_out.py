from __future__ import annotations

import os
from pathlib import Path

import pytest

from codelupe_crawler.opt_out import OptOut, OptOutList, OptOutUnreadable

pytestmark = pytest.mark.anyio


async def opt_out(tmp_path: Path, text: str, name: str = "list.txt") -> OptOut:
    path = tmp_path / name
    path.write_text(text)
    return await OptOutList([path]).current()


@pytest.mark.parametrize(
    "entry",
    [
        "owner/name", "OWNER/Name", "https://github.com/owner/name", "https://github.com/Owner/Name.git",
        "http://www.github.com/owner/name/tree/main?tab=readme#top", "git@github.com:owner/name.git",
        "ssh://git@github.com:22/owner/name", "github.com/owner/name/", "  owner/name  # asked on 3 May",
        "https://user:secret@github.com/owner/name", "owner", "@owner", "owner/*", "https://github.com/owner",
    ],
)  # fmt: skip
async def test_a_repository_is_listed_however_it_is_written(entry: str, tmp_path: Path) -> None:
    listed = await opt_out(tmp_path, f"# those who asked\n\n{entry}\n")
    assert listed.is_listed("Owner/NAME")
    assert listed.is_listed("renamed/since", "https://github.com/owner/name")
    assert listed.is_listed(None, "git@github.com:owner/name.git")
    assert listed.is_listed("https://github.com/owner/name/issues")
    assert not listed.is_listed("other/name", "https://github.com/other/name")
    assert not listed.is_listed("own/er", "owner-2/name", "name/owner", "", None)


async def test_a_repository_s_name_is_no_owner_s(tmp_path: Path) -> None:
    listed = await opt_out(tmp_path, "name\n")
    assert not listed.is_listed("owner/name", "https://github.com/owner/name.git")


async def test_another_host_is_another_address(tmp_path: Path) -> None:
    listed = await opt_out(tmp_path, "https://gitlab.com/group/sub\nfile:///srv/git/one.git\nnpm/@scope\n")
    assert listed.is_listed("sub/name", "https://gitlab.com/Group/Sub/name.git")
    assert listed.is_listed("git/one", "file:///srv/git/one.git")
    assert listed.is_listed("npm/@scope/name")
    assert not listed.is_listed("group/sub", "https://github.com/group/sub")
    assert not listed.is_listed("git/two", "file:///srv/git/two.git", "npm/@scoped/name")


async def test_repositories_are_picked_from_a_notice_in_markdown(tmp_path: Path) -> None:
    notice = """
# Takedown of 2026-05-03

I am the owner. See <https://github.com/contact/dmca> and https://docs.github.com/en/site-policy.
The code at [this address](https://github.com/Taker/Copied-Code/blob/main/a.py) and
https://github.com/other/thing.git, and https://github.com/third/last.
    """
    listed = await opt_out(tmp_path, notice, "2026-05-03-owner.md")
    assert listed.names == {"taker/copied-code", "other/thing", "third/last"}
    with pytest.raises(OptOutUnreadable, match=r"empty\.md cannot be read: it is Markdown, and names no"):
        await opt_out(tmp_path, "# Nothing\n", "empty.md")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("owner/name\nplease remove my code\n", "line 2 is neither OWNER"),
        ("own*/name\n", "line 1 is neither"),
        ("https://github.com/\n", "line 1 is neither"),
        ("https://gitlab.com\n", "line 1 is neither"),
        ("github.com\n", "line 1 is neither"),
        ("owner,other\n", "line 1 is neither"),
        ("/\n", "line 1 is neither"),
        ("<html>\n", "line 1 is neither"),
    ],
)
async def test_a_line_that_names_nothing_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptOutUnreadable, match=message) as raised:
        await opt_out(tmp_path, text)
    assert "Nothing is crawled until it can" in str(raised.value.hint)


async def test_a_list_that_cannot_be_read_is_an_error_and_no_empty_list(tmp_path: Path) -> None:
    listed = OptOutList([tmp_path / "list.txt"])
    with pytest.raises(OptOutUnreadable, match="No such file"):
        await listed.current()
    (tmp_path / "list.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(OptOutUnreadable, match="not UTF-8"):
        await listed.current()
    (tmp_path / "list.txt").write_text("")
    assert (await listed.current()).names == set()
    (tmp_path / "list.txt").unlink()
    with pytest.raises(OptOutUnreadable, match="No such file"):
        await listed.current()
    with pytest.raises(OptOutUnreadable, match="directory"):
        await OptOutList([tmp_path]).current()


async def test_without_a_list_all_may_be_stored() -> None:
    assert not (await OptOutList().current()).is_listed("owner/name")


async def test_a_list_that_changes_is_read_again_and_else_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("first\n")
    two.write_text("\ufeffsecond/x\r\n")
    listed = OptOutList([one, two])
    assert (await listed.current()).names == {"first", "second/x"}
    with monkeypatch.context() as patch:
        patch.setattr("codelupe_crawler.opt_out.read_opt_out", None)
        assert (await listed.current()).names == {"first", "second/x"}
    one.write_text("third\n")
    os.utime(one, ns=(1, 1))
    assert (await listed.current()).names == {"third", "second/x"}
