"""CodeLupe turns public repositories into a code model that keeps getting better.

These names are what plugins build on; :mod:`codelupe.hookspecs` describes the hooks.
"""

from codelupe.config.directories import Directories
from codelupe.contracts.files import FileRule, Objection, Score, Scorer, SourceFile
from codelupe.contracts.repositories import Repository, RepositoryRule, RepositorySource
from codelupe.contracts.search import SearchHit, SearchIndex
from codelupe.errors import CodelupeError, ConfigurationError, LeaseLost, Reject, RetryLater
from codelupe.executor import ProcessExecutor
from codelupe.executor.contract import Executor, WorkerLost
from codelupe.host.hookspecs import hookimpl
from codelupe.log import Entry, EventLog, Recorded
from codelupe.observability.progress import Progress
from codelupe.postgres import Connection, Database
from codelupe.postgres.queries import Queries, load_queries
from codelupe.postgres.spool import Spool, encode_row
from codelupe.postgres.text import storable
from codelupe.storage.atomic import (
    AtomicFile,
    atomic_folder,
    move_into_place,
    remove_tree,
    sync_folder,
    write_file,
    write_link,
)
from codelupe.storage.locks import FileLock, open_lock
from codelupe.work.context import BatchContext, HandlerContext, JobContext
from codelupe.work.retry import RetryPolicy
from codelupe.work.subscriptions import BatchSubscription, Job, Service, Subscription

__all__ = [
    "AtomicFile",
    "BatchContext",
    "BatchSubscription",
    "CodelupeError",
    "ConfigurationError",
    "Connection",
    "Database",
    "Directories",
    "Entry",
    "EventLog",
    "Executor",
    "FileLock",
    "FileRule",
    "HandlerContext",
    "Job",
    "JobContext",
    "LeaseLost",
    "Objection",
    "ProcessExecutor",
    "Progress",
    "Queries",
    "Recorded",
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
    "Spool",
    "Subscription",
    "WorkerLost",
    "atomic_folder",
    "encode_row",
    "hookimpl",
    "load_queries",
    "move_into_place",
    "open_lock",
    "remove_tree",
    "storable",
    "sync_folder",
    "write_file",
    "write_link",
]
__version__ = "0.1.0"
