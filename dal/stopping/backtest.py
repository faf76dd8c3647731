"""Where a rule would have stopped a run that went on to its end: labels saved, and score lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from dal.errors import DataError
from dal.evaluation.curves import LOWER_IS_BETTER
from dal.stopping.rule import History, Line, StoppingRule, Verdict


@dataclass(frozen=True)
class Backtest:
    """What a rule would have done.

    Attributes:
        stopped: whether it would have stopped the run, if only after its last round.
        labels: labels when it stopped; all of them when it did not.
        saved: labels that would not have been bought.
        lost: how much better the final score is than that at the stop, signed so that more is a loss.
        score: the score at the stop.
        verdict: what it said there.
    """

    stopped: bool
    labels: int
    saved: int
    lost: float
    score: float
    verdict: Verdict


def backtest(lines: Sequence[Line], rule: StoppingRule, *, metric: str = "accuracy") -> Backtest:
    """Where the rule would have stopped the run whose rounds these are.

    The rule sees what it would have seen: after each round, that round's line and those before.

    Args:
        lines: of `metrics.jsonl`, oldest first. They must hold what the rule reads: `Observe` has it recorded.
        rule: the rule to try.
        metric: the test figure that the loss is measured in.

    Raises:
        DataError: there are no lines, or they lack the metric or what the rule reads.

    Example:
        >>> from dal.stopping import Labels
        >>> lines = [{"labels": n, "accuracy": score} for n, score in [(20, 0.5), (40, 0.7), (60, 0.75)]]
        >>> found = backtest(lines, Labels(max_labels=40))
        >>> found.labels, found.saved, round(found.lost, 2)
        (40, 20, 0.05)
    """
    if not lines:
        raise DataError("a run without rounds cannot be back-tested")
    missing = sorted(name for name in rule.needs - {"spent"} if not any(line.get(name) for line in lines))
    if missing:
        raise DataError(
            f"{type(rule).__name__} reads {', '.join(missing)}, which this run did not record: run it with the rule "
            "inside Observe as its `stop`"
        )
    verdicts = [rule.judge(History(tuple(lines[: i + 1]))) for i in range(len(lines))]
    stops = [i for i, verdict in enumerate(verdicts) if verdict.stop]
    place = stops[0] if stops else len(lines) - 1
    here, end = lines[place], lines[-1]
    if here.get(metric) is None or end.get(metric) is None:
        raise DataError(f"the run has no {metric}: it was not scored on a test set")
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return Backtest(
        stopped=bool(stops),
        labels=int(here["labels"]),
        saved=int(end["labels"]) - int(here["labels"]),
        lost=sign * (float(end[metric]) - float(here[metric])),
        score=float(here[metric]),
        verdict=verdicts[place],
    )
