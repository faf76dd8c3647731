"""Figures of a project in progress: pace, learning curve of guesses made before the answers, and agreement."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dal.annotate.rankings import EVENT, Rankings
from dal.annotate.reply_parts import ReplyParts
from dal.annotate.service_contract import Reply
from dal.evaluation.inter_annotator import Agreement, annotator_agreement, class_agreement
from dal.evaluation.proportions import wilson_interval
from dal.store.events import Event
from dal.store.label_log import IMPORTED, LabelLog
from dal.store.log_figures import batches_with, rounds_of, several_answers

#: Longest time between two answers, in seconds, that counts as work where the time on a text was not measured.
IDLE = 120.0
#: Shortest time of work, in seconds, that has a pace: scripts and the first keys have none.
WORKED = 4.0
#: Answers of which the pace is that of.
PACED = 50
#: Fewest answers of a point of the learning curve.
POINT = 20
#: Most rankings that the learning curve reads.
CURVE = 400
#: Bootstrap samples of the intervals of agreement.
SAMPLES = 400

_MULTILABEL_GUESS = 0.5  # probability from which the model assigns a class when multi-label


def pace(recent: Sequence[tuple[float, float | None]]) -> float | None:
    """Answers per hour of work, over the latest answers; None for fewer than two, or for less than `WORKED` seconds.

    Args:
        recent: time in seconds since 1970, and measured seconds on the text, of answers, newest first. Without a
            measured time it is the time since the answer before, at most `IDLE`.

    Example:
        >>> pace([(3000.0, None), (2970.0, 20.0), (1000.0, 10.0)])  # 33 minutes, one of them with work
        180.0
    """
    if len(recent) < 2:
        return None
    worked, counted = 0.0, 0
    for place, (at, seconds) in enumerate(recent):
        before = recent[place + 1][0] if place + 1 < len(recent) else None
        if seconds is None and before is None:
            continue
        worked += seconds if seconds is not None else max(0.0, min(at - (before or at), IDLE))
        counted += 1
    return round(3600 * counted / worked, 1) if worked >= WORKED else None


def learning_curve(log: LabelLog, rankings: Rankings, *, multilabel: bool) -> list[Reply]:
    """Accuracy of the guesses that rankings stored, on the texts that were answered afterwards.

    Each guess was made before the answer, by the model of that time. Two kinds of points:

    - "chosen": texts that a strategy selected. They tend to be harder than the others, so the accuracy is too low.
    - "random": texts in random order, an unbiased sample of those without an answer. There are few of them.

    At most `CURVE` rankings are read, evenly spread over the log. Each point joins rankings until it has `POINT`
    answers, and has "labels" (texts with an answer that the first of them knew), "right", "texts", "accuracy", and the
    ends "low" and "high" of its 95 % Wilson interval.

    Args:
        log: questions and answers.
        rankings: rankings of the log.
        multilabel: whether a guess is right if the classes with a probability of one half are those of the answer.
    """
    points: list[Reply] = []
    open_points: dict[str, Reply] = {}
    counted: set[str] = set()
    for batch in batches_with(log, EVENT, spread=CURVE):
        details = batch.details
        for kind, hits in _hits(log, rankings, details, counted, multilabel).items():
            if not hits:
                continue
            point = open_points.get(kind)
            if point is None:
                point = {"kind": kind, "labels": int(details.get("labels") or 0), "right": 0, "texts": 0}
                open_points[kind] = point
                points.append(point)
            point["right"] += sum(hits)
            point["texts"] += len(hits)
            if point["texts"] >= POINT:
                del open_points[kind]
    for point in points:
        share = point["right"] / point["texts"]
        low, high = wilson_interval(share, point["texts"])
        point |= {"accuracy": round(share, 4), "low": round(low, 4), "high": round(high, 4)}
    return points


def _hits(
    log: LabelLog, rankings: Rankings, details: Mapping[str, Any], counted: set[str], multilabel: bool
) -> dict[str, list[bool]]:
    """Whether the guesses of one ranking were right, for chosen texts and for those in random order.

    Texts are counted once and added to `counted`: somebody may have read a text during several rankings.
    """
    hints = {
        row: hint
        for name in ("rows", "kept")
        for row, hint in (details.get(name) or {}).items()
        if hint.get("guesses") and row not in counted
    }
    rounds, states = rounds_of(log, list(hints)), log.states(list(hints))
    hits: dict[str, list[bool]] = {"chosen": [], "random": []}
    for row, hint in hints.items():
        answer = states[row].answer if row in states else None
        if answer is None or answer.kind != "answered" or answer.source == IMPORTED or answer.event <= details[EVENT]:
            continue
        right = guess_is_right(log, answer, hint["guesses"], multilabel)
        if right is not None:
            counted.add(row)
            batch = rankings.batch(rounds[row]) if row in rounds else None
            hits["random" if batch is not None and batch.strategy == "Random" else "chosen"].append(right)
    return hits


def guess_is_right(log: LabelLog, answer: Event, guesses: Sequence[Sequence[Any]], multilabel: bool) -> bool | None:
    """Whether the guessed classes are those of an answer, in the current classes; None if they cannot be compared.

    Args:
        log: the log.
        answer: an answer as it was stored.
        guesses: class ids with probabilities, most probable first.
        multilabel: whether all classes with a probability of at least one half are guessed, not the first one.
    """
    value = log.reading(answer)
    if value is None or not isinstance(value, str | tuple):
        return None
    names = {value} if isinstance(value, str) else set(value)
    finals = [log.classes.final(number) for number in guessed(guesses, multilabel)]
    return {entry.name for entry in finals if entry is not None} == names


def guessed(guesses: Sequence[Sequence[Any]], multilabel: bool) -> list[int]:
    """Ids of the classes that the model assigns, see `guess_is_right`."""
    return [number for number, p in guesses if p >= _MULTILABEL_GUESS] if multilabel else [guesses[0][0]]


def agreement(log: LabelLog, parts: ReplyParts, *, multilabel: bool) -> Reply | None:
    """Agreement of people on the texts that several answered, overall and of each class against the rest.

    Adjudicated answers are left out, and so are texts with a single answer. None if no text has two.

    Args:
        log: questions and answers.
        parts: meaning of the answers.
        multilabel: whether an answer has any number of classes. Two such answers agree if all classes do.
    """
    given: list[list[frozenset[int]]] = []
    people: set[str] = set()
    for answers in several_answers(log):
        given.append([frozenset(parts.class_ids(answer)) for answer in answers])
        people |= {answer.who or "" for answer in answers}
    if not given:
        return None
    active = [entry.id for entry in log.classes.active]
    overall = annotator_agreement(given, None if multilabel else len(active), samples=SAMPLES)
    answered = {number for text in given for answer in text for number in answer}
    per_class = class_agreement(given, [number for number in active if number in answered], samples=SAMPLES)
    counts: dict[int, int] = defaultdict(int)
    for text in given:
        for number in frozenset().union(*text):
            counts[number] += 1
    return {
        "people": len(people),
        **_figures(overall),
        "per_class": [
            {"id": number, **_figures(figures), "texts": counts[int(str(number))]}
            for number, figures in per_class.items()
        ],
    }


def _figures(found: Agreement) -> Reply:
    """Agreement with its figures rounded to four places."""
    figures: Reply = {"texts": found.texts, "answers": found.answers}
    for name in ("raw", "alpha", "ac1"):
        values = asdict(getattr(found, name))
        figures[name] = {end: None if value is None else round(value, 4) for end, value in values.items()}
    return figures
