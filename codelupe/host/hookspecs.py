"""Every hook that a plugin may implement; the docstrings here are the reference.

A plugin is a module or an object named by an entry point in the group ``codelupe``; it marks its implementations
with :data:`codelupe.hookimpl`. An implementation asks for what it needs by naming any of these arguments:

``settings``
    the plugin's own settings (``[plugins.<name>]``), validated by the model from :func:`codelupe_settings`;
    None when the plugin has no such model.
``database``
    the :class:`codelupe.Database`. It may not be connected yet: keep it, use it later.
``directories``
    the :class:`codelupe.Directories`.

Hooks only register what a plugin offers. Events reach it through the log, never through a hook.

A plugin that raises at its import or in a hook, whatever it raises, is broken: ``codelupe plugins list`` says why, and
the others go on. So is one that implements no hook, or a hook without :data:`codelupe.hookimpl`; one that offers a
subscription, job or service that could not work, such as a handler that is not async or does not take its arguments;
one that offers a rule, scorer, sample format, evaluator, source, search index, executor or status section under a name
that is taken; one whose checks are no findings or take more than 20 seconds; and one with a command that has no name or
help to show. What a plugin prints meanwhile goes to standard error; signal handlers, the working directory and the
policy for event loops are put back. ``os._exit`` ends the process: no host can survive that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources.abc import Traversable

import pluggy
import typer
from pydantic import BaseModel

from codelupe.config.directories import Directories
from codelupe.contracts.evaluators import Evaluator
from codelupe.contracts.files import FileRule, Scorer
from codelupe.contracts.repositories import RepositoryRule
from codelupe.contracts.samples import SampleFormat
from codelupe.contracts.search import SearchIndex
from codelupe.contracts.sources import Source
from codelupe.executor.contract import Executor
from codelupe.host.checks import Finding
from codelupe.host.status_sections import StatusSection
from codelupe.postgres import Database
from codelupe.work.subscriptions import BatchSubscription, Job, Service, Subscription

hookspec = pluggy.HookspecMarker("codelupe")
hookimpl = pluggy.HookimplMarker("codelupe")
"""Marks a plugin's hook implementation."""


@hookspec
def codelupe_settings() -> type[BaseModel]:
    """The pydantic model of ``[plugins.<name>]``.

    Its defaults should make a working plugin: one with a field without a default is broken until that is set.
    Unknown keys are refused whatever the model says. Called before anything else, without arguments.
    """


@hookspec
def codelupe_migrations() -> Traversable:
    """The folder of the plugin's own ``NNNN_name.sql`` migrations, such as ``files(__package__) / "migrations"``.

    They run in order, once, each in a transaction that they cannot end, after CodeLupe's own; an applied one must never
    change. They run in the schema ``plugin_<name>``, which is made for them and alone is on the search path; one that
    refers to a table of CodeLupe's names its schema (``public.<table>`` in most databases). A migration that fails,
    waits for a lock for more than 30 seconds or, while the daemon starts, takes more than 5 minutes is rolled back and
    breaks the plugin; ``codelupe db migrate`` applies it without that limit of 5 minutes.

    Handlers, jobs, services and status sections of the plugin look into its schema first, and then into CodeLupe's, and
    so does all that they call. What those of another plugin call, such as a repository source or a search index,
    therefore looks into the schema of that plugin, and commands look into CodeLupe's alone: there, write
    ``plugin_<name>.<table>``.
    """


@hookspec
def codelupe_commands() -> typer.Typer:
    """Commands for the command line: each command and each group in the application becomes ``codelupe <name> …``.

    A name that CodeLupe itself or an earlier plugin has is refused; the others are mounted.
    """


@hookspec
def codelupe_subscriptions(
    settings: BaseModel, database: Database, directories: Directories
) -> Iterable[Subscription | BatchSubscription]:
    """Handlers for events, one or many a call. The host calls each subscription ``<plugin>.<name>``."""


@hookspec
def codelupe_jobs(settings: BaseModel, database: Database, directories: Directories) -> Iterable[Job]:
    """Work on a schedule, run by one process of the cluster at a time."""


@hookspec
def codelupe_services(settings: BaseModel, database: Database, directories: Directories) -> Iterable[Service]:
    """Tasks that run as long as the daemon does."""


@hookspec
def codelupe_repository_sources(settings: BaseModel, database: Database, directories: Directories) -> Iterable[Source]:
    """Places where repositories are found."""


@hookspec
def codelupe_repository_rules(settings: BaseModel) -> Iterable[RepositoryRule]:
    """Reasons to turn a repository down before it is cloned. All rules are asked, so that all reasons are known.

    One that fails over ``quarantine_after`` (5) repositories in a row is paused: repositories are judged without it
    until it is resumed.
    """


@hookspec
def codelupe_file_rules(settings: BaseModel) -> Iterable[FileRule]:
    """Reasons to leave a file out. The first that objects decides.

    One that fails over ``quarantine_after`` (5) repositories in a row is paused: files are judged without it until
    it is resumed.
    """


@hookspec
def codelupe_scorers(settings: BaseModel) -> Iterable[Scorer]:
    """Dimensions of a file's quality; the score is their weighted mean.

    One that fails over ``quarantine_after`` (5) repositories in a row is paused: files are scored without it until it
    is resumed.
    """


@hookspec
def codelupe_sample_formats(settings: BaseModel) -> Iterable[SampleFormat]:
    """Ways to make training samples of files; settings weigh them by their names.

    A format that fails on a file is passed over for it, and counted; training goes on.
    """


@hookspec
def codelupe_evaluators(settings: BaseModel) -> Iterable[Evaluator]:
    """Measures by which a model is compared with the one in use.

    A :class:`codelupe.LikelihoodEvaluator` that fails on a window is passed over for that window, for all models alike.
    A :class:`codelupe.ProblemEvaluator` that fails makes the comparison fail, with its name: without it a model that
    has forgotten what it asks for could be promoted. Once it is paused, the comparison can be tried again without it.
    """


@hookspec
def codelupe_search_index(settings: BaseModel, database: Database) -> SearchIndex | Sequence[SearchIndex]:
    """One search index over discovered repositories, or several; the setting ``search_index`` chooses by name."""


@hookspec
def codelupe_executors(settings: BaseModel) -> Iterable[tuple[str, Executor]]:
    """Places to run CPU-heavy functions, each with the name by which the setting ``executor`` chooses it."""


@hookspec
def codelupe_status_sections() -> Iterable[StatusSection]:
    """What came of the plugin's work, for ``codelupe status`` and the end of ``codelupe run --until-idle``.

    A section that fails breaks nothing: a line says so in its place.
    """


@hookspec
def codelupe_checks() -> Iterable[Finding]:
    """What the plugin needs on this machine, looked at now: for ``codelupe doctor``, and before ``codelupe run``.

    A bad finding keeps ``codelupe run`` from starting. Called without arguments, in a thread of its own.
    """


@hookspec
def codelupe_source_setting() -> str:
    """The name of the plugin's setting that takes the folders and git URLs of ``codelupe run --source``.

    The setting is a list of texts, in the model from :func:`codelupe_settings`. Called without arguments, before the
    settings are validated.
    """
