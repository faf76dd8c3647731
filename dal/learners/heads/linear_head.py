"""Linear classifier on standardised vectors: its fit, and its posterior, which is fitted when it is first read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.learners.heads.head_posteriors import (
    Bootstrap,
    DeferredPosterior,
    DrawnBy,
    Posterior,
    fit_heads,
    fit_posterior,
    posterior_of,
    posterior_shapes,
    to_device,
)


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Linear classifier on standardised vectors, with a posterior over its weights.

    features = (embeddings - mean) * scale, divided by their norm if `normalized`; logits = features @ weight.T + bias.
    The posterior is over [weight | bias], and fitted when it is first read.

    Shapes: mean and scale (D,), weight (C, D), bias (C,), normalized () bool; thresholds (C,), the logits above which
    classes are assigned where a row may have several, or None for 0.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    deferred: DeferredPosterior
    normalized: Tensor = field(default_factory=lambda: torch.tensor(False))
    thresholds: Tensor | None = None

    @property
    def posterior(self) -> Posterior:
        """Posterior of the weights and the bias; fitted now, if nothing has read it before."""
        return self.deferred.read()

    def features(self, embeddings: Tensor) -> Tensor:
        """Standardise embeddings (N, D) for the linear layer."""
        centred = (embeddings - self.mean) * self.scale
        return F.normalize(centred, dim=-1) if bool(self.normalized) else centred

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (N, C) of features (N, D)."""
        return F.linear(features, self.weight, self.bias)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name; those of the posterior as `posterior.NAME`."""
        return self._own() | {f"posterior.{name}": value for name, value in vars(self.posterior).items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "LinearHead":
        """Build a head from the tensors returned by `tensors`."""
        own = {name: value for name, value in tensors.items() if "." not in name}
        inner = {name.partition(".")[2]: value for name, value in tensors.items() if "." in name}
        posterior = posterior_of(inner)
        return cls(**own, deferred=DeferredPosterior(lambda: posterior))

    def to(self, device: torch.device) -> "LinearHead":
        """Return a copy of the head on another device."""
        moved = {name: value.to(device) for name, value in self._own().items()}
        return replace(self, **moved, deferred=self.deferred.mapped(partial(to_device, device=device)))

    def _own(self) -> dict[str, Tensor]:
        """The tensors without those of the posterior."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


def fit_linear_head(
    embeddings: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    mean: Tensor,
    scale: Tensor,
    l2: float,
    multilabel: bool,
    posterior: DrawnBy = "laplace",
    samples: int = 0,
    seed: int = 0,
    normalized: bool = False,
    prior_mean: Tensor | None = None,
) -> LinearHead:
    """Fit logistic regression with an L2 penalty (one-vs-rest when multi-label) by L-BFGS in float64.

    Minimises sum_i w_i loss_i + l2/2 |[weight | bias] - [prior_mean | 0]|^2. The objective is strictly convex, so the
    solution is unique.

    Args:
        embeddings: (L, D).
        targets: (L, C) of zeros and ones.
        weights: (L,), sample weights.
        mean, scale: (D,), standardisation of the embeddings.
        l2: strength of the penalty.
        multilabel: whether rows may have several classes.
        posterior: "laplace" or "bootstrap", see `ProbeLearner`.
        samples, seed: number and seed of the resamples; used by "bootstrap" only.
        normalized: whether standardised embeddings are divided by their norm.
        prior_mean: (C, D), mean of the prior of the weights; None for zeros.
    """
    standardised = (embeddings - mean) * scale
    standardised = F.normalize(standardised, dim=1) if normalized else standardised
    features = F.pad(standardised.double(), (0, 1), value=1.0)  # (L, D + 1), the bias last
    with_bias = None if prior_mean is None else F.pad(prior_mean.double(), (0, 1))
    [solution] = fit_heads(features, targets, weights[None], penalty=l2, multilabel=multilabel, prior_mean=with_bias)
    deferred = DeferredPosterior(
        lambda: fit_posterior(
            features,
            features @ solution.T,
            targets,
            weights,
            drawn_by=posterior,
            precision=l2,
            samples=samples,
            seed=seed,
            multilabel=multilabel,
            start=solution,
            prior_mean=with_bias,
        )
    )
    # float32 suffices for predictions; float64 is for the fit, whose gradients become small differences.
    weight, bias = solution[:, :-1].float().contiguous(), solution[:, -1].float().contiguous()
    return LinearHead(mean, scale, weight, bias, deferred, torch.tensor(normalized))


def moved(head: LinearHead, weight: Tensor, bias: Tensor) -> LinearHead:
    """The head with another layer, weight (C, D) and bias (C,), and the same deviations of its samples from it."""

    def with_layer(posterior: Posterior) -> Posterior:
        if isinstance(posterior, Bootstrap):
            by_weight, by_bias = weight - head.weight, bias - head.bias
            return replace(posterior, weight=posterior.weight + by_weight, bias=posterior.bias + by_bias)
        return posterior  # samples of a Laplace posterior are deviations from the trained layer

    return replace(head, weight=weight, bias=bias, deferred=head.deferred.mapped(with_layer))


def shifted(head: LinearHead, shift: Tensor) -> LinearHead:
    """The head with a shift (C,) of its logits, and of those of its samples, folded into the bias."""
    return moved(head, head.weight, head.bias + shift)


def head_shapes(names: set[str]) -> dict[str, str]:
    """The dimensions of the tensors of a head, by name."""
    inner = {name.removeprefix("posterior.") for name in names if name.startswith("posterior.")}
    own = {"mean": "D", "scale": "D", "weight": "C D", "bias": "C"}
    optional = {"normalized": "", "thresholds": "C"}  # heads of version 0.1 have neither
    own |= {name: dimensions for name, dimensions in optional.items() if name in names}
    return own | {f"posterior.{name}": dimensions for name, dimensions in posterior_shapes(inner).items()}
