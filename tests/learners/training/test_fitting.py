"""What a fit returns is what it was judged by: the loss that stops it, and the module that was scored best."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import nn

from dal.config.factory import Factory
from dal.data import Rows
from dal.errors import LearnerError
from dal.learner import Monitor
from dal.learners.module_learner import ModuleLearner
from dal.learners.training.data_parallel import silent
from dal.modules.active_module import ActiveModule

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Normed(ActiveModule):
    """A batch norm whose running statistics, and a buffer of its own, move with every batch."""

    def __init__(self, classes: int, multilabel: bool, learning_rate: float = 0.05) -> None:
        super().__init__(classes, multilabel=multilabel, learning_rate=learning_rate)
        self.norm = nn.BatchNorm1d(4, momentum=0.5)
        self.last = nn.Linear(4, classes)
        self.register_buffer("seen", torch.zeros(()))
        self.validated: list[tuple[float, torch.Tensor]] = []

    def features(self, batch):
        if self.training:
            self.seen += 1
        return self.norm(batch["inputs"])

    def head(self, features):
        return self.last(features.float())

    def on_validation_epoch_end(self):
        with torch.no_grad():
            state = torch.cat([value.flatten().double() for value in self.state_dict().values()])
        if not self.trainer.sanity_checking:
            self.validated.append((float(self.trainer.callback_metrics["val_loss"]), state))


class Mute(Normed):
    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_epoch_end(self):
        pass


class Steps(Monitor):
    def __init__(self):
        self.steps = 0

    def advanced(self, count):
        self.steps += count


def blobs(rows: int, seed: int) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (rows,), generator=generator)
    noise = torch.randn(rows, 4, generator=generator)
    return Rows.from_inputs(5 + 3 * noise + 2 * labels[:, None], labels)


def fitted(learner: ModuleLearner, **options):
    train, held = blobs(64, 0), blobs(40, 1)
    data, validation = learner.prepare(train), learner.prepare(held)
    rows = torch.arange(len(train))
    predictor = learner.fit(data, rows, train.labels, seed=0, validation=(validation, held.labels), **options)
    return predictor.module


@pytest.mark.parametrize("sanity", [0, 2])
def test_the_module_that_comes_back_is_the_one_that_was_scored_best(sanity: int) -> None:
    trainer = partial(lightning.Trainer, num_sanity_val_steps=sanity, **QUIET)
    learner = ModuleLearner(
        partial(Normed, learning_rate=1.0), epochs=30, min_steps=0, batch_size=16, patience=4, trainer=trainer
    )
    module = fitted(learner)
    losses = [loss for loss, _ in module.validated]
    best = losses.index(min(losses))
    assert 0 <= best < len(losses) - 1  # else nothing had to be put back
    state = torch.cat([value.flatten().double() for value in module.state_dict().values()])
    assert torch.equal(state, module.validated[best][1])


class Hasty(Normed):
    """Makes everything worse with each step, frozen parameters apart."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=3.0, maximize=True)


class Thaw(lightning.Callback):
    """Freezes the head, and lets it train once a first epoch was scored."""

    def on_fit_start(self, trainer, pl_module):
        pl_module.last.requires_grad_(False)

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            pl_module.last.requires_grad_(True)


def test_what_a_callback_trains_later_goes_back_too() -> None:
    trainer = partial(lightning.Trainer, callbacks=[Thaw()], num_sanity_val_steps=0, **QUIET)
    learner = ModuleLearner(Hasty, epochs=8, min_steps=0, batch_size=16, patience=3, trainer=trainer)
    module = fitted(learner)
    losses = [loss for loss, _ in module.validated]
    assert losses.index(min(losses)) == 0
    state = torch.cat([value.flatten().double() for value in module.state_dict().values()])
    assert torch.equal(state, module.validated[0][1])


def test_patience_without_a_validation_loss_is_refused_in_one_line() -> None:
    trainer = partial(lightning.Trainer, **QUIET)
    with pytest.raises(LearnerError, match=r"patience needs a module that logs 'val_loss'.* which Mute does not"):
        fitted(ModuleLearner(Mute, patience=2, trainer=trainer))


@pytest.mark.parametrize("accumulated", [1, 4])
def test_accumulated_batches_do_not_change_which_loss_stops_the_training(accumulated: int) -> None:
    """The module learns nothing, so that its mean loss stays at about log 2: 0.6 is not reached, and 0.8 at once."""
    trainer = partial(lightning.Trainer, accumulate_grad_batches=accumulated, num_sanity_val_steps=0, **QUIET)
    build = partial(Normed, learning_rate=1e-12)
    steps = {}
    for limit in (0.3, 2.0):
        monitor = Steps()
        learner = ModuleLearner(build, epochs=6, min_steps=0, batch_size=8, target_train_loss=limit, trainer=trainer)
        fitted(learner, monitor=monitor)
        steps[limit] = monitor.steps
    assert steps == {0.3: 6 * 8 // accumulated, 2.0: 8 // accumulated}


SHORT = {"epochs": 1, "min_steps": 0, "max_steps": 2, "batch_size": 16}


@pytest.mark.parametrize("cls", ["lightning.pytorch.Trainer", "lightning.Trainer", None])
def test_trainer_displays_and_writes_only_what_it_names(
    cls: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def trainer(**options: Any) -> Any:
        return partial(lightning.Trainer, **options) if cls is None else Factory(cls, options)

    fitted(ModuleLearner(Normed, trainer=trainer(accelerator="cpu"), **SHORT))
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []
    fitted(ModuleLearner(Normed, trainer=trainer(accelerator="cpu", enable_model_summary=True), **SHORT))
    assert "params" in capfd.readouterr().out


def test_trainer_with_callbacks_and_one_of_a_function_are_left_alone() -> None:
    bar = partial(lightning.Trainer, callbacks=[TQDMProgressBar()])  # excludes enable_progress_bar=False
    for given in (bar, lambda: lightning.Trainer(), Factory("lightning.LightningModule")):
        assert silent(given) is given
