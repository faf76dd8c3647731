"""A router that merges its machines' answers by the error rates of its audit, and what it does before it knows them."""

from pathlib import Path
from typing import Any

import material
import numpy as np
import pytest
import torch
from labelers import WordLabeler
from reference.dawid_skene import judged, rates

from dal.data import Rows, Splits
from dal.errors import ConfigError
from dal.evaluation import Prices, sources
from dal.evaluation.labeler_audit import audits, merged
from dal.experiments.recorded_work import recorded_work
from dal.oracle import Annotation, Oracle, StoredAnswers
from dal.oracles.answering import answer_pending
from dal.oracles.llm_oracle import LLMOracle
from dal.oracles.merging import Merged, Merger
from dal.oracles.model_answers import model_answers, unmerged_answers
from dal.oracles.router import CLASSIFIER, DISAGREE, MODEL, UNSURE, Router
from dal.oracles.simulated import Simulated
from dal.session import Session
from dal.store.events import Event
from dal.store.log_state import current_answers
from dal.store.proposals import MERGED, Proposal, latest
from dal.strategies import Random

GOOD, BAD = LLMOracle(WordLabeler(wrong=0.02), "good"), LLMOracle(WordLabeler(wrong=0.7, salt="x"), "bad")


def rows(n: int = 400) -> Rows:
    texts, topics = material.tickets(n)
    return Rows.from_inputs(texts, topics, sorted(material.TOPICS))


def answered(router: Oracle, data: Rows, *, batches: int = 3, size: int = 100, folder: Path | None = None) -> Session:
    session = Session(Splits(data), WordLabeler(), Random(), hide_labels=True, folder=folder)
    for _ in range(batches):
        session.ask(size)
        answer_pending(router, session)
    return session


def stand(session: Session) -> dict[str, tuple[Any, ...]]:
    return {row: (e.value, e.who, e.source, e.confidence) for row, e in current_answers(session.store.events()).items()}


def test_learns_from_rows_answered_by_lot_on_which_all_were_sure_and_equals_the_slow_version():
    random, classes = np.random.default_rng(0), ("x", "y", "z")
    truth, votes, sure = random.integers(3, size=90), random.integers(3, size=(90, 3)), random.random((90, 2)) < 0.7
    votes[:, 0] = np.where(random.random(90) < 0.8, truth, votes[:, 0])
    answers = {f"r{i}": Event(i, "answered", 0.0, 1, f"r{i}", value=classes[t]) for i, t in enumerate(truth)}
    proposals = [
        Proposal(f"r{i}", classes[votes[i, s]], "ab"[s], confidence=0.95 if sure[i, s] else 0.5)
        for i in range(90)
        for s in range(2)
    ] + [Proposal(f"r{i}", classes[votes[i, 2]], CLASSIFIER) for i in range(60)]
    drawn = {f"r{i}" for i in range(0, 90, 2)}
    merger = Merger.of_audit(
        StoredAnswers(proposals, answers), drawn.__contains__, ["a", "b"], [CLASSIFIER], classes, threshold=0.9
    )
    kept = [i for i in range(0, 90, 2) if sure[i].all()]
    assert merger.rows == len(kept)
    seen = [[*votes[i, :2], votes[i, 2] if i < 60 else -1] for i in kept]
    known = [[float(c == truth[i]) for c in range(3)] for i in kept]
    prevalence, confusion = rates(seen, known, 3, 1.0)
    for case in ([0, 1, 2], [0, 0], [2, None, 1], [None, None, None]):
        expected = judged([-1 if v is None else v for v in case], prevalence, confusion, 3)
        found = merger.merge(case)
        assert found.value == int(np.argmax(expected))
        assert found.probability == pytest.approx(max(expected), abs=1e-12)


@pytest.mark.parametrize(
    "answer",
    [
        Event(1, "answered", 0.0, 1, "r", value="x", source="llm"),
        Event(1, "skipped", 0.0, 1, "r", source="person"),
        Event(1, "answered", 0.0, 1, "r", value="no class any more", source="person"),
    ],
)
def test_what_no_person_answered_teaches_nothing(answer):
    said = [Proposal("r", "x", who, confidence=1.0) for who in "ab"]
    record = StoredAnswers(said, {"r": answer})
    assert Merger.of_audit(record, lambda _: True, ["a", "b"], [], ("x", "y"), 0.9).rows == 0
    taught = StoredAnswers(said, {"r": Event(1, "answered", 0.0, 1, "r", value="x", source="person")})
    assert Merger.of_audit(taught, lambda _: True, ["a", "b"], [], ("x", "y"), 0.9).rows == 1


def test_the_better_machine_overrules_the_worse_one_once_the_audit_has_enough_rows():
    data = rows()
    plain, merging = (Router([BAD, GOOD], Simulated(), audit=0.3, merge=merge) for merge in (None, 20))
    with answered(plain, data, batches=2) as without, answered(merging, data, batches=2) as session:
        before, after = stand(without), stand(session)
        first = [e.row for e in session.store.events() if e.kind == "asked" and e.round == 1]
        assert {row: after[row] for row in first} == {row: before[row] for row in first}
        merged = {row: told for row, told in after.items() if told[1] == MERGED}
        said = latest(session.store.proposals)
        assert all(told[2] == "llm" and told[3] >= 0.9 for told in merged.values())
        assert all(told[0] == said[row, "good"].value for row, told in merged.items())
        overruled = [row for row in merged if said[row, "bad"].value != said[row, "good"].value]
        assert len(overruled) > 40
        assert {before[row][2] for row in overruled} == {"simulated"}
        truth = dict(zip(data.ids, data.labels.tolist(), strict=True))
        wrong = [row for row, told in merged.items() if told[0] != data.classes[truth[row]]]
        assert len(wrong) < 0.06 * len(merged)
        assert {row for row in after if merging.audited(row)} == {
            row for row in after if merging.audited(row) and after[row][2] == "simulated"
        }


