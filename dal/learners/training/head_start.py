"""The last layer of a network before training: a regression on its own features; and its shift after training.

A network whose head starts at random spends its first steps, and the pretrained features, on the direction of that
head. A head that starts at the regression of the labels on the features of the pretrained part, as that of a probe,
leaves them where they are good already (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution").
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.data.class_descriptions import DESCRIPTIONS
from dal.learner import SILENT, Monitor, Prepared
from dal.learners.heads.described_head import choose_strength, class_directions
from dal.learners.heads.head_posteriors import Bootstrap, fit_heads
from dal.learners.heads.last_layer import LastLayer
from dal.learners.inference import run_pass
from dal.modules.transformer import TransformerClassifier

#: Penalty of the regression, on features of mean squared norm 1: that of `ProbeLearner`.
_PENALTY = 0.1

#: Factor of the logits of the regression. A head that is sure of its labels leaves no loss that would change the
#: features: one at the full scale was worse than a random one in some draws (docs/benchmarks.md).
SHARPNESS = 0.3


def start_head(
    network: TransformerClassifier,
    data: Prepared,
    rows: Tensor,
    targets: Tensor,
    weights: Tensor,
    described: tuple[Prepared, Tensor] | None,
    *,
    described_by: str = DESCRIPTIONS,
    token_budget: int,
    sharpness: float = SHARPNESS,
    monitor: Monitor = SILENT,
) -> dict[str, Any]:
    """Set the last layer of an untrained network, in place, and return notes for the round's record.

    Args:
        network: untrained network, on the device of the pass.
        data: prepared rows.
        rows: (L,) int64, the labeled rows.
        targets: (L, C) of zeros and ones.
        weights: (L,), weight of each labeled row.
        described: prepared class descriptions, and the class of each, (M,) int64; None for none.
        described_by: what these are, for the note.
        token_budget: tokens per batch of the pass.
        sharpness: factor of the logits of the regression.
        monitor: receives the progress of the pass.
    """

    def features_of(texts: Prepared, which: Tensor | None) -> Tensor:
        outputs = run_pass(
            network, texts, which, {"features"}, token_budget=token_budget, precision="float32", monitor=monitor
        )
        features: Tensor = outputs.features.cpu().double()
        return features

    features = features_of(data, rows)
    mean = features.mean(0)
    scale = (features - mean).square().sum(1).mean().clamp_min(1e-12).rsqrt()
    standardised = F.pad((features - mean) * scale, (0, 1), value=1.0)  # (L, D + 1)
    prior_mean, strength, text = None, 0.0, "head started at the probe of the labels"
    if described is not None:
        texts, classes = described
        vectors = F.normalize(features_of(texts, None) - mean, dim=1)
        directions = class_directions(vectors, classes, targets.shape[1], multilabel=data.multilabel)
        choice = choose_strength(
            standardised,
            targets,
            weights,
            directions,
            penalty=_PENALTY,
            multilabel=data.multilabel,
            described_by=described_by,
        )
        prior_mean, strength = choice.strength * F.pad(directions, (0, 1)), choice.strength
        text = f"{text}; {choice.text}"
    [layer] = fit_heads(
        standardised,
        targets,
        weights[None],
        penalty=_PENALTY,
        multilabel=data.multilabel,
        prior_mean=prior_mean,
    )
    layer, linear = sharpness * layer, network.last_layer()
    weight = layer[:, :-1] * scale
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(layer[:, -1] - weight @ mean)
    return {"head": "probe", "description_strength": strength, "text": text}


@torch.no_grad()
def shift_head(network: TransformerClassifier, layer: LastLayer | None, shift: Tensor) -> LastLayer | None:
    """Fold a shift (C,) of the logits into the bias of a trained network, in place, and return its shifted samples."""
    bias = network.last_layer().bias
    bias.add_(shift.to(bias.device))
    if layer is None or not isinstance(layer.posterior, Bootstrap):  # Laplace draws are deviations from the bias
        return layer
    return replace(layer, posterior=replace(layer.posterior, bias=layer.posterior.bias + shift.to(bias.device)))
