"""What is known about the accuracy of a stored model, in sentences, with the source of each figure."""

import math
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dal.config.allowed_code import allow_option
from dal.data.columns import TextColumn, TextPairs
from dal.data.label_values import listing
from dal.errors import LearnerError, counted, printable
from dal.evaluation.binomial import lower_bound, upper_bound
from dal.evaluation.confidence import is_right
from dal.evaluation.unbiased import Estimate, accuracy
from dal.experiments.held_out_labels import HeldOut, readers_of_validation
from dal.learner import SILENT, Monitor
from dal.learners.heads.held_out import stratified_folds
from dal.outputs import closure
from dal.session import Session
from dal.store.accuracy_samples import AccuracySample, read_checks
from dal.store.atomic_files import typed
from dal.store.check_log import check_log_path

if TYPE_CHECKING:
    from dal.experiments.stored_model import StoredModel

#: Folds of the cross-validation, and the smallest number of labels for one.
FOLDS, MIN_LABELS = 5, 10
#: Longest fit in seconds that is repeated for each fold. That of a probe with self-training on 77 classes takes 4 to 9.
MAX_FIT_SECONDS = 10.0


def trust_of(model: "StoredModel") -> str:
    """Two lines: the labels that the model was trained on, and the best available estimate of its accuracy.

    The estimate is that of an answered sample of `dal ask --check` about this model, else the accuracy on held-out
    labels, else that of a sample about an earlier model, else of a cross-validation on the labels, if a fit takes
    seconds.
    """
    return "\n".join((_training(model), _accuracy(model)))


def _training(model: "StoredModel") -> str:
    session, place = model.session, f"{model.place.folder}: {type(model.session.learner).__name__}"
    if not session.trains:
        return f"{place} without any labels{_source_of_zero_shot(model)}"
    _, labels, weights = session.pool_state.training_set
    proposed = "" if weights is None else f" and {len(session.weak_rows):,} proposed labels"
    counts = labels.sum(0) if model.multilabel else torch.bincount(labels, minlength=len(model.classes))
    missing = [name for name, count in zip(model.classes, counts.tolist(), strict=True) if not count]
    classes = f"no label for {listing(missing)}" if missing else "every class has a label"
    return f"{place}, trained on {len(session.labels):,} labels{proposed}; {classes}"


def _source_of_zero_shot(model: "StoredModel") -> str:
    """What the predictions are made from where there are no labels; empty where the learner needs none."""
    if not model.predicts_from_descriptions:
        return ""
    pool = model.session.pool
    codes = [name for name, texts in zip(pool.classes, pool.descriptions, strict=True) if not texts]
    return ", from the class descriptions alone" + (f"; no description for {listing(codes)}" if codes else "")


def _accuracy(model: "StoredModel") -> str:
    folder, event = model.place.folder, model.session.store.labels_event
    measure = f"`{shlex.join(['dal', 'ask', str(folder), '--check', '100'])}{allow_option()}` measures it"
    samples = [sample for sample in read_checks(folder) if sample.answered]
    current = [sample for sample in samples if sample.event == event]
    if current:
        return _on_sample(model, current[-1], "of this model")
    if model.held_out is not None:
        return _on_held_out(model, model.held_out)
    if samples:
        return _on_sample(model, samples[-1], f"of an earlier model, with {samples[-1].labels:,} labels,")
    right = cross_validated(model.session, model.monitor)
    if right is not None:
        return (
            f"accuracy {_with_interval(right)} by {FOLDS}-fold cross-validation on the {len(right):,} labels; texts "
            f"that a strategy selects tend to be harder than others, so it may be too low: {measure}"
        )
    return f"the accuracy is not known: {measure}"


def accuracy_on(sample: AccuracySample) -> Estimate:
    """Accuracy on the rows that a sample was drawn from, estimated from its leading rows with an answer."""
    right = sample.right
    return accuracy(right, sample.probabilities[: len(right)], sample.population)


def _on_sample(model: "StoredModel", sample: AccuracySample, which: str) -> str:
    result, gap = accuracy_on(sample), about_gap(sample, model.session, model.place.folder)
    return (
        f"accuracy {result.share:.3f} (95 % interval {result.low:.3f} to {result.high:.3f}) {which} on the "
        f"{sample.population:,} texts of the pool without a label, from {result.rows:,} answers to `dal ask --check`"
        + (f"; {gap}" if gap else "")
    )


