"""The model card of a saved model: what it was trained on, how good it is, and where that does not hold."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from dal.errors import counted, printable
from dal.evaluation.automatic_labels import CALIBRATING
from dal.evaluation.binomial import lower_bound, upper_bound
from dal.evaluation.calibration_measures import calibration_error
from dal.evaluation.confidence import answers
from dal.experiments.environment import environment
from dal.experiments.held_out_labels import HeldOut

if TYPE_CHECKING:
    from dal.experiments.stored_model import StoredModel

#: Where the labels came from, in words.
_SOURCES = {
    "person": "people",
    "adjudicated": "people, after a disagreement",
    "simulated": "the labels in the data",
    "import": "imported labels",
}


def model_card(model: "StoredModel", learner: Mapping[str, Any]) -> str:
    """The model card, in Markdown with the front matter that the Hugging Face Hub reads.

    Texts of the data are not in it.

    Args:
        model: the model.
        learner: its settings, as they are saved.
    """
    sections = {
        "Data": _data(model),
        "Labels": _labels(model),
        "Accuracy": _accuracy(model),
        "Calibration and thresholds": _calibration(model),
        "Limits": _limits(model),
        "Settings": _settings(learner),
        "Versions": _versions(),
    }
    kind = "multi-label" if model.multilabel else "single-label"
    lines = [
        "---",
        "pipeline_tag: text-classification",
        "tags: [text-classification, active-learning]",
        "---",
        "",
        f"# A {kind} text classifier with {len(model.classes)} classes",
        "",
        f"Trained by active learning with `dal`, a {type(model.session.learner).__name__}. To load it:",
        "",
        "```python",
        "import dal",
        "",
        'with dal.load("FOLDER") as model:',
        '    print(model.predict(["a text"]).classes)',
        "```",
    ]
    for title, content in sections.items():
        lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def _data(model: "StoredModel") -> Iterator[str]:
    data = model.session.data
    yield f"- pool: {len(data.pool):,} texts, of which {len(model.session.labels):,} have a label"
    for name in ("validation", "test"):
        part = getattr(data, name)
        if part is not None:
            yield f"- {name} part: {int(part.known.sum()):,} labeled texts, which the model was not trained on"


def _labels(model: "StoredModel") -> Iterator[str]:
    session = model.session
    _, labels, weights = session.pool_state.training_set
    counts = labels.sum(0) if model.multilabel else torch.bincount(labels, minlength=len(model.classes))
    events = list(session.store.events())
    last = {event.row: event.source for event in events if event.kind == "answered"}
    told = Counter(last[name] for name in session.store.answers if name in last)
    given = len(session.labels) - sum(told.values())
    named = {_SOURCES.get(source or "", source or "people"): count for source, count in told.items()}
    if given > 0:
        named["labels that the data had at the start"] = given
    if named:
        yield "Labels came from " + ", ".join(f"{printable(name)} ({count:,})" for name, count in named.items()) + "."
    asked = {event.row: event.round for event in events if event.kind == "asked"}
    rounds = Counter(asked[name] for name in session.store.answers if name in asked)
    if rounds:
        yield _selection(rounds, {number: session.store.batch_details(number)[0] for number in rounds})
    unasked = len(session.labels) - rounds.total()
    if unasked > 0:
        yield f"{unasked:,} labels are of texts that nobody was asked about: imported, or found by a search."
    if weights is not None:
        yield f"{len(session.weak_rows):,} proposed labels of a weaker source were used as well, with lower weights."
    yield ""
    yield "| class | training labels |"
    yield "|---|---|"
    for name, count in zip(model.classes, counts.tolist(), strict=True):
        yield f"| {_cell(name)} | {int(count):,} |"


def _selection(rounds: Mapping[int, int], strategies: Mapping[int, str]) -> str:
    """How the labeled texts were selected, from their numbers by round and the strategies of the rounds."""
    by_strategy = Counter[str]()
    for number, count in rounds.items():
        by_strategy[strategies[number]] += count
    names = [f"`{printable(name)}` ({count:,})" for name, count in by_strategy.most_common()]
    line = f"Texts were selected in {counted(len(rounds), 'round')} by {', '.join(names)}"
    return f"{line}." if set(by_strategy) == {"Random"} else f"{line}, so they are no random sample of the pool."


def _accuracy(model: "StoredModel") -> Iterator[str]:
    for line in model.trust.splitlines()[1:]:
        yield line[:1].upper() + line[1:] + "."
    held = model.held_out
    if held is None:
        return
    yield ""
    yield f"On {len(held.labels):,} rows of {held.what}, with exact 95 % intervals:"
    yield ""
    yield "| class | rows | recall | interval | precision | interval |"
    yield "|---|---|---|---|---|---|"
    given = answers(held.logits, multilabel=model.multilabel, thresholds=held.thresholds)
    for code, name in enumerate(model.classes):
        has = (held.labels[:, code] if model.multilabel else held.labels == code) & held.known
        assigned = given[:, code] if model.multilabel else given == code
        hits = int((has & assigned).sum())
        columns = [_share(hits, int(has.sum())), _share(hits, int((assigned & held.known).sum()))]
        yield f"| {_cell(name)} | {int(has.sum()):,} | {' | '.join(columns)} |"


def _calibration(model: "StoredModel") -> Iterator[str]:
    held = model.held_out
    if held is None or model.temperature == 1:
        yield "The probabilities are those of the model, which is often too confident: held-out labels were too few."
    else:
        first = len(held.labels) // CALIBRATING
        before, after = (_error(held, first, temperature) for temperature in (1.0, model.temperature))
        yield (
            f"Logits are divided by a temperature of {model.temperature:.3g}, fitted to {first:,} rows of {held.what}. "
            f"On the {len(held.labels) - first:,} other ones the expected calibration error is {after:.3f}; without "
            f"the temperature, {before:.3f}."
        )
    if model.multilabel:
        thresholds = model.thresholds
        probs = torch.full((len(model.classes),), 0.5) if thresholds is None else thresholds.detach().cpu().sigmoid()
        yield ""
        yield "A class is assigned from this probability on, before the temperature:"
        yield ""
        for name, value in zip(model.classes, probs.tolist(), strict=True):
            yield f"- {_cell(name)}: {value:.3f}"


def _error(held: HeldOut, first: int, temperature: float) -> float:
    """Calibration error on the rows that did not fit the temperature."""
    rows = held.known.clone()
    rows[:first] = False
    scaled = held.logits[rows] / temperature
    probs = scaled.sigmoid() if held.labels.dim() == 2 else scaled.softmax(-1)
    return calibration_error(probs, held.labels[rows])


def _limits(model: "StoredModel") -> Iterator[str]:
    yield "- All figures hold for texts like those of the pool. Nothing tells whether new texts are."
    yield "- Guarantees of `dal predict` belong to the folder with the held-out labels, and not to this one."
    if model.held_out is None:
        yield "- There are no held-out labels, so the accuracy is not known or was estimated on few texts."
    elif model.held_out.part == "test":
        yield "- The temperature was fitted to the test part, so scores on it are no longer independent of the model."
    _, labels, _ = model.session.pool_state.training_set
    counts = labels.sum(0) if model.multilabel else torch.bincount(labels, minlength=len(model.classes))
    none = [name for name, count in zip(model.classes, counts.tolist(), strict=True) if not count]
    if none:
        yield f"- It was never shown, and hardly predicts: {', '.join(map(_cell, none))}."


def _settings(learner: Mapping[str, Any]) -> Iterator[str]:
    yield f"`{learner.get('class_path')}` with"
    yield ""
    for name, value in learner.get("init_args", {}).items():
        if value is not None:
            yield f"- {name}: `{printable(str(value))}`"
    encoder = learner.get("init_args", {}).get("model")
    if isinstance(encoder, str) and encoder != ".":
        yield ""
        yield f"The encoder `{printable(encoder)}` is not in this folder: it has to be where the model is loaded."


def _versions() -> Iterator[str]:
    known = environment()
    yield ", ".join(
        [f"Python {known['python']}", *(f"{name} {version}" for name, version in known["packages"].items())]
    )


def _share(hits: int, rows: int) -> str:
    """Two cells: a share and its interval."""
    if not rows:
        return " | "
    low, high = lower_bound(hits, rows, 0.025), upper_bound(hits, rows, 0.025)
    return f"{hits / rows:.3f} | {low:.3f} to {high:.3f}"


def _cell(name: str) -> str:
    """A class name that cannot end a cell of a table or begin HTML."""
    shown = printable(name)
    for mark in ("\\", "|", "<", "`", "[", "*", "_"):
        shown = shown.replace(mark, f"\\{mark}")
    return shown
