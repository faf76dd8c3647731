import lightning
import material
import pytest
import torch
from architectures import build, rows
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dal.errors import LearnerError, NeedError
from dal.modules.linear import LinearClassifier
from dal.modules.transformer import TransformerClassifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.*LeafSpec.* is deprecated:FutureWarning",
    "ignore:.*defined a `validation_step` but have no:UserWarning",
)


def fit(module, batches, steps, validation=None, **options):
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    loader = [None if part is None else DataLoader(part, batch_size=None) for part in (batches, validation)]
    trainer.fit(module, *loader)
    return trainer


def vectors(n=256, seed=0):
    x, y = material.clusters(n, seed=seed)
    return [{"inputs": x[i : i + 32], "labels": y[i : i + 32]} for i in range(0, n, 32)]


def texts():
    return [{**rows([6, 5, 4], seed=seed), "labels": torch.tensor([0, 1, 2])} for seed in range(4)]


def test_linear_classifier_learns():
    module = LinearClassifier(16, 4)
    trainer = fit(module, vectors(), 60, validation=vectors(seed=1))
    assert trainer.callback_metrics["val_accuracy"] > 0.9
    assert trainer.callback_metrics["val_loss"] < 0.5
    assert trainer.callback_metrics["train_loss"] < 0.5


def test_transformer_learns_its_batches():
    module = TransformerClassifier(build("bert"), learning_rate=5e-3)
    batches = texts()
    fit(module, batches, 40)
    assert all(torch.equal(module(batch).argmax(-1), batch["labels"]) for batch in batches)


@pytest.mark.parametrize("multilabel", [False, True])
def test_multilabel_classifier_learns_labels_that_stand_together(multilabel):
    x, y = material.clusters(256)
    labels = torch.stack([y == 0, (y == 0) | (y == 1), y >= 0], 1) if multilabel else y
    module = LinearClassifier(16, 3 if multilabel else 4, multilabel=multilabel)
    batches = [{"inputs": x, "labels": labels}]
    metrics = fit(module, batches, 100, validation=batches).callback_metrics
    assert metrics["val_accuracy"] > 0.95


class Watching(TransformerClassifier):
    """Notes whether dropout acts while it trains."""

    def training_step(self, batch, batch_idx):
        self.acting = all(m.training for m in self.modules())
        return super().training_step(batch, batch_idx)


def test_dropout_acts_in_training_though_the_model_came_in_evaluation_mode_and_not_afterwards():
    module = Watching(build("bert").eval()).eval()
    fit(module, texts(), 1)
    assert module.acting
    assert not any(m.training for m in module.modules())


