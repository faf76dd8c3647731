"""Classification metrics of a model's outputs: accuracy, F1, AUROC, log loss, calibration."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.evaluation.calibration_measures import adaptive_calibration_error, calibration_error
from dal.evaluation.checked_inputs import checked, distributions
from dal.evaluation.counts import Counts
from dal.evaluation.ranked_metrics import average_precision
from dal.functional.blocks import blocks
from dal.outputs import Outputs

#: Metrics that may be undefined on the given rows; `evaluate` then leaves them out.
UNDEFINED = ("matthews", "auroc")


def evaluate(outputs: Outputs, labels: Tensor) -> dict[str, float]:
    """Compute every metric of `metrics.jsonl` that is defined on the N labeled rows, by name. All are finite.

    | name | range | meaning |
    |---|---|---|
    | accuracy | 0 to 1 | share of rows that are correct; multi-label: correct in every label (subset accuracy) |
    | label_accuracy | 0 to 1 | multi-label only: share of single yes-or-no decisions that are correct |
    | macro_f1 | 0 to 1 | mean F1 of the classes that occur among labels or predictions |
    | micro_f1 | 0 to 1 | F1 of all decisions counted together; equals accuracy unless multi-label |
    | balanced_accuracy | 0 to 1 | mean recall of the classes that occur; multi-label: of yes and no, mean over labels |
    | matthews | -1 to 1 | correlation of predictions and labels; left out where all labels are the same |
    | auroc | 0 to 1 | see `auroc`; left out where no class has both positive and negative rows |
    | average_precision | 0 to 1 | multi-label only, see `average_precision`; left out where no row has a class |
    | log_loss | nats, 0 to 87.4 | mean negative log-probability of the truth; multi-label: mean over rows and labels |
    | ece | 0 to 1 | expected calibration error, see `calibration_error` |
    | ace | 0 to 1 | adaptive calibration error, see `adaptive_calibration_error` |
    | brier | 0 to 2 | squared error of the probabilities, summed over classes; multi-label: mean, 0 to 1 |

    The first six are of `outputs.decisions`, which thresholds change. All others are of the probabilities, which they
    do not, so that models with and without thresholds can be compared.

    Args:
        outputs: N rows with `logits` (N, C), or `probs` (N, C) alone.
        labels: (N,) int64 class indices; (N, C) bool when `outputs.multilabel`.

    Raises:
        DataError: there are no rows, a row has no label, or the shapes do not fit.

    Example:
        >>> outputs = Outputs({"logits": torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])})
        >>> round(evaluate(outputs, torch.tensor([0, 1, 1]))["accuracy"], 3)
        0.667
    """
    logs, probs = distributions(outputs)
    labels = checked(labels.to(probs.device), probs, outputs.multilabel)
    predicted = outputs.to("cpu").decisions
    correct = predicted == labels  # (N,) or (N, C)
    counts = Counts.of(predicted, labels, probs.shape[1])
    shares = {"accuracy": correct.flatten(1).all(1) if outputs.multilabel else correct}
    if outputs.multilabel:
        shares["label_accuracy"] = correct
    optional = dict(zip(UNDEFINED, (counts.matthews(), auroc(probs, labels)), strict=True))
    if outputs.multilabel:
        optional["average_precision"] = average_precision(probs, labels)
    return {
        **{name: value.double().mean().item() for name, value in shares.items()},
        "macro_f1": counts.macro_f1(),
        "micro_f1": counts.micro_f1(),
        "balanced_accuracy": counts.balanced_accuracy(),
        **{name: value for name, value in optional.items() if value is not None},
        **_calibration(logs, probs, labels),
    }


def calibration(outputs: Outputs, labels: Tensor) -> dict[str, float]:
    """The metrics of `evaluate` that a temperature can change: log_loss, ece, ace and brier.

    Raises:
        DataError: as `evaluate`.
    """
    logs, probs = distributions(outputs)
    return _calibration(logs, probs, checked(labels, probs, outputs.multilabel))


def auroc(probs: Tensor, labels: Tensor) -> float | None:
    """Area under the ROC curve, one-vs-rest, averaged over the classes, 0 to 1; 1/2 is chance level.

    For a class, the probability that a random row of the class is ranked above a random other row, ties counting half
    (Mann and Whitney 1947). Classes that all or none of the rows have are left out; None where no class is left.

    Hanley and McNeil 1982, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve".

    Args:
        probs: (N, C).
        labels: (N,) int64; (N, C) bool when multi-label.

    Example:
        >>> auroc(torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]), torch.tensor([0, 1, 1]))
        1.0
    """
    probs = probs.detach().cpu().double()
    labels = checked(labels, probs, labels.dim() == 2)
    areas = []
    for block in blocks(probs.shape[1], len(probs), probs.device):
        has = labels[:, block] if labels.dim() == 2 else labels[:, None] == torch.arange(block.start, block.stop)
        areas.append(_areas(probs[:, block].T, has.T))
    area = torch.cat(areas)
    defined = area[~area.isnan()]  # a class that no row has, or all rows have, has no ranking
    return defined.mean().item() if len(defined) else None


def confidence_auroc(confidence: Tensor, right: Tensor) -> float:
    """Probability that a correct row has a higher confidence than an incorrect one, counting ties as half.

    NaN if all rows are correct, or all incorrect.

    Args:
        confidence: (N,).
        right: (N,) bool, whether each answer is correct.

    Example:
        >>> confidence_auroc(torch.tensor([0.9, 0.8, 0.8]), torch.tensor([True, True, False]))
        0.75
    """
    return _areas(torch.as_tensor(confidence)[None], torch.as_tensor(right)[None]).item()


def _areas(scores: Tensor, positive: Tensor) -> Tensor:
    """Area under the ROC curve of each row of scores (c, N) by the ranks; NaN where all or none are positive."""
    # Mann-Whitney U statistic: with mean ranks, a tie of a positive and a negative row counts as half.
    ranks, positive = _mean_ranks(scores), positive.double()
    n, others = positive.sum(1), (1 - positive).sum(1)
    return ((ranks * positive).sum(1) - n * (n + 1) / 2) / (n * others)


def _mean_ranks(values: Tensor) -> Tensor:
    """Ranks in each row of (c, N), from 1 for the smallest; equal values get their mean rank, and NaN makes a row NaN.

    `scipy.stats.rankdata` without the half second that its import takes.
    """
    values = values.contiguous()
    ordered = values.sort(1).values
    smaller, smaller_or_equal = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    ranks = (smaller + smaller_or_equal + 1).double() / 2
    return ranks.masked_fill(values.isnan().any(1, keepdim=True), torch.nan)


def brier_score(probs: Tensor, labels: Tensor) -> float:
    """Brier score: mean squared error of the probabilities, lower is better.

    Summed over the classes (0 to 2) for labels (N,); mean over the labels (0 to 1) when multi-label, (N, C) bool.
    """
    probs = probs.detach().cpu().double()
    labels = checked(labels, probs, labels.dim() == 2)
    if labels.dim() == 2:
        return (probs - labels.double()).square().mean().item()
    true = probs.gather(1, labels[:, None]).squeeze(1)
    return (probs.square().sum(1) - 2 * true + 1).mean().item()  # |p - y|^2 with y one-hot


def _calibration(logs: Tensor, probs: Tensor, labels: Tensor) -> dict[str, float]:
    """Measures of the probabilities, from logs (N, C), or (N, C, 2) for yes and no when multi-label."""
    if logs.dim() == 3:
        log_loss = -torch.where(labels, logs[..., 0], logs[..., 1]).mean()
    else:
        log_loss = F.nll_loss(logs, labels)
    return {
        "log_loss": log_loss.item(),
        "ece": calibration_error(probs, labels),
        "ace": adaptive_calibration_error(probs, labels),
        "brier": brier_score(probs, labels),
    }
