import torch

from dal.outputs import Outputs
from dal.session.near_duplicates import near_duplicate_texts, near_duplicate_vectors, near_duplicates


def test_texts_with_the_same_words_are_near_duplicates() -> None:
    texts = ["The parcel is late.", "late is the PARCEL", "my login fails", "a lovely menu", "the design is slow"]
    assert near_duplicate_texts(texts) == 0.4


def test_different_texts_and_single_ones_are_not() -> None:
    assert near_duplicate_texts(["one thing", "another matter"]) == 0.0
    assert near_duplicate_texts(["alone"]) == 0.0
    assert near_duplicate_texts(["", "!!", ""]) == 0.0


def test_vectors_are_judged_by_the_usual_distance() -> None:
    usual = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    batch = torch.cat([usual[:3], usual[:2] + 1e-3])
    assert near_duplicate_vectors(batch, usual) == 0.8
    assert near_duplicate_vectors(1000 * batch, 1000 * usual) == 0.8
    assert near_duplicate_vectors(usual[:3], usual) == 0.0


def test_embeddings_decide_where_they_were_read() -> None:
    texts = ["a b c", "d e f", "g h i", "j k l"]
    embeddings = torch.tensor([[0.0, 0], [0.001, 0], [5, 5], [-5, 3]])
    generator = torch.Generator().manual_seed(0)
    positions = torch.tensor([0, 1, 2])
    outputs = Outputs({"embeddings": embeddings})
    assert near_duplicates(texts, torch.arange(4), positions, outputs, generator) == 2 / 3
    assert near_duplicates(texts, torch.arange(4), positions, Outputs(length=4), generator) == 0.0


def test_inputs_of_no_common_shape_are_not_compared() -> None:
    inputs = [torch.zeros(2), torch.zeros(3), torch.zeros(4)]
    rows = torch.arange(3)
    assert near_duplicates(inputs, rows, rows, Outputs(length=3), torch.Generator()) == 0.0
