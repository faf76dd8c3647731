"""Every check of the kit passes what is right and fails on a strategy that is wrong in that way."""

import os
import random
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from dal.config import plugins
from dal.outputs import Outputs
from dal.strategies.composition import Phases
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin
from dal.strategy import Query, RoundState, ScoreStrategy, Selection, Strategy
from dal.testing import STRATEGY_CHECKS, ConformanceError, Report, check_strategy, strategy_report

FEW = 3_000  # rows of the memory check: enough to catch what is wrong here
#: Rows for the installed strategies, some of which have blocks of a fixed size. The limit is a third of N x N or of
#: N x (C*D), whatever N is; at the default of 20,000 rows `BatchBALD` alone takes 20 processor seconds.
SOME = 5_000


def lowest(values: Tensor, n: int) -> Tensor:
    return values.argsort(stable=True)[:n]


def top_probability(query: Query) -> Tensor:
    return query.pool.probs.amax(-1)


# Right ones


@dataclass(frozen=True)
class Typical(ScoreStrategy):
    """Nearest to the mean of the pool, whatever the labels."""

    sharpness: float = 1.0
    needs = frozenset({"features"})

    def score(self, query: Query) -> Tensor:
        gap = query.pool.features - query.pool.features.double().mean(0).float()
        return -self.sharpness * gap.norm(dim=-1)


@dataclass(frozen=True)
class Surprising(ScoreStrategy):
    """Highest value of a name that dal does not know."""

    needs = frozenset({"astonishment"})
    rowwise = True

    def score(self, query: Query) -> Tensor:
        return query.pool["astonishment"]


# Wrong ones, a class for each way. The name of the check that must catch it stands in the table below.


@dataclass(frozen=True)
class AnnotatedNeeds(ScoreStrategy):
    needs: frozenset[str] = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return -top_probability(query)


@dataclass(frozen=True)
class NeedsAString(ScoreStrategy):
    needs = "probs"

    def score(self, query: Query) -> Tensor:
        return -top_probability(query)


@dataclass(frozen=True)
class FlagIsNoBool(Random):
    multilabel = "sometimes"


@dataclass(frozen=True)
class ResolvesToAName(Strategy):
    def resolve(self, state: RoundState) -> Strategy:
        return "Random"  # type: ignore[return-value]

    def select(self, query: Query) -> Tensor:
        return torch.arange(query.n)


@dataclass(frozen=True)
class HidesTheNeedsOfAPhase(Strategy):
    def resolve(self, state: RoundState) -> Strategy:
        return Margin() if state.labels else Random()

    def select(self, query: Query) -> Tensor:
        return torch.arange(query.n)


@dataclass(frozen=True)
class ResolvesAtRandom(Strategy):
    needs = frozenset({"features"})

    def resolve(self, state: RoundState) -> Strategy:
        return Typical(int.from_bytes(os.urandom(4)))

    def select(self, query: Query) -> Tensor:
        return torch.arange(query.n)


