"""Measures of a batch in the embedding space: redundancy, novelty, coverage of the pool, and a map of the pool."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.data.columns import digests
from dal.data.seeded_samples import keys
from dal.errors import LearnerError
from dal.evaluation.batch_quality import coverage, novelty, redundancy, typical_distance
from dal.evaluation.map_projection import principal_plane
from dal.functional.neighbors import k_nearest, nearest_distance
from dal.outputs import closure
from dal.session import Session

#: Size of the reference sample of the pool, by space. Smaller for features, which cost a model pass every round.
REFERENCE = {"embeddings": 5_000, "features": 2_000}

#: Maximum number of rows of a map.
MAP = 3_000

_REFERENCE = 0x5B  # random stream of the reference sample, distinct from those of shares, limits and stop sets


class Space:
    """The pool as points: its embeddings, or features of the current model.

    The reference rows, a sample of the pool, are drawn by hashes of the ids and are the same for every seed.

    Args:
        session: session of the pool.
        name: name of the output used as points.
    """

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        self.order = shuffled(session.pool.ids, 0, _REFERENCE)
        self._session = session
        self._fixed = name in closure(session.learner.label_free)
        self._reference: Tensor | None = None
        self._typical: float | None = None
        self._known = torch.zeros(0, dtype=torch.int64)  # labeled rows included in `_nearest`
        self._nearest: Tensor | None = None

    @classmethod
    def of(cls, session: Session) -> "Space | None":
        """The space of the embeddings if the untrained learner provides them, else of its features; else None."""
        if "embeddings" in closure(session.learner.label_free):
            return cls(session, "embeddings")
        return cls(session, "features") if "features" in closure(session.learner.provides) else None

    def points(self, rows: Tensor) -> Tensor:
        """Points of rows, (n, D) float32, on the CPU.

        Raises:
            LearnerError: a point has a NaN or infinite coordinate.
        """
        points: Tensor = self._session.read(rows, {self.name})[self.name].cpu()
        bad = int((~torch.isfinite(points)).any(1).sum())
        if bad:
            raise LearnerError(
                f"the {self.name} of {bad} of {len(rows)} rows of the pool are NaN or infinite, so that no "
                "distance can be measured: check the encoder, or set measure_distances: false"
            )
        return points

    def of_batch(self, rows: Tensor) -> tuple[dict[str, Any], list[str | None]]:
        """Redundancy, novelty and coverage of a batch, (n,), by name, and the id of the nearest labeled row of each.

        The nearest rows are searched among those labeled before the batch; None if there are none.
        """
        labeled = self._session.labeled_rows
        earlier = labeled[~torch.isin(labeled, rows)]
        if self._reference is None or not self._fixed:  # a trained space moves with every fit
            self._reference = self.points(self.order[: REFERENCE[self.name]])
            self._typical = typical_distance(self._reference)
        reference, typical = self._reference, self._typical
        batch, before = self.points(rows), self.points(earlier)
        covered = coverage(self._to_labels(reference, labeled)) if len(labeled) else None
        measured = {
            "redundancy": redundancy(batch, before, typical),
            "novelty": novelty(batch, before, typical),
            "coverage_mean": None if covered is None else covered[0],
            "coverage_p95": None if covered is None else covered[1],
            "space": self.name,
        }
        if not len(batch) or not len(before):
            return measured, [None] * len(batch)
        nearest = earlier[k_nearest(batch, 1, among=before).indices.flatten()]
        return measured, [self._session.pool.ids[row] for row in nearest.tolist()]

    def _to_labels(self, reference: Tensor, labeled: Tensor) -> Tensor:
        """Distance of each reference point to the nearest labeled row; incremental if the points are fixed."""
        new = labeled[~torch.isin(labeled, self._known)]
        # The cache is invalid once a row has lost its label.
        valid = self._fixed and self._nearest is not None and len(new) + len(self._known) == len(labeled)
        nearest = nearest_distance(reference, among=self.points(new if valid else labeled))
        self._nearest = torch.minimum(self._nearest, nearest) if valid and self._nearest is not None else nearest
        self._known = labeled
        return self._nearest

    def map(self) -> dict[str, Any]:
        """Project labeled rows and reference rows to a plane, as the JSON value of `map.json`.

        "round" is 0 for an unlabeled row, else the number of the first line of `metrics.jsonl`, counted from 1, whose
        round includes its label.
        """
        session = self._session
        labeled = torch.zeros(len(session.pool), dtype=torch.bool)
        labeled[session.labeled_rows] = True
        rows = (
            torch.cat([first_rows(self.order, labeled, MAP), first_rows(self.order, ~labeled, MAP)])[:MAP].sort().values
        )
        ids = [session.pool.ids[row] for row in rows.tolist()]
        plane = principal_plane(self.points(rows))
        x, y = ([float(f"{value:.5g}") for value in column.tolist()] for column in plane.unbind(1))
        asked = session.store.asked_rounds(ids)
        later = 1 if session.given else 0  # the first line is then that of the labels in the data
        number = [asked.get(row, 1 - later) + later if on else 0 for row, on in zip(ids, labeled[rows], strict=True)]
        return {"method": "PCA", "space": self.name, "ids": ids, "x": x, "y": y, "round": number}


def shuffled(ids: Sequence[str], seed: int, stream: int) -> Tensor:
    """All rows in a random order, (N,) int64, by hashes of their ids, independent of their order and the process.

    Args:
        ids: N row ids.
        seed: random seed.
        stream: purpose of the order; different streams give independent orders.
    """
    key = keys(digests(ids), seed, stream)
    return torch.from_numpy(np.argsort(key, kind="stable").astype(np.int64))


def first_rows(order: Tensor, where: Tensor, most: int) -> Tensor:
    """The first rows of `order`, (N,), for which `where`, (N,) bool, is True; at most `most`."""
    return order[where[order]][:most]
