"""Pretrained models that are installed as Python packages, found in the file lists of their distributions."""

import csv
import importlib.metadata
import importlib.util
from pathlib import PurePosixPath

#: Largest file of weights in bytes: larger models are language models to write with, and take minutes to load.
MAX_WEIGHTS = 1 << 30

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def installed_encoders() -> list[str]:
    """Names of all installed models whose weights have at most 1 GiB, sorted.

    A model is a folder with `config.json`, weights and a tokenizer, as "package:NAME/FOLDER", or a GGUF file, as
    "package:NAME/FOLDER/FILE.gguf".
    """
    found: set[str] = set()
    for distribution in importlib.metadata.distributions():
        record = distribution.read_text("RECORD") or ""
        if ".gguf" not in record and not any(name in record for name in _WEIGHTS):
            continue
        sizes = {row[0]: row[2] for row in csv.reader(record.splitlines()) if len(row) == 3}
        for name, size in sizes.items():
            path = PurePosixPath(name)
            if len(path.parts) < 2 or not size.isdecimal() or int(size) > MAX_WEIGHTS:
                continue
            if path.suffix == ".gguf":
                found.add(f"package:{path}")
            elif path.name in _WEIGHTS and {f"{path.parent}/{file}" for file in ("config.json", "tokenizer.json")} <= (
                sizes.keys()
            ):
                found.add(f"package:{path.parent}")
    return sorted(name for name in found if _importable(name.removeprefix("package:").split("/")[0]))


def _importable(package: str) -> bool:
    """Whether `locate` finds the package."""
    return package.isidentifier() and importlib.util.find_spec(package) is not None
