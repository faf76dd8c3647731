"""The name of a batch's strategy for people: also that of a strategy which left the selection to another one."""

from pathlib import Path

import pytest
import torch

from dal import Auto, Margin, Random
from dal.data import Rows, Splits
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.store.events import shown_strategy
from dal.strategy import Strategy


@pytest.mark.parametrize(("strategy", "shown"), [(Auto(), "Auto (MaxHerding)"), (Random(), "Random")])
def test_batch_names_both_strategies_also_after_a_restart(tmp_path: Path, strategy: Strategy, shown: str) -> None:
    pool = Rows.from_inputs(torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), classes=["cat", "dog"])
    for _ in range(2):
        with Session(Splits(pool=pool), ProbeLearner(model=None), strategy, folder=tmp_path) as session:
            session.ask(3)
            batch = session.last_selection
            assert batch is not None
            assert (batch.shown_strategy, batch.strategy) == (shown, shown.removeprefix("Auto (").removesuffix(")"))
            assert ("configured" in batch.details) == (shown != "Random")


def test_strategy_that_acts_itself_has_one_name() -> None:
    assert shown_strategy("Margin", {}) == shown_strategy("Margin", {"configured": ""}) == Margin().title
    assert shown_strategy("Margin", {"configured": 3}) == "Margin"  # in a log from a stranger
