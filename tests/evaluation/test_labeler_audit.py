"""What the audit says of machines: counted on the drawn rows alone, with exact intervals."""

import numpy as np
import pytest
from scipy.stats import binom

from dal.evaluation.labeler_audit import ModelAnswer, Share, audits, merged

CLASSES = ("a", "b")


def answer(row: str, value: str | None, confidence: float = 0.95, who: str = "m") -> ModelAnswer:
    return ModelAnswer(row, who, value, confidence, dollars=0.01)


def test_counts_only_rows_that_were_drawn_and_that_a_person_answered():
    said = [answer("1", "a"), answer("2", "b"), answer("3", "b", 0.5), answer("4", "a"), answer("5", "a")]
    person = {"1": "a", "2": "a", "3": "b", "4": "b"}
    (found,) = audits(said, person, {"1", "2", "3", "5"}, CLASSES, threshold=0.9)
    assert (found.error.successes, found.error.trials) == (1, 3)  # 4 was not drawn, 5 not answered
    assert (found.sure.successes, found.sure.trials) == (1, 2)
    assert found.confusion.tolist() == [[1, 1], [0, 1]]
    shares = {name: (share.successes, share.trials) for name, share in found.per_class.items()}
    assert shares == {"a": (1, 2), "b": (0, 1)}
    assert found.dollars == pytest.approx(0.05)
    assert found.answered == 5


def test_a_repeated_answer_counts_once():
    (found,) = audits([answer("1", "b"), answer("1", "a")], {"1": "a"}, {"1"}, CLASSES, threshold=0)
    assert (found.error.successes, found.error.trials, found.answered) == (0, 1, 1)
    assert found.dollars == pytest.approx(0.01)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5])
def test_the_interval_covers_at_its_rate(share):
    n = 60
    inside = sum(binom.pmf(k, n, share) for k in range(n + 1) if Share(k, n).low <= share <= Share(k, n).high)
    assert inside >= 0.95


def test_unreadable_answers_are_paid_and_counted_once_where_the_row_has_no_other():
    said = [answer("1", "a"), answer("1", None), answer("2", None), answer("2", None), answer("2", None, who="n")]
    m, n = audits(said, {"1": "a"}, {"1"}, CLASSES, threshold=0)
    assert (m.answered, m.unread, m.dollars) == (1, 1, pytest.approx(0.03))
    assert (n.answered, n.unread, n.dollars) == (0, 1, pytest.approx(0.01))


def test_nothing_audited_says_nothing():
    (found,) = audits([answer("1", "a")], {}, {"1"}, CLASSES, threshold=0)
    assert np.isnan(found.error.share)
    assert (found.error.low, found.error.high) == (0.0, 1.0)


def test_merged_answers_keep_what_a_person_said():
    said = [answer(str(i), "a" if i % 2 else "b", who=who) for i in range(20) for who in ("m", "n")]
    rows, found = merged(said, {"3": "b"}, CLASSES)
    assert len(rows) == 20
    assert found.posterior[rows.index("3")].tolist() == [0, 1]
    assert found.posterior[rows.index("5")].argmax() == 0
