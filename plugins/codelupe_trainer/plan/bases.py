"""Finds the shape of a base model by its name, without a hub."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from codelupe import CodelupeError
from codelupe_trainer.plan.model_shape import ModelShape, UnknownShape


@dataclass(frozen=True)
class KnownModel:
    """A model whose shape ships with this package."""

    bases: tuple[str, ...]
    """The names under which the setting ``base`` may ask for it."""
    shape: ModelShape


@cache
def known_models() -> Mapping[str, KnownModel]:
    """By their short names, as they stand in ``models.toml``."""
    entries = tomllib.loads((files(__package__) / "models.toml").read_text(encoding="utf-8"))
    return {
        name: KnownModel(tuple(entry["bases"]), ModelShape.from_config(entry["config"]))
        for name, entry in entries.items()
    }


def shape_of(base: str) -> ModelShape:
    """The shape of the model that the setting ``base`` names.

    A known name, a folder with a ``config.json``, or a model of the hub whose configuration lies in its cache.

    Raises:
        CodelupeError: it is none of these, or its configuration is of no use.
    """
    for model in known_models().values():
        if base.lower() in {name.lower() for name in model.bases}:
            return model.shape
    path = _config_file(base)
    try:
        return ModelShape.from_config(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, UnknownShape) as error:
        raise CodelupeError(f"{path} is no configuration to plan by: {error}") from error


def _config_file(base: str) -> Path:
    if (folder := Path(base)).is_dir():
        return folder / "config.json"
    if (cached := _in_hub_cache(base)) is not None:
        return cached
    names = ", ".join(model.bases[0] for model in known_models().values())
    raise CodelupeError(
        f"the shape of the base model {base} is not known",
        hint=f"Known are {names}. For another, set `base` to a folder that holds its config.json.",
    )


def _in_hub_cache(base: str) -> Path | None:
    if base.count("/") != 1 or find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(base, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
