"""What the audit says of machines: counted on the drawn rows alone, with exact intervals."""

import numpy as np
import pytest
from scipy.stats import binom

from dal.evaluation.labeler_audit import Share, audits, merged
from dal.store.proposals import Proposal

CLASSES = ("a", "b")


def proposal(row: str, value: str, confidence: float = 0.95, who: str = "m", cost: float | None = 0.01) -> Proposal:
    return Proposal(row, value, who=who, confidence=confidence, cost=cost)


def test_counts_only_rows_that_were_drawn_and_that_a_person_answered():
    said = [proposal("1", "a"), proposal("2", "b"), proposal("3", "b", 0.5), proposal("4", "a"), proposal("5", "a")]
    person = {"1": "a", "2": "a", "3": "b", "4": "b"}
    (found,) = audits(said, person, {"1", "2", "3", "5"}, CLASSES, threshold=0.9)
    assert (found.error.found, found.error.of) == (1, 3)  # 4 was not drawn, 5 not answered
    assert (found.sure.found, found.sure.of) == (1, 2)
    assert found.confusion.tolist() == [[1, 1], [0, 1]]
    assert {name: (share.found, share.of) for name, share in found.per_class.items()} == {"a": (1, 2), "b": (0, 1)}
    assert found.dollars == pytest.approx(0.05)
    assert found.answered == 5


def test_a_repeated_proposal_counts_once():
    (found,) = audits([proposal("1", "b"), proposal("1", "a")], {"1": "a"}, {"1"}, CLASSES, threshold=0)
    assert (found.error.found, found.error.of, found.answered) == (0, 1, 1)
    assert found.dollars == pytest.approx(0.01)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5])
def test_the_interval_covers_at_its_rate(share):
    n = 60
    inside = sum(binom.pmf(k, n, share) for k in range(n + 1) if Share(k, n).low <= share <= Share(k, n).high)
    assert inside >= 0.95


def test_nothing_audited_says_nothing():
    (found,) = audits([proposal("1", "a")], {}, {"1"}, CLASSES, threshold=0)
    assert np.isnan(found.error.share)
    assert (found.error.low, found.error.high) == (0.0, 1.0)


def test_merged_answers_keep_what_a_person_said():
    said = [proposal(str(i), "a" if i % 2 else "b", who=who) for i in range(20) for who in ("m", "n")]
    rows, found = merged(said, {"3": "b"}, CLASSES)
    assert len(rows) == 20
    assert found.posterior[rows.index("3")].tolist() == [0, 1]
    assert found.posterior[rows.index("5")].argmax() == 0
