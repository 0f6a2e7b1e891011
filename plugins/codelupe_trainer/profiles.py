"""Named settings, by which a base model is trained well."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def read_profiles() -> Mapping[str, Mapping[str, Any]]:
    """The settings of each profile that differ from the defaults."""
    return tomllib.loads((files(__package__) / "profiles.toml").read_text(encoding="utf-8"))


def laid_over(profile: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and what the profile says where nothing is given; tables are joined."""
    joined = dict(profile)
    for name, value in given.items():
        below = joined.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            joined[name] = laid_over(below, value)
        else:
            joined[name] = value
    return joined