@dataclass(frozen=True)
class ReadsMoreWithLabels(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return query.pool.features.norm(dim=-1) if len(query.labeled) else -top_probability(query)


@dataclass(frozen=True)
class ReadsTheLabeledToo(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return -top_probability(query) * (1 + query.labeled.features.sum())


@dataclass(frozen=True)
class ReadsMoreOfTwoClasses(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        two = query.pool.probs.shape[-1] == 2
        return query.pool.logits.diff(dim=-1).abs().squeeze(-1) if two else -top_probability(query)


@dataclass(frozen=True)
class ReturnsScores(Strategy):
    needs = frozenset({"probs"})

    def select(self, query: Query) -> Tensor:
        return top_probability(query)


@dataclass(frozen=True)
class ReturnsInt32(Strategy):
    def select(self, query: Query) -> Tensor:
        return torch.randperm(len(query.pool), generator=query.generator)[: query.n].int()


@dataclass(frozen=True)
class ReturnsTooMany(Strategy):
    def select(self, query: Query) -> Tensor:
        return torch.randperm(len(query.pool), generator=query.generator)[: query.n + 1]


@dataclass(frozen=True)
class RepeatsARow(Strategy):
    def select(self, query: Query) -> Tensor:
        return torch.randint(len(query.pool), (query.n,), generator=query.generator) // 8


@dataclass(frozen=True)
class SqueezesOne(Strategy):
    needs = frozenset({"probs"})

    def select(self, query: Query) -> Tensor:
        return lowest(top_probability(query), query.n).squeeze()


@dataclass(frozen=True)
class LeavesOneOut(Strategy):
    needs = frozenset({"probs"})

    def select(self, query: Query) -> Tensor:
        order = lowest(top_probability(query), len(query.pool))
        return order[1 : query.n + 1] if len(order) > 1 else order


@dataclass(frozen=True)
class NeedsTwoRows(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return -top_probability(query) / top_probability(query).topk(2).values[1]


@dataclass(frozen=True)
class NeedsThreeClasses(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return query.pool.probs.topk(3).values[:, 2]


@dataclass(frozen=True)
class KnowsAHundredClasses(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return torch.arange(100)[query.pool.probs.argmax(-1)] - top_probability(query)


@dataclass(frozen=True)
class NeedsTwoLabeled(ScoreStrategy):
    needs = frozenset({"features"})
    labeled_needs = frozenset({"features"})

    def score(self, query: Query) -> Tensor:
        if not len(query.labeled):
            return query.pool.features.norm(dim=-1)
        return torch.cdist(query.pool.features, query.labeled.features).topk(2).values.sum(-1)


@dataclass(frozen=True)
class NeedsLabels(ScoreStrategy):
    needs = frozenset({"features"})
    labeled_needs = frozenset({"features"})

    def score(self, query: Query) -> Tensor:
        return torch.cdist(query.pool.features, query.labeled.features).amin(-1)


@dataclass(frozen=True)
class ForgetsWhatItChose(Strategy):
    """Greedy k-center that trusts a zero distance to keep a row from being chosen again."""

    needs = frozenset({"features"})

    def select(self, query: Query) -> Tensor:
        points = query.pool.features
        chosen = [int(points.norm(dim=-1).argmax())]
        while len(chosen) < query.n:
            gap = torch.stack([(points - points[i]).norm(dim=-1) for i in chosen]).amin(0)
            chosen.append(int(gap.argmax()))
        return torch.tensor(chosen)


@dataclass(frozen=True)
class AsksTheSystem(Strategy):
    def select(self, query: Query) -> Tensor:
        return torch.tensor(random.SystemRandom().sample(range(len(query.pool)), query.n))


@dataclass(frozen=True)
class DrawsFromTorch(Strategy):
    def select(self, query: Query) -> Tensor:
        return torch.randperm(len(query.pool))[: query.n]


@dataclass(frozen=True)
class DrawsFromNumPy(Strategy):
    def select(self, query: Query) -> Tensor:
        return torch.from_numpy(np.random.permutation(len(query.pool))[: query.n])


@dataclass(frozen=True)
class DrawsFromPython(Strategy):
    def select(self, query: Query) -> Tensor:
        return torch.tensor(random.sample(range(len(query.pool)), query.n))


@dataclass(frozen=True)
class SeedsTorch(Strategy):
    def select(self, query: Query) -> Tensor:
        torch.manual_seed(0)
        return torch.randperm(len(query.pool))[: query.n]


@dataclass(frozen=True)
class ReadsTheGlobalStateOnly(Strategy):
    def select(self, query: Query) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            return torch.randperm(len(query.pool))[: query.n]


@dataclass(frozen=True)
class WritesToItsInput(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return query.pool.probs.neg_().amin(-1)


@dataclass(frozen=True)
class WritesToLabels(Random):
    def select(self, query: Query) -> Tensor:
        query.labels.zero_()
        return torch.randperm(len(query.pool), generator=query.generator)[: query.n]


@dataclass(frozen=True)
class TakesTheFirst(Strategy):
    def select(self, query: Query) -> Tensor:
        return torch.arange(query.n)


@dataclass(frozen=True)
class ScoresByPlace(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return 0.01 * torch.arange(len(query.pool)) - top_probability(query)


@dataclass(frozen=True)
class ClaimsRowwise(Typical):
    rowwise = True


@dataclass(frozen=True)
class ClaimsRowwiseWithoutScores(Strategy):
    needs = frozenset({"probs"})
    rowwise = True

    def select(self, query: Query) -> Tensor:
        return lowest(top_probability(query), query.n)


@dataclass(frozen=True)
class ClaimsShards(Typical):
    exact_on_shards = True


@dataclass(frozen=True)
class DrawsForItsOwnRowsOnly(Strategy):
    exact_on_shards = True

    def select(self, query: Query) -> Tensor:
        return torch.randperm(len(query.pool), generator=query.generator)[: query.n]


@dataclass(frozen=True)
class ClaimsShardsSometimes(Random):
    exact_on_shards = "sometimes"


@dataclass(frozen=True)
class NaiveEntropy(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        return -(query.pool.probs * query.pool.probs.log()).sum(-1)


@dataclass(frozen=True)
class ShowsInfinity(Strategy):
    needs = frozenset({"probs"})

    def select(self, query: Query) -> Selection:
        scores = 1 / (1 - top_probability(query))
        return Selection(lowest(-scores, query.n), scores.topk(query.n).values)


@dataclass(frozen=True)
class NotesNaN(Strategy):
    def select(self, query: Query) -> Selection:
        return Selection(
            torch.randperm(len(query.pool), generator=query.generator)[: query.n], None, {"radius": np.nan}
        )


@dataclass(frozen=True)
class ClaimsMultilabel(ScoreStrategy):
    needs = frozenset({"probs"})
    multilabel = True

    def score(self, query: Query) -> Tensor:
        seen = torch.bincount(query.labels, minlength=query.pool.probs.shape[-1])
        return query.pool.probs @ (1.0 / (1 + seen))


@dataclass(frozen=True)
class AllPairs(ScoreStrategy):
    needs = frozenset({"features"})

    def score(self, query: Query) -> Tensor:
        return torch.cdist(query.pool.features, query.pool.features).mean(-1)


@dataclass(frozen=True)
class AllPairsInNumPy(ScoreStrategy):
    needs = frozenset({"features"})

    def score(self, query: Query) -> Tensor:
        x = query.pool.features.numpy()
        return torch.from_numpy((x @ x.T).mean(-1))


@dataclass(frozen=True)
class WholeGradients(ScoreStrategy):
    needs = frozenset({"grads"})

    def score(self, query: Query) -> Tensor:
        return query.pool.grads.materialise().norm(dim=-1)


class NoDataclass(Random):
    pass


@dataclass
class NotFrozen(Strategy):
    weight: float = 1.0

    def select(self, query: Query) -> Tensor:
        return torch.randperm(len(query.pool), generator=query.generator)[: query.n]


NotFrozen.__hash__ = lambda self: hash(self.weight)  # type: ignore[method-assign,assignment]


@dataclass(frozen=True)
class ListOption(Random):
    weights: list[float] = field(default_factory=lambda: [1.0])


@dataclass(frozen=True, eq=False)
class EqualByIdentity(Random):
    weight: float = 1.0


@dataclass(frozen=True)
class HiddenField(Random):
    state: int = field(default=0, init=False)


@dataclass(frozen=True)
class SecretOption(Random):
    weight: float = field(default=1.0, repr=False)


@dataclass(frozen=True)
class Remembers(Random):
    def select(self, query: Query) -> Tensor:
        object.__setattr__(self, "last", query.n)
        return torch.randperm(len(query.pool), generator=query.generator)[: query.n]


@dataclass(frozen=True)
class SwallowsItsErrors(Strategy):
    """In a pool of other than four classes an error is caught, and the rows are taken in file order."""

    needs = frozenset({"probs"})

    def select(self, query: Query) -> Tensor:
        try:
            return (query.pool.probs * torch.ones(4)).amax(1).argsort(stable=True)[: query.n]
        except RuntimeError:
            return torch.arange(query.n)


@dataclass(frozen=True)
class DrawsOnTheDevice(ScoreStrategy):
    needs = frozenset({"probs"})

    def score(self, query: Query) -> Tensor:
        noise = torch.rand(len(query.pool), generator=query.generator, device=query.pool.device)
        return noise - top_probability(query)


WRONG: list[tuple[str, type]] = [
    ("declaration", AnnotatedNeeds),
    ("declaration", NeedsAString),
    ("declaration", FlagIsNoBool),
    ("declaration", Surprising),
    ("resolve", ResolvesToAName),
    ("resolve", ResolvesAtRandom),
    ("resolve", HidesTheNeedsOfAPhase),
    ("undeclared reads", ReadsMoreWithLabels),
    ("undeclared reads", ReadsTheLabeledToo),
    ("undeclared reads", ReadsMoreOfTwoClasses),
    ("an ordinary pool", ReturnsScores),
    ("an ordinary pool", ReturnsInt32),
    ("an ordinary pool", ReturnsTooMany),
    ("an ordinary pool", RepeatsARow),
    ("n = 1", SqueezesOne),
    ("n = N", LeavesOneOut),
    ("N = 1", NeedsTwoRows),
    ("two classes", NeedsThreeClasses),
    ("150 classes", KnowsAHundredClasses),
    ("one labeled", NeedsTwoLabeled),
    ("nothing labeled", NeedsLabels),
    ("all rows equal", ForgetsWhatItChose),
    ("many duplicates", ForgetsWhatItChose),
    ("same seed, same choice", AsksTheSystem),
    ("global randomness", DrawsFromTorch),
    ("global randomness", DrawsFromNumPy),
    ("global randomness", DrawsFromPython),
    ("global randomness", SeedsTorch),
    ("global randomness", ReadsTheGlobalStateOnly),
    ("inputs not written to", WritesToItsInput),
    ("inputs not written to", WritesToLabels),
    ("order of rows", TakesTheFirst),
    ("order of rows", ScoresByPlace),
    ("rowwise", ClaimsRowwise),
    ("rowwise", ClaimsRowwiseWithoutScores),
    ("shards", ClaimsShards),
    ("shards", DrawsForItsOwnRowsOnly),
    ("declaration", ClaimsShardsSometimes),
    ("finite scores", NaiveEntropy),
    ("finite scores", ShowsInfinity),
    ("finite scores", NotesNaN),
    ("multi-label", ClaimsMultilabel),
    ("memory", AllPairs),
    ("memory", AllPairsInNumPy),
    ("memory", WholeGradients),
    ("real loop", SwallowsItsErrors),
    ("value", NoDataclass),
    ("value", NotFrozen),
    ("value", ListOption),
    ("value", EqualByIdentity),
    ("value", HiddenField),
    ("value", SecretOption),
    ("value", Remembers),
]


def failures(report: Report) -> set[str]:
    return {result.name for result in report.failed}


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_each_check_fails_on_a_strategy_wrong_in_its_way(check: str, wrong: type) -> None:
    report = strategy_report(wrong(), rows=FEW)
    assert check in failures(report), str(report)
    assert report[check].message


def test_every_check_has_a_strategy_that_it_fails_on() -> None:
    assert {check for check, _ in WRONG} == STRATEGY_CHECKS.keys()


@pytest.mark.parametrize(
    "wrong",
    [
        AllPairs,
        WholeGradients,
        NeedsThreeClasses,
        KnowsAHundredClasses,
        NeedsTwoLabeled,
        NeedsLabels,
        Remembers,
        SwallowsItsErrors,
        ReadsMoreWithLabels,
        ReadsTheLabeledToo,
        ReadsMoreOfTwoClasses,
    ],
)
def test_a_single_fault_is_found_by_one_check_alone(wrong: type) -> None:
    [(check, _)] = [entry for entry in WRONG if entry[1] is wrong]
    others = {"inputs not written to", "multi-label", "shards"} if wrong is Remembers else set()
    assert failures(strategy_report(wrong(), rows=FEW, cuda=False)) - others == {check}


def test_an_undeclared_read_is_reported_once_with_what_to_write() -> None:
    expected = {
        ReadsMoreWithLabels: """'features' was read but not declared: write needs = {"probs", "features"} in """,
        ReadsTheLabeledToo: """'features' was read but not declared: write labeled_needs = {"features"} in """,
        ReadsMoreOfTwoClasses: """'logits' was read but not declared: write needs = {"probs", "logits"} in """,
    }
    for wrong, message in expected.items():
        report = strategy_report(wrong(), rows=FEW)
        assert [result.message for result in report.failed] == [message + wrong.__name__]
        assert str(report).count("was read") == 1


@pytest.mark.gpu
def test_a_strategy_that_draws_on_the_device_fails_on_cuda_alone() -> None:
    failed = failures(strategy_report(DrawsOnTheDevice(), rows=FEW))
    assert failed
    assert all(name.endswith("(cuda)") for name in failed)


@pytest.mark.parametrize("name", sorted(set(plugins.found(plugins.STRATEGIES)) - {"Phases"}))
def test_every_installed_strategy_passes(name: str) -> None:
    check_strategy(plugins.load(plugins.STRATEGIES, name), rows=SOME)


@pytest.mark.parametrize("strategy", [Typical(), Typical(2.0), Phases(Random(), Margin(), until=100)], ids=repr)
def test_a_right_strategy_passes(strategy: Strategy) -> None:
    assert check_strategy(strategy, rows=FEW).ok


def test_a_schedule_is_checked_as_every_strategy_it_hands_over_to() -> None:
    report = strategy_report(Phases(Random(), NeedsThreeClasses(), until=500), rows=FEW, cuda=False)
    assert report["resolve"].message == "acts as Random, then NeedsThreeClasses"
    assert failures(report) == {"two classes"}
    assert report["two classes"].message.startswith("as NeedsThreeClasses: ")


def test_a_name_of_the_authors_own_is_made_by_the_author() -> None:
    extra = {"astonishment": lambda rows, generator: torch.rand(rows, generator=generator)}
    assert check_strategy(Surprising(), extra=extra, rows=FEW).ok


def test_a_failed_check_raises_an_error_that_holds_the_report() -> None:
    with pytest.raises(ConformanceError, match="order of rows: the same rows in another order") as caught:
        check_strategy(TakesTheFirst(), rows=FEW, cuda=False)
    assert failures(caught.value.report) == {"order of rows", "real loop"}


def test_a_class_that_needs_options_is_answered_with_what_to_do() -> None:
    report = strategy_report(Phases)
    assert "pass an instance" in report["declaration"].message


def test_what_is_no_strategy_at_all_is_said_plainly() -> None:
    report = strategy_report(Outputs)  # type: ignore[arg-type]
    assert "is not a dal.strategy.Strategy" in report["declaration"].message


def test_the_report_shows_a_line_for_each_check_and_a_summary() -> None:
    report = strategy_report(Random(), rows=FEW, cuda=False)
    lines = str(report).splitlines()
    assert len(lines) == len(STRATEGY_CHECKS) + 2
    assert lines[-1] == report.summary == "Random(): 22 passed, 3 skipped"


def test_the_kit_leaves_the_global_generators_as_they_were() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    strategy_report(ReadsTheGlobalStateOnly(), rows=FEW)
    assert torch.equal(before, torch.get_rng_state())
