"""`dal predict`: the classes of new texts by every kind of learner, in the order of the file, and what is refused."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import material
import pytest
from command import Command, Finished, asking, fill, probe, read_rows, running, write_tickets
from llm_server import Hit, Server, message

from dal.store.folder_lock import Lock
from dal.store.spreadsheet import original

CLASSES = tuple(material.TOPICS)

#: A learner of user code in the current folder: a `ModuleLearner` on counts of the words of the tickets.
BAG = """
import material
import torch
from dataclasses import dataclass
from dal import ModuleLearner
from dal.learners.training.tensor_rows import TensorPrepared
from dal.modules.linear import LinearClassifier

WORDS = sorted({word for nouns, states in material.TOPICS.values() for word in (*nouns, *states)})


class Linear(LinearClassifier):
    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__(len(WORDS), classes, multilabel=multilabel, learning_rate=0.05)


@dataclass(frozen=True)
class BagLearner(ModuleLearner):
    def prepare(self, data):
        counts = [[float(text.split().count(word)) for word in WORDS] for text in data.texts()]
        return TensorPrepared(torch.tensor(counts).reshape(-1, len(WORDS)), data.classes, data.multilabel)

    def check_rows(self, data):
        pass
"""


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    """The command, in a folder with 160 labeled `tickets.csv` and 30 others in `new.csv`, without labels."""
    write_tickets(Path("tickets.csv"), 160)
    write_tickets(Path("new.csv"), 30, labels=False, seed=7)
    return with_tickets


def taught(dal: Command, learner: str, *options: object, labels: int = 40) -> None:
    """Make a folder `mine` with a learner and correct labels."""
    dal.configured(pool=asking(learner))
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", labels, "-o", "todo.csv", *options).code == 0
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    fill(Path("todo.csv"), [truth[row["id"]] for row in read_rows("todo.csv")])
    ended = dal("tell", "mine", "todo.csv", *(("--allow-code", ".") if "bag" in learner else ()))
    assert ended.code == 0, ended.err


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def check_refused(ended: Finished, *parts: str) -> None:
    """One line, exit code 2, nothing on stdout."""
    assert (ended.code, ended.out, len(ended.messages)) == (2, "", 1), ended
    assert ended.messages[0].startswith("dal: error: ")
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.messages[0], ended.messages[0]


# -- what is predicted ---------------------------------------------------------------------------------------------


def transformer(model: Path) -> str:
    options = "learning_rate: 0.003, min_steps: 60, max_steps: 60, max_length: 32, precision: float32, samples: 2"
    return f"{{TransformerLearner: {{model: {model}, {options}}}}}"


BERT = "BERT"
LEARNERS = {
    "probe": f"{{ProbeLearner: {{model: {BERT}, max_length: 16}}}}",
    "tfidf": "TfidfLearner",
    "committee": "{CommitteeLearner: {learner: TfidfLearner, members: 3, bootstrap: true}}",
    "sklearn committee": f"{{SklearnCommittee: {{model: {BERT}, max_length: 16, estimators: [logistic], repeats: 2}}}}",
    "module of user code": "{class_path: bag.BagLearner, init_args: {build: bag.Linear, min_steps: 60}}",
}


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_predicts_each_row_of_the_file_in_order(dal: Command, tiny_bert: Path, learner: str) -> None:
    Path("bag.py").write_text(BAG)
    taught(dal, LEARNERS[learner].replace(BERT, str(tiny_bert)))
    code = ("--allow-code", ".") if "user" in learner else ()
    ended = dal("predict", "mine", "new.csv", *code)
    assert ended.code == 0, ended.err
    rows = table(ended.out)
    assert list(rows[0]) == ["id", "class", "confidence"]
    assert [row["id"] for row in rows] == [f"t{i}" for i in range(30)]
    assert {row["class"] for row in rows} <= set(CLASSES)
    assert all(0.25 <= float(row["confidence"]) <= 1 for row in rows)
    truth = material.tickets(30, seed=7)[1]
    right = sum(row["class"] == name for row, name in zip(rows, truth, strict=True))
    assert right >= (9 if BERT in LEARNERS[learner] else 14)  # of 30; chance is 7.5, and the encoder is random
    assert ended.messages[0].endswith("trained on 40 labels; every class has a label")
    assert re.match(r"dal: accuracy [\d.]+ \(95 % interval [\d.]+ to [\d.]+\) by 5-fold", ended.messages[1])
    again = dal("predict", "mine", "new.csv", "-o", "out.csv", *code)  # by the model that was saved
    assert (again.code, again.out, again.messages) == (0, "", [*ended.messages, "dal: written: out.csv"])
    assert Path("out.csv").read_text(encoding="utf-8-sig") == ended.out


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*isinstance.treespec, LeafSpec")
def test_a_saved_transformer_predicts_the_same_in_a_pipeline(dal: Command, tiny_bert: Path) -> None:
    import transformers

    taught(dal, transformer(tiny_bert))
    rows = table(dal("predict", "mine", "new.csv").out)
    classify = transformers.pipeline("text-classification", "mine/model", device="cpu")
    found = classify([row["text"] for row in read_rows("new.csv")])
    assert [row["class"] for row in rows] == [each["label"] for each in found]
    assert [float(row["confidence"]) for row in rows] == pytest.approx([each["score"] for each in found], abs=1e-5)
    assert len({row["class"] for row in rows}) > 1


def test_held_out_labels_calibrate_as_for_autolabel_and_measure_the_accuracy(dal: Command) -> None:
    write_tickets(Path("tickets.csv"), 600)
    dal.configured(run=running(start=60, batch=10, rounds=0, report=False, baseline=None, quiet=True))
    assert dal("run", "run.yaml", "--data.validation", 0.5).code == 0
    automatic = dal("autolabel", "runs/run", "--max-error", 0.3, "-o", "auto.csv")
    sheet = read_rows("auto.csv")
    with open("rest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *([row["id"], row["text"]] for row in sheet)])
    ended = dal("predict", "runs/run", "rest.csv")
    assert [(row["id"], row["class"]) for row in table(ended.out)] == [(row["id"], row["guess"]) for row in sheet]
    confidence = [float(row["confidence"]) for row in table(ended.out)]
    assert confidence == pytest.approx([float(row["confidence"]) for row in sheet], abs=1e-6)
    [scale] = re.findall(r"the temperature \(([\d.]+)\)", automatic.out)
    assert float(scale) != 1
    assert ended.messages[0].startswith("dal: runs/run/Margin-seed0: TfidfLearner, trained on 60 labels")
    [rows] = re.findall(r"on (\d+) rows of the validation part", ended.messages[1])
    assert int(rows) == round(600 * 0.7 * 0.5)


def test_a_cell_is_chosen_and_the_test_part_measures_it(dal: Command) -> None:
    dal.configured(run=running(start=30, batch=10, rounds=0, report=False, quiet=True))
    assert dal("run", "run.yaml").code == 0
    ended = dal("predict", "runs/run", "new.csv", "--cell", "Random-seed0")
    assert ended.messages[0].startswith("dal: runs/run/Random-seed0: ")
    assert "on 48 rows of the test part" in ended.messages[1]
    lines = [json.loads(line) for line in Path("runs/run/Random-seed0/metrics.jsonl").read_text().splitlines()]
    assert f"accuracy {lines[-1]['accuracy']:.3f} " in ended.messages[1]
    check_refused(dal("predict", "runs/run", "new.csv", "--cell", "Randm-seed0"), "did you mean Random-seed0?")


def test_an_answered_sample_is_the_best_estimate_until_labels_are_added(dal: Command) -> None:
    taught(dal, "TfidfLearner")
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    assert dal("estimate", "mine", "-n", 60, "-o", "check.csv").code == 0
    fill(Path("check.csv"), [truth[row["id"]] for row in read_rows("check.csv")])
    [shown] = re.findall(r"accuracy ([\d.]+), 95 %", dal("estimate", "mine", "check.csv").out)
    found = dal("predict", "mine", "new.csv").messages[1]
    assert found.startswith(f"dal: accuracy {shown} (95 % interval ")
    assert "of this model on the 120 texts of the pool without a label, from 60 answers" in found
    assert dal("ask", "mine", "-n", 1, "-o", "more.csv").code == 0
    fill(Path("more.csv"), [truth[row["id"]] for row in read_rows("more.csv")])
    assert dal("tell", "mine", "more.csv").code == 0
    assert f"accuracy {shown} (95 % interval" in dal("predict", "mine", "new.csv").messages[1]
    assert "of an earlier model, with 40 labels, on" in dal("predict", "mine", "new.csv").messages[1]


def test_classes_without_a_label_and_an_unknown_accuracy_are_said(dal: Command) -> None:
    taught(dal, "TfidfLearner", "--data.classes", "[access,billing,feedback,shipping,refund,other]", labels=9)
    ended = dal("predict", "mine", "new.csv")
    missing = re.search(r"trained on 9 labels; no label for (.*)$", ended.messages[0])
    assert missing, ended.messages
    assert missing[1].endswith("refund, other")
    assert ended.messages[1] == "dal: the accuracy is not known: `dal ask mine --check 100` measures it"


# -- language models -----------------------------------------------------------------------------------------------


def reply(server: Server, hit: Hit) -> dict[str, Any]:
    """A response with the topic whose noun is in the text; one that cannot be parsed for a text about a design."""
    text = hit.prompt.partition("</text>")[0]
    found = [name for name, (nouns, _) in material.TOPICS.items() if any(noun in text for noun in nouns)]
    response = message(server, hit)
    response["content"][0]["input"] = {"label": "?" if "design" in text else found[0], "confidence": 90}
    return response


@pytest.fixture
def model(dal: Command, server: Server, tmp_path: Path) -> Server:
    """A folder `mine` without labels, whose learner is a language model on the server with a cap."""
    server.forms["/v1/messages"] = reply
    settings = f"base_url: {server.url}, cache: {tmp_path / 'replies.db'}, cap: 1.0, retries: 0"
    dal.configured(pool=asking(f"{{LLMLearner: {{client: {{AnthropicClient: {{{settings}}}}}}}}}"))
    given = ("--data.descriptions", "{billing: invoices and refunds}")
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 5, "-o", "todo.csv", *given).code == 0
    assert not server.hits
    return server


@pytest.mark.filterwarnings("ignore:.*could not be parsed")
def test_a_language_model_predicts_without_labels_and_each_text_is_bought_once(dal: Command, model: Server) -> None:
    ended = dal("predict", "mine", "new.csv")
    assert ended.code == 0, ended.err
    texts = [row["text"] for row in read_rows("new.csv")]
    rows, truth = table(ended.out), material.tickets(30, seed=7)[1]
    lost = ["design" in text for text in texts]
    assert any(lost)
    assert [row["class"] for row in rows] == ["" if gone else name for name, gone in zip(truth, lost, strict=True)]
    assert {row["confidence"] for row, gone in zip(rows, lost, strict=True) if gone} == {"0.25"}
    sure = [float(row["confidence"]) for row, gone in zip(rows, lost, strict=True) if not gone]
    assert sure == pytest.approx([0.9] * len(sure), abs=1e-4)
    assert "dal: mine: LLMLearner without any labels" in ended.messages
    assert "dal: the accuracy is not known: `dal ask mine --check 100` measures it" in ended.messages
    assert f"{sum(lost)} of 30 responses of the language model could not be parsed" in ended.messages[-1]
    assert len(model.hits) == len(set(texts))
    assert "- billing: invoices and refunds\n" in model.hits[0].body["system"][0]["text"]
    assert dal("predict", "mine", "new.csv").out == ended.out
    assert len(model.hits) == len(set(texts))


@pytest.mark.filterwarnings("ignore:.*could not be parsed")
def test_the_cap_of_a_language_model_holds(dal: Command, model: Server) -> None:
    config = Path("mine/config.yaml").read_text()
    assert config.count("cap: 1.0") == 1
    Path("mine/config.yaml").write_text(config.replace("cap: 1.0", "cap: 0.000001"))
    ended = dal("predict", "mine", "new.csv", "-o", "out.csv")
    assert (ended.code, "the cap of $" in ended.err, model.hits) == (2, True, [])
    check_refused(ended)
    assert not Path("out.csv").exists()


def test_any_learner_whose_untrained_model_has_logits_predicts_without_labels(dal: Command) -> None:
    """`WordLabeler` is no `LLMLearner`; it is wrong nowhere, and has no readable answer for some texts."""
    dal.configured(pool=asking("{labelers.WordLabeler: {mute: 0.2}}"))
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 5, "-o", "todo.csv").code == 0
    ended = dal("predict", "mine", "new.csv")
    assert ended.code == 0, ended.err
    found = [row["class"] for row in table(ended.out)]
    truth = material.tickets(30, seed=7)[1]
    assert 0 < found.count("") < 15
    assert all(name in ("", label) for name, label in zip(found, truth, strict=True))


def test_proposed_labels_that_the_model_was_trained_on_are_counted(dal: Command) -> None:
    weak = "weak_labels: {labeler: {labelers.WordLabeler: {unsure: 0.3}}, rows: 60}\n"
    dal.configured(pool=asking() + weak)
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 5, "-o", "todo.csv").code == 0
    ended = dal("predict", "mine", "new.csv")
    assert ended.code == 0, ended.err
    assert re.search(r"trained on 0 labels and \d\d proposed labels; every class has a label$", ended.messages[0])
    assert "the accuracy is not known" in ended.messages[1]


# -- class descriptions --------------------------------------------------------------------------------------------

TOPICS = "{billing: invoice charge refund, access: login password, shipping: parcel delivery, feedback: idea design}"


def unlabeled(dal: Command, learner: str, *options: object) -> None:
    """Make a folder `mine` with a first batch of questions, and no answers."""
    dal.configured(pool=asking(learner))
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 5, "-o", "todo.csv", *options).code == 0


def test_a_probe_predicts_without_labels_from_the_class_descriptions(dal: Command, tiny_bert: Path) -> None:
    learner = LEARNERS["probe"].replace(BERT, str(tiny_bert))
    unlabeled(dal, learner, "--data.descriptions", TOPICS)
    ended = dal("predict", "mine", "new.csv")
    assert ended.code == 0, ended.err
    assert ended.messages == [
        "dal: mine: ProbeLearner without any labels, from the class descriptions alone",
        "dal: the accuracy is not known: `dal ask mine --check 100` measures it",
    ]
    rows = table(ended.out)
    assert len({row["class"] for row in rows}) > 1
    assert all(0.25 <= float(row["confidence"]) < 1 for row in rows)
    again = dal("ask", "mine", "--config", "pool.yaml", "--data.descriptions", "{access: a parcel}", "-o", "more.csv")
    assert again.code == 0, again.err
    assert dal("predict", "mine", "new.csv").out != ended.out


def test_held_out_labels_measure_predictions_from_descriptions(dal: Command, tiny_bert: Path) -> None:
    unlabeled(dal, LEARNERS["probe"].replace(BERT, str(tiny_bert)), "--data.descriptions", TOPICS)
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    assert dal("estimate", "mine", "-n", 60, "--random", "-o", "check.csv").code == 0
    fill(Path("check.csv"), [truth[row["id"]] for row in read_rows("check.csv")])
    [shown] = re.findall(r"accuracy ([\d.]+), 95 %", dal("estimate", "mine", "check.csv").out)
    ended = dal("predict", "mine", "new.csv")
    assert ended.messages[0].endswith("without any labels, from the class descriptions alone")
    assert ended.messages[1].startswith(f"dal: accuracy {shown} (95 % interval ")


def test_a_class_without_a_description_is_named(dal: Command, tiny_bert: Path) -> None:
    learner = LEARNERS["probe"].replace(BERT, str(tiny_bert))
    unlabeled(dal, learner, "--data.classes", "[access,billing,feedback,shipping,B2]")
    ended = dal("predict", "mine", "new.csv")
    assert ended.messages[0].endswith("from the class descriptions alone; no description for B2")


def test_classes_that_are_all_codes_need_descriptions_or_labels(dal: Command, tiny_bert: Path) -> None:
    unlabeled(dal, LEARNERS["probe"].replace(BERT, str(tiny_bert)), "--data.classes", "[B1,B2,B3]")
    check_refused(dal("predict", "mine", "new.csv"), "describe them (data.descriptions), or label some rows")


# -- files ---------------------------------------------------------------------------------------------------------


def write(name: str, rows: Sequence[Sequence[str]]) -> None:
    with open(name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def words(dal: Command) -> Command:
    taught(dal, "TfidfLearner")
    return dal


@pytest.mark.filterwarnings("default:.*rows with an empty text were skipped")
def test_duplicates_keep_their_lines_and_hashes_are_the_ids_of_the_pool(words: Command) -> None:
    write("plain.csv", [["text"], ["my parcel is late"], ["the invoice is wrong"], ["my parcel is late"], ["  "]])
    ended = words("predict", "mine", "plain.csv")
    assert "dal: warning: plain.csv: 1 rows with an empty text were skipped" in ended.messages
    rows = table(ended.out)
    assert [row["id"].partition("-")[2] for row in rows] == ["", "", "2"]
    assert rows[0]["id"] + "-2" == rows[2]["id"]
    assert all(re.fullmatch(r"[0-9a-f]{16}(-2)?", row["id"]) for row in rows)
    assert rows[0]["class"] == rows[2]["class"]


def test_columns_and_separators_are_named_or_found(words: Command) -> None:
    truth = [(row["id"], row["text"]) for row in read_rows("new.csv")]
    expected = words("predict", "mine", "new.csv").out
    write("body.csv", [["key", "body", "label"], *([name, text, "unheard of"] for name, text in truth)])
    assert words("predict", "mine", "body.csv", "--text", "body", "--id", "key").out == expected
    lines = [f"{name}^{text}\n" for name, text in truth]
    Path("hat.csv").write_text("id^text\n" + "".join(lines))
    assert words("predict", "mine", "hat.csv", "--delimiter", "^").out == expected
    Path("new.jsonl").write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in truth))
    assert words("predict", "mine", "new.jsonl").out == expected
    Path("new.tsv").write_text("id\ttext\n" + "".join(f"{name}\t{text}\n" for name, text in truth))
    assert words("predict", "mine", "new.tsv").out == expected


def test_parquet_is_read(words: Command) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = read_rows("new.csv")
    columns = {name: [row[name] for row in rows] for name in ("id", "text")}
    parquet.write_table(pyarrow.table(columns), "new.parquet")
    assert words("predict", "mine", "new.parquet").out == words("predict", "mine", "new.csv").out


def test_formulas_and_other_alphabets_survive_in_classes_and_ids(dal: Command) -> None:
    names = {"billing": "=SUM(A1)", "access": "Zugriff für 東京", "shipping": "-1", "feedback": "a,b"}
    rows = read_rows("tickets.csv")
    write("tickets.csv", [["id", "text", "label"], *([row["id"], row["text"], names[row["label"]]] for row in rows)])
    dal.configured(run=running(start=40, batch=5, rounds=0, report=False, baseline=None, quiet=True))
    assert dal("run", "run.yaml").code == 0
    new = read_rows("new.csv")
    write("new.csv", [["id", "text"], *([f"@{i} é🙂", row["text"]] for i, row in enumerate(new))])
    assert dal("predict", "runs/run", "new.csv", "-o", "out.csv").code == 0
    written = read_rows("out.csv")
    assert {row["class"] for row in written} <= {"'=SUM(A1)", "Zugriff für 東京", "'-1", "a,b"}
    assert {original(row["class"]) for row in written} == set(names.values())
    assert [original(row["id"]) for row in written] == [f"@{i} é🙂" for i in range(30)]
    assert all(row["id"].startswith("'@") for row in written)


def test_several_classes_are_joined_and_the_least_certain_decision_counts(dal: Command) -> None:
    rows = read_rows("tickets.csv")
    names = [";" if row["label"] == "feedback" else row["label"] for row in rows]
    both = [f"{name};present" if "is" in row["text"].split() else name for name, row in zip(names, rows, strict=True)]
    write("tickets.csv", [["id", "text", "label"], *([r["id"], r["text"], b] for r, b in zip(rows, both, strict=True))])
    dal.configured(run=running(start=100, batch=5, rounds=0, report=False, baseline=None, quiet=True))
    assert dal("run", "run.yaml", "--data.multilabel", "true").code == 0
    ended = dal("predict", "runs/run", "new.csv")
    assert ended.code == 0, ended.err
    classes = {row["class"] for row in table(ended.out)}
    assert "none" in classes
    assert any("|" in name for name in classes), classes
    assert all(0.5 <= float(row["confidence"]) <= 1 for row in table(ended.out))


# -- what is refused -----------------------------------------------------------------------------------------------


def test_a_folder_without_labels_says_what_to_do(dal: Command) -> None:
    dal.configured(pool=asking())
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 5, "-o", "todo.csv").code == 0
    check_refused(dal("predict", "mine", "new.csv"), "nothing is labeled yet", "dal ask mine", "dal tell mine FILE")


def test_a_folder_without_a_model_is_refused(dal: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_refused(dal("predict", "nowhere", "new.csv"), "there is no folder nowhere")
    check_refused(dal("predict", "empty", "new.csv"), "has no config.yaml")
    check_refused(dal("predict", "tickets.csv", "new.csv"), "is a file, not a folder")


def test_files_that_cannot_be_read_are_refused(words: Command) -> None:
    Path("nothing.csv").write_text("")
    Path("head.csv").write_text("id,text\n")
    Path("blank.csv").write_text('id,text\n1," "\n')
    Path("twice.csv").write_text("id,text\na,x\na,y\n")
    Path("picture.png").write_text("x")
    Path("latin.csv").write_bytes("id,text\n1,é\n".encode("latin-1"))
    Path("broken.parquet").write_bytes(b"PAR1 nothing")
    check_refused(words("predict", "mine", "missing.csv"), "missing.csv: there is no such file")
    check_refused(words("predict", "mine", "mine"), "mine is a folder, not a file to read")
    check_refused(words("predict", "mine", "nothing.csv"), "nothing.csv is empty")
    check_refused(words("predict", "mine", "head.csv"), "head.csv is empty: it has no rows")
    check_refused(words("predict", "mine", "blank.csv"), "every text is empty")
    check_refused(words("predict", "mine", "twice.csv"), "the id 'a' is already used by row 1")
    check_refused(words("predict", "mine", "picture.png"), "unknown file type '.png'")
    check_refused(words("predict", "mine", "latin.csv"), "is not UTF-8")
    check_refused(words("predict", "mine", "broken.parquet"), "is not a whole Parquet file")
    check_refused(words("predict", "mine", "new.csv", "--text", "body"), "no column 'body'", "--text says")
    check_refused(words("predict", "mine", "new.csv", "--id", "key"), "no column 'key'", "--id says")
    check_refused(words("predict", "mine", "new.csv", "--text", ""), "--text is empty")
    check_refused(words("predict", "mine", "new.csv", "--delimiter", "ab"), "delimiter: 'ab' separates no cells")


def test_data_of_the_folder_that_is_gone_is_named(words: Command) -> None:
    Path("tickets.csv").rename("elsewhere.csv")
    check_refused(words("predict", "mine", "new.csv"), "tickets.csv does not exist")


def test_outputs_that_would_destroy_something_are_refused(words: Command) -> None:
    Path("out.csv").write_text("mine")
    check_refused(words("predict", "mine", "new.csv", "-o", "out.csv"), "out.csv already exists", "--force")
    assert Path("out.csv").read_text() == "mine"
    assert words("predict", "mine", "new.csv", "-o", "out.csv", "--force").code == 0
    assert len(read_rows("out.csv")) == 30
    check_refused(words("predict", "mine", "new.csv", "-o", "new.csv", "--force"), "is read by this command")
    check_refused(words("predict", "mine", "new.csv", "-o", "tickets.csv", "--force"), "is read by this command")
    check_refused(words("predict", "mine", "new.csv", "-o", "mine/labels.db", "--force"), "one of dal's own files")
    check_refused(words("predict", "mine", "new.csv", "-o", "nowhere/out.csv"), "there is no folder nowhere")
    check_refused(words("predict", "mine", "new.csv", "--force"), "-o")


def test_a_folder_in_use_is_read(words: Command) -> None:
    lock = Lock(Path("mine"))
    ended = words("predict", "mine", "new.csv")
    lock.release()
    assert (ended.code, ended.out) == (0, words("predict", "mine", "new.csv").out)


def test_code_of_a_folder_is_run_only_where_it_is_allowed(dal: Command, tiny_bert: Path) -> None:
    Path("bag.py").write_text(BAG)
    taught(dal, LEARNERS["module of user code"])
    Path("bag.py").write_text("open('run', 'w')\n" + BAG)
    check_refused(dal("predict", "mine", "new.csv"), "--allow-code")
    assert not Path("run").exists()


def test_a_probe_on_vectors_is_refused_for_texts(dal: Command) -> None:
    taught(dal, "TfidfLearner")
    config = Path("mine/config.yaml")
    config.write_text(re.sub(r"learner:(\n  .*)*", f"learner: {probe(None)}", config.read_text()))
    ended = dal("predict", "mine", "new.csv")
    check_refused(ended, "")
