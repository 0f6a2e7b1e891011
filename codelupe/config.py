"""One validated, frozen tree of settings, and where each value comes from.

Layers, later ones win: defaults, the profile, the settings file, ``CODELUPE_…`` variables, systemd credentials, the
command line. Sections ``[plugins.<name>]`` are validated by each plugin's own model.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, Secret, SecretStr, ValidationError, create_model
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource
from pydantic_settings.exceptions import SettingsError

from codelupe.errors import ConfigurationError
from codelupe.journal import redact_text

DEFAULT_FILE = Path("/etc/codelupe/codelupe.toml")
PREFIX = "CODELUPE_"
CREDENTIAL = "credential"
"""First word of the origin of what came as one; it is never shown."""
_NOT_SETTINGS = {"CODELUPE_CONFIG", "CODELUPE_PROFILE"}
_DAY = 86_400

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json", "journal"]
M = TypeVar("M", bound=BaseModel)


class PluginChoice(BaseModel):
    """Which plugins are loaded: this must be known before the plugins' own settings are."""

    model_config = ConfigDict(frozen=True)

    disabled_plugins: frozenset[str] = Field(frozenset(), description="Plugins that are not loaded.")
    plugin_distributions: dict[str, str] = Field(
        {}, description="Which distribution provides a plugin whose name two of them claim."
    )


class PluginSettings(BaseModel):
    """One field for each plugin, once :func:`settings_model` knows them."""

    model_config = ConfigDict(frozen=True)


class RetentionSettings(BaseModel):
    """How long events stay in the database."""

    model_config = ConfigDict(frozen=True)

    keep: timedelta | None = Field(
        default=None,
        ge=timedelta(0),
        description="How old events are before they leave the database, such as `P365D`; unset, they stay.",
    )
    then: Literal["archive", "drop"] = Field(
        default="archive", description="archive: into Parquet files; drop: for good."
    )
    archive_dir: Path | None = Field(
        default=None, description="Folder of the Parquet files; unset, `archive` in the state folder."
    )


class Settings(PluginChoice):
    """What the daemon itself needs to know; everything else belongs to a plugin."""

    state_dir: Path = Field(Path(".codelupe"), description="Folder for all that is kept on disk.")
    repositories_dir: Path | None = Field(None, description="Folder of the clones; unset, `repos` in the state folder.")
    models_dir: Path | None = Field(None, description="Folder of the models; unset, `models` in the state folder.")
    database_url: SecretStr | None = Field(
        None, description="URL of a Postgres database, 15 or newer; unset, an embedded server runs in the state folder."
    )
    database_connections: int = Field(10, ge=4, le=200, description="Connections that this process opens at most.")
    log_level: LogLevel = Field("info", description="Least severe log records to write.")
    log_format: LogFormat = Field(
        "auto", description="auto: journal under systemd, console on a terminal, JSON lines otherwise."
    )
    lease_seconds: float = Field(
        60, ge=2, le=_DAY, description="After this long without a heartbeat others take the work over."
    )
    drain_seconds: float = Field(
        30, ge=0, le=_DAY, description="How long running handlers may go on after a request to stop."
    )
    search_index: str = Field("postgres", description="Which plugin's search index is used.")
    executor: str = Field("processes", description="Where CPU-heavy work runs; `processes` is a pool on this machine.")
    executor_workers: int | None = Field(
        None, ge=1, description="Processes of that pool; as many as it may use CPUs if unset."
    )
    executor_file_seconds: float = Field(
        30,
        gt=0,
        le=_DAY,
        description="CPU time in seconds that one file may take in that pool; asleep it may be four times as long."
        " Over it the file is rejected, and its process killed.",
    )
    executor_worker_mib: int = Field(
        1024,
        ge=512,
        description="Memory in MiB that a process of that pool may hold; a file that needs more is rejected. A process"
        " that holds half of it is replaced.",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port on which metrics are served to Prometheus; unset, none are."
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address on which metrics are served; nobody is asked who he is."
    )
    retention: RetentionSettings = Field(default_factory=RetentionSettings, description="What becomes of old events.")
    plugins: PluginSettings = Field(default_factory=PluginSettings, description="Each plugin's own settings.")

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def drain(self) -> timedelta:
        return timedelta(seconds=self.drain_seconds)


