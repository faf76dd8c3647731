"""Draws of a trained network's last layer: samples for any network, with or without dropout, in one pass."""

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
    moved,
    posterior_of,
    posterior_shapes,
)
from dal.learners.inference import run_pass
from dal.learners.training.saved_files import read_tensors
from dal.learners.training.training_labels import checked_weights

if TYPE_CHECKING:
    from dal.modules.base import ActiveModule

#: Where it is kept next to a network's own weights.
FILE = "last_layer.safetensors"

_SAMPLED = frozenset({"mc_logits", "joint_mc_logits"})


@dataclass(frozen=True, eq=False)
class LastLayer:
    """What is believed about a network's last layer, on features centred and scaled to a mean squared norm of 1.

    Shapes: mean (D,), scale (). Both are those of the labeled rows.
    """

    mean: Tensor
    scale: Tensor
    posterior: Posterior

    def standardised(self, features: Tensor) -> Tensor:
        """The features (N, D) as the posterior sees them."""
        return (features - self.mean) * self.scale

    def to(self, device: torch.device) -> "LastLayer":
        """The same on another device."""
        return LastLayer(self.mean.to(device), self.scale.to(device), moved(self.posterior, device))

    def save(self, folder: Path) -> None:
        """Write it next to the network's weights."""
        tensors = {"mean": self.mean, "scale": self.scale} | vars(self.posterior)
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, folder / FILE)

    @classmethod
    def load(cls, folder: Path, classes: int) -> "LastLayer":
        """What `save` wrote for a network of so many classes.

        Raises:
            LearnerError: there is none, or it is damaged.
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
    """What the labeled rows say about the last layer of a trained network: one small pass, and closed form or K heads.

    Args:
        targets: (L, C) of zeros and ones.
        weights: (L,) sample weights, as in training.
        class_weights: (C,), as in training.
    """
    outputs = run_pass(
        network,
        data,
        rows,
        {"features", "logits"},
        token_budget=token_budget,
        precision="float32",
        monitor=monitor,
    )
    features = outputs.features.cpu().double()
    mean = features.mean(0)
    spread = (features - mean).square().sum(1).mean().sqrt()
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
    """What each row counts in `ActiveModule.loss`, (L,); each answer, (L, C), when multi-label with class weights."""
    rows = checked_weights(weights, len(targets))
    if class_weights is None:
        return rows
    by_class = class_weights.to(targets)
    if multilabel:
        return rows[:, None] * torch.where(targets > 0, by_class, 1.0)
    return rows * (targets @ by_class)


class DrawnNetwork(nn.Module):
    """A network whose samples are draws of its last layer, as the pass sees it: the network runs once per row.

    Args:
        network: trained.
        layer: on its device.
        samples: K.
        seed: of the draws.
    """

    def __init__(self, network: "ActiveModule", layer: LastLayer, samples: int, seed: int) -> None:
        super().__init__()
        self.network, self._layer, self._samples, self._seed = network, layer, samples, seed

    @cached_property
    def draws(self) -> Draws:
        """The same in every batch; made when samples are first wanted."""
        return self._layer.posterior.draw(self._samples, self._seed)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

    def compute(
        self, batch: Mapping[str, Tensor], names: Iterable[str], *, samples: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The named tensors, as `ActiveModule.compute`."""
        wanted = frozenset(names)
        computed = self.network.compute(batch, (wanted - _SAMPLED) | {"features", "logits"})
        if wanted & _SAMPLED:
            with torch.autocast(self.device.type, enabled=False):
                features = self._layer.standardised(computed["features"].float())
                drawn = self.draws.logits(features, computed["logits"].float())
            computed |= dict.fromkeys(_SAMPLED, drawn)
        return {name: computed[name] for name in wanted}
