"""`dal autolabel`: label the remaining rows automatically where an error guarantee allows it."""

import argparse
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dal.annotate.label_cells import cell_of
from dal.annotate.sheet import check_classes
from dal.commands.paths import check_sources, sources_of
from dal.commands.terminal import say
from dal.errors import ConfigError, SessionError
from dal.evaluation.automatic_labels import Decisions, decide
from dal.evaluation.automation import labels_needed
from dal.evaluation.confidence import is_right
from dal.experiments.console import Console, reading
from dal.experiments.held_out_labels import HeldOut, readers_of_validation, unlabeled_rows
from dal.experiments.interrupts import interruptible
from dal.experiments.stored_model import Place, StoredModel, open_model
from dal.session import Session
from dal.store.accuracy_samples import read_checks
from dal.store.spreadsheet import as_csv, write_csv


def label(place: Place, options: argparse.Namespace) -> int:
    """Run `dal autolabel` on a session and return the exit code."""
    with interruptible(None) as check, Console(stderr=True) as reporter:
        if not options.dry_run:
            check_sources(options.output, sources_of(place.experiment))
        reporter.stage(reading(place.experiment.data))
        model = open_model(place, reporter.monitor(check))
        with model.session as session:
            reporter.stage("loading the model")
            return _label(session, model, options, reporter)


def _label(session: Session, model: StoredModel, options: argparse.Namespace, reporter: Console) -> int:
    check_classes(session.pool.classes, multilabel=session.pool.multilabel)
    answered = {name for check in read_checks(model.place.folder) for name in check.answers}
    rows = [row for row in unlabeled_rows(session).tolist() if session.pool.ids[row] not in answered]
    if not rows:
        raise SessionError(f"{model.place.folder}: nothing is left to label: all texts have an answer")
    held = _require_held_out(model, options.max_error, options.delta)
    logits = model.logits("pool", torch.tensor(rows))
    decisions = decide(
        logits,
        held.logits,
        held.labels,
        options.max_error,
        delta=options.delta,
        known=held.known,
        thresholds=model.thresholds,
    )
    asked = ~torch.isin(torch.tensor(rows), session.unasked_rows)
    automatic = decisions.automatic & ~asked  # a person was asked for these or has declined them
    reporter.clear()
    for line in _summary(model, held, decisions, automatic, torch.tensor(rows)):
        print(line)
    if warning := _warning(model, held):
        say(warning)
    if not options.dry_run:
        write_csv(options.output, _csv(session, rows, decisions, automatic))
        print(f"written: {options.output}")
    return 0


# -- held-out labels -------------------------------------------------------------------------------------------------


def _require_held_out(model: StoredModel, max_error: float, delta: float) -> HeldOut:
    """The held-out labels.

    Raises:
        ConfigError: there are none. The message says how to get some.
    """
    if model.held_out is not None:
        return model.held_out
    wanted = -10 * (-labels_needed(max_error, delta) * 4 // 10)
    place = model.place.folder
    raise ConfigError(
        f"{place} has no held-out labels to choose a threshold by: label a random sample (dal estimate {place} "
        f"-n {wanted} --random -o check.csv), or, where the data has labels, start again with data.validation: 0.2"
    )


def _warning(model: StoredModel, held: HeldOut) -> str:
    """A limit of the guarantee that the user should know; empty if there is none."""
    if held.part == "test":
        return (
            "there is no validation part, so the test labels chose the threshold: later scores on the test part are "
            "no longer independent of the model's use (data.validation: 0.2 sets a validation part aside)"
        )
    readers = readers_of_validation(model.place) if held.part == "validation" else ()
    if not readers:
        return ""
    return (
        f"{' and '.join(readers)} also used the validation rows, so the model may be better on them than on other rows "
        "and the guarantee is not exact"
    )


# -- output ----------------------------------------------------------------------------------------------------------


def _summary(model: StoredModel, held: HeldOut, decisions: Decisions, automatic: Tensor, rows: Tensor) -> Iterator[str]:
    session, result = model.session, decisions.result
    yield f"{model.place.folder}: the model of {len(session.labels)} labels; {len(rows)} texts have none"
    yield (
        f"held out: {len(held.labels)} rows of {held.what}; {decisions.calibrating} chose the temperature "
        f"({decisions.temperature:.3g}) and the first threshold, {decisions.testing} tested the thresholds"
    )
    yield result.text
    count = int(automatic.sum())
    yield f"automatic: {count} of {len(rows)} texts ({count / len(rows):.1%}); to a person: {len(rows) - count}"
    if count and held.since:
        worst = min(1.0, result.bound * (count + held.since) / count)
        yield (
            f"the {held.since} texts labeled so far were selected, not drawn at random: if all of them were easy, at "
            f"most {worst:.4f} of the automatic labels are wrong"
        )
    known = session.pool.known[rows] & automatic
    if count and model.session.hide_labels and bool(known.any()):
        right = is_right(decisions.answers[known], session.pool.labels[rows[known]])
        wrong = 1 - right.double().mean().item()
        yield f"according to the labels hidden from this run, {wrong:.4f} of the automatic labels are wrong"


def _csv(session: Session, rows: Sequence[int], decisions: Decisions, automatic: Tensor) -> str:
    """The CSV file of all rows, the most confident first."""
    order = decisions.confidence.argsort(descending=True, stable=True)
    rows = torch.tensor(rows)[order].tolist()
    texts, guesses = session.pool.texts(rows), session.pool.names_of(decisions.answers[order])
    pairs = isinstance(texts[0], tuple)
    head = ["id", *(["text", "text_pair"] if pairs else ["text"]), "label", "guess", "confidence", "decision"]
    lines: list[list[object]] = [[*head]]
    columns = (rows, texts, guesses, decisions.confidence[order].tolist(), automatic[order].tolist())
    for row, text, guess, confidence, alone in zip(*columns, strict=True):
        cell, decision = cell_of(guess, session.pool.classes), "automatic" if alone else "person"
        cells = text if pairs else (text,)
        lines.append([session.pool.ids[row], *cells, cell if alone else "", cell, confidence, decision])
    return as_csv(lines)
