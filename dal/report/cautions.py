"""Warnings of a report: lost comparisons, small gains, few seeds, redundant batches, poor calibration."""

import itertools
import math
from collections.abc import Sequence
from statistics import mean, variance

from dal.evaluation import Curve
from dal.report.run_reading import Run
from dal.report.verdict import Conclusion, too_few_seeds
from dal.report.wording import listed

#: Savings below this share of the baseline's labels are called small.
LEAST_GAIN = 0.2

#: Batches with a larger redundant share than this are called redundant.
REDUNDANT = 0.5

#: Smaller increases of the calibration error are not reported, whatever the noise.
LEAST_ECE = 0.01


def cautions(run: Run, metric: str, conclusions: Sequence[Conclusion]) -> list[str]:
    """Warnings as sentences, the most serious first."""
    warnings = (
        _worse(run, conclusions),
        _small(conclusions),
        too_few_seeds(run, metric),
        _redundant(run),
        _calibration(run),
    )
    return [sentence for sentence in warnings if sentence]


def _worse(run: Run, conclusions: Sequence[Conclusion]) -> str:
    """Strategies that ended below the baseline, those that were behind over the whole curve apart from the others."""
    if run.baseline is None:
        return ""
    worse = [verdict for verdict in conclusions if verdict.kind == "worse"]
    behind, ahead = ([v.name for v in worse if (v.lead < 0) is below] for below in (True, False))
    baseline = "random choice" if run.baseline == "Random" else run.baseline
    against, average = f"{baseline} {'here' if run.finished else 'so far'}", "on average over the curve"
    sentences = []
    if behind:
        sentences.append(f"{listed(behind)} {_was(behind)} worse than {against}, at the end and {average}.")
    if ahead:
        sentences.append(f"{listed(ahead)} ended worse than {against}, but {_was(ahead)} not behind {average}.")
    return " ".join(sentences)


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _small(conclusions: Sequence[Conclusion]) -> str:
    small = [(v.name, 1 - 1 / v.ratio) for v in conclusions if v.kind == "better" and v.ratio > 1]
    small = [(name, gain) for name, gain in small if gain < LEAST_GAIN]
    if not small:
        return ""
    each = listed([f"{name} saves {100 * gain:.0f} %" for name, gain in small])
    return f"{each} of the labels: below {100 * LEAST_GAIN:.0f} %, a gain that other data may not show."


def _redundant(run: Run) -> str:
    rates = {n: [y for c in run.curves(n, "batch.redundancy").values() for y in c.scores] for n in run.strategies}
    high = [(name, mean(values)) for name, values in rates.items() if values and mean(values) > REDUNDANT]
    if not high:
        return ""
    each = listed([f"{name} ({100 * rate:.0f} %)" for name, rate in high])
    return (
        f"On average more than half of the rows in a batch are close to an earlier selection with {each}: smaller "
        "batches or a diverse strategy may save labels."
    )


def _calibration(run: Run) -> str:
    names = [name for name in run.strategies if _grows([*run.curves(name, "ece").values()])]
    if not names:
        return ""
    return (
        f"The calibration error was larger in the last third of the rounds than in the first with {listed(names)}: "
        "scale the confidence before relying on it."
    )


def _grows(curves: Sequence[Curve]) -> bool:
    """Whether the mean of the last third of the rounds exceeds that of the first third by more than noise.

    Noise is twice the standard error of the increase: over the seeds if there are at least three, otherwise from the
    scatter of the rounds within the thirds. Curves of fewer than six rounds are ignored.
    """
    parts = [(c.scores[: len(c) // 3], c.scores[-(len(c) // 3) :]) for c in curves if len(c) >= 6]
    if not parts:
        return False
    growths = [mean(last) - mean(first) for first, last in parts]
    if len(growths) >= 3:
        error = math.sqrt(variance(growths) / len(growths))
    else:
        within = [variance(third) / len(third) for third in itertools.chain.from_iterable(parts)]
        error = math.sqrt(sum(within)) / len(growths)
    return mean(growths) > max(LEAST_ECE, 2 * error)
