"""The space in which a session's rows are near or far: how new a batch is, how the pool is covered, and its map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.data.columns import digests
from dal.data.seeded_samples import keys
from dal.errors import LearnerError
from dal.evaluation.batch_quality import coverage, novelty, redundancy, typical_distance
from dal.evaluation.projection import principal_plane
from dal.functional.neighbors import k_nearest, nearest_distance
from dal.outputs import closure
from dal.session import Session

#: Pool rows that stand for the pool, by space: features cost a pass over the model every round.
REFERENCE = {"embeddings": 5_000, "features": 2_000}

#: Rows of a map, at most.
MAP = 3_000

_REFERENCE = 0x5B  # what the sample is drawn for: apart from the shares, limits and stop sets


class Space:
    """Points of a session's pool: its embeddings, or features of the present model.

    The reference rows, which stand for the pool, are drawn by the hashes of the ids and are the same for every seed.

    Args:
        session: whose.
        name: of the outputs that are points.
    """

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        self.order = shuffled(session.pool.ids, 0, _REFERENCE)
        self._session = session
        self._fixed = name in closure(session.learner.label_free)
        self._reference: Tensor | None = None
        self._typical: float | None = None
        self._known = torch.zeros(0, dtype=torch.int64)  # the labeled rows that `_nearest` accounts for
        self._nearest: Tensor | None = None

    @classmethod
    def of(cls, session: Session) -> "Space | None":
        """The embeddings where the learner has them without labels, else its features; None without either."""
        if "embeddings" in closure(session.learner.label_free):
            return cls(session, "embeddings")
        return cls(session, "features") if "features" in closure(session.learner.provides) else None

    def points(self, rows: Tensor) -> Tensor:
        """The points of these rows, (n, D) float32, on the CPU.

        Raises:
            LearnerError: some of them are not finite.
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
        """Redundancy, novelty and coverage of the chosen rows (n,), by name, and the nearest labeled row of each.

        The latter are the ids of the rows that had a label before the batch, in the order of the choice; None without
        any.
        """
        labeled = self._session.labeled_rows
        earlier = labeled[~torch.isin(labeled, rows)]
        reference, typical = self._standard()
        batch, before = self.points(rows), self.points(earlier)
        covered = coverage(self._to_labels(reference, labeled)) if len(labeled) else None
        measured = {
            "redundancy": redundancy(batch, before, typical),
            "novelty": novelty(batch, before, typical),
            "coverage_mean": None if covered is None else covered[0],
            "coverage_p95": None if covered is None else covered[1],
            "space": self.name,
        }
        return measured, self._nearest_ids(batch, before, earlier)

    def _nearest_ids(self, batch: Tensor, before: Tensor, earlier: Tensor) -> list[str | None]:
        """The id of the row (of `earlier`, whose points are `before`) that is nearest to each point of a batch."""
        if not len(batch) or not len(before):
            return [None] * len(batch)
        found = k_nearest(batch, 1, among=before).indices.flatten()
        return [self._session.pool.ids[row] for row in earlier[found].tolist()]

    def _standard(self) -> tuple[Tensor, float | None]:
        """The reference points, and how far apart neighbours among them typically are: once where training changes
        neither."""
        if self._reference is None or not self._fixed:
            self._reference = self.points(self.order[: REFERENCE[self.name]])
            self._typical = typical_distance(self._reference)
        return self._reference, self._typical

    def _to_labels(self, reference: Tensor, labeled: Tensor) -> Tensor:
        """Distance of every reference point to its nearest label; only what is new is measured, where points stay."""
        new = labeled[~torch.isin(labeled, self._known)]
        stands = self._fixed and self._nearest is not None and len(new) + len(self._known) == len(labeled)
        nearest = nearest_distance(reference, among=self.points(new if stands else labeled))
        self._nearest = torch.minimum(self._nearest, nearest) if stands and self._nearest is not None else nearest
        self._known = labeled
        return self._nearest

    def map(self) -> dict[str, Any]:
        """The labeled rows and reference rows in a plane: what `map.json` holds.

        "round" is 0 for a row without a label, else the number of the line of `metrics.jsonl`, counted from 1, that has
        its label first.
        """
        session, labeled = self._session, self._labeled()
        rows = torch.cat([first(self.order, labeled, MAP), first(self.order, ~labeled, MAP)])[:MAP].sort().values
        ids = [session.pool.ids[row] for row in rows.tolist()]
        plane = principal_plane(self.points(rows))
        x, y = ([float(f"{value:.5g}") for value in column.tolist()] for column in plane.unbind(1))
        asked = {event.row: event.round for event in session.store.events() if event.kind == "asked"}
        later = 1 if session.given else 0  # the first line is then that of the labels that came with the data
        number = [asked.get(row, 1 - later) + later if on else 0 for row, on in zip(ids, labeled[rows], strict=True)]
        return {"method": "PCA", "space": self.name, "ids": ids, "x": x, "y": y, "round": number}

    def _labeled(self) -> Tensor:
        mask = torch.zeros(len(self._session.pool), dtype=torch.bool)
        mask[self._session.labeled_rows] = True
        return mask


def shuffled(ids: Sequence[str], seed: int, stream: int) -> Tensor:
    """All rows in a random order, (N,) int64, by the hashes of their ids: neither their order nor the process matters.

    Args:
        ids: N.
        seed: decides the order, together with what it is for, `stream`.
    """
    key = keys(digests(ids), seed, stream)
    return torch.from_numpy(np.argsort(key, kind="stable").astype(np.int64))


def first(order: Tensor, where: Tensor, most: int) -> Tensor:
    """The first rows of the order (N,) at which `where` (N,) bool holds, at most so many."""
    return order[where[order]][:most]
