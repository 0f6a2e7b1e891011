"""Plugins from real distributions: each fault stays with the plugin that has it, and the others go on."""

from __future__ import annotations

import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import BaseModel
from structlog.testing import capture_logs

from codelupe import Database, Directories
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.contracts.boundary import Part, part_of
from codelupe.host import host as host_module
from codelupe.host import isolation
from codelupe.host.discovery import Plugin, load_plugins
from codelupe.host.extensions import Extensions
from codelupe.host.host import Host
from tests.processes import HANGS

SOUND = """
    from datetime import timedelta
    from pydantic import BaseModel
    from codelupe import Job, Subscription, hookimpl
    from codelupe_events import BatchReady, RepoEmpty

    class Settings(BaseModel):
        colour: str = "green"

    async def handle(event, context): ...
    async def run(context): ...

    @hookimpl
    def codelupe_settings(): return Settings

    @hookimpl
    def codelupe_subscriptions(settings):
        assert settings.colour == "green"
        return [Subscription(name="s", events=(BatchReady,), emits=(RepoEmpty,), handler=handle)]

    @hookimpl
    def codelupe_jobs(): return [Job(name="j", every=timedelta(hours=1), run=run)]
"""
IMPORTS = """
    from datetime import timedelta
    from pydantic import BaseModel
    from codelupe import Finding, Job, RepositoryRule, Service, StatusSection, Subscription, hookimpl
    from codelupe_events import BatchReady
    async def handle(event, context): ...
    class Quiz:
        name, version = "quiz", 1
        def __init__(self, max_tokens=8): self.max_tokens = max_tokens
        def problems(self): return ()
        def is_solved(self, problem, answer): return True
    class Fast:
        name = "fast"
        async def index(self, documents): ...
        async def remove(self, versions): ...
        async def search(self, query, limit, *, where=None, sort="relevance", after=None): ...
"""

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with one plugin where Python finds it; returns the name of its module."""
    monkeypatch.syspath_prepend(tmp_path)
    modules: list[str] = []

    def install(
        plugin: str,
        code: str = SOUND,
        *,
        distribution: str | None = None,
        requires: Sequence[str] = (),
        target: str = "",
        entry_points: str | None = None,
    ) -> str:
        distribution = distribution or f"codelupe-{plugin}"
        module = f"codelupe_test_{distribution.replace('-', '_').lower()}_{len(modules)}"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        folder.mkdir()
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n{needs}")
        (folder / "entry_points.txt").write_text(entry_points or f"[codelupe]\n{plugin} = {module}{target}\n")
        return module

    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as logs:
        yield logs


def find(host: Host, name: str) -> Plugin:
    [plugin] = [plugin for plugin in host.plugins if plugin.name == name]
    return plugin


def gather(host: Host, **settings: Any) -> Extensions:
    raw = RawSettings([Layer("test", {"plugins": settings})])
    tree = validate(raw, host.settings_models(), environment={}).settings
    place = Path("/nowhere")
    directories = Directories(state=place, repositories=place, models=place, work=place)
    return host.gather(tree.plugins, Database("postgresql:///unused"), directories)


def assert_isolated(host: Host, name: str, cause: str) -> Extensions:
    """The plugin is reported with the cause, and the sound one beside it and CodeLupe's own still work."""
    extensions = gather(host)
    stages = [it.name for it in extensions.subscriptions]
    assert cause in (find(host, name).error or "no error")
    assert find(host, name) in host.broken
    assert [subscription for subscription in stages if subscription.startswith(f"{name}.")] == []
    assert "zz_sound.s" in stages
    assert "filters.repository-rules" in stages
    assert [plugin.name for plugin in host.broken] == [name]
    return extensions


# --- what works ---


