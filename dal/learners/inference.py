"""Inference: compute the named outputs of a model for many rows in a single pass."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dal.errors import LearnerError
from dal.functional.blocks import out_of_memory
from dal.learner import SILENT, Monitor, Prepared
from dal.learners.collector import LARGEST_SAMPLES, Collector
from dal.learners.pass_store import PassStore, batch_mark, stored_pass
from dal.learners.ranks import current_ranks
from dal.outputs import Outputs, Value

if TYPE_CHECKING:  # a probe needs no Lightning, which takes seconds to import
    from dal.modules.active_module import ActiveModule

#: A tensor, or a source of rows.
AnyValue = TypeVar("AnyValue", bound=Value)

Precision = Literal["auto", "float32", "bfloat16"]

#: Number of Monte Carlo samples, K, unless a learner is given another.
DEFAULT_SAMPLES = 20

#: Raw outputs that any `ActiveModule` computes.
COMPUTED = frozenset({"logits", "features", "mc_logits", "joint_mc_logits"})


def run_pass(
    module: "ActiveModule",
    prepared: Prepared,
    rows: Tensor | None = None,
    names: Iterable[str] = frozenset({"logits"}),
    *,
    provides: Iterable[str] = COMPUTED,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    token_budget: int = 8192,
    precision: Precision = "auto",
    collector: Collector | None = None,
    may_stay: bool = False,
    monitor: Monitor = SILENT,
) -> Outputs:
    """Compute the named outputs of a module for some rows, in row order, as float32 on the module's device.

    Rows are sorted by length and split into batches of at most `token_budget` tokens, padding included. Each batch is
    transferred and passed through the trunk once. When memory runs out, the budget is halved and the pass resumes at
    the failed batch. Several ranks share the batches, with the same outputs to the last bit. A long pass is stored
    while it runs (`PassStore`), and goes on after a kill. In float32 the result does not depend on the order of the
    rows or the budget beyond rounding. Random samples in `mc_logits` depend on `seed` and the batches, those in
    `joint_mc_logits` on `seed` only.

    Args:
        module: the network.
        prepared: the prepared rows.
        rows: (n,) int64, indices into `prepared`; None for all rows.
        names: outputs to compute.
        provides: raw outputs that the module computes.
        samples: number K of samples in `mc_logits` and `joint_mc_logits`.
        seed: seed of the samples.
        token_budget: initial number of tokens per batch; replaced by the monitor's, if it has one of an earlier pass.
        precision: precision of the trunk; "auto" is bfloat16 where the hardware supports it. The head runs in float32.
        collector: receives what the module computes, of a pass that is not stored; None for a new one for `names`,
            `provides` and `samples`.
        may_stay: whether wide outputs may stay on the ranks that compute them, as sources of rows.
        monitor: receives the progress and each reduction of the budget.

    Raises:
        NeedError: a name cannot be derived from `provides`.
        LearnerError: a single row does not fit into memory, or raw samples would exceed `LARGEST_SAMPLES`.
    """
    device = module.device
    rows = torch.arange(len(prepared)) if rows is None else rows.cpu()
    # What a collector of the caller's receives is stored by the caller.
    storing: AbstractContextManager[PassStore | None] = stored_pass(module) if collector is None else nullcontext()
    collector = collector or Collector(
        names, len(rows), provides=provides, multilabel=prepared.multilabel, device=device, largest=LARGEST_SAMPLES
    )
    lengths = prepared.lengths[rows]
    order = lengths.argsort(descending=True, stable=True)  # longest first, so that memory runs out early or never
    costs = lengths[order].tolist()  # as a list: reading a tensor element by element is slow
    budget, start = monitor.token_budget or token_budget, 0
    monitor.started("pass", len(rows))
    with storing as store:
        batches = BatchComputation(module, prepared, collector, samples, seed, precision, store)
        if (ranks := current_ranks()) is not None and ranks.size > 1:
            from dal.learners.sharded_pass import run_shared

            shared = run_shared(ranks, batches, rows, order, planned(costs, budget), monitor, may_stay=may_stay)
            start = len(rows) if shared else 0
        with batches.running():
            while start < len(rows):
                stop = _stop_of(costs, budget, start)
                if not batches.compute(rows[order[start:stop]], order[start:stop], start):
                    budget = halved_budget(stop - start, costs[start])
                    monitor.halved(budget)  # recorded by the session: later passes start with it
                    continue
                monitor.advanced(stop - start)
                start = stop
    monitor.finished()
    return collector.outputs()


def planned(costs: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Return the first row of each batch of a pass, and the one after its last, for rows sorted by length.

    Example:
        >>> planned([5, 5, 4, 2, 1], budget=10)
        [(0, 2), (2, 4), (4, 5)]
    """
    batches, start = [], 0
    while start < len(costs):
        batches.append((start, _stop_of(costs, budget, start)))
        start = batches[-1][1]
    return batches


