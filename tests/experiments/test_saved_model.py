"""A model saved on its own: the same predictions elsewhere, a card that says what it is, and what cannot be saved."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import material
import pytest
import torch
from command import Command, asking, fill, probe, read_rows, running, write_tickets

import dal
from dal.errors import ConfigError, LearnerError
from dal.experiments.saved_model import SavedModel

TEXTS = material.tickets(25, seed=5)[0]

#: Loads a saved model in a process of its own and prints its predictions.
PROGRAM = """
import json, sys, dal
with dal.load(sys.argv[1]) as model:
    found = model.predict(json.loads(sys.argv[2]))
print(json.dumps([found.classes, found.probs.tolist()]))
"""


@pytest.fixture
def cli(with_tickets: Command) -> Command:
    write_tickets(Path("tickets.csv"), 160)
    return with_tickets


def taught(cli: Command, learner: str, *options: object) -> None:
    """Make a folder `mine` with 40 correct labels."""
    cli.configured(pool=asking(learner))
    assert cli("ask", "mine", "--config", "pool.yaml", "-n", 40, *options).code == 0
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    fill(Path("todo.csv"), [truth[row["id"]] for row in read_rows("todo.csv")])
    assert cli("tell", "mine", "todo.csv").code == 0


def transformer(model: Path, more: str = "") -> str:
    options = "learning_rate: 0.003, min_steps: 30, max_steps: 30, max_length: 32, precision: float32, samples: 2"
    return f"{{TransformerLearner: {{model: {model}, {options}{more}}}}}"


LEARNERS = {
    "tfidf": "TfidfLearner",
    "probe": "PROBE",
    "committee": "{CommitteeLearner: {learner: TfidfLearner, members: 3, bootstrap: true}}",
    "sklearn committee": "{SklearnCommittee: {model: BERT, max_length: 16, estimators: [logistic], repeats: 2}}",
    "transformer": "TRANSFORMER",
    "cached trunk": "TRUNK",
}


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("name", LEARNERS)
def test_saved_model_predicts_the_same_without_the_folder(
    cli: Command, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    learner = LEARNERS[name].replace("PROBE", probe(tiny_bert)).replace("BERT", str(tiny_bert))
    learner = learner.replace("TRANSFORMER", transformer(tiny_bert))
    taught(cli, learner.replace("TRUNK", transformer(tiny_bert, ", trunk: cached, layers: 1")))
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "model"
    with dal.load("mine") as model:
        before = model.predict(TEXTS)
        assert model.save(elsewhere) == elsewhere
    assert not [file for file in elsewhere.rglob("*") if file.suffix in (".pkl", ".bin", ".pt", ".joblib")]
    shutil.rmtree("mine")
    Path("tickets.csv").unlink()
    with dal.load(elsewhere) as model:
        assert isinstance(model, SavedModel)
        after = model.predict(TEXTS)
    tolerance = 2e-3 if name == "cached trunk" else 1e-6  # whose states are kept in float16
    assert torch.allclose(before.probs, after.probs, atol=tolerance)
    if name != "cached trunk":
        assert before.classes == after.classes
    if name in ("tfidf", "probe", "transformer"):
        command = [sys.executable, "-c", PROGRAM, str(elsewhere), json.dumps(TEXTS)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
        classes, probs = json.loads(ended.stdout)
        assert classes == after.classes
        assert torch.allclose(torch.tensor(probs, dtype=torch.float64), after.probs, atol=1e-6)


def test_a_saved_transformer_is_a_hugging_face_folder(cli: Command, tiny_bert: Path, tmp_path: Path) -> None:
    import transformers

    taught(cli, transformer(tiny_bert))
    with dal.load("mine") as model:
        model.save(tmp_path / "model")
        found = model.predict(TEXTS)
    classify = transformers.pipeline("text-classification", str(tmp_path / "model"), device="cpu")
    assert [each["label"] for each in classify(TEXTS)] == found.classes


def test_card_names_data_labels_figures_and_limits(cli: Command, tmp_path: Path) -> None:
    write_tickets(Path("tickets.csv"), 600)
    cli.configured(run=running(start=60, batch=10, rounds=1, report=False, baseline=None, quiet=True))
    assert cli("run", "run.yaml", "--data.validation", 0.5).code == 0
    with dal.load("runs/run") as model:
        model.save(tmp_path / "model")
        temperature, trust = model.temperature, model.trust
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\npipeline_tag: text-classification\n")
    assert "of which 70 have a label" in card
    assert "validation part: 210 labeled texts" in card
    assert "Labels came from the labels in the data (70)." in card
    assert "selected in 2 rounds by `Random` (60), `Margin` (10), so they are no random sample" in card
    assert all(f"| {name} | " in card for name in material.TOPICS)
    assert trust.splitlines()[1].capitalize()[:12] in card
    assert f"a temperature of {temperature:.3g}, fitted to 52 rows of the validation part" in card
    assert "Nothing tells whether new texts are." in card
    assert f"torch {torch.__version__}" in card
    text = material.tickets(600)[0][0]
    assert text not in card + (tmp_path / "model" / "dal_model.json").read_text()
    with dal.load(tmp_path / "model") as saved:
        assert (saved.temperature, saved.trust) == (temperature, trust)


def test_multilabel_thresholds_pairs_and_descriptions_come_along(cli: Command, tiny_bert: Path, tmp_path: Path) -> None:
    rows = read_rows("tickets.csv")
    lines = ["id,text,second,label"]
    lines += [f"{r['id']},{r['text']},so,{r['label']}" + (";urgent" if i % 3 else "") for i, r in enumerate(rows)]
    Path("tickets.csv").write_text("\n".join(lines) + "\n")
    cli.configured(run=running(probe(tiny_bert), start=60, rounds=0, report=False, baseline=None, quiet=True))
    options = ["--data.multilabel", "true", "--data.text_pair", "second", "--data.descriptions.urgent", "in a hurry"]
    ended = cli("run", "run.yaml", *options)
    assert ended.code == 0, ended.err
    pairs = [(text, "so") for text in TEXTS]
    with dal.load("runs/run") as model:
        before = model.predict(pairs)
        model.save(tmp_path / "model")
    with dal.load(tmp_path / "model") as saved:
        after = saved.predict(pairs)
        assert saved.multilabel
        with pytest.raises(dal.DalError, match="pairs of texts"):
            saved.predict(TEXTS)
    assert before.classes == after.classes
    assert torch.allclose(before.probs, after.probs, atol=1e-6)
    assert "A class is assigned from this probability on" in (tmp_path / "model" / "README.md").read_text()


def test_what_cannot_be_saved_or_replaced_is_said_in_one_line(cli: Command, tmp_path: Path) -> None:
    taught(cli, "TfidfLearner")
    with dal.load("mine") as model:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file").write_text("mine")
        with pytest.raises(ConfigError, match="already exists, and is no saved model"):
            model.save(tmp_path / "other")
        model.save(tmp_path / "model")
        with pytest.raises(ConfigError, match="already holds a saved model"):
            model.save(tmp_path / "model")
        model.save(tmp_path / "model", force=True)
    write_tickets(Path("new.csv"), 5)
    assert len(cli("predict", tmp_path / "model", "new.csv").out.splitlines()) == 6
    recipe = tmp_path / "model" / "dal_model.json"
    stored = json.loads(recipe.read_text())
    recipe.write_text(json.dumps(stored | {"format": 2}))
    with pytest.raises(ConfigError, match="newer version"):
        dal.load(tmp_path / "model")
    recipe.write_text("{")
    with pytest.raises(LearnerError, match="missing or damaged"):
        dal.load(tmp_path / "model")
    hostile = stored | {"learner": {"class_path": "os.system", "init_args": {"command": "true"}}}
    recipe.write_text(json.dumps(hostile))
    with pytest.raises(dal.DalError, match="learner"):
        dal.load(tmp_path / "model")
    client = {"class_path": "OpenAIClient", "init_args": {"model": "x", "base_url": "http://127.0.0.1:9/v1"}}
    prompted = {"class_path": "LLMLearner", "init_args": {"client": client}}
    for learner in (prompted, {"class_path": "CommitteeLearner", "init_args": {"learner": prompted}}):
        recipe.write_text(json.dumps(stored | {"learner": learner}))
        with pytest.raises(ConfigError, match="names LLMLearner, which no saved model has"):
            dal.load(tmp_path / "model")
    for damage in ({"columns": {"text": {"a": 1}}}, {"temperature": 1e-320}, {"learner": {"init_args": [1]}}):
        recipe.write_text(json.dumps(stored | damage))
        with pytest.raises(LearnerError, match="missing or damaged"):
            dal.load(tmp_path / "model")


def test_a_model_without_labels_is_not_saved(cli: Command, tiny_bert: Path, tmp_path: Path) -> None:
    cli.configured(pool=asking(probe(tiny_bert)))
    assert cli("ask", "mine", "--config", "pool.yaml", "-n", 5).code == 0
    with dal.load("mine") as model, pytest.raises(ConfigError, match="nothing is labeled yet"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
