"""Transfer of selected labels to another model, the successor (Lowell, Lipton and Wallace 2019)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from dal.errors import LearnerError
from dal.evaluation import compare, curve, holm, paired_p
from dal.store.atomic_files import write_whole

if TYPE_CHECKING:
    from dal.learner import Learner
    from dal.session import Session

#: Key of the successor's metrics in a line, and of the agreement of the choices among them.
KEY, AGREEMENT = "successor", "agreement"

#: Mean rank correlation of the margins from which on two models are said to choose alike.
ALIKE = 0.5

#: File in the folder of a comparison with the conclusion.
FILE = "successor.json"

_METRIC = "accuracy"
_ALPHA = 0.05

Cells = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Successor:
    """Another learner that is trained on the labels of a session.

    Args:
        learner: the learner.
        every: number of rounds between its fits, from round 0 on; 0 for the last round only.
        sample: number of unasked rows on which its next choice is compared with that of the session's model; 0 for
            none.
        batch: number of rows that both choose there, at most a tenth of them.
    """

    learner: "Learner"
    every: int = 1
    sample: int = 0
    batch: int = 1

    def due(self, round: int) -> bool:
        """Whether it is trained in this round, the last one aside."""
        return bool(self.every) and round % self.every == 0

    def metrics(self, session: "Session") -> dict[str, Any]:
        """Its metrics, the seconds of its fit, and the agreement of the choices, for a round's line.

        If the learner cannot be trained on the labels, the line has the error message instead of metrics.
        """
        name, agreement = type(self.learner).__name__, None
        try:
            if self.sample:
                figures, agreement = session.score_and_compare(self.learner, rows=self.sample, n=self.batch)
            else:
                figures = session.score(self.learner)
        except LearnerError as error:
            return {KEY: {"learner": name, "failed": str(error)}}
        seconds = figures.pop("seconds")
        finite = {key: value if math.isfinite(value) else None for key, value in figures.items()}
        chooser = type(session.learner).__name__
        compared = {} if agreement is None else {AGREEMENT: {"learner": chooser, **agreement.details}}
        return {KEY: {"learner": name, **finite, **compared}, "successor_seconds": seconds}


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


def agreement_texts(cells: Cells) -> dict[str, str]:
    """What the agreement of the choices advises, a sentence for each strategy that has figures of it.

    Args:
        cells: lines by cell name, "STRATEGY-seedN".
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell, lines in cells.items():
        measured = [scores for line in lines if (scores := _with_agreement(line)) is not None]
        if measured:
            found.setdefault(cell.rpartition("-seed")[0] or cell, []).extend(measured)
    return {name: _advice(name, each) for name, each in found.items()}


def agreement_text(line: Mapping[str, Any]) -> str:
    """The agreement of the choices in a round, in words; empty without one."""
    scores = _with_agreement(line)
    return "" if scores is None else f"{_pair(scores)}: {_figures([scores[AGREEMENT]])}"


def _with_agreement(line: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The successor's figures in a line if they have a valid agreement of the choices."""
    scores = line.get(KEY)
    agreement = scores.get(AGREEMENT) if isinstance(scores, Mapping) else None
    valid = isinstance(agreement, Mapping) and _is_number(agreement.get("rank_correlation"))
    return scores if valid else None


def _pair(scores: Mapping[str, Any]) -> str:
    return f"{scores[AGREEMENT].get('learner')} and its successor {scores.get('learner')}"


def _figures(measured: Sequence[Mapping[str, Any]]) -> str:
    """Mean figures of the agreement over several rounds, in words."""
    text = f"rank correlation of the margins {mean(each['rank_correlation'] for each in measured):.2f}"
    chosen = [each for each in measured if all(_is_number(each.get(key)) for key in ("shared", "n", "rows"))]
    if not chosen or not all(each["n"] > 0 and each["rows"] > 0 for each in chosen):
        return text
    shared = mean(each["shared"] / each["n"] for each in chosen)
    chance = mean(each["n"] / each["rows"] for each in chosen)
    return f"{text}, {100 * shared:.0f} % of a batch in common ({100 * chance:.0f} % by chance)"


def _advice(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    measured = [scores[AGREEMENT] for scores in found]
    figures, rounds = _figures(measured), "one round" if len(measured) == 1 else f"{len(measured)} rounds"
    head = f"{name}: in {rounds} {_pair(found[0])} "
    if mean(each["rank_correlation"] for each in measured) >= ALIKE:
        return f"{head}ranked unlabeled rows alike: {figures}. Go on choosing with the cheaper one."
    return (
        f"{head}ranked unlabeled rows differently: {figures}. Compare a run that chooses with the successor, as its "
        "learner, before relying on these labels."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
