"""Where settings come from.

Layers, later ones win: defaults, the profile, the settings file, ``CODELUPE_…`` variables, systemd credentials, the
command line. Sections ``[plugins.<name>]`` are validated by each plugin's own model.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource
from pydantic_settings.exceptions import SettingsError

from codelupe.config.messages import CREDENTIAL, allowed, explain, model_of, origin_of, suggestion
from codelupe.config.sections import ModelAtFault, examine, find_problems, leave_out
from codelupe.config.settings import PluginChoice, Settings, frozen, settings_model
from codelupe.errors import ConfigurationError
from codelupe.observability.redaction import redact_text

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
    """Settings before and after validation, with the origin of every value that is not a default.

    ``problems`` is what the operator wrote wrongly; the ``settings`` are then those that the rest makes, with the
    defaults in place of the keys ``left_out``. ``faults`` says by plugin what is wrong with a plugin's own model, such
    as a field without a default that nothing sets; what such a plugin is given is not checked.
    """

    settings: Settings
    origins: Mapping[str, str]
    problems: Sequence[ConfigurationError] = ()
    left_out: Sequence[str] = ()
    faults: Mapping[str, str] = field(default_factory=dict)

    def leaves(self) -> Iterator[tuple[str, Any, str]]:
        """Every setting as (dotted key, value, origin); secrets stay wrapped."""
        for key, value in _leaves(self.settings):
            yield key, value, origin_of(key.split("."), self.origins) or "default"


@dataclass
class RawSettings:
    """Layers, merged but not validated; ``problems`` says which could not be read."""

    layers: Sequence[Layer]
    problems: Sequence[ConfigurationError] = ()
    values: dict[str, Any] = field(init=False, default_factory=dict)
    origins: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for layer in self.layers:
            _merge(self.values, self.origins, layer.values, layer.origin)


def read_settings(
    *, profile: str | None = None, file: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> RawSettings:
    """Read all layers but the environment, which comes in once it is known what the variables may name.

    A file that is missing, unreadable or not TOML, and a profile that is unknown, are problems of what is returned.
    """
    problems: list[ConfigurationError] = []
    layers = _read_each(
        [
            *([partial(_profile_layer, profile)] if profile is not None else []),
            partial(_file_layer, file or DEFAULT_FILE, must_exist=file is not None),
        ],
        problems,
    )
    return RawSettings([*layers, Layer("command line", overrides or {})], problems)


def choose_plugins(
    raw: RawSettings, environment: Mapping[str, str] = os.environ
) -> tuple[PluginChoice, list[ConfigurationError]]:
    """Which plugins these settings let in, as far as they can be read, and what cannot be."""
    variables = tuple(f"{PREFIX}{name.upper()}" for name in PluginChoice.model_fields)
    given = {name: value for name, value in environment.items() if name.upper().startswith(variables)}
    merged = _with_environment(raw, PluginChoice, given)
    merged.values = {key: merged.values[key] for key in PluginChoice.model_fields if key in merged.values}
    choice, mistakes, _ = _usable(PluginChoice, merged)
    return choice, [*merged.problems, *_as_error(mistakes)]


def validate(
    raw: RawSettings, plugin_models: Mapping[str, type[BaseModel] | None], environment: Mapping[str, str] = os.environ
) -> Configuration:
    """The whole tree. A plugin whose model is None may hold any settings (it could not be loaded).

    Raises:
        ConfigurationError: a layer cannot be read, or lists every unknown key and bad value with its file or variable
            and what is allowed.
    """
    configuration = resolve(raw, plugin_models, environment)
    if configuration.problems:
        raise configuration.problems[0]
    return configuration


def resolve(
    raw: RawSettings, plugin_models: Mapping[str, type[BaseModel] | None], environment: Mapping[str, str] = os.environ
) -> Configuration:
    """As :func:`validate`, but what the operator wrote wrongly is told and left out."""
    models, faults = _usable_models(plugin_models)
    merged = _with_environment(raw, settings_model(models), environment)
    mistakes = _examine_sections(models, faults, merged)
    settings, more, left_out = _usable(settings_model(models), merged)
    return Configuration(settings, merged.origins, [*merged.problems, *_as_error([*mistakes, *more])], left_out, faults)


def _usable_models(
    plugin_models: Mapping[str, type[BaseModel] | None],
) -> tuple[dict[str, type[BaseModel] | None], dict[str, str]]:
    """Each plugin's model, frozen, and by plugin what is wrong with one; its model is then None."""
    models: dict[str, type[BaseModel] | None] = {}
    faults: dict[str, str] = {}
    for name, model in plugin_models.items():
        try:
            models[name] = frozen(model) if model is not None else None
            find_problems(models[name] or BaseModel, {})
        except Exception as error:  # noqa: BLE001  # whatever the model raises is the plugin's
            models[name], faults[name] = None, redact_text(str(error))
    return models, faults


