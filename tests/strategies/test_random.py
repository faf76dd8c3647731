import torch

from dal.outputs import Outputs
from dal.strategies import Random
from dal.strategy import Query, choose
from strategies.queries import of


def test_every_row_is_equally_likely_at_every_place():
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(3, 6)
    for _ in range(3000):
        picks = choose(Random(), Query(Outputs(length=6), 3, generator)).positions
        counts[torch.arange(3), picks] += 1
    assert ((counts - 500) ** 2 / 500).sum(1).max() < 22  # chi-square with 5 degrees of freedom, p = 0.0005


def test_reads_nothing_and_scores_nothing():
    assert not Random().needs
    selection = choose(Random(), Query(Outputs(length=9), 4, torch.Generator().manual_seed(0)))
    assert selection.scores is None


def test_another_seed_gives_another_choice():
    pool = {"logits": torch.zeros(1000, 2)}
    first, second = (choose(Random(), of(pool, 10, seed=seed)).positions for seed in (0, 1))
    assert not torch.equal(first, second)
