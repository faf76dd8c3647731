"""Every check of candidate generators passes a right one and fails on one that is wrong in that way."""

import os
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dal.strategies.candidates import SEALS, AnchorAL, CandidateQuery, Candidates, RandomSubset
from dal.strategies.proxy_candidates import LinearProxy, RefreshedProxy
from dal.testing import CANDIDATE_CHECKS, ConformanceError, Report, candidate_report, check_candidate_generator


@dataclass(frozen=True)
class FirstRows(Candidates):
    """A right generator, if not a good one: the rows that come first."""

    size: int = 20

    def choose(self, query: CandidateQuery) -> Tensor:
        return query.unlabeled[: max(self.size, query.n)]


@dataclass(frozen=True)
class Longest(FirstRows):
    needs = frozenset({"embeddings"})

    def choose(self, query: CandidateQuery) -> Tensor:
        long = query.read(query.unlabeled).embeddings.norm(dim=1)
        return query.unlabeled[long.topk(min(self.size, len(long))).indices]


@dataclass(frozen=True)
class NeedsAModel(FirstRows):
    needs = frozenset({"probs"})


@dataclass(frozen=True)
class AnnotatedNeeds(FirstRows):
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NeedsLabels(FirstRows):
    def choose(self, query: CandidateQuery) -> Tensor:
        return super().choose(query)[int(query.labeled[0]) :]


@dataclass(frozen=True)
class Places(FirstRows):
    def choose(self, query: CandidateQuery) -> Tensor:
        return torch.arange(query.n)


@dataclass(frozen=True)
class Twice(FirstRows):
    def choose(self, query: CandidateQuery) -> Tensor:
        return query.unlabeled[:1].repeat(2)


@dataclass(frozen=True)
class ReadsMore(Longest):
    needs = frozenset()

    def choose(self, query: CandidateQuery) -> Tensor:
        return super().choose(query)


@dataclass(frozen=True)
class AsksTheSystem(FirstRows):
    def choose(self, query: CandidateQuery) -> Tensor:
        return query.unlabeled[int.from_bytes(os.urandom(2)) % 20 :]


@dataclass(frozen=True)
class DrawsGlobally(FirstRows):
    def choose(self, query: CandidateQuery) -> Tensor:
        return query.unlabeled[torch.randperm(len(query.unlabeled))[: self.size]]


@dataclass(frozen=True)
class MemoryDecides(FirstRows):
    def choose(self, query: CandidateQuery) -> Tensor:
        query.memory["calls"] = query.memory.get("calls", 0) + 1
        return query.unlabeled[query.memory["calls"] :]


@dataclass(frozen=True)
class CannotRepeat(FirstRows):
    """Fails where a session is opened again: with an empty memory and more than twelve labels."""

    def choose(self, query: CandidateQuery) -> Tensor:
        if len(query.labeled) > 12 and not query.memory:
            raise KeyError("first call")
        query.memory["first"] = True
        return super().choose(query)


class NoDataclass(FirstRows):
    def __init__(self, limit: int = 3) -> None:
        super().__init__()


@dataclass(frozen=True)
class KeepsSamples(FirstRows):
    keeps = frozenset({"mc_logits"})


@dataclass(frozen=True)
class NeverPasses(FirstRows):
    keeps = frozenset({"features"})
    every = 0


WRONG: list[tuple[str, type[Candidates]]] = [
    ("declaration", NeedsAModel),
    ("declaration", AnnotatedNeeds),
    ("declaration", KeepsSamples),
    ("declaration", NeverPasses),
    ("every kind of pool", NeedsLabels),
    ("every kind of pool", Places),
    ("every kind of pool", Twice),
    ("every kind of pool", ReadsMore),
    ("same seed, same rows", AsksTheSystem),
    ("same seed, same rows", DrawsGlobally),
    ("same seed, same rows", MemoryDecides),
    ("real loop", CannotRepeat),
    ("value", NoDataclass),
]


def failures(report: Report) -> set[str]:
    return {result.name for result in report.failed}


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_each_check_fails_on_a_generator_wrong_in_its_way(check: str, wrong: type[Candidates]) -> None:
    report = candidate_report(wrong())
    assert check in failures(report), str(report)
    assert report[check].message


def test_every_check_has_a_generator_that_it_fails_on() -> None:
    assert {check for check, _ in WRONG} == CANDIDATE_CHECKS.keys()


@pytest.mark.parametrize(
    "generator",
    [
        FirstRows(),
        Longest(),
        RandomSubset(),
        RandomSubset(10),
        SEALS(3),
        AnchorAL(size=20),
        LinearProxy(20),
        RefreshedProxy(20),
        RandomSubset,
    ],
    ids=repr,
)
def test_a_right_generator_passes(generator: Any) -> None:
    assert check_candidate_generator(generator).ok


def test_failed_check_raises_with_the_report() -> None:
    with pytest.raises(
        ConformanceError, match="needs has probs: only embeddings, surprisal need no training"
    ) as caught:
        check_candidate_generator(NeedsAModel())
    assert caught.value.report["real loop"].verdict == "skipped"
