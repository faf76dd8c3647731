"""How many labeled rows their nearest labeled neighbours predict, by encoder: intervals, chance and paired tests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.errors import DataError
from dal.evaluation.proportions import wilson_interval
from dal.evaluation.statistics import holm, paired_p
from dal.functional.drawing import some_rows

#: Temperature of the votes, in standard deviations of the similarities, and the part of the effective number of rows
#: that gives the intervals their coverage; chosen leaving one of seven data sets out (docs/encoders.md).
TEMPERATURE, DEPENDENCE = 0.7, 0.5

#: Smallest number of labels for a comparison, and largest number of rows that are compared.
MIN_LABELS, MAX_ROWS = 30, 500

#: Significance level of "better than chance" and of "better than the learner's own encoder".
ALPHA = 0.05

_PERMUTATIONS = 999
_DRAW = 0  # seed of the rows that are compared
_LARGEST = 1 << 22  # votes held at once


@dataclass(frozen=True)
class EncoderScore:
    """Score of one encoder on L labeled rows.

    Attributes:
        name: name of the encoder.
        share: share of rows that their neighbours predict, mean over classes.
        low: lower end of a 95 % interval of the share.
        high: upper end of it.
        chance: mean share if the labels had nothing to do with the neighbours.
        p_chance: p-value of a permutation test of a share no better than chance.
        lead: share minus that of the learner's own encoder; None without one, and for that one.
        p_lead: p-value of the lead, two-sided and paired over the rows, with Holm's correction; None where `lead` is.
    """

    name: str
    share: float
    low: float
    high: float
    chance: float
    p_chance: float
    lead: float | None = None
    p_lead: float | None = None

    @property
    def above_chance(self) -> bool:
        """Whether the share is better than chance at the level `ALPHA`."""
        return self.p_chance <= ALPHA

    @property
    def beats_own(self) -> bool:
        """Whether the share is better than chance, and than that of the learner's own encoder, at the level `ALPHA`."""
        return self.above_chance and self.lead is not None and self.lead > 0 and (self.p_lead or 0.0) <= ALPHA


def compared_rows(labeled: Tensor) -> Tensor:
    """The labeled rows that are compared, (L,) int64, ascending: all, or `MAX_ROWS` of them drawn at random.

    The draw depends on nothing but the number of labeled rows, so that everything that compares encoders on the same
    labels compares them on the same rows.

    Args:
        labeled: indices of the labeled rows, (M,) int64.
    """
    drawn = some_rows(len(labeled), MAX_ROWS, generator=torch.Generator().manual_seed(_DRAW))
    return labeled.sort().values[drawn].sort().values


