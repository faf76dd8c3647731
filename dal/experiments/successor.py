"""Whether the labels that a strategy chose serve another model too (Lowell, Lipton and Wallace 2019)."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dal.errors import LearnerError
from dal.evaluation import compare, curve, holm, paired_p
from dal.learner import Learner
from dal.session import Session
from dal.store.atomic_files import write_whole

#: The key of a line.
KEY = "successor"

#: What a comparison's folder keeps of the successor.
FILE = "successor.json"

_METRIC = "accuracy"
_ALPHA = 0.05

Cells = Mapping[str, Sequence[Mapping[str, Any]]]


def succeeded(session: Session, learner: Learner) -> dict[str, Any]:
    """What a round's line says of another learner on the same labels: its figures, and the seconds of its fit.

    Labels that cannot train it are said in the place of figures.
    """
    name = type(learner).__name__
    try:
        figures = session.score(learner)
    except LearnerError as error:
        return {KEY: {"learner": name, "failed": str(error)}}
    seconds = figures.pop("seconds")
    finite = {key: value if math.isfinite(value) else None for key, value in figures.items()}
    return {KEY: {"learner": name, **finite}, "successor_seconds": seconds}


def lines_of(cells: Cells) -> dict[str, list[dict[str, Any]]]:
    """The lines by cell with the successor's figures in the place of the learner's own; those without are left out."""
    return {
        cell: [{**line, **line[KEY]} for line in lines if line.get(KEY, {}).get(_METRIC) is not None]
        for cell, lines in cells.items()
    }


def conclusion(cells: Cells, baseline: str | None) -> dict[str, Any]:
    """What the successor says of each strategy against the baseline, in figures and in one sentence each.

    Args:
        cells: the lines by cell, called "STRATEGY-seedN".
        baseline: a strategy among them; None where there is none.

    Returns:
        `learner`, and for each strategy `text`, `labels`, `accuracy` and `baseline` (means over the seeds, at as many
        labels), `seeds`, `difference` (over the whole curve) and `p` (paired permutation test, Holm). Empty without
        figures.

    Lowell, Lipton and Wallace 2019, "Practical Obstacles to Deploying Active Learning".
    """
    found = lines_of(cells)
    names = [str(line[KEY]["learner"]) for lines in found.values() for line in lines]
    if not names:
        return {}
    curves = _curves(found)
    against = curves.get(baseline or "", {})
    compared = {name: compare(by_seed, against, _METRIC) for name, by_seed in curves.items() if name != baseline}
    paired = {name: result for name, result in compared.items() if result is not None}
    chances = holm({name: paired_p(result.area_differences) for name, result in paired.items()})
    strategies = {}
    for name, result in paired.items():
        figures = {
            "labels": result.budget,
            "accuracy": result.final,
            "baseline": result.target,
            "seeds": len(result.seeds),
            "difference": mean(result.area_differences),
            "p": chances[name],
        }
        strategies[name] = {"text": _sentence(names[0], name, str(baseline), figures), **figures}
    return {"learner": names[0], "strategies": strategies}


def write_conclusion(folder: Path, found: Mapping[str, Any]) -> None:
    """Write `successor.json` into the folder of a comparison."""
    write_whole(folder / FILE, json.dumps(found, ensure_ascii=False, indent=1) + "\n")


def _curves(found: Cells) -> dict[str, dict[int, Any]]:
    """Strategy -> seed -> the successor's learning curve."""
    curves: dict[str, dict[int, Any]] = {}
    for cell, lines in found.items():
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
