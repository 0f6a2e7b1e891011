"""Layers and their order, origins, messages that name file, key, value and what is allowed, and kept secrets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NewType

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr, model_validator
from typing_extensions import TypedDict

from codelupe.config import sources as config
from codelupe.config.settings import Settings
from codelupe.config.sources import Configuration, Layer, RawSettings, choose_plugins, read_settings, validate
from codelupe.errors import ConfigurationError


class Limits(BaseModel):
    files: int = Field(default=10, ge=1)


class Token(SecretStr):
    """A plugin's own kind of secret."""


Key = NewType("Key", SecretStr)


class Account(BaseModel):
    name: str
    token: SecretStr = Field(max_length=5)


class Proxy(TypedDict):
    password: Annotated[SecretStr, Field(max_length=5)] | None


class CrawlerSettings(BaseModel):
    model_config = ConfigDict(extra="allow")

    every: timedelta = timedelta(hours=1)
    names: list[str] = []
    token: SecretStr | None = None
    tokens: dict[str, SecretStr] = {}
    ages: dict[str, int] = {}
    hidden: Token | None = Field(default=None, max_length=5)
    key: Key | None = Field(default=None, max_length=5)
    pin: SecretStr | None = Field(default=None, validation_alias=AliasChoices("pin-code", AliasPath("pins", 0)))
    account: Annotated[Account | int, Field()] = 0
    accounts: list[Account] = []
    by_host: dict[str, list[Account] | None] = {}
    proxy: Proxy | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _names_and_token_go_together(self) -> CrawlerSettings:
        if "needs-token" in self.names and self.token is None and not self.tokens:
            raise ValueError("a token is needed")
        if "no-token" in self.names and self.token is not None:
            raise ValueError("no token is needed")
        return self


PLUGINS = {"crawler": CrawlerSettings}
TOKEN = "hidden-away"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "etc" / "codelupe.toml")


def settings_file(folder: Path, text: str) -> Path:
    path = folder / "codelupe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def load(
    environment: Mapping[str, str] | None = None,
    *,
    plugins: Mapping[str, type[BaseModel] | None] = PLUGINS,
    **layers: Any,
) -> Configuration:
    return validate(read_settings(**layers), plugins, environment=environment or {})


def refusal(environment: Mapping[str, str] | None = None, **layers: Any) -> str:
    """The message that these settings are refused with; it must have the right exit code and keep the secret."""
    with pytest.raises(ConfigurationError) as caught:
        load(environment, **layers)
    assert caught.value.exit_code == 78
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def origins(configuration: Configuration) -> dict[str, str]:
    return {key: origin for key, _, origin in configuration.leaves()}


def crawler(configuration: Configuration) -> CrawlerSettings:
    it = getattr(configuration.settings.plugins, "crawler")  # noqa: B009  # the field is made at run time
    assert isinstance(it, CrawlerSettings)
    return it


# --- layers ---


def test_defaults_make_working_settings() -> None:
    settings = load().settings
    assert settings.state_dir == Path(".codelupe")
    assert settings.lease == timedelta(minutes=1)
    assert settings.drain == timedelta(seconds=30)
    assert set(origins(load()).values()) == {"default"}


