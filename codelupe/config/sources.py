"""Where settings come from.

Layers, later ones win: defaults, the profile, the settings file, ``CODELUPE_…`` variables, systemd credentials, the
command line. Sections ``[plugins.<name>]`` are validated by each plugin's own model.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource
from pydantic_settings.exceptions import SettingsError

from codelupe.config.messages import CREDENTIAL, allowed, explain, model_of, origin_of, suggestion
from codelupe.config.settings import PluginChoice, Settings, settings_model
from codelupe.errors import ConfigurationError

DEFAULT_FILE = Path("/etc/codelupe/codelupe.toml")
PROFILES = "codelupe.profiles"
"""The group of entry points that name profiles: each leads to a package that holds ``<name>.toml``."""
PREFIX = "CODELUPE_"
_NOT_SETTINGS = {"CODELUPE_CONFIG", "CODELUPE_PROFILE"}
M = TypeVar("M", bound=BaseModel)


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
            yield key, value, origin_of(key.split("."), self.origins) or "default"


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
    merged = _with_environment(raw, PluginChoice, given)
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
    merged = _with_environment(raw, model, environment)
    return Configuration(_validated(model, merged), merged.origins)


def _with_environment(raw: RawSettings, model: type[BaseModel], environment: Mapping[str, str]) -> RawSettings:
    *below, overrides = raw.layers
    return RawSettings([*below, *_environment_layers(model, environment), *_credential_layers(environment), overrides])


def _validated(model: type[M], merged: RawSettings) -> M:
    try:
        return model.model_validate(merged.values, extra="forbid")
    except ValidationError as error:
        lines = [explain(problem, model, merged.origins) for problem in error.errors()]
        raise ConfigurationError(
            "the settings are wrong:\n" + "\n".join(f"  {line}" for line in lines),
            hint="Correct these; `codelupe config check` then says whether all is right.",
        ) from None


def _profile_layer(name: str) -> Layer:
    entries = {entry.name: entry for entry in entry_points(group=PROFILES)}
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise ConfigurationError(f"there is no profile {name!r}", hint=f"The profiles are: {known}.")
    text = (files(entries[name].value) / f"{name}.toml").read_text(encoding="utf-8")
    return Layer(f"profile {name}", tomllib.loads(text))


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
                f"the variable {name} names no setting{suggestion(part, at)}", hint=f"Allowed here: {allowed(at)}."
            )
        at = model_of(at, part)


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


def _leaves(model: BaseModel, at: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value
