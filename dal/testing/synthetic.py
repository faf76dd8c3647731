"""Made-up outputs that hang together as a real model's do: one linear head over Gaussian features."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dal.functional.points import OuterPoints
from dal.outputs import FOLDS, Outputs, Value, closure, sources
from dal.strategy import Query, Strategy, all_needs

#: Makes the values of a name that dal does not know: (rows, generator) -> tensor (rows, ...).
Extra = Mapping[str, Callable[[int, torch.Generator], Tensor]]

#: The names that `synthetic` makes by itself.
KNOWN = closure({"logits", "features", "embeddings", "mc_logits", "joint_mc_logits", "surprisal", "confidence"})

_KEEP = 0.8  # share of the features that survive in one MC sample
_TOKENS, _DRAWN = 12, 0.2  # of a text whose surprisal is made up, and the share of them that is not 0


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
    """Outputs of `rows` made-up rows, holding exactly `names`.

    They hang together: `logits` is a linear head on Gaussian `features`; the samples of `mc_logits` (N, K, C) drop
    features, another mask for every row, and those of `joint_mc_logits` one mask for all rows. `surprisal` (N, 12) is
    not negative, and 0 for most of the tokens; `confidence` (N,) is uniform on 0 to 1 and hangs together with nothing.

    Args:
        names: anything of `KNOWN` or of `extra`.
        rows: N.
        classes: C.
        features: D; embeddings have D + 8 dimensions.
        samples: K.
        multilabel: whether C is C Bernoullis.
        scale: of the features and so of the logits: 100 makes a model that is sure of everything.
        empty: this many rows have features of zero, and so logits of zero.
        seed: decides every number.
        extra: makes the names that dal does not know.

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
        "confidence": lambda: torch.rand(rows, generator=generator),
    }
    wanted = frozenset(names)
    held: dict[str, Value] = {}
    for name in sorted(sources(wanted)):
        source = FOLDS.get(name, name)
        held[source] = extra[name](rows, generator) if name in extra else raw[source]()
    outputs = Outputs(held, length=rows, multilabel=multilabel)
    return Outputs({name: outputs[name] for name in sorted(wanted)}, length=rows, multilabel=multilabel)


@dataclass(frozen=True)
class Setting:
    """A pool to choose from.

    Attributes:
        rows: N, rows in the pool.
        labeled: L, rows with a label.
        n: how many to choose.
        target: rows that the answers should serve.
        distinct: rows that differ from one another, the pool and the labeled rows repeating them; None for all.
        classes, features, samples, multilabel, scale, empty, seed: as in `synthetic`.
        device: where the outputs are.
        extra: makes the names that dal does not know.
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
        """What the strategy may look at, with a generator of its own, seeded by `seed`.

        Holds the declared names only, each as a tensor of its own, so that every write to one can be seen.
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
    """Every tensor that the outputs hold, the two factors of `OuterPoints` apart."""
    flat: dict[str, Tensor] = {}
    for name, value in outputs._tensors.items():
        if isinstance(value, OuterPoints):
            flat |= {f"{name}.a": value.a, f"{name}.b": value.b}
        else:
            flat[name] = value
    return flat


def permuted(outputs: Outputs, order: Tensor) -> Outputs:
    """The rows of `outputs` in another order."""
    return outputs.take(order.to(outputs.device))


def _own(outputs: Outputs, rows: slice, names: Iterable[str]) -> Outputs:
    """Those rows with the declared names only, copied."""
    held = {name: _copy(value[rows]) for name, value in outputs._tensors.items() if name in frozenset(names)}
    return Outputs(held, length=len(range(len(outputs))[rows]), multilabel=outputs.multilabel)


def _copy(value: Value) -> Value:
    return OuterPoints(value.a.clone(), value.b.clone()) if isinstance(value, OuterPoints) else value.clone()