@torch.no_grad()
def neighbor_hits(similarities: Tensor, labels: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """Whether the other rows, the nearest most, predict the label of each row, (L,) float64 from 0 to 1.

    Each other row j votes for its class with `exp(s_ij / (temperature * d))`, so that the nearest rows decide. The
    standard deviation d of all similarities makes encoders comparable whose similarities are spread over different
    ranges. The votes for class c weigh `n_c^(-1/2)`, with n_c the number of other rows of the class: without a weight
    a class with nine in ten rows would win almost every vote, and with `1/n_c` every row of a class with few. A row
    for which m classes have the most votes counts 1/m if its own is one of them.

    Goldberger et al. 2004, "Neighbourhood Components Analysis", on such votes.

    Args:
        similarities: (L, L), higher is nearer; the diagonal is not read.
        labels: (L,) int64.
        temperature: divisor of the similarities, in standard deviations.

    Raises:
        ValueError: a similarity is not finite, or the sizes differ.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> neighbor_hits(-torch.cdist(x, x), torch.tensor([0, 0, 1, 1])).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    return _hits(_votes(similarities, labels, temperature), labels[None])[0]


def _votes(similarities: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Votes of each row's neighbours, (L, L) float64; the nearest has one, the row itself none."""
    count = len(labels)
    if similarities.shape != (count, count) or not bool(torch.isfinite(similarities).all()):
        raise ValueError(f"similarities must be finite and ({count}, {count}), not {tuple(similarities.shape)}")
    if count < 2:
        return torch.zeros(count, count, dtype=torch.float64)
    table = similarities.double()
    spread = table[~torch.eye(count, dtype=torch.bool)].std(correction=0)
    nearest = table.clone().fill_diagonal_(-torch.inf)
    nearest -= nearest.amax(1, keepdim=True)
    # Equal similarities may differ by rounding, and have no spread.
    return (nearest / (temperature * spread.clamp_min(1e-9 * table.abs().max()).clamp_min(1e-300))).exp()


def _hits(votes: Tensor, labels: Tensor) -> Tensor:
    """Hits of P labelings of the same L rows, (P, L) float64. Shapes: votes (L, L), labels (P, L)."""
    onehot = F.one_hot(labels).double()  # (P, L, C)
    others = onehot.sum(1, keepdim=True) - onehot  # rows of each class without the row itself
    weighted = (votes @ onehot) * others.clamp_min(1).rsqrt()
    most = weighted >= weighted.amax(2, keepdim=True) * (1 - 1e-9)
    hits: Tensor = (most * onehot).sum(2) / most.sum(2)
    return hits


def row_weights(labels: Tensor) -> Tensor:
    """Weight of each row in a mean over classes, (L,) float64, with sum 1; 0 for rows of classes with a single row."""
    sizes = torch.bincount(labels).double()
    weights: Tensor = torch.where(sizes > 1, 1 / sizes.clamp_min(1), 0.0)[labels]
    return weights / weights.sum().clamp_min(1e-300)


def effective_rows(weights: Tensor) -> float:
    """Number of rows with equal weights whose mean has the variance of the weighted one: `1 / sum(w^2)`.

    Kish 1965, "Survey Sampling".
    """
    return 1 / float(weights.square().sum())


def score_encoders(
    similarities: Mapping[str, Tensor],
    labels: Tensor,
    *,
    own: str | None = None,
    temperature: float = TEMPERATURE,
    seed: int = 0,
) -> list[EncoderScore]:
    """Score encoders by the labels that the neighbours of each labeled row predict, the own encoder first.

    The share of an encoder is the mean of `neighbor_hits` over the rows of each class, and over the classes with at
    least two rows. Its interval is that of Wilson for half the effective number of rows, as the hits of rows with
    the same neighbours are not independent. Chance and its p-value are those of 999 permutations of the labels. Leads
    are tested by the paired sign-flip permutation test on the rows (`paired_p`), with Holm's correction for the number
    of encoders.

    Args:
        similarities: encoder name -> (L, L) similarities of the labeled rows.
        labels: (L,) int64 class codes of the rows.
        own: name of the learner's own encoder.
        temperature: divisor of the similarities in the votes, in their standard deviations.
        seed: seed of the permutations.

    Raises:
        DataError: fewer than two classes have two rows each.
        ValueError: similarities are not finite, or not (L, L).
    """
    labels = torch.unique(labels, return_inverse=True)[1]
    if int((torch.bincount(labels) > 1).sum()) < 2:
        raise DataError("neighbours predict labels only where two classes have at least two labeled rows each")
    weights = row_weights(labels)
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.stack([labels[torch.randperm(len(labels), generator=generator)] for _ in range(_PERMUTATIONS)])
    hits, scores = dict[str, Tensor](), dict[str, EncoderScore]()
    for name, table in similarities.items():
        votes = _votes(table, labels, temperature)
        hits[name] = _hits(votes, labels[None])[0]
        share = min(1.0, float(hits[name] @ weights))  # the weights sum to 1 but for rounding
        size = max(1, _LARGEST // (len(labels) * (int(labels.max()) + 1)))
        random = torch.cat([_shares(votes, part) for part in shuffled.split(size)])
        p = (1 + int((random >= share - 1e-9).sum())) / (1 + _PERMUTATIONS)
        low, high = wilson_interval(share, DEPENDENCE * effective_rows(weights))
        scores[name] = EncoderScore(name, share, low, high, float(random.mean()), p)
    if own is None:
        return list(scores.values())
    differences = {name: (hit - hits[own]) * weights for name, hit in hits.items() if name != own}
    corrected = holm({name: paired_p(d[d.abs() > 1e-12].tolist()) for name, d in differences.items()})
    first = scores.pop(own)
    others = (replace(score, lead=score.share - first.share, p_lead=corrected[name]) for name, score in scores.items())
    return [first, *others]


def _shares(votes: Tensor, labels: Tensor) -> Tensor:
    """Share of each of P permutations of the labels, (P,). All have the same class sizes."""
    by_class = torch.zeros(int(labels.max()) + 1, dtype=torch.float64).scatter_(0, labels[0], row_weights(labels[0]))
    return (_hits(votes, labels) * by_class[labels]).sum(1)