@dataclass(frozen=True)
class Layer:
    """Some settings and the place that they come from, such as ``/etc/codelupe/codelupe.toml``."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """Settings before and after validation, with the origin of every value that is not a default."""

    settings: Settings
    origins: Mapping[str, str]

    def leaves(self) -> Iterator[tuple[str, Any, str]]:
        """Every setting as (dotted key, value, origin); secrets stay wrapped."""
        for key, value in _leaves(self.settings):
            yield key, value, _where(key.split("."), self.origins) or "default"


@dataclass
class RawSettings:
    """Layers, merged but not validated."""

    layers: Sequence[Layer]
    values: dict[str, Any] = field(init=False, default_factory=dict)
    origins: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for layer in self.layers:
            _merge(self.values, self.origins, layer.values, layer.origin)


def read_settings(
    *, profile: str | None = None, file: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> RawSettings:
    """Read all layers but the environment, which comes in once it is known what the variables may name.

    Raises:
        ConfigurationError: a file is missing, unreadable or not TOML, or the profile is unknown.
    """
    layers = []
    if profile is not None:
        layers.append(_profile_layer(profile))
    layers.append(_file_layer(file or DEFAULT_FILE, must_exist=file is not None))
    return RawSettings([*layers, Layer("command line", overrides or {})])


def choose_plugins(raw: RawSettings, environment: Mapping[str, str] = os.environ) -> PluginChoice:
    """Which plugins these settings let in.

    Raises:
        ConfigurationError: one of these few settings is wrong.
    """
    variables = tuple(f"{PREFIX}{name.upper()}" for name in PluginChoice.model_fields)
    given = {name: value for name, value in environment.items() if name.upper().startswith(variables)}
    merged = _with_surroundings(raw, PluginChoice, given)
    merged.values = {key: merged.values[key] for key in PluginChoice.model_fields if key in merged.values}
    return _validated(PluginChoice, merged)


def validate(
    raw: RawSettings, plugin_models: Mapping[str, type[BaseModel] | None], environment: Mapping[str, str] = os.environ
) -> Configuration:
    """The whole tree. A plugin whose model is None may hold any settings (it could not be loaded).

    Raises:
        ConfigurationError: lists every unknown key and bad value with its file or variable and what is allowed.
    """
    model = settings_model(plugin_models)
    merged = _with_surroundings(raw, model, environment)
    return Configuration(_validated(model, merged), merged.origins)


def _with_surroundings(raw: RawSettings, model: type[BaseModel], environment: Mapping[str, str]) -> RawSettings:
    *below, overrides = raw.layers
    return RawSettings([*below, *_environment_layers(model, environment), *_credential_layers(environment), overrides])


def _validated(model: type[M], merged: RawSettings) -> M:
    try:
        return model.model_validate(merged.values, extra="forbid")
    except ValidationError as error:
        lines = [_explain(problem, model, merged.origins) for problem in error.errors()]
        raise ConfigurationError(
            "the settings are wrong:\n" + "\n".join(f"  {line}" for line in lines),
            hint="Correct these; `codelupe config check` then says whether all is right.",
        ) from None


def settings_model(plugin_models: Mapping[str, type[BaseModel] | None]) -> type[Settings]:
    """:class:`Settings` with one field under ``plugins`` for each plugin.

    What a plugin without a model is given stays hidden, for nobody knows what of it is secret.
    """
    fields: dict[str, Any] = {}
    for name, plugin_model in plugin_models.items():
        kind = Secret[dict[str, Any]] if plugin_model is None else _frozen(plugin_model)
        fields[name] = (kind, Field({}, validate_default=True))
    plugins = create_model("PluginSettings", __base__=PluginSettings, **fields)
    return create_model("Settings", __base__=Settings, plugins=(plugins, Field({}, validate_default=True)))


def _frozen(model: type[BaseModel]) -> type[BaseModel]:
    config = ConfigDict(**{**model.model_config, "frozen": True})
    return type(model.__name__, (model,), {"model_config": config, "__module__": model.__module__})


# --- layers ---


def _profile_layer(name: str) -> Layer:
    folder = files("codelupe") / "profiles"
    known = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    if name not in known:
        raise ConfigurationError(f"there is no profile {name!r}", hint=f"The profiles are: {', '.join(known)}.")
    return Layer(f"profile {name}", tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8")))


def _file_layer(path: Path, *, must_exist: bool) -> Layer:
    try:
        return Layer(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if not must_exist:
            return Layer(str(path), {})
        raise ConfigurationError(f"there is no settings file {path}", hint="Create it or correct --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the settings file {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}", hint="Correct that line.") from error


def _environment_layers(model: type[BaseModel], environment: Mapping[str, str]) -> list[Layer]:
    """One for each ``CODELUPE_…`` variable. An empty one counts as unset, as in most programs."""
    given = sorted(name for name, value in environment.items() if name.startswith(PREFIX) and value)
    return [_variable_layer(model, name, environment[name]) for name in given if name not in _NOT_SETTINGS]


def _variable_layer(model: type[BaseModel], name: str, value: str) -> Layer:
    _check_variable(name, model)
    source = EnvSettingsSource(model, env_prefix=PREFIX, env_nested_delimiter="__")  # type: ignore[arg-type]
    source.env_vars = {name.lower(): value}
    try:
        values = source()
    except SettingsError as error:
        message = f"the variable {name} is not valid JSON: {error.__cause__}"
        raise ConfigurationError(message, hint="Lists and tables are written as JSON there.") from None
    if not values:
        raise ConfigurationError(f"the variable {name} names something inside a setting that holds a single value")
    return Layer(name, values)


def _check_variable(name: str, model: type[BaseModel]) -> None:
    at: Any = model
    for part in name.removeprefix(PREFIX).lower().split("__"):
        if not (isinstance(at, type) and issubclass(at, BaseModel)):
            return
        if part not in at.model_fields:
            raise ConfigurationError(
                f"the variable {name} names no setting{_suggestion(part, at)}", hint=f"Allowed here: {_allowed(at)}."
            )
        at = _model_of(at, part)


def _credential_layers(environment: Mapping[str, str]) -> list[Layer]:
    """Files in systemd's credentials folder; a file's name is the dotted key of the setting it holds."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    try:
        return [_credential_layer(path) for path in sorted(Path(folder).iterdir())] if folder else []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the credentials in {folder} cannot be read: {error}") from error


