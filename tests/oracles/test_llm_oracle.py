"""A labeler as an oracle, a router over machines and a person, and what a session keeps of what they said."""

from pathlib import Path
from typing import Any

import material
import pytest
import torch
from label_store_version_1 import write_version_1
from labelers import WordLabeler

from dal.data import Rows, Splits
from dal.errors import ConfigError, SessionError
from dal.evaluation import Prices, costs, sources
from dal.experiments.experiment import Experiment
from dal.experiments.recorded_work import recorded_work
from dal.learners.probe_learner import ProbeLearner
from dal.oracle import LATER, Annotation
from dal.oracles.answering import answer_pending
from dal.oracles.llm_oracle import LLMOracle
from dal.oracles.router import AUDIT, CLASSIFIER, DISAGREE, MODEL, UNSURE, Router
from dal.oracles.simulated import Simulated
from dal.oracles.weak_labels import LLMWeakLabels
from dal.session import Session
from dal.store.events import SKIP
from dal.store.label_store import LabelStore
from dal.store.proposals import Proposal, latest
from dal.store.unread_answers import Unread
from dal.strategies import Random


def rows(n: int = 120) -> Rows:
    texts, topics = material.tickets(n)
    return Rows.from_inputs(texts, topics, sorted(material.TOPICS))


def session(data: Rows, folder: Path | None = None) -> Session:
    return Session(Splits(data), WordLabeler(), Random(), hide_labels=True, folder=folder)


def test_answers_with_the_most_probable_class_its_confidence_and_its_price() -> None:
    data = rows()
    said = LLMOracle(WordLabeler(unsure=0.3)).answer(torch.tensor([3, 0, 7]), data)
    assert [each.value for each in said] == data.labels[torch.tensor([3, 0, 7])].tolist()
    assert {round(each.confidence, 2) for each in said} <= {0.6, 0.95}
    assert [each.cost for each in said] == [pytest.approx(0.001)] * 3


def test_what_the_model_gave_no_answer_for_is_declined() -> None:
    labeler, data = WordLabeler(mute=0.3), rows()
    said = LLMOracle(labeler).answer(torch.arange(60), data)
    mute = [labeler.draw(data[row], "mute") < 0.3 for row in range(60)]
    assert [each.value is SKIP for each in said] == mute
    assert any(mute)
    assert not all(mute)


def test_a_learner_that_must_be_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match="answers without training"):
        LLMOracle(ProbeLearner(model=None))


def test_routes_by_doubt_disagreement_and_lot() -> None:
    router = Router([LLMOracle(WordLabeler(), "a"), LLMOracle(WordLabeler(), "b")], Simulated(), audit=0.0)
    sure, other, unsure = (
        Annotation(1, "a", confidence=0.95),
        Annotation(2, "b", confidence=0.95),
        Annotation(1, "b", confidence=0.5),
    )
    assert router.route("x", [sure, sure]) == MODEL
    assert router.route("x", [sure, other]) == DISAGREE
    assert router.route("x", [sure, unsure]) == UNSURE
    assert router.route("x", [sure, Annotation(SKIP, "b")]) == UNSURE
    assert router.route("x", [sure, sure, Annotation(3, CLASSIFIER, CLASSIFIER)]) == DISAGREE
    assert router.route("x", [sure, sure, Annotation(1, CLASSIFIER, CLASSIFIER)]) == MODEL
    assert Router(router.models, audit=1.0).route("x", [sure, sure]) == AUDIT


def test_the_audit_is_a_random_share_that_depends_on_the_row_alone() -> None:
    router = Router([LLMOracle(WordLabeler())], audit=0.2)
    drawn = [router.audited(f"row{i}") for i in range(2000)]
    assert 330 < sum(drawn) < 470
    assert drawn == [router.audited(f"row{i}") for i in range(2000)]
    assert drawn != [Router(router.models, audit=0.2, seed=1).audited(f"row{i}") for i in range(2000)]


