"""Rankings of a project, whose classes and rows change while it is answered."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from command import Command, write_tickets
from sklearn.feature_extraction.text import TfidfVectorizer

from dal.annotate.ranker import Ranker, RankingJob
from dal.data.rows import Rows
from dal.errors import SessionError
from dal.learners.probe_learner import ProbeLearner
from dal.learners.text.embeddings import Embedder
from dal.monitor import SILENT
from dal.session import Session
from dal.store.label_log import LabelLog

TRUTH = {f"t{i}": topic for i, topic in enumerate(material.tickets(60)[1])}


class Project:
    """A project of 60 tickets, and its answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = LabelLog(folder / "labels.db")
        self.keys = 0

    def ranker(self) -> Ranker:
        return Ranker(self.folder, SILENT, lambda text: None)

    def job(self, n: int = 5, keep: tuple[str, ...] = ()) -> RankingJob:
        return RankingJob(1, self.log.last_event, n, keep)

    def answer(self, row: str, value: str | None = None, who: str = "ada") -> None:
        self.keys += 1
        self.log.answer(row, value or TRUTH[row], who=who, key=f"k{self.keys}", replaces=None)


Make = Callable[..., Project]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Make:
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 60, labels=False)
    dal = Command(capsys)

    def make(*options: str, classes: str = "access,billing,feedback,shipping") -> Project:
        options = options or ("--learner", "TfidfLearner", "--strategy", "Margin")
        chosen = ("--classes", classes) if classes else ()
        ended = dal("init", "mails", "--data", "tickets.csv", "--id", "id", *chosen, *options)
        assert ended.code == 0, ended.err
        return Project(tmp_path / "mails")

    return make


def ids(ranking: dict[str, Any]) -> list[str]:
    return [row["id"] for row in ranking["rows"]]


def test_rankings_replace_each_other_until_everything_is_answered(project: Make) -> None:
    mine, ranker, asked = project(), None, list[str]()
    ranker = mine.ranker()
    for round in range(1, 13):
        ranking = ranker.rank(mine.job())
        assert mine.log.rank(ids(ranking), strategy=ranking["strategy"], details=ranking["details"])[0] == 5
        for row in ids(ranking):
            mine.answer(row)
        asked += ids(ranking)
        assert len(set(asked)) == 5 * round
    assert ranker.rank(mine.job())["rows"] == []


def test_source_file_is_not_needed(project: Make, tmp_path: Path) -> None:
    mine = project()
    (tmp_path / "tickets.csv").unlink()
    assert len(mine.ranker().rank(mine.job())["rows"]) == 5


def test_class_changes_are_followed_without_embedding_again(
    project: Make, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))  # empty, unlike that of the test run
    embedded: list[int] = []
    computed = Embedder._computed

    def counted(self: Embedder, texts: Any, monitor: Any, rows: Any) -> Any:
        embedded.append(len(rows))
        return computed(self, texts, monitor, rows)

    monkeypatch.setattr(Embedder, "_computed", counted)
    mine = project("--learner", f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16}}}}", "--strategy", "Margin")
    for row in list(TRUTH)[:30]:
        mine.answer(row)
    ranker = mine.ranker()
    before = ranker.rank(mine.job())
    counts = before["figures"]["class_counts"]
    mine.log.change_classes({"do": "rename", "id": 1, "name": "money"})
    mine.log.change_classes({"do": "merge", "id": 3, "into": 2})
    mine.log.change_classes({"do": "add", "name": "other"})
    after = ranker.rank(mine.job())
    assert after["figures"]["class_counts"] == {
        "access": counts["access"],
        "money": counts["billing"],
        "feedback": counts["feedback"] + counts["shipping"],
        "other": 0,
    }
    assert {name for row in after["rows"] for name, _ in row["guesses"]} <= {"access", "money", "feedback", "other"}
    assert "shipping" not in {name for row in after["rows"] for _, name in row["near"]}
    assert embedded[0] == 60
    assert max(embedded[1:]) <= 4  # names of classes, which are texts too
    # An earlier job is answered with the classes of its time.
    assert ranker.rank(RankingJob(2, before["event"], 5))["figures"]["class_counts"] == counts


