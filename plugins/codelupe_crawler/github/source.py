"""What to ask GitHub for, and what its answers mean."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

import httpx2

from codelupe import Forecast, Gone, KnownRepository, Page, Repository, Slice, SourceContext, SourceMode, Want
from codelupe_crawler.github.client import ACCEPT, API_VERSION, SPACING, GitHubClient, GitHubFailed, decoded
from codelupe_crawler.github.descriptions import NODE_FIELDS, Terms, from_node, from_rest
from codelupe_crawler.github.partition import COUNTS, MOST_CHARACTERS, MOST_RESULTS, PAGE, Part, grouped, parts_of
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_events import GoneReason

ANONYMOUS = "anonymous"
_FIRST = datetime(2008, 1, 1, tzinfo=UTC)
"""GitHub opened in this year."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TIMEOUT = timedelta(seconds=30)
_AGAIN = 2
"""So often a page is asked for again that lacks some of what it should have."""
_FEWEST_COUNTS = 4
_REFRESH = "refresh before:"
_NODES = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on Repository {{ {NODE_FIELDS} }} }} }}"
_REASONS: Mapping[int, GoneReason] = {404: "deleted", 410: "deleted", 451: "blocked"}


class GitHubSource:
    """GitHub's search, asked by whatever accounts the tokens belong to."""

    name = "github"

    def __init__(
        self, settings: GitHubSettings, terms: Terms, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """``transport`` replaces the network in tests."""
        self._settings = settings
        self._terms = terms
        self._transport = transport
        self._tokens = [token.get_secret_value() for token in settings.tokens]
        self._accounts: dict[str, list[str]] | None = None

    async def accounts(self, context: SourceContext) -> Sequence[str]:
        """The logins that the tokens belong to; each token is asked once, whichever daemon asks."""
        if not self._tokens:
            return [ANONYMOUS]
        if self._accounts is None:
            accounts: dict[str, list[str]] = {}
            for token in self._tokens:
                if (login := await self._login_of(token, context)) is not None:
                    accounts.setdefault(login, []).append(token)
            self._accounts = accounts
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
            Slice(query=f"language:{_quoted(language)} {span} {self._settings.gate}", budget=budget)
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

            client = GitHubClient(http, account, tokens, context, refuse)
            yield GitHubSession(client, self._settings, self._terms, context)

    def _http(self) -> httpx2.AsyncClient:
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
        """None if GitHub refuses the token."""
        key = _key(token)
        if (known := await context.recall(key)) is not None:
            return known or None
        async with self._http() as http:
            response = await http.get("/user", headers={"authorization": f"Bearer {token}"})
        if response.status_code == 401:
            await self._report_refused(token, context)
            return None
        if response.status_code != 200:
            raise GitHubFailed(f"GET /user: HTTP {response.status_code}", response.status_code)
        login = str(decoded(response)["login"])
        await context.remember(key, login)
        return login

    async def _forget_token(self, token: str, account: str, context: SourceContext) -> None:
        await self._report_refused(token, context)
        if self._accounts is not None:
            self._accounts[account] = [each for each in self._accounts.get(account, []) if each != token]
            self._accounts = {login: tokens for login, tokens in self._accounts.items() if tokens}

    async def _report_refused(self, token: str, context: SourceContext) -> None:
        await context.remember(_key(token), "")
        context.log.error("token_refused", token=_fingerprint(token))

    def _term_queries(self, terms: Sequence[str], context: SourceContext) -> list[str]:
        queries = {f"{term} {self._settings.gate}": term for term in terms}
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

    async def ask(self, slice: Slice, cursor: str | None) -> Page:  # noqa: A002 - as in the contract
        """Count the parts of a slice whose size is unknown, or take a page of one that is small enough."""
        if slice.query.startswith(_REFRESH):
            return await self._refresh(slice.query, cursor)
        if cursor is None and slice.budget == "graphql" and self._client.has_token:
            return await self._part(slice.query)
        page, _, again = (cursor or "1").partition(".")
        return await self._page(slice.query, int(page), int(again or 0))

    async def _part(self, query: str) -> Page:
        parts = parts_of(query, max(_FEWEST_COUNTS, COUNTS >> max(0, self._overtaxed - 1)))
        if len(parts) == 1:
            return Page(next="1")
        groups = grouped(await self._counted(parts))
        if not groups:
            return Page(total=0)
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
        counts = [(answer["data"].get(f"c{n}") or {}).get("repositoryCount") for n in range(len(parts))]
        if None in counts:
            raise GitHubFailed(f"{counts.count(None)} of {len(counts)} searches were not counted")
        self._overtaxed = 0
        return [Part(part, count) for part, count in zip(parts, counts, strict=True)]

    async def _page(self, query: str, page: int, again: int) -> Page:
        sort = {"sort": "updated", "order": "desc"}
        response = await self._client.get(
            "search", "/search/repositories", {"q": query, **sort, "per_page": PAGE, "page": page}
        )
        body = decoded(response)
        if response.status_code != 200 or not isinstance(body, dict) or not isinstance(body.get("items"), list):
            raise GitHubFailed(f"HTTP {response.status_code}: {_message(body)}", response.status_code)
        found = [from_rest(item, self._terms) for item in body["items"] if item is not None]
        most = self._most_of(query)
        total = int(body["total_count"])
        if page == 1 and total > MOST_RESULTS and most == MOST_RESULTS:
            parts = parts_of(query, ceil(total / (MOST_RESULTS * 0.8)))
            if len(parts) > 1:
                return Page(instead=[Slice(query=part, budget="search") for part in parts])
        due = min(PAGE, min(total, most) - PAGE * (page - 1))
        is_short = len(found) < due or body.get("incomplete_results") is True
        if is_short and again < _AGAIN:
            return Page(repositories=found, next=f"{page}.{again + 1}", total=min(total, most))
        note = f"{due - len(found)} of page {page} never came" if len(found) < due else None
        is_last = PAGE * page >= min(total, most)
        if is_last and total > most == MOST_RESULTS:
            note = f"it finds {total}, of which GitHub gives {MOST_RESULTS}"
        return Page(
            repositories=found,
            next=None if is_last else str(page + 1),
            total=min(total, most),
            note=note if is_last else None,
        )

    def _most_of(self, query: str) -> int:
        """How many results are asked for: of a term, those of its first pages."""
        is_parted = " created:" in query or " pushed:" in query
        return MOST_RESULTS if is_parted else PAGE * self._settings.pages_per_term

    async def _refresh(self, query: str, cursor: str | None) -> Page:
        """The next hundred that were described longest ago, or one of these that is no longer given out."""
        done, _, lost = (cursor or "0").partition(" ")
        if lost:
            first, _, others = lost.partition(",")
            return await self._look_at(first, f"{done} {others}".strip())
        before = datetime.fromisoformat(query.removeprefix(_REFRESH))
        known = await self._context.oldest_known(seen_before=before, limit=PAGE)
        if not known or int(done) >= self._settings.refresh_requests:
            return Page()
        nodes, vanished = await self._described([each for each in known if each.handle])
        vanished += [each.external_id for each in known if not each.handle]
        return Page(repositories=nodes, next=f"{int(done) + 1} {','.join(vanished)}".strip())

    async def _described(self, known: Sequence[KnownRepository]) -> tuple[list[Repository], list[str]]:
        """What GitHub says of them, and the ids of those that are not there; of the rest it had no time to say."""
        if not known:
            return [], []
        answer = await self._client.graphql(_NODES, {"ids": [each.handle for each in known]})
        paths = [each.get("path") or [] for each in answer.get("errors") or [] if each.get("type") == "NOT_FOUND"]
        vanished = [known[path[1]].external_id for path in paths if len(path) > 1]
        nodes = [node for node in answer["data"].get("nodes") or [] if node and not node["isPrivate"]]
        private = [str(node["databaseId"]) for node in answer["data"].get("nodes") or [] if node and node["isPrivate"]]
        return [from_node(node, self._terms) for node in nodes], vanished + private

    async def _look_at(self, external_id: str, after: str) -> Page:
        response = await self._client.get("core", f"/repositories/{external_id}")
        body = decoded(response)
        if response.status_code == 200 and not body.get("private"):
            return Page(repositories=[from_rest(body, self._terms)], next=after)
        if response.status_code == 200:
            return Page(gone=[Gone(external_id=external_id, reason="private")], next=after)
        if (reason := _reason(response.status_code, body)) is None:
            raise GitHubFailed(f"HTTP {response.status_code}: {_message(body)}", response.status_code)
        detail = f"HTTP {response.status_code}: {_message(body)}"
        return Page(gone=[Gone(external_id=external_id, reason=reason, detail=detail)], next=after)


def _reason(status: int, body: Any) -> GoneReason | None:
    if status == 403:
        block = body.get("block") if isinstance(body, dict) else None
        return "blocked" if isinstance(block, dict) and block.get("reason") == "dmca" else "disabled"
    return _REASONS.get(status)


def _message(body: Any) -> str:
    return str(body.get("message", body) if isinstance(body, dict) else body)[:300]


def _quoted(language: str) -> str:
    return language if language.isalnum() else f'"{language}"'


def _key(token: str) -> str:
    """Under which it is remembered whose token it is."""
    return f"token {_fingerprint(token)}"


def _fingerprint(token: str) -> str:
    """By which a token is told from others without giving it away."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]
