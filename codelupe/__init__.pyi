from .config.directories import Directories
from .contracts.answers import faults_of_repository
from .contracts.boundary import ContributionFailed
from .contracts.evaluators import Evaluator, LikelihoodEvaluator, Problem, ProblemEvaluator, ScoredText
from .contracts.files import FileRule, Objection, Score, Scorer, SourceFile
from .contracts.repositories import Repository, RepositoryRule, RepositorySource
from .contracts.samples import Sample, SampleFormat, SampleRequest
from .contracts.search import FOR_EVER, SearchDocument, SearchFilter, SearchHit, SearchIndex, SearchSort
from .contracts.sources import (
    Budget,
    Forecast,
    ForecastingSource,
    Gone,
    KnownRepository,
    Page,
    PagedSource,
    Slice,
    SourceContext,
    SourceMode,
    SourceSession,
    Want,
)
from .errors import CodelupeError, ConfigurationError, LeaseLost, Reject, RetryLater
from .executor import ProcessExecutor
from .executor.contract import Executor, WorkerLost
from .host.checks import Finding
from .host.hookspecs import hookimpl
from .host.status_sections import Metric, StatusSection, Table, listing
from .log import Entry, EventLog, Recorded
from .observability.progress import Progress
from .postgres import Connection, Database
from .postgres.queries import Queries, load_queries
from .postgres.spool import Spool, encode_row
from .postgres.text import storable
from .storage.atomic import AtomicFile, atomic_folder, move_into_place, remove_tree, sync_folder, write_file, write_link
from .storage.locks import FileLock, open_folder_lock, open_lock
from .work.context import BatchContext, HandlerContext, JobContext
from .work.retry import RetryPolicy
from .work.subscriptions import BatchSubscription, Job, Service, Subscription

__all__ = [
    "FOR_EVER",
    "AtomicFile",
    "BatchContext",
    "BatchSubscription",
    "Budget",
    "CodelupeError",
    "ConfigurationError",
    "Connection",
    "ContributionFailed",
    "Database",
    "Directories",
    "Entry",
    "Evaluator",
    "EventLog",
    "Executor",
    "FileLock",
    "FileRule",
    "Finding",
    "Forecast",
    "ForecastingSource",
    "Gone",
    "HandlerContext",
    "Job",
    "JobContext",
    "KnownRepository",
    "LeaseLost",
    "LikelihoodEvaluator",
    "Metric",
    "Objection",
    "Page",
    "PagedSource",
    "Problem",
    "ProblemEvaluator",
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
    "Sample",
    "SampleFormat",
    "SampleRequest",
    "Score",
    "ScoredText",
    "Scorer",
    "SearchDocument",
    "SearchFilter",
    "SearchHit",
    "SearchIndex",
    "SearchSort",
    "Service",
    "Slice",
    "SourceContext",
    "SourceFile",
    "SourceMode",
    "SourceSession",
    "Spool",
    "StatusSection",
    "Subscription",
    "Table",
    "Want",
    "WorkerLost",
    "atomic_folder",
    "encode_row",
    "faults_of_repository",
    "hookimpl",
    "listing",
    "load_queries",
    "move_into_place",
    "open_folder_lock",
    "open_lock",
    "remove_tree",
    "storable",
    "sync_folder",
    "write_file",
    "write_link",
]
__version__: str
