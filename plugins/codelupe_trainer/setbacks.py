"""What a run has met with, kept in its folder: a child process that goes on with the run must know it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from codelupe import write_file

OUT_OF_MEMORY_ADVICE = (
    "set `micro_batch` to 1, lower `max_length` or `lora.rank`, or set `gradient_checkpointing`; see what else holds "
    "memory on this machine"
)
_FILE = "setbacks.json"


class Setbacks(BaseModel):
    """Each happens to a run once; the second time it fails."""

    model_config = ConfigDict(frozen=True)

    run: str = ""
    """The run that steps and checkpoints belong to."""
    out_of_memory: bool = False
    """Its micro-batch is half as large as its settings say, in twice as many parts of a step."""
    skipped_steps: tuple[int, ...] = ()
    """Steps, counted from 1, whose rows led training astray and are left out."""
    skipped_checkpoints: tuple[str, ...] = ()
    """Checkpoints that it could not go on from, each with the reason."""

    def of_run(self, run: str) -> Setbacks:
        """What holds for this run: of another one, only how much memory there is."""
        return self if self.run == run else Setbacks(run=run, out_of_memory=self.out_of_memory)


def read_setbacks(folder: Path) -> Setbacks:
    """None of any kind if there is no file, or none that can be read."""
    try:
        return Setbacks.model_validate_json((folder / _FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return Setbacks()


def write_setbacks(folder: Path, setbacks: Setbacks) -> None:
    write_file(folder / _FILE, setbacks.model_dump_json(indent=2))
