"""Batches by chance: a score decides how probable a row is, so that a batch is not the n nearest copies of the best."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from dal.errors import ConfigError, SelectionError
from dal.functional.checking import Options
from dal.functional.ranking import top
from dal.strategies.composition import ComposedStrategy
from dal.strategies.disagreement import BALD
from dal.strategies.uncertainty import Margin
from dal.strategy import Query, ScoreStrategy, Selection, Strategy

Mode = Literal["power", "softmax", "softrank"]

_TITLES = {"power": "Power", "softmax": "Softmax", "softrank": "SoftRank"}
_ROUNDING = 1e-5  # how far below its lowest value a score may be rounded


@dataclass(frozen=True)
class Stochastic(ComposedStrategy):
    """Rows drawn without replacement, more often the higher another strategy scores them.

    The top n of a perturbed score, with Gumbel noise e_i:

    - "power": `log(s_i - lowest) + e_i / beta`, row i with probability proportional to `(s_i - lowest)^beta`; a row of
      the lowest score there can be is drawn only when all others are;
    - "softmax": `beta s_i + e_i`, proportional to `exp(beta s_i)`: depends on the scale of the score;
    - "softrank": `-log r_i + e_i / beta`, proportional to `r_i^-beta`, with r_i = 1 for the highest score and equal
      ranks for equal scores: depends on the order of the scores alone.

    The best n rows by a score are often n near-copies, whose score would fall once one of them has a label; leaving
    some of it to chance costs nothing and spreads the batch. The scores shown are the strategy's own.

    Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal 2023, "Stochastic Batch Acquisition: A Simple
    Baseline for Deep Active Learning".

    Args:
        strategy: scores the rows.
        mode: how a score becomes a probability.
        beta: how much the score counts: 0.01 is nearly random, 100 nearly the strategy itself. The paper takes 1.
    """

    strategy: ScoreStrategy = field(default_factory=Margin)
    mode: Mode = "power"
    beta: float = 1.0
    delegates = False
    paper = "Kirsch et al. 2023"
    advice = "Large batches, redundant pools: the spread of a batch method at the price of a score. Random for small n."

    def __post_init__(self) -> None:
        check_scores(self)
        if self.mode not in get_args(Mode):
            allowed = " or ".join(map(repr, get_args(Mode)))
            raise ConfigError(f"mode of Stochastic must be {allowed}, not {self.mode!r}")
        Options(self).number("beta", above=0)
        if self.mode == "power" and not math.isfinite(self.strategy.lowest):
            raise ConfigError(
                f"mode 'power' needs scores with a lowest value, which those of {self.strategy.title} have not: "
                "use mode 'softrank'"
            )

    @property
    def title(self) -> str:
        """The mode and the strategy, such as "PowerMargin"."""
        return f"{_TITLES[self.mode]}{self.strategy.title}"

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """The strategy that scores."""
        return (self.strategy,)

    def select(self, query: Query) -> Selection:
        """n positions in the order of their draw."""
        scores = self.strategy.checked_score(query)
        noise = query.gumbel(len(scores))
        positions = top(self._utility(scores) + noise, query.n, generator=query.generator)
        return Selection(positions, scores[positions])

    def _utility(self, scores: Tensor) -> Tensor:
        """What the noise is added to, (N,): beta times the logarithm of how probable each row is."""
        if self.mode == "softmax":
            return self.beta * scores
        if self.mode == "softrank":
            return -self.beta * _ranks(scores).log()
        return self.beta * above_lowest(self.strategy, scores).log()


@dataclass(frozen=True)
class PowerBALD(Strategy):
    """Rows drawn without replacement, `p_i` proportional to `I_i^beta`, I the mutual information that `BALD` scores.

    The same as `Stochastic` around `BALD`: as spread as `BatchBALD` for the price of `BALD`, and without its bound on
    the size of a batch or its need of joint samples. The scores shown are the mutual information in nats.

    Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal 2023, "Stochastic Batch Acquisition: A Simple
    Baseline for Deep Active Learning".

    Args:
        beta: how much the score counts: 0.01 is nearly random, 100 nearly BALD. The paper takes 1.
    """

    beta: float = 1.0
    needs = frozenset({"mutual_information"})
    multilabel = True
    paper = "Kirsch et al. 2023"
    advice = (
        "BALD for batches of more than a few rows: cheap, and not worse than BatchBALD. Needs dropout or a committee."
    )

    def __post_init__(self) -> None:
        Options(self).number("beta", above=0)

    def select(self, query: Query) -> Selection:
        """n positions in the order of their draw."""
        return Stochastic(BALD(), "power", self.beta).select(query)


def check_scores(wrapper: Strategy) -> None:
    """Raises `ConfigError` where the field `strategy` is none that scores rows."""
    inner = getattr(wrapper, "strategy", None)
    if not isinstance(inner, ScoreStrategy):
        given = inner.title if isinstance(inner, Strategy) else repr(inner)
        raise ConfigError(
            f"strategy of {type(wrapper).__name__} must score rows, as Margin does, which {given} does not"
        )


def above_lowest(strategy: ScoreStrategy, scores: Tensor) -> Tensor:
    """How far each score is above the lowest there can be, (N,); above the lowest there is where it has no bound."""
    lowest, found = strategy.lowest, float(scores.amin())
    if not math.isfinite(lowest):
        return scores - found
    if found < lowest - _ROUNDING:
        raise SelectionError(
            f"{strategy.title} scored a row {found:g}, below the lowest value that it states, {lowest:g}: set `lowest` "
            "of its class, to -math.inf where there is none"
        )
    return (scores - lowest).clamp_min_(0)


def _ranks(scores: Tensor) -> Tensor:
    """1 for the highest score, and for every other one more than there are higher ones, (N,)."""
    falling = -scores
    return torch.searchsorted(falling.sort().values, falling).add_(1).to(scores.dtype)