def test_each_layer_wins_over_those_before_it(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file = settings_file(tmp_path, "drain_seconds = 2\n")
    layers: list[tuple[float, str]] = []
    unloaded = dict.fromkeys(("crawler", "downloader", "filters", "ray", "scorers", "search", "trainer"))

    def note(environment: Mapping[str, str] | None = None, **given: Any) -> None:
        configuration = load(environment, plugins=unloaded, **given)
        layers.append((configuration.settings.drain_seconds, origins(configuration)["drain_seconds"]))

    note()
    note(profile="demo")
    note(profile="demo", file=file)
    environment = {"CODELUPE_DRAIN_SECONDS": "3"}
    note(environment, profile="demo", file=file)
    (credentials / "drain_seconds").write_text("4\n")
    environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    note(environment, profile="demo", file=file)
    note(environment, profile="demo", file=file, overrides={"drain_seconds": 6})
    assert layers == [
        (30, "default"),
        (5, "profile demo"),
        (2, str(file)),
        (3, "CODELUPE_DRAIN_SECONDS"),
        (4, "credential drain_seconds"),
        (6, "command line"),
    ]


def test_tables_are_merged_key_by_key(tmp_path: Path) -> None:
    file = settings_file(tmp_path, '[plugins.crawler]\nnames = ["file"]\n[plugins.crawler.limits]\nfiles = 3\n')
    configuration = load(
        {"CODELUPE_PLUGINS__CRAWLER__NAMES": '["environment"]'},
        file=file,
        overrides={"plugins": {"crawler": {"every": 60}}},
    )
    settings = crawler(configuration)
    assert (settings.names, settings.limits.files, settings.every) == (["environment"], 3, timedelta(minutes=1))
    found = origins(configuration)
    assert found["plugins.crawler.names"] == "CODELUPE_PLUGINS__CRAWLER__NAMES"
    assert found["plugins.crawler.limits.files"] == str(file)
    assert found["plugins.crawler.every"] == "command line"
    assert found["plugins.crawler.token"] == "default"


def test_the_origin_of_a_table_is_where_its_entries_come_from(tmp_path: Path) -> None:
    file = settings_file(tmp_path, '[plugin_distributions]\ncrawler = "codelupe"\n[plugins.crawler.ages]\na = 1\n')
    found = origins(load(file=file))
    assert found["plugin_distributions"] == str(file)
    assert found["plugins.crawler.ages"] == str(file)


def test_a_value_that_replaces_a_table_is_blamed_alone(tmp_path: Path) -> None:
    file = settings_file(tmp_path, "[plugins.crawler.ages]\na = 1\n")
    message = refusal(file=file, overrides={"plugins": {"crawler": {"ages": 5}}})
    assert "command line: plugins.crawler.ages = 5" in message


def test_the_file_of_the_system_is_read_unless_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    settings_file(tmp_path / "etc", "drain_seconds = 1\n")
    other = settings_file(tmp_path, 'log_level = "debug"\n')
    assert load().settings.drain_seconds == 1
    assert load(file=other).settings.drain_seconds == 30


def test_a_file_of_the_system_that_cannot_be_read_is_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "etc" / "codelupe.toml").mkdir(parents=True)
    assert "codelupe.toml cannot be read" in refusal()


def test_settings_are_frozen() -> None:
    settings = load().settings
    with pytest.raises(ValueError, match="frozen"):
        settings.log_level = "debug"
    with pytest.raises(ValueError, match="frozen"):
        crawler(load()).names = []


