"""Transfer of selected labels to another model, the successor (Lowell, Lipton and Wallace 2019)."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from dal.errors import LearnerError
from dal.evaluation import compare, curve, holm, paired_p
from dal.store.atomic_files import write_whole

if TYPE_CHECKING:
    from dal.learner import Learner
    from dal.session import Session

#: Key of the successor's metrics in a line.
KEY = "successor"

#: File in the folder of a comparison with the conclusion.
FILE = "successor.json"

_METRIC = "accuracy"
_ALPHA = 0.05

Cells = Mapping[str, Sequence[Mapping[str, Any]]]


def successor_metrics(session: "Session", learner: "Learner") -> dict[str, Any]:
    """Metrics of another learner trained on the same labels, and the seconds of its fit, for a round's line.

    If the learner cannot be trained on the labels, the line has the error message instead of metrics.
    """
    name = type(learner).__name__
    try:
        figures = session.score(learner)
    except LearnerError as error:
        return {KEY: {"learner": name, "failed": str(error)}}
    seconds = figures.pop("seconds")
    finite = {key: value if math.isfinite(value) else None for key, value in figures.items()}
    return {KEY: {"learner": name, **finite}, "successor_seconds": seconds}


def successor_lines(cells: Cells) -> dict[str, list[dict[str, Any]]]:
    """The lines by cell with the metrics of the successor instead of the learner; lines without them are left out."""
    return {
        cell: [{**line, **line[KEY]} for line in lines if line.get(KEY, {}).get(_METRIC) is not None]
        for cell, lines in cells.items()
    }


def conclusion(cells: Cells, baseline: str | None) -> dict[str, Any]:
    """Compare each strategy with the baseline by the successor's metrics, in figures and in one sentence.

    Args:
        cells: lines by cell name, "STRATEGY-seedN".
        baseline: name of the baseline strategy; None if there is none.

    Returns:
        `learner`, and for each strategy `text`, `labels`, `accuracy` and `baseline` (means over the seeds at the same
        number of labels), `seeds`, `difference` (mean over the whole curve) and `p` (paired permutation test with
        Holm correction). Empty if no line has metrics of the successor.

    Lowell, Lipton and Wallace 2019, "Practical Obstacles to Deploying Active Learning".
    """
    by_cell = successor_lines(cells)
    names = [str(line[KEY]["learner"]) for lines in by_cell.values() for line in lines]
    if not names:
        return {}
    curves = _curves(by_cell)
    reference = curves.get(baseline or "", {})
    compared = {name: compare(by_seed, reference, _METRIC) for name, by_seed in curves.items() if name != baseline}
    paired = {name: result for name, result in compared.items() if result is not None}
    p_values = holm({name: paired_p(result.area_differences) for name, result in paired.items()})
    strategies = {}
    for name, result in paired.items():
        figures = {
            "labels": result.budget,
            "accuracy": result.final,
            "baseline": result.target,
            "seeds": len(result.seeds),
            "difference": mean(result.area_differences),
            "p": p_values[name],
        }
        strategies[name] = {"text": _sentence(names[0], name, str(baseline), figures), **figures}
    return {"learner": names[0], "strategies": strategies}


def write_conclusion(folder: Path, found: Mapping[str, Any]) -> None:
    """Write `successor.json` to the folder of a comparison."""
    write_whole(folder / FILE, json.dumps(found, ensure_ascii=False, indent=1) + "\n")


def _curves(cells: Cells) -> dict[str, dict[int, Any]]:
    """Learning curves of the successor: strategy -> seed -> curve."""
    curves: dict[str, dict[int, Any]] = {}
    for cell, lines in cells.items():
        name, _, seed = cell.rpartition("-seed")
        if lines:
            curves.setdefault(name, {})[int(seed)] = curve(lines, _METRIC)
    return curves


def _sentence(learner: str, name: str, baseline: str, figures: Mapping[str, Any]) -> str:
    head = (
        f"{learner} reaches {_METRIC} {figures['accuracy']:.3f} on the {figures['labels']:.0f} labels that {name} "
        f"chose and {figures['baseline']:.3f} on those of {baseline}: "
    )
    if figures["p"] > _ALPHA:
        return head + f"no difference that chance could not explain (p = {figures['p']:.2f})."
    if figures["difference"] > 0:
        return head + f"another model gains from them too (p = {figures['p']:.3f})."
    return head + f"they serve another model worse (p = {figures['p']:.3f})."
