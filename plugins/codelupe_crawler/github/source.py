"""What to ask GitHub for, and what its answers mean."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, cast

import httpx2

from codelupe import (
    Forecast,
    Gone,
    KnownRepository,
    Page,
    Repository,
    RetryLater,
    Slice,
    SourceContext,
    SourceMode,
    Want,
    faults_of_repository,
    storable,
)
from codelupe_crawler.github.client import ACCEPT, API_VERSION, SPACING, GitHubClient, GitHubFailed, decoded, said
from codelupe_crawler.github.descriptions import NODE_FIELDS, Terms, from_node, from_rest
from codelupe_crawler.github.partition import (
    COUNTS,
    MOST_CHARACTERS,
    MOST_RESULTS,
    PAGE,
    Part,
    grouped,
    helps_little,
    parts_of,
    ways_to_part,
)
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_events import GoneReason

ANONYMOUS = "anonymous"
_FIRST = datetime(2008, 1, 1, tzinfo=UTC)
"""GitHub opened in this year."""
_PUBLIC = "is:public"
"""A token may let its owner find private repositories, too."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TIMEOUT = timedelta(seconds=30)
_ASK_AGAIN = timedelta(seconds=10)
"""Whose a token is, if GitHub failed to say."""
_AGAIN = 2
"""So often a page is asked for again that lacks some of what it should have."""
_FEWEST_COUNTS = 4
_MOST_PARTS = 1000
"""Of a slice at once; each can be parted again."""
_LARGEST_COUNT = 2**31 - 1
_LONGEST_LOGIN = 100
_OTHERWISE = "otherwise"
"""The cursor of a slice that is to be parted by another of its ranges than the usual one."""
_REFRESH = "refresh before:"
_NODES = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on Repository {{ {NODE_FIELDS} }} }} }}"
_LOST = ("NOT_FOUND", "FORBIDDEN")
"""Types of GraphQL's errors for a repository that is not given out, or not to this account; REST says why."""
_REASONS: Mapping[int, GoneReason] = {404: "deleted", 410: "deleted", 451: "blocked"}


