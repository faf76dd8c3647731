import torch

from dal.functional.consistency import inconsistency


def test_is_the_share_of_votes_for_other_classes_than_the_predicted():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    assert inconsistency(logits, shares).tolist() == [0.5, 1.0]


def test_multilabel_is_that_of_the_class_that_is_contradicted_most():
    logits = torch.tensor([[2.0, -1.0, -3.0], [1.0, 1.0, 1.0]])
    shares = torch.tensor([[0.75, 0.5, 0.0], [1.0, 1.0, 1.0]])
    assert inconsistency(logits, shares, multilabel=True).tolist() == [0.5, 0.0]


def test_multilabel_is_no_more_than_the_share_of_samples_whose_set_differs():
    generator = torch.Generator().manual_seed(0)
    logits, samples = torch.randn(50, 3, generator=generator), torch.randn(50, 8, 3, generator=generator)
    differs = ((samples > 0) != (logits > 0)[:, None]).any(-1).float().mean(1)
    assert (inconsistency(logits, (samples > 0).float().mean(1), multilabel=True) <= differs + 1e-6).all()
