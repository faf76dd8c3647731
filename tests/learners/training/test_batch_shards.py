"""Batches in parts: together they are the batch, with its loss and gradient; a trainer's strategy needs them."""

from functools import partial

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from dal.config.factory import Factory
from dal.errors import ConfigError, LearnerError
from dal.learners.module_learner import ModuleLearner
from dal.learners.training.batch_shards import ShardedBatches, Shards
from dal.learners.training.data_parallel import strategy_of
from dal.learners.training.length_batches import BatchSampler
from dal.learners.training.tensor_rows import TensorPrepared
from dal.modules.linear import LinearClassifier

CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def data_of(size: int) -> tuple[TensorPrepared, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = TensorPrepared(torch.randn(size, 4, generator=generator), ["a", "b", "c"])
    return rows, torch.randint(3, (size,), generator=generator), torch.rand(size, generator=generator) + 0.1


def parts_of(size: int, shards: Shards, batch_size: int = 8) -> list[dict]:
    rows, labels, weights = data_of(size)
    options = {"class_weights": CLASS_WEIGHTS, "shards": shards}
    batches = ShardedBatches(rows, torch.arange(size), labels, weights, batch_size, 5, **options)
    found = list(batches)
    assert len(found) == len(batches)
    return found


@pytest.mark.parametrize("size", [8, 21, 25, 2])
def test_parts_add_up_to_loss_and_gradient_of_the_batch(size: int):
    """Parts have unequal weights, and some have no row of their own."""
    rows, labels, weights = data_of(size)
    whole = BatchSampler(rows, torch.arange(size), labels, weights, 8, 5)
    module = LinearClassifier(4, 3, class_weights=CLASS_WEIGHTS)
    parts = parts_of(size, Shards(4, 0, 4))
    for step, batch in enumerate(whole):
        expected = torch.autograd.grad(
            module.loss(module(batch), batch["labels"], batch["weights"]), module.parameters()
        )
        own = parts[4 * step : 4 * step + 4]
        losses = [part["shard_scale"] * module.loss(module(part), part["labels"], part["weights"]) for part in own]
        found = torch.autograd.grad(torch.stack(losses).mean(), module.parameters())
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_ranks_share_the_parts_of_one_process_with_their_seeds():
    alone = parts_of(21, Shards(6, 0, 6))
    shared = [parts_of(21, Shards.of(6, rank, 3)) for rank in range(3)]
    assert [len(each) for each in shared] == [len(alone) // 3] * 3
    regrouped = [
        shared[rank][2 * step + part] for step in range(len(alone) // 6) for rank in range(3) for part in (0, 1)
    ]
    assert [part["shard_seed"] for part in regrouped] == [part["shard_seed"] for part in alone]
    assert len({part["shard_seed"] for part in alone}) == len(alone)
    assert all(torch.equal(one["inputs"], other["inputs"]) for one, other in zip(regrouped, alone, strict=True))


def test_order_changes_from_epoch_to_epoch():
    rows, labels, _ = data_of(20)
    batches = ShardedBatches(rows, torch.arange(20), labels, None, 8, 5, class_weights=None, shards=Shards(2, 0, 2))
    first, second = (np.concatenate([part["labels"] for part in batches]) for _ in range(2))
    assert not np.array_equal(first, second)


class Noisy(LinearClassifier):
    def features(self, batch):
        return nn.functional.dropout(super().features(batch), 0.2, self.training)


class OwnStep(LinearClassifier):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)


def build(kind: type, classes: int, multilabel: bool) -> LinearClassifier:
    return kind(4, classes, multilabel=multilabel)


def trainer(**options: object) -> partial:
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return partial(lightning.Trainer, accelerator="cpu", **silent, **options)


def test_fit_in_parts_is_reproducible_and_its_loss_is_not_scaled_afterwards():
    rows, labels, _ = data_of(60)
    learner = ModuleLearner(
        partial(build, Noisy), shards=4, min_steps=10, max_steps=10, device="cpu", class_weights="balanced"
    )
    one, two = (learner.fit(rows, torch.arange(60), labels, seed=3) for _ in range(2))
    assert torch.equal(one.outputs(rows).logits, two.outputs(rows).logits)
    assert one.module is not None
    assert one.module.loss_scale == 1
    assert "loss_scale" not in one.module.state_dict()


def test_steps_are_those_of_whole_batches():
    class Steps(lightning.Callback):
        def on_train_end(self, trainer, pl_module):
            steps.append(trainer.global_step)

    steps: list[int] = []
    rows, labels, _ = data_of(60)
    for shards in (None, 4):
        learner = ModuleLearner(
            partial(build, LinearClassifier), epochs=3, min_steps=0, batch_size=16, shards=shards,
            trainer=trainer(callbacks=[Steps()]),
        )  # fmt: skip
        learner.fit(rows, torch.arange(60), labels, seed=3)
    assert steps == [12, 12]


def test_own_training_step_is_refused_because_it_ignores_the_scale():
    rows, labels, _ = data_of(30)
    learner = ModuleLearner(partial(build, OwnStep), shards=2, device="cpu")
    with pytest.raises(LearnerError, match="shards needs the training_step of ActiveModule, and OwnStep has one of"):
        learner.fit(rows, torch.arange(30), labels, seed=3)


def test_accumulation_of_the_trainer_is_refused_with_parts():
    rows, labels, _ = data_of(30)
    learner = ModuleLearner(partial(build, Noisy), shards=2, trainer=trainer(accumulate_grad_batches=2))
    with pytest.raises(ConfigError, match="shards and the trainer's accumulate_grad_batches exclude each other"):
        learner.fit(rows, torch.arange(30), labels, seed=3)


@pytest.mark.parametrize("strategy", ["fsdp", "ddp_spawn", "ddp_fork", "ddp_notebook", "deepspeed"])
def test_other_strategies_are_refused_by_name(strategy: str):
    for given in (trainer(strategy=strategy), Factory("lightning.pytorch.Trainer", {"strategy": strategy})):
        with pytest.raises(ConfigError, match=f"trainer.strategy must be ddp, .* not '{strategy}'"):
            ModuleLearner(partial(build, Noisy), trainer=given, shards=2)


def test_strategy_needs_a_fixed_number_of_parts_and_trains_alone_without_ranks():
    with pytest.raises(ConfigError, match="strategy ddp needs shards, the number of parts"):
        ModuleLearner(partial(build, Noisy), trainer=trainer(strategy="ddp"))
    rows, labels, _ = data_of(30)
    learner = ModuleLearner(partial(build, Noisy), trainer=trainer(strategy="ddp"), shards=2, min_steps=2, max_steps=2)
    assert learner.fit(rows, torch.arange(30), labels, seed=3).module is not None
    assert strategy_of(None) is strategy_of(lambda: None) is strategy_of(trainer(strategy="auto")) is None
