"""What the curves say, in plain sentences, and no more than they can carry."""

from dataclasses import dataclass

from dal.evaluation import Comparison, compare
from dal.report.reading import Run

#: Metrics by their names in `metrics.jsonl`, in the order in which they are shown.
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "balanced_accuracy": "balanced accuracy",
    "label_accuracy": "accuracy per label",
    "log_loss": "log loss",
    "ece": "calibration error",
    "brier": "Brier score",
}

#: Final scores closer than this are called level, and savings below this ratio are called none.
LEVEL = 0.005
SAVING = 1.05

#: Fewer seeds than this cannot show anything: even when all agree, a sign test does not reach 5 %.
ENOUGH_SEEDS = 6

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Verdict:
    """One strategy's outcome.

    Attributes:
        kind: "better", "level", "worse" or "open".
        text: what happened.
        detail: how the seeds agree, or what is missing for more; may be empty.
        ratio: how many times fewer labels than the baseline; 0 when its final score was never reached.
    """

    kind: str
    text: str
    detail: str = ""
    ratio: float = 0.0


def verdicts(run: Run, metric: str = "accuracy") -> list[Verdict]:
    """One verdict for each strategy that is not the baseline, on one metric, the greatest saving first. Never empty."""
    found = [_verdict(run, name, metric) for name in run.challengers or run.strategies]
    return sorted(found, key=lambda verdict: -verdict.ratio)


def trust(run: Run, metric: str = "accuracy") -> str:
    """How far the verdicts can be trusted, given the number of seeds; empty when there are enough, or no comparison."""
    if run.baseline is None:
        return ""
    baseline = run.curves(run.baseline, metric)
    found = [compare(run.curves(name, metric), baseline, metric) for name in run.challengers]
    seeds = min((len(result.seeds) for result in found if result is not None), default=ENOUGH_SEEDS)
    if seeds >= ENOUGH_SEEDS:
        return ""
    return (
        "One seed is too few to tell a gain from chance."
        if seeds == 1
        else (f"{count(seeds).capitalize()} seeds are too few to be sure.")
    )


def _verdict(run: Run, name: str, metric: str) -> Verdict:
    curves, word = run.curves(name, metric), METRICS.get(metric, metric)
    if not curves:
        if any(cell.records for cell in run.of(name)):
            return Verdict(
                "open", f"{name} was not measured: the run has no test set, so nothing is known of its {word}."
            )
        return Verdict("open", f"{name} has not been evaluated yet.")
    if run.baseline is None:
        best = [(c.labels[-1], c.scores[-1]) for c in curves.values()]
        labels, score = max(x for x, _ in best), sum(y for _, y in best) / len(best)
        text = f"{name} reached {word} {score:.3f} with {labels:.0f} labels {_average(len(best))}."
        return Verdict("open", text, "No baseline was run, so nothing can be said about labels saved.")
    result = compare(curves, run.curves(run.baseline, metric), metric)
    if result is None:
        return Verdict("open", f"{name} and {run.baseline} have no seed and range of labels in common yet.")
    kind, text = _outcome(result, name, run.baseline.lower() if run.baseline == "Random" else run.baseline, word)
    if not run.finished:
        text = f"So far, in a run that is not finished: {text}"
    return Verdict(kind, text, _agreement(result, name), result.ratio or 0.0)


def _average(seeds: int) -> str:
    return f"on average over {seeds} seeds" if seeds > 1 else "with one seed"


def _outcome(c: Comparison, name: str, baseline: str, word: str) -> tuple[str, str]:
    average = _average(len(c.seeds))
    goal = f"{baseline}’s final {word} ({c.target:.3f} at {c.budget:.0f} labels)"
    beaten = f"{name} did not beat {baseline} here: {average} it"
    if c.needed is None or c.ratio is None:
        if abs(c.final_difference) <= LEVEL:
            return "level", f"{beaten} ended at {c.final:.3f}, level with {goal}."
        return "worse", f"{beaten} ended at {c.final:.3f} and never reached {goal}."
    if c.final_difference < -LEVEL:
        return "worse", f"{beaten} touched {goal} after {c.needed:.0f} labels, but ended at {c.final:.3f}."
    if c.ratio < SAVING:
        return "level", f"{beaten} needed {c.needed:.0f} labels to reach {goal}."
    own = "" if c.budget - c.baseline_needed < 0.5 else f", which {baseline} first touched at {c.baseline_needed:.0f}"
    text = f"{name} reached {goal}{own} after {c.needed:.0f} labels {average}: {c.ratio:.1f} times fewer."
    if c.area_difference < 0:
        return "level", f"{text} Over the whole curve it was behind, though."
    return "better", text


def _agreement(c: Comparison, name: str) -> str:
    seeds = len(c.seeds)
    ahead = sum(difference > 0 for difference in c.area_differences)
    return f"Over the whole curve, {name} was ahead in {ahead} of {seeds} seeds." if seeds > 1 else ""


def count(number: int) -> str:
    """The number as a word up to ten, in digits above."""
    return _NUMBERS[number] if 0 <= number < len(_NUMBERS) else str(number)