def about_gap(sample: AccuracySample, session: Session, folder: Path) -> str:
    """Which text of a sample has no answer, so that later answers do not count, and how to answer it; else ""."""
    gap = sample.gap
    if gap is None:
        return ""
    here = typed(folder)
    if check_log_path(folder, sample.number).exists() and sample.number == read_checks(folder)[-1].number:
        size = f"{len(sample.ids)}{' --random' if sample.uniform == 1 else ''}"
        how = f"answer it with `dal annotate {here} --check {size}`"
    else:
        how = f"answer it in the file of the check, then `dal tell {here} check.csv{allow_option()}`"
    begins = _beginning(session, gap)
    return (
        f"{counted(sample.uncounted, 'answer')} of check {sample.number} {'does' if sample.uncounted == 1 else 'do'} "
        f"not count, since the text {printable(gap)!r}{begins}, number {sample.answered + 1:,} of "
        f"{len(sample.ids):,} in the order of drawing, has no answer: {how}"
    )


def _beginning(session: Session, name: str) -> str:
    """The beginning of the text of a row, in parentheses; empty for a row that is no longer in the data."""
    pool, rows = session.pool, session.rows_of([name])
    if not len(rows) or not isinstance(pool.inputs, TextColumn | TextPairs):
        return ""
    [text] = pool.texts(rows.tolist())
    return f" ({printable(' '.join((text if isinstance(text, str) else ' '.join(text)).split()), 60)})"


def _on_held_out(model: "StoredModel", held: HeldOut) -> str:
    readers = readers_of_validation(model.place) if held.part == "validation" else ()
    but = f"; {' and '.join(readers)} also used them, so it may be too high" if readers else ""
    return f"accuracy {_with_interval(held.right)} on {len(held.labels):,} rows of {held.what}{but}"


def _with_interval(right: Tensor) -> str:
    return "{:.3f} (95 % interval {:.3f} to {:.3f})".format(*share_right(right))


def share_right(right: Tensor) -> tuple[float, float, float]:
    """Share of correct answers, and its 95 % interval of Clopper and Pearson.

    Args:
        right: (L,) bool, L >= 1.
    """
    hits, rows = int(right.sum()), len(right)
    return hits / rows, lower_bound(hits, rows, 0.025), upper_bound(hits, rows, 0.025)


def cross_validated(
    session: Session, monitor: Monitor = SILENT, *, max_fit_seconds: float | None = None, share: float = 1.0
) -> Tensor | None:
    """Whether models trained on the other folds are right on each label, (L,) bool; None if it was not done.

    It is done for at least `MIN_LABELS` labels, none of them proposed, and for learners that are trained on labels in
    seconds and without costs. Where the session's own fit took longer, it may have embedded all texts, which a fold
    does not repeat: then the first fold shows how long a fit takes, and is given up at the limit.

    Args:
        session: session with the labels.
        monitor: receives the progress.
        max_fit_seconds: duration of a fit above which it is not done; None for `MAX_FIT_SECONDS`.
        share: share of the other folds, drawn at random, to train on, above 0 and at most 1.
    """
    learner, (rows, labels) = session.learner, session.pool_state.labeled_set
    if len(rows) < MIN_LABELS or len(session.weak_rows):
        return None
    if "logits" in closure(learner.label_free) or "dollars" in learner.provides:
        return None
    fold, right = stratified_folds(labels, FOLDS, session.seed), torch.zeros(len(rows), dtype=torch.bool)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(session.seed))
    try:
        _ = session.predictor  # loaded or fitted here, after which the time of its fit is known
        limit = MAX_FIT_SECONDS if max_fit_seconds is None else max_fit_seconds
        is_slow = session.fit_seconds > limit
        if is_slow and "embeddings" not in closure(learner.label_free):
            return None
        for number in range(FOLDS):
            others, test = order[fold[order] != number], fold == number
            train = others[: max(1, round(share * len(others)))].sort().values
            watch = _Deadline(monitor, limit if is_slow and not number else math.inf)
            fitted = learner.fit(session.prepared, rows[train], labels[train], seed=session.seed, monitor=watch)
            watch.advanced(0)
            outputs = fitted.outputs(session.prepared, rows[test], {"logits"}, exact=True, monitor=monitor)
            right[test] = is_right(outputs.decisions.cpu(), labels[test])
    except (LearnerError, _TooSlowError):  # such as labels of a single class
        return None
    return right


class _TooSlowError(Exception):
    """A fit takes longer than the limit."""


class _Deadline(Monitor):
    """Monitor of a fit that forwards all events to another one, and ends the fit after a number of seconds.

    Raises:
        _TooSlowError: the time is over.
    """

    def __init__(self, watcher: Monitor, seconds: float) -> None:
        self._watcher, self.token_budget = watcher, watcher.token_budget
        self._end = time.monotonic() + seconds

    def started(self, what: str, total: int) -> None:
        """Forward the event."""
        self._watcher.started(what, total)

    def advanced(self, count: int) -> None:
        """Forward the event, unless the time is over."""
        if time.monotonic() > self._end:
            raise _TooSlowError
        self._watcher.advanced(count)

    def halved(self, token_budget: int) -> None:
        """Forward the event."""
        self._watcher.halved(token_budget)

    def finished(self) -> None:
        """Forward the event."""
        self._watcher.finished()