def test_the_merged_answer_is_audited_before_the_person_speaks_and_is_nobodys_word():
    data, router = rows(), Router([BAD, GOOD], Simulated(), audit=0.3, merge=20)
    with answered(router, data, batches=2) as session:
        store, late = session.store, {e.row for e in session.store.events() if e.kind == "asked" and e.round == 2}
        person = {row: told[0] for row, told in stand(session).items() if told[2] == "simulated"}
        drawn = {row for row in person if router.audited(row)}
        found = {audit.who: audit for audit in audits(model_answers(store.proposals), person, drawn, data.classes, 0.9)}
        assert found[MERGED].answered == len(late)
        assert found[MERGED].error.trials == len(late & drawn) > 20
        assert found[MERGED].error.share < 0.15 < found["bad"].error.share
        own = [proposal for proposal in store.proposals if proposal.source != MERGED]
        assert len(own) == len(store.proposals) - len(late)
        every, without = (merged(unmerged_answers(some), person, data.classes) for some in (store.proposals, own))
        assert every[0] == without[0]
        assert np.array_equal(every[1].posterior, without[1].posterior)
        assert sources(recorded_work(store.events(), store.proposals), Prices()).keys() == {"llm", "simulated"}


def test_machines_that_err_together_are_not_believed_because_they_agree():
    data = rows()
    twins = [LLMOracle(WordLabeler(wrong=0.6), name) for name in "ab"]
    with answered(Router(twins, Simulated(), audit=0.3, merge=20), data, batches=2) as session:
        events = current_answers(session.store.events()).values()
        late = [event for event in events if event.round > 1]
        assert {event.source for event in events if event.round == 1} == {"llm", "simulated"}
        assert {event.source for event in late} == {"simulated"}


def test_a_merged_answer_below_the_threshold_goes_to_a_person():
    router = Router([GOOD, BAD], Simulated(), audit=0.0)
    a, b = Annotation(1, "good", confidence=0.95), Annotation(2, "bad", confidence=0.95)
    assert router.route("r", [a, b], Merged(1, 0.91)) == MODEL
    assert router.route("r", [a, b], Merged(1, 0.89)) == DISAGREE
    assert router.route("r", [a, a], Merged(1, 0.89)) == UNSURE
    assert router.route("r", [a, Annotation(1, "bad", confidence=0.5)], Merged(1, 0.99)) == UNSURE


def test_one_machine_alone_is_never_merged_and_null_never_merges():
    assert "record" not in Router([GOOD], merge=1).needs
    assert "record" not in Router([GOOD, BAD], merge=None).needs
    assert Router([GOOD], classifier=True).needs == {"predictions", "record"}


def test_answers_of_several_classes_are_not_merged():
    data = Rows.from_inputs(["a b", "b"], [["x"], ["x", "y"]], multilabel=True)
    assert Router([GOOD, BAD], merge=1).merger(StoredAnswers(), data) is None


class _Dying(Session):
    """Dies at its second answer of a batch, when the first is on disk."""

    told = 0

    def tell(self, *args: Any, **options: Any) -> int:
        self.told += 1
        if self.told == 2:
            raise KeyboardInterrupt
        return super().tell(*args, **options)


def test_a_batch_that_was_half_answered_at_a_kill_gets_the_same_answers(tmp_path: Path):
    data, machines = rows(), [LLMOracle(WordLabeler(wrong=0.25), "a"), LLMOracle(WordLabeler(wrong=0.1, salt="y"), "b")]
    router = Router(machines, Simulated(), audit=0.4, merge=20, classifier=True, threshold=0.8)
    with answered(router, data, batches=4) as whole:
        expected = stand(whole)
    answered(router, data, batches=3, folder=tmp_path).close()
    with _Dying(Splits(data), WordLabeler(), Random(), hide_labels=True, folder=tmp_path) as dying:
        dying.ask(100)
        with pytest.raises(KeyboardInterrupt):
            answer_pending(router, dying)
        assert 0 < len(dying.pending) < 100
    with Session(Splits(data), WordLabeler(), Random(), hide_labels=True, folder=tmp_path) as again:
        answer_pending(router, again)
        assert stand(again) == expected
    assert sum(told[1] == MERGED for told in expected.values()) > 50


def test_the_classifiers_word_is_kept_and_does_not_change_while_the_row_waits():
    data, router = rows(40), Router([GOOD], audit=0.0, classifier=True)
    places = torch.arange(10)
    first = router.answer_with_context(places, data, (data.labels[:10] + 1) % 4, StoredAnswers())
    words = [word for each in first for word in each.proposals if word.who == CLASSIFIER]
    assert [word.value for word in words] == ((data.labels[:10] + 1) % 4).tolist()
    record = StoredAnswers(
        [Proposal(data.ids[i], data.classes[word.value], CLASSIFIER) for i, word in enumerate(words)]
    )
    again = router.answer_with_context(places, data, data.labels[:10], record)
    assert again == first


@pytest.mark.parametrize(
    ("name", "merge", "words"),
    [
        ("a", 0, "merge of Router must be at least 1"),
        (CLASSIFIER, 50, "the name classifier is reserved"),
        (MERGED, 50, "the name merged is reserved"),
    ],
)
def test_options_that_mean_nothing_are_refused(name, merge, words):
    with pytest.raises(ConfigError, match=words):
        Router([LLMOracle(WordLabeler(), name)], merge=merge)
