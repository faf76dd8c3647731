"""Posteriors of a last linear layer, whose samples give `mc_logits` at the cost of a single model."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

#: Kind of posterior of the last layer.
DrawnBy = Literal["laplace", "bootstrap"]

#: Odds of a class that is missing in a member's training rows, against all of its seen classes together.
FLOOR = 1e-4

_ATTEMPTS = 100  # maximum number of tries to draw a resample with two classes
_BLOCK = 1 << 19  # maximum number of weights fitted at once: L-BFGS stores about 50 numbers per weight


@dataclass(frozen=True, eq=False)
class Draws:
    """K samples of a last layer.

    Attributes:
        weight: (K, C, D).
        bias: (K, C).
        shifts: whether the samples are added to the trained layer, rather than replace it.
        seen: (K, C) bool, classes in the training rows of each sample; None if all samples have seen all classes.
    """

    weight: Tensor
    bias: Tensor
    shifts: bool
    seen: Tensor | None = None

    def logits(self, features: Tensor, trained: Tensor) -> Tensor:
        """Return logits (N, K, C) of features (N, D), given trained logits (N, C). Samples are joint over the rows."""
        flat = F.linear(features, self.weight.flatten(0, 1), self.bias.flatten())
        drawn: Tensor = flat.unflatten(1, self.bias.shape)
        if self.shifts:
            return drawn + trained[:, None]
        return drawn if self.seen is None else with_unseen(drawn, self.seen)


def with_unseen(logits: Tensor, seen: Tensor) -> Tensor:
    """Set the logits of unseen classes to odds of `FLOOR` against all seen classes together.

    Args:
        logits: (N, K, C); values of unseen classes are ignored.
        seen: (K, C) bool, with at least one True per member k.
    """
    known = logits.masked_fill(~seen, -torch.inf).logsumexp(-1, keepdim=True)  # (N, K, 1)
    return torch.where(seen, logits, known + float(np.log(FLOOR)))


@dataclass(frozen=True, eq=False)
class Laplace:
    """Gaussian posterior of the last layer [weight | bias] around the trained one, in closed form.

    The Laplace approximation with the generalised Gauss-Newton matrix, Kronecker-factored (Ritter et al. 2018, "A
    Scalable Laplace Approximation for Neural Networks"; last layer only: Kristiadi et al. 2020, "Being Bayesian, Even
    Just a Bit, Fixes Overconfidence in ReLU Networks"), and a prior equal to the penalty:
    precision = B (x) A + p I, where A = sum_n w_n x_n x_n', B = sum_n w_n (diag(p_n) - p_n p_n') / sum_n w_n. It is
    inverted with the eigenvectors of A and B: R = min(L, D + 1) feature directions are covered by labeled rows, and the
    prior holds in all others. The predictive variance of a row thus grows with its distance from the labeled rows.

    Attributes:
        class_basis: (C, C), eigenvectors of B.
        feature_basis: (D + 1, R), eigenvectors of A.
        deviation: (C, R), standard deviations in this basis.
        rest: (), standard deviation of the prior, in the directions without labeled rows.
    """

    class_basis: Tensor
    feature_basis: Tensor
    deviation: Tensor
    rest: Tensor

    def shift(self, noise: Tensor) -> Tensor:
        """Transform standard normal noise (..., C, D + 1) to deviations from the trained layer."""
        inside = noise @ self.feature_basis  # (..., C, R)
        moved = (inside * self.deviation) @ self.feature_basis.T
        # Outside the span of the labeled rows the prior is left, which needs no basis of its own.
        if self.feature_basis.shape[1] < self.feature_basis.shape[0]:
            moved = moved + self.rest * (noise - inside @ self.feature_basis.T)
        return self.class_basis @ moved

    def draw(self, samples: int, seed: int) -> Draws:
        """Draw `samples` layers."""
        shape = samples, len(self.class_basis), len(self.feature_basis)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        shift = self.shift(noise.to(self.rest.device))
        return Draws(shift[..., :-1].contiguous(), shift[..., -1].contiguous(), shifts=True)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Samples of the last layer: K penalised logistic regressions on bootstrap resamples of the labeled rows.

    Efron 1979, "Bootstrap Methods"; K heads on one trunk: Osband et al. 2016, "Deep Exploration via Bootstrapped DQN".

    Attributes:
        weight: (K, C, D).
        bias: (K, C).
        seen: (K, C) bool, classes in each resample.
    """

    weight: Tensor
    bias: Tensor
    seen: Tensor

    def draw(self, samples: int, seed: int) -> Draws:
        """Return the K fitted layers, regardless of `samples` and `seed`."""
        return Draws(self.weight, self.bias, shifts=False, seen=None if bool(self.seen.all()) else self.seen)