def test_a_third_party_s_plugin_is_found_and_asked(install: Install) -> None:
    install("zz_sound")
    host = Host(load_plugins())
    plugin = find(host, "zz_sound")
    assert (plugin.distribution, plugin.version, plugin.error) == ("codelupe-zz_sound", "1.2", None)
    assert plugin.hooks == ("codelupe_jobs", "codelupe_settings", "codelupe_subscriptions")
    extensions = gather(host)
    assert "zz_sound.s" in [it.name for it in extensions.subscriptions]
    assert "zz_sound.j" in [job.name for job in extensions.jobs]


def test_a_plugin_may_be_an_object_within_a_module(install: Install) -> None:
    code = f"""{SOUND}
    class Plugin:
        @hookimpl
        def codelupe_subscriptions(self):
            return [Subscription(name="inner", events=(BatchReady,), handler=handle)]

    plugin = Plugin()
    """
    install("objects", code, target=":plugin")
    assert "objects.inner" in [it.name for it in gather(Host(load_plugins())).subscriptions]


def test_a_plugin_without_a_settings_model_gets_none(install: Install) -> None:
    code = f"""{IMPORTS}
    @hookimpl
    def codelupe_subscriptions(settings):
        assert settings is None
        return [Subscription(name="s", events=(BatchReady,), handler=handle)]
    """
    install("bare", code)
    host = Host(load_plugins())
    assert "bare.s" in [it.name for it in gather(host).subscriptions]
    assert host.settings_models()["bare"] is BaseModel


def test_an_evaluator_is_offered_and_its_name_belongs_to_the_plugin_that_was_first(install: Install) -> None:
    code = f"{IMPORTS}\n    @hookimpl\n    def codelupe_evaluators(settings): return [Quiz()]\n"
    install("aaa", code)
    install("bbb", code)
    host = Host(load_plugins())
    offered = gather(host)
    quizzes = [each for each in offered.evaluators if each.name == "quiz"]
    assert [part_of(each) for each in quizzes] == [Part("aaa", "evaluator", "quiz")]
    assert Part("aaa", "evaluator", "quiz") in offered.pausable
    assert "offers 'quiz' in evaluators, which another plugin" in str(find(host, "bbb").error)


def test_codelupe_s_own_plugins_come_the_same_way() -> None:
    host = Host(load_plugins())
    assert {plugin.distribution for plugin in host.plugins} == {"codelupe"}
    assert [plugin.error for plugin in host.broken] == []
    assert {"crawler", "downloader", "filters", "scorers", "search", "trainer"} <= {one.name for one in host.active}


