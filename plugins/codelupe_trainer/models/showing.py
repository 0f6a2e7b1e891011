"""How the commands show models on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.tree import Tree

from codelupe.commands import err, out, plain, print_table
from codelupe_trainer.models.known import flat_figures

_FILES_SHOWN = 3


def losses(model: dict[str, Any]) -> str:
    """A model's losses in training, in one line."""
    return ", ".join(f"{name} {loss:.3f}" for name, loss in model["losses"].items())


def held_out(model: dict[str, Any]) -> str:
    """The bits per byte that the model in use and this one need for held-out code; empty if they were not measured."""
    figures = [model["metrics"].get(role, {}).get("plain") for role in ("current", "candidate")]
    return " to ".join(f"{figure:.3f}" for figure in figures if figure is not None)


def model_tree(trace: dict[str, Any], *, all_files: bool) -> Tree:
    """From a model to its batch, repositories and files."""
    model, batch = trace["model"], trace["batch"]
    tree = Tree(f"[bold]{plain(model['id'])}[/] {model['state']}, trained on {plain(model['base'])}")
    if model["parent"]:
        tree.add(f"went on from [bold]{plain(model['parent'])}[/]")
    for event in trace["events"]:
        tree.add(f"[dim]{event['position']} {event['recorded_at'][:19]}[/] {event['type']}")
    branch = tree.add(
        f"[bold]batch {batch['id']}[/] {batch['files']:,} files of {len(trace['repositories']):,} repositories"
    )
    for repository in trace["repositories"]:
        files = repository["files"]
        leaf = branch.add(
            f"{plain(repository['full_name'])} [dim]at {repository['commit'][:12]}[/] "
            f"{plain(repository['licence'] or 'licence unknown')}, {len(files):,} files"
        )
        for file in files if all_files else files[:_FILES_SHOWN]:
            leaf.add(f"[dim]{plain(file['path'])} {file['score']:.0f} {file['split']}[/]")
        if not all_files and len(files) > _FILES_SHOWN:
            leaf.add(f"[dim]… {len(files) - _FILES_SHOWN:,} more[/]")
    return tree


def print_model(model: dict[str, Any]) -> None:
    """What is known of a model, but for its card."""
    out.print(f"[bold]{plain(model['id'])}[/] is {model['state']}", highlight=False)
    for reason in model["reasons"]:
        out.print(f"  {plain(reason['rule'])}: {plain(reason['detail'])}", highlight=False, soft_wrap=True)
    print_table(["", ""], [(name, value) for name, value in _facts(model) if value not in (None, "")])
    if model["metrics"]:
        out.print()
        _print_metrics(model["metrics"])
    if model["evaluation"]:
        out.print()
        _print_gains(model["evaluation"])
    if model["card"]:
        err.print("--card prints its model card.", highlight=False)


def _facts(model: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("base", "parent", "batch", "steps", "samples"):
        yield name, model[name]
    for name, loss in model["losses"].items():
        yield f"{name} loss", loss
    for name in ("languages", "licences"):
        yield name, ", ".join(f"{key} {count:,}" for key, count in model[name].items())
    for name in ("started", "finished", "decided"):
        yield name, model[f"{name}_at"]
    yield "folder", model["folder"]


def _print_metrics(metrics: dict[str, dict[str, Any]]) -> None:
    figures = {name: flat_figures(values) for name, values in metrics.items()}
    measured = dict.fromkeys(name for values in figures.values() for name in values)
    rows = [(name, *(values.get(name) for values in figures.values())) for name in measured]
    print_table(["measured by the gate", *figures], rows)


def _print_gains(evaluation: list[dict[str, Any]]) -> None:
    columns = ["bits per byte", "over", "in use", "this model", "gain at least", "at most", "groups", "windows"]
    names = ("measure", "over", "current", "candidate", "low", "high", "groups", "windows")
    print_table(columns, [tuple(row[name] for name in names) for row in evaluation])


def print_comparison(found: dict[str, Any]) -> None:
    """Two models side by side; the difference is the second's figure less the first's."""
    one, other = found["models"]
    rows: list[tuple[Any, ...]] = [
        (name, one[name], other[name], None) for name in ("state", "base", "batch", "parent", "evaluation_set")
    ]
    for name, (first, second) in found["figures"].items():
        difference = None if first is None or second is None else f"{second - first:+.4f}"
        rows.append((name, first, second, difference))
    print_table(["", one["id"], other["id"], "difference"], rows)
