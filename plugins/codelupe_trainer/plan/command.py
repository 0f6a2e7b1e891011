"""``codelupe train plan``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from codelupe.commands import AsJson, ConfigFile, load, out, print_json, print_table
from codelupe_trainer.plan.fit import DoesNotFit, Fit
from codelupe_trainer.plan.memory import CONTEXT, GIB, usable
from codelupe_trainer.plan.run_plan import RunPlan, plan_run
from codelupe_trainer.plan.sizes import parse_size
from codelupe_trainer.plan.time import ASSUMED_UTILISATION, TOKENS_PER_FILE, known_cards
from codelupe_trainer.plan.tracing import Traced, run_traces
from codelupe_trainer.profiles import read_profiles
from codelupe_trainer.settings import TrainerSettings

_CARD = "32GB"

app = typer.Typer(no_args_is_help=True, help="Look ahead at trainings.")


@app.command()
def plan(
    config: ConfigFile = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="NAME", help="The trainer's profile to plan for [default: the settings]."),
    ] = None,
    vram: Annotated[
        str | None,
        typer.Option(
            "--vram",
            metavar="SIZE",
            help=f"Memory that the card is sold with, such as 24GB [default: {_CARD}; the machine's with --cpu].",
        ),
    ] = None,
    files: Annotated[int, typer.Option("--files", min=2, help="Files of the batch.")] = 1000,
    *,
    cpu: Annotated[bool, typer.Option("--cpu", help="Plan for a machine without a card.")] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Run the true shape without numbers as well, and count; takes a minute.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what memory, time and disk a training takes: whether it fits, or what to change.

    Needs no card, no model and no database. Ends with 1 if the training does not fit.
    """
    settings = _settings(config, profile)
    found = plan_run(settings, _free(vram, cpu=cpu), files, on_card=not cpu)
    traced = run_traces([(found.model, found.shape)])[0] if trace else None
    if as_json:
        print_json(_as_data(found, traced, cpu=cpu))
    else:
        _print(found, traced, cpu=cpu)
    if isinstance(found.outcome, DoesNotFit):
        raise typer.Exit(found.outcome.exit_code)


def _settings(config: Path | None, profile: str | None) -> TrainerSettings:
    if profile is None:
        in_force: TrainerSettings = load(config, os.environ.get("CODELUPE_PROFILE")).settings.plugins.trainer  # type: ignore[attr-defined] # each plugin's own
        return in_force
    if profile not in (known := read_profiles()):
        raise typer.BadParameter(f"--profile {profile!r}: there is no such profile; there are {', '.join(known)}")
    return TrainerSettings(profile=profile)


def _free(vram: str | None, *, cpu: bool) -> int:
    if vram is None and cpu:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        size = parse_size(_CARD if vram is None else vram)
    except ValueError as error:
        raise typer.BadParameter(f"--vram {error}") from error
    return size if cpu else usable(size)


# --- output ---


def _print(found: RunPlan, traced: Traced | None, *, cpu: bool) -> None:
    shape = found.shape
    _say(
        f"{found.base}: {found.model.parameters:,} parameters, an adapter of rank {shape.rank} has "
        f"{found.model.adapter_parameters(shape.rank):,}."
    )
    _say(
        f"Micro-batch {shape.micro_batch}, rows of {shape.row_tokens:,} tokens, the adapter in {shape.adapter_dtype}, "
        f"computed in {shape.compute_dtype}."
    )
    out.print()
    memory = found.memory
    _print_sizes("memory", [*memory.at_peak.items(), (f"peak, {memory.peak_at}", memory.peak)])
    if traced is not None:
        _say(f"The trace counts {(traced.peak + CONTEXT) / GIB:.2f} GiB at the peak, framework and context included.")
    out.print()
    _say(_verdict(found))
    out.print()
    _print_time(found, cpu=cpu)
    out.print()
    _print_sizes("disk", asdict(found.disk).items())


def _print_sizes(title: str, sizes: Iterable[tuple[str, int]]) -> None:
    print_table([title, f"{'GiB':>8}"], [(name, f"{size / GIB:8.2f}") for name, size in sizes])


def _verdict(found: RunPlan) -> str:
    taken, free = f"{found.memory.peak / GIB:.2f} GiB", f"{found.free / GIB:.2f}"
    match found.outcome:
        case Fit(times_accumulation=1):
            return f"It fits: {taken} of {free} that are usable."
        case Fit(times_accumulation=times):
            return (
                f"It fits with a micro-batch of {found.shape.micro_batch} in place of {found.asked.micro_batch}, and "
                f"{times} times as many passes a step: {taken} of {free} that are usable."
            )
        case problem:
            return f"It does not fit: {taken}, and {free} are usable.\n{problem.hint}"


def _print_time(found: RunPlan, *, cpu: bool) -> None:
    work, cards = found.work, found.shape.processes
    _say(
        f"{work.files:,} files to train on have about {work.tokens:,} tokens ({TOKENS_PER_FILE} a file at most, the "
        f"mean of real Python files): {work.steps:,} steps, {work.flops:.2e} operations."
    )
    if not cpu:
        rows = [
            (name, card.memory, found.memory.peak <= usable(card.memory * GIB), f"{work.hours(card, cards):8.2f}")
            for name, card in known_cards().items()
        ]
        print_table(["card", "GiB", "fits so", f"{'hours':>8}"], rows)
        of = "the card's peak" if cards == 1 else f"the peak of {cards} such cards"
        _say(f"Hours at an assumed {ASSUMED_UTILISATION:.0%} of {of}, evaluations not counted.")


def _say(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def _as_data(found: RunPlan, traced: Traced | None, *, cpu: bool) -> dict[str, Any]:
    memory, work = found.memory, found.work
    problem = found.outcome if isinstance(found.outcome, DoesNotFit) else None
    return {
        "base": found.base,
        "parameters": found.model.parameters,
        "adapter_parameters": found.model.adapter_parameters(found.shape.rank),
        "shape": asdict(found.shape),
        "asked_micro_batch": found.asked.micro_batch,
        "usable_bytes": found.free,
        "fits": problem is None,
        "memory": memory.always,
        "moments": memory.moments,
        "peak_bytes": memory.peak,
        "peak_at": memory.peak_at,
        "traced_peak_bytes": traced and traced.peak + CONTEXT,
        "proposals": [asdict(one) for one in problem.proposals] if problem else [],
        "work": asdict(work),
        "tokens_per_file": TOKENS_PER_FILE,
        "assumed_utilisation": ASSUMED_UTILISATION,
        "hours": {} if cpu else {name: work.hours(card, found.shape.processes) for name, card in known_cards().items()},
        "disk": asdict(found.disk),
    }
