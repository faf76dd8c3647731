"""Fine-tuning: reproducible, bounded, interruptible, and saved for everybody."""

import os
import random
import signal
from functools import partial
from pathlib import Path

import lightning
import material
import numpy as np
import pytest
import torch

from dal.data import Rows
from dal.errors import ConfigError, LearnerError, NeedError
from dal.learner import Monitor
from dal.learners.probe_learner import ProbeLearner
from dal.learners.training import fitting
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.adapting import LoRA

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
SILENT_TRAINER = partial(
    lightning.Trainer,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)


class Steps(Monitor):
    """Counts steps; may press Ctrl-C after some of them."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.steps, self.interrupt_after = 0, interrupt_after

    def advanced(self, count):
        self.steps += count
        if self.interrupt_after is not None and self.steps >= self.interrupt_after:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows.from_inputs(*material.tickets(160))


@pytest.fixture(scope="module")
def learner(tiny_bert: Path) -> TransformerLearner:
    return TransformerLearner(
        model=str(tiny_bert), learning_rate=3e-3, min_steps=120, max_steps=120, samples=4, precision="float32"
    )


def changed(learner: TransformerLearner, **fields) -> TransformerLearner:
    import dataclasses

    return dataclasses.replace(learner, **fields)


def fitted(learner, rows, labels=60, seed=0, **kwargs):
    data = learner.prepare(rows)
    chosen = torch.arange(labels)
    return data, learner.fit(data, chosen, rows.labels[chosen], seed=seed, **kwargs)


@pytest.fixture(scope="module")
def trained(learner, rows):
    return fitted(learner, rows)


def test_topics_are_learned_from_words(trained, rows):
    data, predictor = trained
    found = predictor.outputs(data, torch.arange(60, 160)).logits.argmax(1).cpu()
    assert (found == rows.labels[60:]).float().mean() > 0.8


def test_one_pass_gives_everything_a_strategy_may_read(trained):
    data, predictor = trained
    names = {"probs", "grads", "embeddings", "mutual_information", "joint_mc_logits"}
    outputs = predictor.outputs(data, torch.arange(10), names)
    assert outputs.grads.a.shape == (10, 4)
    assert outputs.embeddings.shape == (10, 32)
    assert outputs.joint_mc_logits.shape == (10, 4, 4)
    assert bool((outputs.mutual_information >= -1e-6).all())


def test_the_pretrained_part_runs_once_per_row(trained):
    data, predictor = trained
    seen = []
    embeddings = predictor.module.trunk().embeddings
    handle = embeddings.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    predictor.outputs(data, names={"logits", "features", "mutual_information"})
    handle.remove()
    assert sum(seen) == len(data)


def test_same_seed_same_predictor_other_seed_another(learner, rows):
    short = changed(learner, min_steps=5, max_steps=5)
    logits = []
    for seed in (3, 3, 4):
        data, predictor = fitted(short, rows, seed=seed)
        logits.append(predictor.outputs(data).logits)
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_global_random_states_are_left_alone(learner, rows):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    fitted(changed(learner, min_steps=2, max_steps=2), rows)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize(
    ("labels", "fields", "steps"),
    [
        (10, {"epochs": 3, "min_steps": 7, "max_steps": None}, 7),
        (60, {"epochs": 3, "min_steps": 7, "max_steps": None}, 12),
        (60, {"epochs": 3, "min_steps": 7, "max_steps": 9}, 9),
    ],
)
def test_steps_have_a_floor_and_a_cap(learner, rows, labels, fields, steps):
    monitor = Steps()
    fitted(changed(learner, **fields), rows, labels=labels, monitor=monitor)
    assert monitor.steps == steps


def test_training_stops_when_its_loss_is_small_enough(learner, rows):
    monitor = Steps()
    fitted(changed(learner, target_train_loss=100.0), rows, monitor=monitor)
    assert monitor.steps == 4  # one epoch


class _Watch(lightning.Callback):
    seen: list = []  # noqa: RUF012 - of the class: the factory and its callbacks are copied

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(all(part.training for part in pl_module.modules()))


def test_dropout_acts_in_training_and_rests_afterwards(learner, rows):
    _Watch.seen.clear()
    factory = partial(SILENT_TRAINER, callbacks=[_Watch()])
    _, predictor = fitted(changed(learner, min_steps=2, max_steps=2, trainer=factory), rows)
    assert _Watch.seen == [True, True]
    assert not any(part.training for part in predictor.module.modules())


def test_low_rank_updates_are_trained_and_saved_merged(learner, rows, tmp_path: Path):
    pytest.importorskip("peft")
    data, predictor = fitted(changed(learner, lora=LoRA(rank=2), min_steps=3, max_steps=3), rows)
    predictor.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", data)
    expected = predictor.outputs(data).logits
    torch.testing.assert_close(again.outputs(data).logits, expected, atol=1e-4, rtol=1e-4)


def test_frozen_layers_stay_as_pretrained(learner, rows):
    _, predictor = fitted(changed(learner, freeze=1, min_steps=3, max_steps=3), rows)
    _, other = fitted(changed(learner, freeze=1, min_steps=1, max_steps=1), rows, seed=1)
    layers = [p.module.trunk().encoder.layer for p in (predictor, other)]
    assert torch.equal(layers[0][0].output.dense.weight, layers[1][0].output.dense.weight)
    assert not torch.equal(layers[0][1].output.dense.weight, layers[1][1].output.dense.weight)


def test_a_factory_whose_callback_remembers_gives_every_round_a_fresh_one(learner, rows):
    stop = lightning.pytorch.callbacks.EarlyStopping(
        "train_loss", patience=1, mode="max", check_on_train_epoch_end=True
    )
    once = changed(learner, min_steps=40, max_steps=40, trainer=partial(SILENT_TRAINER, callbacks=[stop]))
    counts = []
    for _ in range(2):
        monitor = Steps()
        fitted(once, rows, monitor=monitor)
        counts.append(monitor.steps)
    assert counts[0] == counts[1] < 40


def test_more_than_one_device_is_refused(learner, rows):
    with pytest.raises(LearnerError, match="uses 2 devices"):
        fitted(changed(learner, trainer=partial(SILENT_TRAINER, devices=2)), rows)


@pytest.mark.parametrize(
    ("units", "precision", "told"), [(False, "bf16-mixed", 1), (True, "bf16-mixed", 0), (False, "32-true", 0)]
)
def test_a_precision_that_is_slow_on_this_machine_is_told_once(
    learner, rows, monkeypatch, caplog, units, precision, told
):
    monkeypatch.setattr(fitting, "reduces", lambda device, precision: units)
    fitting._say_slow.cache_clear()
    slow = changed(learner, min_steps=1, max_steps=1, trainer=partial(SILENT_TRAINER, precision=precision))
    for _ in range(2):
        fitted(slow, rows)
    assert caplog.text.count("32-true is many times faster") == told


@pytest.fixture
def ctrl_c_interrupts():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_reaches_the_caller_and_leaves_the_handler(learner, rows, ctrl_c_interrupts):
    before = signal.getsignal(signal.SIGINT)
    monitor = Steps(interrupt_after=3)
    with pytest.raises(KeyboardInterrupt):
        fitted(learner, rows, monitor=monitor)
    assert monitor.steps == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_keyboard_interrupt_of_a_callback_is_not_turned_into_an_exit(learner, rows):
    before = signal.getsignal(signal.SIGINT)
    factory = partial(SILENT_TRAINER, callbacks=[_Impatient()])
    with pytest.raises(KeyboardInterrupt):
        fitted(changed(learner, trainer=factory), rows)
    assert signal.getsignal(signal.SIGINT) is before


class _Impatient(lightning.Callback):
    def on_train_batch_end(self, *args, **kwargs):
        raise KeyboardInterrupt


def test_a_handler_that_does_not_interrupt_is_respected(learner, rows):
    pressed = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        monitor = Steps(interrupt_after=2)
        fitted(changed(learner, min_steps=3, max_steps=3), rows, monitor=monitor)
    finally:
        signal.signal(signal.SIGINT, before)
    assert monitor.steps == 3
    assert len(pressed) == 2


def test_continued_training_starts_where_it_ended(learner, rows, trained):
    data, before = trained
    chosen = torch.arange(60)
    still = changed(learner, min_steps=1, max_steps=1, learning_rate=1e-9, head_learning_rate=1e-9, weight_decay=0.0)
    warm = changed(still, warm_start=True).fit(data, chosen, rows.labels[chosen], seed=1, previous=before)
    cold = still.fit(data, chosen, rows.labels[chosen], seed=1, previous=before)
    expected = before.outputs(data).logits
    torch.testing.assert_close(warm.outputs(data).logits, expected, atol=1e-3, rtol=1e-3)
    assert (cold.outputs(data).logits - expected).abs().max() > 0.1


def test_sample_weights_change_what_is_learned(learner, rows):
    weights = (rows.labels[:60] != 0).float()
    data, predictor = fitted(changed(learner, min_steps=20, max_steps=20), rows, weights=weights)
    assert int((predictor.outputs(data).logits.argmax(1) == 0).sum()) == 0


@pytest.mark.parametrize("weights", [torch.ones(3), -torch.ones(60), torch.zeros(60)])
def test_weights_that_do_not_fit_are_refused(learner, rows, weights):
    with pytest.raises(LearnerError, match="weights"):
        fitted(learner, rows, weights=weights)


def test_validation_rows_stop_training_and_bring_back_the_best(learner, rows):
    held_out = rows.take(torch.arange(60, 100))
    patient = changed(learner, min_steps=400, max_steps=400, learning_rate=2e-3, patience=1)
    wrong = (held_out.labels + 1) % 4  # the better the fit, the larger this loss: the first epoch stays the best
    monitor = Steps()
    fitted(patient, rows, validation=(patient.prepare(held_out), wrong), monitor=monitor)
    assert 4 < monitor.steps < 100


def test_multilabel_rows_may_have_several_labels_or_none(learner):
    texts, labels = material.tickets(80)
    pairs = [[label] if i % 8 else [] for i, label in enumerate(labels)]
    rows = Rows.from_inputs(texts, pairs, ["access", "billing", "feedback", "shipping"], multilabel=True)
    data, predictor = fitted(changed(learner, min_steps=20, max_steps=20), rows)
    outputs = predictor.outputs(data, names={"probs", "mutual_information"})
    assert outputs.multilabel
    assert (
        torch.nn.functional.binary_cross_entropy(outputs.probs.cpu(), rows.labels.float()) < 0.65
    )  # 0.69 without a clue


def test_balanced_classes_are_accepted(learner, rows):
    fitted(changed(learner, class_weights="balanced", min_steps=2, max_steps=2), rows)


def test_one_class_is_refused(learner, rows):
    same = (rows.labels == 1).nonzero().flatten()
    with pytest.raises(LearnerError, match="at least two classes"):
        learner.fit(learner.prepare(rows), same, rows.labels[same], seed=0)


def test_saved_folder_is_read_by_transformers_and_by_us(trained, learner, rows, tmp_path: Path):
    from transformers import pipeline

    data, predictor = trained
    predictor.save(tmp_path / "model")
    texts = rows.texts()[:8]
    theirs = pipeline("text-classification", str(tmp_path / "model"), device="cpu")(texts)
    found = predictor.outputs(data, torch.arange(8), exact=True).logits
    assert [answer["label"] for answer in theirs] == [rows.classes[i] for i in found.argmax(1)]
    again = learner.load(tmp_path / "model", data)
    torch.testing.assert_close(again.outputs(data, torch.arange(8), exact=True).logits, found, atol=1e-5, rtol=1e-5)


def test_embeddings_are_label_free_cached_and_the_pretrained_ones(
    trained, learner, rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAL_CACHE", str(tmp_path))
    data = learner.prepare(rows)
    before = learner.untrained(data).outputs(data, names={"embeddings"}).embeddings
    torch.testing.assert_close(trained[1].outputs(data, names={"embeddings"}).embeddings.cpu(), before)
    (values,) = (tmp_path / "rows" / "embeddings").glob("*/values")
    stamp = values.stat().st_mtime_ns
    again = learner.prepare(rows)
    assert torch.equal(learner.untrained(again).outputs(again, names={"embeddings"}).embeddings, before)
    assert values.stat().st_mtime_ns == stamp
    values.write_bytes(b"short")
    damaged = learner.prepare(rows)
    assert torch.equal(learner.untrained(damaged).outputs(damaged, names={"embeddings"}).embeddings, before)


def test_embeddings_are_masked_means_of_the_encoder(learner, rows, tiny_bert: Path):
    from transformers import AutoModel, AutoTokenizer

    data = learner.prepare(rows)
    ours = learner.untrained(data).outputs(data, torch.arange(5), {"embeddings"}).embeddings
    batch = AutoTokenizer.from_pretrained(tiny_bert)(rows.texts()[:5], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(tiny_bert).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    torch.testing.assert_close(ours, (hidden * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-5)


def test_nothing_but_embeddings_can_be_read_before_a_fit(learner, rows):
    data = learner.prepare(rows)
    with pytest.raises(NeedError, match="before anything is fitted"):
        learner.untrained(data).outputs(data)


def test_exact_outputs_differ_from_reduced_precision(trained, learner, rows):
    data, predictor = trained
    lowered = changed(learner, precision="bfloat16")._predictor(predictor.module)
    assert lowered.approximate
    exact = lowered.outputs(data, exact=True).logits
    assert torch.equal(exact, predictor.outputs(data).logits)
    assert not torch.equal(lowered.outputs(data).logits, exact)


def test_probe_reads_the_same_cached_embeddings(tiny_bert: Path, rows):
    learner = ProbeLearner(model=str(tiny_bert), precision="float32")
    data, predictor = fitted(learner, rows)
    assert (
        predictor.outputs(data, torch.arange(60, 160)).logits.argmax(1).cpu() == rows.labels[60:]
    ).float().mean() > 0.35
    shape = predictor.outputs(data, torch.arange(3), {"features"}).features.shape
    assert shape == (3, 32)


def test_rows_prepared_by_another_learner_are_refused(learner, rows):
    vectors = Rows.from_inputs(*material.clusters(20))
    data = ProbeLearner(model=None).prepare(vectors)
    with pytest.raises(LearnerError, match="another learner"):
        learner.untrained(data).outputs(data, names={"embeddings"})


@pytest.mark.parametrize(
    "fields",
    [
        {"epochs": 0},
        {"max_steps": 3, "min_steps": 4},
        {"learning_rate": 0.0},
        {"samples": 1},
        {"gradient_clip_val": -1.0},
    ],
)
def test_senseless_options_are_refused_when_the_learner_is_made(fields):
    with pytest.raises(ConfigError):
        TransformerLearner(**fields)
