"""`dal autolabel`: labels for every remaining row, from the model where it may answer alone, else from a person."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dal.annotate.sheet import cell_of, check_classes, rows_by_id
from dal.commands.paths import check_sources, sources_of
from dal.commands.stored_model import Model, Place, find, load
from dal.commands.terminal import say
from dal.config.stored import describe
from dal.data.columns import digests
from dal.data.seeded_samples import keys
from dal.errors import ConfigError, SessionError
from dal.evaluation.automatic_labels import Decisions, decide
from dal.evaluation.automation import labels_needed
from dal.evaluation.confidence import is_right
from dal.experiments.console import Console
from dal.experiments.interrupts import interruptible
from dal.session import Session
from dal.store.accuracy_samples import read_checks
from dal.store.events import Value
from dal.store.spreadsheet import as_csv, write_csv

_STREAM = 0  # of the random order of held-out rows


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows with labels that the model was not trained on, in random order.

    Attributes:
        what: how messages call them.
        logits: (m, C).
        labels: (m,), or (m, C) when multi-label.
        known: (m,) bool; False where a person declined.
        since: labels that were chosen from the pool and not from these rows.
        notes: what the user should know of them.
    """

    what: str
    logits: Tensor
    labels: Tensor
    known: Tensor
    since: int
    notes: tuple[str, ...] = ()


def label(options: argparse.Namespace) -> int:
    """The exit code of `dal autolabel` with these options."""
    with interruptible(None) as check:
        place = find(options.folder, options.cell)
        if not options.dry_run:
            check_sources(options.output, sources_of(place.experiment))
        model = load(place, Console().monitor(check))
        with model.session as session:
            return _label(session, model, options)


def _label(session: Session, model: Model, options: argparse.Namespace) -> int:
    check_classes(session.pool.classes, multilabel=session.pool.multilabel)
    answered = {name for check in read_checks(model.place.folder) for name in check.answers}
    rows = [row for row in _unlabeled(session).tolist() if session.pool.ids[row] not in answered]
    if not rows:
        raise SessionError(f"{model.place.folder}: nothing is left to label: all texts have an answer")
    held = _held_out(model, options.max_error, options.delta)
    logits = model.logits("pool", torch.tensor(rows))
    found = decide(logits, held.logits, held.labels, options.max_error, delta=options.delta, known=held.known)
    asked = ~torch.isin(torch.tensor(rows), session.unasked_rows)
    automatic = found.automatic & ~asked  # a person has these already, or has declined them
    for line in _said(model, held, found, automatic, torch.tensor(rows)):
        print(line)
    for note in held.notes:
        say(note)
    if not options.dry_run:
        write_csv(options.output, _csv(session, rows, found, automatic))
        print(f"written: {options.output}")
    return 0


def _unlabeled(session: Session) -> Tensor:
    labeled = torch.zeros(len(session.pool), dtype=torch.bool)
    labeled[session.labeled_rows] = True
    return (~labeled).nonzero().flatten()


# -- held-out labels -------------------------------------------------------------------------------------------------


def _held_out(model: Model, max_error: float, delta: float) -> HeldOut:
    """The labels to decide on.

    Raises:
        ConfigError: there are none. The message says how to get some.
    """
    data = model.session.data
    if data.validation is not None and bool(data.validation.known.any()):
        return _part(model, "validation", "the validation part", _read_otherwise(model.place))
    sample = _random_sample(model)
    if sample is not None:
        return sample
    if data.test is not None and bool(data.test.known.any()):
        note = (
            "there is no validation part, so the labels of the test decided, which is used up by this: scores on it "
            "are no longer those of texts that nothing was chosen by (data.validation: 0.2 sets rows aside)"
        )
        return _part(model, "test", "the test part", (note,))
    wanted = -10 * (-labels_needed(max_error, delta) * 4 // 10)
    place = model.place.folder
    raise ConfigError(
        f"{place} has no held-out labels to choose a threshold by: label a random sample (dal estimate {place} "
        f"-n {wanted} --random -o check.csv), or, where the data has labels, start again with data.validation: 0.2"
    )


def _part(model: Model, part: str, what: str, notes: tuple[str, ...]) -> HeldOut:
    """The labeled rows of a part of the data, in an order that depends on their ids and the seed."""
    of = getattr(model.session.data, part)
    rows = of.known.nonzero().flatten()
    order = keys(digests(of.ids.take(rows.numpy())), model.place.cell.seed, _STREAM).argsort(kind="stable")
    rows = rows[torch.from_numpy(order)]
    known = torch.ones(len(rows), dtype=torch.bool)
    since = len(model.session.labels) - model.session.given
    return HeldOut(what, model.logits(part, rows), of.labels[rows], known, since, notes)


def _random_sample(model: Model) -> HeldOut | None:
    """The answers to rows that were drawn at random to check a model, unless they were trained on since."""
    session = model.session
    unlabeled = set(_unlabeled(session).tolist())
    told: dict[int, Value | None] = {}
    checks = [check for check in read_checks(model.place.folder) if check.uniform == 1 and check.answered]
    for check in checks:
        rows_of = rows_by_id(session.pool, check.ids[: check.answered])  # without those that have left the data
        for name in check.ids[: check.answered]:
            if rows_of.get(name) in unlabeled:
                told[rows_of[name]] = check.answers[name]
    if not told:
        return None
    rows, values = torch.tensor(list(told)), list(told.values())
    known = torch.tensor([value is not None for value in values])
    blank: Any = [] if session.pool.multilabel else session.pool.classes[0]
    labels = session.pool.codes_of([blank if value is None else _given(value) for value in values])
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(model.place.cell.seed))
    rows, labels, known = rows[order], labels[order], known[order]
    # what was labeled since was taken from the sample and from the rest alike, so that it is still a random sample
    return HeldOut("the random sample", model.logits("pool", rows), labels, known, since=0)


