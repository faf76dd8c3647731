"""Back-testing of stopping rules on a complete run: labels saved and score lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from dal.config.moved import accepts_old_attributes
from dal.errors import DataError
from dal.evaluation.curves import LOWER_IS_BETTER
from dal.stopping.measurement import has_measures
from dal.stopping.rule import History, Line, StoppingRule, Verdict, judged, measuring_parts


@accepts_old_attributes
@dataclass(frozen=True)
class Backtest:
    """Outcome of a rule on a complete run.

    Attributes:
        stopped: whether the rule stopped, possibly only after the last round.
        labels: number of labels at the stop; of the whole run if the rule did not stop.
        labels_saved: number of labels bought after the stop.
        loss: final score minus score at the stop, negated for metrics that are better when lower: positive is a loss.
        score: score at the stop.
        verdict: verdict at the stop.
    """

    stopped: bool
    labels: int
    labels_saved: int
    loss: float
    score: float
    verdict: Verdict


def backtest(lines: Sequence[Line], rule: StoppingRule, *, metric: str = "accuracy") -> Backtest:
    """Find the round after which the rule would have stopped a complete run.

    After each round the rule sees the lines up to that round, as it would have during the run.

    Args:
        lines: lines of `metrics.jsonl`, oldest first, with the figures that the rule reads (recorded by `Observe`).
        rule: rule to test.
        metric: test metric in which the loss is measured.

    Raises:
        DataError: there are no lines, or they lack the metric or the figures that the rule reads.

    Example:
        >>> from dal.stopping import Labels
        >>> lines = [{"labels": n, "accuracy": score} for n, score in [(20, 0.5), (40, 0.7), (60, 0.75)]]
        >>> found = backtest(lines, Labels(max_labels=40))
        >>> found.labels, found.labels_saved, round(found.loss, 2)
        (40, 20, 0.05)
    """
    if not lines:
        raise DataError("a run without rounds cannot be back-tested")
    missing = sorted(name for name in rule.needs - {"spent"} if not any(line.get(name) for line in lines))
    missing += [
        f"measures of {type(part).__name__}"
        for part in measuring_parts(rule)
        if not any(has_measures(line, part) for line in lines)
    ]
    if missing:
        raise DataError(
            f"{type(rule).__name__} reads {', '.join(missing)}, which this run did not record: run it with the rule "
            "inside Observe as its `stop`"
        )
    verdicts = [judged(rule, History(tuple(lines[: i + 1]))) for i in range(len(lines))]
    stops = [i for i, verdict in enumerate(verdicts) if verdict.stop]
    index = stops[0] if stops else len(lines) - 1
    stop, end = lines[index], lines[-1]
    if stop.get(metric) is None or end.get(metric) is None:
        raise DataError(f"the run has no {metric}: it was not scored on a test set")
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return Backtest(
        stopped=bool(stops),
        labels=int(stop["labels"]),
        labels_saved=int(end["labels"]) - int(stop["labels"]),
        loss=sign * (float(end[metric]) - float(stop[metric])),
        score=float(stop[metric]),
        verdict=verdicts[index],
    )