Posterior = Laplace | Bootstrap


class DeferredPosterior:
    """Posterior that is fitted when it is first read: only samples and saving need one.

    Args:
        fit: function that returns the posterior; called at most once.
    """

    def __init__(self, fit: Callable[[], Posterior]) -> None:
        self._fit: Callable[[], Posterior] | None = fit
        self._fitted: Posterior | None = None

    def read(self) -> Posterior:
        """Return the posterior."""
        if self._fitted is None:
            assert self._fit is not None
            self._fitted, self._fit = self._fit(), None  # without the function, whose rows are no longer needed
        return self._fitted

    def mapped(self, change: Callable[[Posterior], Posterior]) -> "DeferredPosterior":
        """Return the posterior after a change, neither fitted before it is read nor twice."""
        return DeferredPosterior(lambda: change(self.read()))


def posterior_shapes(names: Collection[str]) -> dict[str, str]:
    """Return the dimensions of the fields of a posterior with these field names, for `read_tensors`."""
    if "deviation" in names:
        return {"class_basis": "C C", "feature_basis": "D+1 R", "deviation": "C R", "rest": ""}
    return {"weight": "K C D", "bias": "K C", "seen": "K C"}


def posterior_of(tensors: Mapping[str, Tensor]) -> Posterior:
    """Build the posterior with these fields.

    Raises:
        KeyError: a field is missing.
    """
    kind = Laplace if "deviation" in tensors else Bootstrap
    return kind(**{name: tensors[name] for name in kind.__dataclass_fields__})


