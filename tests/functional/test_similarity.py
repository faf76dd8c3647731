import numpy as np
import torch
from reference import hierarchy as reference

from dal.functional import blocks
from dal.functional.similarity import mean_similarity
from functional.made import normal


def test_is_the_mean_over_all_pairs():
    x = normal(30, 5)
    np.testing.assert_allclose(mean_similarity(x), reference.mean_similarity(x.numpy()), atol=1e-12)


def test_a_row_of_zeros_is_like_nothing():
    x = torch.cat([torch.zeros(2, 5, dtype=torch.float64), 3 + normal(10, 5)])
    np.testing.assert_allclose(mean_similarity(x), reference.mean_similarity(x.numpy()), atol=1e-12)
    assert not mean_similarity(x)[:2].any()


def test_length_does_not_count():
    x = normal(20, 4)
    torch.testing.assert_close(mean_similarity(x * torch.arange(1, 21)[:, None]), mean_similarity(x))


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    x = normal(50, 6)
    whole = mean_similarity(x)
    monkeypatch.setattr(blocks, "ELEMENTS", 40)
    torch.testing.assert_close(mean_similarity(x), whole)
