"""Class descriptions as the prior mean of a linear head, with a strength that the labels choose.

The embedding of a class's description is the direction in which its texts are expected. A head whose prior mean is
`strength * direction` starts from the descriptions and moves away from them as labels arrive: at strength 0 it is an
ordinary penalised regression, without labels it is a zero-shot classifier.

Worked example: two classes in two dimensions, two labels, and descriptions that point along the axes.

>>> rows = torch.tensor([[0.6, 0.8, 1.0], [0.8, 0.6, 1.0]])  # with a last column of ones
>>> labels, weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.ones(2)
>>> good, bad = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
>>> [choose_strength(rows, labels, weights, way, penalty=0.1, multilabel=False).strength for way in (good, bad)]
[10.0, 0.0]

With two labels each held-out row is predicted from the other one, whose class alone was seen. With the right
descriptions the held-out probability of its own class rises with the strength, so that the largest wins; with exchanged
ones it falls, and the descriptions are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.data.class_descriptions import DESCRIPTIONS
from dal.learners.heads.head_posteriors import PrincipalAxes, fit_heads
from dal.learners.heads.held_out import stratified_folds

#: Strengths that are compared. They are the norm of the prior mean of a class's weights on features of norm 1; larger
#: ones won on some data sets, and lost up to 4 points on one (docs/descriptions.md).
STRENGTHS = (0.0, 5.0, 10.0)

#: Output of a head without labels, and the strength of the descriptions in it, unless the learner sets one.
ZERO_SHOT, ZERO_SHOT_STRENGTH = "zero_shot_logits", max(STRENGTHS)

#: Number of folds, and the number of labels above which five suffice.
FOLDS, FEW_FOLDS, MANY = 10, 5, 200


@dataclass(frozen=True)
class StrengthChoice:
    """Strength of the descriptions and the cross-validation behind it.

    Attributes:
        strength: the chosen strength; 0 ignores the descriptions.
        log_likelihoods: mean held-out log-likelihood of a label, in nats, by strength.
        correct: number of held-out labels that were predicted, by strength.
        described_by: what the directions were made of, for `text`.
    """

    strength: float
    log_likelihoods: dict[float, float]
    correct: dict[float, int]
    described_by: str = DESCRIPTIONS

    @property
    def text(self) -> str:
        """One line that states the choice and the reason for it."""
        without, figure = self.log_likelihoods[0.0], "held-out log-likelihood of a label"
        if self.strength:
            best = self.log_likelihoods[self.strength]
            return f"{self.described_by} at strength {self.strength:g} ({figure}: {best:.2f} instead of {without:.2f})"
        best = max((value for strength, value in self.log_likelihoods.items() if strength), default=without)
        return f"{self.described_by} not used ({figure}: {best:.2f} with them, {without:.2f} without)"


@dataclass(frozen=True, eq=False)
class ZeroShotHead:
    """Head without labels: the prior mean as the weights, a bias of 0.

    The logits of a class without a description are 0, about the mean of the others over the pool, because its centre is
    taken out: such a class is predicted where all others are unlikely.

    Shapes: mean (D,), of the pool's embeddings; weight (C, D), directions of the classes times the strength.
    """

    mean: Tensor
    weight: Tensor

    def logits(self, embeddings: Tensor) -> Tensor:
        """Logits (N, C) of embeddings (N, D), on their device."""
        centred = F.normalize(embeddings - self.mean.to(embeddings.device), dim=1)
        return F.linear(centred, self.weight.to(embeddings.device))


def class_directions(embeddings: Tensor, classes: Tensor, count: int, *, multilabel: bool) -> Tensor:
    """Directions of the classes (C, D) from the features of their descriptions; 0 for a class without one.

    Args:
        embeddings: (M, D), features of M descriptions, with norm 1.
        classes: (M,) int64, class of each description.
        count: number C of classes.
        multilabel: whether rows may have several classes: then the mean of the directions is taken out, which a softmax
            does by itself.
    """
    sums = embeddings.new_zeros(count, embeddings.shape[1]).index_add_(0, classes, embeddings)
    described = torch.zeros(count, dtype=torch.bool).index_fill_(0, classes, True)
    directions = F.normalize(sums, dim=1)
    if multilabel and bool(described.any()):
        directions = torch.where(described[:, None], directions - directions[described].mean(0), 0.0)
    return directions


def choose_strength(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    directions: Tensor,
    *,
    penalty: float,
    multilabel: bool,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    described_by: str = DESCRIPTIONS,
) -> StrengthChoice:
    """Choose the strength with the highest held-out likelihood of the labels, by cross-validation.

    A strength that predicts fewer held-out labels than strength 0 is not taken: any prior mean makes a head of few
    labels more confident, which raises the likelihood even where the descriptions mislead.

    Args:
        features: (L, D + 1), with a last column of ones.
        targets: (L, C) of zeros and ones.
        weights: (L,), sample weights.
        directions: (C, D), see `class_directions`.
        penalty: strength of the L2 penalty.
        multilabel: whether rows may have several classes.
        strengths: strengths to compare, 0 among them.
        seed: seed of the folds.
        described_by: what the directions were made of, for the text of the choice.
    """
    features, targets, weights = features.double(), targets.double(), weights.double()
    labels = targets.bool() if multilabel else targets.argmax(1)
    count = min(FOLDS if len(labels) <= MANY else FEW_FOLDS, len(labels))
    fold = stratified_folds(labels, count, seed)
    training = (fold != torch.arange(count)[:, None]) * weights  # (K, L), 0 for held-out rows
    mean = F.pad(directions.double(), (0, 1))  # (C, D + 1): the prior mean of the bias is 0
    principal = PrincipalAxes.of(features)
    likelihoods, correct = {}, {}
    for strength in strengths:
        heads = fit_heads(
            features,
            targets,
            training,
            penalty=penalty,
            multilabel=multilabel,
            prior_mean=strength * mean,
            tolerance=3e-3,
            principal=principal,
        )
        logits = torch.empty_like(targets)
        for number, head in enumerate(heads):
            logits[fold == number] = features[fold == number] @ head.T
        if multilabel:
            each = -F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
            right = ((logits > 0) == labels).double().mean(1)
        else:
            each = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
            right = (logits.argmax(1) == labels).double()
        likelihoods[strength] = float((weights * each).sum() / weights.sum())
        correct[strength] = round(float(right.sum()))
    allowed = [s for s in strengths if not s or multilabel or correct[s] >= correct[0.0]]
    return StrengthChoice(max(allowed, key=lambda s: likelihoods[s]), likelihoods, correct, described_by)
