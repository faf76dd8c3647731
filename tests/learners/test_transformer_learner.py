"""Fine-tuning: reproducible, bounded, interruptible, and saved for everybody."""

import os
import random
import shutil
import signal
from functools import partial
from pathlib import Path

import lightning
import material
import numpy as np
import pytest
import torch

from dal import Experiment, Random, TextData
from dal.config.build import build_now
from dal.data import Rows
from dal.errors import ConfigError, LearnerError, NeedError
from dal.functional.class_shares import logit_adjustment
from dal.learner import Monitor
from dal.learners.heads.described_head import StrengthChoice
from dal.learners.probe_learner import ProbeLearner
from dal.learners.training import fitting, head_start
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


# -- the start of the pooling and of the head -----------------------------------------------------------------------

TOPICS = {
    "access": "password login account",
    "billing": "invoice refund charge",
    "feedback": "great awful love",
    "shipping": "parcel delivery late",
}


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like those of sentence-transformers, which says that embeddings are means over the tokens."""
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    shutil.copytree(tiny_bert, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


def still(folder: Path, **fields) -> TransformerLearner:
    """A learner whose training changes next to nothing."""
    rates = {"learning_rate": 1e-9, "head_learning_rate": 1e-9, "weight_decay": 0.0}
    return TransformerLearner(str(folder), min_steps=1, max_steps=1, epochs=1, precision="float32", **rates, **fields)


def described(count: int = 160, **options) -> Rows:
    return Rows.from_inputs(*material.tickets(count), descriptions=TOPICS, **options)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_head_starts_at_the_penalised_regression_on_its_features(encoder, monkeypatch, multilabel, weighted):
    """The logits are three tenths of those where the gradient of loss and penalty is 0."""
    choice = StrengthChoice(0.0, {0.0: -1.0, 5.0: -2.0}, {})
    monkeypatch.setattr(head_start, "choose_strength", lambda *args, **options: choice)
    texts, labels = material.tickets(160)
    rows = Rows.from_inputs(texts, [[label] for label in labels] if multilabel else labels, multilabel=multilabel)
    weights = 1 + torch.arange(60.0) % 3 if weighted else None
    data, predictor = fitted(still(encoder, objective="log_loss"), rows, weights=weights)
    found = predictor.outputs(data, torch.arange(60), {"features", "logits"}, exact=True)
    features, layer = found.features.cpu(), predictor.module.last_layer()
    mean, targets = features.mean(0), torch.zeros(60, 4)
    targets[torch.arange(60), rows.labels[:60].long().argmax(1) if multilabel else rows.labels[:60]] = 1
    scale = 1 / (features - mean).square().sum(1).mean().sqrt()
    inputs = torch.cat([(features - mean) * scale, torch.ones(60, 1)], 1)
    with torch.no_grad():
        weight = torch.cat([layer.weight / scale, (layer.bias + layer.weight @ mean)[:, None]], 1).cpu() / 0.3
        logits = inputs @ weight.T
    probs = logits.sigmoid() if multilabel else logits.softmax(1)
    torch.testing.assert_close(found.logits.cpu(), 0.3 * logits, rtol=1e-3, atol=1e-3)
    residual = (probs - targets) * (1.0 if weights is None else weights[:, None])
    assert float((residual.T @ inputs + 0.1 * weight).abs().max()) < 2e-3
    assert predictor.training_notes["text"].startswith("head started at the probe of the labels; class descriptions")


def test_head_starts_at_random_without_the_option(encoder):
    weights = []
    for seed in (0, 1):
        _, predictor = fitted(still(encoder, head=None), described(), seed=seed)
        assert not predictor.training_notes
        weights.append(predictor.module.last_layer().weight)
    assert not torch.allclose(*weights, atol=1e-3)


def test_head_that_starts_at_the_labels_does_not_depend_on_the_seed(encoder):
    logits = [fitted(still(encoder), described(), seed=seed)[1] for seed in (0, 1)]
    weights = [predictor.module.last_layer().weight for predictor in logits]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-6)


def test_descriptions_pull_the_head_towards_their_features(encoder, monkeypatch):
    monkeypatch.setattr(
        head_start, "choose_strength", lambda *args, **options: StrengthChoice(50.0, {0.0: -1, 50.0: 0}, {})
    )
    rows = described()
    data, predictor = fitted(still(encoder), rows, labels=8)
    assert predictor.training_notes["description_strength"] == 50.0
    texts, classes = data.described
    probs = predictor.outputs(texts, names={"probs"}, exact=True).probs
    assert torch.equal(probs.argmax(1).cpu(), classes)


def test_model_whose_features_are_no_embeddings_starts_with_a_random_head(tiny_bert: Path):
    text = "head started at random: the untrained features of this model are not its embeddings"
    assert fitted(still(tiny_bert), described())[1].training_notes == {"text": text}


def test_warm_start_keeps_the_head_of_the_round_before(encoder):
    rows = described()
    data, before = fitted(still(encoder, warm_start=True), rows)
    with torch.no_grad():
        before.module.last_layer().weight.mul_(3)
    after = still(encoder, warm_start=True).fit(data, torch.arange(60), rows.labels[:60], seed=1, previous=before)
    torch.testing.assert_close(after.module.last_layer().weight, before.module.last_layer().weight)
    assert not after.training_notes


@pytest.mark.parametrize("fields", [{"freeze": 1}, {"lora": LoRA(rank=2)}, {"mc_mode": "bootstrap"}], ids=str)
def test_started_model_is_saved_with_its_notes_and_predicts_the_same_everywhere(encoder, tmp_path: Path, fields):
    if "lora" in fields:
        pytest.importorskip("peft")
    from transformers import pipeline

    rows = described()
    learner = TransformerLearner(
        str(encoder), min_steps=5, max_steps=5, learning_rate=3e-3, precision="float32", **fields
    )
    data, predictor = fitted(learner, rows)
    predictor.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", data)
    found = predictor.outputs(data, torch.arange(8), exact=True).logits
    torch.testing.assert_close(again.outputs(data, torch.arange(8), exact=True).logits, found, atol=1e-4, rtol=1e-4)
    assert again.training_notes == predictor.training_notes != {}
    answers = pipeline("text-classification", str(tmp_path / "model"), device="cpu")(rows.texts()[:8])
    assert [answer["label"] for answer in answers] == [rows.classes[i] for i in found.argmax(1)]


@pytest.mark.parametrize("mode", ["laplace", "bootstrap"])
@pytest.mark.parametrize(("objective", "strength"), [(None, 0.0), ("macro_f1", 0.75), ("balanced_accuracy", 1.0)])
def test_objective_shifts_logits_and_samples_by_the_shares_of_the_labels(encoder, mode, objective, strength):
    rows, chosen = described(), torch.arange(40)
    shares = torch.bincount(rows.labels[chosen], minlength=4).float()
    found = []
    for aim in ("log_loss", objective):
        data, predictor = fitted(still(encoder, objective=aim, mc_mode=mode, samples=3), rows, labels=40)
        found.append(predictor.outputs(data, chosen, {"logits", "mc_logits"}, exact=True))
    shift = logit_adjustment(shares, strength)
    assert (shift.std() > 0.05) == (strength > 0)
    torch.testing.assert_close(found[1].logits - found[0].logits, shift.expand(40, 4), rtol=1e-4, atol=1e-4)
    drawn = found[1].mc_logits - found[0].mc_logits
    seen = found[0].mc_logits > found[0].mc_logits.amax(2, keepdim=True) - 8  # unseen classes have a fixed probability
    torch.testing.assert_close(drawn[seen], shift.expand(40, 3, 4)[seen], rtol=1e-3, atol=1e-3)


def test_objective_of_an_experiment_is_that_of_its_learner(encoder):
    experiment = Experiment(
        TextData("x.csv", text="body", label="topic"), still(encoder), Random(), objective="macro_f1"
    )
    assert experiment.learner.objective == "macro_f1"


def test_word_embeddings_can_be_kept(encoder):
    kept = [fitted(still(encoder, freeze_embeddings=flag), described())[1].module for flag in (True, False)]
    weights = [module.model.get_input_embeddings().weight for module in kept]
    assert [weight.requires_grad for weight in weights] == [False, True]


def test_folder_that_is_older_than_the_options_keeps_its_start():
    learner = build_now(TransformerLearner, {"model": "somewhere"})  # options as written in a folder
    assert (learner.pooling, learner.head) == (None, None)
    assert not learner.reads_descriptions
