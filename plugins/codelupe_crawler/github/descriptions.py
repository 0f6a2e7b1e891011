"""Repositories as GitHub's two APIs describe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from codelupe import Repository

SOURCE = "github"
_NO_LICENCE = {"NOASSERTION", "OTHER", "NONE"}
"""What GitHub writes where it does not recognise a licence; it is no SPDX id."""
_LARGEST_ID = 2**63 - 1
_LONGEST_DESCRIPTION = 10_000
"""Characters, of which fewer are recorded; GitHub's own have 350 at most."""
Terms = Callable[[str, str | None, tuple[str, ...]], tuple[str, ...]]
"""The terms that a name, a description and topics have."""

NODE_FIELDS = """
id databaseId nameWithOwner url description primaryLanguage { name } licenseInfo { spdxId } stargazerCount forkCount
diskUsage repositoryTopics(first: 20) { nodes { topic { name } } } isFork isArchived isDisabled isTemplate isMirror
isPrivate pushedAt createdAt defaultBranchRef { name } watchers { totalCount }
"""


def from_rest(item: Mapping[str, Any], terms: Terms) -> Repository:
    """An item of REST's search, or a repository by itself, which alone tells the watchers.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: it lacks what GitHub says that each has.
    """
    topics = tuple(sorted(item.get("topics") or ()))
    description = (item.get("description") or "")[:_LONGEST_DESCRIPTION] or None
    return Repository(
        source=SOURCE,
        external_id=_id(item["id"]),
        full_name=item["full_name"],
        url=_clone_url(item["html_url"]),
        revision=item.get("pushed_at") or item["created_at"],
        description=description,
        language=item.get("language"),
        licence=_licence((item.get("license") or {}).get("spdx_id")),
        stars=item["stargazers_count"],
        forks=item["forks_count"],
        size_kib=item.get("size") or 0,
        topics=topics,
        is_fork=bool(item.get("fork")),
        is_archived=bool(item.get("archived")),
        pushed_at=_time(item.get("pushed_at")),
        default_branch=item.get("default_branch"),
        created_at=_time(item.get("created_at")),
        watchers=item.get("subscribers_count"),
        is_template=bool(item.get("is_template")),
        is_mirror=item.get("mirror_url") is not None,
        is_disabled=bool(item.get("disabled")),
        terms=terms(item["full_name"], description, topics),
        handle=item.get("node_id"),
    )


def from_node(node: Mapping[str, Any], terms: Terms) -> Repository:
    """A node of GraphQL with :data:`NODE_FIELDS`.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: it lacks what GitHub says that each has.
    """
    named = (node.get("repositoryTopics") or {}).get("nodes") or ()
    topics = tuple(sorted(each["topic"]["name"] for each in named if each))
    description = (node.get("description") or "")[:_LONGEST_DESCRIPTION] or None
    return Repository(
        source=SOURCE,
        external_id=_id(node["databaseId"]),
        full_name=node["nameWithOwner"],
        url=_clone_url(node["url"]),
        revision=node.get("pushedAt") or node["createdAt"],
        description=description,
        language=(node.get("primaryLanguage") or {}).get("name"),
        licence=_licence((node.get("licenseInfo") or {}).get("spdxId")),
        stars=node["stargazerCount"],
        forks=node["forkCount"],
        size_kib=node.get("diskUsage") or 0,
        topics=topics,
        is_fork=node["isFork"],
        is_archived=node["isArchived"],
        pushed_at=_time(node.get("pushedAt")),
        default_branch=(node.get("defaultBranchRef") or {}).get("name"),
        created_at=_time(node.get("createdAt")),
        watchers=(node.get("watchers") or {}).get("totalCount"),
        is_template=node["isTemplate"],
        is_mirror=node["isMirror"],
        is_disabled=node["isDisabled"],
        terms=terms(node["nameWithOwner"], description, topics),
        handle=node["id"],
    )


def _clone_url(page: str) -> str:
    return f"{page.removesuffix('.git')}.git"


def _licence(spdx_id: str | None) -> str | None:
    return None if not spdx_id or spdx_id.upper() in _NO_LICENCE else spdx_id


def _id(number: Any) -> str:
    if isinstance(number, bool | float) or not 1 <= int(number) <= _LARGEST_ID:
        raise ValueError(f"{number!r} is no id")
    return str(int(number))


def _time(text: str | None) -> datetime | None:
    """By UTC also where it says nothing else, or another year begins there."""
    if not text:
        return None
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
