"""`dal ask --check` and `dal tell`: accuracy of the latest model on the unlabeled pool, from a few answers."""

import argparse
import shlex
from pathlib import Path

import numpy as np
import torch

from dal.annotate.sheet import Answers, keep_absent, questions, read_answers, write_questions
from dal.commands.paths import check_sources, sources_of
from dal.commands.terminal import say
from dal.config import allowed_code as importing
from dal.config.kinds import CELL, COMPARISON, RUN, kind_of
from dal.config.stored import CONFIG
from dal.errors import AnswerError, ConfigError, SessionError
from dal.evaluation.calibration_measures import Temperature
from dal.evaluation.confidence import answers, confidence
from dal.evaluation.unbiased import UNIFORM, draw
from dal.experiments.console import Console, reading
from dal.experiments.interrupts import interruptible
from dal.experiments.known_accuracy import about_gap, accuracy_on
from dal.experiments.stored_model import Place, StoredModel, find, open_model
from dal.session import Session
from dal.store.accuracy_samples import CHECKS, AccuracySample, read_checks
from dal.store.atomic_files import typed
from dal.store.check_log import tell_check_log
from dal.store.label_reader import LabelReader
from dal.store.run_folder import LABELS
from dal.store.spreadsheet import original, read_sheet

_OTHER_FORMS = (".json", ".jsonl", ".parquet")  # samples are written as CSV
_STREAM = 104729  # separates these random numbers from those of the session


def draw_check(place: Place, options: argparse.Namespace) -> int:
    """Run `dal ask FOLDER --check N` and return the exit code."""
    with interruptible(None) as check, Console(stderr=True) as reporter:
        check_sources(options.output, sources_of(place.experiment))
        reporter.stage(reading(place.experiment.data))
        model = open_model(place, reporter.monitor(check))
        with model.session as session:
            reporter.stage("loading the model")
            return _draw(session, model, options)


def read_check(place: Place, options: argparse.Namespace) -> int:
    """Run `dal tell FOLDER FILE` on the file of a sample and return the exit code."""
    with Console(stderr=True) as reporter:
        reporter.stage(reading(place.experiment.data))
        model = open_model(place)
    with model.session as session:
        return _read(session, model, options)


def find_sample_place(options: argparse.Namespace) -> Place | None:
    """The session with the sample that a file holds the answers to; None for other files, such as that of `dal ask`.

    A file belongs to a sample if its ids are those of one, or most of them are and were not asked by `dal ask`.

    Args:
        options: `folder`, `file` and `cell` of the command.
    """
    folder: Path = options.folder
    if not (folder / CONFIG).is_file() or options.file.suffix.lower() in _OTHER_FORMS:
        return None
    mine = kind_of(folder) not in (RUN, COMPARISON, CELL)
    if mine and not (folder / CHECKS).is_dir() and options.cell is None:
        return None
    place = find(folder, options.cell)
    samples = read_checks(place.folder)
    if not samples:
        return None
    sheet = read_sheet(options.file, ("id", "label"))
    column = sheet.head.index("id")
    names = {original(cells[column]).strip() for _, cells in sheet.lines} - {""}
    if any(names == set(sample.ids) for sample in samples):
        return place
    drawn = max((names & set(sample.ids) for sample in samples), key=len)
    with LabelReader(place.folder / LABELS, access="read") as log:
        asked = log.states(sorted(drawn)).keys()
    return place if 2 * len(drawn - asked) > len(names) else None


# -- drawing ---------------------------------------------------------------------------------------------------------


def draw_sample(place: Place, n: int, *, random: bool) -> AccuracySample:
    """Draw texts to check the latest model by, and store them in the folder, without a file to fill in."""
    with interruptible(None) as check, Console(stderr=True) as reporter:
        reporter.stage(reading(place.experiment.data))
        model = open_model(place, reporter.monitor(check))
        with model.session as session:
            reporter.stage("loading the model")
            sample, _ = _sampled(session, model, n, random=random)
            sample.save(place.folder)
    return sample


def _sampled(session: Session, model: StoredModel, n: int, *, random: bool) -> tuple[AccuracySample, torch.Tensor]:
    """A new sample of the unlabeled pool, which is not stored yet, and its rows."""
    rows = session.unasked_rows
    if len(rows) < 2:
        raise SessionError(f"{model.place.folder}: {len(rows):,} texts without a label remain, too few to draw from")
    logits = model.logits("pool", rows)
    # The number of earlier draws gives each one rows of its own, and the same command on the same folder the same rows.
    state = (model.place.cell.seed, len(read_checks(model.place.folder)), _STREAM)
    seed = int(np.random.SeedSequence(state).generate_state(1)[0])
    drawn = draw(
        1 - confidence(logits, _temperature(model), multilabel=model.multilabel, thresholds=model.thresholds),
        min(n, len(rows)),
        torch.Generator().manual_seed(seed),
        uniform=1.0 if random else UNIFORM,
    )
    chosen = rows[drawn.positions]
    guessed = answers(logits[drawn.positions], multilabel=model.multilabel, thresholds=model.thresholds)
    guesses = session.pool.names_of(guessed)
    sample = AccuracySample(
        number=max((each.number for each in read_checks(model.place.folder)), default=0) + 1,
        labels=len(session.labels),
        event=session.store.labels_event,
        population=len(rows),
        uniform=1.0 if random else UNIFORM,
        ids=tuple(session.pool.ids[row] for row in chosen.tolist()),
        probabilities=tuple(drawn.probabilities.tolist()),
        guesses=tuple(guess if isinstance(guess, str) else tuple(guess) for guess in guesses),
    )
    return sample, chosen


