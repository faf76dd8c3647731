import pytest
import torch
from architectures import ALL, ANYWHERE, IN_HEAD, build, rows
from torch import nn
from torch.nn import functional as F

from dal.errors import LearnerError
from dal.modules.active_module import ActiveModule
from dal.modules.transformer import TransformerClassifier

LENGTHS = [9, 5, 7, 4]
DROPOUT = {
    "modernbert": {"classifier_dropout": 0.2, "mlp_dropout": 0.2, "embedding_dropout": 0.2},
    "bart": {"classifier_dropout": 0.2},
    "t5": {"classifier_dropout": 0.2},
}


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def module_of(name, mode, **options):
    return TransformerClassifier(build(name, **DROPOUT.get(name, {})), mc_mode=mode, **options)


def sampled(name, mode, lengths=LENGTHS, samples=4, **options):
    with torch.no_grad():
        return module_of(name, mode).mc_logits(rows(lengths), samples, seeded(), **options)


HEAD = sorted(IN_HEAD | DROPOUT.keys())
FULL = sorted(ANYWHERE | DROPOUT.keys())
CASES = [(name, "head") for name in HEAD] + [(name, "full") for name in FULL]


@pytest.mark.parametrize(("name", "mode"), CASES)
@torch.no_grad()
def test_same_generator_gives_the_same_samples_which_differ_among_themselves_and_between_rows(name, mode):
    module = module_of(name, mode)
    batch = {key: value.repeat(2, 1) for key, value in rows([6]).items()}
    first, second = (module.mc_logits(batch, 4, seeded()) for _ in range(2))
    assert first.shape == (2, 4, 3)
    assert torch.equal(first, second)
    assert len(first[0].unique(dim=0)) > 1
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, module.mc_logits(batch, 4, seeded(4)))


