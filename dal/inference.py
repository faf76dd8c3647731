"""The one pass: rows x names -> Outputs. The only hot loop over a model."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from dal.errors import LearnerError, NeedError
from dal.outputs import FOLDS, Outputs, closure, fold, sources

#: Raw samples (N, K, C) larger than this are refused: reductions over K are folded batch by batch instead.
LARGEST_SAMPLES = 2 * 2**30  # bytes


class Collector:
    """Gathers what batches computed into preallocated float32 tensors, in row order, folding samples on the way.

    Args:
        names: what shall be readable in the end; anything of `dal.outputs.closure(provides)`.
        length: how many rows there are.
        provides: the raw names that the model can compute.

    Raises:
        NeedError: a name that does not follow from `provides`.
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
        self.raw = frozenset(FOLDS.get(name, name) for name in self.gathered)  # what each batch must compute
        self.length = length
        self._multilabel = multilabel
        self._device = torch.device(device)
        self._largest = largest
        self._tensors: dict[str, Tensor] = {}

    def put(self, index: Tensor, computed: Mapping[str, Tensor]) -> None:
        """Store the raw tensors of one batch, whose rows belong at the positions `index` (B,)."""
        index = index.to(self._device)
        for name in self.gathered:
            value = computed[FOLDS.get(name, name)].float()
            if name in FOLDS:
                value = fold(name, value, self._multilabel)
            if name not in self._tensors:
                self._tensors[name] = self._allocate(name, value)
            self._tensors[name][index] = value.to(self._device)

    def _allocate(self, name: str, like: Tensor) -> Tensor:
        shape = (self.length, *like.shape[1:])
        size = 4 * torch.Size(shape).numel()
        if name in FOLDS.values() and size > self._largest:
            folds = ", ".join(sorted(fold for fold, source in FOLDS.items() if source == name))
            raise LearnerError(
                f"{name} of shape {shape} would take {size / 2**30:.1f} GiB, more than the {self._largest / 2**30:.1f} "
                f"GiB allowed: read {folds or 'a reduction'}, which is folded inside the pass, use fewer samples, or "
                "set `candidates` to score a random part of the pool"
            )
        return torch.empty(shape, device=self._device)

    def outputs(self) -> Outputs:
        """What was gathered."""
        return Outputs(self._tensors, length=self.length, multilabel=self._multilabel)
