"""`dal autolabel`: label the remaining rows automatically where an error guarantee allows it."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dal.annotate.label_cells import cell_of
from dal.annotate.row_matching import rows_by_id
from dal.annotate.sheet import check_classes
from dal.commands.paths import check_sources, sources_of
from dal.commands.stored_model import Model, Place, load
from dal.commands.terminal import say
from dal.config.stored import describe
from dal.data.columns import digests
from dal.data.seeded_samples import keys
from dal.errors import ConfigError, SessionError
from dal.evaluation.automatic_labels import Decisions, decide
from dal.evaluation.automation import labels_needed
from dal.evaluation.confidence import is_right
from dal.experiments.console import Console, reading
from dal.experiments.interrupts import interruptible
from dal.session import Session
from dal.store.accuracy_samples import read_checks
from dal.store.events import Value
from dal.store.spreadsheet import as_csv, write_csv

_STREAM = 0  # random stream of the order of held-out rows


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Labeled rows that the model was not trained on, in random order.

    Attributes:
        what: name of the rows in messages.
        logits: (m, C).
        labels: (m,), or (m, C) when multi-label.
        known: (m,) bool; False where a person declined.
        since: number of labels that were selected from the pool but not from these rows.
        notes: remarks for the user.
    """

    what: str
    logits: Tensor
    labels: Tensor
    known: Tensor
    since: int
    notes: tuple[str, ...] = ()


def label(place: Place, options: argparse.Namespace) -> int:
    """Run `dal autolabel` on a session and return the exit code."""
    with interruptible(None) as check, Console(stderr=True) as reporter:
        if not options.dry_run:
            check_sources(options.output, sources_of(place.experiment))
        reporter.stage(reading(place.experiment.data))
        model = load(place, reporter.monitor(check))
        with model.session as session:
            reporter.stage("loading the model")
            return _label(session, model, options, reporter)


def _label(session: Session, model: Model, options: argparse.Namespace, reporter: Console) -> int:
    check_classes(session.pool.classes, multilabel=session.pool.multilabel)
    answered = {name for check in read_checks(model.place.folder) for name in check.answers}
    rows = [row for row in _unlabeled(session).tolist() if session.pool.ids[row] not in answered]
    if not rows:
        raise SessionError(f"{model.place.folder}: nothing is left to label: all texts have an answer")
    held = _held_out(model, options.max_error, options.delta)
    logits = model.logits("pool", torch.tensor(rows))
    decisions = decide(logits, held.logits, held.labels, options.max_error, delta=options.delta, known=held.known)
    asked = ~torch.isin(torch.tensor(rows), session.unasked_rows)
    automatic = decisions.automatic & ~asked  # a person was asked for these or has declined them
    reporter.clear()
    for line in _summary(model, held, decisions, automatic, torch.tensor(rows)):
        print(line)
    for note in held.notes:
        say(note)
    if not options.dry_run:
        write_csv(options.output, _csv(session, rows, decisions, automatic))
        print(f"written: {options.output}")
    return 0


def _unlabeled(session: Session) -> Tensor:
    labeled = torch.zeros(len(session.pool), dtype=torch.bool)
    labeled[session.labeled_rows] = True
    return (~labeled).nonzero().flatten()


# -- held-out labels -------------------------------------------------------------------------------------------------


def _held_out(model: Model, max_error: float, delta: float) -> HeldOut:
    """The held-out labels: validation part, else random sample, else test part.

    Raises:
        ConfigError: there are none. The message says how to get some.
    """
    data = model.session.data
    if data.validation is not None and bool(data.validation.known.any()):
        return _part(model, "validation", "the validation part", _reuse_warning(model.place))
    sample = _random_sample(model)
    if sample is not None:
        return sample
    if data.test is not None and bool(data.test.known.any()):
        note = (
            "there is no validation part, so the test labels chose the threshold: later scores on the test part are "
            "no longer independent of the model's use (data.validation: 0.2 sets a validation part aside)"
        )
        return _part(model, "test", "the test part", (note,))
    wanted = -10 * (-labels_needed(max_error, delta) * 4 // 10)
    place = model.place.folder
    raise ConfigError(
        f"{place} has no held-out labels to choose a threshold by: label a random sample (dal estimate {place} "
        f"-n {wanted} --random -o check.csv), or, where the data has labels, start again with data.validation: 0.2"
    )


def _part(model: Model, part: str, what: str, notes: tuple[str, ...]) -> HeldOut:
    """Labeled rows of a part of the data, in a random order given by their ids and the seed."""
    table = getattr(model.session.data, part)
    rows = table.known.nonzero().flatten()
    order = keys(digests(table.ids.take(rows.numpy())), model.place.cell.seed, _STREAM).argsort(kind="stable")
    rows = rows[torch.from_numpy(order)]
    known = torch.ones(len(rows), dtype=torch.bool)
    since = len(model.session.labels) - model.session.given
    return HeldOut(what, model.logits(part, rows), table.labels[rows], known, since, notes)


def _random_sample(model: Model) -> HeldOut | None:
    """Answers to rows drawn uniformly by `dal estimate --random`, without those that became training labels."""
    session = model.session
    unlabeled = set(_unlabeled(session).tolist())
    answers: dict[int, Value | None] = {}
    checks = [check for check in read_checks(model.place.folder) if check.uniform == 1 and check.answered]
    for check in checks:
        rows_of = rows_by_id(session.pool, check.ids[: check.answered])  # ids that are no longer in the data are absent
        for name in check.ids[: check.answered]:
            if rows_of.get(name) in unlabeled:
                answers[rows_of[name]] = check.answers[name]
    if not answers:
        return None
    rows, values = torch.tensor(list(answers)), list(answers.values())
    known = torch.tensor([value is not None for value in values])
    blank: Any = [] if session.pool.multilabel else session.pool.classes[0]
    codable = [blank if value is None else value if isinstance(value, str) else list(value) for value in values]
    labels = session.pool.codes_of(codable)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(model.place.cell.seed))
    rows, labels, known = rows[order], labels[order], known[order]
    # Later labels were selected from the sample and from the other rows alike, so the rest is still a random sample.
    return HeldOut("the random sample", model.logits("pool", rows), labels, known, since=0)


def _reuse_warning(place: Place) -> tuple[str, ...]:
    """A warning where the learner or the stopping rule uses the validation rows too."""
    stop = place.experiment.stop
    readers = ["the learner (patience)"] if _set(describe(place.experiment.learner), "patience") else []
    readers += ["the stopping rule"] if stop is not None and "validation" in stop.needs else []
    if not readers:
        return ()
    return (
        f"{' and '.join(readers)} also used the validation rows, so the model may be better on them than on other rows "
        "and the guarantee is not exact",
    )


def _set(config: Any, key: str) -> bool:
    """Whether an option is set anywhere in a config."""
    if isinstance(config, dict):
        return config.get(key) is not None or any(_set(value, key) for value in config.values())
    return isinstance(config, list) and any(_set(value, key) for value in config)


# -- output ----------------------------------------------------------------------------------------------------------


def _summary(model: Model, held: HeldOut, decisions: Decisions, automatic: Tensor, rows: Tensor) -> Iterator[str]:
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