def _given(value: Value) -> Any:
    return value if isinstance(value, str) else list(value)


def _read_otherwise(place: Place) -> tuple[str, ...]:
    """A warning where something else than this was chosen by the validation rows."""
    stop = place.experiment.stop
    readers = ["the learner (patience)"] if _set(describe(place.experiment.learner), "patience") else []
    readers += ["the stopping rule"] if stop is not None and "validation" in stop.needs else []
    if not readers:
        return ()
    return (
        f"{' and '.join(readers)} read the validation rows too, so that the model may do better on them than on others "
        "and the guarantee is not exact",
    )


def _set(config: Any, key: str) -> bool:
    """Whether an option is set somewhere in a config."""
    if isinstance(config, dict):
        return config.get(key) is not None or any(_set(value, key) for value in config.values())
    return isinstance(config, list) and any(_set(value, key) for value in config)


# -- what is said and written ----------------------------------------------------------------------------------------


def _said(model: Model, held: HeldOut, found: Decisions, automatic: Tensor, rows: Tensor) -> Iterator[str]:
    session, result = model.session, found.result
    yield f"{model.place.folder}: the model of {len(session.labels)} labels; {len(rows)} texts have none"
    yield (
        f"held out: {len(held.labels)} rows of {held.what}; {found.calibrating} chose the temperature "
        f"({found.temperature:.3g}) and where to begin, {found.testing} decided"
    )
    yield result.text
    count = int(automatic.sum())
    yield f"automatic: {count} of {len(rows)} texts ({count / len(rows):.1%}); to a person: {len(rows) - count}"
    if count and held.since:
        worst = min(1.0, result.bound * (count + held.since) / count)
        yield (
            f"the {held.since} texts labeled so far were chosen and not drawn: if they were all easy ones, at most "
            f"{worst:.4f} of the automatic labels are wrong"
        )
    known = session.pool.known[rows] & automatic
    if count and model.session.hide_labels and bool(known.any()):
        right = is_right(found.answers[known], session.pool.labels[rows[known]])
        wrong = 1 - right.double().mean().item()
        yield f"the labels hidden from this run say: {wrong:.4f} of the automatic labels are wrong"


def _csv(session: Session, rows: Sequence[int], found: Decisions, automatic: Tensor) -> str:
    """The surest first."""
    order = found.confidence.argsort(descending=True, stable=True)
    rows = torch.tensor(rows)[order].tolist()
    texts, guesses = session.pool.texts(rows), session.pool.names_of(found.answers[order])
    pairs = isinstance(texts[0], tuple)
    head = ["id", *(["text", "text_pair"] if pairs else ["text"]), "label", "guess", "confidence", "decision"]
    lines: list[list[object]] = [[*head]]
    decided = zip(rows, texts, guesses, found.confidence[order].tolist(), automatic[order].tolist(), strict=True)
    for row, text, guess, sure, alone in decided:
        cell, decision = cell_of(guess, session.pool.classes), "automatic" if alone else "person"
        cells = text if pairs else (text,)
        lines.append([session.pool.ids[row], *cells, cell if alone else "", cell, sure, decision])
    return as_csv(lines)