def test_norms_and_biases_do_not_decay_and_the_head_has_its_own_rate():
    module = TransformerClassifier(build("bert"), learning_rate=1e-4, head_learning_rate=1e-2, weight_decay=0.1)
    optimizer = fit(module, texts(), 1).optimizers[0]
    groups = {}
    names = {id(parameter): name for name, parameter in module.model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            groups[names[id(parameter)]] = (group["initial_lr"], group["weight_decay"])
    assert groups.keys() == set(names.values())
    assert groups["classifier.weight"] == (1e-2, 0.1)
    assert groups["classifier.bias"] == (1e-2, 0.0)
    assert groups["bert.pooler.dense.weight"] == (1e-4, 0.1)
    assert groups["bert.embeddings.LayerNorm.weight"] == (1e-4, 0.0)
    assert optimizer.defaults["fused"]


def test_frozen_parameters_are_not_given_to_the_optimizer():
    module = TransformerClassifier(build("bert"), freeze=2)
    optimizer = fit(module, texts(), 1).optimizers[0]
    given = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    assert given == sum(p.numel() for p in module.model.bert.pooler.parameters()) + 33 * 3


class Rates(lightning.Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_learning_rate_rises_and_falls_linearly_over_the_steps_and_wastes_none():
    rates = Rates()
    fit(LinearClassifier(16, 4, learning_rate=1.0, warmup_ratio=0.3), vectors(), 10, callbacks=[rates])
    torch.testing.assert_close(rates.rates, [0.25, 0.5, 0.75, *(step / 7 for step in range(7, 0, -1))])


def test_learning_rate_without_an_end_stays():
    rates = Rates()
    fit(LinearClassifier(16, 4, learning_rate=1.0), vectors(), -1, callbacks=[rates, Stop()])
    assert set(rates.rates) == {1.0}


class Stop(lightning.Callback):
    def on_train_epoch_end(self, trainer, module):
        trainer.should_stop = True


class Norms(lightning.Callback):
    def __init__(self):
        self.norms = []

    def on_before_zero_grad(self, trainer, module, optimizer):
        gradients = [p.grad.norm() for p in module.parameters() if p.grad is not None]
        if gradients:
            self.norms.append(torch.stack(gradients).norm().item())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_with_a_fused_optimizer_in_any_precision(precision):
    norms = Norms()
    module = TransformerClassifier(build("bert"))
    fit(module, texts(), 3, precision=precision, gradient_clip_val=0.01, callbacks=[norms])
    assert norms.norms == pytest.approx([0.01] * len(norms.norms), rel=1e-2)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_gradients_can_be_clipped_by_value():
    module = LinearClassifier(16, 4)
    fit(module, vectors(32), 1, gradient_clip_val=1e-4, gradient_clip_algorithm="value")
    assert module.linear.weight.grad is None or module.linear.weight.grad.abs().max() <= 1e-4


def test_loss_is_torchs_own_without_weights():
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(LinearClassifier(4, 3).loss(logits, labels), F.cross_entropy(logits, labels))
    many = F.one_hot(labels).bool()
    ours = LinearClassifier(4, 3, multilabel=True).loss(logits, many)
    torch.testing.assert_close(ours, F.binary_cross_entropy_with_logits(logits, many.float()))


def test_class_weights_are_torchs_own():
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 0])
    weights, many = torch.tensor([0.5, 1.0, 3.0]), F.one_hot(labels)
    ours = LinearClassifier(4, 3, class_weights=weights).loss(logits, labels)
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, weight=weights))
    ours = LinearClassifier(4, 3, class_weights=weights, multilabel=True).loss(logits, many)
    torch.testing.assert_close(ours, F.binary_cross_entropy_with_logits(logits, many.float(), pos_weight=weights))


@pytest.mark.parametrize("multilabel", [False, True])
def test_row_weights_count_rows_more_than_once_or_not_at_all(multilabel):
    logits, labels = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2])
    if multilabel:
        labels = F.one_hot(labels)
    module = LinearClassifier(4, 3, multilabel=multilabel, class_weights=torch.tensor([1.0, 2.0, 4.0]))
    repeated = torch.tensor([0, 0, 2])
    ours = module.loss(logits, labels, torch.tensor([2.0, 0.0, 1.0]))
    torch.testing.assert_close(ours, module.loss(logits[repeated], labels[repeated]))
    assert module.loss(logits, labels, torch.zeros(3)) == 0


def test_class_weights_of_the_wrong_shape_are_refused():
    with pytest.raises(LearnerError, match="expected one for each of 3 classes"):
        LinearClassifier(4, 3, class_weights=torch.ones(2))


def test_unknown_mode_of_sampling_is_refused():
    with pytest.raises(LearnerError, match="expected 'head' or 'full'"):
        TransformerClassifier(build("bert"), mc_mode="half")


def test_unknown_name_and_missing_samples_are_refused():
    module, batch = LinearClassifier(4, 3, dropout=0.1), {"inputs": torch.zeros(2, 4)}
    with pytest.raises(NeedError, match="surprisal"):
        module.compute(batch, {"surprisal"})
    with pytest.raises(LearnerError, match="a number of samples"):
        module.compute(batch, {"mc_logits"})


def test_class_weights_move_with_the_module_and_are_no_part_of_its_state():
    module = LinearClassifier(4, 3, class_weights=torch.ones(3))
    assert module.to("meta").class_weights.device.type == "meta"
    assert "class_weights" not in module.state_dict()


def test_training_and_samples_are_the_same_for_the_same_seed():
    def once():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            module = TransformerClassifier(build("bert"), seed=5)
            fit(module, texts(), 4)
            return module.mc_logits(rows([5]), 3, torch.Generator().manual_seed(1))

    assert torch.equal(once(), once())


def test_layers_with_running_statistics_train_when_fitting():
    module = LinearClassifier(16, 4)
    module.dropout = nn.Sequential(nn.BatchNorm1d(16, affine=False))
    before = module.dropout[0].running_mean.clone()
    fit(module, vectors(), 2)
    assert not torch.equal(module.dropout[0].running_mean, before)