def test_a_person_answers_what_the_machine_is_unsure_of_and_the_rest_costs_nobody_time() -> None:
    data = rows()
    router = Router([LLMOracle(WordLabeler(wrong=0.2, unsure=0.4))], Simulated(), audit=0.1)
    with session(data) as asked:
        chosen = asked.ask(100)
        answer_pending(router, asked)
        assert not len(asked.pending)
        events = {event.row: event for event in asked.store.events() if event.kind == "answered"}
        said = latest(asked.store.proposals)
        assert len(said) == len(events) == 100
        for row in chosen.tolist():
            name, truth = data.ids[row], data.classes[data.labels[row]]
            machine, event = said[name, "WordLabeler"], events[name]
            to_person = router.audited(name) or machine.confidence < 0.9
            assert event.source == ("simulated" if to_person else "llm")
            assert event.value == (truth if to_person else machine.value)
        sources = [event.source for event in events.values()]
        assert 20 < sources.count("simulated") < 80


def test_the_price_of_a_machine_is_counted_once() -> None:
    from dal.stopping.recorded_figures import spent

    with session(rows()) as asked:
        asked.ask(10)
        answer_pending(Router([LLMOracle(WordLabeler(price=0.5))], Simulated(), audit=0.5), asked)
        found = spent(asked.store.events(), len(asked.store.answers), asked.store.proposals)
        assert found["dollars"] == pytest.approx(5.0)


def test_an_answer_that_could_not_be_read_is_kept_verbatim_and_paid_for() -> None:
    data, mute = rows(), WordLabeler(mute=0.3, price=0.5)
    router = Router([LLMOracle(mute, "a"), LLMOracle(WordLabeler(salt="x", price=0.25), "b")], Simulated(), audit=0.2)
    with session(data) as asked:
        chosen = asked.ask(60).tolist()
        answer_pending(router, asked)
        lost = {data.ids[row] for row in chosen if mute.draw(data[row], "mute") < 0.3}
        kept = {each.row: each for each in asked.store.unread}
        assert kept.keys() == lost
        assert 5 < len(lost) < 40
        assert {(each.who, each.source, each.cost) for each in kept.values()} == {("a", "llm", 0.5)}
        assert all(
            kept[data.ids[row]].text == f"<b>I cannot say</b> {data[row]}" for row in chosen if data.ids[row] in lost
        )
        work = recorded_work(asked.store.events(), asked.store.proposals, asked.store.unread)
        assert costs(work, Prices())["llm"] == pytest.approx(60 * 0.75)
        assert sources(work, Prices())["llm"]["unread"] == len(lost)


def test_a_row_that_a_model_alone_declines_keeps_what_it_said_and_is_paid_for_once(tmp_path: Path) -> None:
    data = rows()
    with session(data, tmp_path) as asked:
        asked.ask(60)
        answer_pending(LLMOracle(WordLabeler(mute=0.3, price=0.5)), asked)
    with LabelStore(tmp_path / "labels.db") as store:
        assert {each.row for each in store.unread} == store.skipped
        assert 5 < len(store.unread) < 40
        work = recorded_work(store.events(), store.proposals, store.unread)
        assert costs(work, Prices())["llm"] == pytest.approx(30.0)


def test_what_no_database_takes_is_written_as_escapes(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.keep_unread([Unread("a", "half a pair: \ud83d, and \x00")])
    with LabelStore(tmp_path / "labels.db") as store:
        assert store.unread == [Unread("a", "half a pair: \\ud83d, and \x00")]


def test_rows_for_a_person_stay_pending_without_one_and_are_kept(tmp_path: Path) -> None:
    router = Router([LLMOracle(WordLabeler(unsure=0.5))], audit=0.0)
    data = rows()
    with session(data, tmp_path / "s") as asked:
        asked.ask(40)
        answer_pending(router, asked)
        left = asked.pending.tolist()
        assert 0 < len(left) < 40
        before = len(asked.store.answers)
        answer_pending(router, asked)
        assert (asked.pending.tolist(), len(asked.store.answers)) == (left, before)
    with session(data, tmp_path / "s") as again:
        assert again.pending.tolist() == left
        again.tell(left, [int(data.labels[row]) for row in left])
        assert len(again.labels) == 40


def test_the_classifier_is_heard_where_it_is_wanted() -> None:
    data = rows()
    machine = LLMOracle(WordLabeler())
    router = Router([machine], Simulated(), audit=0.0, classifier=True)
    predicted = (data.labels[:10] + 1) % 4  # always something else
    said = router.answer_with_context(torch.arange(10), data, predicted)
    assert all(each.source == "simulated" for each in said)
    assert all(each.source == "llm" for each in router.answer_with_context(torch.arange(10), data, data.labels[:10]))


def test_two_machines_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="name"):
        Router([LLMOracle(WordLabeler()), LLMOracle(WordLabeler(salt="x"))])