@pytest.mark.parametrize(("name", "mode"), CASES)
@torch.no_grad()
def test_joint_sample_is_one_function_whatever_the_batch_its_order_and_its_padding(name, mode):
    module = module_of(name, mode)
    together = module.mc_logits(rows(LENGTHS), 3, seeded(), joint=True)
    used = seeded()
    torch.rand(7, generator=used)  # only the initial seed counts: other batches may have drawn from it
    backwards = module.mc_logits(rows(LENGTHS[::-1], width=12), 3, used, joint=True).flip(0)
    alone = torch.cat([module.mc_logits(rows([length]), 3, seeded(), joint=True) for length in LENGTHS])
    torch.testing.assert_close(together, backwards, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert len(together[0].unique(dim=0)) == 3
    assert not torch.equal(together, module.mc_logits(rows(LENGTHS), 3, seeded(4), joint=True))


@pytest.mark.parametrize(("name", "mode"), CASES)
@torch.no_grad()
def test_first_samples_are_the_same_however_many_are_drawn_jointly(name, mode):
    few, many = (sampled(name, mode, samples=samples, joint=True) for samples in (2, 4))
    torch.testing.assert_close(few, many[:, :2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("mode", ["head", "full"])
@torch.no_grad()
def test_mean_of_many_samples_is_near_the_logits_of_evaluation(mode, joint):
    module, batch = module_of("bert", mode), rows(LENGTHS)
    samples = module.mc_logits(batch, 150, seeded(), joint=joint)
    assert (samples.mean(1) - module(batch)).abs().max() < 0.5 * samples.std(1).mean()


@pytest.mark.parametrize("joint", [False, True])
@torch.no_grad()
def test_samples_of_the_head_alone_vary_less_than_those_of_the_whole_network(joint):
    head, full = (sampled("roberta", mode, samples=60, joint=joint).std(1).mean() for mode in ("head", "full"))
    assert 0 < head < full


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("name", sorted(HEAD))
@torch.no_grad()
def test_head_samples_are_those_of_a_trunk_without_dropout(name, joint):
    """Against the same network sampled whole, with every dropout of its trunk set to zero by hand."""
    head = module_of(name, "head")
    assert head.expands
    batch = rows(LENGTHS)
    fast = head.mc_logits(batch, 200, seeded(), joint=joint)
    head.expands = False
    slow = head.mc_logits(batch, 200, seeded(), joint=joint)
    if joint:
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.mean(1), slow.mean(1), atol=0.35 * slow.std(1).max().item(), rtol=0)
    torch.testing.assert_close(fast.std(1), slow.std(1), atol=0.35 * slow.std(1).max().item(), rtol=0)


@pytest.mark.parametrize("name", sorted(set(ALL) - IN_HEAD))
def test_head_without_dropout_is_refused_with_what_to_do(name):
    module = TransformerClassifier(build(name), mc_mode="head")
    with pytest.raises(LearnerError, match=r"no dropout above 0 that follows its trunk.*mc_mode='full'.*committee"):
        module.check_dropout()


@pytest.mark.parametrize("name", sorted(set(ALL) - ANYWHERE))
@pytest.mark.parametrize("joint", [False, True])
def test_network_without_dropout_is_refused_with_what_to_do(name, joint):
    module = TransformerClassifier(build(name), mc_mode="full")
    with pytest.raises(LearnerError, match="no dropout above 0 that can be sampled: give the model a dropout"):
        module.mc_logits(rows([4]), 2, seeded(), joint=joint)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_architectures_with_dropout_pass_the_check(name, mode):
    module_of(name, mode).check_dropout()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@torch.no_grad()
def test_attention_dropout_acts_only_where_it_is_asked_for(implementation):
    model = build("llama", attention_dropout=0.3, attn_implementation=implementation)
    module, batch = TransformerClassifier(model), rows(LENGTHS)
    with pytest.raises(LearnerError, match="attention_dropout=True"):
        module.mc_logits(batch, 2, seeded())
    module.attention_dropout = True
    samples = module.mc_logits(batch, 3, seeded())
    assert len(samples[0].unique(dim=0)) == 3
    with pytest.raises(LearnerError, match="no dropout above 0"):
        module.mc_logits(batch, 2, seeded(), joint=True)  # never one function: off


@pytest.mark.parametrize("mode", ["head", "full"])
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_flags_and_the_global_generator_are_as_before(mode, training):
    module = module_of("bart", mode, attention_dropout=True).train(training)
    module.model.model.encoder.layerdrop = 0.4
    before, flags = torch.get_rng_state(), [m.training for m in module.modules()]
    module.compute(rows(LENGTHS), {"logits", "mc_logits", "joint_mc_logits"}, samples=2, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in module.modules()] == flags
    assert module.model.model.encoder.layerdrop == 0.4
    assert "forward" not in vars(module.trunk())


@torch.no_grad()
def test_logits_are_those_of_evaluation_even_while_training():
    module, batch = module_of("bert", "full"), rows(LENGTHS)
    expected = module(batch)
    assert torch.equal(module.train().compute(batch, {"logits"})["logits"], expected)


@torch.no_grad()
def test_whole_layers_are_never_skipped():
    module = TransformerClassifier(build("bart", dropout=0.0, activation_dropout=0.0), mc_mode="full")
    module.model.model.encoder.layerdrop = module.model.model.decoder.layerdrop = 0.9
    with pytest.raises(LearnerError, match="no dropout above 0"):
        module.check_dropout()


class Convolutions(ActiveModule):
    """Channel dropout, ordinary dropout and batch normalisation."""

    def __init__(self, **options):
        super().__init__(num_classes=3, **options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(0.3))
            self.middle = nn.Sequential(nn.Flatten(), nn.Linear(216, 16), nn.ReLU(), nn.Dropout(0.3))
            self.classifier = nn.Linear(16, 3)

    def features(self, batch):
        return self.middle(self.body(batch["inputs"]))

    def head(self, features):
        return self.classifier(features.float())


def images(n=5):
    return {"inputs": torch.randn(n, 1, 8, 8, generator=seeded(1))}


@torch.no_grad()
def test_non_text_module_gives_joint_samples_and_leaves_running_statistics_alone():
    module, batch = Convolutions().eval(), images()
    before = module.body[1].running_mean.clone()
    together = module.mc_logits(batch, 3, seeded(), joint=True)
    alone = torch.cat(
        [module.mc_logits({"inputs": batch["inputs"][i : i + 1]}, 3, seeded(), joint=True) for i in range(5)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert module.mc_logits(batch, 2, seeded()).shape == (5, 2, 3)
    assert torch.equal(module.body[1].running_mean, before)


@torch.no_grad()
def test_channel_dropout_keeps_or_drops_whole_channels_in_joint_samples():
    module = Convolutions()
    seen = []
    module.body[3].register_forward_hook(lambda m, args, output: seen.append(output != 0))
    module.body[2] = nn.Softplus()  # no zeros but those of dropout
    module.mc_logits(images(), 1, seeded(), joint=True)
    kept = seen[0].flatten(2)
    assert torch.equal(kept, kept[:1, :, :1].expand_as(kept))


class Recurrent(Convolutions):
    """Draws its dropout inside a recurrent network, where no mask can be shared."""

    def __init__(self):
        super().__init__()
        self.body, self.middle = nn.Identity(), nn.LSTM(8, 16, num_layers=2, dropout=0.5, batch_first=True)

    def features(self, batch):
        return self.middle(batch["inputs"][:, 0])[0][:, -1]


@torch.no_grad()
def test_module_that_draws_random_numbers_of_its_own_has_samples_but_no_joint_ones():
    module = Recurrent()
    assert len(module.mc_logits(images(), 3, seeded())[0].unique(dim=0)) == 3
    with pytest.raises(LearnerError, match="joint samples must be one function"):
        module.mc_logits(images(), 3, seeded(), joint=True)


class Attending(Convolutions):
    """Attention of torch itself, whose dropout acts on attention weights only."""

    def __init__(self, **options):
        super().__init__(**options)
        self.body, self.middle = nn.Identity(), nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
        self.classifier = nn.Linear(8, 3)

    def features(self, batch):
        x = batch["inputs"][:, 0]
        return self.middle(x, x, x, need_weights=False)[0].mean(1)


@torch.no_grad()
def test_attention_dropout_of_torchs_own_layer_is_asked_for_too():
    with pytest.raises(LearnerError, match="attention_dropout=True"):
        Attending().mc_logits(images(), 2, seeded())
    assert len(Attending(attention_dropout=True).mc_logits(images(), 2, seeded())[0].unique(dim=0)) == 2


@torch.no_grad()
def test_dropout_of_probability_one_gives_zeros_not_nan():
    module = Convolutions().eval()
    module.middle[3].p = 1.0
    for joint in (False, True):
        samples = module.mc_logits(images(), 2, seeded(), joint=joint)
        torch.testing.assert_close(samples, module.classifier.bias.expand_as(samples))


@torch.no_grad()
def test_joint_masks_drop_the_stated_share_and_keep_the_mean():
    module = Convolutions()
    masks = module._masks(5, None)
    with masks:
        kept = torch.stack([F.dropout(torch.ones(1, 1000), 0.3) for _ in range(20)])
    assert 0.27 < (kept == 0).float().mean() < 0.33
    torch.testing.assert_close(kept.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert len(kept.flatten(1).unique(dim=0)) == 20
