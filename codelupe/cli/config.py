"""``codelupe config``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from pydantic import Secret, SecretBytes, SecretStr

from codelupe.cli.output import err, out, print_json, print_table
from codelupe.cli.overrides import parse_overrides
from codelupe.cli.session import AsJson, ConfigFile, Profile, Setting, load
from codelupe.config.messages import CREDENTIAL
from codelupe.observability.logs import configure_logging
from codelupe.observability.redaction import redact_text

app = typer.Typer(no_args_is_help=True, help="Look at the settings.")

_HIDDEN = "***"


@app.command()
def show(config: ConfigFile = None, profile: Profile = None, as_json: AsJson = False, settings: Setting = None) -> None:
    """Print every setting with the place that it comes from; secrets are hidden."""
    configure_logging("error", "auto")
    loaded = load(config, profile, parse_overrides(settings or [])).configuration
    leaves = [
        (key, _HIDDEN if origin.startswith(CREDENTIAL) else _shown(value), origin)
        for key, value, origin in loaded.leaves()
    ]
    if as_json:
        print_json([{"key": key, "value": value, "origin": origin} for key, value, origin in leaves])
    else:
        print_table(["setting", "value", "from"], [(key, _text(value), origin) for key, value, origin in leaves])


@app.command()
def check(config: ConfigFile = None, profile: Profile = None, settings: Setting = None) -> None:
    """Say whether the settings are right; ends with 78 if not. A plugin that is broken is named."""
    configure_logging("critical", "auto")
    session = load(config, profile, parse_overrides(settings or []), lenient=True)
    for plugin in session.host.broken:
        err.print(f"{plugin.name} is broken: {plugin.failure}", markup=False, highlight=False, soft_wrap=True)
    for problem in session.configuration.problems[1:]:
        err.print(f"codelupe: {problem}", markup=False, highlight=False, soft_wrap=True)
    for problem in session.configuration.problems[:1]:
        raise problem
    out.print("The settings are right.")


def _shown(value: Any) -> Any:
    """The value without its secrets, fit for JSON."""
    match value:
        case Secret() | SecretBytes() | SecretStr():
            return _HIDDEN
        case str():
            return redact_text(value)
        case Mapping():
            return {key: _shown(each) for key, each in value.items()}
        case frozenset() | set():
            return sorted(_shown(each) for each in value)
        case list() | tuple():
            return [_shown(each) for each in value]
        case _:
            return value


def _text(value: Any) -> str:
    return "" if value is None else str(value)
