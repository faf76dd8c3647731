"""What is believed about a last linear layer: draws of it fill `mc_logits` at the price of one model."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

#: How the last layer is drawn.
DrawnBy = Literal["laplace", "bootstrap"]

#: Odds of a class that a member has not seen, against all that it has seen together.
FLOOR = 1e-4

_ATTEMPTS = 100  # to draw a resample that holds two classes
_BLOCK = 1 << 19  # weights that are fitted at once: L-BFGS keeps about 50 numbers for each


@dataclass(frozen=True, eq=False)
class Draws:
    """K last layers, ready for a pass.

    Shapes: weight (K, C, D), bias (K, C), seen (K, C) bool.

    Attributes:
        shifts: whether they are added to the trained layer, or stand in its place.
        seen: the classes that each has seen; None: all of them.
    """

    weight: Tensor
    bias: Tensor
    shifts: bool
    seen: Tensor | None = None

    def logits(self, features: Tensor, trained: Tensor) -> Tensor:
        """Logits (N, K, C) of features (N, D) with trained logits (N, C); sample k is one function for all rows."""
        flat = F.linear(features, self.weight.flatten(0, 1), self.bias.flatten())
        drawn: Tensor = flat.unflatten(1, self.bias.shape)
        if self.shifts:
            return drawn + trained[:, None]
        return drawn if self.seen is None else with_unseen(drawn, self.seen)


def with_unseen(logits: Tensor, seen: Tensor) -> Tensor:
    """Logits (N, K, C) in which each class that member k has not seen has odds of `FLOOR` against all it has seen.

    Shapes: seen (K, C) bool. What stands in the place of unseen classes does not matter; each member saw at least one.
    """
    known = logits.masked_fill(~seen, -torch.inf).logsumexp(-1, keepdim=True)  # (N, K, 1)
    return torch.where(seen, logits, known + float(np.log(FLOOR)))


@dataclass(frozen=True, eq=False)
class Laplace:
    """A Gaussian over the last layer [weight | bias] around the trained one, in closed form.

    The Laplace approximation with the generalised Gauss-Newton matrix, Kronecker-factored (Ritter et al. 2018, "A
    Scalable Laplace Approximation for Neural Networks"; last layer only: Kristiadi et al. 2020, "Being Bayesian, Even
    Just a Bit, Fixes Overconfidence in ReLU Networks"), and the prior exactly as the penalty:
    precision = B (x) A + p I, where A = sum_n w_n x_n x_n', B = sum_n w_n (diag(p_n) - p_n p_n') / sum_n w_n. With the
    eigenvectors of A and B its inverse is known: R = min(L, D + 1) directions of the features that labels have seen,
    and the prior in all others. So the variance of a row grows with its distance from the labeled rows.

    Shapes: class_basis (C, C), feature_basis (D + 1, R), deviation (C, R), rest ().
    """

    class_basis: Tensor
    feature_basis: Tensor
    deviation: Tensor
    rest: Tensor

    def shift(self, noise: Tensor) -> Tensor:
        """Standard normal noise (..., C, D + 1) as a deviation from the trained layer."""
        inside = noise @ self.feature_basis  # (..., C, R)
        moved = (inside * self.deviation) @ self.feature_basis.T
        if self.feature_basis.shape[1] < self.feature_basis.shape[0]:
            moved = moved + self.rest * (noise - inside @ self.feature_basis.T)
        return self.class_basis @ moved

    def draw(self, samples: int, seed: int) -> Draws:
        """`samples` draws."""
        shape = samples, len(self.class_basis), len(self.feature_basis)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        shift = self.shift(noise.to(self.rest.device))
        return Draws(shift[..., :-1].contiguous(), shift[..., -1].contiguous(), shifts=True)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """K penalised logistic layers, each fitted on a bootstrap resample of the labeled rows.

    Efron 1979, "Bootstrap Methods"; K heads on one trunk: Osband et al. 2016, "Deep Exploration via Bootstrapped DQN".

    Shapes: weight (K, C, D), bias (K, C), seen (K, C) bool.
    """

    weight: Tensor
    bias: Tensor
    seen: Tensor

    def draw(self, samples: int, seed: int) -> Draws:
        """The K layers, whatever `samples` and `seed`."""
        return Draws(self.weight, self.bias, shifts=False, seen=None if bool(self.seen.all()) else self.seen)


Posterior = Laplace | Bootstrap


def posterior_shapes(names: Collection[str]) -> dict[str, str]:
    """The dimensions of the fields of the posterior that has these names, as `read_tensors` takes them."""
    if "deviation" in names:
        return {"class_basis": "C C", "feature_basis": "D+1 R", "deviation": "C R", "rest": ""}
    return {"weight": "K C D", "bias": "K C", "seen": "K C"}


def posterior_of(tensors: Mapping[str, Tensor]) -> Posterior:
    """The posterior whose fields are these.

    Raises:
        KeyError: they are those of none.
    """
    kind = Laplace if "deviation" in tensors else Bootstrap
    return kind(**{name: tensors[name] for name in kind.__dataclass_fields__})


def moved(posterior: Posterior, device: torch.device) -> Posterior:
    """The same on another device."""
    return posterior_of({name: value.to(device) for name, value in vars(posterior).items()})


# Fitting


def fit_posterior(
    features: Tensor,
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    drawn_by: DrawnBy,
    precision: float,
    samples: int,
    seed: int,
    multilabel: bool,
    start: Tensor | None = None,
) -> Posterior:
    """What the labeled rows say about the last layer.

    Args:
        features: (L, D + 1), the last column 1.
        logits: (L, C) of the trained layer.
        targets: (L, C) of zeros and ones.
        weights: (L,), or (L, C) when multi-label.
        precision: of the prior: the strength of the penalty.
        samples: K, of a bootstrap.
        seed: of its resamples.
        start: (C, D + 1) where fits begin; decides nothing but how long they take.
    """
    if drawn_by == "laplace":
        return _laplace(features.double(), logits.double(), weights.double(), precision, multilabel)
    generator = torch.Generator().manual_seed(spawned(seed, 1)[0])
    counts = resamples(targets, samples, generator, multilabel=multilabel, weights=weights)  # (K, L)
    repeated = counts.view(*counts.shape, *(1,) * (weights.dim() - 1)) * weights  # (K, L) or (K, L, C)
    seen = torch.ones(samples, targets.shape[1], dtype=torch.bool)
    if not multilabel:
        seen = (repeated.gt(0).to(targets.dtype) @ targets) > 0
    beta = fit_heads(
        features, targets, repeated, penalty=precision, multilabel=multilabel, seen=seen, start=start, tolerance=1e-3
    ).float()
    return Bootstrap(beta[..., :-1].contiguous(), beta[..., -1].contiguous(), seen)


def fit_heads(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    penalty: float,
    multilabel: bool,
    seen: Tensor | None = None,
    start: Tensor | None = None,
    tolerance: float = 1e-6,
) -> Tensor:
    """K penalised maximum-likelihood layers (K, C, D + 1) on the same rows, each with its own weights, in float64.

    Each minimises sum_n w_n loss_n + penalty/2 |layer|^2 (multinomial, or one-vs-rest when multi-label) by L-BFGS. That
    is convex: the answer depends on nothing else. With fewer rows than features it is solved in the span of the rows,
    where it lies.

    Args:
        features: (L, D + 1).
        targets: (L, C) of zeros and ones.
        weights: (K, L), or (K, L, C) when multi-label.
        seen: (K, C) bool: the classes among which layer k decides; the rows of the others stay 0. None: all.
        start: (C, D + 1) to begin with; zeros when None.
        tolerance: of the largest gradient.
    """
    features, targets, weights = features.double(), targets.double(), weights.double()
    span = torch.linalg.qr(features.T).Q if len(features) < features.shape[1] else None
    reduced = features if span is None else features @ span  # (L, min(L, D + 1))
    first = torch.zeros(targets.shape[1], reduced.shape[1], dtype=torch.float64)
    if start is not None:
        first = start.double() if span is None else start.double() @ span
    several = max(1, _BLOCK // max(1, first.numel()))
    fitted = [
        _minimised(
            first.expand(len(part), -1, -1) if seen is None else first * seen[block, :, None],
            reduced,
            targets,
            part,
            None if seen is None or multilabel or bool(seen[block].all()) else seen[block],
            penalty,
            multilabel,
            tolerance,
        )
        for block, part in zip(torch.arange(len(weights)).split(several), weights.split(several), strict=True)
    ]
    beta = torch.cat(fitted)
    return beta if span is None else beta @ span.T


def _minimised(
    start: Tensor,
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    seen: Tensor | None,
    penalty: float,
    multilabel: bool,
    tolerance: float,
) -> Tensor:
    beta = start.clone().requires_grad_()  # (K, C, R)
    along = weights.transpose(0, 1)  # (L, K) or (L, K, C)
    optimiser = torch.optim.LBFGS(
        [beta],
        max_iter=200,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=tolerance,
        tolerance_change=1e-4 * tolerance,
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        logits = (features @ beta.flatten(0, 1).T).unflatten(1, beta.shape[:2])  # (L, K, C)
        if multilabel:
            wanted = targets[:, None].expand_as(logits)
            losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
            losses = losses if along.dim() == 3 else losses.sum(-1)
        else:
            known = logits if seen is None else logits.masked_fill(~seen, -1e30)  # finite: such rows weigh 0
            losses = -(targets[:, None] * known.log_softmax(-1)).sum(-1)
        loss = (along * losses).sum() + 0.5 * penalty * beta.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(objective)  # type: ignore[no-untyped-call]
    return beta.detach()


def _laplace(features: Tensor, logits: Tensor, weights: Tensor, precision: float, multilabel: bool) -> Laplace:
    by_row = weights if weights.dim() == 1 else weights.mean(1)
    if multilabel:
        probs, each = logits.sigmoid(), weights if weights.dim() == 2 else weights[:, None]
        curvature = torch.diag((each * probs * (1 - probs)).sum(0))
    else:
        probs = logits.softmax(1)
        weighted = by_row[:, None] * probs
        curvature = torch.diag(weighted.sum(0)) - weighted.T @ probs
    on_classes, class_basis = torch.linalg.eigh(curvature / by_row.sum())  # averaged over rows
    rooted = by_row.sqrt()[:, None] * features
    if len(rooted) < rooted.shape[1]:
        _, singular, basis = torch.linalg.svd(rooted, full_matrices=False)
        on_features, feature_basis = singular.square(), basis.T
    else:
        on_features, feature_basis = torch.linalg.eigh(rooted.T @ rooted)
    deviation = (on_classes.clamp_min(0)[:, None] * on_features.clamp_min(0) + precision).rsqrt()
    rest = torch.tensor(precision**-0.5)
    return Laplace(*(part.float().contiguous() for part in (class_basis, feature_basis, deviation, rest)))


def resamples(
    targets: Tensor, count: int, generator: torch.Generator, *, multilabel: bool, weights: Tensor | None = None
) -> Tensor:
    """How often each of the L rows stands in each of `count` bootstrap resamples of L rows, (count, L) int64.

    A resample of a single class, or of nothing that weighs, teaches nothing and is drawn again, where the rows have
    more.

    Args:
        targets: (L, C) of zeros and ones.
        weights: (L,) or (L, C): rows that weigh nothing show no class.
    """
    rows = len(targets)
    weighs = torch.ones(rows, 1) if weights is None else weights.view(rows, -1)
    shown = weighs if multilabel else targets * weighs  # what must not be missing: any row that weighs, two classes
    enough = min(1 if multilabel else 2, int((shown.sum(0) > 0).sum()))

    def drawn() -> Tensor:
        for _ in range(_ATTEMPTS):
            counts = torch.randint(rows, (rows,), generator=generator).bincount(minlength=rows)
            if int((shown[counts > 0].sum(0) > 0).sum()) >= enough:
                return counts
        return torch.ones(rows, dtype=torch.int64)

    return torch.stack([drawn() for _ in range(count)])


def spawned(seed: int, count: int) -> list[int]:
    """`count` seeds that have nothing to do with one another, 32 bits each."""
    return [int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(count)]