def to_device(posterior: Posterior, device: torch.device) -> Posterior:
    """Return a copy of the posterior on another device."""
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
    prior_mean: Tensor | None = None,
) -> Posterior:
    """Fit a posterior of the last layer to the labeled rows.

    Args:
        features: (L, D + 1), with a last column of ones.
        logits: (L, C), logits of the trained layer.
        targets: (L, C) of zeros and ones.
        weights: (L,), or (L, C) when multi-label.
        drawn_by: kind of posterior.
        precision: prior precision, which is the strength of the L2 penalty.
        samples: number K of bootstrap resamples.
        seed: seed of the resamples.
        multilabel: whether rows may have several classes.
        start: (C, D + 1), initial value of the bootstrap fits, which affects their duration only.
        prior_mean: (C, D + 1), mean of the prior of the bootstrap fits; None for zeros.
    """
    if drawn_by == "laplace":
        return _laplace(features.double(), logits.double(), weights.double(), precision, multilabel)
    generator = torch.Generator().manual_seed(spawn_seeds(seed, 1)[0])
    counts = resamples(targets, samples, generator, multilabel=multilabel, weights=weights)  # (K, L)
    repeated = counts.view(*counts.shape, *(1,) * (weights.dim() - 1)) * weights  # (K, L) or (K, L, C)
    seen = torch.ones(samples, targets.shape[1], dtype=torch.bool)
    if not multilabel:
        seen = (repeated.gt(0).to(targets.dtype) @ targets) > 0
    beta = fit_heads(
        features,
        targets,
        repeated,
        penalty=precision,
        multilabel=multilabel,
        seen=seen,
        start=start,
        prior_mean=prior_mean,
        tolerance=1e-3,
    ).float()
    return Bootstrap(beta[..., :-1].contiguous(), beta[..., -1].contiguous(), seen)


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Principal axes of the rows of features (L, D + 1).

    Attributes:
        axes: (R, D + 1), orthonormal, with R = min(L, D + 1).
        squares: (R,), squared singular values.
    """

    axes: Tensor
    squares: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "PrincipalAxes":
        """Decompose features (L, D + 1), in float64."""
        features = features.double()
        # With an L2 penalty the solution lies in the span of the rows: few labels make it a problem of few dimensions.
        if len(features) < features.shape[1]:
            _, singular, axes = torch.linalg.svd(features, full_matrices=False)
            return cls(axes, singular.square())
        squares, axes = torch.linalg.eigh(features.T @ features)
        return cls(axes.T, squares)


def fit_heads(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    penalty: float,
    multilabel: bool,
    seen: Tensor | None = None,
    start: Tensor | None = None,
    prior_mean: Tensor | None = None,
    tolerance: float = 1e-6,
    principal: PrincipalAxes | None = None,
) -> Tensor:
    """Fit K penalised logistic regressions (K, C, D + 1) on the same rows with different weights, in float64.

    Each minimises sum_n w_n loss_n + penalty/2 |layer - prior_mean|^2 (multinomial, or one-vs-rest when multi-label) by
    L-BFGS. The objective is strictly convex, so the solution is unique. With fewer rows than features, the problem is
    solved in the span of the rows, which contains the difference of the solution to the prior mean.

    The optimiser works in the principal axes of the rows, scaled so that the Hessian is near the identity ("whitened"):
    along the axis with singular value s it is about s^2/4 + penalty, which may differ by a factor of a thousand
    between axes. That saves most of its steps, and does not change the solution.

    Args:
        features: (L, D + 1), with a last column of ones.
        targets: (L, C) of zeros and ones.
        weights: (K, L), or (K, L, C) when multi-label.
        penalty: strength of the L2 penalty.
        multilabel: whether rows may have several classes.
        seen: (K, C) bool, classes of layer k; the coefficients of the others remain at the prior mean. None for all.
        start: (C, D + 1), initial value; None for the prior mean.
        prior_mean: (C, D + 1), mean of the Gaussian prior that the penalty is; None for zeros.
        tolerance: largest gradient component at which the optimiser stops.
        principal: principal axes of the features, for several fits on the same ones; None computes them.
    """
    features, targets, weights = features.double(), targets.double(), weights.double()
    principal = PrincipalAxes.of(features) if principal is None else principal
    squares, axes = principal.squares, principal.axes
    mean_weight = weights.mean().clamp_min(1e-12)
    scales = (squares.clamp_min(0) * mean_weight / 4 + penalty).rsqrt()  # (R,)
    basis = scales[:, None] * axes  # (R, D + 1): layer = whitened @ basis
    reduced = features @ basis.T  # (L, R)
    first = torch.zeros(targets.shape[1], len(basis), dtype=torch.float64)
    offset = torch.zeros_like(targets)  # (L, C), logits of the prior mean
    if prior_mean is not None:
        prior_mean = prior_mean.double()
        offset = features @ prior_mean.T
    if start is not None:
        first = start.double() if prior_mean is None else start.double() - prior_mean
        first = first @ axes.T / scales
    per_block = max(1, _BLOCK // max(1, first.numel()))
    fitted = [
        _minimised(
            first.expand(len(part), -1, -1) if seen is None else first * seen[block, :, None],
            reduced,
            offset,
            targets,
            part,
            None if seen is None or multilabel or bool(seen[block].all()) else seen[block],
            penalty * scales.square(),
            multilabel,
            tolerance,
        )
        for block, part in zip(torch.arange(len(weights)).split(per_block), weights.split(per_block), strict=True)
    ]
    beta: Tensor = torch.cat(fitted) @ basis
    return beta if prior_mean is None else beta + prior_mean


class _LBFGS(torch.optim.LBFGS):
    """L-BFGS that does not import torch's compiler, which takes a second and is not used here.

    torch wraps both methods so that they import it at their first call.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


