"""Why rows were selected, what the model thinks of them, and the answered texts nearest to them."""

import math
from typing import Any

import torch
from torch import Tensor

from dal.annotate.text_similarity import WordVectors
from dal.data.columns import TextColumn
from dal.errors import DalError
from dal.evaluation.batch_quality import typical_distance
from dal.experiments.embedding_space import REFERENCE, Space
from dal.functional.neighbors import k_nearest
from dal.outputs import Outputs, closure
from dal.session import Session
from dal.session.queried_batch import QueriedBatch
from dal.strategy import Strategy, all_needs

#: Number of guessed classes and of nearest answered texts of a row.
GUESSES, NEAREST = 3, 3

_UNSURE = 0.5  # least ratio of the second probability to the first at which the model is unsure between two classes
_UNDECIDED = math.log(3)  # distance of a logit from its threshold, up to which the model is unsure about the class
_FAR = 1.5  # distance to the nearest answered text, in typical distances of the pool, from which a text is unlike them
_PASSED = 500  # answered texts among which neighbours are searched, where their points cost a pass of the model


class RowHints:
    """Hints about rows of one data set."""

    def __init__(self) -> None:
        self._typical: dict[str, float | None] = {}  # typical distance of the pool, by space that training leaves alone
        self._words: WordVectors | None = None

    def of(
        self,
        session: Session,
        rows: Tensor,
        acting: Strategy,
        batch: QueriedBatch | None = None,
        *,
        guessed: bool = True,
    ) -> list[dict[str, Any]]:
        """The hints of each row, as JSON values.

        "id", "score" (None if the strategy has none), "why" (a phrase; empty without a batch), "guesses" (the
        `GUESSES` most probable classes with their probabilities, most probable first, and all above 1/2 when
        multi-label; none without a model), "near" (ids and classes of the `NEAREST` answered texts, nearest first) and
        "read_up_to" (number of characters that the model reads; None for all).

        Args:
            session: session of the rows.
            rows: (n,) rows of the pool.
            acting: strategy that acts in this round.
            batch: selection of these rows; None if they were not selected now.
            guessed: whether to guess classes, if there is a model.
        """
        n = len(rows)
        if not n:
            return []
        guesses, reasons = self._guesses(session, rows, acting if guessed else None)
        near, distances = self._neighbors(session, rows)
        for place, distance in enumerate(distances):
            if distance >= _FAR:
                reasons[place].append("unlike the texts that have an answer")
        read = _characters_read(session, rows)
        scores: list[float | None] = [None] * n if batch is None or batch.scores is None else batch.scores.tolist()
        hints = []
        for place, row in enumerate(rows.tolist()):
            score = scores[place]
            score = None if score is None or not math.isfinite(score) else score
            why = "; ".join(reasons[place])
            if batch is None:
                why = ""
            elif batch.strategy == "Random":
                why = "drawn at random"
            elif not why:
                why = f"number {place + 1} of {n} by {batch.shown_strategy}" + (
                    "" if score is None else f" ({score:.3g})"
                )
            hints.append(
                {
                    "id": session.pool.ids[row],
                    "score": score,
                    "why": why,
                    "guesses": guesses[place],
                    "near": near[place],
                    "read_up_to": read[place],
                }
            )
        return hints

    def _guesses(
        self, session: Session, rows: Tensor, acting: Strategy | None
    ) -> tuple[list[list[list[Any]]], list[list[str]]]:
        """The most probable classes of each row with their probabilities, and what the model is unsure about."""
        classes, outputs = session.pool.classes, None if acting is None else _logits(session, rows, acting)
        guesses: list[list[list[Any]]] = [[] for _ in range(len(rows))]
        reasons: list[list[str]] = [[] for _ in range(len(rows))]
        if outputs is None:
            return guesses, reasons
        for place, probs in enumerate(outputs.probs.double()):
            above = int((probs > 0.5).sum()) if outputs.multilabel else 0
            top = probs.topk(min(max(GUESSES, above), len(classes)))
            codes, values = top.indices.tolist(), top.values.tolist()
            guesses[place] = [[classes[code], round(p, 4)] for code, p in zip(codes, values, strict=True)]
            if unsure := _unsure(outputs, place):  # in the order of the classes, so that no class is suggested
                of = "about" if outputs.multilabel else "between"
                reasons[place].append(f"the model is unsure {of} {' and '.join(classes[code] for code in unsure)}")
        return guesses, reasons

    def _neighbors(self, session: Session, rows: Tensor) -> tuple[list[list[list[Any]]], list[float]]:
        """Id and class of the answered texts nearest to each row, and the distance to the nearest of them.

        Distances are in typical distances of the pool; none where they cannot be compared with each other, as those of
        words, by which a learner without embeddings and features compares texts.
        """
        none: list[list[list[Any]]] = [[] for _ in range(len(rows))]
        space, (labeled, codes) = Space.of(session), session.pool_state.labeled_set
        if not len(labeled):
            return none, []
        if space is None:
            return self._neighbors_by_words(session, rows), []
        free = space.name in closure(session.learner.label_free)
        if not free and len(labeled) > _PASSED:
            order = torch.randperm(len(labeled), generator=torch.Generator().manual_seed(session.seed))
            labeled, codes = labeled[order[:_PASSED]], codes[order[:_PASSED]]
        try:
            points, answered = space.points(rows), space.points(labeled)
        except DalError:  # such as labels of a single class, on which no model with features can be trained
            return none, []
        found = k_nearest(points, min(NEAREST, len(labeled)), among=answered)
        near = _named(session, labeled, codes, found.indices.tolist())
        if free and space.name not in self._typical:
            self._typical[space.name] = typical_distance(space.points(space.order[: REFERENCE[space.name]]))
        typical = self._typical.get(space.name)
        return near, [] if typical is None else (found.distances[:, 0].double() / typical).tolist()

    def _neighbors_by_words(self, session: Session, rows: Tensor) -> list[list[list[Any]]]:
        """Id and class of the answered texts with the most similar words."""
        labeled, codes = session.pool_state.labeled_set
        try:
            self._words = self._words or WordVectors(session)
        except DalError:  # rows that are no texts, or texts without words
            return [[] for _ in range(len(rows))]
        return _named(session, labeled, codes, self._words.nearest(rows, labeled, NEAREST))


