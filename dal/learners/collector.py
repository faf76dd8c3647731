"""Outputs of a pass, collected batch by batch in row order, with reductions of samples instead of all samples."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from dal.errors import LearnerError, NeedError
from dal.functional.blocks import out_of_memory
from dal.functional.row_source import RowSource
from dal.outputs import REDUCTIONS, Outputs, Value, closure, reduce_samples, sources

#: Size limit of raw samples (N, K, C). Reductions over K are computed batch by batch and have no limit.
LARGEST_SAMPLES = 2 * 2**30  # bytes


class Collector:
    """Collects the outputs of batches in preallocated float32 tensors, in row order, and reduces samples on the fly.

    If the device has not enough memory for all rows, the tensors are kept on the CPU.

    Args:
        names: outputs to collect, a subset of `dal.outputs.closure(provides)`.
        length: number of rows.
        provides: raw outputs that the model computes.
        multilabel: whether rows may have several classes.
        device: device of the collected tensors.
        largest: maximum size of raw samples, in bytes.

    Raises:
        NeedError: a name cannot be derived from `provides`.
    """

    def __init__(
        self,
        names: Iterable[str],
        length: int,
        *,
        provides: Iterable[str],
        multilabel: bool,
        device: torch.device | str = "cpu",
        largest: int = LARGEST_SAMPLES,
    ) -> None:
        names, provides = frozenset(names), frozenset(provides)
        unknown = names - closure(provides)
        if unknown:
            raise NeedError(
                f"{', '.join(sorted(unknown))} cannot be computed by this model, which offers "
                f"{', '.join(sorted(closure(provides)))}"
            )
        self.gathered = sources(names)
        # What each batch must compute: reductions are gathered in place of the samples, which are K times as large.
        self.raw = frozenset(REDUCTIONS.get(name, name) for name in self.gathered)
        self.length = length
        #: (length,) bool, True for rows whose outputs are there.
        self.finished = torch.zeros(length, dtype=torch.bool)
        self.device = torch.device(device)
        self._multilabel = multilabel
        self._largest = largest
        self._tensors: dict[str, Tensor] = {}
        self._elsewhere: dict[str, RowSource] = {}

    def put(self, index: Tensor, computed: Mapping[str, Tensor]) -> None:
        """Store the raw outputs of a batch at the positions `index` (B,)."""
        for name in self.gathered:
            value = computed[REDUCTIONS.get(name, name)].float()
            if name in REDUCTIONS:
                value = reduce_samples(name, value, self._multilabel)
            if name not in self._tensors:  # only a first batch tells the shape; a retry of it finds them allocated
                self._tensors[name] = self._allocate(name, value)
            self._tensors[name][index.to(self.device)] = value.to(self.device)
        self.finished[index] = True

    def _allocate(self, name: str, like: Tensor) -> Tensor:
        shape = (self.length, *like.shape[1:])
        size = 4 * torch.Size(shape).numel()
        if name in REDUCTIONS.values() and size > self._largest:
            reductions = ", ".join(sorted(each for each, source in REDUCTIONS.items() if source == name))
            raise LearnerError(
                f"{name} of shape {shape} would take {size / 2**30:.1f} GiB, more than the {self._largest / 2**30:.1f} "
                f"GiB allowed: read {reductions or 'a reduction'}, which is reduced inside the pass, use fewer "
                "samples, or set `candidates` to score a random part of the pool"
            )
        with torch.inference_mode(False):  # inference tensors could not be used in autograd later
            if self.device.type != "cpu":
                try:
                    return torch.empty(shape, device=self.device)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                self.device = torch.device("cpu")  # the model leaves too little room: all outputs move
                self._tensors = {gathered: tensor.cpu() for gathered, tensor in self._tensors.items()}
                torch.cuda.empty_cache()
            try:
                return torch.empty(shape)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
        raise LearnerError(
            f"{name} of {self.length:,} rows, {size / 2**30:.1f} GiB, does not fit into memory: set `candidates` to "
            "score a random part of the pool, or use a strategy that needs fewer outputs"
        )

    def part(self, positions: Tensor) -> "Collector":
        """Return an empty collector for the rows at some positions (n,), which another process fills."""
        part = copy.copy(self)
        part.length, part._tensors, part._elsewhere = len(positions), {}, {}
        part.finished = torch.zeros(len(positions), dtype=torch.bool)
        return part

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """What was collected at the positions `index` (B,), on the CPU."""
        return {name: self._tensors[name][index.to(self.device)].cpu() for name in sorted(self.gathered)}

    def restore(self, index: Tensor, values: Mapping[str, Tensor]) -> None:
        """Store values of `rows` at the positions `index` (B,)."""
        for name, value in values.items():
            if name not in self._tensors:
                self._tensors[name] = self._allocate(name, value)
            self._tensors[name][index.to(self.device)] = value.to(self.device)
        self.finished[index.cpu()] = True

    def without_wide(self, rows: int, limit: int) -> dict[str, Tensor]:
        """Remove and return the outputs of which that many rows take `limit` bytes or more."""
        sizes = {name: rows * value[:1].nbytes for name, value in self._tensors.items()}
        return {name: self._tensors.pop(name) for name, size in sizes.items() if size >= limit}

    def leave(self, name: str, source: RowSource) -> None:
        """Take an output from a source of these rows instead of collecting it."""
        self._elsewhere[name] = source

    def add(self, positions: Tensor, part: Any) -> None:
        """Store what a filled `part` has collected at its positions (n,) of these rows."""
        self.restore(positions, part._tensors)

    def __getstate__(self) -> dict[str, Any]:
        """On the way to another process, tensors are on the CPU."""
        return {**self.__dict__, "_tensors": {name: tensor.cpu() for name, tensor in self._tensors.items()}}

    def outputs(self, thresholds: Tensor | None = None) -> Outputs:
        """Return the collected outputs, with the thresholds (C,) of the model's decisions."""
        values: dict[str, Value] = {**self._tensors, **self._elsewhere}
        if self._elsewhere:  # which are read on the CPU
            values |= {name: tensor.cpu() for name, tensor in self._tensors.items()}
        return Outputs(values, length=self.length, multilabel=self._multilabel, thresholds=thresholds)