def _minimised(
    start: Tensor,
    features: Tensor,
    offset: Tensor,
    targets: Tensor,
    weights: Tensor,
    seen: Tensor | None,
    penalty: Tensor,
    multilabel: bool,
    tolerance: float,
) -> Tensor:
    beta = start.clone().requires_grad_()  # (K, C, R)
    by_row = weights.transpose(0, 1)  # (L, K) or (L, K, C)
    optimiser = _LBFGS(
        [beta],
        max_iter=200,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=tolerance,
        tolerance_change=1e-4 * tolerance,
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        logits = (features @ beta.flatten(0, 1).T).unflatten(1, beta.shape[:2]) + offset[:, None]  # (L, K, C)
        if multilabel:
            expanded = targets[:, None].expand_as(logits)
            losses = F.binary_cross_entropy_with_logits(logits, expanded, reduction="none")
            losses = losses if by_row.dim() == 3 else losses.sum(-1)
        else:
            # Finite instead of -inf: rows of an unseen class have weight 0, and 0 * inf would be NaN.
            known = logits if seen is None else logits.masked_fill(~seen, -1e30)
            losses = -(targets[:, None] * known.log_softmax(-1)).sum(-1)
        loss = (by_row * losses).sum() + 0.5 * (penalty * beta.square()).sum()  # penalty (R,)
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
    scaled = by_row.sqrt()[:, None] * features  # A = scaled' scaled
    if len(scaled) < scaled.shape[1]:  # fewer rows than features: the other eigenvalues of A are 0
        _, singular, basis = torch.linalg.svd(scaled, full_matrices=False)
        on_features, feature_basis = singular.square(), basis.T
    else:
        on_features, feature_basis = torch.linalg.eigh(scaled.T @ scaled)
    # The Hessian is a Kronecker product plus the prior, so its eigenvalues are products plus the precision. Rounding
    # may make eigenvalues of 0 slightly negative.
    deviation = (on_classes.clamp_min(0)[:, None] * on_features.clamp_min(0) + precision).rsqrt()
    rest = torch.tensor(precision**-0.5)
    return Laplace(*(part.float().contiguous() for part in (class_basis, feature_basis, deviation, rest)))


def resamples(
    targets: Tensor, count: int, generator: torch.Generator, *, multilabel: bool, weights: Tensor | None = None
) -> Tensor:
    """Draw bootstrap resamples of L rows as counts (count, L) int64.

    Resamples of rows with weight 0 only, or of a single class (unless multi-label), are drawn again, unless this holds
    for the rows as a whole. After 100 attempts, every row is used once.

    Args:
        targets: (L, C) of zeros and ones.
        count: number of resamples.
        generator: generator of the resamples.
        multilabel: whether rows may have several classes.
        weights: (L,) or (L, C) sample weights; a row with weight 0 does not count for its class. None for ones.
    """
    rows = len(targets)
    weighted = torch.ones(rows, 1) if weights is None else weights.view(rows, -1)
    evidence = weighted if multilabel else targets * weighted  # positive for what a resample must contain
    enough = min(1 if multilabel else 2, int((evidence.sum(0) > 0).sum()))

    def drawn() -> Tensor:
        for _ in range(_ATTEMPTS):
            counts = torch.randint(rows, (rows,), generator=generator).bincount(minlength=rows)
            if int((evidence[counts > 0].sum(0) > 0).sum()) >= enough:
                return counts
        return torch.ones(rows, dtype=torch.int64)  # all rows once: a rare class may be in hardly any resample

    return torch.stack([drawn() for _ in range(count)])


def spawn_seeds(seed: int, count: int) -> list[int]:
    """Derive `count` independent seeds of 32 bits."""
    return [int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(count)]
