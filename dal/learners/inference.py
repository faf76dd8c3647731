"""The one pass: rows x names -> Outputs. The only hot loop over a model."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dal.errors import LearnerError, NeedError
from dal.functional.blocks import out_of_memory
from dal.learner import SILENT, Monitor, Prepared
from dal.outputs import FOLDS, Outputs, closure, fold, sources

if TYPE_CHECKING:  # a probe needs no Lightning, which takes seconds to import
    from dal.modules.base import ActiveModule

Precision = Literal["auto", "float32", "bfloat16"]

#: The raw names that any `ActiveModule` computes.
COMPUTED = frozenset({"logits", "features", "mc_logits", "joint_mc_logits"})

#: Raw samples (N, K, C) larger than this are refused: reductions over K are folded batch by batch instead.
LARGEST_SAMPLES = 2 * 2**30  # bytes


class Collector:
    """Gathers what batches computed into preallocated float32 tensors, in row order, folding samples on the way.

    Where the device has no room for all rows, everything is gathered on the CPU instead.

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
        for name in self.gathered:
            value = computed[FOLDS.get(name, name)].float()
            if name in FOLDS:
                value = fold(name, value, self._multilabel)
            if name not in self._tensors:
                self._tensors[name] = self._allocate(name, value)
            self._tensors[name][index.to(self._device)] = value.to(self._device)

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
        with torch.inference_mode(False):  # so that what is gathered behaves like any other tensor
            if self._device.type != "cpu":
                try:
                    return torch.empty(shape, device=self._device)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                self._device = torch.device("cpu")
                self._tensors = {gathered: tensor.cpu() for gathered, tensor in self._tensors.items()}
                torch.cuda.empty_cache()
            try:
                return torch.empty(shape)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
        raise LearnerError(
            f"{name} of {self.length:,} rows, {size / 2**30:.1f} GiB, does not fit into memory: set `candidates` to "
            "score a random part of the pool, or take a strategy that reads less"
        )

    def outputs(self) -> Outputs:
        """What was gathered."""
        return Outputs(self._tensors, length=self.length, multilabel=self._multilabel)


def run_pass(
    module: "ActiveModule",
    prepared: Prepared,
    rows: Tensor | None = None,
    names: Iterable[str] = frozenset({"logits"}),
    *,
    provides: Iterable[str] = COMPUTED,
    samples: int = 20,
    seed: int = 0,
    token_budget: int = 8192,
    precision: Precision = "auto",
    monitor: Monitor = SILENT,
) -> Outputs:
    """The named outputs of `module` for `rows` (all when None), in their order, float32, on the module's device.

    Rows are sorted by length and cut into batches of at most `token_budget` tokens, padding included; each batch goes
    to the device once and through the trunk once. When memory runs out, the budget is halved, the monitor is told, and
    the pass goes on where it was. In float32 neither the order of the rows nor the budget changes the result beyond
    rounding; random draws (`mc_logits`) depend on `seed` and the cut into batches, `joint_mc_logits` on `seed` alone.

    Args:
        provides: the raw names that the module computes.
        samples: K, for `mc_logits` and `joint_mc_logits`.
        token_budget: where to start, unless the monitor remembers a budget.
        precision: of the trunk; "auto" is bfloat16 where the hardware has it. The head always runs in float32.

    Raises:
        NeedError: a name that no `ActiveModule` computes.
        LearnerError: a single row does not fit into memory, or raw samples would take more than `LARGEST_SAMPLES`.
    """
    device = module.device
    rows = torch.arange(len(prepared)) if rows is None else rows.cpu()
    collector = Collector(
        names, len(rows), provides=provides, multilabel=prepared.multilabel, device=device, largest=LARGEST_SAMPLES
    )
    lengths = prepared.lengths[rows]
    order = lengths.argsort(descending=True, stable=True)  # the longest first: memory runs out early or never
    costs = lengths[order].tolist()
    budget, start = monitor.token_budget or token_budget, 0
    monitor.started("pass", len(rows))
    with evaluating(module), torch.inference_mode(), lowered(device, precision):
        while start < len(rows):
            stop = min(len(rows), start + max(1, budget // max(1, costs[start])))
            batch = prepared.batch(rows[order[start:stop]].tolist())
            generator = _generator(seed, start, collector.raw)
            if not _gathered(module, batch, collector, order[start:stop], samples, generator):
                budget = _smaller(stop - start, costs[start])
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                monitor.halved(budget)
                continue
            monitor.advanced(stop - start)
            start = stop
    monitor.finished()
    return collector.outputs()


def _gathered(
    module: "ActiveModule",
    batch: dict[str, Tensor],
    collector: Collector,
    index: Tensor,
    samples: int,
    generator: torch.Generator,
) -> bool:
    """Compute one batch and put it to the rows at `index`. No when memory ran out."""
    try:
        batch = {name: value.to(module.device, non_blocking=True) for name, value in batch.items()}
        collector.put(index, module.compute(batch, collector.raw, samples=samples, generator=generator))
        return True
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    return False  # outside the handler, which would keep the failed pass's tensors alive


def on_one_device(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors where they are; all on the CPU, where a device had no room for some."""
    devices = {tensor.device for tensor in tensors.values()}
    return {name: tensor.cpu() if len(devices) > 1 else tensor for name, tensor in tensors.items()}


def placed(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, or on the CPU where that has no room for it."""
    try:
        return tensor.to(device)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    return tensor.cpu()


def _smaller(rows: int, length: int) -> int:
    if rows == 1:
        raise LearnerError(
            f"a single row of {length} tokens does not fit into memory: lower max_length or samples, or take a smaller "
            "model"
        )
    return max(1, rows * length // 2)


def _generator(seed: int, start: int, names: frozenset[str]) -> torch.Generator:
    """The draws of a batch: its own, unless samples are joint, which must be the same for every batch."""
    own = 0 if "joint_mc_logits" in names else start
    state = np.random.SeedSequence((seed, own)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and every part of it back in its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def reduces(device: torch.device, precision: Precision) -> bool:
    """Whether a pass on this device runs in bfloat16: when told to, or, under "auto", where the hardware has it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    units = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # no public name tells
    return any(bool(getattr(torch.cpu, unit, bool)()) for unit in units)


@contextmanager
def lowered(device: torch.device, precision: Precision) -> Iterator[None]:
    """Autocast to bfloat16 where `reduces` says so, and no autocast otherwise."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduces(device, precision)):
        yield