def test_plugins_bring_commands_and_migrations(install: Install, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001_paint.sql").write_text("create table paint ();")
    code = f"""
    from pathlib import Path
    import typer
    from codelupe import hookimpl

    app = typer.Typer()

    @app.command()
    def paint(): ...

    @hookimpl
    def codelupe_commands(): return app

    @hookimpl
    def codelupe_migrations(): return Path({str(tmp_path / "migrations")!r})
    """
    install("painter", code)
    host = Host(load_plugins())
    assert list(host.commands()["painter"]) == ["paint"]
    assert [(one.owner, one.number, one.name) for one in host.migrations()] == [("painter", 1, "paint")]


# --- plugins that cannot be loaded ---


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("def broken(:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        (f"{IMPORTS}\n    1 / 0\n", "ZeroDivisionError"),
        (f"{IMPORTS}\n    @hookimpl\n    def codelupe_subscriptoins(): return []\n", "codelupe_subscriptoins"),
        (f"{IMPORTS}\n    @hookimpl\n    def codelupe_jobs(settigns): return []\n", "settigns"),
        (
            f"{IMPORTS}\n    @hookimpl\n    def codelupe_a(): ...\n    @hookimpl\n    def codelupe_jobs(x): ...\n",
            "hook 'codelupe_jobs'",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_stands_alone(install: Install, code: str, cause: str) -> None:
    install("broken", code)
    install("zz_sound")
    host = Host(load_plugins())
    assert_isolated(host, "broken", cause)
    assert host.settings_models()["broken"] is None


@pytest.mark.parametrize(
    ("target", "cause"), [(":missing", "AttributeError"), (":NOTHING", "is None"), (".deeper", "ModuleNotFoundError")]
)
def test_an_entry_point_that_leads_nowhere(install: Install, target: str, cause: str) -> None:
    install("broken", "NOTHING = None\n", target=target)
    install("zz_sound")
    assert_isolated(Host(load_plugins()), "broken", cause)


def test_two_names_for_one_object(install: Install) -> None:
    module = install("zz_sound")
    install("zz_twin", entry_points=f"[codelupe]\nzz_twin = {module}\n")
    assert_isolated(Host(load_plugins()), "zz_twin", "already registered")


def test_a_distribution_whose_entry_points_are_garbage_hides_nobody(install: Install, quiet_logs: list[Any]) -> None:
    install("zz_sound")
    install("broken", distribution="aa-garbage", entry_points="[codelupe]\nno equals sign\n")
    host = Host(load_plugins())
    assert "zz_sound.s" in [it.name for it in gather(host).subscriptions]
    assert [one["distribution"] for one in quiet_logs if one["event"] == "entry_points_unreadable"] == ["aa-garbage"]


def test_what_is_broken_is_logged_by_name(install: Install, quiet_logs: list[Any]) -> None:
    install("broken", "1 / 0\n")
    Host(load_plugins())
    [record] = [one for one in quiet_logs if one["event"] == "plugin_broken"]
    assert (record["plugin"], record["distribution"]) == ("broken", "codelupe-broken")
    assert "ZeroDivisionError" in record["error"]


# --- names, distributions, versions ---


def test_a_name_claimed_by_two_distributions_belongs_to_neither(install: Install) -> None:
    install("twice", distribution="first-dist")
    install("twice", distribution="second-dist")
    install("zz_sound")
    host = Host(load_plugins())
    claims = [(plugin.distribution, plugin.error) for plugin in host.broken]
    why = "two distributions claim this name; choose one in plugin_distributions"
    assert claims == [("first-dist", why), ("second-dist", why)]
    assert "zz_sound.s" in [it.name for it in gather(host).subscriptions]


@pytest.mark.parametrize("chosen", ["second-dist", "Second_Dist"])
def test_a_setting_chooses_between_two_distributions(install: Install, chosen: str) -> None:
    install("twice", "1 / 0\n", distribution="first-dist")
    install("twice", distribution="second-dist")
    host = Host(load_plugins(chosen={"twice": chosen}))
    assert (find(host, "twice").distribution, find(host, "twice").error) == ("second-dist", None)
    assert "twice.s" in [it.name for it in gather(host).subscriptions]


def test_a_choice_that_is_not_installed_is_reported(install: Install) -> None:
    install("zz_sound")
    install("broken", distribution="first-dist")
    assert_isolated(Host(load_plugins(chosen={"broken": "other-dist"})), "broken", "chooses 'other-dist'")


def test_a_disabled_plugin_is_not_even_imported(install: Install) -> None:
    module = install("unwanted", "raise RuntimeError('imported')\n")
    host = Host(load_plugins(disabled=frozenset({"unwanted"})))
    assert module not in sys.modules
    plugin = find(host, "unwanted")
    assert (plugin.disabled, plugin.error, plugin.is_active) == (True, None, False)
    assert host.settings_models()["unwanted"] is None
    assert "filters.file-rules" in [
        subscription.name for subscription in gather(host, unwanted={"anything": 1}).subscriptions
    ]


@pytest.mark.parametrize(
    ("requirement", "error"),
    [
        ("codelupe>=99", "it needs codelupe>=99; this is 0.1.0"),
        ("CodeLupe<0.1", "it needs codelupe<0.1; this is 0.1.0"),
        ("codelupe>=0.1", None),
        ("codelupe>=99; extra == 'later'", None),
        ("codelupe>=99; python_version < '3'", None),
        ("codelupe-addons>=99", None),
        ("codelupe[train]", None),
    ],
)
def test_a_plugin_for_another_codelupe_is_not_loaded(install: Install, requirement: str, error: str | None) -> None:
    module = install("picky", requires=[requirement])
    install("zz_sound")
    host = Host(load_plugins())
    assert find(host, "picky").error == error
    assert (module in sys.modules) == (error is None)
    assert "zz_sound.s" in [it.name for it in gather(host).subscriptions]


def test_a_requirement_that_nobody_can_read(install: Install) -> None:
    install("broken", requires=["codelupe ==== 1"])
    install("zz_sound")
    assert_isolated(Host(load_plugins()), "broken", "InvalidRequirement")


@pytest.mark.parametrize(
    "name", ["Capital", "with-dash", "with.dot", "9lives", "schema", "model_config", "_x", "codelupe", "x" * 51]
)
def test_a_bad_name_is_refused(install: Install, name: str) -> None:
    install(name, distribution="bad-name")
    install("zz_sound")
    assert_isolated(Host(load_plugins()), name, f"the name {name!r}")


# --- plugins that break when asked ---


@pytest.mark.parametrize(
    ("hook", "cause"),
    [
        ("def codelupe_subscriptions(): raise RuntimeError('in a hook')", "RuntimeError: in a hook"),
        ("def codelupe_subscriptions(): raise SystemExit('leaving')", "SystemExit: leaving"),
        ("def codelupe_subscriptions(settings): return settings.absent", "AttributeError"),
        ("def codelupe_subscriptions(): return 5", "TypeError"),
        ("def codelupe_subscriptions(): return [5]", "offered 5 where a Subscription or a BatchSubscription belongs"),
        ("def codelupe_subscriptions(): yield from [handle]", "where a Subscription or a BatchSubscription belongs"),
        (
            "def codelupe_subscriptions(): return [Subscription(name='s', events=('BatchReady',), handler=handle)]",
            "broken.s names 'BatchReady' where an event class belongs",
        ),
        (
            "def codelupe_subscriptions(): return [Subscription(name='s', events=BatchReady, handler=handle)]",
            "TypeError",
        ),
        (
            "def codelupe_subscriptions(): return [Subscription(name='s', events=(BatchReady,), handler=handle)] * 2",
            "two Subscriptions with the name 's'",
        ),
        ("def codelupe_jobs(): return ['nightly']", "offered 'nightly' where a Job belongs"),
        ("def codelupe_services(): return [handle]", "where a Service belongs"),
        ("def codelupe_repository_sources(): return ['github']", "where a RepositorySource or a PagedSource belongs"),
        ("def codelupe_repository_rules(): return [len]", "where a RepositoryRule belongs"),
        ("def codelupe_file_rules(): return [object()]", "where a FileRule belongs"),
        ("def codelupe_scorers(): return {'style': 1.0}", "where a Scorer belongs"),
        ("def codelupe_sample_formats(): return [object()]", "where a SampleFormat belongs"),
        (
            "def codelupe_evaluators(): return ['perplexity']",
            "where a LikelihoodEvaluator or a ProblemEvaluator belongs",
        ),
        ("def codelupe_evaluators(): return [Quiz()] * 2", "offers 'quiz' in evaluators"),
        ("def codelupe_evaluators(): return [Quiz(max_tokens=0)]", "max_tokens 0, which is not 1 or more"),
        ("def codelupe_search_index(): return 'elastic'", "where a SearchIndex belongs"),
        ("def codelupe_search_index(): return ['elastic']", "offered 'elastic' where a SearchIndex belongs"),
        ("def codelupe_search_index(): return [Fast(), Fast()]", "two search indexes with the same name"),
        ("def codelupe_executors(): return [('ray', object())]", "where a Executor belongs"),
        ("def codelupe_executors(): return ['ray']", "ValueError"),
        ("def codelupe_status_sections(): return ['files']", "where a StatusSection belongs"),
        ("def codelupe_status_sections(): return [StatusSection(name=5, read=handle, counts=len)]", "printable text"),
        ("def codelupe_status_sections(): return [StatusSection(name='x', read=5, counts=len)]", "cannot be called"),
        ("def codelupe_status_sections(): return [StatusSection(name='x', read=handle, counts=len)] * 2", "offers 'x'"),
        ("def codelupe_status_sections(): return [StatusSection(name='jobs', read=handle, counts=len)]", "the host"),
        ("def codelupe_status_sections(): return [StatusSection(name='paused', read=handle, counts=len)]", "the host"),
        (
            "def codelupe_status_sections(): return [StatusSection(name='files', read=handle, counts=len)]",
            "has already",
        ),
        ("def codelupe_settings(): return 5", "offered 5 where a pydantic model class belongs"),
        ("def codelupe_settings(): return dict", "where a pydantic model class belongs"),
        ("def codelupe_settings(): return None", "where a pydantic model class belongs"),
        ("def codelupe_settings(): raise RuntimeError('no settings')", "RuntimeError: no settings"),
    ],
)
def test_a_plugin_that_breaks_its_contract_stands_alone(install: Install, hook: str, cause: str) -> None:
    install("broken", f"{IMPORTS}\n    @hookimpl\n    {hook}\n")
    install("zz_sound")
    assert_isolated(Host(load_plugins()), "broken", cause)


BRING = """
    import typer
    from typer.core import TyperCommand
    def bring(**options):
        app = typer.Typer()
        app.command(**options)(lambda: None)
        return app
"""
ASYNC = """
    import functools
    async def three(a, event, context): ...
    def wrap(function):
        @functools.wraps(function)
        def call(*arguments): return function(*arguments)
        return call
    def wrap_with_database(function):
        @functools.wraps(function)
        async def call(event, context): await function("database", event, context)
        return call
    class Handler:
        async def __call__(self, event, context): ...
        async def method(self, event, context): ...
        @staticmethod
        async def static(event, context): ...
    class Late:
        def __call__(self, event, context): ...
    async def generate(event, context): yield
    def plain(event, context): ...
    async def one(event): ...
    async def many(event, context, more): ...
    async def keywords(*, event, context): ...
    async def defaults(event, context=None, more=5): ...
    async def anything(*arguments): ...
"""


@pytest.mark.parametrize(
    "handler",
    [
        *("handle", "wrap(handle)", "functools.partial(three, 1)", "wrap_with_database(three)", "Handler()"),
        *("Handler().method", "Handler.static", "functools.partial(Handler())", "defaults", "anything"),
    ],
)
def test_a_handler_that_can_be_called_and_awaited_is_taken(install: Install, handler: str) -> None:
    offer = f"Subscription(name='s', events=[BatchReady], handler={handler})"
    install("good", f"{IMPORTS}{ASYNC}\n    @hookimpl\n    def codelupe_subscriptions(): return [{offer}]\n")
    host = Host(load_plugins())
    [subscription] = [one for one in gather(host).subscriptions if one.name == "good.s"]
    assert (host.broken, isinstance(subscription.events, tuple)) == ([], True)


@pytest.mark.parametrize(
    ("offer", "cause"),
    [
        *(
            (f"Subscription(name='s', events=(BatchReady,), handler={handler})", cause)
            for handler, cause in (
                ("plain", "plain is not async"),
                ("lambda event, context: handle(event, context)", "is not async"),
                ("generate", "generate is not async"),
                ("Late()", "is not async"),
                ("Handler", "is not async"),
                ("functools.partial(plain)", "is not async"),
                ("None", "cannot be called"),
                ("one", "one cannot take (event, context)"),
                ("many", "many cannot take (event, context)"),
                ("keywords", "keywords cannot take (event, context)"),
                ("functools.partial(handle, 1)", "cannot take (event, context)"),
                ("Handler.method", "method cannot take (event, context)"),
            )
        ),
        ("BatchSubscription(name='s', events=(BatchReady,), handler=one)", "one cannot take (events, context)"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, concurrency=0)", "concurrency = 0 must be"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, concurrency='4')", "is no whole number"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, concurrency=True)", "is no whole number"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, version=0)", "version = 0 must be"),
        ("BatchSubscription(name='s', events=(BatchReady,), handler=handle, size=0)", "size = 0 must be"),
        ("Subscription(name='s', events=(), handler=handle)", "names no events"),
        ("Subscription(name='s', events='BatchReady', handler=handle)", "no tuple of event classes"),
        ("Subscription(name='s', events=(BatchReady,), emits=BatchReady, handler=handle)", "no tuple of event"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, retry=RetryPolicy(attempts=0))", "attempts = 0"),
        (
            "Subscription(name='s', events=(BatchReady,), handler=handle, retry=RetryPolicy(cap=timedelta(-1)))",
            "retry.cap",
        ),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, retry=None)", "retry.attempts = None"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, timeout=60)", "timeout = 60 is no timedelta"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, grace=None)", "grace = None is no timedelta"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, from_now=1)", "from_now = 1 is neither"),
        ("Subscription(name='s', events=(BatchReady,), handler=handle, replayable='')", "replayable = '' is neither"),
        *(
            (f"Subscription(name={name!r}, events=(BatchReady,), handler=handle)", "the name")
            for name in ("", "a.b", "a b", "a\n", "a~b", "é", "x" * 65)
        ),
        ("Subscription(name=5, events=(BatchReady,), handler=handle)", "TypeError"),
    ],
)
def test_a_subscription_that_could_not_work_is_found_at_load(install: Install, offer: str, cause: str) -> None:
    code = IMPORTS.replace("Subscription,", "Subscription, BatchSubscription, RetryPolicy,")
    install("broken", f"{code}{ASYNC}\n    @hookimpl\n    def codelupe_subscriptions(): return [{offer}]\n")
    install("zz_sound")
    host = Host(load_plugins())
    assert_isolated(host, "broken", cause)
    assert find(host, "broken").failed_at("codelupe_subscriptions")


