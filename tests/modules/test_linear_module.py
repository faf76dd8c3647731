import pytest
import torch
from torch.nn import functional as F

from dal.errors import LearnerError
from dal.modules.linear import LinearClassifier


def inputs(n=6, d=8):
    return {"inputs": torch.randn(n, d, generator=torch.Generator().manual_seed(0))}


@torch.no_grad()
def test_features_are_the_inputs_and_head_gives_the_logits():
    module, batch = LinearClassifier(8, ["a", "b", "c"]), inputs()
    out = module.compute(batch, {"logits", "features"})
    assert torch.equal(out["features"], batch["inputs"])
    assert torch.equal(module.head(out["features"]), out["logits"])
    assert torch.equal(out["logits"], module(batch))


@pytest.mark.parametrize("multilabel", [False, True])
def test_factored_gradient_equals_autograds(multilabel):
    module, batch = LinearClassifier(8, 3, multilabel=multilabel), inputs()
    points = module.gradient_embeddings(batch).materialise()
    for row in range(6):
        logits = module({"inputs": batch["inputs"][row : row + 1]})
        if multilabel:
            loss = F.binary_cross_entropy_with_logits(logits, (logits > 0).float(), reduction="sum")
        else:
            loss = F.cross_entropy(logits, logits.argmax(-1))
        (gradient,) = torch.autograd.grad(loss, module.linear.weight)
        torch.testing.assert_close(points[row], gradient.flatten())


@pytest.mark.parametrize("mode", ["head", "full"])
@torch.no_grad()
def test_joint_samples_share_one_mask_and_others_do_not(mode):
    module = LinearClassifier(32, 3, dropout=0.5, mc_mode=mode)
    batch = {"inputs": torch.ones(2, 32)}
    joint = module.mc_logits(batch, 4, torch.Generator().manual_seed(1), joint=True)
    free = module.mc_logits(batch, 4, torch.Generator().manual_seed(1))
    assert torch.equal(joint[0], joint[1])
    assert not torch.equal(free[0], free[1])
    assert len(joint[0].unique(dim=0)) == 4


def test_classifier_without_dropout_has_no_samples():
    with pytest.raises(LearnerError, match="no dropout above 0"):
        LinearClassifier(8, 3).mc_logits(inputs(), 2, torch.Generator())


@torch.no_grad()
def test_saved_classifier_is_read_back(tmp_path):
    module = LinearClassifier(8, ["a", "b", "c"], multilabel=True, dropout=0.2, seed=4)
    module.save(tmp_path / "model")
    read = LinearClassifier.load(tmp_path / "model")
    assert torch.equal(read(inputs()), module.eval()(inputs()))
    assert (read.classes, read.multilabel, read.dropout.p) == (["a", "b", "c"], True, 0.2)


def test_folder_without_a_classifier_is_refused(tmp_path):
    with pytest.raises(LearnerError, match="does not hold a linear classifier"):
        LinearClassifier.load(tmp_path)
    module = LinearClassifier(8, 3)
    module.save(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(LearnerError, match="does not hold a linear classifier"):
        LinearClassifier.load(tmp_path / "model")


def test_initial_weights_depend_on_the_seed_alone():
    before = torch.get_rng_state()
    first, second, other = (LinearClassifier(8, 3, seed=seed).linear.weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
