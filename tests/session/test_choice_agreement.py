"""Whether two models would choose alike: by a slow reference, and where a side has nothing to compare."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dal.data import Rows, Splits
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.session.choice_agreement import ChoiceAgreement, Chooser, choice_agreement
from dal.session.seeds import Seeds
from dal.strategies import BADGE, Margin, Random
from dal.strategy import RoundState, Strategy

PROBE, OTHER = ProbeLearner(model=None), ProbeLearner(model=None, l2=3.0)
SAMPLE = torch.arange(20, 80)


@dataclass(frozen=True)
class LogitsOnly(ProbeLearner):
    provides = frozenset({"logits"})
    label_free = frozenset()


def rows(multilabel: bool = False) -> Rows:
    generator = torch.Generator().manual_seed(0)
    codes = torch.arange(120) % 3
    vectors = torch.randn(120, 5, generator=generator) + torch.eye(3, 5)[codes]
    labels = torch.nn.functional.one_hot(codes, 3).bool() if multilabel else codes
    return Rows.from_inputs(vectors, labels, ["a", "b", "c"], multilabel=multilabel)


def chooser(learner: ProbeLearner, pool: Rows) -> Chooser:
    prepared = learner.prepare(pool)
    return Chooser(learner, learner.fit(prepared, torch.arange(20), pool.labels[:20], seed=0), prepared)


def compared(strategy: Strategy, first: ProbeLearner, second: ProbeLearner, *, multilabel: bool = False) -> Any:
    pool = rows(multilabel)
    return choice_agreement(
        strategy,
        SAMPLE,
        6,
        chooser(first, pool),
        chooser(second, pool),
        labeled=torch.arange(20),
        labels=pool.labels[:20],
        seeds=Seeds(0, 1),
        state=RoundState(1, 20),
    )


def margins(learner: ProbeLearner) -> list[float]:
    made = chooser(learner, rows())
    probs = made.predictor.outputs(made.pool, SAMPLE, {"logits"}).probs.double()
    return [float(row.sort().values[-1] - row.sort().values[-2]) for row in probs]


def ranks(values: list[float]) -> list[float]:
    return [sum(other < value for other in values) + sum(other == value for other in values) / 2 for value in values]


def correlation(x: list[float], y: list[float]) -> float:
    stacked: Tensor = torch.tensor([x, y], dtype=torch.float64)
    return float(torch.corrcoef(stacked)[0, 1])


def test_agreement_is_that_of_a_slow_reference() -> None:
    found = compared(Margin(), PROBE, OTHER)
    first, second = margins(PROBE), margins(OTHER)
    chosen = [sorted(range(60), key=each.__getitem__)[:6] for each in (first, second)]
    assert (found.rows, found.n, found.shared) == (60, 6, len({*chosen[0]} & {*chosen[1]}))
    assert 0 < found.shared < 6
    assert found.rank_correlation == pytest.approx(correlation(ranks(first), ranks(second)))
    surer = [sum(other > second[row] for other in second) / 59 for row in chosen[0]]
    assert found.percentile == pytest.approx(sum(surer) / 6)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("strategy", [Margin(), BADGE()], ids=repr)
def test_a_model_agrees_with_itself(strategy: Strategy, multilabel: bool) -> None:
    found = compared(strategy, PROBE, PROBE, multilabel=multilabel)
    assert (found.shared, found.rank_correlation) == (6, pytest.approx(1.0))


def test_without_outputs_to_choose_by_the_margins_alone_are_compared() -> None:
    by_margin = compared(Margin(), PROBE, OTHER).rank_correlation
    for found in (compared(Random(), PROBE, OTHER), compared(BADGE(), PROBE, LogitsOnly(model=None, l2=3.0))):
        assert (found.shared, found.percentile) == (None, None)
        assert found.rank_correlation == pytest.approx(by_margin)


def test_session_compares_its_next_choice_among_unasked_rows() -> None:
    with Session(Splits(rows(), rows()), PROBE, Margin(), hide_labels=True) as session:
        asked = session.ask(20, strategy=Random())
        session.tell(asked, session.pool.labels[asked])
        figures, agreement = session.score_and_compare(OTHER, rows=50, n=25)
        assert isinstance(agreement, ChoiceAgreement)
        assert (agreement.rows, agreement.n) == (50, 5)  # at most a tenth of the sample
        plain = session.score(OTHER)
        assert {**figures, "seconds": 0} == {**plain, "seconds": 0}
        assert session.score_and_compare(OTHER, rows=50, n=25)[1] == agreement
        assert session.score_and_compare(OTHER, rows=1000, n=2)[1].rows == 100  # type: ignore[union-attr]
        rest = session.ask(100, strategy=Random())
        session.tell(rest, session.pool.labels[rest])
        assert session.score_and_compare(OTHER, rows=50, n=5)[1] is None
