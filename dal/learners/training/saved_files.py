"""Read and validate the files of saved models. Damage is reported in one line."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.errors import LearnerError, one_line, shortened
from dal.learner import Prepared
from dal.store.atomic_files import read_regular
from dal.store.bounded_json import parse_json
from dal.store.run_folder import SAVED_MODEL

#: Suffixes of files that are pickles, or may be: reading one can run code.
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")


def read_facts(folder: Path | str, name: str, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """Read the JSON object in a file of a saved model.

    Args:
        folder: folder of the saved model.
        name: name of the file.
        kinds: required keys and the types of their values.

    Raises:
        LearnerError: the file is missing or damaged.
    """
    with refusing_damage(folder, name):
        facts = parse_json(read_regular(Path(folder) / name))
        if not isinstance(facts, dict):
            raise ValueError("it is not a JSON object")
        for key, kind in kinds.items():
            if key not in facts:
                raise ValueError(f"'{key}' is missing")
            if not isinstance(facts[key], kind) or (isinstance(facts[key], bool) and kind is int):
                raise ValueError(f"'{key}' is a {type(facts[key]).__name__}")
    return facts


def read_tensors(
    folder: Path | str,
    name: str,
    shapes: Callable[[set[str]], Mapping[str, str]],
    sizes: Mapping[str, int],
    *,
    infinite: Collection[str] = (),
) -> dict[str, Tensor]:
    """Read the tensors in a file of a saved model to the CPU, and check their shapes and that they are finite.

    Args:
        folder: folder of the saved model.
        name: name of the file.
        shapes: function of the tensor names in the file that returns the required names and their dimensions, such as
            `{"weight": "C D"}`. A dimension is a number or a symbol, optionally with "+1", which has the same size in
            all tensors.
        sizes: sizes of the symbols that are known.
        infinite: names of tensors that need not be finite.

    Raises:
        LearnerError: the file is missing, damaged, or of a different model.
    """
    from safetensors.torch import load_file

    with refusing_damage(folder, name):
        tensors = load_file(Path(folder) / name)
        wanted, known = shapes(set(tensors)), dict(sizes)
        if missing := sorted(set(wanted) - set(tensors)):
            raise ValueError(f"it does not hold {missing[0]}")
        for key, dimensions in wanted.items():
            _check_shape(key, tensors[key], dimensions.split(), known)
            if key not in infinite and not bool(torch.isfinite(tensors[key]).all()):
                raise ValueError(f"{key} holds NaN or infinite values")
    return {key: tensors[key] for key in wanted}


def _check_shape(key: str, tensor: Tensor, dimensions: Sequence[str], known: dict[str, int]) -> None:
    if tensor.dim() != len(dimensions):
        raise ValueError(f"{key} has shape {tuple(tensor.shape)}, expected ({', '.join(dimensions)})")
    for size, dimension in zip(tensor.shape, dimensions, strict=True):
        base, _, more = dimension.partition("+")
        if base.isdecimal():
            if size != int(base):
                raise ValueError(f"{key} has shape {tuple(tensor.shape)}, expected ({', '.join(dimensions)})")
            continue
        expected = known.setdefault(base, size - int(more or 0)) + int(more or 0)
        if size != expected:
            raise ValueError(f"{key} has shape {tuple(tensor.shape)}, but {dimension} is {expected}")


def read_class_facts(
    folder: Path | str, name: str, data: Prepared, kinds: Mapping[str, type | tuple[type, ...]] = {}
) -> dict[str, Any]:
    """Read the facts of a saved model as `read_facts` does, and check "classes" and "multilabel" against the data.

    Args:
        folder: folder of the saved model.
        name: name of the file.
        data: prepared rows.
        kinds: further required keys and the types of their values.

    Raises:
        LearnerError: the file is missing or damaged, or the model was trained for other classes or labels.
    """
    facts = read_facts(folder, name, {"classes": list, "multilabel": bool, **kinds})
    check_classes(folder, facts["classes"], data.classes)
    check_kind(folder, facts["multilabel"], data.multilabel)
    return facts


def check_classes(folder: Path | str, held: Sequence[str], classes: Sequence[str]) -> None:
    """Check that a saved model was trained for the classes of the data.

    Raises:
        LearnerError: the classes differ.
    """
    if list(held) != list(classes):
        ours, theirs = shortened(str(list(classes)), 200), shortened(str(list(held)), 200)
        raise LearnerError(f"{folder} was trained for the classes {theirs}, the data has {ours}")


def check_kind(folder: Path | str, held: bool, multilabel: bool) -> None:
    """Check that a saved model and the data agree on whether rows may have several classes.

    Raises:
        LearnerError: one is multi-label and the other is not.
    """
    if held != multilabel:
        names = {True: "several classes per row", False: "one class per row"}
        raise LearnerError(f"{folder} was trained for {names[held]}, the data has {names[multilabel]}")


@contextmanager
def refusing_damage(folder: Path | str, name: str = "") -> Iterator[None]:
    """Context manager that converts any error while reading a saved model into a one-line `LearnerError`."""
    try:
        yield
    except LearnerError:
        raise
    except Exception as error:  # reading a damaged file may raise any exception
        where = shortened(str(folder), 120) + (f" ({name})" if name else "")
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise LearnerError(f"the saved model in {where} is missing or damaged: {reason}. {_remedy(folder)}") from error


def _remedy(folder: Path | str) -> str:
    """What to do about a damaged model: it is part of a folder with its labels, or was saved on its own."""
    inside = Path(folder).absolute()
    if any((each / SAVED_MODEL).is_file() for each in (inside, inside.parent)):  # members of a committee are within
        return "Save it again (dal export FOLDER --model DIR)"
    return "Delete that folder, and the model is fitted again"


def refuse_code(folder: Path) -> None:
    """Check that reading a Hugging Face folder, or one of safetensors and JSON, cannot run code in it.

    Raises:
        LearnerError: it has a pickle, weights in another form than safetensors, or names code or another model.
    """
    place, files = shortened(str(folder), 120), sorted(folder.rglob("*"))
    for file in files:
        if file.suffix.lower() in PICKLES or file.name == "adapter_config.json":
            raise LearnerError(
                f"{place} holds {file.relative_to(folder)}, which dal does not write: it may be a pickle or name "
                f"another model, so that reading the folder could run code. {_remedy(folder)}"
            )
    for file in files:
        inside = file.relative_to(folder)
        if file.name.endswith("config.json"):
            with refusing_damage(folder, str(inside)):
                facts = parse_json(read_regular(file))
            if isinstance(facts, dict) and "auto_map" in facts:
                raise LearnerError(f"{place}: {inside} names code (auto_map), which is not run")
        if file.name == "config.json" and not (file.parent / "model.safetensors").is_file():
            weights = inside.with_name("model.safetensors")
            raise LearnerError(f"{place} is damaged: it has no {weights}. {_remedy(folder)}")
