"""Whether the frozen encoder of a run tells the classes apart, as recorded in the last line of a cell."""

from dataclasses import replace
from typing import Any

import torch

from dal.data.rows import Rows
from dal.errors import DataError, LearnerError
from dal.evaluation.encoder_scores import MIN_LABELS, compared_rows, score_encoders
from dal.experiments.encoder_advice import KEY
from dal.session import Session


def labeled_pool(session: Session) -> Rows:
    """The pool with the answers of a session as its only labels; proposed labels are left out."""
    pool, (rows, labels) = session.pool, session.pool_state.labeled_set
    known = torch.zeros(len(pool), dtype=torch.bool).index_fill_(0, rows, True)
    codes = torch.zeros_like(pool.labels) if pool.multilabel else torch.full_like(pool.labels, -1)
    return replace(pool, labels=codes.index_copy_(0, rows, labels.to(codes.dtype)), known=known)


def encoder_figures(session: Session) -> dict[str, Any]:
    """Compare the session's own encoder with TF-IDF, as JSON values by key; {} where that is not free of cost.

    It is free for a frozen encoder, whose embeddings of the labeled rows exist, and possible for at least 30 labels of
    single-label texts. The rows and the figures are those of `dal encoders`.
    """
    learner = session.learner
    rows = session.labeled_rows
    if len(rows) < MIN_LABELS or "embeddings" not in learner.label_free:
        return {}
    # Here, because they load transformers and lightning, which the console and the report do without.
    from dal.learners.encoder_comparison import (
        TFIDF,
        advice,
        check_labels,
        embedding_similarities,
        encoding_learner,
        own_encoder,
        tfidf_similarities,
    )
    from dal.learners.probe_learner import ProbeLearner
    from dal.learners.sklearn_committee import SklearnCommittee

    own = own_encoder(learner)
    if own is None or not isinstance(encoding_learner(learner), ProbeLearner | SklearnCommittee):
        return {}
    rows = compared_rows(rows)
    labeled = labeled_pool(session)
    try:
        check_labels(labeled, rows)
        similarities = {
            own: embedding_similarities(session.read(rows, {"embeddings"}).embeddings.cpu()),
            TFIDF: tfidf_similarities(labeled, rows),
        }
        scores = score_encoders(similarities, labeled.labels[rows], own=own)
    except (DataError, LearnerError):  # one class, several classes a row, texts without words: nothing to compare
        return {}
    found = {"labels": len(session.labels), "compared": len(rows), "advice": advice(scores, learner)}
    return {KEY: {**found, "scores": [vars(score) for score in scores]}}