def _stop_of(costs: Sequence[int], budget: int, start: int) -> int:
    """End of the batch that begins at `start`: as many rows as the budget allows at the length of the first."""
    return min(len(costs), start + max(1, budget // max(1, costs[start])))


class BatchComputation:
    """Computes batches of rows with a network, and collects their outputs.

    Args:
        module: the network.
        prepared: the prepared rows.
        collector: receives the outputs.
        samples: number K of samples.
        seed: seed of the samples.
        precision: precision of the trunk.
        store: stores the outputs until the end of the pass; None to store nothing.
    """

    def __init__(
        self,
        module: "ActiveModule",
        prepared: Prepared,
        collector: Collector,
        samples: int,
        seed: int,
        precision: Precision,
        store: PassStore | None = None,
    ) -> None:
        self.module, self.prepared, self.collector = module, prepared, collector
        self.samples, self.seed, self.precision, self.store = samples, seed, precision, store

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context manager in which batches can be computed."""
        if self.store is not None:
            reduced = reduces(self.module.device, self.precision)
            names = sorted(self.collector.gathered)
            computed = f"{names} {self.samples} {self.seed} {reduced} {torch.get_float32_matmul_precision()}"
            self.store.attach(self.module, f"{computed} {self.module.device.type}")
        with evaluating(self.module), torch.inference_mode(), autocast_to(self.module.device, self.precision):
            yield

    def compute(self, rows: Tensor, index: Tensor, start: int) -> bool:
        """Compute a batch and store it in the collector. Returns False if memory ran out.

        Args:
            rows: (B,) rows of the batch.
            index: (B,) their positions in the collector.
            start: place of the first row in the pass, which determines the samples.
        """
        batch = self.prepared.batch(rows.tolist())
        # Samples of their own for each batch; with joint samples, the same ones for all, as they are one model.
        own = 0 if "joint_mc_logits" in self.collector.raw else start
        state = np.random.SeedSequence((self.seed, own)).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state))
        store = self.store if self.store is not None and self.store.used else None
        mark = b"" if store is None else batch_mark(batch, int(state), len(rows), start)
        if store is not None and (stored := store.read(start, mark, len(rows))) is not None:
            self.collector.restore(index, stored)
            return True
        if _gathered(self.module, batch, self.collector, index, self.samples, generator):
            if store is not None:
                store.write(start, mark, self.collector.rows(index))
            return True
        if self.module.device.type == "cuda":
            torch.cuda.empty_cache()  # blocks cached for the failed batch do not fit smaller ones
        return False


def _gathered(
    module: "ActiveModule",
    batch: dict[str, Tensor],
    collector: Collector,
    index: Tensor,
    samples: int,
    generator: torch.Generator,
) -> bool:
    """Compute a batch and store it at the positions `index`. Returns False if memory ran out."""
    try:
        batch = {name: value.to(module.device, non_blocking=True) for name, value in batch.items()}
        collector.put(index, module.compute(batch, collector.raw, samples=samples, generator=generator))
        return True
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    return False  # outside the handler, whose traceback keeps the tensors of the failed batch alive


def on_one_device(values: Mapping[str, AnyValue]) -> dict[str, AnyValue]:
    """Return tensors, or sources of rows, unchanged if they share a device, otherwise the tensors on the CPU."""
    several = len({value.device for value in values.values()}) > 1
    if not several:
        return dict(values)
    return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in values.items()}  # type: ignore[misc]


def placed(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to the device, or to the CPU if the device has not enough memory."""
    try:
        return tensor.to(device)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    return tensor.cpu()


def halved_budget(rows: int, length: int) -> int:
    """Return half the tokens of a batch that did not fit into memory.

    Raises:
        LearnerError: it has one row.
    """
    if rows == 1:
        raise LearnerError(
            f"a single row of {length} tokens does not fit into memory: lower max_length or samples, or use a smaller "
            "model"
        )
    return max(1, rows * length // 2)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Context manager that sets a module to evaluation mode and then restores the mode of every submodule."""
    modes = [(part, part.training) for part in module.modules()]  # frozen parts may be in evaluation mode on purpose
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def reduces(device: torch.device, precision: Precision) -> bool:
    """Return whether a pass on this device runs in bfloat16; for "auto", whether the hardware supports it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    units = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public API for it
    return any(bool(getattr(torch.cpu, unit, bool)()) for unit in units)


@contextmanager
def autocast_to(device: torch.device, precision: Precision) -> Iterator[None]:
    """Context manager for autocast to bfloat16 if `reduces` is True; no autocast otherwise."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduces(device, precision)):
        yield