@pytest.mark.parametrize(
    ("hook", "cause"),
    [
        ("codelupe_jobs(): return [Job(name='j', every=timedelta(0), run=handle)]", "every"),
        ("codelupe_jobs(): return [Job(name='j', every=timedelta(-1), run=one)]", "must be more than zero"),
        ("codelupe_jobs(): return [Job(name='j', every=60, run=one)]", "every = 60 is no timedelta"),
        ("codelupe_jobs(): return [Job(name='j', every=timedelta(1), run=handle)]", "cannot take (context)"),
        ("codelupe_jobs(): return [Job(name='j', every=timedelta(1), run=print)]", "is not async"),
        ("codelupe_services(): return [Service(name='s', run=handle)]", "cannot take (context)"),
        ("codelupe_jobs(): return [Job(name='j', every=timedelta(1), run=one, timeout=60)]", "timeout = 60 is no"),
        ("codelupe_services(): return [Service(name='a b', run=one)]", "the name"),
        ("codelupe_services(): return [Service(name='s', run=one, leader='yes')]", "leader = 'yes' is neither"),
    ],
)
def test_a_job_or_service_that_could_not_work_is_found_at_load(install: Install, hook: str, cause: str) -> None:
    install("broken", f"{IMPORTS}{ASYNC}\n    @hookimpl\n    def {hook}\n")
    install("zz_sound")
    assert_isolated(Host(load_plugins()), "broken", cause)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("def codelupe_subscriptions(): return []", "offers nothing: did you forget @hookimpl on codelupe_subscrip"),
        ("def codelupe_subscription(): return []", "did you forget @hookimpl on codelupe_subscription?"),
        ("x = 1", "offers nothing: did you forget @hookimpl?"),
        (
            "def codelupe_jobs(): return []\n    @hookimpl\n    def codelupe_services(): return []",
            "did you forget @hookimpl on codelupe_jobs?",
        ),
        (
            "@hookimpl\n    def codelupe_job(): return []",
            "codelupe_job is marked with @hookimpl, but there is no hook of that name (did you mean codelupe_jobs?)",
        ),
        (
            "@hookimpl(specname='codelupe_nothing_like_it')\n    def start(): return []",
            "codelupe_nothing_like_it is marked with @hookimpl, but there is no hook of that name",
        ),
    ],
)
def test_a_forgotten_mark_or_a_wrong_name_is_said(install: Install, code: str, cause: str) -> None:
    install("broken", f"{IMPORTS}\n    {code}\n")
    install("zz_sound")
    assert_isolated(Host(load_plugins()), "broken", cause)


