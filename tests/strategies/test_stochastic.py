import math
from dataclasses import dataclass

import pytest
import torch

from dal.errors import ConfigError, SelectionError
from dal.outputs import Outputs
from dal.strategies.disagreement import BALD
from dal.strategies.gradient import BADGE
from dal.strategies.joint import EPIG
from dal.strategies.stochastic import PowerBALD, Stochastic
from dal.strategies.uncertainty import Entropy, LeastConfidence, Margin
from dal.strategy import Query, ScoreStrategy, choose
from dal.testing import check_strategy
from strategies.queries import query


@dataclass(frozen=True)
class Given(ScoreStrategy):
    """Scores that stand in the outputs."""

    needs = frozenset({"score"})

    def score(self, query):
        return query.pool["score"]


@dataclass(frozen=True)
class Unbounded(Given):
    lowest = -math.inf


def scored(scores: list[float], n: int = 1, seed: int = 0) -> Query:
    return Query(Outputs({"score": torch.tensor(scores)}), n, torch.Generator().manual_seed(seed))


def frequencies(strategy: Stochastic, scores: list[float], draws: int = 1000) -> torch.Tensor:
    """How often each row is the first to be drawn."""
    asked = scored(scores)
    counts = torch.zeros(len(scores))
    for _ in range(draws):
        counts[strategy.select(asked).positions] += 1
    return counts / draws


@pytest.mark.parametrize(
    "strategy",
    [
        Stochastic(),
        Stochastic(Entropy(), "softmax", 3.0),
        Stochastic(LeastConfidence(), "softrank"),
        Stochastic(EPIG(targets=5)),
        PowerBALD(),
        PowerBALD(beta=8.0),
    ],
    ids=str,
)
def test_keeps_the_contract(strategy):
    check_strategy(strategy, rows=1000)


@pytest.mark.parametrize(
    ("mode", "beta", "weights"),
    [
        ("power", 1.0, [4.0, 1.0, 2.0, 1.0, 0.0]),
        ("power", 2.0, [16.0, 1.0, 4.0, 1.0, 0.0]),
        ("softmax", 0.5, [math.exp(2.0), math.exp(0.5), math.exp(1.0), math.exp(0.5), 1.0]),
        ("softrank", 1.0, [1.0, 1 / 3, 1 / 2, 1 / 3, 1 / 5]),  # ranks 1, 3, 2, 3, 5
        ("softrank", 2.0, [1.0, 1 / 9, 1 / 4, 1 / 9, 1 / 25]),
    ],
)
def test_rows_are_drawn_with_the_probability_stated(mode, beta, weights):
    expected = torch.tensor(weights) / sum(weights)
    share = frequencies(Stochastic(Given(), mode, beta), [4.0, 1.0, 2.0, 1.0, 0.0])
    assert float(((share - expected).square() / expected.clamp_min(1e-9)).sum() * 1000) < 18.5  # p = 0.001


def test_power_measures_scores_from_the_lowest_there_can_be():
    pool = Outputs({"probs": torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])})  # margins 0, 1/2, 1
    asked = Query(pool, 1, torch.Generator().manual_seed(0))
    counts = torch.zeros(3)
    for _ in range(600):
        counts[Stochastic(Margin()).select(asked).positions] += 1
    assert float(counts[0] / counts[1]) == pytest.approx(2, rel=0.25)
    assert counts[2] == 0


def test_rows_of_the_lowest_score_come_after_all_others():
    for seed in range(20):
        positions = choose(Stochastic(Given()), scored([0.0, 1e-6, 0.0, 5.0, 0.0], n=3, seed=seed)).positions
        assert set(positions[:2].tolist()) == {1, 3}


@pytest.mark.parametrize("mode", ["power", "softmax", "softrank"])
def test_a_large_beta_is_nearly_the_strategy_itself(mode):
    scores = [0.1, 0.9, 0.5, 0.3, 0.7]
    assert choose(Stochastic(Given(), mode, 1e4), scored(scores, n=5)).positions.tolist() == [1, 4, 2, 3, 0]


@pytest.mark.parametrize("mode", ["power", "softmax", "softrank"])
def test_the_scores_shown_are_the_strategys_own(mode):
    asked = query(9)
    selection = choose(Stochastic(Margin(), mode), asked)
    assert torch.equal(selection.scores, Margin().score(query(9))[selection.positions])


def test_declares_what_its_strategy_declares():
    wrapped = Stochastic(EPIG())
    assert wrapped.needs == wrapped.target_needs == {"joint_mc_log_probs"}
    assert Stochastic(Given()).needs == {"score"}
    assert wrapped.multilabel
    assert not Stochastic(Given()).multilabel
    assert not Stochastic(Margin()).rowwise


def test_is_called_by_its_mode_and_its_strategy():
    titles = [Stochastic(Margin(), mode).title for mode in ("power", "softmax", "softrank")]
    assert titles == ["PowerMargin", "SoftmaxMargin", "SoftRankMargin"]


def test_power_bald_is_bald_made_stochastic():
    first, second = (choose(strategy, query(12)) for strategy in (PowerBALD(2.0), Stochastic(BALD(), "power", 2.0)))
    assert torch.equal(first.positions, second.positions)
    assert torch.equal(first.scores, second.scores)


def test_power_is_refused_for_scores_without_a_lowest_value():
    with pytest.raises(ConfigError, match="Unbounded declares none: use mode 'softrank'"):
        Stochastic(Unbounded())
    assert len(choose(Stochastic(Unbounded(), "softrank"), scored([-5.0, 3.0], n=2)).positions) == 2


def test_a_score_below_the_lowest_stated_is_refused():
    with pytest.raises(SelectionError, match="Given scored a row -2, below its declared lower bound 0"):
        choose(Stochastic(Given()), scored([1.0, -2.0]))


def test_a_score_rounded_to_just_below_the_lowest_is_the_lowest():
    assert choose(Stochastic(Given()), scored([-1e-7, 1.0])).positions.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "gumbel"}, "mode of Stochastic must be 'power' or 'softmax' or 'softrank', not 'gumbel'"),
        ({"beta": 0.0}, "beta of Stochastic must be above 0 and finite, not 0.0"),
        ({"beta": math.inf}, "beta of Stochastic must be above 0"),
        ({"beta": math.nan}, "beta of Stochastic must be above 0"),
        ({"strategy": BADGE()}, "strategy of Stochastic must score rows, as Margin does, which BADGE does not"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Stochastic(**options)


def test_a_beta_of_zero_is_refused_by_power_bald_as_well():
    with pytest.raises(ConfigError, match="beta of PowerBALD must be above 0 and finite, not 0"):
        PowerBALD(0.0)


def test_a_score_that_is_not_finite_is_refused():
    @dataclass(frozen=True)
    class Divides(Given):
        def score(self, query):
            return query.pool["score"] / 0

    with pytest.raises(SelectionError, match="a score of Divides is NaN or infinite"):
        choose(Stochastic(Divides()), scored([0.0, 1.0]))
