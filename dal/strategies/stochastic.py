"""Stochastic batch acquisition: rows sampled with probabilities that increase with a score."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from dal.errors import ConfigError, SelectionError
from dal.functional.checking import Options
from dal.functional.exchange import gather_rows
from dal.functional.points import DensePoints
from dal.functional.ranking import top
from dal.strategies.composition import ComposedStrategy
from dal.strategies.disagreement import BALD
from dal.strategies.uncertainty import Margin
from dal.strategy import Query, ScoreStrategy, Selection, Strategy

Mode = Literal["power", "softmax", "softrank"]

_TITLES = {"power": "Power", "softmax": "Softmax", "softrank": "SoftRank"}
_ROUNDING = 1e-5  # tolerance for scores that rounding puts below their lower bound


@dataclass(frozen=True)
class Stochastic(ComposedStrategy):
    """Rows drawn without replacement, with probabilities that increase with the scores of another strategy.

    The n largest perturbed scores, with Gumbel noise e_i:

    - "power": `log(s_i - lowest) + e_i / beta`, so row i has a probability proportional to `(s_i - lowest)^beta`; rows
      with the lowest possible score are drawn only after all others;
    - "softmax": `beta s_i + e_i`, proportional to `exp(beta s_i)`: depends on the scale of the score;
    - "softrank": `-log r_i + e_i / beta`, proportional to `r_i^-beta`, with rank r_i = 1 for the highest score and
      equal ranks for equal scores: depends on the order of the scores only.

    The n rows with the highest scores are often near-duplicates, whose scores would all drop once one of them is
    labeled. Sampling diversifies the batch at no extra cost. The scores of the selection are the unperturbed ones.

    Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal 2023, "Stochastic Batch Acquisition: A Simple
    Baseline for Deep Active Learning".

    Args:
        strategy: strategy that scores the rows.
        mode: mapping from scores to probabilities.
        beta: inverse temperature: 0.01 is nearly random, 100 nearly the strategy itself. The paper uses 1.
    """

    strategy: ScoreStrategy = field(default_factory=Margin)
    mode: Mode = "power"
    beta: float = 1.0
    delegates = False
    paper = "Kirsch et al. 2023"
    advice = "Large batches from redundant pools: diverse at the cost of a score. Close to random for small batches."

    def __post_init__(self) -> None:
        check_scores(self)
        if self.mode not in get_args(Mode):
            allowed = " or ".join(map(repr, get_args(Mode)))
            raise ConfigError(f"mode of Stochastic must be {allowed}, not {self.mode!r}")
        Options(self).number("beta", above=0)
        if self.mode == "power" and not math.isfinite(self.strategy.lowest):
            raise ConfigError(
                f"mode 'power' needs scores with a lower bound, but {self.strategy.title} declares none: "
                "use mode 'softrank'"
            )

    @property
    def title(self) -> str:
        """Name of the mode followed by the strategy, such as "PowerMargin"."""
        return f"{_TITLES[self.mode]}{self.strategy.title}"

    @property
    def exact_on_shards(self) -> bool:  # type: ignore[override]
        """Whether the scores are; ranks among the scores of all rows need all of them on one rank."""
        return self.mode != "softrank" and self.strategy.exact_on_shards

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """The strategy that scores."""
        return (self.strategy,)

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order in which they were drawn."""
        scores = self.strategy.checked_score(query)
        noise = query.gumbel(query.size)
        if query.shard is not None:
            noise = noise[query.shard.rows]
        # Adding Gumbel noise to log-probabilities and taking the n largest draws n rows without replacement.
        if self.mode == "softmax":
            log_probs = self.beta * scores
        elif self.mode == "softrank":
            negated = -scores
            # Rank 1 plus the number of higher scores (competition ranks), so that equal scores have equal chances.
            ranks = torch.searchsorted(negated.sort().values, negated).add_(1).to(scores.dtype)
            log_probs = -self.beta * ranks.log()
        else:
            log_probs = self.beta * above_lowest(self.strategy, scores).log()
        positions = top(log_probs + noise, query.n, generator=query.generator, shard=query.shard)
        if query.shard is not None:
            return Selection(positions, gather_rows(DensePoints(scores[:, None]), positions, query.shard).x.squeeze(1))
        return Selection(positions, scores[positions])


@dataclass(frozen=True)
class PowerBALD(Strategy):
    """Rows drawn without replacement, `p_i` proportional to `I_i^beta`, with I the mutual information of `BALD`.

    Equivalent to `Stochastic` around `BALD`: as diverse as `BatchBALD` at the cost of `BALD`, without a limit on the
    batch size and without joint samples. The scores are the mutual information in nats.

    Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal 2023, "Stochastic Batch Acquisition: A Simple
    Baseline for Deep Active Learning".

    Args:
        beta: inverse temperature: 0.01 is nearly random, 100 nearly BALD. The paper uses 1.
    """

    beta: float = 1.0
    needs = frozenset({"mutual_information"})
    multilabel = True
    exact_on_shards = True
    paper = "Kirsch et al. 2023"
    advice = (
        "BALD for batches of more than a few rows: cheap, and not worse than BatchBALD. Needs dropout or a committee."
    )

    def __post_init__(self) -> None:
        Options(self).number("beta", above=0)

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order in which they were drawn."""
        return Stochastic(BALD(), "power", self.beta).select(query)


def check_scores(wrapper: Strategy) -> None:
    """Raise `ConfigError` unless the field `strategy` is a `ScoreStrategy`."""
    inner = getattr(wrapper, "strategy", None)
    if not isinstance(inner, ScoreStrategy):
        given = inner.title if isinstance(inner, Strategy) else repr(inner)
        raise ConfigError(
            f"strategy of {type(wrapper).__name__} must score rows, as Margin does, which {given} does not"
        )


def above_lowest(strategy: ScoreStrategy, scores: Tensor) -> Tensor:
    """Scores (N,) minus their lower bound, or minus the smallest of them when the strategy has no lower bound."""
    lowest, smallest = strategy.lowest, float(scores.amin()) if len(scores) else math.inf
    if not math.isfinite(lowest):
        return scores - smallest
    if smallest < lowest - _ROUNDING:
        raise SelectionError(
            f"{strategy.title} scored a row {smallest:g}, below its declared lower bound {lowest:g}: correct `lowest` "
            "in its class, or set it to -math.inf for unbounded scores"
        )
    return (scores - lowest).clamp_min_(0)