def test_a_helper_that_is_named_like_a_hook_to_be_is_no_mistake(install: Install) -> None:
    install("good", f"{SOUND}\n    import codelupe_events\n    def codelupe_colour(): return 'green'\n")
    assert Host(load_plugins()).broken == []


@pytest.mark.parametrize(
    "error",
    ["KeyboardInterrupt", "SystemExit(0)", "GeneratorExit", "asyncio.CancelledError", "StopIteration"],
)
@pytest.mark.parametrize(
    "hook", ["codelupe_settings", "codelupe_subscriptions", "codelupe_commands", "codelupe_checks"]
)
def test_whatever_a_hook_raises_breaks_that_plugin_alone(install: Install, hook: str, error: str) -> None:
    install("broken", f"{IMPORTS}\n    import asyncio\n    @hookimpl\n    def {hook}(): raise {error}\n")
    install("zz_sound")
    host = Host(load_plugins())
    host.settings_models()
    host.commands()
    host.checks()
    assert_isolated(host, "broken", error.partition("(")[0].rpartition(".")[2])
    assert find(host, "broken").failed_at(hook)


def test_ctrl_c_while_a_plugin_is_imported_is_the_user_s(install: Install) -> None:
    install("slow", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    with pytest.raises(KeyboardInterrupt):
        load_plugins()


def test_an_import_that_takes_long_is_named_while_it_lasts(
    install: Install, monkeypatch: pytest.MonkeyPatch, quiet_logs: list[Any]
) -> None:
    """It ends when the log has named it."""
    monkeypatch.setattr(isolation, "SLOW_SECONDS", 0.01)
    named = threading.Event()
    monkeypatch.setitem(sys.modules, "its_end", types.SimpleNamespace(named=named))

    class Log:
        """Says when it was written to."""

        def critical(self, event: str, **fields: Any) -> None:
            structlog.get_logger().critical(event, **fields)
            named.set()

    monkeypatch.setattr(isolation, "log", Log())
    install("slow", f"import its_end\nassert its_end.named.wait({HANGS})\n{textwrap.dedent(SOUND)}")
    host = Host(load_plugins())
    assert host.broken == []
    [record] = [one for one in quiet_logs if one["event"] == "plugin_takes_long"]
    assert (record["plugin"], record["activity"]) == ("slow", "import")


def test_a_plugin_that_fails_at_one_hook_offers_nothing_at_all(install: Install) -> None:
    code = f"""{SOUND}
    @hookimpl
    def codelupe_services(): raise RuntimeError("half-way")
    """
    install("broken", code)
    install("zz_sound")
    extensions = assert_isolated(Host(load_plugins()), "broken", "half-way")
    assert [job.name for job in extensions.jobs if job.name.startswith("broken.")] == []


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("def codelupe_commands(): raise RuntimeError('no commands')", "no commands"),
        ("def codelupe_commands(): return print", "where a Typer belongs"),
        ("def codelupe_commands(): return __import__('typer').Typer()", "without a command"),
        ("def codelupe_commands(): return bring(name=5)", "the name 5, which is no printable text"),
        ("def codelupe_commands(): return bring(name='a\\nb')", "which is no printable text"),
        ("def codelupe_migrations(): raise RuntimeError('no folder')", "no folder"),
        ("def codelupe_migrations(): return __import__('pathlib').Path('/nowhere')", "FileNotFoundError"),
        ("def codelupe_migrations(): return 5", "AttributeError"),
    ],
)
def test_broken_commands_and_migrations_stand_alone(install: Install, code: str, cause: str) -> None:
    install("broken", f"{IMPORTS}\n{BRING}\n    @hookimpl\n    {code}\n")
    install("zz_sound")
    host = Host(load_plugins())
    assert host.commands()["broken"] == {}
    assert host.migrations() == []
    assert_isolated(host, "broken", cause)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("raise RuntimeError('no help')", "no help"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return 5", "the help of the command 'paint' is 5, which is no text"),
        ("return '\\ud800'", "UnicodeEncodeError"),
    ],
)
def test_a_command_that_cannot_say_what_it_is_for_breaks_its_plugin(install: Install, answer: str, cause: str) -> None:
    code = f"""{IMPORTS}
{BRING}
    class Odd(TyperCommand):
        def get_short_help_str(self, limit=45): {answer}
    @hookimpl
    def codelupe_commands(): return bring(name="paint", cls=Odd)
    """
    install("broken", code)
    install("zz_sound")
    host = Host(load_plugins())
    manifests = {plugin.name: host.manifest_of(plugin, Extensions()) for plugin in host.plugins}
    assert (manifests["broken"].commands, bool(manifests["trainer"].commands)) == ({}, True)
    assert_isolated(host, "broken", cause)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("5", "TypeError"),
        ("['good']", "offered 'good' where a Finding belongs"),
        ("[Finding(5, 'good', '')]", "whose what is 5, which is no text"),
        ("[Finding('colour', 'ugly', '')]", "whose verdict is 'ugly'"),
        ("[Finding('colour', ['good'], '')]", "whose verdict is ['good']"),
        ("[Finding('colour', 'good', None)]", "whose detail is None"),
        ("[Finding('colour', 'good', '', hint=b'x')]", "whose hint is b'x'"),
        ("[Finding('colour', 'good', '\\ud800')]", "UnicodeEncodeError"),
    ],
)
def test_what_is_no_finding_breaks_its_plugin(install: Install, answer: str, cause: str) -> None:
    install("broken", f"{IMPORTS}\n    @hookimpl\n    def codelupe_checks(): return {answer}\n")
    install("zz_sound")
    host = Host(load_plugins())
    assert "git" in {finding.what for finding in host.checks()}
    assert_isolated(host, "broken", cause)


def test_a_check_that_does_not_end_breaks_its_plugin(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "CHECK_SECONDS", 0.5)
    end = threading.Event()
    monkeypatch.setitem(sys.modules, "its_end", types.SimpleNamespace(end=end))
    code = f"{IMPORTS}\n    import its_end\n    @hookimpl\n    def codelupe_checks(): its_end.end.wait({HANGS})\n"
    install("broken", code)
    install("zz_sound")
    host = Host(load_plugins())
    try:
        host.checks()
    finally:
        end.set()
    assert_isolated(host, "broken", "not done within 0.5 s")


@pytest.mark.parametrize("name", ["5", "'colours'", "['colour']"])
def test_a_source_setting_that_is_none_breaks_its_plugin(install: Install, name: str) -> None:
    code = f"""{SOUND}
    @hookimpl
    def codelupe_source_setting(): return {name}
    """
    install("broken", code)
    install("zz_sound")
    host = Host(load_plugins())
    assert host.source_settings() == {"crawler": "sources"}
    assert_isolated(host, "broken", "which is none of its settings")
