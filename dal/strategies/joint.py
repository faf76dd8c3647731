"""Strategies that ask for rows by what their labels tell together; they read samples that are one function for all."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.checking import Options
from dal.functional.disagreement import mutual_information
from dal.functional.joint import epig, greedy_batch
from dal.functional.ranking import top
from dal.outputs import Outputs
from dal.strategy import Query, ScoreStrategy, Selection, Strategy


@dataclass(frozen=True)
class BatchBALD(Strategy):
    """The batch whose labels together tell most of the model: `argmax_S I(y_S; model)`, built greedily.

    Each pick adds `H(y_x | y_S) - H(y_x | model)` in nats, its score, to the information of the batch, which is the
    note `information`. A near-copy of a row chosen before adds little, so a batch does not repeat itself as `BALD`'s
    does. K samples can tell log K at most: rows asked after that are drawn in proportion to their own information, as
    by `PowerBALD`. Not defined for multi-label outputs, where the labelings of a single row are 2^C already.

    Kirsch, van Amersfoort and Gal 2019, "BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian Active
    Learning".

    Args:
        candidates: rows of the highest mutual information that are considered, at least n.
        configurations: labelings of the batch that are held at most: gains are exact while C**n is no more, and
            estimated from as many drawn ones afterwards.
    """

    candidates: int = 10_000
    configurations: int = 10_000
    needs = frozenset({"joint_mc_log_probs"})
    paper = "Kirsch et al. 2019"
    advice = (
        "Small batches (up to about 10) of a slow annotator, with many samples. For large ones, PowerBALD or BADGE."
    )

    def __post_init__(self) -> None:
        Options(self).whole("candidates", "configurations", least=1)

    def select(self, query: Query) -> Selection:
        """n positions in greedy order."""
        log_probs = query.pool.joint_mc_log_probs  # (N, K, C)
        rows = _informative(query.pool, max(self.candidates, query.n), query.generator)
        batch = greedy_batch(log_probs[rows], query.n, generator=query.generator, configurations=self.configurations)
        return Selection(rows[batch.positions], batch.gains, {"information": float(batch.gains.sum())})


@dataclass(frozen=True)
class EPIG(ScoreStrategy):
    """Rows whose label tells most of the target rows' labels: `score = mean_m I(y_x; y_m)`, in nats.

    The expected predictive information gain. `BALD` asks for what tells of the model, also of those parts of it that no
    target row ever meets, such as how to treat outliers; this asks for what changes predictions where they are
    wanted, in `query.target`. As `I(y_x; y_m)` is at most the mutual information that `BALD` scores, rows low in that
    are left out and score 0. Multi-label: the mean over the classes of the binary quantity. Blind to redundancy.

    Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth 2023, "Prediction-Oriented Bayesian Active Learning".

    Args:
        targets: target rows that are used, drawn when there are more.
        candidates: rows of the highest mutual information that are scored, at least n. The cost is theirs, times
            targets, times the square of the number of classes.
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
        """The information about the targets in nats, (N,); 0 for rows that are no candidates."""
        log_probs, multilabel = query.pool.joint_mc_log_probs, query.pool.multilabel  # (N, K, C)
        target = (query.target if len(query.target) else query.pool).joint_mc_log_probs
        if len(target) > self.targets:
            drawn = torch.randperm(len(target), generator=query.generator)[: self.targets]
            target = target[drawn.to(target.device)]
        rows = _informative(query.pool, max(self.candidates, query.n), query.generator)
        scores: Tensor = log_probs.new_zeros(len(log_probs))
        scores[rows] = epig(log_probs[rows], target, multilabel=multilabel)
        return scores


def _informative(pool: Outputs, count: int, generator: torch.Generator) -> Tensor:
    """Positions of the rows of highest mutual information, or all where there are no more."""
    if len(pool) <= count:
        return torch.arange(len(pool), device=pool.device)
    information = mutual_information(pool.joint_mc_log_probs, multilabel=pool.multilabel)
    return top(information, count, generator=generator)
