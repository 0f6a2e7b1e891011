"""Repositories, owners and users as REST and GraphQL show them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from tests.simulated_github.world import LANGUAGES, World

API = "https://api.github.com"
_REPOSITORY_URLS = {
    "archive": "/{archive_format}{/ref}", "assignees": "/assignees{/user}", "blobs": "/git/blobs{/sha}",
    "branches": "/branches{/branch}", "collaborators": "/collaborators{/collaborator}",
    "comments": "/comments{/number}", "commits": "/commits{/sha}", "compare": "/compare/{base}...{head}",
    "contents": "/contents/{+path}", "contributors": "/contributors", "deployments": "/deployments",
    "downloads": "/downloads", "events": "/events", "forks": "/forks", "git_commits": "/git/commits{/sha}",
    "git_refs": "/git/refs{/sha}", "git_tags": "/git/tags{/sha}", "hooks": "/hooks",
    "issue_comment": "/issues/comments{/number}", "issue_events": "/issues/events{/number}",
    "issues": "/issues{/number}", "keys": "/keys{/key_id}", "labels": "/labels{/name}", "languages": "/languages",
    "merges": "/merges", "milestones": "/milestones{/number}",
    "notifications": "/notifications{?since,all,participating}", "pulls": "/pulls{/number}",
    "releases": "/releases{/id}", "stargazers": "/stargazers", "statuses": "/statuses/{sha}",
    "subscribers": "/subscribers", "subscription": "/subscription", "tags": "/tags", "teams": "/teams",
    "trees": "/git/trees{/sha}",
}  # fmt: skip
_USER_URLS = {
    "events": "/events{/privacy}", "followers": "/followers", "following": "/following{/other_user}",
    "gists": "/gists{/gist_id}", "organizations": "/orgs", "received_events": "/received_events", "repos": "/repos",
    "starred": "/starred{/owner}{/repo}", "subscriptions": "/subscriptions",
}  # fmt: skip


def node_id(number: int) -> str:
    return f"R_kg{number:x}"


def number_of(node: str) -> int | None:
    """The repository's number, if it is a repository's node id."""
    try:
        return int(node.removeprefix("R_kg"), 16) if node.startswith("R_kg") else None
    except ValueError:
        return None


def user_number(login: str) -> int:
    return crc32(login.encode()) & 0x7FFFFFFF


def watchers_of(world: World, index: int) -> int:
    return int(world.stars[index]) // 9


def as_item(world: World, index: int) -> dict[str, Any]:
    """As an item of a search."""
    name, number = world.name_of(index), int(world.id[index])
    owner, _, short = name.partition("/")
    url, html = f"{API}/repos/{name}", f"https://github.com/{name}"
    stars, forks, pushed = int(world.stars[index]), int(world.forks[index]), _time(world.pushed[index])
    return {
        "id": number,
        "node_id": node_id(number),
        "name": short,
        "full_name": name,
        "private": False,
        "owner": as_user(owner),
        "html_url": html,
        "description": world.describe(index),
        "fork": bool(world.fork[index]),
        "url": url,
        **{f"{part}_url": url + rest for part, rest in _REPOSITORY_URLS.items()},
        "created_at": _time(world.created[index]),
        "updated_at": pushed,
        "pushed_at": pushed,
        "git_url": f"git://github.com/{name}.git",
        "ssh_url": f"git@github.com:{name}.git",
        "clone_url": f"{html}.git",
        "svn_url": html,
        "homepage": None,
        "size": int(world.size[index]),
        "stargazers_count": stars,
        "watchers_count": stars,
        "language": LANGUAGES[world.language[index]],
        **dict.fromkeys(("has_issues", "has_projects", "has_downloads", "has_wiki"), True),
        **dict.fromkeys(("has_pages", "has_discussions", "disabled"), False),
        "forks_count": forks,
        "mirror_url": "https://example.org/mirror" if world.mirror[index] else None,
        "archived": bool(world.archived[index]),
        "open_issues_count": 0,
        "license": _licence(world.licence_of(index)),
        "allow_forking": True,
        "is_template": bool(world.template[index]),
        "topics": world.topics_of(index),
        "visibility": "public",
        "forks": forks,
        "open_issues": 0,
        "watchers": stars,
        "default_branch": "main",
        "score": 1.0,
    }


def as_repository(world: World, index: int) -> dict[str, Any]:
    """As GET /repos/{owner}/{repo} shows it; only here are the watchers."""
    item = as_item(world, index)
    del item["score"]
    return {**item, "network_count": item["forks_count"], "subscribers_count": watchers_of(world, index)}


def as_user(login: str) -> dict[str, Any]:
    """An owner, or the user whose token it is."""
    number = user_number(login)
    url = f"{API}/users/{login}"
    return {
        "login": login,
        "id": number,
        "node_id": f"U_kg{number:x}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"https://github.com/{login}",
        **{f"{part}_url": url + rest for part, rest in _USER_URLS.items()},
        "type": "User",
        "site_admin": False,
    }


def as_public_user(login: str) -> dict[str, Any]:
    """As GET /user shows whose token it is."""
    nothing = dict.fromkeys(("name", "company", "blog", "location", "email", "hireable", "bio"))
    counts = dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0)
    since = {"created_at": "2015-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"}
    return {**as_user(login), "user_view_type": "public", **nothing, "blog": "", **counts, **since}


def as_node(world: World, index: int) -> dict[str, Any]:
    """As GraphQL's Repository."""
    name, number = world.name_of(index), int(world.id[index])
    owner, _, short = name.partition("/")
    language, licence, topics = LANGUAGES[world.language[index]], world.licence_of(index), world.topics_of(index)
    stars, pushed = int(world.stars[index]), _time(world.pushed[index])
    languages = [] if language is None else [_named("L", language)]
    return {
        "__typename": "Repository",
        "id": node_id(number),
        "databaseId": number,
        "name": short,
        "nameWithOwner": name,
        "url": f"https://github.com/{name}",
        "owner": as_user_node(owner),
        "description": world.describe(index),
        "stargazerCount": stars,
        "stargazers": {"totalCount": stars},
        "forkCount": int(world.forks[index]),
        "diskUsage": int(world.size[index]),
        "homepageUrl": None,
        "isFork": bool(world.fork[index]),
        "isArchived": bool(world.archived[index]),
        "isMirror": bool(world.mirror[index]),
        "mirrorUrl": "https://example.org/mirror" if world.mirror[index] else None,
        "isTemplate": bool(world.template[index]),
        **dict.fromkeys(("isDisabled", "isEmpty", "isLocked", "isPrivate"), False),
        "visibility": "PUBLIC",
        "createdAt": _time(world.created[index]),
        "pushedAt": pushed,
        "updatedAt": pushed,
        "primaryLanguage": languages[0] if languages else None,
        "languages": {"nodes": languages, "totalCount": len(languages), "totalSize": 1_000},
        "licenseInfo": None if licence is None else {
            **_named("LI", licence), "key": _key(licence), "spdxId": licence, "url": None
        },
        "repositoryTopics": {
            "nodes": [{"id": f"RT_{topic}", "topic": _named("T", topic)} for topic in topics],
            "totalCount": len(topics),
        },
        "watchers": {"totalCount": watchers_of(world, index)},
        "defaultBranchRef": {
            **_named("REF", "main"),
            "target": {"__typename": "Commit", "id": f"C_{number}", "oid": f"{number:020x}{world.pushed[index]:020x}"},
        },
    }  # fmt: skip


def as_user_node(login: str) -> dict[str, Any]:
    number = user_number(login)
    return {
        "__typename": "User", "id": f"U_kg{number:x}", "databaseId": number, "login": login,
        "url": f"https://github.com/{login}",
    }  # fmt: skip


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"id": f"{kind}_{name}", "name": name}


def _key(licence: str) -> str:
    return "other" if licence == "NOASSERTION" else licence.lower()


def _licence(spdx: str | None) -> dict[str, Any] | None:
    if spdx is None:
        return None
    url = None if spdx == "NOASSERTION" else f"{API}/licenses/{_key(spdx)}"
    name = "Other" if spdx == "NOASSERTION" else spdx
    return {"key": _key(spdx), "name": name, "spdx_id": spdx, "url": url, "node_id": f"LI_{_key(spdx)}"}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
