"""Mutual information of the labels of several rows with the sampled model (BatchBALD) or with other labels (EPIG).

All functions need joint samples: sample k must be the same function for every row. With samples drawn independently
for each row, the results are meaningless.

Worked example: four samples and three rows of two classes. Row 0 separates samples {0, 1} from {2, 3} with certainty;
row 1 repeats it at 99%; row 2 separates {0, 2} from {1, 3} at 90%.

>>> p = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.99, 0.99, 0.01, 0.01], [0.9, 0.1, 0.9, 0.1]])  # (N, K), of class 0
>>> log_p = torch.stack([p, 1 - p], -1).clamp_min(1e-30).log()
>>> from dal.functional.disagreement import mutual_information
>>> mutual_information(log_p)
tensor([0.6931, 0.6371, 0.3681])
>>> batch = greedy_batch(log_p, 2, generator=torch.Generator().manual_seed(0))
>>> batch.positions, batch.gains
(tensor([0, 2]), tensor([0.6931, 0.3681]))
>>> listed = _Labelings.none(log_p).listed(log_p[0])
>>> listed.weight, listed.log_likelihood.softmax(1).round(decimals=4)
(tensor([0.5000, 0.5000]), tensor([[0.5000, 0.5000, 0.0000, 0.0000],
        [0.0000, 0.0000, 0.5000, 0.5000]]))

1. The mean prediction for each row is (1/2, 1/2), of entropy log 2 = 0.6931. The mean entropy of the samples is 0 for
   row 0, H(0.99) = 0.0560 for row 1 and H(0.9) = 0.3251 for row 2. BALD scores the differences and selects rows 0, 1.
2. After row 0 there are two labelings, of probability 1/2 each. Given one of them, the weights of the samples are
   (1/2, 1/2, 0, 0) or (0, 0, 1/2, 1/2).
3. Given either labeling, row 1 predicts (0.99, 0.01) or the reverse, of entropy 0.0560, minus the same mean entropy:
   gain 0. Row 2 still predicts 0.9 / 2 + 0.1 / 2 = 1/2, so its gain is 0.6931 - 0.3251 = 0.3681, as before.
4. The entropy of the weights has fallen from log 4 to log 2. No later gain can exceed what is left of it.

>>> epig(log_p, log_p[2:]).round(decimals=4)
tensor([0.0000, 0.0000, 0.2218])

EPIG of a target like row 2: two labels drawn from one sample agree on class 0 with probability (0.9^2 + 0.1^2) / 2 =
0.41, so that the information is 0.82 log(0.41 / 0.25) + 0.18 log(0.09 / 0.25) = 0.2218. Row 0 is independent of it.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.checked_tensors import dense, finite, floats, refuse_rows
from dal.functional.checking import chosen, whole
from dal.functional.disagreement import agree, without_rounding
from dal.functional.exchange import Shard
from dal.functional.joint_rows import HeldRows, SharedRows
from dal.functional.precision import true_float32

_DROPPED = 0.01  # share of the remaining uncertainty below which drawn labelings are dropped
_TIES = 128  # number of rounding errors within which two gains count as equal
_ROWS = 64  # minimum number of rows evaluated at once
_TILE = 512  # pairs of a row and a class compared with the targets at once, for blocks of 2**18 numbers


@dataclass(frozen=True, eq=False)
class JointBatch:
    """Rows selected jointly.

    Attributes:
        positions: (n,) int64 positions in the pool, in the order of selection.
        gains: (n,) information about the model, in nats, that the label of each row adds to those before it.
    """

    positions: Int64[Tensor, " n"]
    gains: Float[Tensor, " n"]


@torch.no_grad()
def batch_bald(
    joint_mc_log_probs: Float[Tensor, "N K C"],
    n: int,
    *,
    generator: torch.Generator,
    configurations: int = 10_000,
    exhaustive: bool = False,
    shard: Shard | None = None,
) -> Int64[Tensor, " n"]:
    """Positions of n rows whose labels have the largest joint mutual information with the model, greedily, (n,).

    Each step selects the row whose label adds the most information to the labels of the rows selected before,
    `gain(x | S) = H(y_x | y_S) - H(y_x | model)` in nats. See `greedy_batch`, which returns the gains as well.

    Kirsch, van Amersfoort and Gal 2019, "BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian Active
    Learning".

    Args:
        joint_mc_log_probs: finite log-probabilities; sample k is one function for all rows.
        n: number of rows to select, 1 <= n <= N.
        generator: generator on the CPU; breaks ties and samples labelings once they are too many to enumerate.
        configurations: maximum number of labelings of the selected rows that are held.
        exhaustive: whether to compute every gain in every step, without lazy evaluation.
        shard: the rows of this rank if the rows are distributed over several.

    Raises:
        ValueError: n is not within 1..N, configurations is below 1, or a log-probability is not finite.

    >>> opposed, same = [[0.999, 0.001], [0.001, 0.999]], [[0.9, 0.1], [0.9, 0.1]]
    >>> log_probs = torch.tensor([same, opposed]).log()
    >>> batch_bald(log_probs, 1, generator=torch.Generator().manual_seed(0))
    tensor([1])
    """
    return greedy_batch(
        joint_mc_log_probs,
        n,
        generator=generator,
        configurations=configurations,
        exhaustive=exhaustive,
        shard=shard,
    ).positions


@torch.no_grad()
def greedy_batch(
    joint_mc_log_probs: Float[Tensor, "N K C"],
    n: int,
    *,
    generator: torch.Generator,
    configurations: int = 10_000,
    exhaustive: bool = False,
    shard: Shard | None = None,
) -> JointBatch:
    """Rows of `batch_bald` with the gain of each, as a `JointBatch`.

    The labels of the selected rows S matter only through the posterior over samples: each labeling y_S has a
    probability and posterior weights `p(k | y_S)` of the K samples. `p(y_x | y_S) = sum_k p(k | y_S) p(y_x | k)` is
    then a matrix product, and the gain is the mean over the labelings of the mutual information of y_x and k under
    those weights. The gain is at most the entropy of the weights, the remaining uncertainty about the sample.
    Labelings that are improbable, or determine the sample, are dropped as long as all of them together matter less than
    the error of a gain.

    While `C**|S| <= configurations`, all labelings are enumerated and gains are exact up to rounding. Afterwards,
    `configurations // K` labelings are drawn from each sample and extended by one drawn label per step, so that all
    rows are compared on the same draws. Labelings that hold 1% of the remaining uncertainty are then dropped.

    Gains never increase as the batch grows, so an earlier value is an upper bound: rows are evaluated in the order of
    their bounds until no other row can win (Minoux 1978). While labelings are enumerated, the selection equals that of
    `exhaustive`. With drawn labelings a bound may be too low by the error of the estimate; both selections are then
    equally good. An accelerator always works exhaustively, because a synchronisation costs more than the evaluation.
    The host waits for it once per step, for the number of labelings to keep.

    Gains within 128 rounding errors of the largest count as ties, which are broken at random in proportion to a row's
    own mutual information (as in PowerBALD). The same rule fills the batch once the log K nats that K samples can carry
    are used up.

    With a shard, the log-probabilities are those of the rows of this rank, and the result has the positions among all
    rows, on every rank. Each rank computes the mutual information of its rows; all ranks then run the same search, for
    which rows are sent to all when they are first evaluated. The selection is therefore that of one process.

    Extra memory: N*K + 4*N + 4*M*K + 2*B numbers, with M = `configurations` and B a block (1 MiB on the CPU).
    """
    log_p = floats(joint_mc_log_probs, "joint_mc_log_probs", 3)
    n = chosen(n, len(log_p) if shard is None else shard.total, "rows")
    configurations = whole(configurations, "configurations", 1)
    with true_float32():
        every = exhaustive or log_p.device.type != "cpu"
        rows = HeldRows(log_p) if shard is None else SharedRows(log_p, shard, every)
        return _Search(rows, configurations, generator, every).batch(n)


@torch.no_grad()
def epig(
    joint_mc_log_probs: Float[Tensor, "N K C"],
    target: Float[Tensor, "M _ _"],
    *,
    multilabel: bool = False,
) -> Float[Tensor, " N"]:
    """Expected predictive information gain: mean mutual information of a row's label and M target labels, nats, (N,).

    `mean_m I(y_x; y_m)` with `p(y_x, y_m) = mean_k p(y_x | k) p(y_m | k)`. It is at most the mutual information of the
    label and the model: information about the model counts only as far as it changes the predictions for the targets.
    It is exactly 0 if all samples of the row, or of every target, are equal. With `multilabel`, the result is the mean
    over the classes of the binary quantity, between the same class of both rows.

    N*M*C*C joint probabilities are computed, in blocks. Extra memory: 2*M*K*C + 2*B numbers, with B a block (1 MiB on
    the CPU).

    Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth 2023, "Prediction-Oriented Bayesian Active Learning".

    Args:
        joint_mc_log_probs: finite log-probabilities of the pool.
        target: (M, K, C) log-probabilities of the targets; sample k must be the same function as in the pool.
        multilabel: whether the log-probabilities are those of C independent Bernoullis.

    Raises:
        ValueError: pool and target differ in K or C, there is no target, or a log-probability is not finite.

    >>> opposed, same = [[0.999, 0.001], [0.001, 0.999]], [[0.9, 0.1], [0.9, 0.1]]
    >>> epig(torch.tensor([same, opposed]).log(), torch.tensor([opposed]).log())
    tensor([0.0000, 0.6787])
    """
    pool = dense(joint_mc_log_probs, "joint_mc_log_probs", 3)
    target = finite(floats(target, "target", 3), "target")
    N, _, C = pool.shape
    if target.shape[1:] != pool.shape[1:] or not len(target):
        shapes = f"{tuple(target.shape)} and {tuple(pool.shape)}"
        raise ValueError(f"target and pool need the same samples and classes, and at least one target; got {shapes}")
    count, target = len(target), target[~agree(target)]  # no label is informative where all samples agree
    problems = range(C) if multilabel else [None]
    out = floats(pool[:0], "joint_mc_log_probs").new_zeros(N)
    with true_float32():
        targets = [_Targets.of(_outcomes(target.to(out.dtype), problem), count) for problem in problems]
        for rows in blocks(N, _TILE * C, pool.device):
            log_p = floats(pool[rows], "joint_mc_log_probs")
            if not bool(torch.isfinite(log_p.sum())):
                refuse_rows(pool, "joint_mc_log_probs")
            for problem, predicted in zip(problems, targets, strict=True):
                out[rows] += predicted.information(_outcomes(log_p, problem))
            out[rows] = without_rounding(out[rows].clamp_min_(0).div_(len(problems)), log_p)
    return out


# BatchBALD


class _Search:
    """Lazy greedy search: keeps an upper bound of every row's gain and makes it exact only where it can win."""

    def __init__(
        self, rows: HeldRows | SharedRows, configurations: int, generator: torch.Generator, exhaustive: bool
    ) -> None:
        self.rows, self.configurations, self.generator = rows, configurations, generator
        self.like = rows.like  # (0, K, C)
        self.exhaustive = exhaustive
        self.labelings = _Labelings.none(self.like)
        self.bound = rows.information  # (N,): exact gains of the first step
        uniform = torch.rand(len(self.bound), generator=generator, dtype=torch.float64).clamp_min_(1e-300)
        gumbel = -(-uniform.log()).log()
        self.priority = self.bound.double().clamp_min(1e-30).log() + gumbel.to(self.bound.device)  # breaks ties
        self.slack = _TIES * torch.finfo(self.like.dtype).eps * max(1.0, math.log(self.like.shape[2]))

    def batch(self, n: int) -> JointBatch:
        """Select n rows."""
        positions = torch.empty(n, dtype=torch.int64, device=self.like.device)
        gains = self.like.new_zeros(n)
        for step in range(n):
            best = self.bound.amax()
            ties = self.bound >= best - self.slack
            pick = self.priority.where(ties, -torch.inf).argmax().view(1)
            positions[step : step + 1] = pick
            gains[step : step + 1] = self.bound[pick].where(best > self.slack, 0.0)
            self.bound[pick] = -torch.inf
            chosen, left = positions[: step + 1], n - step - 1
            if left and not self._refresh(chosen, best):  # the rest of the batch by priority alone
                positions[step + 1 :] = self.priority.index_fill(0, chosen, -torch.inf).topk(left).indices
                break
        return JointBatch(positions, gains)

    def _labelings(self, chosen: Tensor) -> "_Labelings":
        """Labelings of the selected rows, enumerated or drawn, extended by the label of the last row."""
        K, C = self.like.shape[1:]
        if C ** len(chosen) <= self.configurations:
            return self.labelings.listed(self.rows.log_p(chosen[-1:])[0])
        labelings, new = self.labelings, chosen[-1:]
        if not labelings.draws:
            labelings, new = _Labelings.drawn(self.like, max(1, self.configurations // K)), chosen
        for log_p in self.rows.log_p(new).unbind(0):
            labelings = labelings.extended(log_p, self.generator)
        return labelings

    def _refresh(self, chosen: Tensor, best: Tensor) -> bool:
        """Recompute the gains of rows that can win, or of all rows. Returns False once the largest gain is 0."""
        labelings = self._labelings(chosen)
        posterior = labelings.log_likelihood.softmax(1)  # (M, K): weights of the samples given each labeling
        order, count = labelings.by_uncertainty(posterior, self.slack / 16)
        kept, last = torch.stack([count.double(), best.double()]).tolist()  # the only synchronisation of a step
        if last <= self.slack:  # gains never increase, so nothing can be gained any more
            return False
        places = order[len(order) - int(kept) :].sort().values  # in the order of the draws, which favours no sample
        labelings, posterior = labelings[places], posterior[places]
        self.labelings = labelings
        sample_weights = labelings.weight @ posterior  # (K,)
        order = self.bound.argsort(descending=True, stable=True)[: len(self.bound) - len(chosen)]
        largest = -torch.inf
        block = next(blocks(len(order), len(posterior) * self.like.shape[2], self.like.device))
        # At least `_ROWS` rows at once: `_expected_entropy` splits blocks by labelings if they are too large.
        for rows in order.split(max(_ROWS, block.stop)):
            if not self.exhaustive and float(self.bound[rows[0]]) < largest - 2 * self.slack:
                break
            entropy = _expected_entropy(self.rows.log_p(rows), posterior, labelings.weight)
            self.bound[rows] = (entropy - self.rows.entropies(rows) @ sample_weights).clamp_min_(0)
            if not self.exhaustive:
                largest = max(largest, float(self.bound[rows].amax()))
        return True


@dataclass(frozen=True, eq=False)
class _Labelings:
    """M labelings of the selected rows, enumerated or drawn.

    Attributes:
        log_likelihood: (M, K) log-likelihood of each labeling under each sample.
        weight: (M,) weight of each labeling in a mean: its probability if enumerated, equal weights if drawn.
        number: (M,) int64, index of each draw among the initial draws, which determines its sample and its random
            numbers; empty if enumerated.
        draws: initial number of draws; 0 if enumerated.
    """

    log_likelihood: Tensor
    weight: Tensor
    number: Tensor
    draws: int

    @classmethod
    def none(cls, log_p: Tensor) -> "_Labelings":
        """The single labeling of an empty set of rows."""
        number = torch.zeros(0, dtype=torch.int64, device=log_p.device)
        return cls(log_p.new_zeros(1, log_p.shape[1]), log_p.new_ones(1), number, 0)

    @classmethod
    def drawn(cls, log_p: Tensor, each: int) -> "_Labelings":
        """`each` empty labelings per sample, to be extended by drawn labels."""
        K = log_p.shape[1]
        M = K * each
        return cls(log_p.new_zeros(M, K), log_p.new_full((M,), 1 / M), torch.arange(M, device=log_p.device), M)

    def listed(self, log_p: Tensor) -> "_Labelings":
        """Extend each labeling by every label of one more row, log_p (K, C)."""
        extended = (self.log_likelihood[:, None] + log_p.T).flatten(0, 1)  # (M*C, K)
        return replace(self, log_likelihood=extended, weight=extended.logsumexp(1).exp_().div_(extended.shape[1]))

    def extended(self, log_p: Tensor, generator: torch.Generator) -> "_Labelings":
        """Extend each labeling by a label of one more row, log_p (K, C), drawn from its sample."""
        K, C = log_p.shape
        total = log_p.exp().cumsum(1)[self.number % K]  # (M, C)
        # One number per initial draw, also for dropped ones, so that dropping some does not change the others.
        uniform = torch.rand(self.draws, generator=generator, dtype=torch.float64).to(total)[self.number, None]
        # Inverse of the cumulative distribution; scaled by the last entry, because rounding keeps it from being 1.
        label = (total <= uniform * total[:, -1:]).sum(1).clamp_max_(C - 1)  # (M,)
        return replace(self, log_likelihood=self.log_likelihood + log_p.T[label])

    def by_uncertainty(self, posterior: Tensor, negligible: float) -> tuple[Tensor, Tensor]:
        """Indices (M,) in increasing order of weighted posterior entropy, and how many of the last ones to keep.

        Dropping the others changes a gain by at most `negligible`, or with draws by a share `_DROPPED` of the largest
        possible gain.
        """
        uncertainty, order = torch.special.entr(posterior).sum(1).mul_(self.weight).sort()
        total = uncertainty.cumsum(0)
        dropped = (total[-1:] * _DROPPED).clamp_min(negligible) if self.draws else negligible
        return order, (total > dropped).sum()

    def __getitem__(self, places: Tensor) -> "_Labelings":
        number = self.number[places] if self.draws else self.number
        return _Labelings(self.log_likelihood[places], self.weight[places], number, self.draws)


def _expected_entropy(log_p: Tensor, posterior: Tensor, weights: Tensor) -> Tensor:
    """Entropy of the labels of rows log_p (B, K, C) given each labeling, posterior (M, K), summed by weights, (B,).

    Probabilities below 1e-30 are raised to it, so that no mean of them can vanish.
    """
    B, K, C = log_p.shape
    p = log_p.permute(1, 0, 2).reshape(K, B * C).exp_().clamp_min_(1e-30)
    total = log_p.new_zeros(B * C)
    for some in blocks(len(weights), 2 * B * C, log_p.device):
        given = posterior[some] @ p  # (m, B*C)
        total += weights[some] @ given.log().mul_(given)
    return total.view(B, C).sum(1).neg_()


# EPIG


@dataclass(frozen=True, eq=False)
class _Targets:
    """Predictions for the targets, of all classes or of one binary problem.

    Attributes:
        ratio: (K, m*C) probability under each sample divided by the mean probability and by K.
        mean: (m*C,) mean probability.
        count: M, including the targets on which all samples agree.
    """

    ratio: Tensor
    mean: Tensor
    count: int

    @classmethod
    def of(cls, p: Tensor, count: int) -> "_Targets":
        """Build from the probabilities (m, K, C) of the targets on which samples differ, and the total count M."""
        mean = p.mean(1, keepdim=True).clamp_min_(torch.finfo(p.dtype).tiny)  # (M, 1, C)
        ratio = (p / mean).div_(p.shape[1]).permute(1, 0, 2).flatten(1)
        return cls(ratio, mean.flatten(), count)

    def information(self, p: Tensor) -> Tensor:
        """Mean over the targets of the mutual information with the labels of rows p (B, K, C), (B,).

        With q the joint probability divided by the product of the marginals, it is the mean of `q log q` under that
        product. Unlike a difference of entropies, this is accurate for small values too.
        """
        B, K, C = p.shape
        tiny = torch.finfo(p.dtype).tiny
        mean = p.mean(1).clamp_min_(tiny)  # (B, C)
        ratio = (p / mean[:, None]).permute(0, 2, 1).reshape(B * C, K)
        total = p.new_zeros(B * C)
        for some in blocks(len(self.mean), 2 * B * C, p.device):
            q = ratio @ self.ratio[:, some]
            total += q.clamp_min(tiny).log_().mul_(q) @ self.mean[some]
        return (total.view(B, C) * mean).sum(1) / self.count


def _outcomes(log_p: Tensor, problem: int | None) -> Tensor:
    """Probabilities (B, K, C) of all classes; with a problem, those of that class and its complement, (B, K, 2)."""
    if problem is None:
        return log_p.exp()
    one = log_p[:, :, problem]
    return torch.stack([one.exp(), -torch.expm1(one)], -1)
