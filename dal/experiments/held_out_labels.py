"""Held-out labels of a stored session: labeled rows that its model was not trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from dal.config.stored import describe
from dal.data.columns import digests
from dal.data.rows import rows_by_id
from dal.data.seeded_samples import keys
from dal.evaluation.confidence import answers, is_right
from dal.session import Session
from dal.store.accuracy_samples import read_checks
from dal.store.events import Value

if TYPE_CHECKING:
    from dal.experiments.stored_model import Place, StoredModel

Part = Literal["validation", "sample", "test"]

_NAMES: dict[Part, str] = {
    "validation": "the validation part",
    "sample": "the random sample",
    "test": "the test part",
}
_STREAM = 0  # random stream of the order of held-out rows


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Labeled rows that the model was not trained on, in random order.

    Attributes:
        part: source of the rows: a part of the data, or the random samples of `dal ask --check --random`.
        logits: (m, C).
        labels: (m,), or (m, C) when multi-label.
        known: (m,) bool; False where a person declined.
        since: number of labels that were selected from the pool but not from these rows.
        thresholds: (C,), logits above which the model assigns classes when multi-label; None for 0.
    """

    part: Part
    logits: Tensor
    labels: Tensor
    known: Tensor
    since: int
    thresholds: Tensor | None = None

    @property
    def what(self) -> str:
        """Name of the rows in messages."""
        return _NAMES[self.part]

    @property
    def right(self) -> Tensor:
        """Whether the model is right on each row, (m,) bool. A declined row counts as wrong."""
        given = answers(self.logits, multilabel=self.labels.dim() == 2, thresholds=self.thresholds)
        return is_right(given, self.labels) & self.known


def find_held_out(model: "StoredModel") -> HeldOut | None:
    """The held-out labels: validation part, else random sample, else test part; None if there are none."""
    data = model.session.data
    if data.validation is not None and bool(data.validation.known.any()):
        return _of_part(model, "validation")
    sample = _random_sample(model)
    if sample is None and data.test is not None and bool(data.test.known.any()):
        return _of_part(model, "test")
    return sample


def _of_part(model: "StoredModel", part: Literal["validation", "test"]) -> HeldOut:
    """Labeled rows of a part of the data, in a random order given by their ids and the seed."""
    table = getattr(model.session.data, part)
    rows = table.known.nonzero().flatten()
    order = keys(digests(table.ids.take(rows.numpy())), model.place.cell.seed, _STREAM).argsort(kind="stable")
    rows = rows[torch.from_numpy(order)]
    known = torch.ones(len(rows), dtype=torch.bool)
    since = len(model.session.labels) - model.session.given
    return HeldOut(part, model.logits(part, rows), table.labels[rows], known, since, model.thresholds)


def _random_sample(model: "StoredModel") -> HeldOut | None:
    """Answers to rows drawn uniformly by `dal ask --check --random`, without those that became training labels."""
    session = model.session
    unlabeled = set(unlabeled_rows(session).tolist())
    given: dict[int, Value | None] = {}
    checks = [check for check in read_checks(model.place.folder) if check.uniform == 1 and check.answered]
    for check in checks:
        rows_of = rows_by_id(session.pool, check.ids[: check.answered])  # ids that are no longer in the data are absent
        for name in check.ids[: check.answered]:
            if rows_of.get(name) in unlabeled:
                given[rows_of[name]] = check.answers[name]
    if not given:
        return None
    rows, values = torch.tensor(list(given)), list(given.values())
    known = torch.tensor([value is not None for value in values])
    blank: Any = [] if session.pool.multilabel else session.pool.classes[0]
    codable = [blank if value is None else value if isinstance(value, str) else list(value) for value in values]
    labels = session.pool.codes_of(codable)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(model.place.cell.seed))
    rows, labels, known = rows[order], labels[order], known[order]
    # Later labels were selected from the sample and from the other rows alike, so the rest is still a random sample.
    return HeldOut("sample", model.logits("pool", rows), labels, known, 0, model.thresholds)


def unlabeled_rows(session: Session) -> Tensor:
    """Rows of the pool without a label, (n,) int64, ascending; those that were asked or declined included."""
    labeled = torch.zeros(len(session.pool), dtype=torch.bool)
    labeled[session.labeled_rows] = True
    return (~labeled).nonzero().flatten()


def readers_of_validation(place: "Place") -> tuple[str, ...]:
    """What else uses the validation rows, so that the model may be better on them than on other rows, by name."""
    stop = place.experiment.stop
    learner = ("the learner (patience)",) if _set(describe(place.experiment.learner), "patience") else ()
    rule = ("the stopping rule",) if stop is not None and "validation" in stop.needs else ()
    return (*learner, *rule)


def _set(config: Any, key: str) -> bool:
    """Whether an option is set anywhere in a config."""
    if isinstance(config, dict):
        return config.get(key) is not None or any(_set(value, key) for value in config.values())
    return isinstance(config, list) and any(_set(value, key) for value in config)