def _draw(session: Session, model: StoredModel, options: argparse.Namespace) -> int:
    check, chosen = _sampled(session, model, options.n, random=options.random)
    questions(session, chosen)  # fails on damaged data before anything is written
    check.save(model.place.folder)  # before the questions: answers are useless without their probabilities
    write_questions(options.output, session, chosen, force=options.force)
    cell = [] if options.cell is None else ["--cell", options.cell]
    then = shlex.join(["dal", "tell", str(options.folder), str(options.output), *cell]) + importing.allow_option()
    say(
        f"{len(chosen):,} of {check.population:,} texts without a label were drawn to check the model of "
        f"{check.labels:,} labels; fill in {options.output} from the top, then: {then}"
    )
    return 0


def _temperature(model: StoredModel) -> float:
    """Temperature fitted to the validation part; 1 without one. It makes the draw more efficient, never biased."""
    part = model.session.data.validation
    if part is None or not bool(part.known.any()):
        return 1.0
    rows = part.known.nonzero().flatten()
    return Temperature.fit(model.logits("validation", rows), part.labels[rows]).value


# -- reading ---------------------------------------------------------------------------------------------------------


def _read(session: Session, model: StoredModel, options: argparse.Namespace) -> int:
    folder = model.place.folder
    if options.keep and model.place.simulated:
        raise ConfigError(
            f"--keep: {folder} belongs to a run, which manages its own labels; --keep is for folders of `dal ask`"
        )
    drawn = {name for check in read_checks(folder) for name in check.ids}
    filled = read_answers(options.file, session, correct=True, drawn=drawn)
    for note in filled.notes:
        say(note)
    ids = [session.pool.ids[row] for row in filled.rows]
    given = dict(zip(ids, filled.values, strict=True)) | {**filled.absent}  # also to rows no longer in the data
    by_id = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    check = _sample_of(filled, session, folder, options.file).with_answers(by_id)
    if not check.answered:
        raise AnswerError(f"{options.file}: the first text drawn, {check.ids[0]!r}, has no answer: answer from the top")
    tell_check_log(folder, check.number, by_id, who=options.who)
    check.save(folder)
    results, notes = report_lines(check)
    print(*results, sep="\n")
    for note in filter(None, (about_gap(check, session, folder), *notes)):
        say(note)
    if check.event != session.store.labels_event:
        say("labels were added or changed since the sample was drawn: this is the accuracy of the model at that time")
    if options.keep:
        new = session.tell(filled.rows, filled.values, who=options.who, correct=True) if filled.rows else 0
        new += keep_absent(session, filled.absent, who=options.who)
        say(f"{new} answers are now labels: the next model is trained on them, so they cannot evaluate it")
    return 0


def _sample_of(filled: Answers, session: Session, folder: Path, file: Path) -> AccuracySample:
    """The latest sample of the folder that contains all answered rows."""
    checks = read_checks(folder)
    if not checks:
        raise ConfigError(
            f"{folder} has no sample to check a model by: draw one with `dal ask {typed(folder)} --check 100`"
        )
    names = {session.pool.ids[row] for row in filled.rows} | filled.absent.keys()
    if not names:
        raise AnswerError(f"{file} has no answers yet: fill in the column label, from the top")
    for check in reversed(checks):
        if names <= set(check.ids):
            return check
    unknown = sorted(names - set(checks[-1].ids))
    raise AnswerError(
        f"{file}: the row {unknown[0]!r} was not drawn ({len(unknown):,} of {len(names):,} were not); only rows of the "
        "file that `dal ask --check` wrote can be used"
    )


def report_lines(check: AccuracySample) -> tuple[list[str], list[str]]:
    """The accuracy that the answers of a sample give, in lines, and notes about it."""
    result = accuracy_on(check)
    best = result.share
    results = [
        f"accuracy {best:.3f}, 95 % interval {result.low:.3f} to {result.high:.3f}: the model of {check.labels:,} "
        f"labels, on the {check.population:,} texts that had none, from {result.rows:,} answers"
    ]
    if check.uniform < 1:
        gap = result.plain - best
        differs = f"{abs(gap):.3f} {'more' if gap > 0 else 'less'}"
        results.append(
            f"the plain average of these answers is {result.plain:.3f}, {differs}: it is biased, "
            "since they were drawn where the model is uncertain"
        )
    notes = []
    declined = sum(check.answers[name] is None for name in check.ids[: result.rows])
    if declined:
        notes.append(f"texts that were declined count as errors ({declined}): the estimate tends to be too low")
    if result.rows < 50:
        notes.append(f"{result.rows:,} answers are few: the intervals were validated for 50 answers or more")
    return results, notes
