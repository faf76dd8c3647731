"""Stop by scores on the validation rows: a target that is reached, or a curve that has flattened."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from dal.config.moved import accepts_old_options
from dal.errors import ConfigError
from dal.evaluation.curves import LOWER_IS_BETTER
from dal.evaluation.extrapolation import predicted_gain
from dal.functional.checking import Options
from dal.stopping.rule import History, Line, StoppingRule, Verdict, count, given, number

Metric = Literal[
    "accuracy", "macro_f1", "micro_f1", "balanced_accuracy", "label_accuracy", "log_loss", "ece", "brier"
]  # of dal.evaluation.metrics.evaluate
Share = Literal["accuracy", "macro_f1", "micro_f1", "balanced_accuracy", "label_accuracy"]  # 0 to 1, more is better

_WORDS = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "ece": "calibration error", "brier": "Brier score"}


@dataclass(frozen=True)
class TargetScore(StoppingRule):
    """Stops when a score on the validation rows reaches a target.

    The validation rows are a random share that is never trained on or asked (`data.validation`); the test is not read.
    Looking after every round finds a lucky one sooner or later: `patience` and `confidence` guard against that.

    Args:
        metric: a figure of `dal.evaluation.evaluate`; log_loss, ece and brier must fall to the target.
        value: the target.
        patience: rounds in a row that must reach it.
        confidence: of accuracy alone: the lower end of its one-sided Wilson interval at this confidence, above .5 and
            below 1, must reach the target; null takes the score as it is. Needs rows: a target of .9 at .95 takes
            271 rows at a score of .93.
    """

    metric: Metric = "accuracy"
    value: float = 0.9
    patience: int = 1
    confidence: float | None = None

    needs = frozenset({"validation"})
    paper = "Wilson 1927, for the interval"
    advice = "you know how good is good enough, and have labels to hold out"

    def __post_init__(self) -> None:
        options = Options(self)
        options.whole("patience", least=1, said="at least 1")
        if self.metric == "log_loss":
            options.number("value")
        else:
            options.number("value", least=0, most=1, said="between 0 and 1")
        options.number("confidence", above=0.5, below=1, optional=True, said="above 0.5 and below 1")
        if self.confidence is not None and self.metric != "accuracy":
            raise ConfigError(f"confidence is known for the metric accuracy alone, not for {self.metric}")

    def judge(self, history: History) -> Verdict:
        """The last scores against the target."""
        recent = history.having("validation")[-self.patience :]
        if not recent:
            return Verdict(False, "no model has been scored on validation rows yet")
        lower = self.metric in LOWER_IS_BETTER
        scores = [self._score(line["validation"]) for line in recent]
        worst = max(scores) if lower else min(scores)
        reached = worst <= self.value if lower else worst >= self.value
        stop = reached and len(recent) == self.patience
        bound = "" if self.confidence is None else f"at least, with {self.confidence:.0%} confidence, "
        what = f"validation {_word(self.metric)} was {bound}{number(worst, 3, self.value)}"
        if self.patience > 1:
            what += f" at worst in the last {count(len(recent), 'round')} of {self.patience}"
        wanted = f"at {'most' if lower else 'least'} {given(self.value)} wanted"
        return Verdict(stop, f"{what} ({wanted})", {f"validation_{self.metric}": scores[-1]})

    def _score(self, figures: Line) -> float:
        score = float(figure(figures, self.metric))
        return score if self.confidence is None else wilson_lower(score, int(figures["rows"]), self.confidence)


@accepts_old_options
@dataclass(frozen=True)
class Plateau(StoppingRule):
    """Stops when further labels are predicted to bring too little: the learning curve has flattened.

    Fits score(n) = a - b n^-c to the validation scores of all rounds, late ones weighing more, and bootstraps the
    residuals for an interval of the gain of the next labels (see `dal.evaluation.extrapolation`). Stops when even the
    upper end of that interval is too little. What it predicts is in the verdict's text and notes.

    Args:
        min_gain: the gain in score that would be worth the labels.
        labels: how many further labels are judged.
        metric: a figure of `dal.evaluation.evaluate` between 0 and 1 of which more is better.
        confidence: of the interval, half of the rest on either side.
        min_rounds: rounds before it says anything, at least 5.
        samples: curves drawn for the interval.
        seed: decides the draws.
    """

    min_gain: float = 0.005
    labels: int = 100
    metric: Share = "accuracy"
    confidence: float = 0.9
    min_rounds: int = 6
    samples: int = 1000
    seed: int = 0

    needs = frozenset({"validation"})
    paper = "Figueroa et al. 2012, for the curve and its weights"
    advice = "labels have a price; misled by a curve that is flat at first and rises later: set a floor with `Labels`"

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("min_gain", above=0, said="positive")
        options.number("confidence", above=0, below=1, said="between 0 and 1")
        for name, least in (("labels", 1), ("min_rounds", 5), ("samples", 100), ("seed", 0)):
            options.whole(name, least=least, said=f"at least {least}")

    def judge(self, history: History) -> Verdict:
        """The predicted gain of the next labels against the least that is worth them."""
        points = {labels: score for labels, score in _points(history, self.metric).items() if labels > 0}
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
            f"{_word(self.metric)}, {number(gain.low, 4)} to {number(gain.high, 4, self.min_gain)} with "
            f"{self.confidence:.0%} confidence (at least {given(self.min_gain)} wanted)"
        )
        notes = {"predicted_gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
        return Verdict(gain.high < self.min_gain, text, {**notes, "ceiling": gain.curve.ceiling})


def wilson_lower(share: float, rows: int, confidence: float) -> float:
    """The lower end of the one-sided Wilson interval of a share observed on so many rows.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference": the p below the share at which
    share - p = z sqrt(p (1 - p) / rows).

    Example:
        >>> round(wilson_lower(0.93, 271, 0.95), 3)
        0.9
    """
    z = NormalDist().inv_cdf(confidence)
    center = share + z * z / (2 * rows)
    half = z * math.sqrt((share * (1 - share) + z * z / (4 * rows)) / rows)
    return max(0.0, (center - half) / (1 + z * z / rows))


def _points(history: History, metric: str) -> dict[int, float]:
    """Score by number of labels, ascending; of two rounds with the same number (all declined) the later counts."""
    lines = history.having("validation")
    found = {int(line["labels"]): float(figure(line["validation"], metric)) for line in lines}
    return {labels: found[labels] for labels in sorted(found) if labels > 0}


def figure(figures: Line, metric: str) -> Any:
    """The figure of that name.

    Raises:
        ConfigError: it is not among those recorded, such as label_accuracy where a row has one class.
    """
    if metric not in figures:
        raise ConfigError(f"the validation rows have no {metric}; recorded are {', '.join(sorted(figures))}")
    return figures[metric]


def _word(metric: str) -> str:
    return _WORDS.get(metric, metric.replace("_", " "))
