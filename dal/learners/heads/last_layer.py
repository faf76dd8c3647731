"""Posterior of a trained network's last layer, which gives samples in a single pass, without dropout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dal.errors import LearnerError
from dal.learner import SILENT, Monitor, Prepared
from dal.learners.heads.head_posteriors import (
    DrawnBy,
    Draws,
    Posterior,
    fit_posterior,
    posterior_of,
    posterior_shapes,
    to_device,
)
from dal.learners.inference import run_pass
from dal.learners.training.saved_files import read_tensors
from dal.learners.training.training_labels import checked_weights

if TYPE_CHECKING:
    from dal.modules.active_module import ActiveModule

#: File of the posterior, next to the network's weights.
FILE = "last_layer.safetensors"

_SAMPLED = frozenset({"mc_logits", "joint_mc_logits"})


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Posterior of a network's last layer, on features standardised to mean 0 and a mean squared norm of 1.

    Attributes:
        mean: (D,), mean of the features of the labeled rows.
        scale: (), inverse root of their mean squared norm.
        posterior: posterior of the last layer.
    """

    mean: Tensor
    scale: Tensor
    posterior: Posterior

    def standardised(self, features: Tensor) -> Tensor:
        """Standardise features (N, D) for the posterior."""
        return (features - self.mean) * self.scale

    def to(self, device: torch.device) -> "LastLayer":
        """Return a copy on another device."""
        return LastLayer(self.mean.to(device), self.scale.to(device), to_device(self.posterior, device))

    def save(self, folder: Path) -> None:
        """Write the posterior to the folder of the network's weights."""
        tensors = {"mean": self.mean, "scale": self.scale} | vars(self.posterior)
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, folder / FILE)

    @classmethod
    def load(cls, folder: Path, classes: int) -> "LastLayer":
        """Load the posterior of a network with this number of classes.

        Raises:
            LearnerError: the file is missing or damaged.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise LearnerError(
                f"{folder} was saved without samples of its last layer: train again, or load it with mc_mode='head' or "
                "'full'"
            )
        sizes = {"C": classes}
        tensors = read_tensors(folder, FILE, lambda names: {"mean": "D", "scale": ""} | posterior_shapes(names), sizes)
        return cls(tensors["mean"], tensors["scale"], posterior_of(tensors))


def fit_last_layer(
    network: "ActiveModule",
    data: Prepared,
    rows: Tensor,
    targets: Tensor,
    *,
    drawn_by: DrawnBy,
    precision: float,
    samples: int,
    seed: int,
    weights: Tensor | None,
    class_weights: Tensor | None,
    token_budget: int,
    monitor: Monitor = SILENT,
) -> LastLayer:
    """Fit a posterior of the last layer of a trained network, with one pass over the labeled rows.

    Args:
        network: trained network.
        data: prepared rows.
        rows: (L,) int64, the labeled rows.
        targets: (L, C) of zeros and ones.
        drawn_by: kind of posterior.
        precision: prior precision.
        samples: number K of bootstrap resamples.
        seed: seed of the resamples.
        weights: (L,) sample weights, as in training.
        class_weights: (C,), as in training.
        token_budget: tokens per batch of the pass.
        monitor: receives the progress of the pass.
    """
    outputs = run_pass(
        network,
        data,
        rows,
        {"features", "logits"},
        token_budget=token_budget,
        precision="float32",  # exact, since the posterior is fitted to few rows once, and used for all
        monitor=monitor,
    )
    features = outputs.features.cpu().double()
    mean = features.mean(0)
    spread = (features - mean).square().sum(1).mean().sqrt()
    # Features that differ by rounding errors only carry no information: scaled up, these errors would seem to.
    scale = 1 / spread if spread > 1e-6 * mean.norm() else torch.zeros_like(spread)
    posterior = fit_posterior(
        F.pad((features - mean) * scale, (0, 1), value=1.0),
        outputs.logits.cpu(),
        targets,
        answer_weights(targets, weights, class_weights, data.multilabel),
        drawn_by=drawn_by,
        precision=precision,
        samples=samples,
        seed=seed,
        multilabel=data.multilabel,
    )
    return LastLayer(mean.float(), scale.float(), posterior).to(network.device)


def answer_weights(targets: Tensor, weights: Tensor | None, class_weights: Tensor | None, multilabel: bool) -> Tensor:
    """Return the weights in `ActiveModule.loss`: (L,), or (L, C) per target if multi-label with class weights."""
    rows = checked_weights(weights, len(targets))
    if class_weights is None:
        return rows
    by_class = class_weights.to(targets)
    if multilabel:
        return rows[:, None] * torch.where(targets > 0, by_class, 1.0)
    return rows * (targets @ by_class)


class DrawnNetwork(nn.Module):
    """Network whose samples come from the posterior of its last layer, so that the network runs once per row.

    Args:
        network: trained network.
        layer: posterior of its last layer, on the same device.
        samples: number K of samples.
        seed: seed of the samples.
    """

    def __init__(self, network: "ActiveModule", layer: LastLayer, samples: int, seed: int) -> None:
        super().__init__()
        self.network, self._layer, self._samples, self._seed = network, layer, samples, seed

    @cached_property
    def draws(self) -> Draws:
        """Samples of the last layer, drawn once and used for every batch."""
        return self._layer.posterior.draw(self._samples, self._seed)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.network.device

    def compute(
        self, batch: Mapping[str, Tensor], names: Iterable[str], *, samples: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Compute the named outputs of a batch, as `ActiveModule.compute`."""
        wanted = frozenset(names)
        computed = self.network.compute(batch, (wanted - _SAMPLED) | {"features", "logits"})
        if wanted & _SAMPLED:
            with torch.autocast(self.device.type, enabled=False):  # samples differ by less than bfloat16 can show
                features = self._layer.standardised(computed["features"].float())
                drawn = self.draws.logits(features, computed["logits"].float())
            computed |= dict.fromkeys(_SAMPLED, drawn)
        return {name: computed[name] for name in wanted}
