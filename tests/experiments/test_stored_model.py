"""`dal.load`: the model of a folder in Python."""

import sys
from pathlib import Path

import material
import pytest
import torch
from command import Command, asking, fill, probe, read_rows, running, write_tickets

import dal
from dal.config import allowed_code
from dal.errors import ConfigError, DataError, SessionError
from dal.experiments import known_accuracy
from dal.experiments.stored_model import find, open_model
from dal.store.folder_lock import held

TEXTS = ["my parcel is late", "the invoice is wrong", "my parcel is late"]


@pytest.fixture
def run(with_tickets: Command) -> Command:
    """The command, with a finished run of two cells in `runs/run`, with a validation part."""
    write_tickets(Path("tickets.csv"), 450)
    with_tickets.configured(run=running(start=50, batch=5, rounds=0, report=False, quiet=True), pool=asking())
    assert with_tickets("run", "run.yaml", "--data.validation", 0.3).code == 0
    return with_tickets


def test_model_of_a_folder_predicts_texts_as_the_command_does(run: Command) -> None:
    write_tickets(Path("new.csv"), 40, labels=False, seed=3)
    assert run("predict", "runs/run", "new.csv", "-o", "out.csv").code == 0
    with dal.load("runs/run") as model:
        found = model.predict([row["text"] for row in read_rows("new.csv")])
        classes, trust = model.classes, model.trust
    written = read_rows("out.csv")
    assert classes == tuple(sorted(material.TOPICS))
    assert found.classes == [row["class"] for row in written]
    assert found.confidence.tolist() == pytest.approx([float(row["confidence"]) for row in written], abs=1e-6)
    assert found.probs.shape == (len(found), 4) == (40, 4)
    assert torch.allclose(found.probs.sum(1), torch.ones(40, dtype=torch.float64))
    assert [classes[code] for code in found.probs.argmax(1).tolist()] == found.classes
    assert torch.equal(found.probs.amax(1), found.confidence)
    first, second = trust.splitlines()
    assert first == "runs/run/Margin-seed0: TfidfLearner, trained on 50 labels; every class has a label"
    assert "rows of the validation part" in second
    assert trust.splitlines() == [line.removeprefix("dal: ") for line in run("predict", "runs/run", "new.csv").messages]


def test_probabilities_are_those_of_the_logits_divided_by_the_temperature(run: Command) -> None:
    with dal.load(Path("runs/run"), cell="Random-seed0") as model:
        found = model.predict(TEXTS)
        prepared = model.session.learner.prepare(dal.Rows.from_inputs(TEXTS, classes=model.classes))
        logits = model.predictor.outputs(prepared).logits.double()
        assert model.temperature != 1
        assert torch.allclose(found.probs, (logits / model.temperature).softmax(1))
        assert torch.equal(found.probs[0], found.probs[2])


def test_an_empty_list_gives_no_predictions(run: Command) -> None:
    with dal.load("runs/run") as model:
        found = model.predict([])
    assert (found.classes, found.confidence.shape, found.probs.shape) == ([], (0,), (0, 4))


@pytest.mark.parametrize("given", ["a text", [1, 2], [("a", "b")], ["a", None], None], ids=str)
def test_what_is_no_list_of_texts_is_refused(run: Command, given: object) -> None:
    with dal.load("runs/run") as model, pytest.raises(DataError):
        model.predict(given)  # type: ignore[arg-type]


def test_a_column_of_a_table_is_taken(run: Command) -> None:
    import pandas

    with dal.load("runs/run") as model:
        assert model.predict(pandas.Series(TEXTS, index=[7, 8, 9])).classes == model.predict(TEXTS).classes  # type: ignore[arg-type]


def test_pairs_are_predicted_by_a_model_of_pairs(run: Command) -> None:
    rows = [[row["id"], row["text"], "so", row["label"]] for row in read_rows("tickets.csv")]
    text = "\n".join(",".join(row) for row in [["id", "text", "second", "label"], *rows])
    Path("tickets.csv").write_text(text + "\n")
    assert run("run", "run.yaml", "--folder", "pairs", "--data.text_pair", "second", "--baseline", "null").code == 0
    with dal.load("pairs") as model:
        assert len(model.predict([("my parcel is late", "so"), ("the invoice", "so")])) == 2
        with pytest.raises(DataError, match="predicts pairs of texts"):
            model.predict(TEXTS)


def test_several_classes_have_the_confidence_of_the_least_certain_decision(run: Command) -> None:
    assert run("run", "run.yaml", "--folder", "many", "--data.multilabel", "true", "--baseline", "null").code == 0
    with dal.load("many") as model:
        found = model.predict(TEXTS)
    for names, confidence, probs in zip(found.classes, found.confidence, found.probs, strict=True):
        assert names == [name for name, p in zip(model.classes, probs.tolist(), strict=True) if p > 0.5]
        assert confidence == torch.maximum(probs, 1 - probs).min()


def test_folder_is_read_while_another_process_works_there(run: Command) -> None:
    with dal.load("runs/run") as model:
        free = model.predict(TEXTS)
    with held(Path("runs/run/Margin-seed0")), dal.load("runs/run") as model, dal.load("runs/run") as other:
        assert model.predict(TEXTS).classes == other.predict(TEXTS).classes == free.classes


