"""What several fallible answers to the same row say together, and how often each who answers is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dal.errors import DataError
from dal.functional.checking import number, whole


@dataclass(frozen=True, eq=False)
class Consensus:
    """What the answers of S sources to N rows say together.

    Attributes:
        posterior: (N, C), the probability of each class, rows that sum to 1.
        confusion: (S, C, C), the probability that source s answers l where the truth is c, at [s, c, l].
        prevalence: (C,), how frequent each class is.
        rounds: of the algorithm.
    """

    posterior: NDArray[np.float64]
    confusion: NDArray[np.float64]
    prevalence: NDArray[np.float64]
    rounds: int

    def judged(self, votes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The posterior (M, C) of further rows, by these error rates and prevalences; nothing is learnt from them.

        Args:
            votes: (M, S), the class that each source answered, -1 where it did not.

        Raises:
            DataError: a vote is no class, or the sources are not S.

        Example:
            >>> found = dawid_skene(np.array([[0, 0], [1, 1], [0, 1]]), 2, known=[0, 1, 0])
            >>> found.judged(np.array([[0, 1]])).argmax(1).tolist()
            [0]
        """
        votes, (sources, classes) = _codes(votes, "votes"), self.confusion.shape[:2]
        _check(votes, np.full(len(votes), -1), classes)
        if votes.shape[1] != sources:
            raise DataError(f"votes are (M, {sources}), one for each source, got {votes.shape}")
        return _posterior(self.prevalence, self.confusion, votes[:, :, None] == np.arange(classes))


def dawid_skene(
    votes: NDArray[np.int64],
    classes: int,
    *,
    known: Sequence[int] | NDArray[np.int64] | None = None,
    smoothing: float = 1.0,
    tolerance: float = 1e-6,
    most: int = 500,
) -> Consensus:
    """The consensus by expectation and maximisation; rows whose truth is known keep it and teach the error rates.

    Each source has a confusion matrix of its own, and sources err independently given the truth. A start by the
    majority, then turns: error rates and prevalences from the posterior, the posterior from them. Counts are smoothed
    by `smoothing` answers spread as the source's own overall accuracy says, so that a class that a source never met
    takes the rates that it has elsewhere. Where the sources are as often wrong as right, nothing can be learnt from
    them without known rows.

    Dawid and Skene 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm".

    Args:
        votes: (N, S), the class that each source answered, -1 where it did not.
        classes: C.
        known: (N,), the true class, -1 where nobody knows it.
        smoothing: answers added for each class of each source, above 0.
        tolerance: the largest change of a posterior at which it ends.
        most: turns.

    Raises:
        DataError: a vote is no class, or the shapes do not fit.

    Example:
        >>> votes = np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]])
        >>> dawid_skene(votes, 2).posterior.argmax(1).tolist()
        [0, 1, 0, 1]
    """
    classes, most = whole(classes, "classes", 1), whole(most, "most", 1)
    smoothing, tolerance = number(smoothing, "smoothing", above=0), number(tolerance, "tolerance", 0)
    votes = _codes(votes, "votes")
    truth = np.full(len(votes), -1) if known is None else _codes(known, "known classes")
    _check(votes, truth, classes)
    said = votes[:, :, None] == np.arange(classes)  # (N, S, C): all False where a source did not answer
    anchors = truth[:, None] == np.arange(classes)  # (N, C)
    posterior = _anchored(_majority(said), truth, anchors)
    rounds, change = 0, np.inf
    while change > tolerance and rounds < most:
        prevalence, confusion = _rates(posterior, said, smoothing)
        before, posterior = posterior, _anchored(_posterior(prevalence, confusion, said), truth, anchors)
        rounds, change = rounds + 1, np.abs(posterior - before).max(initial=0.0)
    prevalence, confusion = _rates(posterior, said, smoothing)
    return Consensus(posterior, confusion, prevalence, rounds)


def _codes(given: Sequence[int] | NDArray[np.int64], what: str) -> NDArray[np.int64]:
    codes = np.asarray(given)
    if codes.size and (codes.dtype == np.bool_ or not np.issubdtype(codes.dtype, np.integer)):
        raise DataError(f"{what} must be whole numbers, not {codes.dtype}")
    return codes.astype(np.int64)


def _check(votes: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> None:
    if votes.ndim != 2 or truth.shape != votes.shape[:1]:
        raise DataError(f"votes are (N, S) and known classes (N,), got {votes.shape} and {truth.shape}")
    for name, codes in (("vote", votes), ("known class", truth)):
        if codes.size and (codes.min() < -1 or codes.max() >= classes):
            raise DataError(f"a {name} is not one of the {classes} classes, nor -1")


def _majority(said: NDArray[np.bool_]) -> NDArray[np.float64]:
    counts = said.sum(1).astype(float)
    given = counts.sum(1, keepdims=True)
    shares: NDArray[np.float64] = np.where(given > 0, counts / np.maximum(given, 1), 1 / counts.shape[1])
    return shares


def _anchored(
    posterior: NDArray[np.float64], truth: NDArray[np.int64], anchors: NDArray[np.bool_]
) -> NDArray[np.float64]:
    held: NDArray[np.float64] = np.where((truth >= 0)[:, None], anchors.astype(float), posterior)
    return held


def _rates(
    posterior: NDArray[np.float64], said: NDArray[np.bool_], smoothing: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Prevalences (C,) and confusions (S, C, C) that the posterior makes most likely, smoothed."""
    classes = posterior.shape[1]
    prevalence = (posterior.sum(0) + 1) / (len(posterior) + classes)
    counts = np.einsum("nc,nsl->scl", posterior, said.astype(float))
    total = counts.sum((1, 2))
    right = (np.einsum("scc->s", counts) + 1) / (total + 2)
    wrong = (1 - right) / max(1, classes - 1)
    prior = np.where(np.eye(classes, dtype=bool), right[:, None, None], wrong[:, None, None])  # (S, C, C)
    smoothed = counts + smoothing * prior
    return prevalence, smoothed / smoothed.sum(2, keepdims=True)


def _posterior(
    prevalence: NDArray[np.float64], confusion: NDArray[np.float64], said: NDArray[np.bool_]
) -> NDArray[np.float64]:
    logs = np.log(prevalence) + np.einsum("nsl,scl->nc", said.astype(float), np.log(confusion))
    logs -= logs.max(1, keepdims=True)
    weights = np.exp(logs)
    out: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return out
