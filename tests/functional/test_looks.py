"""Choosing many points one after the other, an accelerator's host must not be asked at every one of them."""

import pytest
import torch

from dal.functional import blocks, coverage, farthest, seeding, window
from dal.functional.clustering import kmeans
from dal.functional.contrast import falcun
from dal.functional.coverage import max_coverage
from dal.functional.fisher import bait, fisher_factors
from dal.functional.herding import max_herding
from dal.functional.joint import batch_bald
from dal.functional.k_center import farthest_others, k_center_greedy
from dal.functional.points import OuterPoints
from dal.functional.ranking import top
from dal.functional.seeding import kmeans_plusplus
from functional.looks import looks
from functional.made import normal, seeded


@pytest.fixture(autouse=True)
def sizes_of_an_accelerator(monkeypatch):
    monkeypatch.setattr(blocks, "ELEMENTS", blocks.ACCELERATOR_ELEMENTS)
    monkeypatch.setattr(coverage, "TABLE", blocks.ACCELERATOR_ELEMENTS)
    monkeypatch.setattr(window, "BLOCK", window.ACCELERATOR_BLOCK)
    monkeypatch.setattr(seeding, "AHEAD", seeding.ACCELERATOR_AHEAD)
    for name in ("BATCH", "BLOCK", "WINDOW"):
        monkeypatch.setattr(farthest, name, getattr(farthest, f"ACCELERATOR_{name}"))


def clustered(N, D=8):
    return (4 * normal(20, D))[torch.randint(20, (N,), generator=seeded())] + normal(N, D, 1)


X = clustered(2000).float()
PROBS = (2 * normal(2000, 4)).softmax(1).float()
FACTORS = fisher_factors(PROBS[:200], X[:200, :4], generator=seeded(), rank=2)
SEVERAL_AT_ONCE = {
    "k_center_greedy": lambda n: k_center_greedy(X, n),
    "k_center_greedy with centers": lambda n: k_center_greedy(X, n, centers=X[:100]),
    "k_center_greedy of factors": lambda n: k_center_greedy(OuterPoints(PROBS, X), n),
    "farthest_others": lambda n: farthest_others(X, torch.arange(30), n),
    "kmeans_plusplus": lambda n: kmeans_plusplus(X, n, generator=seeded()),
    "kmeans, its seeds": lambda n: kmeans(X, n, generator=seeded(), iterations=1),
    "max_coverage": lambda n: max_coverage(X, n, 1.5, generator=seeded()),
    "max_coverage with centers": lambda n: max_coverage(X, n, 1.5, targets=X[:900], centers=X[:9]),
    "max_herding": lambda n: max_herding(X[:1000], n, sigma=2.0),
    "max_herding with centers": lambda n: max_herding(X, n, targets=X[:500], centers=X[:100], sigma=2.0),
    "bait": lambda n: bait(FACTORS, n // 2, oversampling=1.2),
    "falcun": lambda n: falcun(PROBS, n, generator=seeded()),
}


@pytest.mark.parametrize("name", SEVERAL_AT_ONCE)
def test_eight_more_picks_take_no_more_than_one_more_look(name):
    choose, n = SEVERAL_AT_ONCE[name], 100
    assert looks(lambda: choose(3 * n)) - looks(lambda: choose(n)) <= 2 * n / 8


@pytest.mark.parametrize("N", [1000, 2000])
@pytest.mark.parametrize("name", ["max_coverage", "max_herding"])
def test_a_window_that_is_left_often_takes_fewer_looks_than_picks(monkeypatch, name, N):
    monkeypatch.setattr(coverage, "WINDOW", 100)
    monkeypatch.setattr(blocks, "ELEMENTS", 100 * N)
    choose = {"max_coverage": lambda x, n: max_coverage(x, n, 1.5), "max_herding": max_herding}[name]
    assert looks(lambda: choose(X[:N], 96)) < 96


def test_batch_bald_looks_once_a_pick():
    log_probs = (2 * normal(100, 10, dtype=torch.float32)).view(100, 5, 2).log_softmax(-1)

    def choose(n):
        batch_bald(log_probs, n, generator=seeded(), configurations=64, exhaustive=True)

    assert looks(lambda: choose(12)) - looks(lambda: choose(4)) == 8


@pytest.mark.parametrize("generator", [None, seeded()])
@pytest.mark.parametrize(("N", "most"), [(100, 1), (20_000, 2)])
def test_the_highest_scores_take_two_looks_at_most(N, most, generator):
    scores = torch.randint(1000, (N,), generator=seeded(1)).float()
    assert looks(lambda: top(scores, 20, generator=generator)) == most


@pytest.mark.parametrize("n", [50, 200])
def test_k_center_finds_its_windows_in_few_looks(n):
    x = clustered(20_000, 16).float()
    assert looks(lambda: k_center_greedy(x, n, centers=x[:100])) <= 75


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x[0].tolist(),
        lambda x: x[x > 0],
        lambda x: x[0, (x[0] > 0).nonzero().flatten()[:0]],
        lambda x: x[x[:, 0].argmax()],
        lambda x: x.unique(),
        lambda x: torch.linalg.eigh(x),
        lambda x: torch.linalg.cholesky(x),
    ],
)
def test_a_look_is_counted(ask):
    assert looks(lambda: ask(2 * torch.eye(3))) == 1


def test_what_asks_nothing_is_not_counted():
    def choose(x):
        at = x.sum(1).argmax().view(1)
        x[at] = torch.where(x > 0, x, 1.0)[at]
        return torch.linalg.cholesky_ex(x), x.index_select(0, at).sort(), x.masked_fill(x > 0, 2.0)

    assert looks(lambda: choose(2 * torch.eye(3))) == 0
