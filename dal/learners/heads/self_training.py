"""Self-training of a linear head: rows of the pool with their predictions as labels, gated by cross-validation.

One pass. The head of the labels (the teacher), its logits shifted by half an adjustment to the class shares, predicts
a sample of the pool. Of the rows predicted as each class, the more confident half become pseudo-labels, so that no
class is left out because the teacher is less sure of it. A second head (the student) is fitted to the labels and the
pseudo-labels, whose total weight is a multiple of that of the labels. Without the adjustment pseudo-labels gain
nothing: few labels make the teacher predict the common classes only, and the student more so.

A student is too sure of itself, because it was told that its teacher is right. Its logits are divided by the
temperature at which it is, over the sample of the pool, as sure as the teacher (the least cross-entropy).

Lee 2013, "Pseudo-Label"; thresholds for each class: Zhang et al. 2021, "FlexMatch"; adjusted teachers: Wei et al. 2021,
"CReST". Figures: docs/self_training.md.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.class_shares import logit_adjustment
from dal.functional.drawing import spread_rows
from dal.learners.heads.head_posteriors import fit_heads
from dal.learners.heads.held_out import stratified_folds

#: Maximum number of pool rows with a pseudo-label to be, in the final fit and in each fold.
SAMPLE, FOLD_SAMPLE = 2000, 1000

#: Fewest rows of the pool without a label, and fewest labels for cross-validation: below, the default is to use it.
LEAST_POOL, LEAST_LABELS = 50, 20

#: Adjustment to the class shares in the teacher's predictions, total weight of the pseudo-labels as a multiple of that
#: of the labels, and part of the rows of each predicted class that become pseudo-labels: the best on average over
#: seven data sets (docs/self_training.md).
ADJUSTMENT, RATIO, KEPT = 0.5, 5.0, 0.5

FOLDS = 5

_ROUGH = 3e-3  # largest gradient component in the folds, whose predictions are compared only


@dataclass(frozen=True, eq=False)
class SelfTraining:
    """Layer (C, D + 1) after self-training, its decisions adjusted; None where it was not used; and the reason."""

    layer: Tensor | None
    text: str


@dataclass(frozen=True)
class HeadFit:
    """How a head is fitted, teacher and student alike.

    Attributes:
        penalty: strength of the L2 penalty.
        prior_mean: (C, D + 1), mean of the prior of the layer; None for zeros.
        teacher_adjustment: adjustment to the class shares in the decisions of a head of the labels.
        student_adjustment: the same for a head of labels and pseudo-labels, which have part of it already.
    """

    penalty: float
    prior_mean: Tensor | None
    teacher_adjustment: float
    student_adjustment: float

    def layer(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        *,
        start: Tensor | None = None,
        tolerance: float = 1e-6,
    ) -> Tensor:
        """Fit a layer (C, D + 1), without an adjustment; `start` affects the duration only."""
        fitted: Tensor = fit_heads(
            features,
            targets,
            weights[None],
            penalty=self.penalty,
            multilabel=False,
            start=start,
            prior_mean=self.prior_mean,
            tolerance=tolerance,
        )[0]
        return fitted


def self_train(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    teacher: Tensor,
    pool: Tensor,
    fit: HeadFit,
    *,
    always: bool = False,
    seed: int = 0,
) -> SelfTraining:
    """Self-train a head of rows with one class each, unless held-out labels speak against it.

    The student is not used if, in cross-validation, it gives the held-out labels a lower likelihood than the teacher
    and predicts fewer of them, by more than a standard error: most differences of a few labels are chance, and a
    student is better on average.

    Args:
        features: (L, D + 1) of the labeled rows, with a last column of ones.
        targets: (L, C) of zeros and ones.
        weights: (L,), sample weights.
        teacher: (C, D + 1), layer fitted to the labels.
        pool: (M, D + 1), features of rows without a label.
        fit: how heads are fitted.
        always: whether cross-validation is left out.
        seed: seed of the folds.
    """
    features, targets, weights, pool = (t.double() for t in (features, targets, weights, pool))
    if len(pool) < LEAST_POOL:
        return SelfTraining(None, f"no self-training (the pool has {len(pool)} other rows, {LEAST_POOL} are needed)")
    pool = pool[spread_rows(len(pool), SAMPLE)]
    text = f"self-training on {len(pool):,} rows of the pool"
    if not always and len(features) >= LEAST_LABELS:
        judged = _held_out(features, targets, weights, pool[spread_rows(len(pool), FOLD_SAMPLE)], fit, seed)
        before, after = (int(each.right.sum()) for each in judged)
        figures = f"held-out labels predicted: {after} instead of {before} of {len(features)}"
        if _worse(*judged):
            return SelfTraining(None, f"no self-training ({figures})")
        text = f"{text} ({figures})"
    return SelfTraining(student_layer(features, targets, weights, teacher.double(), pool, fit), text)


def student_layer(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    teacher: Tensor,
    pool: Tensor,
    fit: HeadFit,
    *,
    tolerance: float = 1e-6,
) -> Tensor:
    """Layer (C, D + 1) fitted to labels and pseudo-labels, adjusted, at the temperature of the teacher."""
    classes = targets.shape[1]
    counts = weights @ targets
    logits = pool @ teacher.T
    sure, pseudo = (logits + logit_adjustment(counts, ADJUSTMENT)).softmax(1).max(1)
    kept = torch.zeros(len(pool), dtype=torch.float64)
    for code in pseudo.unique():
        predicted = pseudo == code
        kept[predicted] = (sure[predicted] >= sure[predicted].quantile(1 - KEPT)).double()
    all_targets = torch.cat([targets, F.one_hot(pseudo, classes).double()])
    all_weights = torch.cat([weights, kept * (RATIO * weights.sum() / kept.sum())])
    student = fit.layer(torch.cat([features, pool]), all_targets, all_weights, start=teacher, tolerance=tolerance)
    student[:, -1] += logit_adjustment(all_weights @ all_targets, fit.student_adjustment)
    # The student's adjustment is about half of the teacher's (see HeadFit): the teacher without any is the more
    # cautious reference, and at the temperature that it gives the likelihood of test labels was the best.
    return student / _temperature(pool @ student.T, logits.softmax(1))


@dataclass(frozen=True, eq=False)
class _Judged:
    """Held-out labels: which were predicted, (L,) bool, and their log-likelihood."""

    right: Tensor
    likelihood: float


def _held_out(
    features: Tensor, targets: Tensor, weights: Tensor, pool: Tensor, fit: HeadFit, seed: int
) -> tuple[_Judged, _Judged]:
    """Held-out labels by the teacher and by the student."""
    labels = targets.argmax(1)
    fold = stratified_folds(labels, min(FOLDS, len(labels)), seed)
    logits = torch.empty(2, *targets.shape, dtype=torch.float64)
    for left in range(int(fold.max()) + 1):
        seen, held = fold != left, fold == left
        part = features[seen], targets[seen], weights[seen]
        teacher = fit.layer(*part, tolerance=_ROUGH)
        logits[1, held] = features[held] @ student_layer(*part, teacher, pool, fit, tolerance=_ROUGH).T
        teacher[:, -1] += logit_adjustment(part[2] @ part[1], fit.teacher_adjustment)
        logits[0, held] = features[held] @ teacher.T
    each = logits.log_softmax(2).gather(2, labels.expand(2, -1)[..., None])[..., 0]
    teacher_right, student_right = logits.argmax(2) == labels
    return _Judged(teacher_right, float(each[0] @ weights)), _Judged(student_right, float(each[1] @ weights))


def _worse(teacher: _Judged, student: _Judged) -> bool:
    """Whether held-out labels speak against the student."""
    lost = int((teacher.right & ~student.right).sum())
    won = int((student.right & ~teacher.right).sum())
    return student.likelihood < teacher.likelihood and lost - won > (lost + won) ** 0.5


def _temperature(logits: Tensor, probs: Tensor) -> float:
    """Temperature of the logits (N, C) with the least cross-entropy to probabilities (N, C), from 0.3 to 10."""
    low, high = -1.2, 2.3  # logarithms; the cross-entropy is convex in the inverse of the temperature
    for _ in range(25):
        third = (high - low) / 3
        left, right = (_cross_entropy(logits / math.exp(at), probs) for at in (low + third, high - third))
        low, high = (low, high - third) if left < right else (low + third, high)
    return math.exp((low + high) / 2)


def _cross_entropy(logits: Tensor, probs: Tensor) -> float:
    return float(-(probs * logits.log_softmax(1)).sum(1).mean())