def test_model_that_is_read_takes_no_answers(run: Command) -> None:
    with dal.load("runs/run") as model:
        row = int(model.session.unasked_rows[0])
        for call in (lambda: model.session.tell([row], [model.classes[0]], correct=True), lambda: model.session.ask(1)):
            with pytest.raises(SessionError, match="was opened to read its model"):
                call()


def answered(run: Command, learner: str) -> None:
    """Make the folder `mine` of `dal ask` with 30 labels, whose model is not trained yet."""
    run.configured(pool=asking(learner))
    assert run("ask", "mine", "--config", "pool.yaml", "-n", 30, "-o", "todo.csv").code == 0
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    fill(Path("todo.csv"), [truth[row["id"]] for row in read_rows("todo.csv")])
    assert run("tell", "mine", "todo.csv").code == 0


def test_model_that_is_not_trained_yet_is_stored_only_in_a_free_folder(with_tickets: Command) -> None:
    answered(with_tickets, "TfidfLearner")
    with held(Path("mine")), dal.load("mine") as model:
        in_memory = model.predict(TEXTS)
    assert not Path("mine/model").exists()
    with dal.load("mine") as model:
        assert torch.equal(model.predict(TEXTS).probs, in_memory.probs)
    assert Path("mine/model/trained_on.json").exists()


def test_warm_start_goes_on_from_the_stored_model(with_tickets: Command, tiny_bert: Path) -> None:
    answered(
        with_tickets, f"{{TransformerLearner: {{model: {tiny_bert}, warm_start: true, epochs: 1, max_length: 8}}}}"
    )
    with open_model(find(Path("mine"))) as model:  # trained and stored, then there are further labels
        first = model.session.predictor
        model.session.tell(model.session.ask(1), ["billing"])
        assert first is not model.session.predictor
    with held(Path("mine")), dal.load("mine") as model:
        expected = model.predict(TEXTS)
    with open_model(find(Path("mine"))) as model:
        assert torch.equal(model.predict(TEXTS).probs, expected.probs)


def test_folders_without_a_model_are_refused(run: Command) -> None:
    with pytest.raises(ConfigError, match="there is no folder nowhere"):
        dal.load("nowhere")
    with pytest.raises(ConfigError, match="did you mean Margin-seed0"):
        dal.load("runs/run", "Margn-seed0")
    assert run("ask", "mine", "--config", "pool.yaml", "-n", 5, "-o", "todo.csv").code == 0
    with dal.load("mine") as model, pytest.raises(SessionError, match="nothing is labeled yet"):
        model.predict(TEXTS)


def test_time_that_embeddings_took_does_not_prevent_cross_validation(with_tickets: Command, tiny_bert: Path) -> None:
    answered(with_tickets, probe(tiny_bert))
    with dal.load("mine") as model:
        _ = model.predictor
        model.session._model.fit_seconds = 1000.0  # type: ignore[attr-defined]  # as of a large pool
        assert "by 5-fold cross-validation on the 30 labels" in model.trust


def test_first_fold_of_a_slow_learner_is_given_up(
    with_tickets: Command, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(with_tickets, probe(tiny_bert))
    monkeypatch.setattr(known_accuracy, "MAX_FIT_SECONDS", 0.0)
    with dal.load("mine") as model:
        assert model.trust.endswith("the accuracy is not known: `dal ask mine --check 100` measures it")


def test_slow_learners_are_not_cross_validated(with_tickets: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(with_tickets, "TfidfLearner")
    with dal.load("mine") as model:
        assert "by 5-fold cross-validation on the 30 labels" in model.trust
    monkeypatch.setattr(known_accuracy, "MAX_FIT_SECONDS", 0.0)
    with dal.load("mine") as model:
        assert model.trust.endswith("the accuracy is not known: `dal ask mine --check 100` measures it")


LEARNER = """
from dal import TfidfLearner

PREPARED = []


class Words(TfidfLearner):
    def prepare(self, data):
        PREPARED.append(data)
        return super().prepare(data)
"""


def test_config_names_code_that_the_program_has_imported_and_no_other(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder is on the import path of an interactive Python, and may be a stranger's."""
    Path("own_words.py").write_text(LEARNER)
    given = ("--learner", "{class_path: own_words.Words}", "--data.descriptions", "{billing: invoices and refunds}")
    assert run("run", "run.yaml", "--folder", "own", *given, "--baseline", "null").code == 0
    monkeypatch.syspath_prepend("")
    before = list(sys.path)
    with pytest.raises(ConfigError, match=r"own_words\.Words is not in an installed package"):
        dal.load("own")
    assert "own_words" not in sys.modules
    assert (sys.path, allowed_code._folder) == (before, None)
    import own_words  # type: ignore[import-not-found]

    with dal.load("own") as model:
        assert type(model.session.learner) is own_words.Words
        assert len(model.predict(TEXTS)) == 3
        pool, [new] = model.session.pool, [rows for rows in own_words.PREPARED if len(rows) == 3]
    assert (new.texts(), new.classes, new.described) == (TEXTS, pool.classes, pool.described)
    assert ("invoices and refunds",) in new.described
    assert not new.known.any()
    del sys.modules["own_words"]
