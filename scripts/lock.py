"""Write requirements.lock: the version of everything that the demo, the tests and the linters install.

pip's own resolver decides, with pip's own settings. The file serves as constraints, so that another platform or a
newer Python may need a package more or less and still gets these versions. Torch stays where it is, whatever is
asked: its pin names a version of which a CPU build is to be had; what its CUDA builds bring along is not listed, since
torch pins that itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
EXTRAS = "embedded,train,archive,decontamination,elasticsearch,ray,tensorboard,wandb,bench,dev"
_CUDA = ("nvidia-", "cuda-", "triton")


def main() -> None:
    """Write the file, or with ``--check`` fail if it is not what pyproject.toml asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="fail if the file is stale")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    pinned = LOCK.read_text().splitlines()
    kept = [line for line in pinned if line.startswith("torch==")] if arguments.upgrade else still_allowed(pinned)
    wanted = resolve(kept)
    if not arguments.check:
        LOCK.write_text("\n".join(wanted) + "\n")
    elif wanted != pinned:
        changes = sorted(set(wanted) ^ set(pinned))
        sys.exit(f"requirements.lock is stale: {', '.join(changes)}\nRun `make lock` and commit it.")


def still_allowed(pins: Sequence[str]) -> list[str]:
    """The pins but for those that pyproject.toml rules out by now."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [Requirement(text) for texts in stated for text in texts]

    def is_allowed(pin: str) -> bool:
        name, _, version = pin.partition("==")
        return all(each.specifier.contains(version) for each in wanted if each.name.lower() == name)

    return [pin for pin in pins if is_allowed(pin)]


def resolve(constraints: Sequence[str]) -> list[str]:
    """What pip would install into an empty environment under these constraints, as sorted pins."""
    with tempfile.TemporaryDirectory() as folder:
        constraint, report = Path(folder) / "constraints.txt", Path(folder) / "report.json"
        constraint.write_text("\n".join(constraints))
        command = ["install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run(
            [sys.executable, "-m", "pip", *command, "--constraint", str(constraint), f"{ROOT}[{EXTRAS}]"], check=True
        )
        installed = json.loads(report.read_text())["install"]
    pins = {each["metadata"]["name"].lower().replace("_", "-"): each["metadata"]["version"] for each in installed}
    kept = [name for name in sorted(pins) if name != "codelupe" and not _is_of_cuda(name)]
    return [f"{name}=={pins[name].partition('+')[0]}" for name in kept]


def _is_of_cuda(name: str) -> bool:
    return name.startswith(_CUDA) and name != "nvidia-ml-py"


if __name__ == "__main__":
    main()
