"""CodeLupe turns public repositories into a code model that keeps getting better.

These names are what plugins build on; :mod:`codelupe.hookspecs` describes the hooks.
"""

from codelupe.contracts import (
    BatchSubscription,
    Directories,
    Executor,
    FileRule,
    Job,
    Lost,
    Objection,
    Offers,
    Progress,
    Repository,
    RepositoryRule,
    RepositorySource,
    RetryPolicy,
    Score,
    Scorer,
    SearchHit,
    SearchIndex,
    Service,
    SourceFile,
    Subscription,
)
from codelupe.errors import CodelupeError, LeaseLost, Reject, RetryLater
from codelupe.executor import ProcessExecutor
from codelupe.hookspecs import hookimpl
from codelupe.log.context import BatchContext, HandlerContext, JobContext
from codelupe.postgres import Connection, Database
from codelupe.queries import Queries, load_queries

__all__ = [
    "BatchContext",
    "BatchSubscription",
    "CodelupeError",
    "Connection",
    "Database",
    "Directories",
    "Executor",
    "FileRule",
    "HandlerContext",
    "Job",
    "JobContext",
    "LeaseLost",
    "Lost",
    "Objection",
    "Offers",
    "ProcessExecutor",
    "Progress",
    "Queries",
    "Reject",
    "Repository",
    "RepositoryRule",
    "RepositorySource",
    "RetryLater",
    "RetryPolicy",
    "Score",
    "Scorer",
    "SearchHit",
    "SearchIndex",
    "Service",
    "SourceFile",
    "Subscription",
    "hookimpl",
    "load_queries",
]
__version__ = "0.1.0"
