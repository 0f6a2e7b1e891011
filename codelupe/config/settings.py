"""The settings of the daemon itself; each plugin validates its own section."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Secret, SecretStr, create_model, field_validator

_DAY = 86_400
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json", "journal"]


def _findable(folder: Path | None) -> Path | None:
    try:
        if folder is not None:
            folder.expanduser().resolve()
    except RuntimeError as error:  # in the home of an unknown user, or in a circle of links
        raise ValueError(f"cannot be found: {error}") from error
    return folder


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

    _archive_can_be_found = field_validator("archive_dir")(_findable)


class Settings(PluginChoice):
    """What the daemon itself needs to know; everything else belongs to a plugin."""

    state_dir: Path = Field(Path(".codelupe"), description="Folder for all that is kept on disk.")
    repositories_dir: Path | None = Field(None, description="Folder of the clones; unset, `repos` in the state folder.")
    models_dir: Path | None = Field(None, description="Folder of the models; unset, `models` in the state folder.")
    database_url: SecretStr | None = Field(
        None, description="URL of a Postgres database, 15 or newer; unset, an embedded server runs in the state folder."
    )
    database_connections: int = Field(
        10,
        ge=4,
        le=200,
        description="Connections that the plugins of this process share. It opens up to 12 more for itself, and one for"
        " each job and for each service that only one process may run; with metrics_port two for figures of plugins.",
    )
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
    quarantine_after: int = Field(
        5,
        ge=1,
        le=1000,
        description="A subscription, rule, scorer or search index that fails over this many streams in a row is"
        " paused.",
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
        "127.0.0.1", description="Address on which metrics are served; there is no authentication."
    )
    retention: RetentionSettings = Field(default_factory=RetentionSettings, description="What becomes of old events.")
    plugins: PluginSettings = Field(default_factory=PluginSettings, description="Each plugin's own settings.")

    _directories_can_be_found = field_validator("state_dir", "repositories_dir", "models_dir")(_findable)

    @field_validator("database_url")
    @classmethod
    def _is_not_empty(cls, url: SecretStr | None) -> SecretStr | None:
        """An empty address would lead to whichever database the client library falls back on."""
        if url is not None and not url.get_secret_value().strip():
            raise ValueError("it is empty; leave it out for the embedded server")
        return url

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def drain(self) -> timedelta:
        return timedelta(seconds=self.drain_seconds)


def settings_model(plugin_models: Mapping[str, type[BaseModel] | None]) -> type[Settings]:
    """:class:`Settings` with one field under ``plugins`` for each plugin.

    What a plugin without a model is given stays hidden, since what of it is secret is not known.
    """
    fields: dict[str, Any] = {}
    for name, plugin_model in plugin_models.items():
        kind = Secret[dict[str, Any]] if plugin_model is None else frozen(plugin_model)
        fields[name] = (kind, Field({}, validate_default=True))
    plugins = create_model("PluginSettings", __base__=PluginSettings, **fields)
    return create_model("Settings", __base__=Settings, plugins=(plugins, Field({}, validate_default=True)))


def frozen(model: type[BaseModel]) -> type[BaseModel]:
    """The model, made so that its instances cannot be changed."""
    if model.model_config.get("frozen"):
        return model
    config = ConfigDict(**{**model.model_config, "frozen": True})
    return type(model.__name__, (model,), {"model_config": config, "__module__": model.__module__})