def test_texts_are_read_again_only_after_a_change_of_classes_or_rows(
    project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = project()
    ranker, read = mine.ranker(), list[str]()
    monkeypatch.setattr(ranker, "_stage", read.append)
    for row in list(TRUTH)[:12]:
        mine.answer(row)
        ranker.rank(mine.job())
    assert read.count("reading the texts") == 1
    mine.log.change_classes({"do": "describe", "id": 0, "text": "about logins"})
    ranker.rank(mine.job())
    assert read.count("reading the texts") == 2


def test_retired_rows_are_neither_chosen_nor_trained_on(project: Make) -> None:
    mine = project()
    for row in list(TRUTH)[:12]:
        mine.answer(row)
    mine.log.retire(["t0", "t20"])
    ranking = mine.ranker().rank(mine.job(60))
    assert ranking["figures"]["labels"] == 11
    assert "t20" not in ids(ranking)
    assert len(ids(ranking)) == 60 - 12 - 1


def test_disputed_rows_do_not_train_and_are_not_chosen(project: Make) -> None:
    mine = project()
    for row in list(TRUTH)[:12]:
        mine.answer(row)
    mine.log.ask(["t30"], wanted={"t30": 2})
    mine.answer("t30", "access", who="ada")
    mine.answer("t30", "billing", who="ben")
    ranking = mine.ranker().rank(mine.job(60))
    assert ranking["figures"]["labels"] == 12
    assert "t30" not in ids(ranking)


def test_kept_rows_get_hints_too(project: Make) -> None:
    mine = project()
    for row in list(TRUTH)[:20]:
        mine.answer(row)
    ranking = mine.ranker().rank(mine.job(5, ("t30", "t40", "t0", "t30")))
    kept = {row["id"]: row for row in ranking["kept"]}
    assert kept.keys() == {"t30", "t40"}  # t0 has an answer
    assert len(kept["t30"]["guesses"]) == 3
    assert kept["t30"]["why"] == ""
    assert not kept.keys() & set(ids(ranking))


PROBE = "{{ProbeLearner: {{model: {}, max_length: 16}}}}"


@pytest.mark.parametrize("classes", ["", "access"])
def test_too_few_classes_are_ranked_as_before_the_first_label(project: Make, tiny_bert: Path, classes: str) -> None:
    mine = project("--learner", PROBE.format(tiny_bert), "--strategy", "Auto", classes=classes)
    ranker = mine.ranker()
    before = ranker.rank(mine.job())
    assert before["strategy"] == "MaxHerding"  # diverse, not random
    assert before["reason"] == "MaxHerding: fewer than two classes, which train no model"
    assert before["figures"]["class_counts"] == {}
    if classes:
        for row in ids(before)[:2]:
            mine.answer(row, "access")
        after = ranker.rank(mine.job())
        assert (after["strategy"], after["figures"]["class_counts"]) == ("MaxHerding", {"access": 2})
        assert not set(ids(after)) & set(ids(before)[:2])
        assert [row["near"][0][1] for row in after["rows"]] == ["access"] * 5
        assert {str(row["guesses"]) for row in after["rows"]} == {"[]"}
    for name in ("one more", "another"):
        mine.log.change_classes({"do": "add", "name": name})
    with_classes = ranker.rank(mine.job())
    assert len(with_classes["rows"]) == 5
    assert {"one more", "another"} <= with_classes["figures"]["class_counts"].keys()


def test_too_few_classes_are_ranked_at_random_where_the_strategy_needs_a_model(project: Make) -> None:
    mine = project(classes="")
    ranking = mine.ranker().rank(mine.job())
    assert (ranking["strategy"], len(ranking["rows"])) == ("Random", 5)
    mine.log.change_classes({"do": "add", "name": "only"})
    mine.answer(ids(ranking)[0], "only")
    assert mine.ranker().rank(mine.job())["strategy"] == "Random"


def test_answers_of_one_class_are_followed_by_texts_unlike_each_other(project: Make, tiny_bert: Path) -> None:
    mine = project("--learner", PROBE.format(tiny_bert), "--strategy", "Auto")
    same = [id for id, topic in TRUTH.items() if topic == "billing"][:3]
    for row in same:
        mine.answer(row)
    ranking = mine.ranker().rank(mine.job())
    assert ranking["strategy"] == "MaxHerding"
    assert len(set(ids(ranking)) - set(same)) == 5


@pytest.mark.parametrize("learner", ["probe", "tfidf"])
def test_texts_like_a_typed_one_are_found(project: Make, tiny_bert: Path, learner: str) -> None:
    chosen = PROBE.format(tiny_bert) if learner == "probe" else "TfidfLearner"
    mine = project("--learner", chosen, "--strategy", "Margin")
    ranker, texts = mine.ranker(), dict(zip(TRUTH, material.tickets(60)[0], strict=True))
    with pytest.raises(SessionError, match="the model has not read the texts"):
        ranker.search("my invoice is wrong", 3)
    ranker.rank(mine.job())
    found = ranker.search(texts["t7"], 3)
    assert found[0] == ["t7", pytest.approx(1, abs=1e-3)]
    cosines = [cosine for _, cosine in found]
    assert cosines == sorted(cosines, reverse=True)
    assert ranker.search("", 2) == ranker.search("", 2)
    typed = ranker.search("my parcel is broken", 5)
    if learner == "tfidf":  # an encoder with random weights knows no topics
        assert {TRUTH[id] for id, _ in typed} == {"shipping"}
        assert ranker.search("xyzzy", 5) == []
    assert len(typed) == 5
    mine.answer("t0")
    ranker.rank(mine.job())
    assert ranker.search("my parcel is broken", 5) == typed


def test_embeddings_are_compared_by_their_angle_around_the_mean(project: Make, tiny_bert: Path) -> None:
    mine = project("--learner", PROBE.format(tiny_bert), "--strategy", "Margin")
    ranker = mine.ranker()
    ranker.rank(mine.job())
    assert ranker._session is not None
    points = ranker._session.read(torch.arange(60), {"embeddings"})["embeddings"].double()
    typed = ProbeLearner(model=str(tiny_bert), max_length=16)
    rows = Rows.from_inputs(["a refund, please"], classes=["x", "y"])
    prepared = typed.prepare(rows)
    point = typed.untrained(prepared).outputs(prepared, None, {"embeddings"})["embeddings"].double()[0]
    mean = points.mean(0)
    slow = [float(torch.cosine_similarity(each - mean, point - mean, dim=0)) for each in points]
    best = sorted(range(60), key=lambda i: -slow[i])[:10]
    found = ranker.search("a refund, please", 10)
    assert [cosine for _, cosine in found] == pytest.approx([slow[i] for i in best], abs=1e-3)
    assert [id for id, _ in found][:3] == [f"t{i}" for i in best][:3]


def test_a_learner_of_words_names_the_nearest_answered_texts(project: Make) -> None:
    mine, texts = project(), material.tickets(60)[0]
    for row in list(TRUTH)[:20]:
        mine.answer(row)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts).toarray()
    for row in mine.ranker().rank(mine.job())["rows"]:
        cosines = vectors[:20] @ vectors[int(row["id"][1:])]
        near = [int(id[1:]) for id, _ in row["near"]]
        assert len(near) == 3
        assert [cosines[i] for i in near] == pytest.approx(sorted(cosines, reverse=True)[:3])
        assert [name for _, name in row["near"]] == [TRUTH[f"t{i}"] for i in near]


