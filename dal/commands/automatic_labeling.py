"""`dal predict FOLDER`: predict the rows of a folder that have no label, with a guarantee if there is to be one."""

import argparse
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dal.annotate.sheet import check_classes
from dal.commands.guaranteed_labels import (
    about_guarantee,
    decisions_as_csv,
    decisions_for,
    wants_guarantee,
    warning_about,
)
from dal.commands.paths import check_sources, sources_of
from dal.commands.predicted_rows import predictions_as_csv, put_out, unparsed_note
from dal.commands.terminal import say
from dal.errors import SessionError
from dal.evaluation.automatic_labels import Decisions
from dal.evaluation.confidence import is_right
from dal.experiments.console import Console, reading
from dal.experiments.held_out_labels import HeldOut, unlabeled_rows
from dal.experiments.interrupts import interruptible
from dal.experiments.stored_model import Place, StoredModel, read_model
from dal.store.accuracy_samples import read_checks


def predict_own(
    place: Place, options: argparse.Namespace, *, message: Callable[[str], None] = say, refuse: bool = True
) -> int:
    """Run `dal predict FOLDER` and return the exit code.

    Args:
        place: location of the session.
        options: options of the command.
        message: prints a line about the result.
        refuse: whether too few held-out labels are an error, see `decisions_for`.
    """
    with interruptible(None) as check, Console(stderr=True) as reporter:
        if options.output is not None and not options.dry_run:
            check_sources(options.output, sources_of(place.experiment))
        reporter.stage(reading(place.experiment.data))
        with read_model(place, reporter.monitor(check)) as model:
            check_classes(model.classes, multilabel=model.multilabel)
            reporter.stage("loading the model")
            rows = _rows_to_predict(model)
            if wants_guarantee(options):
                lines, text = _decided(model, rows, options, refuse)
            else:
                own = model.session.pool.take(rows.numpy())
                found = model.predict(own.inputs)
                reporter.stage("measuring the accuracy")
                lines = [*model.trust.splitlines(), *unparsed_note(found)]
                text = predictions_as_csv(own, found, model.classes, texts=place.experiment.data.id is None)
            reporter.clear()
    put_out(lines, text, options, message)
    return 0


def _rows_to_predict(model: StoredModel) -> Tensor:
    """The rows without a label, (n,) int64, but those that are answered in a sample."""
    pool = model.session.pool
    answered = {name for check in read_checks(model.place.folder) for name in check.answers}
    rows = [row for row in unlabeled_rows(model.session).tolist() if pool.ids[row] not in answered]
    if not rows:
        raise SessionError(f"{model.place.folder}: nothing is left to label: all texts have an answer")
    return torch.tensor(rows)


def _decided(model: StoredModel, rows: Tensor, options: argparse.Namespace, refuse: bool) -> tuple[list[str], str]:
    """Messages about the automatic labels, and the CSV text of all rows, the most confident first."""
    session = model.session
    held, found = decisions_for(model, model.logits("pool", rows), options, refuse=refuse)
    asked = ~torch.isin(rows, session.unasked_rows)
    automatic = found.automatic & ~asked  # a person was asked for these or has declined them
    lines = list(_summary(model, held, found, automatic, rows))
    if warning := warning_about(model, held):
        say(warning)
    order = found.confidence.argsort(descending=True, stable=True)
    sorted_rows = rows[order].tolist()
    text = decisions_as_csv(
        [session.pool.ids[row] for row in sorted_rows],
        session.pool.texts(sorted_rows),
        session.pool.names_of(found.answers[order]),
        found.confidence[order],
        automatic[order],
        model.classes,
    )
    return lines, text


def _summary(model: StoredModel, held: HeldOut, found: Decisions, automatic: Tensor, rows: Tensor) -> Iterator[str]:
    session, result = model.session, found.result
    yield f"{model.place.folder}: the model of {len(session.labels):,} labels; {len(rows):,} texts have none"
    yield from about_guarantee(model, held, found)
    count = int(automatic.sum())
    yield f"automatic: {count:,} of {len(rows):,} texts ({count / len(rows):.1%}); to a person: {len(rows) - count:,}"
    if count and held.since and result is not None:
        worst = min(1.0, result.bound * (count + held.since) / count)
        yield (
            f"the {held.since:,} texts labeled so far were selected, not drawn at random: if all of them were easy, at "
            f"most {worst:.4f} of the automatic labels are wrong"
        )
    if held.since and found.recalls:
        yield (
            f"the {held.since:,} texts labeled so far were selected, not drawn at random: the shares of the classes "
            "hold for texts like the held-out ones, and the rest of the pool may have harder ones"
        )
    known = session.pool.known[rows] & automatic
    if count and session.hide_labels and bool(known.any()):
        right = is_right(found.answers[known], session.pool.labels[rows[known]])
        wrong = 1 - right.double().mean().item()
        yield f"according to the labels hidden from this run, {wrong:.4f} of the automatic labels are wrong"
