"""Out-of-fold probabilities for labeled rows by cross-validation of linear heads."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.data.seeded_samples import strata
from dal.learners.heads.head_posteriors import fit_heads, with_unseen
from dal.learners.training.tensor_rows import TensorPrepared


def held_out_probs(
    points: Tensor,
    labels: Tensor,
    classes: int,
    *,
    folds: int = 5,
    penalty: float = 1.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return out-of-fold probabilities (L, C) float64 by cross-validation, and a mask of valid rows (L,) bool.

    The rows of each fold are predicted by a penalised logistic regression (multinomial; one-vs-rest when multi-label)
    on the other folds. Folds are stratified by class, or by the set of classes. A row is invalid if its class is
    missing in all other folds.

    Args:
        points: (L, D), standardised like the embeddings of `ProbeLearner`.
        labels: (L,) int64, or (L, C) bool when multi-label.
        classes: number C of classes.
        folds: number of folds, reduced to L for fewer rows.
        penalty: strength of the penalty, as `ProbeLearner.l2`; its default is larger, because labels may be wrong.
        seed: seed of the folds.

    Example:
        >>> points = torch.tensor([[-1.0], [-1.1], [1.0], [1.1]])
        >>> probs, judged = held_out_probs(points, torch.tensor([0, 0, 1, 1]), 2, folds=2)
        >>> probs.argmax(1).tolist(), judged.all().item()
        ([0, 0, 1, 1], True)
    """
    points, labels = points.detach().cpu().float(), labels.cpu()
    multilabel, rows = labels.dim() == 2, len(labels)
    if rows < 2:
        return torch.zeros(rows, classes, dtype=torch.float64), torch.zeros(rows, dtype=torch.bool)
    targets = labels.double() if multilabel else F.one_hot(labels, classes).double()
    fold = stratified_folds(labels, min(folds, rows), seed)
    weights = (fold != torch.arange(min(folds, rows))[:, None]).double()  # (K, L), 0 for held-out rows
    seen = (weights @ targets) > 0  # (K, C)
    mean, scale = TensorPrepared(points, ()).moments
    features = F.pad(((points - mean) * scale).double(), (0, 1), value=1.0)
    heads = fit_heads(
        features,
        targets,
        weights,
        penalty=penalty,
        multilabel=multilabel,
        seen=None if multilabel else seen,
        tolerance=1e-3,
    )
    logits = torch.empty(rows, classes, dtype=torch.float64)
    for number, head in enumerate(heads):
        logits[fold == number] = features[fold == number] @ head.T
    # A row is invalid if its class occurs in no other fold: the head could not know that class.
    if multilabel:
        return logits.sigmoid(), (seen[fold] | (targets == 0)).all(1)
    known = with_unseen(logits[:, None], seen[fold][:, None]).squeeze(1)
    return known.softmax(1), seen[fold].gather(1, labels[:, None]).squeeze(1)


def stratified_folds(labels: Tensor, count: int, seed: int) -> Tensor:
    """Assign the rows of each class in random order to the folds in turn, (L,) int64."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    stratum = torch.from_numpy(strata(labels))[shuffled]
    order = shuffled[stratum.argsort(stable=True)]
    fold = torch.empty(len(labels), dtype=torch.int64)
    fold[order] = torch.arange(len(labels)) % count
    return fold