def _named(session: Session, labeled: Tensor, codes: Tensor, found: list[list[int]]) -> list[list[list[Any]]]:
    """Ids and classes of answered texts, which are given by their positions in `labeled`."""
    names = session.pool.names_of(codes)
    return [[[session.pool.ids[int(labeled[at])], names[at]] for at in row] for row in found]


def _characters_read(session: Session, rows: Tensor) -> list[int | None]:
    """Number of characters of each text that the model reads; None where it reads all, and for pairs of texts."""
    model, max_length = (getattr(session.learner, name, None) for name in ("model", "max_length"))
    if not isinstance(session.pool.inputs, TextColumn) or not isinstance(model, str) or not isinstance(max_length, int):
        return [None] * len(rows)
    from dal.learners.text.tokenizers import read_characters  # which loads transformers

    return read_characters(session.pool.texts(rows), model, max_length)


def _logits(session: Session, rows: Tensor, acting: Strategy) -> Outputs | None:
    """Logits of the current model, on the CPU; None without a model.

    A model that charges for its answers is read only where the strategy has read it, so that hints cost nothing.
    """
    learner = session.learner
    if "dollars" in learner.provides and not closure(all_needs(acting)) & {"logits", "log_probs", "probs"}:
        return None
    if not session.pool.classes or not (session.trains or "logits" in closure(learner.label_free)):
        return None
    try:
        outputs = session.read(rows, {"logits"}).to("cpu")
    except DalError:  # such as labels of a single class, which keep no strategy without a model from selecting
        return None
    return outputs if bool(torch.isfinite(outputs.logits).all()) else None


def _unsure(outputs: Outputs, place: int) -> list[int]:
    """Classes between which, or when multi-label about which, the model is unsure; in the order of the classes."""
    if outputs.multilabel:
        thresholds = 0 if outputs.thresholds is None else outputs.thresholds
        distance = (outputs.logits[place] - thresholds).abs()
        close = distance.argsort(stable=True)[:GUESSES]
        return sorted(close[distance[close] <= _UNDECIDED].tolist())
    probs = outputs.probs[place]
    if len(probs) < 2:
        return []
    top = probs.topk(2)
    return sorted(top.indices.tolist()) if top.values[1] >= _UNSURE * top.values[0] else []
