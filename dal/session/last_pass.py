"""Outputs of the latest pass over the whole pool, kept between rounds for candidate generators."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.errors import LearnerError, NeedError, SessionError
from dal.outputs import Outputs
from dal.store.atomic_files import named, open_regular, replacing, write_whole
from dal.store.bounded_json import parse_json
from dal.store.run_folder import LAST_PASS, writing

_log = logging.getLogger("dal")

_FACTS = "pass.json"
_VERSION = 2
_FACTS_BYTES = 1 << 16
_BLOCK = 32_768  # rows that are converted at once
_LARGEST = float(np.finfo(np.float16).max)
_new_digest = partial(hashlib.blake2b, digest_size=16)


@dataclass(frozen=True, eq=False)
class MeasuredCandidates:
    """The recall of candidates in a round that scored the whole pool.

    Attributes:
        recall: share of the batch, 0 to 1, that was among the candidates.
        count: number of these candidates.
    """

    recall: float
    count: int

    @classmethod
    def of(cls, batch: Tensor, candidates: Tensor) -> "MeasuredCandidates":
        """The recall of candidates (K,) of a batch (n,) that was selected among all rows, n >= 1."""
        return cls(int(torch.isin(batch, candidates).sum()) / len(batch), len(candidates))


@dataclass(frozen=True, eq=False)
class LastPass:
    """Outputs of all rows of the pool, as a model computed them in an earlier round, in half precision.

    Attributes:
        round: round of the pass.
        distance: number of rounds to the next pass over the whole pool.
        model: marker of the model (`CurrentModel.marker`).
        values: name -> array (N, D) float16.
        measured: recall of the candidates that the round would have had; None if it was not measured.
    """

    round: int
    distance: int
    model: str
    values: Mapping[str, NDArray[np.float16]]
    measured: MeasuredCandidates | None

    def read(self, rows: Tensor) -> Outputs:
        """Outputs of some rows, (n, D) float32 each."""
        index = rows.numpy()
        return Outputs({name: torch.from_numpy(value[index]).float() for name, value in self.values.items()})


def keep_pass(
    folder: Path | None,
    passes: Sequence[tuple[Tensor, Outputs]],
    names: Iterable[str],
    *,
    pool: Any,
    run: str,
    round: int,
    distance: int,
    model: str,
    measured: MeasuredCandidates | None,
) -> LastPass:
    """Keep outputs of the whole pool: in `folder`, where they replace those of an earlier pass, or in memory.

    A kill leaves the earlier pass or the new one.

    Args:
        folder: run folder; None for memory.
        passes: rows (n,) int64 and their outputs; each row of the pool is in one of them.
        names: names of the outputs to keep.
        pool: the `dal.data.Rows` of the pool.
        run: marker of the run (`CurrentModel.run_marker`).
        round: round of the pass.
        distance: number of rounds to the next pass over the whole pool.
        model: marker of the model.
        measured: recall of the candidates that the round would have had.

    Raises:
        NeedError: an output has no vector (D,) per row.
        LearnerError: an output is not finite.
        SessionError: the folder cannot be written.
    """
    widths = {name: _width(name, [outputs for _, outputs in passes]) for name in names}
    owner, place = torch.empty(len(pool), dtype=torch.int64), torch.empty(len(pool), dtype=torch.int64)
    for number, (rows, _) in enumerate(passes):
        owner[rows], place[rows] = number, torch.arange(len(rows))

    def blocks_of(name: str) -> Iterator[NDArray[np.float16]]:
        for start in range(0, len(pool), _BLOCK):
            own, at = owner[start : start + _BLOCK], place[start : start + _BLOCK]
            values = torch.empty(len(own), widths[name])
            for number, (_, outputs) in enumerate(passes):
                here = own == number
                if bool(here.any()):
                    values[here] = outputs.blockwise(name)[at[here].to(outputs.device)].float().cpu()
            if not bool(values.isfinite().all()):
                raise LearnerError(f"{name} of the trained model has numbers that are not finite")
            yield values.clamp_(-_LARGEST, _LARGEST).half().numpy()

    if folder is None:
        held = {name: np.empty((len(pool), width), np.float16) for name, width in widths.items()}
        for name, values in held.items():
            for start, block in zip(range(0, len(pool), _BLOCK), blocks_of(name), strict=True):
                values[start : start + _BLOCK] = block
        return LastPass(round, distance, model, held, measured)
    facts = {
        "version": _VERSION,
        "round": round,
        "distance": distance,
        "model": model,
        "run": run,
        "widths": widths,
        "recall": None if measured is None else measured.recall,
        "candidates": 0 if measured is None else measured.count,
    }
    digests: dict[str, str] = {}
    with writing(folder / LAST_PASS), replacing(folder / LAST_PASS) as new:
        for name in widths:
            digest = _new_digest()
            with (new / f"{name}.f16").open("wb") as file:
                for block in blocks_of(name):
                    content = block.tobytes()
                    file.write(content)  # not through a memory map: a full disk would end the process
                    digest.update(content)
            digests[name] = digest.hexdigest()
        write_whole(new / _FACTS, json.dumps({**facts, "digests": digests}) + "\n")
    kept = _read_pass(folder, widths, len(pool), run, verify=False)
    if kept is None:
        raise SessionError(f"{named(folder / LAST_PASS)} was changed by another program while it was written")
    return kept


def load_pass(folder: Path, names: Iterable[str], *, rows: int, run: str) -> LastPass | None:
    """The pass that is kept in a run folder. All of its numbers are read once, to verify them.

    Args:
        folder: run folder.
        names: names of the outputs that are wanted.
        rows: number of rows of the pool.
        run: marker of the run (`CurrentModel.run_marker`).

    Returns:
        The pass; None where there is none, or, with a warning, where it is damaged or of another run.
    """
    kept = _read_pass(folder, names, rows, run, verify=True)
    if kept is None and os.path.lexists(folder / LAST_PASS):
        _log.warning(
            "%s is damaged, or of another run, learner or pool: the whole pool is scored again, and later choices may "
            "differ from those of a run that was not interrupted",
            named(folder / LAST_PASS),
        )
    return kept


def _read_pass(folder: Path, names: Iterable[str], rows: int, run: str, *, verify: bool) -> LastPass | None:
    try:
        with open(open_regular(folder / LAST_PASS / _FACTS, os.O_RDONLY), "rb") as file:
            facts = parse_json(file.read(_FACTS_BYTES))
        if facts["version"] != _VERSION or facts["run"] != run:
            return None
        values = {}
        for name in names:
            path, shape = folder / LAST_PASS / f"{name}.f16", (rows, int(facts["widths"][name]))
            values[name] = _mapped(path, shape, facts["digests"][name] if verify else None)
        measured = None
        if facts["recall"] is not None:
            measured = MeasuredCandidates(float(facts["recall"]), int(facts["candidates"]))
        return LastPass(int(facts["round"]), int(facts["distance"]), str(facts["model"]), values, measured)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _width(name: str, passes: Sequence[Outputs]) -> int:
    """Width D of an output (N, D)."""
    value = next(outputs for outputs in passes if len(outputs)).blockwise(name)
    shape: tuple[int, ...] = tuple(getattr(value, "shape", ()))
    if len(shape) != 2:
        raise NeedError(f"{name} has no vector for each row, which a candidate generator could keep: see its `keeps`")
    return int(shape[1])


def _mapped(path: Path, shape: tuple[int, int], digest: str | None) -> NDArray[np.float16]:
    """Numbers of a file, which are read when they are indexed; verified by their digest unless it is None."""
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        if os.fstat(file.fileno()).st_size != np.float16().itemsize * shape[0] * shape[1]:
            raise ValueError("the file is not complete")
        if digest is not None and hashlib.file_digest(file, _new_digest).hexdigest() != digest:
            raise ValueError("the numbers were changed")
        return np.memmap(file, np.float16, "r", shape=shape)
