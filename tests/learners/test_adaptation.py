"""`TransformerLearner(adapt=...)`: every fit of a project starts from the encoder that was adapted to its texts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import material
import pytest
import torch
import yaml
from command import Command
from learners.text.test_surprisal import write
from safetensors.torch import load_file

import dal as package
from dal.data import Rows
from dal.errors import LearnerError
from dal.learner import Monitor
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.text import adapted_encoders
from dal.learners.text.masked_training import Adaptation
from dal.learners.training.network_predictor import NetworkPredictor
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.cached_trunk import UpperLayers
from dal.store.cache_contents import cache_entries

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("masked") / "bert")


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows.from_inputs(*material.tickets(120))


@pytest.fixture
def learner(masked: Path, cache: Path) -> TransformerLearner:
    recipe = Adaptation(steps=12, learning_rate=3e-3, batch_tokens=300)
    options = {"max_length": 24, "min_steps": 2, "max_steps": 2, "samples": 4, "precision": "float32", "device": "cpu"}
    return TransformerLearner(str(masked), adapt=recipe, **options)  # type: ignore[arg-type]


def fitted(learner, rows: Rows, **options):
    data, chosen = learner.prepare(rows), torch.arange(40)
    return data, learner.fit(data, chosen, rows.labels[chosen], seed=0, **options)


def stored(cache: Path) -> dict[str, torch.Tensor]:
    (folder,) = cache.glob("adapted/*/model")
    return {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}


class Heard(Monitor):
    def __init__(self) -> None:
        self.work: list[tuple[str, int]] = []
        self.done = 0

    def started(self, what: str, total: int) -> None:
        self.work.append((what, total))

    def advanced(self, count: int) -> None:
        self.done += count if self.work[-1][0] == "adaptation" else 0


def test_a_fit_starts_from_the_adapted_weights(learner, rows: Rows, cache: Path, masked: Path) -> None:
    still = replace(learner, learning_rate=1e-12, head_learning_rate=1e-12, weight_decay=0.0)
    heard = Heard()
    _, predictor = fitted(still, rows, monitor=heard)
    assert heard.work[0] == ("adaptation", 12)
    assert heard.done == 12
    assert isinstance(predictor, NetworkPredictor)
    state, adapted, before = predictor.module.model.state_dict(), stored(cache), load_file(masked / "model.safetensors")
    layers = [name for name in adapted if "encoder.layer" in name]
    assert len(layers) == 32
    for name in layers:
        torch.testing.assert_close(state[name], adapted[name], atol=1e-6, rtol=1e-5)
    assert sum(float((adapted[name] - before[name]).abs().max()) > 1e-4 for name in layers) > 16


def test_loss_before_and_after_is_in_the_notes(learner, rows: Rows, tmp_path: Path) -> None:
    data, predictor = fitted(replace(learner, adapt=replace(learner.adapt, steps=60)), rows)
    notes = predictor.training_notes["adapted"]
    distinct = len(set(rows.texts()))
    assert (notes["texts"], notes["held_out"]) == (distinct - distinct // 10, distinct // 10)
    assert notes["loss_after"] < notes["loss_before"]
    text = predictor.training_notes["text"]
    assert text.startswith(f"encoder adapted to {notes['texts']} texts in 60 steps, masked-token loss on ")
    assert f"{notes['loss_before']:.3f} before and {notes['loss_after']:.3f} after; head started at random" in text
    predictor.save(tmp_path / "model")
    assert learner.load(tmp_path / "model", data).training_notes == predictor.training_notes


def test_rounds_and_seeds_share_one_encoder(learner, rows: Rows, cache: Path, masked: Path) -> None:
    first, second = Heard(), Heard()
    data, predictor = fitted(learner, rows, monitor=first)
    learner.fit(data, torch.arange(60), rows.labels[:60], seed=7, previous=predictor, monitor=second)
    committee = CommitteeLearner(learner, members=2)
    fitted(committee, rows, monitor=second)
    assert [what for what, _ in first.work].count("adaptation") == 1
    assert "adaptation" not in {what for what, _ in second.work}
    assert len([entry for entry in cache_entries(cache) if entry.kind == "adapted"]) == 1


def test_label_free_outputs_are_those_of_the_model_itself(learner, rows: Rows, cache: Path) -> None:
    plain = replace(learner, adapt=None)
    data = plain.prepare(rows)
    names = {"embeddings", "surprisal"}
    expected = plain.untrained(data).outputs(data, names=names)
    adapted, predictor = fitted(learner, rows)
    for found in (learner.untrained(adapted).outputs(adapted, names=names), predictor.outputs(adapted, names=names)):
        assert torch.equal(found.embeddings, expected.embeddings)
        assert torch.equal(found.surprisal, expected.surprisal)
    assert len([entry for entry in cache_entries(cache) if entry.kind == "embeddings"]) == 1
    assert not torch.equal(predictor.outputs(adapted).logits, fitted(plain, rows)[1].outputs(data).logits)


def test_a_saved_model_needs_no_cache(learner, rows: Rows, cache: Path, tmp_path: Path) -> None:
    data, predictor = fitted(learner, rows)
    expected = predictor.outputs(data).logits
    predictor.save(tmp_path / "model")
    shutil.rmtree(cache)
    again = learner.load(tmp_path / "model", data)
    torch.testing.assert_close(again.outputs(data).logits, expected, atol=1e-5, rtol=1e-5)
    assert not (cache / "adapted").exists()


@pytest.mark.parametrize("pooled", [False, True])
def test_states_of_a_cached_trunk_are_those_of_the_adapted_encoder(
    learner, rows: Rows, cache: Path, tmp_path: Path, pooled: bool
) -> None:
    model = Path(shutil.copytree(learner.model, tmp_path / "bert"))
    if pooled:  # the start adds a layer that takes the mean over the tokens
        (model / "1_Pooling").mkdir()
        (model / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    cached = replace(learner, model=str(model), trunk="cached", layers=1)
    fitted(replace(cached, adapt=None), rows)
    data, predictor = fitted(cached, rows)
    assert isinstance(predictor.module, UpperLayers)
    assert predictor.module.lower_digest != cached._states.digest
    shown = sorted(entry.about for entry in cache_entries(cache) if entry.kind == "states")
    assert shown == [f"{model}, {how}below the upper 1 layers" for how in ("adapted in 12 steps, ", "")]
    expected = predictor.outputs(data).logits
    whole = replace(learner, model=str(model), precision="float32")
    predictor.save(tmp_path / "model")
    # The same network as a whole, which knows nothing of stored states.
    torch.testing.assert_close(
        whole.load(tmp_path / "model", data).outputs(data).logits, expected, atol=2e-2, rtol=2e-2
    )
    for kept in (True, False):
        if not kept:
            shutil.rmtree(cache)
        again = cached.load(tmp_path / "model", data)
        torch.testing.assert_close(again.outputs(data).logits, expected, atol=1e-5, rtol=1e-5)
        again.save(tmp_path / f"again-{kept}")
        assert (
            load_file(tmp_path / f"again-{kept}" / "model.safetensors").keys()
            == load_file(tmp_path / "model" / "model.safetensors").keys()
        )


def test_rows_of_another_learner_are_refused(learner) -> None:
    vectors = Rows.from_inputs(*material.clusters(20))
    from dal.learners.probe_learner import ProbeLearner

    data = ProbeLearner(model=None).prepare(vectors)
    with pytest.raises(LearnerError, match="prepared by another learner"):
        learner.fit(data, torch.arange(10), vectors.labels[:10], seed=0)


# -- the command -----------------------------------------------------------------------------------------------------


UNLABELED = ("--data.label", "null", "--data.classes", f"[{','.join(material.TOPICS)}]", "--data.test", "null")


def config_of(model: Path, **learner: object) -> str:
    options = {"model": str(model), "max_length": 24, "min_steps": 2, "max_steps": 2, **learner}
    return yaml.safe_dump(
        {
            "data": {"path": "tickets.csv", "test": 0.25},
            "learner": {"TransformerLearner": options},
            "strategy": "Margin",
            "baseline": None,
            "start": 10,
            "batch": 5,
            "rounds": 1,
            "measure_distances": False,
            "folder": "run",
        }
    )


def test_run_reports_the_losses_and_predicts_without_the_cache(
    with_tickets: Command, cache: Path, masked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("run.yaml").write_text(config_of(masked, adapt={"steps": 3}))
    ended = with_tickets("run", "run.yaml", "--learner.adapt.learning_rate", 1e-3)
    assert ended.code == 0, ended.err
    assert ended.out.count("encoder adapted to 41 texts in 3 steps, masked-token loss on 4 others") == 1
    lines = [json.loads(line) for line in Path("run/Margin-seed0/metrics.jsonl").read_text().splitlines()]
    assert [line["training"]["adapted"]["steps"] for line in lines] == [3, 3]
    assert lines[0]["training"]["adapted"] == lines[1]["training"]["adapted"]
    assert "encoder adapted to 41 texts in 3 steps" in Path("run/report.html").read_text(encoding="utf-8")
    stored_options = yaml.safe_load(Path("run/config.yaml").read_text())["learner"]["init_args"]["adapt"]
    assert stored_options == {"steps": 3, "learning_rate": 1e-3, "batch_tokens": 4096, "seed": 0}
    shutil.rmtree(cache)
    monkeypatch.setattr(adapted_encoders, "train_on_masks", lambda *args, **options: pytest.fail("was trained again"))
    Path("new.csv").write_text("text\nmy invoice is late\n")
    predicted = with_tickets("predict", "run", "new.csv", "-o", "out.csv")
    assert predicted.code == 0, predicted.err
    with package.load("run") as model:
        assert len(model.predict(["my invoice is late"])) == 1


class Killed(BaseException):
    """Ends the process as a kill does: nothing handles it."""


def test_a_killed_run_goes_on_with_the_same_encoder(
    with_tickets: Command, cache: Path, masked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("run.yaml").write_text(config_of(masked, adapt={"steps": 3}))
    assert with_tickets("run", "run.yaml", "--folder", "whole").code == 0
    before = stored(cache)
    fit = TransformerLearner.fit
    fits: list[int] = []

    def killed(self, data, rows, labels, **options):
        fits.append(len(rows))
        if len(rows) == 15:
            raise Killed
        return fit(self, data, rows, labels, **options)

    monkeypatch.setattr(TransformerLearner, "fit", killed)
    with pytest.raises(Killed):
        with_tickets("run", "run.yaml")
    monkeypatch.setattr(TransformerLearner, "fit", fit)
    assert with_tickets("run", "--resume", "run").code == 0
    assert all(torch.equal(value, before[name]) for name, value in stored(cache).items())
    lines = [
        [json.loads(line) for line in Path(name, "Margin-seed0/metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "run")
    ]
    for name in ("rows", "accuracy", "log_loss", "training"):
        assert [line[name] for line in lines[0]] == [line[name] for line in lines[1]], name


def test_a_model_without_a_head_ends_in_one_line_before_anything_is_written(
    with_tickets: Command, cache: Path, tiny_bert: Path
) -> None:
    Path("run.yaml").write_text(config_of(tiny_bert, adapt={"steps": 3}))
    for arguments in (
        ("run", "run.yaml"),
        ("compare", "run.yaml", "--strategies", "Random,Margin"),
        ("ask", "run", "--config", "run.yaml", "-n", 5, *UNLABELED),
    ):
        ended = with_tickets(*arguments)
        assert ended.code == 2, arguments
        (message,) = ended.messages
        assert "its files have no masked-language-model head" in message
        assert "or leave adapt out" in message
        assert not Path("run/config.yaml").exists()
    ended = with_tickets("ask", "run", "--config", "run.yaml", "-n", 5, *UNLABELED, "--learner.adapt", "null")
    assert ended.code == 0, ended.err


def test_check_names_a_model_without_a_head(with_tickets: Command, cache: Path, tiny_bert: Path) -> None:
    for data in ((), ("--data", "tickets.csv")):
        ended = with_tickets("check", "TransformerLearner", "--model", tiny_bert, "--adapt.steps", 3, *data)
        assert ended.code == 2
        assert "its files have no masked-language-model head" in ended.messages[-1]
        assert "Traceback" not in ended.err


def test_a_config_without_the_key_trains_as_before(with_tickets: Command, cache: Path, masked: Path) -> None:
    Path("run.yaml").write_text(config_of(masked))
    assert with_tickets("run", "run.yaml").code == 0
    stored_config = Path("run/config.yaml")
    text = stored_config.read_text()
    assert "    adapt: null\n" in text
    for file in (stored_config, Path("run/Margin-seed0/config.yaml")):
        file.write_text(file.read_text().replace("    adapt: null\n", ""))
    again = with_tickets("run", "run.yaml", "--rounds", 1)
    assert again.code == 0, again.err
    assert with_tickets("run", "--resume", "run").code == 0
    changed = with_tickets("run", "run.yaml", "--learner.adapt.steps", 3)
    assert (changed.code, "adapt" in changed.err) == (2, True)
    assert not (cache / "adapted").exists()