def test_variables_without_the_prefix_are_nobody_s_business(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOG_LEVEL", "EXECUTOR", "SEARCH_INDEX", "STATE_DIR", "PLUGINS"):
        monkeypatch.setenv(name, "elsewhere")
    settings = load().settings
    assert (settings.log_level, settings.executor, settings.state_dir) == ("info", "processes", Path(".codelupe"))


# --- the environment ---


def test_lists_and_tables_are_json_in_variables() -> None:
    settings = crawler(
        load(
            {
                "CODELUPE_PLUGINS__CRAWLER__NAMES": '["a", "b"]',
                "CODELUPE_PLUGINS__CRAWLER__AGES": '{"rich": 6}',
                "CODELUPE_PLUGINS__CRAWLER__LIMITS__FILES": "7",
            }
        )
    )
    assert (settings.names, settings.ages, settings.limits.files) == (["a", "b"], {"rich": 6}, 7)


def test_an_entry_of_a_table_may_have_a_variable_of_its_own() -> None:
    environment = {"CODELUPE_PLUGINS": '{"crawler": {"ages": {"a": 1}}}', "CODELUPE_PLUGINS__CRAWLER__AGES__B": "2"}
    assert crawler(load(environment)).ages == {"a": 1, "b": 2}


def test_an_empty_variable_counts_as_unset() -> None:
    assert load({"CODELUPE_DATABASE_URL": "", "CODELUPE_LOG_LEVEL": ""}).settings.database_url is None


def test_the_variables_of_the_command_line_are_no_settings() -> None:
    assert set(origins(load({"CODELUPE_CONFIG": "x", "CODELUPE_PROFILE": "demo"})).values()) == {"default"}


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CODELUPE_LOGLEVEL", "debug", ["did you mean log_level?", "state_dir"]),
        ("CODELUPE_PLUGINS__CRAWLER__NAME", "x", ["did you mean names?", "token"]),
        ("CODELUPE_PLUGINS__CRAWLR__NAMES", "[]", ["did you mean crawler?"]),
        ("CODELUPE_", "x", ["names no setting"]),
        ("CODELUPE_LOG_LEVEL__DEEPER", "debug", ["single value"]),
        ("CODELUPE_LOG_LEVEL", "loud", ["log_level = 'loud'", "'debug', 'info', 'warning' or 'error'"]),
        ("CODELUPE_LEASE_SECONDS", "1", ["lease_seconds = '1'", "greater than or equal to 2"]),
        ("CODELUPE_PLUGINS__CRAWLER__NAMES", "a,b", ["JSON", "line 1 column 1"]),
        ("CODELUPE_PLUGINS__CRAWLER", f'{{"token": "{TOKEN}"', ["JSON"]),
        ("CODELUPE_PLUGINS__CRAWLER", f'{{"token": ["{TOKEN}"]}}', ["plugins.crawler.token", "valid string"]),
        ("CODELUPE_PLUGINS", "5", ["plugins = 5"]),
        ("CODELUPE_DISABLED_PLUGINS", "crawler", ["JSON"]),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_allowed(variable: str, value: str, words: list[str]) -> None:
    message = refusal({variable: value})
    assert variable in message
    assert [word for word in words if word not in message] == []


# --- files ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("log_levle = 1\n", ["unknown key log_levle", "did you mean log_level?", "allowed: ", "state_dir"]),
        ("[plugins.crawler]\nnam = 1\n", ["unknown key plugins.crawler.nam", "did you mean names?", "every, names"]),
        ("[plugins.crawler.limits]\nfile = 1\n", ["unknown key plugins.crawler.limits.file", "allowed: files"]),
        ("[plugins.crawlr]\nnames = []\n", ["unknown key plugins.crawlr", "did you mean crawler?"]),
        ("[plugins.absent]\n", ["unknown key plugins.absent", "allowed: crawler"]),
        ('log_level = "loud"\n', ["log_level = 'loud'", "'debug', 'info', 'warning' or 'error'"]),
        ("lease_seconds = 1\n", ["lease_seconds = 1", "greater than or equal to 2"]),
        ("lease_seconds = inf\n", ["lease_seconds = inf", "less than or equal to"]),
        ("drain_seconds = nan\n", ["drain_seconds = nan"]),
        ("database_connections = true\n", ["database_connections = True", "greater than or equal to 4"]),
        ("[plugins.crawler.limits]\nfiles = 0\n", ["plugins.crawler.limits.files = 0", "greater than or equal to 1"]),
        ('[plugins.crawler]\nnames = ["a", 5]\n', ["plugins.crawler.names.1 = 5", "valid string"]),
        ("plugins = 5\n", ["plugins = 5"]),
        ('disabled_plugins = "crawler"\n', ["disabled_plugins = 'crawler'", "frozenset"]),
    ],
)
def test_a_wrong_file_is_named_with_key_value_and_what_is_allowed(tmp_path: Path, text: str, words: list[str]) -> None:
    file = settings_file(tmp_path, text)
    message = refusal(file=file)
    assert str(file) in message
    assert [word for word in words if word not in message] == []


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = settings_file(tmp_path, 'log_level = "loud"\n[plugins.crawler]\ncolour = "red"\n')
    message = refusal({"CODELUPE_LEASE_SECONDS": "0"}, file=file)
    for word in ("log_level", "plugins.crawler.colour", "lease_seconds"):
        assert word in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"log_level = \n", ["not valid TOML", "line 1"]),
        (b"a = 1\na = 2\n", ["not valid TOML"]),
        (b"\xff\xfe", ["cannot be read"]),
        (None, ["there is no settings file", "--config"]),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, words: list[str]) -> None:
    file = tmp_path / "codelupe.toml"
    if content is not None:
        file.write_bytes(content)
    message = refusal(file=file)
    assert str(file) in message
    assert [word for word in words if word not in message] == []


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    assert f"{tmp_path} cannot be read" in refusal(file=tmp_path)


def test_an_unknown_profile_is_named_with_the_known_ones() -> None:
    message = refusal(profile="dmeo")
    assert "'dmeo'" in message
    assert "demo" in message.partition("\n")[2]


# --- credentials ---


