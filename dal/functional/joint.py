"""What the labels of rows tell together: of the sampled model, or of the labels of other rows.

Everything here reads joint samples: sample k must be one and the same function for every row. With samples drawn again
for every row the same formulas give numbers without meaning.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks, by_blocks
from dal.functional.checking import chosen, dense, finite, floats, refuse_rows, whole
from dal.functional.disagreement import agree, mutual_information, without_rounding
from dal.functional.precision import true_float32

_DROPPED = 0.01  # share of the doubt left that drawn labelings are dropped for
_TIES = 128  # roundings within which two gains count as equal
_ROWS = 64  # that are evaluated at once, at least
_TILE = 512  # pairs of a row and a class that meet the targets at once, where a block holds 2**18 numbers


@dataclass(frozen=True, eq=False)
class JointBatch:
    """Rows chosen together.

    Attributes:
        positions: (n,) int64 in the pool, in the order of their choice.
        gains: (n,) what the label of each adds to what those before it tell of the model, in nats.
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
) -> Int64[Tensor, " n"]:
    """Positions of n rows whose labels together tell most of the sampled model, chosen greedily, (n,).

    Every pick is the row whose label adds most mutual information to the labels of those chosen before,
    `gain(x | S) = H(y_x | y_S) - H(y_x | model)` in nats. See `greedy_batch`, which returns the gains as well.

    Kirsch, van Amersfoort and Gal 2019, "BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian Active
    Learning".

    Args:
        joint_mc_log_probs: finite log-probabilities; sample k is one function for all rows.
        n: how many, 1 <= n <= N.
        generator: on the CPU; breaks ties and draws labelings once they are too many to list.
        configurations: labelings of the rows chosen that are held at most.
        exhaustive: compute every gain for every pick.

    Raises:
        ValueError: n is not within 1..N, configurations is below 1, or a log-probability is not finite.

    >>> opposed, same = [[0.999, 0.001], [0.001, 0.999]], [[0.9, 0.1], [0.9, 0.1]]
    >>> log_probs = torch.tensor([same, opposed]).log()
    >>> batch_bald(log_probs, 1, generator=torch.Generator().manual_seed(0))
    tensor([1])
    """
    return greedy_batch(
        joint_mc_log_probs, n, generator=generator, configurations=configurations, exhaustive=exhaustive
    ).positions


@torch.no_grad()
def greedy_batch(
    joint_mc_log_probs: Float[Tensor, "N K C"],
    n: int,
    *,
    generator: torch.Generator,
    configurations: int = 10_000,
    exhaustive: bool = False,
) -> JointBatch:
    """The rows of `batch_bald` and the gain of each, as a `JointBatch`.

    The labels of the rows chosen, S, matter only through what they say of the samples: for every labeling y_S its
    probability and the weights of the K samples given it, `p(k | y_S)`. Then `p(y_x | y_S) = sum_k p(k | y_S)
    p(y_x | k)` is a matrix product, and the gain is the mean over the labelings of the mutual information of y_x and k
    under those weights. It is at most their entropy, the doubt that is left: labelings that leave no doubt of the
    sample, or are improbable, are dropped while all of them together matter less than the error of a gain.

    While `C**|S| <= configurations` all labelings are listed and gains are exact to rounding. From then on there are
    `configurations // K` labelings drawn from each sample, as many from every one; each is extended by one drawn label
    per pick, so that all rows are compared on the same draws. Those that hold 1 % of the doubt are dropped then.

    A gain never grows as the batch does, so an old value is an upper bound: rows are evaluated again in the order of
    their bounds until none left could win (Minoux 1978). In the exact phase that gives the picks of `exhaustive`; among
    drawn labelings a bound may be too low by the error of the estimate, and the two choices are equally good.
    `exhaustive` is what an accelerator does in any case: asking whether to stop costs it more than going on. The host
    waits for it once per pick, for how many labelings matter: that is found from the data.

    Gains within 128 roundings of the best are ties: drawn, more often the more a row tells by itself (as in PowerBALD).
    That also fills the batch once nothing is left to learn, as no batch can tell more than log K.

    Besides its input it holds N*K + 4*N + 4*M*K + 2*B numbers, M = `configurations` and B a block (1 MiB on the CPU).
    """
    log_p = floats(joint_mc_log_probs, "joint_mc_log_probs", 3)
    n, configurations = chosen(n, len(log_p), "rows"), whole(configurations, "configurations", 1)
    with true_float32():
        return _Search(log_p, configurations, generator, exhaustive).batch(n)


