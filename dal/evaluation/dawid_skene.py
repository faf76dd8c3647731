"""Dawid-Skene consensus of several noisy annotations per row, with the error rates of each source."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dal.config.moved import accepts_old_attributes, accepts_old_keywords
from dal.errors import DataError
from dal.functional.checking import number, whole


@accepts_old_attributes
@dataclass(frozen=True, eq=False)
class Consensus:
    """Consensus of the answers of S sources to N rows.

    Attributes:
        posterior: (N, C) class probabilities; each row sums to 1.
        confusion: (S, C, C); entry [s, c, l] is the probability that source s answers l where the truth is c.
        prevalence: (C,) frequency of each class.
        rounds: number of EM iterations.
    """

    posterior: NDArray[np.float64]
    confusion: NDArray[np.float64]
    prevalence: NDArray[np.float64]
    rounds: int

    def predict(self, votes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Posterior (M, C) of new rows with the fitted error rates and prevalences, which are not updated.

        Args:
            votes: (M, S), the class that each source answered, -1 where it did not.

        Raises:
            DataError: a vote is not a class, or there are not S sources.

        Example:
            >>> found = dawid_skene(np.array([[0, 0], [1, 1], [0, 1]]), 2, known=[0, 1, 0])
            >>> found.predict(np.array([[0, 1]])).argmax(1).tolist()
            [0]
        """
        votes, (sources, classes) = _codes(votes, "votes"), self.confusion.shape[:2]
        _check(votes, np.full(len(votes), -1), classes)
        if votes.shape[1] != sources:
            raise DataError(f"votes must be (M, {sources}), one for each source, got {votes.shape}")
        return _posterior(self.prevalence, self.confusion, votes[:, :, None] == np.arange(classes))


@accepts_old_keywords
def dawid_skene(
    votes: NDArray[np.int64],
    classes: int,
    *,
    known: Sequence[int] | NDArray[np.int64] | None = None,
    smoothing: float = 1.0,
    tolerance: float = 1e-6,
    max_rounds: int = 500,
) -> Consensus:
    """Fit a Dawid-Skene model by expectation maximisation.

    Each source has its own confusion matrix, and sources err independently given the truth. Starting from the majority
    vote, each iteration estimates error rates and prevalences from the posterior (M step) and the posterior from these
    (E step). Rows with a known class keep it, and so inform the error rates. Counts are smoothed by `smoothing`
    answers per class, distributed according to the source's overall accuracy, so that a class that a source never saw
    gets its average rates. Where the sources are wrong as often as right, nothing can be learned without known rows.

    Dawid and Skene 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm".

    Args:
        votes: (N, S), the class that each source answered, -1 where it did not.
        classes: number of classes C.
        known: (N,), the true class, -1 where it is unknown.
        smoothing: answers added for each class of each source, above 0.
        tolerance: stop when no posterior probability changes by more than this.
        max_rounds: largest number of iterations.

    Raises:
        DataError: a vote is not a class, or the shapes do not fit.

    Example:
        >>> votes = np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]])
        >>> dawid_skene(votes, 2).posterior.argmax(1).tolist()
        [0, 1, 0, 1]
    """
    classes, max_rounds = whole(classes, "classes", 1), whole(max_rounds, "max_rounds", 1)
    smoothing, tolerance = number(smoothing, "smoothing", above=0), number(tolerance, "tolerance", 0)
    votes = _codes(votes, "votes")
    truth = np.full(len(votes), -1) if known is None else _codes(known, "known classes")
    _check(votes, truth, classes)
    annotations = votes[:, :, None] == np.arange(classes)  # (N, S, C): all False where a source did not answer
    is_known = (truth >= 0)[:, None]  # (N, 1)
    one_hot = (truth[:, None] == np.arange(classes)).astype(float)  # (N, C)
    counts = annotations.sum(1).astype(float)  # (N, C)
    answered = counts.sum(1, keepdims=True)
    majority = np.where(answered > 0, counts / np.maximum(answered, 1), 1 / classes)
    posterior: NDArray[np.float64] = np.where(is_known, one_hot, majority)
    rounds, change = 0, np.inf
    while change > tolerance and rounds < max_rounds:
        prevalence, confusion = _rates(posterior, annotations, smoothing)
        before = posterior
        posterior = np.where(is_known, one_hot, _posterior(prevalence, confusion, annotations))
        rounds, change = rounds + 1, np.abs(posterior - before).max(initial=0.0)
    prevalence, confusion = _rates(posterior, annotations, smoothing)  # of the last posterior, for `predict`
    return Consensus(posterior, confusion, prevalence, rounds)


def _codes(given: Sequence[int] | NDArray[np.int64], what: str) -> NDArray[np.int64]:
    codes = np.asarray(given)
    if codes.size and (codes.dtype == np.bool_ or not np.issubdtype(codes.dtype, np.integer)):
        raise DataError(f"{what} must be whole numbers, not {codes.dtype}")
    return codes.astype(np.int64)


def _check(votes: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> None:
    if votes.ndim != 2 or truth.shape != votes.shape[:1]:
        raise DataError(f"votes must be (N, S) and known classes (N,), got {votes.shape} and {truth.shape}")
    for name, codes in (("vote", votes), ("known class", truth)):
        if codes.size and (codes.min() < -1 or codes.max() >= classes):
            raise DataError(f"a {name} is neither one of the {classes} classes nor -1")


def _rates(
    posterior: NDArray[np.float64], annotations: NDArray[np.bool_], smoothing: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """M step: smoothed prevalences (C,) and confusion matrices (S, C, C)."""
    classes = posterior.shape[1]
    prevalence = (posterior.sum(0) + 1) / (len(posterior) + classes)  # never 0: its logarithm is taken
    counts = np.einsum("nc,nsl->scl", posterior, annotations.astype(float))
    total = counts.sum((1, 2))
    # Overall accuracy of each source, pulled towards 1/2 as long as it has few answers (rule of succession).
    right = (np.einsum("scc->s", counts) + 1) / (total + 2)
    wrong = (1 - right) / max(1, classes - 1)
    prior = np.where(np.eye(classes, dtype=bool), right[:, None, None], wrong[:, None, None])  # (S, C, C)
    smoothed = counts + smoothing * prior
    return prevalence, smoothed / smoothed.sum(2, keepdims=True)


def _posterior(
    prevalence: NDArray[np.float64], confusion: NDArray[np.float64], annotations: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """E step: class probabilities (N, C) given the annotations (N, S, C)."""
    logs = np.log(prevalence) + np.einsum("nsl,scl->nc", annotations.astype(float), np.log(confusion))
    logs -= logs.max(1, keepdims=True)  # products over many sources would underflow
    weights = np.exp(logs)
    out: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return out