def test_what_the_model_reads_of_a_long_text_is_counted(project: Make, tmp_path: Path, tiny_bert: Path) -> None:
    text = " ".join(["my invoice is wrong"] * 10)
    with (tmp_path / "tickets.csv").open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(["long", text])
    mine = project("--learner", f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 18}}}}", "--strategy", "Random")
    rows = {row["id"]: row for row in mine.ranker().rank(mine.job(61))["rows"]}
    assert rows["long"]["read_up_to"] == len(" ".join(["my invoice is wrong"] * 4))  # 16 words and two special tokens
    assert any(row["read_up_to"] is None for row in rows.values())


def test_token_budget_of_a_job_is_kept_for_the_next(project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = project()
    for row in list(TRUTH)[:12]:
        mine.answer(row)
    ranker, choose, budgets = mine.ranker(), Session.choose, list[int | None]()

    def halving(self: Session, *arguments: Any, **options: Any) -> Any:
        budgets.append(self.store.token_budget)
        if not budgets[:-1]:
            self._model._monitor.halved(4096)  # as after a pass that ran out of memory
        return choose(self, *arguments, **options)

    monkeypatch.setattr(Session, "choose", halving)
    assert ranker.rank(mine.job())["figures"]["token_budget"] == 4096
    assert ranker.rank(mine.job())["figures"]["token_budget"] == 4096
    assert budgets == [None, 4096]