@torch.no_grad()
def epig(
    joint_mc_log_probs: Float[Tensor, "N K C"],
    target: Float[Tensor, "M _ _"],
    *,
    multilabel: bool = False,
) -> Float[Tensor, " N"]:
    """How much the label of a row tells of the label of a target row, mean over the M targets, in nats, (N,).

    `mean_m I(y_x; y_m)` with `p(y_x, y_m) = mean_k p(y_x | k) p(y_m | k)`: the expected predictive information gain. It
    is at most the mutual information of the label and the model: what a label tells of the model counts only so far as
    it changes a prediction for the targets. Exactly 0 where all samples of the row, or of every target, are the same.
    With `multilabel`, each class is a problem of its own: the mean over the classes of the binary quantity, between the
    same class of both rows.

    N*M*C*C joint probabilities are computed, in blocks: besides the input this holds 2*M*K*C + 2*B numbers, B a block
    (1 MiB on the CPU).

    Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth 2023, "Prediction-Oriented Bayesian Active Learning".

    Args:
        joint_mc_log_probs: finite log-probabilities of the pool.
        target: (M, K, C) those of the targets; sample k must be the same function as in the pool.
        multilabel: whether they are those of C independent Bernoullis.

    Raises:
        ValueError: the two differ in their samples or classes, there is no target, or a log-probability is not finite.

    >>> opposed, same = [[0.999, 0.001], [0.001, 0.999]], [[0.9, 0.1], [0.9, 0.1]]
    >>> epig(torch.tensor([same, opposed]).log(), torch.tensor([opposed]).log())
    tensor([0.0000, 0.6787])
    """
    pool = dense(joint_mc_log_probs, "joint_mc_log_probs", 3)
    target = finite(floats(target, "target", 3), "target")
    N, _, C = pool.shape
    if target.shape[1:] != pool.shape[1:] or not len(target):
        shapes = f"{tuple(target.shape)} and {tuple(pool.shape)}"
        raise ValueError(f"target and pool need the same samples and classes, and a target at least; got {shapes}")
    count, target = len(target), target[~agree(target)]  # what no sample doubts, nothing tells anything of
    problems = range(C) if multilabel else [None]
    out = floats(pool[:0], "joint_mc_log_probs").new_zeros(N)
    with true_float32():
        targets = [_Targets.of(_outcomes(target.to(out.dtype), problem), count) for problem in problems]
        for rows in blocks(N, _TILE * C, pool.device):
            log_p = floats(pool[rows], "joint_mc_log_probs")
            if not bool(torch.isfinite(log_p.sum())):
                refuse_rows(pool, "joint_mc_log_probs")
            for problem, towards in zip(problems, targets, strict=True):
                out[rows] += towards.information(_outcomes(log_p, problem))
            out[rows] = without_rounding(out[rows].clamp_min_(0).div_(len(problems)), log_p)
    return out


# BatchBALD