def small(**changes: Any) -> Experiment:
    test, topics = material.tickets(40, seed=5)
    data = Splits(rows(), Rows.from_inputs(test, topics, sorted(material.TOPICS)))
    return Experiment(data, WordLabeler(), Random(), baseline=None, start=8, batch=4, rounds=2, quiet=True, **changes)


def test_a_run_goes_on_with_a_router_and_refuses_one_without_a_person() -> None:
    lines = small(oracle=Router([LLMOracle(WordLabeler(unsure=0.3))], Simulated())).run().cells["Random-seed0"]
    assert [line["labels"] for line in lines] == [8, 12, 16]
    with pytest.raises(SessionError, match="person"):
        small(oracle=Router([LLMOracle(WordLabeler(unsure=0.9), hide_labels=True)])).run()


def test_every_line_says_who_answered_and_what_it_cost_once(tmp_path: Path) -> None:
    machines = [LLMOracle(WordLabeler(unsure=0.3, price=0.25), "a"), LLMOracle(WordLabeler(salt="x", price=0.5), "b")]
    router = Router(machines, Simulated(), audit=0.2)
    weak = LLMWeakLabels(WordLabeler(price=2.0), rows=30)
    run = small(oracle=router, folder=str(tmp_path), weak_labels=weak, price_per_label=1.0, report=False)
    for line in run.run().cells["Random-seed0"]:
        found = line["sources"]
        assert set(found) == {"llm", "simulated", "weak"}
        assert found["llm"]["answers"] + found["simulated"]["answers"] == line["labels"]
        assert found["llm"]["proposals"] == 2 * line["labels"]
        assert found["llm"]["dollars"] == pytest.approx(0.75 * line["labels"])
        assert found["simulated"]["dollars"] == found["simulated"]["answers"]
        assert found["weak"]["answers"] == 0
        assert found["weak"]["dollars"] == pytest.approx(2.0 * found["weak"]["proposals"])
        total = line["cost"]["labels"] + line["cost"]["llm"]
        assert sum(each["dollars"] for each in found.values()) == pytest.approx(total)
    with LabelStore(tmp_path / "Random-seed0" / "labels.db") as store:
        assert found["llm"]["answers"] == sum(event.source == "llm" for event in store.events())


def test_oracle_of_a_machine_alone_pays_for_each_answer_once() -> None:
    for line in small(oracle=LLMOracle(WordLabeler(price=0.5), hide_labels=True)).run().cells["Random-seed0"]:
        assert line["cost"]["llm"] == pytest.approx(0.5 * line["labels"])
        assert line["sources"]["llm"]["proposals"] == 0


def test_later_is_no_answer() -> None:
    with session(rows()) as asked:
        asked.ask(3)
        answer_pending(_Half(), asked)
        assert len(asked.pending) == 1


class _Half(Simulated):
    def answer(self, rows: Any, data: Any) -> Any:
        return [Annotation(LATER), *super().answer(rows[1:], data)]


def test_a_store_of_an_earlier_version_takes_proposals(tmp_path: Path) -> None:
    import sqlite3

    asked = ("asked", 1.0, 1, "a", *[None] * 8)
    write_version_1(tmp_path / "labels.db", [asked], [(1, "Margin", "{}")])
    with sqlite3.connect(tmp_path / "labels.db") as connection:
        connection.execute("DROP TABLE proposals")
        connection.execute("DROP TABLE unread")
    with LabelStore(tmp_path / "labels.db") as store:
        store.propose([Proposal("a", "x")])
        store.keep_unread([Unread("a", "x")])
    with LabelStore(tmp_path / "labels.db") as store:
        assert [proposal.value for proposal in store.proposals] == ["x"]
        assert [kept.text for kept in store.unread] == ["x"]
