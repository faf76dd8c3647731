"""Guarantees of `dal predict`: which labels are automatic, what holds for them, and what is missing for a guarantee."""

import argparse
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from dal.config.allowed_code import allow_option
from dal.data.label_cells import cell_of
from dal.errors import ConfigError, did_you_mean, shortened
from dal.evaluation.automatic_labels import CALIBRATING, Decisions, decide
from dal.evaluation.automation import labels_needed
from dal.evaluation.class_recall import ClassRecall
from dal.experiments.held_out_labels import HeldOut, readers_of_validation
from dal.experiments.known_accuracy import about_gap
from dal.experiments.stored_model import StoredModel
from dal.store.accuracy_samples import read_checks
from dal.store.spreadsheet import as_csv

_SMALLEST_CHECK = 50  # texts of a sample; fewer say little


def wants_guarantee(options: argparse.Namespace) -> bool:
    """Whether the options ask for a guarantee."""
    return options.max_error is not None or bool(options.min_recall)


def decisions_for(
    model: StoredModel,
    logits: Tensor,
    options: argparse.Namespace,
    *,
    unlabeled: Tensor | None = None,
    refuse: bool = True,
) -> tuple[HeldOut, Decisions]:
    """The held-out labels of a model, and which rows it may label alone.

    Args:
        model: the model.
        logits: (N, C) of the rows.
        options: `max_error` or None, `min_recall` (class name -> share) and `delta`.
        unlabeled: (G, C) logits of rows whose quantiles are the thresholds to test; None for those of the rows.
        refuse: raise an error where the held-out labels are too few for any guarantee, rather than automate nothing.

    Raises:
        ConfigError: there is no class of this name, or there are too few held-out labels. The message says how many are
            missing, and how to get them.
    """
    codes = _codes(model, options.min_recall)
    held = model.held_out
    gap = _gap(model) if held is None or held.part == "sample" else ""
    if held is None:
        if gap:
            raise ConfigError(f"{model.place.folder} has no held-out labels to choose a threshold by: {gap}")
        wanted = -10 * (-labels_needed(_strictest(options), options.delta) * 4 // 10)
        raise ConfigError(
            f"{model.place.folder} has no held-out labels to choose a threshold by: label a random sample "
            f"({_sample_command(model, wanted)}), or, where the data has labels, start again with data.validation: 0.2"
        )
    if refuse and options.max_error is not None:
        needed, testing = labels_needed(options.max_error, options.delta), len(held.labels) - len(held.labels) // 4
        if testing < needed:
            total = next(m for m in range(needed, 2 * needed + 2) if m - m // CALIBRATING >= needed)
            missing = total - len(held.labels)
            raise ConfigError(
                f"--max-error {options.max_error:g} takes at least {total:,} held-out labels, all of them predicted "
                f"correctly, and {held.what} has {len(held.labels):,}: {missing:,} are missing; "
                + (gap or _how_to_get(model, held, missing))
            )
    found = decide(
        logits,
        held.logits,
        held.labels,
        options.max_error,
        delta=options.delta,
        known=held.known,
        thresholds=model.thresholds,
        min_recall=codes,
        unlabeled=unlabeled,
    )
    if refuse:
        for code, recall in found.recalls.items():
            _require_rows(model, held, model.classes[code], recall, gap)
    return held, found


def _codes(model: StoredModel, shares: Mapping[str, float]) -> dict[int, float]:
    """The shares by class code."""
    for name in shares:
        if name not in model.classes:
            hint = did_you_mean(name, model.classes) or f"; classes are {shortened(', '.join(model.classes), 300)}"
            raise ConfigError(f"--min-recall: there is no class {shortened(name)!r}{hint}")
    return {model.classes.index(name): share for name, share in shares.items()}


def _strictest(options: argparse.Namespace) -> float:
    """The smallest share of errors or misses that is allowed."""
    errors = [] if options.max_error is None else [options.max_error]
    return float(min([*errors, *(1 - share for share in options.min_recall.values())]))


def _require_rows(model: StoredModel, held: HeldOut, name: str, recall: ClassRecall, gap: str) -> None:
    """Raise ConfigError if there are too few held-out rows of a class for any threshold."""
    if recall.rows >= recall.needed:
        return
    missing = recall.needed - recall.rows
    share = max(recall.rows, 1) / len(held.labels)
    raise ConfigError(
        f"--min-recall {shortened(name)}={recall.min_recall:g} takes at least {recall.needed:,} held-out labels of "
        f"this class without a miss, and {held.what} has {recall.rows:,}: {missing:,} are missing; "
        + (gap or _how_to_get(model, held, math.ceil(missing / share)))
    )


def _gap(model: StoredModel) -> str:
    """Which text of a random sample has no answer, so that later answers do not count; empty where all are counted."""
    samples = [sample for sample in read_checks(model.place.folder) if sample.uniform == 1]
    gaps = (about_gap(sample, model.session, model.place.folder) for sample in samples)
    return next(filter(None, gaps), "")


def _how_to_get(model: StoredModel, held: HeldOut, rows: int) -> str:
    """How to get about so many held-out labels more."""
    if held.part == "validation":
        return f"start again with a larger data.validation, by about {rows:,} rows"
    # A sample that is answered takes precedence over the test part, of which it then has to be independent.
    wanted = max(_SMALLEST_CHECK, rows + (len(held.labels) if held.part == "test" else 0))
    return f"label about {wanted:,} more texts that are drawn at random: {_sample_command(model, wanted)}"


def _sample_command(model: StoredModel, rows: int) -> str:
    place = str(model.place.folder)
    draw = shlex.join(["dal", "ask", place, "--check", str(rows), "--random", "-o", "check.csv"]) + allow_option()
    return f"{draw}, fill it in, {shlex.join(['dal', 'tell', place, 'check.csv'])}{allow_option()}"


# -- messages --------------------------------------------------------------------------------------------------------


def about_guarantee(model: StoredModel, held: HeldOut, found: Decisions) -> Iterator[str]:
    """What holds for the automatic labels, in sentences."""
    result = found.result
    if result is None:
        yield f"held out: {len(held.labels):,} rows of {held.what}"
    else:
        yield (
            f"held out: {len(held.labels):,} rows of {held.what}; {found.calibrating:,} chose the temperature "
            f"({found.temperature:.3g}) and the first threshold, {found.testing:,} tested the thresholds"
        )
        yield result.text
    for code, recall in found.recalls.items():
        yield _about_recall(shortened(model.classes[code], 60), recall)
    if held.part == "sample" and (gap := _gap(model)):
        yield gap
    declined = int((~held.known).sum())
    if declined and found.recalls:
        yield f"{declined:,} held-out texts were declined, and are left out of these shares"


def _about_recall(name: str, recall: ClassRecall) -> str:
    """The guarantee for a class as a sentence."""
    assert recall.threshold is not None  # even a threshold that sends all others to a person has been tested
    sends = {0.0: "every text with another label goes to a person", math.inf: "no text goes to a person for it"}
    how = f"a text with another label goes to a person from a probability of {recall.threshold:.4g} on"
    return (
        f"{name}: at least {recall.bound:.4f} of its texts are labeled {name} or sent to a person, with probability "
        f"{1 - recall.delta:.4g} ({recall.misses:,} of {recall.rows:,} held-out texts of the class were missed); "
        + sends.get(recall.threshold, how)
    )


def warning_about(model: StoredModel, held: HeldOut) -> str:
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


# -- the file --------------------------------------------------------------------------------------------------------


def decisions_as_csv(
    ids: Sequence[str],
    texts: Sequence[Any],
    guesses: Sequence[Any],
    confidence: Tensor,
    automatic: Tensor,
    classes: Sequence[str],
) -> str:
    """CSV text of N rows, with the columns id, text, label, guess, confidence and decision.

    Args:
        ids: N ids.
        texts: N texts, or pairs of texts.
        guesses: N answers of the model; None where a response could not be parsed.
        confidence: (N,).
        automatic: (N,) bool; the label of other rows is empty.
        classes: class names.
    """
    pairs = bool(texts) and isinstance(texts[0], tuple)
    head = ["id", *(["text", "text_pair"] if pairs else ["text"]), "label", "guess", "confidence", "decision"]
    lines: list[list[object]] = [[*head]]
    columns = (ids, texts, guesses, confidence.tolist(), automatic.tolist())
    for name, text, guess, sure, alone in zip(*columns, strict=True):
        cell, decision = "" if guess is None else cell_of(guess, classes), "automatic" if alone else "person"
        cells = text if pairs else (text,)
        lines.append([name, *cells, cell if alone else "", cell, sure, decision])
    return as_csv(lines)