class _Search:
    """The greedy search: an upper bound on every row's gain, which is made exact where it may decide."""

    def __init__(self, log_p: Tensor, configurations: int, generator: torch.Generator, exhaustive: bool) -> None:
        N, _, C = log_p.shape
        self.log_p, self.configurations, self.generator = log_p, configurations, generator
        self.exhaustive = exhaustive or log_p.device.type != "cpu"
        self.labelings = _Labelings.none(log_p)
        self.entropies = _entropies(log_p)  # (N, K): H(y | k), which no other label changes
        if not bool(torch.isfinite(self.entropies.sum())):
            refuse_rows(log_p, "joint_mc_log_probs")  # floor the log-probability of impossible outcomes
        self.bound = mutual_information(log_p)  # (N,), of the first pick the gain itself
        uniform = torch.rand(N, generator=generator, dtype=torch.float64).clamp_min_(1e-300)
        gumbel = -(-uniform.log()).log()
        self.priority = self.bound.double().clamp_min(1e-30).log() + gumbel.to(log_p.device)  # decides between equals
        self.slack = _TIES * torch.finfo(log_p.dtype).eps * max(1.0, math.log(C))

    def batch(self, n: int) -> JointBatch:
        """n picks."""
        positions = torch.empty(n, dtype=torch.int64, device=self.log_p.device)
        gains = self.log_p.new_zeros(n)
        for step in range(n):
            best = self.bound.amax()
            ties = self.bound >= best - self.slack
            pick = self.priority.where(ties, -torch.inf).argmax().view(1)
            positions[step : step + 1] = pick
            gains[step : step + 1] = self.bound[pick].where(best > self.slack, 0.0)
            self.bound[pick] = -torch.inf
            chosen, left = positions[: step + 1], n - step - 1
            if left and not self._refresh(chosen, best):
                positions[step + 1 :] = self._rest(chosen, left)
                break
        return JointBatch(positions, gains)

    def _rest(self, chosen: Tensor, n: int) -> Tensor:
        """n more rows by priority alone."""
        return self.priority.index_fill(0, chosen, -torch.inf).topk(n).indices

    def _labelings(self, chosen: Tensor) -> "_Labelings":
        """The labelings of the rows chosen: all of them, or drawn ones, each extended by the last row's label."""
        K, C = self.log_p.shape[1:]
        if C ** len(chosen) <= self.configurations:
            return self.labelings.listed(self.log_p[chosen[-1:]][0])
        labelings, new = self.labelings, chosen[-1:]
        if not labelings.draws:
            labelings, new = _Labelings.drawn(self.log_p, max(1, self.configurations // K)), chosen
        for log_p in self.log_p[new].unbind(0):
            labelings = labelings.extended(log_p, self.generator)
        return labelings

    def _refresh(self, chosen: Tensor, best: Tensor) -> bool:
        """Bounds become gains wherever they may be the largest, or everywhere. No if the last gain left nothing."""
        labelings = self._labelings(chosen)
        posterior = labelings.log_likelihood.softmax(1)  # (M, K): the weights of the samples given each
        order, count = labelings.by_doubt(posterior, self.slack / 16)
        matter, last = torch.stack([count.double(), best.double()]).tolist()  # the one look at the device per pick
        if last <= self.slack:  # nothing is left to learn, and never will be
            return False
        places = order[len(order) - int(matter) :].sort().values  # in the order of the draws, which favours no sample
        labelings, posterior = labelings[places], posterior[places]
        self.labelings = labelings
        doubt = labelings.weight @ posterior  # (K,)
        order = self.bound.argsort(descending=True, stable=True)[: len(self.bound) - len(chosen)]
        largest = -torch.inf
        for some in _row_blocks(len(order), len(posterior) * self.log_p.shape[2], self.log_p.device):
            rows = order[some]
            if not self.exhaustive and float(self.bound[rows[0]]) < largest - 2 * self.slack:
                break
            entropy = _expected_entropy(self.log_p[rows], posterior, labelings.weight)
            self.bound[rows] = (entropy - self.entropies[rows] @ doubt).clamp_min_(0)
            if not self.exhaustive:
                largest = max(largest, float(self.bound[rows].amax()))
        return True


@dataclass(frozen=True, eq=False)
class _Labelings:
    """M ways to label the rows chosen.

    Attributes:
        log_likelihood: (M, K) of each labeling under each sample.
        weight: (M,) of each in a mean over all: its probability, or the same for every draw.
        number: (M,) int64, the number of a draw among all there were at first, which gives the sample that it is drawn
            from and its random numbers; empty when all labelings are listed.
        draws: how many draws there were at first, 0 when all labelings are listed.
    """

    log_likelihood: Tensor
    weight: Tensor
    number: Tensor
    draws: int

    @classmethod
    def none(cls, log_p: Tensor) -> "_Labelings":
        """The one labeling of no rows at all."""
        number = torch.zeros(0, dtype=torch.int64, device=log_p.device)
        return cls(log_p.new_zeros(1, log_p.shape[1]), log_p.new_ones(1), number, 0)

    @classmethod
    def drawn(cls, log_p: Tensor, each: int) -> "_Labelings":
        """As many empty labelings from every sample, to be extended by draws."""
        K = log_p.shape[1]
        M = K * each
        return cls(log_p.new_zeros(M, K), log_p.new_full((M,), 1 / M), torch.arange(M, device=log_p.device), M)

    def listed(self, log_p: Tensor) -> "_Labelings":
        """Each with every label of one more row, log_p (K, C)."""
        every = (self.log_likelihood[:, None] + log_p.T).flatten(0, 1)  # (M*C, K)
        return replace(self, log_likelihood=every, weight=every.logsumexp(1).exp_().div_(every.shape[1]))

    def extended(self, log_p: Tensor, generator: torch.Generator) -> "_Labelings":
        """Each with a label of one more row, log_p (K, C), drawn from its sample."""
        K, C = log_p.shape
        total = log_p.exp().cumsum(1)[self.number % K]  # (M, C)
        uniform = torch.rand(self.draws, generator=generator, dtype=torch.float64).to(total)[self.number, None]
        label = (total <= uniform * total[:, -1:]).sum(1).clamp_max_(C - 1)  # (M,)
        return replace(self, log_likelihood=self.log_likelihood + log_p.T[label])

    def by_doubt(self, posterior: Tensor, negligible: float) -> tuple[Tensor, Tensor]:
        """Their places (M,), those that leave least doubt of the sample first, and how many of the last matter.

        Without the others a gain changes by no more than `negligible`, or among draws by a share `_DROPPED` of what the
        gains can be.
        """
        doubt, order = torch.special.entr(posterior).sum(1).mul_(self.weight).sort()
        total = doubt.cumsum(0)
        dropped = (total[-1:] * _DROPPED).clamp_min(negligible) if self.draws else negligible
        return order, (total > dropped).sum()

    def __getitem__(self, places: Tensor) -> "_Labelings":
        number = self.number[places] if self.draws else self.number
        return _Labelings(self.log_likelihood[places], self.weight[places], number, self.draws)


def _row_blocks(rows: int, width: int, device: torch.device) -> Iterator[slice]:
    """Blocks of at least `_ROWS` rows: what these take beyond a block is cut again by labelings."""
    for start in range(0, rows, step := max(_ROWS, next(blocks(rows, width, device)).stop)):
        yield slice(start, min(start + step, rows))


def _entropies(log_p: Tensor) -> Tensor:
    """Entropy of every prediction, (N, K)."""
    N, K, C = log_p.shape
    return by_blocks(lambda rows: log_p[rows].exp().mul_(log_p[rows]).sum(-1).neg_(), N, K * C, log_p.device)


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
    """The targets of one problem.

    Attributes:
        ratio: (K, m*C) probability under each sample over the mean probability, divided by K.
        mean: (m*C,) the mean probability.
        count: M, those with samples that are all the same included.
    """

    ratio: Tensor
    mean: Tensor
    count: int

    @classmethod
    def of(cls, p: Tensor, count: int) -> "_Targets":
        """From the probabilities (m, K, C) of those that are not sure, and how many there are in all."""
        mean = p.mean(1, keepdim=True).clamp_min_(torch.finfo(p.dtype).tiny)  # (M, 1, C)
        ratio = (p / mean).div_(p.shape[1]).permute(1, 0, 2).flatten(1)
        return cls(ratio, mean.flatten(), count)

    def information(self, p: Tensor) -> Tensor:
        """Mean over the targets of the mutual information of labels, of rows p (B, K, C), (B,).

        With q the joint probability over the product of the means, it is the mean of `q log q` under that product: no
        difference of entropies, so that a small information is as accurate as a large one.
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
    """Probabilities (B, K, C) of the classes; of one class (the problem) and its absence (B, K, 2) when multi-label."""
    if problem is None:
        return log_p.exp()
    one = log_p[:, :, problem]
    return torch.stack([one.exp(), -torch.expm1(one)], -1)
