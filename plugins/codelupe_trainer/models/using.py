"""``codelupe models export`` and ``codelupe models try``: what is done with a model itself."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
import enry
import typer

from codelupe import CodelupeError
from codelupe.commands import (
    AsJson,
    ConfigFile,
    Profile,
    Session,
    err,
    out,
    print_json,
    print_table,
    printable,
    with_session,
)
from codelupe_trainer.exports import export_files
from codelupe_trainer.jobs import FILES, CompleteJob, Completion, ExportJob, GgufType
from codelupe_trainer.models.export_folder import copy_adapter
from codelupe_trainer.models.known import SQL, find_model, folder_of
from codelupe_trainer.models.running import job_folder, run_shown, trained_as

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]


class Form(StrEnum):
    """What is written of a model."""

    adapter = "adapter"
    merged = "merged"
    gguf = "gguf"


class CannotExport(CodelupeError):
    """The folder is taken, or cannot be written."""

    code = "cannot-export"


def export(
    model: Model,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder.")],
    config: ConfigFile = None,
    profile: Profile = None,
    form: Annotated[
        Form,
        typer.Option("--form", help="The adapter alone, it and its base as one model, or that as a GGUF file."),
    ] = Form.adapter,
    quantisation: Annotated[
        GgufType | None, typer.Option("--quantisation", help="How a GGUF file holds the weights [default: in 16 bits].")
    ] = None,
    files: Annotated[
        int, typer.Option("--files", min=0, help="How many files to measure a merged model on, at most.")
    ] = 32,
    as_json: AsJson = False,
) -> None:
    """Write a model into a new folder, to be served or given away.

    An adapter that was trained beside weights in NF4 is merged into these, dequantised, and into the base's own; the
    one with the lower loss on files on which the training was watched is written. The folder appears when it is whole.
    """
    if quantisation is not None and form is not Form.gguf:
        raise typer.BadParameter("--quantisation belongs to --form gguf")
    to = to.absolute()

    async def do(session: Session) -> None:
        row = await find_model(session.database, model)
        folder = folder_of(row, session.directories.models)
        if to.exists() and not (to.is_dir() and not any(to.iterdir())):
            raise CannotExport(f"there is something at {to} already", hint="Name a new folder by --to.")
        if form is Form.adapter:
            await _copy(folder, to)
            result: dict[str, Any] = {}
        else:
            job = {"adapter": folder, "to": to, "form": form.value, "gguf_type": quantisation}
            result = await _merge(session, row, job, files, is_silent=as_json)
        if as_json:
            print_json({"model": model, "folder": to, "form": form, **result})
        else:
            _say_exported(to, result)

    with_session(config, profile, do)


async def _copy(folder: Path, to: Path) -> None:
    try:
        await anyio.to_thread.run_sync(copy_adapter, folder, to)
    except OSError as error:
        raise CannotExport(f"{to} cannot be written: {error.strerror or error}") from error


async def _merge(
    session: Session, model: dict[str, Any], job: dict[str, Any], files: int, *, is_silent: bool
) -> dict[str, Any]:
    bases = session.directories.models / "base"
    async with job_folder(session, f"{model['id']}-export") as work:
        await export_files(session.database, SQL.validation_files_as_json, model["batch"], files, to=work / FILES)
        trained = trained_as(session, model, job["adapter"])
        whole = ExportJob(folder=work, bases=bases, **trained, **job)
        exported = await run_shown(whole, is_silent=is_silent)
    return exported.model_dump(exclude={"kind"})


def _say_exported(to: Path, result: dict[str, Any]) -> None:
    if result.get("losses"):
        kept = result["merged_into"]
        rows = [
            (f"merged into the {name} base" if name != "trained" else "as trained", loss, name == kept)
            for name, loss in result["losses"].items()
        ]
        print_table(["model", f"loss on {result['samples']:,} files", "kept"], rows)
    elif result:
        out.print("Not measured: there is no file left on which the training was watched.", highlight=False)
    out.print(f"{to} is written.", markup=False, highlight=False, soft_wrap=True)


def try_(
    model: Model,
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="The beginning of a code file.")] = "-",
    config: ConfigFile = None,
    profile: Profile = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="How many to generate at most.")] = 128,
    language: Annotated[
        str | None, typer.Option("--language", help="What the code is written in [default: by name and content].")
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Ask the model's base, without the adapter.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a model go on from the beginning of a code file."""
    context = _read(file)

    async def do(session: Session) -> None:
        row = await find_model(session.database, model)
        models = session.directories.models
        folder = folder_of(row, models)
        async with job_folder(session, f"{model}-try") as work:
            job = CompleteJob(
                **trained_as(session, row, folder),
                folder=work,
                bases=models / "base",
                adapter=None if base else folder,
                language=language or enry.get_language("" if file == "-" else file, context.encode()) or None,
                context=context,
                tokens=tokens,
            )
            result = await run_shown(job, is_silent=as_json)
        assert isinstance(result, Completion)
        if as_json:
            print_json({"model": row["base"] if base else model, "language": job.language, **result.model_dump()})
        else:
            out.print(printable(result.text), markup=False, highlight=False, soft_wrap=True)
            _say_how_far(result)

    with_session(config, profile, do)


def _read(file: str) -> str:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error
    text = content.decode(errors="replace")
    if not text.strip():
        raise typer.BadParameter("there is nothing to go on from: the file is empty")
    return text


def _say_how_far(result: Completion) -> None:
    how = "by itself" if result.ended else "at the limit, --tokens"
    err.print(f"{result.tokens:,} tokens in {result.seconds:.1f} s; it ended {how}.", highlight=False)
