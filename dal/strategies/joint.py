"""Information-theoretic batch strategies. They read joint samples: sample k is one function for all rows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.checking import Options
from dal.functional.disagreement import mutual_information
from dal.functional.joint import epig, greedy_batch
from dal.functional.ranking import top
from dal.strategy import Query, ScoreStrategy, Selection, Strategy


@dataclass(frozen=True)
class BatchBALD(Strategy):
    """Batch with the largest mutual information between its labels and the model, `argmax_S I(y_S; model)`, greedily.

    Each step adds `H(y_x | y_S) - H(y_x | model)` in nats, the score of the row, to the information of the batch, which
    is the note `information`. A near-duplicate of a selected row adds little, so batches are less redundant than those
    of `BALD`. K samples carry at most log K nats; once these are used up, rows are drawn in proportion to their own
    mutual information, as in `PowerBALD`. Not defined for multi-label outputs, where a single row has 2^C labelings.

    Kirsch, van Amersfoort and Gal 2019, "BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian Active
    Learning".

    Args:
        candidates: number of rows with the highest mutual information that are considered, at least n.
        configurations: maximum number of labelings of the batch that are held. Gains are exact while C**n does not
            exceed it, and estimated from a sample of that size afterwards.
    """

    candidates: int = 10_000
    configurations: int = 10_000
    needs = frozenset({"joint_mc_log_probs"})
    exact_on_shards = True
    paper = "Kirsch et al. 2019"
    advice = (
        "Small batches (up to about 10) of a slow annotator, with many samples. For large ones, PowerBALD or BADGE."
    )

    def __post_init__(self) -> None:
        Options(self).whole("candidates", "configurations", least=1)

    def select(self, query: Query) -> Selection:
        """Select n positions, in greedy order."""
        log_probs = query.pool.joint_mc_log_probs  # (N, K, C)
        rows = _informative(query, max(self.candidates, query.n))
        own, shard = (rows, None) if query.shard is None else query.shard.take(rows)
        batch = greedy_batch(
            log_probs[own], query.n, generator=query.generator, configurations=self.configurations, shard=shard
        )
        return Selection(rows[batch.positions], batch.gains, {"information": float(batch.gains.sum())})


@dataclass(frozen=True)
class EPIG(ScoreStrategy):
    """Expected predictive information gain: `score = mean_m I(y_x; y_m)` over target rows m, in nats.

    `BALD` rewards any information about the model, including parts that do not affect the target rows, such as its
    behaviour on outliers. EPIG rewards information about the predictions for `query.target`. As `I(y_x; y_m)` is at
    most the mutual information of `BALD`, only rows with high mutual information are scored; all others get 0.
    Multi-label: the mean over the classes of the binary quantity. It ignores redundancy within a batch.

    Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth 2023, "Prediction-Oriented Bayesian Active Learning".

    Args:
        targets: maximum number of target rows; drawn at random when there are more.
        candidates: number of rows with the highest mutual information that are scored, at least n. The cost is
            candidates times targets times the square of the number of classes.
    """

    targets: int = 100
    candidates: int = 10_000
    needs = frozenset({"joint_mc_log_probs"})
    target_needs = frozenset({"joint_mc_log_probs"})
    multilabel = True
    paper = "Bickford Smith et al. 2023"
    advice = "Pools full of odd rows, or unlike the rows that count. Needs joint samples; batches may be redundant."

    def __post_init__(self) -> None:
        Options(self).whole("targets", "candidates", least=1)

    def score(self, query: Query) -> Tensor:
        """Mean information about the targets in nats, (N,); 0 for rows that are not candidates."""
        log_probs, multilabel = query.pool.joint_mc_log_probs, query.pool.multilabel  # (N, K, C)
        target = (query.target if len(query.target) else query.pool).joint_mc_log_probs
        if len(target) > self.targets:
            drawn = torch.randperm(len(target), generator=query.generator)[: self.targets]
            target = target[drawn.to(target.device)]
        rows = _informative(query, max(self.candidates, query.n))
        scores: Tensor = log_probs.new_zeros(len(log_probs))
        scores[rows] = epig(log_probs[rows], target, multilabel=multilabel)
        return scores


def _informative(query: Query, count: int) -> Tensor:
    """Positions of the `count` rows with the highest mutual information, or of all rows if there are no more."""
    pool = query.pool
    if query.size <= count:
        return torch.arange(query.size, device=pool.device)
    information = mutual_information(pool.joint_mc_log_probs, multilabel=pool.multilabel)
    return top(information, count, generator=query.generator, shard=query.shard)
