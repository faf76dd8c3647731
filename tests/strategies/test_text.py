import torch

from dal.outputs import Outputs
from dal.strategies.text import ALPS
from dal.strategy import Query, choose
from dal.testing import check_strategy


def asked(surprisal: torch.Tensor, n: int, seed: int = 0) -> Query:
    return Query(Outputs({"surprisal": surprisal}), n, torch.Generator().manual_seed(seed))


def test_takes_one_row_of_each_place_that_surprises_the_largest_group_first():
    places = torch.tensor([0] * 5 + [3] * 9 + [7] * 2)
    nats = 1 + torch.rand(16, 1, generator=torch.Generator().manual_seed(0))
    surprisal = torch.nn.functional.one_hot(places, 10) * nats
    selection = choose(ALPS(), asked(surprisal, 3))
    assert places[selection.positions].tolist() == [3, 0, 7]
    assert selection.scores.tolist() == [9.0, 5.0, 2.0]


def test_how_surprised_the_model_is_does_not_count():
    surprisal = torch.rand(40, 12, generator=torch.Generator().manual_seed(0))
    louder = surprisal * torch.linspace(0.5, 20, 40)[:, None]
    assert torch.equal(choose(ALPS(), asked(louder, 6)).positions, choose(ALPS(), asked(surprisal, 6)).positions)


def test_places_that_no_text_reaches_change_nothing():
    surprisal = torch.rand(40, 12, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(surprisal, (0, 100))
    assert torch.equal(choose(ALPS(), asked(padded, 6)).positions, choose(ALPS(), asked(surprisal, 6)).positions)


def test_texts_without_any_surprise_are_no_trouble():
    assert len(choose(ALPS(), asked(torch.zeros(9, 5), 4)).positions.unique()) == 4


def test_reads_nothing_but_surprisal():
    assert ALPS().needs == {"surprisal"}
    assert not ALPS().labeled_needs


def test_keeps_the_contract():
    check_strategy(ALPS())
