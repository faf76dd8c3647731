"""Descriptions of classes are part of what determines a model, and of nothing that is stored about answers."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dal.config.stored import describe
from dal.data import Rows, Splits
from dal.learners.tfidf_learner import TfidfLearner
from dal.session import Session
from dal.strategies import Random

TEXTS = [f"{'invoice' if i % 2 else 'login'} number {i}" for i in range(20)]


def opened(folder: Path | None, **given: Any) -> Session:
    rows = Rows.from_inputs(TEXTS, classes=["access", "billing"], **given)
    return Session(Splits(rows), TfidfLearner(), Random(), folder=folder, save_model=True)


def answer(session: Session) -> None:
    rows = session.ask(6)
    session.tell(rows, ["billing" if "invoice" in text else "access" for text in session.pool.texts(rows)])


GIVEN: list[dict[str, Any]] = [
    {"descriptions": {"billing": "invoices"}},
    {"descriptions": {"billing": ["invoices", "fees"]}},
    {"descriptions": {"access": "invoices"}},
    {"descriptions": {"billing": "invoices"}, "description_template": "About {}."},
    {"description_template": "About {}."},
]


def test_a_changed_description_makes_a_new_model_and_touches_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []
    fit = TfidfLearner.fit

    def counted(*arguments: Any, **options: Any) -> Any:
        fits.append(1)
        return fit(*arguments, **options)

    monkeypatch.setattr(TfidfLearner, "fit", counted)
    with opened(tmp_path) as session:
        answer(session)
        labels, plain = session.labels, session.predictor
        pending = session.ask(3).tolist()
    assert plain is not None
    for number, given in enumerate([{}, *GIVEN]):
        for _ in range(2):  # the second session finds the model of the first
            with opened(tmp_path, **given) as session:
                assert session.pending.tolist() == pending
                assert torch.equal(session.labels, labels)
                assert session.predictor is not None
        assert len(fits) == 1 + number


def test_marker_differs_for_every_description_and_is_that_of_earlier_versions_without(tmp_path: Path) -> None:
    markers = []
    for number, given in enumerate([{}, *GIVEN]):
        with opened(tmp_path / str(number), **given) as session:
            answer(session)
            markers.append(session._model.marker)
    assert len(set(markers)) == len(markers)
    with opened(tmp_path / "0") as session:
        facts = [describe(session.learner), 0, 1, session.pool.classes, session.pool.fingerprint]
        digest = hashlib.sha256(json.dumps(facts, default=str).encode())
        for part in session._model._annotations.state.training_set:
            digest.update(b"" if part is None else part.numpy().tobytes())
        assert digest.hexdigest() == session._model.marker == markers[0]