def test_credentials_are_files_named_like_the_setting(tmp_path: Path) -> None:
    (tmp_path / "database_url").write_text("postgresql:///db\n")
    (tmp_path / "plugins.crawler.token").write_text(f"{TOKEN}\n")
    configuration = load({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert configuration.settings.database_url == SecretStr("postgresql:///db")
    assert crawler(configuration).token == SecretStr(TOKEN)
    assert origins(configuration)["plugins.crawler.token"] == "credential plugins.crawler.token"


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("plugins.crawler.tokn", TOKEN.encode(), "did you mean token?"),
        ("plugins", TOKEN.encode(), "plugins"),
        ("database_url", b"\xff" + TOKEN.encode(), "cannot be read"),
    ],
)
def test_a_wrong_credential_is_named_and_kept_secret(tmp_path: Path, name: str, content: bytes, word: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert word in refusal({"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_credentials_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/gone" in refusal({"CREDENTIALS_DIRECTORY": f"{tmp_path}/gone"})


# --- secrets ---


@pytest.mark.parametrize(
    "values",
    [
        {"token": [TOKEN]},
        {"tokens": {"a": [TOKEN]}},
        {"tokens": [TOKEN]},
        {"token": TOKEN, "names": ["no-token"]},
        {"tokens": {"a": TOKEN}, "ages": 5},
        {"account": TOKEN},
        {"hidden": TOKEN},
        {"key": TOKEN},
        {"account": {"name": "a", "token": TOKEN}},
        {"accounts": [TOKEN]},
        {"accounts": TOKEN},
        {"accounts": [{"name": "a", "token": TOKEN}, {"name": "b", "token": 5}]},
        {"by_host": {"name": TOKEN}},
        {"by_host": {"name": [TOKEN]}},
        {"by_host": {"name": [{"name": "a", "token": TOKEN}]}},
        {"proxy": TOKEN},
        {"proxy": {"password": TOKEN}},
        {"names": [["https://user:" + TOKEN + "@example.org/"]]},
        {"every": "https://" + TOKEN + "@example.org/"},
    ],
)
def test_messages_keep_secrets(values: dict[str, Any]) -> None:
    assert "plugins.crawler" in refusal(overrides={"plugins": {"crawler": values}})


def test_a_number_where_a_secret_belongs_is_kept_too() -> None:
    assert "12345" not in refusal(overrides={"plugins": {"crawler": {"pin-code": 12345}}})


def test_the_database_s_address_is_a_secret() -> None:
    assert "database_url" in refusal(overrides={"database_url": [f"postgresql://user:{TOKEN}@host/"]})
    configuration = load({"CODELUPE_DATABASE_URL": f"postgresql://user:{TOKEN}@host/"})
    assert TOKEN not in repr(list(configuration.leaves()))
    assert TOKEN not in repr(configuration.settings)


# --- plugins ---


def test_a_plugin_that_could_not_be_loaded_may_hold_any_settings_and_they_stay_hidden() -> None:
    overrides = {"plugins": {"broken": {"token": TOKEN, "deep": {"er": [1]}}}}
    configuration = load(
        {"CODELUPE_PLUGINS__BROKEN__OTHER": TOKEN}, plugins={**PLUGINS, "broken": None}, overrides=overrides
    )
    leaves = list(configuration.leaves())
    assert TOKEN not in repr(leaves)
    assert [origin for key, _, origin in leaves if key == "plugins.broken"] == ["CODELUPE_PLUGINS__BROKEN__OTHER"]


def test_a_plugin_without_settings_takes_none() -> None:
    message = refusal(plugins={"search": BaseModel}, overrides={"plugins": {"search": {"x": 1}}})
    assert "unknown key plugins.search.x; allowed: nothing" in message


def test_a_setting_that_a_plugin_requires_is_named() -> None:
    class Demanding(BaseModel):
        token: SecretStr

    assert load(plugins={"github": Demanding}).faults == {"github": "it needs the setting plugins.github.token"}
    given = load(plugins={"github": Demanding}, overrides={"plugins": {"github": {"token": TOKEN}}})
    assert ("plugins.github.token", SecretStr(TOKEN), "command line") in list(given.leaves())


# --- which plugins to load ---


def test_the_choice_of_plugins_is_known_before_their_settings_are(tmp_path: Path) -> None:
    file = settings_file(tmp_path, '[plugins.unheard-of]\nx = 1\n[plugin_distributions]\ncrawler = "theirs"\n')
    raw = read_settings(file=file)
    choice, problems = choose_plugins(raw, {})
    assert problems == []
    assert (choice.disabled_plugins, choice.plugin_distributions) == (frozenset(), {"crawler": "theirs"})
    environment = {"CODELUPE_DISABLED_PLUGINS": '["search"]', "CODELUPE_PLUGINS__UNHEARD_OF__X": "2"}
    assert choose_plugins(raw, environment)[0].disabled_plugins == {"search"}


def test_the_command_line_may_disable_plugins() -> None:
    raw = RawSettings([Layer("command line", {"disabled_plugins": ["trainer"]})])
    assert choose_plugins(raw, {"CODELUPE_DISABLED_PLUGINS": '["search"]'})[0].disabled_plugins == {"trainer"}


@pytest.mark.parametrize("value", [5, "crawler", [1], {"crawler": True}])
def test_a_wrong_choice_of_plugins_is_an_error_like_any_other(value: object) -> None:
    raw = RawSettings([Layer("codelupe.toml", {"disabled_plugins": value})])
    choice, [problem] = choose_plugins(raw, {})
    assert "codelupe.toml: disabled_plugins" in problem.message
    assert choice.disabled_plugins == frozenset()


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