class GitHubSource:
    """GitHub's search, asked by whatever accounts the tokens belong to."""

    name = "github"

    def __init__(
        self, settings: GitHubSettings, terms: Terms, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """``transport`` replaces the network in tests."""
        self._settings = settings
        self._gate = f"{settings.gate} {_PUBLIC}"
        self._terms = terms
        self._transport = transport
        self._tokens = [token.get_secret_value() for token in settings.tokens]
        self._accounts: dict[str, list[str]] | None = None
        self._in_a_row = Counter[str]()
        self._refused: set[str] = set()
        self._has_explained = False

    async def accounts(self, context: SourceContext) -> Sequence[str]:
        """The logins that the tokens belong to; each token is asked once, whichever daemon asks."""
        if self._accounts is None:
            accounts: dict[str, list[str]] = {}
            for token in dict.fromkeys(self._tokens):
                if (login := await self._login_of(token, context)) is not None:
                    accounts.setdefault(login, []).append(token)
            self._accounts = accounts
        if not self._accounts:
            self._explain_once(context)
        return list(self._accounts) or [ANONYMOUS]

    async def plan(self, want: Want, context: SourceContext) -> Sequence[Slice]:
        """A slice for each term, or for each language, to be parted; no request is made."""
        if want.mode == SourceMode.REFRESH:
            return [Slice(query=f"{_REFRESH}{want.at.isoformat()}", budget="graphql")] if self._tokens else []
        if want.mode == SourceMode.TERMS:
            return [Slice(query=query, budget="search") for query in self._term_queries(want.terms, context)]
        if want.mode == SourceMode.CHANGES and want.since is None:
            return []
        axis, since = ("pushed", want.since) if want.mode == SourceMode.CHANGES else ("created", None)
        span = f"{axis}:{(since or _FIRST).strftime(_TIME)}..{want.at.strftime(_TIME)}"
        budget = "graphql" if self._tokens else "search"
        return [
            Slice(query=f"language:{_quoted(language)} {span} {self._gate}", budget=budget)
            for language in self._settings.languages
        ]

    async def forecast(self, want: Want, slices: Sequence[Slice], context: SourceContext) -> Forecast:
        """By the number of pages. Tokens that were never used are taken to be of one account."""
        logins = [login for token in self._tokens if (login := await context.recall(_key(token))) != ""]
        accounts = len(set(logins) - {None}) or 1
        kind = "graphql" if want.mode == SourceMode.REFRESH else "search"
        return Forecast(
            least=len(slices),
            most=len(slices) * self._settings.pages_per_term if want.mode == SourceMode.TERMS else None,
            spacing=SPACING[bool(logins)][kind] / accounts,
            rate=f"the rate of {accounts} account{'s' * (accounts > 1)}" if logins else "the anonymous rate",
        )

    @asynccontextmanager
    async def open(self, account: str, context: SourceContext) -> AsyncIterator[GitHubSession]:
        """A client over one connection, closed in the end."""
        async with self._http() as http:
            tokens = (self._accounts or {}).get(account, [])

            async def refuse(token: str) -> None:
                await self._forget_token(token, account, context)

            client = GitHubClient(http, account, tokens, context, refuse, self._in_a_row)
            yield GitHubSession(client, self._settings, self._terms, context)

    def _http(self) -> httpx2.AsyncClient:
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # of each request a line; ours tell what comes of it
        return httpx2.AsyncClient(
            base_url=self._settings.api_url,
            headers={
                "accept": ACCEPT,
                "x-github-api-version": API_VERSION,
                "user-agent": f"CodeLupe ({self._settings.contact or 'no contact is set'})",
            },
            timeout=_TIMEOUT.total_seconds(),
            transport=self._transport,
        )

    async def _login_of(self, token: str, context: SourceContext) -> str | None:
        """None if GitHub refuses the token.

        Raises:
            RetryLater: it cannot be told now.
        """
        key = _key(token)
        if (known := await context.recall(key)) is not None:
            if not known:
                self._tell_refused(token, context)
            return known or None

        async def refuse(token: str) -> None:
            await self._report_refused(token, context)

        async with self._http() as http:
            client = GitHubClient(http, key, [token], context, refuse, self._in_a_row)
            try:
                response = await client.get("core", "/user")
                login = _login(decoded(response))
            except GitHubFailed as error:
                reason = f"GitHub has not told whose token {_fingerprint(token)} is: {error!r}"
                raise RetryLater(reason, after=_ASK_AGAIN, counts=False) from None
        await context.remember(key, login)
        return login

    async def _forget_token(self, token: str, account: str, context: SourceContext) -> None:
        await self._report_refused(token, context)
        if self._accounts is not None:
            self._accounts[account] = [each for each in self._accounts.get(account, []) if each != token]
            self._accounts = {login: tokens for login, tokens in self._accounts.items() if tokens}

    async def _report_refused(self, token: str, context: SourceContext) -> None:
        await context.remember(_key(token), "")
        self._tell_refused(token, context)

    def _tell_refused(self, token: str, context: SourceContext) -> None:
        """Once in a process: it is refused for as long as it is set."""
        if token not in self._refused:
            context.log.error("token_refused", fingerprint=_fingerprint(token))
        self._refused.add(token)

    def _explain_once(self, context: SourceContext) -> None:
        if not self._has_explained:
            context.log.warning(
                "no_token",
                hint="GitHub answers 10 searches a minute without a token, 30 with one. Set `tokens` of "
                "[plugins.crawler.github].",
            )
        self._has_explained = True

    def _term_queries(self, terms: Sequence[str], context: SourceContext) -> list[str]:
        queries = {f"{term} {self._gate}": term for term in terms}
        for query, term in queries.items():
            if len(query) > MOST_CHARACTERS:
                context.log.warning("term_too_long", term=term, most_characters=MOST_CHARACTERS)
        return [query for query in queries if len(query) <= MOST_CHARACTERS]


class GitHubSession:
    """One account at work."""

    def __init__(self, client: GitHubClient, settings: GitHubSettings, terms: Terms, context: SourceContext) -> None:
        self._client = client
        self._settings = settings
        self._terms = terms
        self._context = context
        self._overtaxed = 0
        self._page_asked: tuple[str, int] | None = None
        self._ids: set[str] = set()
        self._asked_last: list[str] = []
        self._failures = Counter[str]()

    async def ask(self, slice: Slice, cursor: str | None) -> Page:  # noqa: A002 - as in the contract
        """Count the parts of a slice whose size is unknown, or take a page of one that is small enough."""
        if slice.query.startswith(_REFRESH):
            return await self._refresh(slice.query, cursor)
        if cursor is None or cursor == _OTHERWISE:
            if slice.budget == "graphql" and self._client.has_token:
                return await self._part(slice.query, otherwise=cursor == _OTHERWISE)
            cursor = "1"
        page, _, again = cursor.partition(".")
        return await self._page(slice.query, int(page), int(again or 0))

    async def _part(self, query: str, *, otherwise: bool) -> Page:
        """Where all was created within a short time, parts by size take fewer requests than ever shorter times."""
        ways = list(ways_to_part(query, max(_FEWEST_COUNTS, COUNTS >> max(0, self._overtaxed - 1))))
        if not ways:
            return Page(next="1")
        groups = grouped(await self._counted(ways[1 if otherwise and len(ways) > 1 else 0]))
        if not groups:
            return Page(total=0)
        if helps_little(groups) and not otherwise and len(ways) > 1:
            return Page(next=_OTHERWISE)
        if [group.query for group in groups] == [query]:
            return Page(next="1", total=groups[0].total)
        return Page(
            instead=[
                Slice(query=group.query, budget="graphql" if group.total is None else "search", total=group.total)
                for group in groups
            ]
        )

    async def _counted(self, parts: Sequence[str]) -> list[Part]:
        """By one request. When several fail in a row it may have been too much for GitHub, so the next is smaller."""
        asked = " ".join(
            f"c{n}: search(query: $q{n}, type: REPOSITORY) {{ repositoryCount }}" for n in range(len(parts))
        )
        variables = {f"q{n}": part for n, part in enumerate(parts)}
        declared = ", ".join(f"${name}: String!" for name in variables)
        self._overtaxed += 1
        answer = await self._client.graphql(f"query({declared}) {{ {asked} }}", variables)
        searches = [answer["data"].get(f"c{n}") for n in range(len(parts))]
        counts = [each.get("repositoryCount") if isinstance(each, dict) else None for each in searches]
        uncounted = [count for count in counts if not _is_count(count)]
        if uncounted:
            raise GitHubFailed(f"{len(uncounted)} of {len(counts)} searches were not counted: {uncounted[0]!r:.100}")
        self._overtaxed = 0
        return [Part(part, count) for part, count in zip(parts, counts, strict=True)]

    async def _page(self, query: str, page: int, again: int) -> Page:
        body = await self._searched(query, page)
        found = [each for item in body["items"] if (each := self._read(from_rest, item)) is not None]
        most, total = self._most_of(query), body["total_count"]
        if page == 1 and total > MOST_RESULTS == most:
            parts = parts_of(query, min(_MOST_PARTS, ceil(total / (MOST_RESULTS * 0.8))))
            if len(parts) > 1:
                return Page(instead=[Slice(query=part, budget="search") for part in parts])
        lacking = min(PAGE, min(total, most) - PAGE * (page - 1)) - self._came(query, page, found)
        is_incomplete = body.get("incomplete_results") is True
        held = None if is_incomplete else total if most == MOST_RESULTS else min(total, most)
        if (lacking > 0 or is_incomplete) and again < _AGAIN:
            return Page(repositories=found, next=f"{page}.{again + 1}", total=held)
        notes = {
            f"{lacking} of page {page} never came": lacking > 0,
            f"GitHub did not come to the end of its search for page {page}": is_incomplete,
            f"it finds {total}, of which GitHub gives {MOST_RESULTS}": total > most == MOST_RESULTS,
        }
        return Page(
            repositories=found,
            next=None if PAGE * page >= min(total, most) else str(page + 1),
            total=held,
            note="; ".join(note for note, is_so in notes.items() if is_so) or None,
        )

    async def _searched(self, query: str, page: int) -> dict[str, Any]:
        """Newest first: what is pushed to meanwhile moves to the front, so that others come twice and none is left out.

        Raises:
            GitHubFailed: the answer is none to a search.
        """
        asked: dict[str, str | int] = {"q": query, "sort": "updated", "order": "desc", "per_page": PAGE, "page": page}
        response = await self._client.get("search", "/search/repositories", asked)
        body = decoded(response)
        is_answer = (
            isinstance(body, dict) and isinstance(body.get("items"), list) and _is_count(body.get("total_count"))
        )
        if response.status_code != 200 or not is_answer:
            raise GitHubFailed(f"HTTP {response.status_code}: {_message(body)}", response.status_code)
        return cast("dict[str, Any]", body)

    def _came(self, query: str, page: int, found: Sequence[Repository]) -> int:
        """How many different ones of this page have come, all the times that it was asked for in a row."""
        if self._page_asked != (query, page):
            self._page_asked, self._ids = (query, page), set()
        self._ids |= {each.external_id for each in found}
        return len(self._ids)

    def _read(self, read: Callable[[Mapping[str, Any], Terms], Repository], item: Any) -> Repository | None:
        """None where there is nothing, or nothing of use."""
        if item is None:
            return None
        try:
            described = read(item, self._terms)
            fault = faults_of_repository(described)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            fault = repr(error)
        if fault:
            self._context.log.warning("description_malformed", error=fault[:300])
            return None
        return described

    def _most_of(self, query: str) -> int:
        """How many results are asked for: of a term, those of its first pages."""
        is_parted = " created:" in query or " pushed:" in query
        return MOST_RESULTS if is_parted else PAGE * self._settings.pages_per_term

    async def _refresh(self, query: str, cursor: str | None) -> Page:
        """The next hundred that were described longest ago, or one of these that is no longer given out."""
        if not self._client.has_token:
            return Page(note="GitHub tells only who has a token what has become of many repositories")
        done, _, lost = (cursor or "0").partition(" ")
        if int(done) >= self._settings.refresh_requests:
            return Page()
        if lost:
            first, _, others = lost.partition(",")
            return await self._look_at(first, f"{int(done) + 1} {others}".strip())
        before = datetime.fromisoformat(query.removeprefix(_REFRESH))
        known = await self._context.oldest_known(seen_before=before, limit=PAGE)
        if not known:
            return Page()
        ids = [each.external_id for each in known]
        if ids == self._asked_last:
            return Page(note=f"GitHub does not say what has become of {len(known)}, such as {known[0].full_name}")
        found, lost_ids = await self._described([each for each in known if each.handle])
        self._asked_last = ids
        lost_ids += [each.external_id for each in known if not each.handle]
        return Page(repositories=found, next=f"{int(done) + 1} {','.join(lost_ids)}".strip())

    async def _described(self, known: Sequence[KnownRepository]) -> tuple[list[Repository], list[str]]:
        """What GitHub says of them, and the ids of those that it does not have; for the rest it had no time."""
        if not known:
            return [], []
        answer = await self._client.graphql(_NODES, {"ids": [each.handle for each in known]})
        nodes = answer["data"].get("nodes")
        nodes = nodes if isinstance(nodes, list) else [None] * len(known)
        unsaid = {place for place, kind in _errors_by_place(answer.get("errors")) if kind not in _LOST}
        found, lost = [], []
        for place, (each, node) in enumerate(zip(known, nodes, strict=False)):
            is_shown = isinstance(node, dict) and not node.get("isPrivate")
            described = self._read(from_node, node) if is_shown else None
            if described is not None:
                found.append(described)
            elif place not in unsaid and None not in unsaid:
                lost.append(each.external_id)
        return found, lost

    async def _look_at(self, external_id: str, after: str) -> Page:
        """What has become of one; the others are not kept waiting by one that GitHub fails at again and again."""
        try:
            return await self._look(external_id, after)
        except GitHubFailed as error:
            self._failures[external_id] += 1
            if self._failures[external_id] <= _AGAIN:
                raise
            return Page(next=after, note=f"{external_id}: {error}")

    async def _look(self, external_id: str, after: str) -> Page:
        response = await self._client.get("core", f"/repositories/{external_id}")
        if response.status_code == 200:
            body = decoded(response)
            if not isinstance(body, dict) or "private" not in body:
                raise GitHubFailed(f"HTTP 200: {_message(body)}", 200)
            if body["private"]:
                return Page(gone=[Gone(external_id=external_id, reason="private")], next=after)
            if (described := self._read(from_rest, body)) is None:
                raise GitHubFailed(f"HTTP 200: what it says of {external_id} is malformed", 200)
            return Page(repositories=[described], next=after)
        body = said(response)
        detail = f"HTTP {response.status_code}: {_message(body)}"
        if (reason := _reason(response.status_code, body)) is None:
            raise GitHubFailed(detail, response.status_code)
        return Page(gone=[Gone(external_id=external_id, reason=reason, detail=detail)], next=after)


def _errors_by_place(errors: Any) -> Iterator[tuple[int | None, str]]:
    """Of GraphQL: for which of the nodes, None for all, and the error's type."""
    for each in errors if isinstance(errors, list) else []:
        match each:
            case {"path": [_, int(place), *_]}:
                yield place, str(each.get("type"))
            case dict():
                yield None, str(each.get("type"))


def _reason(status: int, body: Any) -> GoneReason | None:
    """403 also says that an organization lets only its own in, such as by their addresses."""
    if status != 403:
        return _REASONS.get(status)
    block = body.get("block") if isinstance(body, dict) else None
    if isinstance(block, dict) and block.get("reason") == "dmca":
        return "blocked"
    return "disabled" if block or "blocked" in _message(body).lower() else "private"


def _message(body: Any) -> str:
    return storable(str(body.get("message", body) if isinstance(body, dict) else body)[:300])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_COUNT


def _login(body: Any) -> str:
    """Whose a token is.

    Raises:
        GitHubFailed: the answer does not tell.
    """
    login = body.get("login") if isinstance(body, dict) else None
    if not isinstance(login, str) or not login.isprintable() or not 0 < len(login) <= _LONGEST_LOGIN:
        raise GitHubFailed(f"its account is told as {login!r:.100}")
    return login


def _quoted(language: str) -> str:
    return language if language.isalnum() else f'"{language}"'


def _key(token: str) -> str:
    """Under which it is remembered whose token it is."""
    return f"token {_fingerprint(token)}"


def _fingerprint(token: str) -> str:
    """By which a token is told from others without giving it away."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]
