"""Synthetic outputs that are mutually consistent: a linear head on Gaussian features."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dal.functional.points import OuterPoints
from dal.outputs import REDUCTIONS, Outputs, Value, closure, sources
from dal.strategy import Query, Strategy, all_needs

#: Names that dal does not know -> functions of (rows, generator) that return their values, (rows, ...).
Extra = Mapping[str, Callable[[int, torch.Generator], Tensor]]

#: Names that `synthetic` generates by itself.
KNOWN = closure(
    {
        "logits", "features", "embeddings", "mc_logits", "joint_mc_logits", "surprisal", "zero_shot_logits",
        "confidence",
    }
)  # fmt: skip

_KEEP = 0.8  # probability of keeping a feature in an MC sample
_TOKENS, _DRAWN = 12, 0.2  # number of tokens with a synthetic surprisal, and the share of them that is not 0


def synthetic(
    names: Iterable[str],
    rows: int,
    *,
    classes: int = 4,
    features: int = 16,
    samples: int = 6,
    multilabel: bool = False,
    scale: float = 1.0,
    empty: int = 0,
    seed: int = 0,
    extra: Extra | None = None,
) -> Outputs:
    """Generate synthetic outputs of `rows` rows with exactly the given names.

    The outputs are consistent: `logits` is a linear head on Gaussian `features`; the samples of `mc_logits` (N, K, C)
    drop features with a different mask for every row, those of `joint_mc_logits` with one mask for all rows.
    `zero_shot_logits` is another linear head, near the first. `surprisal` (N, 12) is non-negative, and 0 for most
    tokens; `confidence` (N,) is uniform on 0..1 and independent of all other outputs.

    Args:
        names: names in `KNOWN` or `extra`.
        rows: number of rows N.
        classes: number of classes C.
        features: number of feature dimensions D; embeddings have D + 8 dimensions.
        samples: number of samples K.
        multilabel: whether the outputs are C Bernoullis.
        scale: scale of the features and thus of the logits; 100 simulates a model that is certain of every row.
        empty: number of rows with features, and thus logits, of zero.
        seed: seed of all random numbers.
        extra: generators of the names that dal does not know.

    Raises:
        KeyError: a name that is neither known nor in `extra`.
    """
    generator = torch.Generator().manual_seed(seed)
    extra = extra or {}
    head = 2.0 * torch.randn(classes, features, generator=generator) / features**0.5  # (C, D)
    lift = torch.randn(features, features + 8, generator=generator) / features**0.5
    hidden = scale * torch.randn(rows, features, generator=generator)  # (N, D)
    hidden[:empty] = 0.0

    def sampled(mask_rows: int) -> Tensor:
        masks = torch.rand(mask_rows, samples, features, generator=generator) < _KEEP
        logits: Tensor = (hidden[:, None] * masks / _KEEP) @ head.T
        return logits  # (N, K, C)

    def surprised() -> Tensor:
        drawn = torch.rand(rows, _TOKENS, generator=generator) < _DRAWN
        nats = scale * 3.0 * torch.rand(rows, _TOKENS, generator=generator) * drawn  # (N, T)
        nats[:empty] = 0.0
        return nats

    raw: dict[str, Callable[[], Tensor]] = {
        "logits": lambda: hidden @ head.T,
        "features": lambda: hidden,
        "embeddings": lambda: hidden @ lift,
        "mc_logits": lambda: sampled(rows),
        "joint_mc_logits": lambda: sampled(1),
        "surprisal": surprised,
        "zero_shot_logits": lambda: hidden @ (head + torch.randn(head.shape, generator=generator) / features**0.5).T,
        "confidence": lambda: torch.rand(rows, generator=generator),
    }
    wanted = frozenset(names)
    held: dict[str, Value] = {}
    for name in sorted(sources(wanted)):
        source = REDUCTIONS.get(name, name)
        held[source] = extra[name](rows, generator) if name in extra else raw[source]()
    outputs = Outputs(held, length=rows, multilabel=multilabel)
    return Outputs({name: outputs[name] for name in sorted(wanted)}, length=rows, multilabel=multilabel)


@dataclass(frozen=True)
class Setting:
    """Configuration of a synthetic query.

    Attributes:
        rows: number N of rows in the pool.
        labeled: number L of labeled rows.
        n: number of rows to select.
        target: number of target rows.
        distinct: number of distinct rows, which all rows repeat; `None` for all.
        classes, features, samples, multilabel, scale, empty, seed: as in `synthetic`.
        device: device of the outputs.
        extra: generators of the names that dal does not know.
    """

    rows: int = 48
    labeled: int = 12
    n: int = 7
    target: int = 16
    distinct: int | None = None
    classes: int = 4
    features: int = 16
    samples: int = 6
    multilabel: bool = False
    scale: float = 1.0
    empty: int = 0
    seed: int = 0
    device: str = "cpu"
    extra: Extra = field(default_factory=dict)

    def __str__(self) -> str:
        kind = "multi-label, " if self.multilabel else ""
        return f"{kind}N = {self.rows}, n = {self.n}, L = {self.labeled}, C = {self.classes}"

    def query(self, strategy: Strategy, seed: int = 1) -> Query:
        """Query for a strategy, with its own generator seeded by `seed`.

        It holds the declared names only, each in a separate tensor, so that any write to one is detected.
        """
        total = self.rows + self.labeled + self.target
        made = synthetic(
            all_needs(strategy),
            self.distinct or total,
            classes=self.classes,
            features=self.features,
            samples=self.samples,
            multilabel=self.multilabel,
            scale=self.scale,
            empty=self.empty,
            seed=self.seed,
            extra=self.extra,
        )
        made = made.take(torch.arange(total) % (self.distinct or total)).to(self.device)
        draw = torch.Generator().manual_seed(self.seed)
        shape = (self.labeled, self.classes) if self.multilabel else (self.labeled,)
        labels = torch.randint(2 if self.multilabel else self.classes, shape, generator=draw)
        ends = self.rows, self.rows + self.labeled, total
        return Query(
            pool=_own(made, slice(0, ends[0]), strategy.needs),
            labeled=_own(made, slice(ends[0], ends[1]), strategy.labeled_needs),
            target=_own(made, slice(ends[1], ends[2]), strategy.target_needs),
            labels=(labels.bool() if self.multilabel else labels).to(self.device),
            n=self.n,
            generator=torch.Generator().manual_seed(seed),
        )


def tensors(outputs: Outputs) -> dict[str, Tensor]:
    """All tensors of the outputs by name, with the two factors of `OuterPoints` as separate entries."""
    flat: dict[str, Tensor] = {}
    for name in outputs._tensors:
        value = outputs[name]
        if isinstance(value, OuterPoints):
            flat |= {f"{name}.a": value.a, f"{name}.b": value.b}
        else:
            flat[name] = value
    return flat


def permuted(outputs: Outputs, order: Tensor) -> Outputs:
    """The rows of `outputs` in another order."""
    return outputs.take(order.to(outputs.device))


def _own(outputs: Outputs, rows: slice, names: Iterable[str]) -> Outputs:
    """Copy of some rows, with the declared names only."""
    some = outputs.take(rows)
    held = {name: _copy(some[name]) for name in some._tensors if name in frozenset(names)}
    return Outputs(held, length=len(range(len(outputs))[rows]), multilabel=outputs.multilabel)


def _copy(value: Tensor | OuterPoints) -> Tensor | OuterPoints:
    return OuterPoints(value.a.clone(), value.b.clone()) if isinstance(value, OuterPoints) else value.clone()
