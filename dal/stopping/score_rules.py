"""Stopping rules on validation scores: a target score, or a plateau of the learning curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dal.config.moved import accepts_old_options
from dal.errors import ConfigError, shown
from dal.evaluation.curves import LOWER_IS_BETTER, OWN_METRICS, named_score
from dal.evaluation.extrapolation import predicted_gain
from dal.evaluation.metrics import UNDEFINED
from dal.evaluation.proportions import wilson_interval
from dal.functional.checking import Options
from dal.objective import DEFAULT
from dal.stopping.rule import OBJECTIVE, History, Line, StoppingRule, Verdict, count, given, number

#: Built-in metrics from 0 to 1.
_SHARES = frozenset(
    {"accuracy", "macro_f1", "micro_f1", "balanced_accuracy", "label_accuracy", "average_precision", "auroc", "ece"}
)

_WORDS = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "ece": "calibration error", "brier": "Brier score"}


@dataclass(frozen=True)
class TargetScore(StoppingRule):
    """Stops when a validation score reaches a target.

    The validation rows are a random share that is never trained on or queried (`data.validation`); the test set is not
    read. Checking after every round eventually finds a lucky one: `patience` and `confidence` guard against that.

    Args:
        metric: name of a metric that is recorded: of `dal.evaluation.evaluate`, of `metrics` of the experiment, or of
            its objective, such as "recall of severe at precision 0.9"; `None` for the objective (with `confidence`, the
            accuracy). log_loss, ece, ace, brier and metrics of the user to minimise must fall to the target.
        value: target score.
        patience: number of consecutive rounds that must reach the target.
        confidence: confidence level above 0.5 and below 1, for accuracy only: the lower end of the one-sided Wilson
            interval must reach the target. `None` compares the score itself. A target of .9 at .95 takes 271 rows at
            a score of .93.
    """

    metric: str | None = None
    value: float = 0.9
    patience: int = 1
    confidence: float | None = None

    needs = frozenset({"validation"})
    paper = "Wilson 1927, for the interval"
    advice = "you know how good is good enough, and have labels to hold out"

    def __post_init__(self) -> None:
        options = Options(self)
        options.whole("patience", least=1, description="at least 1")
        _check_name(self)
        if self.metric is None or self.metric in _SHARES:
            options.number("value", least=0, most=1, description="between 0 and 1")
        else:
            options.number("value")
        options.number("confidence", above=0.5, below=1, optional=True, description="above 0.5 and below 1")
        if self.confidence is not None and self.metric not in (None, "accuracy"):
            raise ConfigError(f"confidence is known for the metric accuracy alone, not for {self.metric}")

    @property
    def scores(self) -> frozenset[str]:  # type: ignore[override]
        """Name of the score, if it is not that of the objective."""
        return frozenset() if self.metric is None else frozenset({self.metric})

    def judge(self, history: History) -> Verdict:
        """Compare the last scores to the target."""
        recent = history.having("validation")[-self.patience :]
        if not recent:
            return Verdict(False, "no model has been scored on validation rows yet")
        metric = "accuracy" if self.confidence is not None else _metric(self.metric, recent[-1])
        lower = lower_is_better(recent[-1]["validation"], metric)
        found = [figure(line["validation"], metric) for line in recent]
        if None in found:
            return Verdict(False, f"the validation {_word(metric)} is undefined: no row of its class is among them")
        scores = [float(score) for score in found]
        if self.confidence is not None:
            rows = [int(line["validation"]["rows"]) for line in recent]
            two_sided = 2 * self.confidence - 1
            scores = [wilson_interval(score, n, confidence=two_sided)[0] for score, n in zip(scores, rows, strict=True)]
        worst = max(scores) if lower else min(scores)
        reached = worst <= self.value if lower else worst >= self.value
        stop = reached and len(recent) == self.patience
        bound = "" if self.confidence is None else f"at least, with {self.confidence:.0%} confidence, "
        what = f"validation {_word(metric)} was {bound}{number(worst, 3, self.value)}"
        if self.patience > 1:
            what += f" at worst in the last {count(len(recent), 'round')} of {self.patience}"
        wanted = f"at {'most' if lower else 'least'} {given(self.value)} wanted"
        return Verdict(stop, f"{what} ({wanted})", {f"validation_{metric}": scores[-1]})


@accepts_old_options
@dataclass(frozen=True)
class Plateau(StoppingRule):
    """Stops when the learning curve has flattened: the predicted gain of further labels is too small.

    Fits score(n) = a - b n^-c to the validation scores of all rounds, with larger weights for later rounds, and
    bootstraps the residuals for an interval of the gain of the next labels (see `dal.evaluation.extrapolation`). Stops
    when the upper end of that interval is below `min_gain`. The verdict's text and notes give the prediction.

    Args:
        min_gain: minimum gain in score that is worth the labels, positive.
        labels: number of further labels to predict the gain of.
        metric: name of a metric from 0 to 1 that is recorded and better when higher: of `dal.evaluation.evaluate`, of
            `metrics` of the experiment, or of its objective; `None` for the objective.
        confidence: confidence level of the two-sided interval.
        min_rounds: minimum number of rounds before the rule may stop, at least 5.
        samples: number of bootstrap samples, at least 100.
        seed: random seed of the bootstrap.
    """

    min_gain: float = 0.005
    labels: int = 100
    metric: str | None = None
    confidence: float = 0.9
    min_rounds: int = 6
    samples: int = 1000
    seed: int = 0

    needs = frozenset({"validation"})
    paper = "Figueroa et al. 2012, for the curve and its weights"
    advice = "labels have a price; misled by a curve that is flat at first and rises later: set a floor with `Labels`"

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("min_gain", above=0, description="positive")
        options.number("confidence", above=0, below=1, description="between 0 and 1")
        for name, least in (("labels", 1), ("min_rounds", 5), ("samples", 100), ("seed", 0)):
            options.whole(name, least=least, description=f"at least {least}")
        _check_name(self)
        _require_rising(self.metric, self.metric in LOWER_IS_BETTER)

    @property
    def scores(self) -> frozenset[str]:  # type: ignore[override]
        """Name of the score, if it is not that of the objective."""
        return frozenset() if self.metric is None else frozenset({self.metric})

    def judge(self, history: History) -> Verdict:
        """Compare the predicted gain of the next labels to `min_gain`."""
        lines = history.having("validation")
        metric = _metric(self.metric, lines[-1]) if lines else DEFAULT
        if lines:
            _require_rising(metric, lower_is_better(lines[-1]["validation"], metric))
        points = _points(lines, metric)
        if len(points) < self.min_rounds:
            return Verdict(
                False, f"{count(len(points), 'score')} on validation rows so far, {self.min_rounds} are needed"
            )
        labels, scores = list(points), list(points.values())
        gain = predicted_gain(
            labels, scores, self.labels, confidence=self.confidence, samples=self.samples, seed=self.seed
        )
        text = (
            f"the next {count(self.labels, 'label')} are predicted to add {number(gain.value, 4)} to the validation "
            f"{_word(metric)}, {number(gain.low, 4)} to {number(gain.high, 4, self.min_gain)} with "
            f"{self.confidence:.0%} confidence (at least {given(self.min_gain)} wanted)"
        )
        notes = {"predicted_gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
        return Verdict(gain.high < self.min_gain, text, {**notes, "ceiling": gain.curve.ceiling})


def _check_name(rule: TargetScore | Plateau) -> None:
    """Raise ConfigError unless the metric is a name or None."""
    if rule.metric is not None and (not isinstance(rule.metric, str) or not rule.metric.strip()):
        name = type(rule).__name__
        raise ConfigError(f"metric of {name} must be the name of a metric or null, not {shown(rule.metric)}")


def _require_rising(metric: str | None, lower: bool) -> None:
    """Raise ConfigError for a metric that is better when lower."""
    if lower:
        raise ConfigError(
            f"Plateau takes a metric that is better when higher, and {metric} is better when lower: name another one"
        )


def _metric(name: str | None, line: Line) -> str:
    """The metric of a rule, by default the objective of the round."""
    return name or str(line["validation"].get(OBJECTIVE, DEFAULT))


def lower_is_better(figures: Line, metric: str) -> bool:
    """Whether lower values are better of a metric of the validation scores `figures`."""
    return metric in LOWER_IS_BETTER or metric in figures.get("lower_is_better", ())


def _points(lines: Sequence[Line], metric: str) -> dict[int, float]:
    """Score by number of labels, ascending. Of rounds with the same number (all rows declined) the last one counts.

    Rounds in which the metric is undefined are left out.
    """
    found = {int(line["labels"]): figure(line["validation"], metric) for line in lines}
    return {labels: float(found[labels]) for labels in sorted(found) if labels > 0 and found[labels] is not None}


def figure(figures: Line, metric: str) -> Any:
    """The recorded figure named `metric`; None where it is undefined on the rows.

    Raises:
        ConfigError: it was not recorded, such as label_accuracy for single-label data.
    """
    own = figures.get(OWN_METRICS, {})
    if metric not in figures and metric not in own and metric not in UNDEFINED:
        names = sorted({*figures, *own} - {OWN_METRICS, OBJECTIVE, "lower_is_better"})
        raise ConfigError(f"the validation rows have no {metric}; recorded are {', '.join(names)}")
    return named_score(figures, metric)


def _word(metric: str) -> str:
    return _WORDS.get(metric, metric.replace("_", " "))
