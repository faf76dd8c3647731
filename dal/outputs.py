"""Model outputs as named tensors, and the names that can be derived from others."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.config.moved import renamed_attributes
from dal.errors import LearnerError, NeedError, did_you_mean
from dal.functional import disagreement
from dal.functional.blocks import blocks, by_blocks
from dal.functional.gradients import gradient_factors
from dal.functional.points import OuterPoints
from dal.functional.precision import true_float32
from dal.functional.row_source import PointSource, RowSource
from dal.store.memory_limit import memory_limit

#: Values of one name. Sources are read when they are indexed, on the CPU.
Value = Tensor | OuterPoints | RowSource | PointSource

#: Derived names -> names that they are computed from, row by row and without the model.
FOLLOWS: Mapping[str, frozenset[str]] = {
    "probs": frozenset({"logits"}),
    "log_probs": frozenset({"logits"}),
    "grads": frozenset({"logits", "features"}),
    "mc_log_probs": frozenset({"mc_logits"}),
    "joint_mc_log_probs": frozenset({"joint_mc_logits"}),
}

#: Reductions over the K samples -> name of the samples. They are computed batch by batch during the pass, so that
#: N*K*C floats are never held.
REDUCTIONS: Mapping[str, str] = {
    "mutual_information": "mc_logits",  # (N,): BALD, in nats
    "vote_counts": "mc_logits",  # (N, C): number of the K samples that vote for each class
    "vote_shares": "mc_logits",  # (N, C): vote counts divided by K, 0 to 1
    "consensus": "mc_logits",  # (N, C): mean of the predicted probabilities over the samples
    "mean_std": "mc_logits",  # (N,): standard deviation of the probabilities over the samples, mean over the classes
}


def closure(provides: Iterable[str]) -> frozenset[str]:
    """Return all names that can be read from a model that computes `provides`."""
    names = frozenset(provides)
    names |= {name for name, source in REDUCTIONS.items() if source in names}
    return names | {name for name, sources in FOLLOWS.items() if sources <= names}


def sources(names: Iterable[str]) -> frozenset[str]:
    """Return the names that a pass must collect so that all of `names` can be read.

    Derived names are replaced by their sources. A reduction over samples (see `REDUCTIONS`) is collected itself, unless
    its samples are collected anyway.
    """
    wanted: frozenset[str] = frozenset()
    for name in names:
        wanted |= FOLLOWS.get(name, frozenset({name}))
    return frozenset(name for name in wanted if REDUCTIONS.get(name) not in wanted)


def log_probs(logits: Tensor, multilabel: bool = False) -> Tensor:
    """Log-probabilities in nats of logits (..., C): one categorical distribution over C, or C Bernoullis.

    The result is finite: an impossible outcome (a logit of -inf) gets the logarithm of the smallest normal number of
    the type.
    """
    out = F.logsigmoid(logits) if multilabel else F.log_softmax(logits, -1)
    return out.clamp_min_(math.log(torch.finfo(out.dtype).tiny))


@torch.no_grad()
def reduce_samples(name: str, mc_logits: Tensor, multilabel: bool = False) -> Tensor:
    """Compute the reduction `name` (see `REDUCTIONS`) of mc_logits (N, K, C), in blocks of rows."""
    N, K, C = mc_logits.shape
    return by_blocks(lambda block: _reduced_block(name, mc_logits[block], multilabel), N, K * C, mc_logits.device)


def _reduced_block(name: str, mc_logits: Tensor, multilabel: bool) -> Tensor:
    if name == "vote_counts":
        return _votes(mc_logits, multilabel)
    if name == "vote_shares":
        return _votes(mc_logits, multilabel) / mc_logits.shape[1]
    mc_log_probs = log_probs(mc_logits, multilabel)
    if name == "consensus":
        return disagreement.block_consensus(mc_log_probs)
    if name == "mean_std":
        values = disagreement.block_mean_std(mc_log_probs)
    else:
        values = disagreement.block_information(mc_log_probs, multilabel=multilabel)
    return disagreement.without_rounding(values, mc_logits)  # equal logits need not have equal log-probabilities


def _votes(mc_logits: Tensor, multilabel: bool) -> Tensor:
    """Number of samples that predict each class (multi-label: with a probability above 1/2), (N, C)."""
    if multilabel:
        return (mc_logits > 0).sum(1).to(mc_logits.dtype)
    classes = torch.arange(mc_logits.shape[-1], device=mc_logits.device)
    return (mc_logits.argmax(-1, keepdim=True) == classes).sum(1).to(mc_logits.dtype)


class Outputs:
    """Row-aligned named tensors on one device, float32, read as `outputs["probs"]` or `outputs.probs`.

    Derived names (`probs` from `logits`, `grads` from `logits` and `features`, ...) are computed when first read.
    Reading a name that was not declared, or that cannot be derived, raises `NeedError`.

    The vectors of a large pool may be a source, which is read when it is indexed. `outputs["features"]` then reads all
    of them into a tensor, or raises `LearnerError` if they would take more than half of the memory;
    `outputs.blockwise("features")` returns the source.

    Args:
        tensors: mapping from name to tensor (N, ...), `OuterPoints`, `RowSource` or `PointSource` of N rows.
        length: N; required only when `tensors` is empty.
        multilabel: whether `probs` are C independent Bernoullis instead of one categorical distribution over C.
        declared: names that may be read; `None` allows all.
        declaration: class and attribute that declare them, such as `Margin.needs`, for the error.
        thresholds: (C,), multi-label only: the logits above which the model assigns each class; `None` for 0, a
            probability of 1/2. They change `decisions`, and no tensor.
    """

    __slots__ = ("_declaration", "_declared", "_length", "_tensors", "_whole", "multilabel", "thresholds")

    def __init__(
        self,
        tensors: Mapping[str, Value] | None = None,
        *,
        length: int | None = None,
        multilabel: bool = False,
        declared: Iterable[str] | None = None,
        declaration: str = "",
        thresholds: Tensor | None = None,
    ) -> None:
        self._tensors: dict[str, Value] = {}
        for name, value in (tensors or {}).items():
            # Half precision is for matrix products; scores would have ties and lose small differences in it.
            self._tensors[name] = value if isinstance(value, RowSource | PointSource) else _in_single(value)
        self._whole: dict[str, Tensor | OuterPoints] = {}  # sources that were read as a whole
        lengths = {name: len(value) for name, value in self._tensors.items()}
        if length is None:
            length = next(iter(lengths.values()), 0)
        wrong = {name: rows for name, rows in lengths.items() if rows != length}
        if wrong:
            raise ValueError(f"outputs must be row-aligned: expected {length} rows, got {wrong}")
        if len({value.device for value in self._tensors.values()}) > 1:
            raise ValueError("outputs must be on one device")
        self._length = length
        self._declared = None if declared is None else frozenset(declared)
        self._declaration = declaration
        self.multilabel = multilabel
        self.thresholds = thresholds

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        available = ", ".join(sorted(self._tensors))
        return f"Outputs({self._length} rows: {available or 'nothing computed'})"

    @property
    def device(self) -> torch.device:
        """Device of the tensors; the CPU when there are none."""
        return next((value.device for value in self._tensors.values()), torch.device("cpu"))

    @property
    def names(self) -> frozenset[str]:
        """Names that can be read."""
        readable = closure(self._tensors)
        return readable if self._declared is None else readable & self._declared

    @property
    def collected(self) -> Mapping[str, Value]:
        """The values that were collected, by name, and those derived from them so far."""
        return dict(self._tensors)

    @property
    def decisions(self) -> Tensor:
        """Predicted classes (N,) int64; multi-label (N, C) bool, True for logits above the threshold of the class."""
        name = "logits" if "logits" in self.names else "probs"
        value: Tensor = self[name]
        if not self.multilabel:
            return value.argmax(-1)
        limits = value.new_zeros(value.shape[-1]) if self.thresholds is None else self.thresholds.to(value)
        return value > (limits if name == "logits" else limits.sigmoid())

    def __getitem__(self, name: str) -> Any:
        self.blockwise(name)  # derives it
        return self._in_memory(name)

    def _in_memory(self, name: str) -> Any:
        """A collected or derived value; a source is read as a whole, once."""
        value = self._tensors[name]
        if not isinstance(value, RowSource | PointSource):
            return value
        if name not in self._whole:
            self._whole[name] = _read_whole(name, value)
        return self._whole[name]

    def blockwise(self, name: str) -> Any:
        """Values of a name for functions that go by blocks of rows: as `outputs[name]`, but a source is not read.

        Of a source, `value[index]` reads some rows: a tensor, or `OuterPoints` for gradients.
        """
        if self._declared is not None and name not in self._declared:
            raise NeedError(f"{name!r} was read but not declared{self._remedy(name, self._declared)}")
        if name not in self._tensors:
            self._tensors[name] = self._derive(name)
        return self._tensors[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def _remedy(self, name: str, declared: frozenset[str]) -> str:
        """What to write instead, or to add to the declaration."""
        near = did_you_mean(name, sorted(declared))
        if near and name not in self._tensors and name not in FOLLOWS and name not in REDUCTIONS:
            return near
        owner, _, attribute = self._declaration.rpartition(".")
        names = ", ".join(f'"{each}"' for each in (*sorted(declared), name))
        return f": write {attribute or 'needs'} = {{{names}}}" + (f" in {owner}" if owner else "")

    def _derive(self, name: str) -> Value:
        missing = FOLLOWS.get(name, {REDUCTIONS[name]} if name in REDUCTIONS else {name}) - self._tensors.keys()
        if missing:
            available = listing(self._tensors)
            raise NeedError(f"{name!r} was not computed: there is no {listing(missing)} among {available}")
        return _DERIVE[name](self)

    def declare(self, names: Iterable[str], declaration: str = "") -> "Outputs":
        """Return the same rows with access restricted to `names`, which `declaration` (`Margin.needs`) lists."""
        restricted = self._with(self._tensors, self._length, frozenset(names), declaration)
        restricted._whole = self._whole
        return restricted

    def take(self, index: Tensor | Sequence[int] | slice) -> "Outputs":
        """Return the rows at `index`, in the order of `index`."""
        if not isinstance(index, slice):
            index = torch.as_tensor(index, dtype=torch.int64, device=self.device)
        tensors = {name: _taken(value, index) for name, value in self._tensors.items()}
        length = len(range(self._length)[index]) if isinstance(index, slice) else len(index)
        return self._with(tensors, length, self._declared, self._declaration)

    def extended(self, values: Mapping[str, Value]) -> "Outputs":
        """Return the same rows with further values."""
        return self._with({**self._tensors, **values}, self._length, self._declared, self._declaration)

    def _with(
        self, tensors: Mapping[str, Value], length: int, declared: frozenset[str] | None, declaration: str
    ) -> "Outputs":
        return Outputs(
            tensors,
            length=length,
            multilabel=self.multilabel,
            declared=declared,
            declaration=declaration,
            thresholds=self.thresholds,
        )

    def to(self, device: torch.device | str) -> "Outputs":
        """Return the same rows on another device."""
        on_cpu = torch.device(device).type == "cpu"
        moved: dict[str, Value] = {}
        for name, value in self._tensors.items():
            if isinstance(value, RowSource | PointSource):
                moved[name] = value if on_cpu else _read_whole(name, value).to(device)
            else:
                moved[name] = value.to(device)
        return self._with(moved, self._length, self._declared, self._declaration)


def _in_single(value: Tensor | OuterPoints) -> Tensor | OuterPoints:
    dtype = value.b.dtype if isinstance(value, OuterPoints) else value.dtype
    return value.to(torch.float32) if dtype in (torch.float16, torch.bfloat16) else value


def _taken(value: Value, index: Tensor | slice) -> Value:
    """Some rows of a value; few rows of a source are read."""
    if not isinstance(value, RowSource | PointSource):
        return value[index]
    source = value.take(index)
    return source if source.nbytes > source.at_once else source.tensor()


def _read_whole(name: str, source: RowSource | PointSource) -> Tensor | OuterPoints:
    limit = memory_limit()
    if limit is not None and source.nbytes > limit / 2:
        raise LearnerError(
            f"{name} of {len(source):,} rows, {source.nbytes / 2**30:.1f} GiB, would take more than half of the memory "
            f"of {limit / 2**30:.1f} GiB: set `candidates` to score a random part of the pool, or use a strategy that "
            "reads them block by block, such as CoreSet or BADGE"
        )
    return source.tensor()


def listing(names: Iterable[str]) -> str:
    """Format names for a message: sorted and separated by commas."""
    return ", ".join(sorted(names)) or "nothing"


def _probs(outputs: Outputs) -> Tensor:
    logits: Tensor = outputs._in_memory("logits")
    return logits.sigmoid() if outputs.multilabel else _softmax(logits)


def _softmax(logits: Tensor) -> Tensor:
    """`logits.softmax(-1)` in half the time for few classes: PyTorch's kernel makes one call per row."""
    out = torch.empty_like(logits)
    ones = logits.new_ones(logits.shape[-1])
    with true_float32():
        for block in blocks(len(logits), logits.shape[-1], logits.device):
            p = torch.sub(logits[block], logits[block].amax(-1, keepdim=True), out=out[block]).exp_()
            p.div_(p.mv(ones)[:, None])
    return out


def _derived(function: Callable[..., Value], name: str) -> Callable[[Outputs], Value]:
    return lambda outputs: function(outputs._in_memory(name), multilabel=outputs.multilabel)


def _gradients(outputs: Outputs) -> Value:
    logits: Tensor = outputs._in_memory("logits")
    features: Any = outputs._tensors["features"]
    gradients: OuterPoints | PointSource = gradient_factors(logits, features, multilabel=outputs.multilabel)
    return gradients


def _reduced(name: str, source: str) -> Callable[[Outputs], Value]:
    return lambda outputs: reduce_samples(name, outputs._in_memory(source), outputs.multilabel)


_DERIVE: Mapping[str, Callable[[Outputs], Value]] = {
    "probs": _probs,
    "log_probs": _derived(log_probs, "logits"),
    "grads": _gradients,
    "mc_log_probs": _derived(log_probs, "mc_logits"),
    "joint_mc_log_probs": _derived(log_probs, "joint_mc_logits"),
    **{name: _reduced(name, source) for name, source in REDUCTIONS.items()},
}

#: Names of version 0.1.
__getattr__ = renamed_attributes(__name__)