def _credential_layer(path: Path) -> Layer:
    values: Any = path.read_text(encoding="utf-8").strip()
    for part in reversed(path.name.split(".")):
        values = {part: values}
    return Layer(f"{CREDENTIAL} {path.name}", values)


def _merge(into: dict[str, Any], origins: dict[str, str], values: Mapping[str, Any], origin: str, at: str = "") -> None:
    for key, value in values.items():
        path = f"{at}{key}"
        if isinstance(value, Mapping):
            below = into.get(key)
            into[key] = below = dict(below) if isinstance(below, Mapping) else {}
            origins.pop(path, None)
            if not value:
                origins[path] = origin
            _merge(below, origins, value, origin, f"{path}.")
        else:
            into[key] = value
            for replaced in [old for old in origins if old.startswith(f"{path}.")]:
                del origins[replaced]
            origins[path] = origin


# --- messages ---


def _explain(problem: ErrorDetails, model: type[BaseModel], origins: Mapping[str, str]) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    where = _where(location, origins) or "settings"
    if problem["type"] == "extra_forbidden":
        owner = _owner(model, location[:-1])
        return f"{where}: unknown key {key}{_suggestion(location[-1], owner)}; allowed: {_allowed(owner)}"
    is_secret = where.startswith(CREDENTIAL) or _is_secret(model, location)
    is_shown = isinstance(problem["input"], str | int | float) and not is_secret
    value = f" = {redact_text(repr(problem['input']))}" if is_shown else ""
    return f"{where}: {key}{value}: {problem['msg']}"


def _where(location: Sequence[str], origins: Mapping[str, str]) -> str | None:
    """The origin of the value there, of one below it, or of the nearest one above it."""
    key = ".".join(location)
    below = [origin for path, origin in origins.items() if path == key or path.startswith(f"{key}.")]
    above = [origins.get(".".join(location[:length])) for length in range(len(location) - 1, 0, -1)]
    return next((origin for origin in [*below, *above] if origin), None)


def _owner(model: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    for part in path:
        below = _model_of(model, part)
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            return model
        model = below
    return model


def _is_secret(model: type[BaseModel], path: Sequence[str]) -> bool:
    """Whether a field on the way there holds secrets."""
    owners = [_owner(model, path[:depth]) for depth in range(len(path))]
    infos = [owner.model_fields.get(part) for owner, part in zip(owners, path, strict=True)]
    return any(info is not None and "Secret" in str(info.annotation) for info in infos)


def _model_of(model: type[BaseModel], name: str) -> Any:
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    candidates = [annotation, *get_args(annotation)]
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), annotation)


def _suggestion(name: str, model: type[BaseModel]) -> str:
    close = get_close_matches(name, model.model_fields, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _allowed(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields) or "nothing"


def _leaves(model: BaseModel, at: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value