def _examine_sections(
    models: dict[str, type[BaseModel] | None], faults: dict[str, str], merged: RawSettings
) -> list[str]:
    """The operator's mistakes in the plugins' sections, which are left out. A model at fault becomes None."""
    tree, mistakes = settings_model(models), []
    sections: Any = merged.values.get("plugins")
    for name, model in models.items():
        section = sections.get(name, {}) if isinstance(sections, dict) else {}
        if model is None:
            continue
        try:
            if not isinstance(section, dict):
                mistakes += [explain(_at(name, each), tree, merged.origins) for each in find_problems(model, section)]
                section = sections[name] = {}
            wrong, lacking = examine(model, section)
        except ModelAtFault as error:
            wrong, faults[name] = [], str(error)
        else:
            mistakes += [explain(_at(name, problem), tree, merged.origins) for problem in wrong]
            if lacking:
                faults[name] = "; ".join(_explain_fault(_at(name, each), tree, merged.origins) for each in lacking)
    models.update(dict.fromkeys(faults))
    return mistakes


def _at(plugin: str, problem: ErrorDetails) -> ErrorDetails:
    return {**problem, "loc": ("plugins", plugin, *problem["loc"])}


def _explain_fault(problem: ErrorDetails, tree: type[BaseModel], origins: Mapping[str, str]) -> str:
    if problem["type"] == "missing":
        return f"it needs the setting {'.'.join(map(str, problem['loc']))}"
    return f"its settings model is wrong: {explain(problem, tree, origins)}"


def _with_environment(raw: RawSettings, model: type[BaseModel], environment: Mapping[str, str]) -> RawSettings:
    problems = list(raw.problems)
    *below, overrides = raw.layers
    readers = [*_variable_readers(model, environment), *_credential_readers(environment, problems)]
    return RawSettings([*below, *_read_each(readers, problems), overrides], problems)


def _read_each(readers: Iterable[Callable[[], Layer]], problems: list[ConfigurationError]) -> list[Layer]:
    """The layers that can be read; the others become problems."""
    layers = []
    for read in readers:
        try:
            layers.append(read())
        except ConfigurationError as error:
            problems.append(error)
    return layers


def _usable(model: type[M], merged: RawSettings) -> tuple[M, list[str], list[str]]:
    """What the values make, what is wrong with some of them, and the keys of these, which are left out."""
    mistakes: list[str] = []
    left_out: list[str] = []
    while True:
        try:
            return model.model_validate(merged.values, extra="forbid"), mistakes, left_out
        except ValidationError as error:
            mistakes += [explain(problem, model, merged.origins) for problem in error.errors()]
            keys = [leave_out(merged.values, problem["loc"]) for problem in error.errors()]
            left_out += [key for key in keys if key is not None]
            if not any(keys):
                raise _as_error(mistakes)[0] from None


def _as_error(mistakes: Sequence[str]) -> list[ConfigurationError]:
    """All of them as one error, if there are any."""
    if not mistakes:
        return []
    return [
        ConfigurationError(
            "the settings are wrong:\n" + "\n".join(f"  {line}" for line in mistakes),
            hint="Correct these; `codelupe config check` then says whether all is right.",
        )
    ]


def _profile_layer(name: str) -> Layer:
    """A built-in profile goes before one of the same name in another distribution. No package is imported."""
    found = sorted(entry_points(group=PROFILES), key=_is_built_in)
    entries = {entry.name: entry for entry in found}
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise ConfigurationError(f"there is no profile {name!r}", hint=f"The profiles are: {known}.")
    try:
        package = find_spec(entries[name].value)
        folders = (package and package.submodule_search_locations) or []
        return Layer(f"profile {name}", tomllib.loads((Path(folders[0]) / f"{name}.toml").read_text(encoding="utf-8")))
    except Exception as error:
        raise ConfigurationError(
            f"the profile {name} of {entries[name].value} cannot be read: {type(error).__name__}: {error}",
            hint="Mend or uninstall the package that brings it.",
        ) from error


def _is_built_in(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == "codelupe"


def _file_layer(path: Path, *, must_exist: bool) -> Layer:
    try:
        return Layer(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if not must_exist:
            return Layer(str(path), {})
        raise ConfigurationError(f"there is no settings file {path}", hint="Create it or correct --config.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}", hint="Correct that line.") from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, a NUL in the path, a huge number
        raise ConfigurationError(f"the settings file {path} cannot be read: {error}") from error


def _variable_readers(model: type[BaseModel], environment: Mapping[str, str]) -> list[Callable[[], Layer]]:
    """One for each ``CODELUPE_…`` variable. An empty one counts as unset, as in most programs."""
    given = sorted(name for name, value in environment.items() if name.startswith(PREFIX) and value)
    return [partial(_variable_layer, model, name, environment[name]) for name in given if name not in _NOT_SETTINGS]


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


def _credential_readers(
    environment: Mapping[str, str], problems: list[ConfigurationError]
) -> list[Callable[[], Layer]]:
    """One for each file in systemd's credentials folder; its name is the dotted key of the setting it holds."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    try:
        return [partial(_credential_layer, path) for path in sorted(Path(folder).iterdir())] if folder else []
    except (OSError, ValueError) as error:
        problems.append(ConfigurationError(f"the credentials in {folder} cannot be read: {error}"))
        return []


def _credential_layer(path: Path) -> Layer:
    try:
        values: Any = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise ConfigurationError(f"the credential {path} cannot be read: {reason}") from None
    if not values:
        raise ConfigurationError(f"the credential {path} is empty", hint="Write the value there, or remove the file.")
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
