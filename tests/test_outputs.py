import copy
import math

import pytest
import torch
from torch.nn import functional as F

from dal.errors import NeedError
from dal.functional import OuterPoints, blocks, mutual_information
from dal.functional.gradients import gradient_factors
from dal.outputs import REDUCTIONS, Outputs, closure, log_probs, reduce_samples, sources

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
FEATURES = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
MC_LOGITS = torch.randn(6, 7, 4, generator=torch.Generator().manual_seed(2))


def outputs(**kwargs) -> Outputs:
    return Outputs({"logits": LOGITS, "features": FEATURES, "mc_logits": MC_LOGITS}, **kwargs)


def test_probabilities_follow_from_logits():
    torch.testing.assert_close(outputs().probs, LOGITS.softmax(-1))
    torch.testing.assert_close(outputs().log_probs, LOGITS.log_softmax(-1))
    torch.testing.assert_close(outputs(multilabel=True).probs, LOGITS.sigmoid())
    torch.testing.assert_close(outputs(multilabel=True).log_probs, LOGITS.sigmoid().log())


def test_reductions_over_the_samples_follow_from_them():
    torch.testing.assert_close(outputs().mutual_information, mutual_information(MC_LOGITS.log_softmax(-1)))
    multilabel = outputs(multilabel=True)
    expected = mutual_information(F.logsigmoid(MC_LOGITS), multilabel=True)
    torch.testing.assert_close(multilabel.mutual_information, expected)


def test_vote_counts_count_every_sample_once():
    votes = outputs().vote_counts
    assert votes.sum(1).tolist() == [7.0] * 6
    assert torch.equal(votes[0], torch.bincount(MC_LOGITS[0].argmax(-1), minlength=4).float())
    assert torch.equal(outputs(multilabel=True).vote_counts, (MC_LOGITS.sigmoid() > 0.5).sum(1).float())


def test_vote_shares_are_the_votes_over_the_number_of_samples():
    for kind in (outputs(), outputs(multilabel=True)):
        torch.testing.assert_close(kind.vote_shares, kind.vote_counts / 7)


def test_the_consensus_is_the_mean_probability_and_mean_std_its_spread():
    torch.testing.assert_close(outputs().consensus, MC_LOGITS.softmax(-1).mean(1))
    torch.testing.assert_close(outputs(multilabel=True).consensus, MC_LOGITS.sigmoid().mean(1))
    torch.testing.assert_close(outputs().mean_std, MC_LOGITS.softmax(-1).std(1, correction=0).mean(1))
    torch.testing.assert_close(outputs(multilabel=True).mean_std, MC_LOGITS.sigmoid().std(1, correction=0).mean(1))


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_folded_batch_by_batch_is_the_same_as_at_once(name, multilabel, monkeypatch):
    batches = torch.cat([reduce_samples(name, batch, multilabel) for batch in MC_LOGITS.split(2)])
    whole = outputs(multilabel=multilabel)[name]
    torch.testing.assert_close(batches, whole)
    monkeypatch.setattr(blocks, "ELEMENTS", 2 * 7 * 4)
    torch.testing.assert_close(reduce_samples(name, MC_LOGITS, multilabel), whole)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_samples_are_not_written_to_by_a_fold(name):
    before = MC_LOGITS.clone()
    reduce_samples(name, MC_LOGITS)
    assert torch.equal(MC_LOGITS, before)


@pytest.mark.parametrize("C", [1, 2, 5, 150])
def test_probabilities_are_those_of_a_softmax_for_extreme_logits_too(C):
    logits = 50 * torch.randn(400, C, generator=torch.Generator().manual_seed(C))
    logits[0] = 1e4
    torch.testing.assert_close(Outputs({"logits": logits}).probs, logits.softmax(-1))
    torch.testing.assert_close(Outputs({"logits": logits.double()}).probs, logits.double().softmax(-1))


def test_probabilities_of_no_rows_are_no_rows():
    assert Outputs({"logits": torch.zeros(0, 3)}).probs.shape == (0, 3)


@pytest.mark.parametrize("multilabel", [False, True])
def test_gradients_are_those_of_autograd(multilabel):
    grads = outputs(multilabel=multilabel).grads
    for i, (z, h) in enumerate(zip(LOGITS, FEATURES, strict=True)):
        weight = (z[:, None] * h / h.dot(h)).requires_grad_()  # a layer whose output at h is z
        if multilabel:
            loss = F.binary_cross_entropy_with_logits(weight @ h, (z > 0).float(), reduction="sum")
        else:
            loss = F.cross_entropy((weight @ h)[None], z.argmax()[None])
        expected = torch.autograd.grad(loss, weight)[0].flatten()
        torch.testing.assert_close(grads[i : i + 1].materialise()[0], expected, rtol=1e-4, atol=1e-6)


