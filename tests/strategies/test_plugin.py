"""A strategy as somebody else would write it, with nothing of dal changed for it."""

from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from dal.config import settings_tree
from dal.config.build import build
from dal.errors import NeedError
from dal.functional import margin
from dal.strategies import Phases, Random
from dal.strategy import Query, ScoreStrategy, Strategy, all_needs, choose
from strategies.queries import of, query


@dataclass(frozen=True)
class SpreadMargin(ScoreStrategy):
    """Smallest top-two margin first, with a bonus far from labeled rows."""

    weight: float = 1.0
    needs = {"probs", "features"}  # noqa: RUF012
    labeled_needs = {"features"}  # noqa: RUF012

    def score(self, query: Query) -> Tensor:
        closeness = margin(query.pool.probs)  # (N,)
        if not len(query.labeled):
            return -closeness
        gap = torch.cdist(query.pool.features, query.labeled.features).amin(-1)  # (N,)
        return self.weight * gap / gap.amax().clamp_min(1e-12) - closeness


@pytest.mark.parametrize("labeled", [0, 10])
@pytest.mark.parametrize("n", [1, 60])
def test_chooses_by_its_score(n, labeled):
    asked = query(n, labeled=labeled)
    selection = choose(SpreadMargin(weight=0.5), asked)
    scores = SpreadMargin(weight=0.5).score(asked)
    assert torch.equal(selection.scores, scores.sort(descending=True).values[:n])


def test_without_weight_it_is_margin_sampling():
    pool = {"logits": torch.tensor([[2.0, 0.0], [0.1, 0.0], [1.0, 0.0]]), "features": torch.zeros(3, 2)}
    asked = of(pool, 3, labeled={"features": torch.ones(1, 2)}, labels=[0])
    assert choose(SpreadMargin(weight=0.0), asked).positions.tolist() == [1, 2, 0]


def test_its_only_option_is_its_field():
    assert [f.name for f in fields(SpreadMargin)] == ["weight"]


def test_goes_into_phases():
    assert all_needs(Phases(Random(), SpreadMargin())) == {"probs", "features"}
    assert len(choose(Phases(Random(), SpreadMargin(), until=1), query(4)).positions) == 4


def test_is_refused_for_multilabel_outputs_because_it_does_not_claim_them():
    with pytest.raises(NeedError, match="SpreadMargin is not defined for multi-label outputs"):
        choose(SpreadMargin(), query(1, multilabel=True))


@dataclass(frozen=True)
class Settings:
    """Holds a strategy."""

    strategy: Strategy


def made(text: str, **options: str) -> Strategy:
    settings = settings_tree.Node(settings_tree.option(text, "run.yaml").value, None, "run.yaml")
    pairs = [(key.replace("__", "."), value) for key, value in options.items()]
    return build(Settings, settings, settings_tree.options(pairs))[0].strategy


def test_a_config_makes_it_by_its_import_path():
    path = f"{SpreadMargin.__module__}.SpreadMargin"
    assert made("{}", strategy=path, strategy__weight="0.25") == SpreadMargin(weight=0.25)


def test_a_config_makes_nested_phases():
    path = f"{SpreadMargin.__module__}.SpreadMargin"
    then = f"{{class_path: {path}, init_args: {{weight: 2.0}}}}"
    phases = made(f"{{strategy: {{Phases: {{first: ClusterCenters, then: {then}, until: 30}}}}}}")
    assert phases.then == SpreadMargin(weight=2.0)
    assert phases.until == 30
