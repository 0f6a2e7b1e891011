"""The way to Elasticsearch, and what stands in it, said as errors of ours."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from codelupe import CodelupeError, RetryLater
from codelupe_search.settings import ElasticsearchSettings

if TYPE_CHECKING:
    from elasticsearch import ApiError, AsyncElasticsearch

_RETRIES = 2
_AWAY = (429, 502, 503, 504)
_REFUSED = (401, 403)
_OTHER_MAJOR = "media_type_header_exception"


class ElasticsearchUnavailable(RetryLater, CodelupeError):
    """It cannot be reached, or has too much to do: what was to be done waits, and a command fails."""

    code = "elasticsearch-unavailable"
    exit_code = 69
    pause_seconds = 5.0

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, after=timedelta(seconds=self.pause_seconds), counts=False)
        self.hint = hint


class ElasticsearchSetupWrong(RetryLater, CodelupeError):
    """An operator has to change something first: until then what was to be done waits, and commands fail."""

    code = "elasticsearch-setup"
    exit_code = 78

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message, after=timedelta(seconds=30), counts=False)
        self.hint = hint


class ElasticsearchFailed(CodelupeError):
    """It refused a request of ours."""

    code = "elasticsearch-failed"


@asynccontextmanager
async def connected(settings: ElasticsearchSettings) -> AsyncIterator[AsyncElasticsearch]:
    """A client of the cluster for one piece of work.

    A request is repeated on another node where one is away or does not answer, for none of ours does harm twice.

    Raises:
        ElasticsearchUnavailable, ElasticsearchSetupWrong, ElasticsearchFailed: in place of the client's errors.
    """
    try:
        from elasticsearch import AsyncElasticsearch
    except ImportError as error:
        raise ElasticsearchSetupWrong(
            f"the client of Elasticsearch is not installed ({error})", hint="pip install 'codelupe[elasticsearch]'"
        ) from error
    logging.getLogger("elastic_transport").setLevel(logging.ERROR)  # what it warns of is in the errors below
    with translated(settings):
        async with AsyncElasticsearch(list(settings.urls), **_options(settings)) as client:
            yield client


@contextmanager
def translated(settings: ElasticsearchSettings) -> Iterator[None]:
    """Inside the block, errors of the client become ours, as :func:`connected` says."""
    from elasticsearch import ApiError, TransportError

    try:
        yield
    except ApiError as error:
        raise _refusal(error, settings) from error
    except TransportError as error:
        raise _absence(error, settings) from error


def _options(settings: ElasticsearchSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "request_timeout": settings.timeout_seconds,
        "max_retries": _RETRIES,
        "retry_on_timeout": True,
        "retry_on_status": (502, 503, 504),
    }
    if settings.api_key is not None:
        options["api_key"] = settings.api_key.get_secret_value()
    if settings.username is not None and settings.password is not None:
        options["basic_auth"] = (settings.username, settings.password.get_secret_value())
    if settings.ca_certs is not None:
        options["ca_certs"] = str(settings.ca_certs)
    return options


def described(error: Any) -> str:
    """The type and the reason in an error of Elasticsearch's, with what caused it."""
    if not isinstance(error, dict):
        return str(error)
    text = f"{error.get('type')}: {error.get('reason')}"
    cause = error.get("caused_by")
    return f"{text} ({described(cause)})" if cause else text


def _refusal(error: ApiError, settings: ElasticsearchSettings) -> CodelupeError:
    from elasticsearch import UnsupportedProductError

    place = ", ".join(settings.urls)
    if isinstance(error, UnsupportedProductError):
        return ElasticsearchSetupWrong(
            f"what answers at {place} is not Elasticsearch", hint="Set plugins.search.elasticsearch.urls."
        )
    found = described(error.body.get("error")) if isinstance(error.body, dict) else str(error.body)[:500]
    if _OTHER_MAJOR in found or error.status_code == 406:
        return ElasticsearchSetupWrong(
            f"the server at {place} is of another major version than the client, which is {_client_version()}: {found}",
            hint="Install the client of the server's major version, such as `pip install 'elasticsearch[async]==9.*'`.",
        )
    if error.status_code in _AWAY:
        return ElasticsearchUnavailable(f"Elasticsearch at {place} cannot do it now ({error.status_code}): {found}")
    if error.status_code in _REFUSED:
        return ElasticsearchSetupWrong(
            f"Elasticsearch at {place} refuses the credentials ({error.status_code}): {found}",
            hint="Set plugins.search.elasticsearch.api_key, or username and password.",
        )
    return ElasticsearchFailed(f"Elasticsearch at {place} refused the request ({error.status_code}): {found}")


def _absence(error: Exception, settings: ElasticsearchSettings) -> CodelupeError:
    from elastic_transport import TlsError

    message = f"Elasticsearch cannot be reached at {', '.join(settings.urls)}: {error}"
    if isinstance(error, TlsError):
        return ElasticsearchSetupWrong(message, hint="Set plugins.search.elasticsearch.ca_certs.")
    return ElasticsearchUnavailable(message, hint="Is it running? plugins.search.elasticsearch.urls says where it is.")


def _client_version() -> str:
    import elasticsearch

    return ".".join(map(str, elasticsearch.__version__))