def test_hand_computed_gradient_of_two_classes():
    # p = (3/4, 1/4), predicted 0: p - y = (-1/4, 1/4), times h = (2, 4)
    grads = gradient_factors(torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[2.0, 4.0]]))
    torch.testing.assert_close(grads.materialise(), torch.tensor([[-0.5, -1.0, 0.5, 1.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("multilabel", [False, True])
def test_impossible_outcomes_have_a_finite_log_probability(dtype, multilabel):
    logs = log_probs(torch.tensor([[0.0, -math.inf], [1e6, -1e6]], dtype=dtype), multilabel)
    assert torch.isfinite(logs).all()
    assert logs.min() == pytest.approx(math.log(torch.finfo(dtype).tiny))


def test_a_name_that_was_not_declared_is_refused_with_those_that_were():
    with pytest.raises(NeedError) as caught:
        _ = outputs(declared={"probs", "logits"}).features
    remedy = 'write needs = {"logits", "probs", "features"}'
    assert str(caught.value) == f"'features' was read but not declared: {remedy}"


def test_a_misspelled_name_is_answered_with_the_declared_one():
    with pytest.raises(NeedError) as caught:
        _ = outputs(declared={"probs", "logits"}).prob
    assert str(caught.value) == "'prob' was read but not declared; did you mean 'probs'?"


def test_rows_that_are_taken_remember_who_declared_their_names():
    with pytest.raises(NeedError, match=r'write labeled_needs = \{"probs", "logits"\} in Mine'):
        _ = outputs().declare({"probs"}, "Mine.labeled_needs").take([0]).to("cpu").logits


def test_a_name_that_was_not_computed_is_refused_with_what_is_missing():
    with pytest.raises(NeedError, match="'grads' was not computed: there is no features among logits"):
        _ = Outputs({"logits": LOGITS}).grads
    with pytest.raises(NeedError, match="there is no surprisal among logits"):
        _ = Outputs({"logits": LOGITS})["surprisal"]


def test_a_name_of_the_learners_own_is_read_like_any_other():
    assert Outputs({"surprisal": torch.arange(3.0)}).surprisal.tolist() == [0, 1, 2]


def test_names_are_all_that_can_be_read():
    assert outputs(declared={"probs", "embeddings"}).names == {"probs"}
    assert {"probs", "log_probs", "grads", "mutual_information", "mc_log_probs"} <= outputs().names


def test_declaring_narrows_and_keeps_the_rows():
    narrowed = outputs().declare({"probs"})
    assert len(narrowed) == 6
    torch.testing.assert_close(narrowed.probs, LOGITS.softmax(-1))
    with pytest.raises(NeedError):
        _ = narrowed.logits


@pytest.mark.parametrize("index", [[4, 0, 4], torch.tensor([5]), slice(1, 4), torch.zeros(0, dtype=torch.int64)])
def test_taking_rows_keeps_their_order_and_all_names(index):
    taken = outputs().take(index)
    assert torch.equal(taken.logits, LOGITS[index])
    assert len(taken) == len(LOGITS[index])
    expected = gradient_factors(LOGITS[index], FEATURES[index])
    torch.testing.assert_close(taken.grads.materialise(), expected.materialise())


def test_taking_rows_of_factors_given_as_such():
    points = OuterPoints(LOGITS, FEATURES)
    assert torch.equal(Outputs({"grads": points}).take([2]).grads.b, FEATURES[2:3])


def test_rows_without_any_tensor_have_a_length():
    empty = Outputs(length=5)
    assert len(empty) == 5
    assert len(empty.take([0, 3])) == 2
    assert empty.device == torch.device("cpu")


def test_tensors_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"expected 6 rows, got \{'features': 5\}"):
        Outputs({"logits": LOGITS, "features": FEATURES[:5]})


def test_reduced_precision_is_gathered_as_float32():
    held = Outputs({"logits": LOGITS.bfloat16(), "grads": OuterPoints(LOGITS.half(), FEATURES.half())})
    assert held.logits.dtype == torch.float32
    assert held.grads.a.dtype == held.grads.b.dtype == torch.float32


def test_counts_and_double_precision_stay_what_they_are():
    held = Outputs({"length": torch.arange(3), "logits": LOGITS[:3].double()})
    assert held.length.dtype == torch.int64
    assert held.probs.dtype == torch.float64


def test_a_copy_is_the_same():
    assert torch.equal(copy.deepcopy(outputs()).logits, LOGITS)


def test_moving_to_a_device_keeps_rows_and_declaration():
    moved = outputs(declared={"probs"}).to("cpu")
    assert len(moved) == 6
    assert moved.names == {"probs"}


def test_closure_is_everything_that_follows():
    assert closure({"logits"}) == {"logits", "probs", "log_probs"}
    assert "grads" in closure({"logits", "features"})
    assert {"mutual_information", "vote_counts", "consensus", "mean_std", "mc_log_probs"} <= closure({"mc_logits"})


@pytest.mark.parametrize(
    ("wanted", "gathered"),
    [
        ({"probs"}, {"logits"}),
        ({"grads", "probs"}, {"logits", "features"}),
        ({"mutual_information"}, {"mutual_information"}),  # folded in the pass: no samples are held
        ({"consensus", "mean_std", "vote_shares"}, {"consensus", "mean_std", "vote_shares"}),
        ({"mutual_information", "mc_log_probs"}, {"mc_logits"}),
        ({"surprisal"}, {"surprisal"}),
        (set(), set()),
    ],
)
def test_sources_are_the_least_that_must_be_gathered(wanted, gathered):
    assert sources(wanted) == gathered
    assert wanted <= closure(sources(wanted))
