"""Verdicts on the strategies as sentences, with the significance that the number of seeds allows."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dal.evaluation import CurveComparison, Efficiency, compare, holm, label_efficiency, paired_p, tally
from dal.evaluation.statistics import min_p
from dal.report.measures import metric_name
from dal.report.price import LabelPrice
from dal.report.run_reading import Run
from dal.report.wording import listed

#: Final scores closer than this count as level; savings below this ratio count as none.
LEVEL = 0.005
SAVING = 1.05

#: Significance level of differences over the whole curve.
ALPHA = 0.05

#: Smallest number of seeds with which the test can reach `ALPHA`.
ENOUGH_SEEDS = next(seeds for seeds in itertools.count(1) if min_p(seeds) <= ALPHA)

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Conclusion:
    """Outcome of one strategy.

    Attributes:
        kind: "better", "level", "worse" or "open".
        text: the outcome as a sentence.
        detail: agreement of the seeds, or what is missing for a verdict; may be empty.
        ratio: labels of the baseline divided by those of the strategy; 0 when its final score was never reached.
        name: name of the strategy.
        chance: whether the difference is not significant or, with too few seeds for a test, the interval of the saving
            includes no saving.
        saved: label efficiency with its interval; None with too few seeds.
        reason: why an observed difference is not counted; empty when it counts, or there is none.
        lead: mean advantage over the whole curve, positive when the strategy was ahead of the baseline.
    """

    kind: str
    text: str
    detail: str = ""
    ratio: float = 0.0
    name: str = ""
    chance: bool = False
    saved: Efficiency | None = None
    reason: str = ""
    lead: float = 0.0


def verdicts(run: Run, metric: str = "accuracy") -> list[Conclusion]:
    """One verdict for each strategy that is not the baseline, on one metric, the greatest saving first. Never empty."""
    compared = comparisons(run, metric)
    corrected = corrected_p(compared)
    chances = {name: _Chance(p, len(corrected)) for name, p in corrected.items()}
    conclusions = [
        _verdict(run, name, metric, compared.get(name), chances.get(name)) for name in run.challengers or run.strategies
    ]
    if not joint_statement(run, conclusions):  # a joint sentence makes the single ones redundant
        conclusions = [replace(v, text=f"{v.text} {v.reason}") if v.reason else v for v in conclusions]
    return sorted(conclusions, key=lambda verdict: -verdict.ratio)


def joint_statement(run: Run, conclusions: Sequence[Conclusion]) -> str:
    """Sentence on what several strategies have in common; empty when there is none."""
    chance = [verdict for verdict in conclusions if verdict.chance]
    if len(conclusions) < 2 or run.baseline is None or not chance:
        return ""
    baseline = run.baseline.lower() if run.baseline == "Random" else run.baseline
    if any(verdict.kind == "better" for verdict in conclusions):
        return (
            f"Over the whole curve, {listed([v.name for v in chance])} cannot be distinguished from {baseline}."
            if len(chance) > 1
            else ""
        )
    within = [v for v in conclusions if v.saved is not None and v.saved.low <= 1 <= v.saved.high]
    whole = "the interval includes 1.0, no saving, for every one of them"
    if not within:
        return f"No strategy beats {baseline} here: the leads cannot be distinguished from chance."
    part = f"the interval includes 1.0, no saving, for {listed([v.name for v in within])}"
    return f"No strategy beats {baseline} here: {whole if len(within) == len(conclusions) else part}."


def comparisons(run: Run, metric: str) -> dict[str, CurveComparison]:
    """Comparisons with the baseline on this metric, by strategy, where there are common seeds and labels."""
    if run.baseline is None:
        return {}
    baseline, lower = run.curves(run.baseline, metric), run.lower_is_better(metric)
    results = {
        name: compare(run.curves(name, metric), baseline, metric, lower_is_better=lower) for name in run.challengers
    }
    return {name: result for name, result in results.items() if result is not None}


def too_few_seeds(run: Run, metric: str = "accuracy") -> str:
    """Warning about too few seeds for significant verdicts; empty with enough seeds or without a comparison."""
    compared = comparisons(run, metric)
    seeds = min((len(result.seeds) for result in compared.values()), default=ENOUGH_SEEDS)
    if seeds == 1:
        return "One seed is too few to tell a gain from chance."
    if seeds < ENOUGH_SEEDS:
        return f"{count(seeds).capitalize()} seeds are too few to be sure."
    enough = next(k for k in itertools.count(seeds) if len(compared) * min_p(k) <= ALPHA)
    if enough == seeds:
        return ""
    return (
        f"{count(seeds).capitalize()} seeds cannot tell any of {count(len(compared))} strategies from chance, even "
        f"where all seeds agree: {count(enough)} can, or fewer strategies."
    )


def corrected_p(compared: Mapping[str, CurveComparison]) -> dict[str, float]:
    """p-values of the paired permutation test against the baseline over the whole curve, with Holm's correction.

    Strategies that were compared over fewer than `ENOUGH_SEEDS` seeds are left out.
    """
    enough = {name: c for name, c in compared.items() if len(c.seeds) >= ENOUGH_SEEDS}
    return holm({name: paired_p(c.area_differences) for name, c in enough.items()})


@dataclass(frozen=True)
class _Chance:
    """p-value of the difference over the whole curve, corrected for `compared` comparisons."""

    p: float
    compared: int


def _verdict(run: Run, name: str, metric: str, result: CurveComparison | None, chance: _Chance | None) -> Conclusion:
    curves, word = run.curves(name, metric), metric_name(metric)
    if not curves:
        if any(cell.records for cell in run.of(name)):
            return Conclusion(
                "open", f"{name} was not measured: the run has no test set, so nothing is known of its {word}."
            )
        return Conclusion("open", f"{name} has not been evaluated yet.")
    if run.baseline is None:
        best = [(c.labels[-1], c.scores[-1]) for c in curves.values()]
        labels, score = max(x for x, _ in best), sum(y for _, y in best) / len(best)
        text = f"{name} reached {word} {score:.3f} with {labels:.0f} labels {_average(len(best))}."
        return Conclusion("open", text, "No baseline was run, so nothing can be said about labels saved.")
    if result is None:
        return Conclusion("open", f"{name} and {run.baseline} have no seed and range of labels in common yet.")
    if not run.finished and result.budget <= min(curve.labels[0] for curve in curves.values()):
        text = f"{name} and {run.baseline} have only their start of {result.budget:.0f} labels in common so far."
        return Conclusion("open", text, "Nothing can be said about labels saved yet.")
    kind, text = _outcome(result, name, run.baseline.lower() if run.baseline == "Random" else run.baseline, word)
    lower = run.lower_is_better(metric)
    saved = label_efficiency(curves, run.curves(run.baseline, metric), metric, lower_is_better=lower)
    within = saved is not None and saved.low <= 1 <= saved.high
    unsure = within if chance is None else chance.p > ALPHA
    reason = ""
    if unsure and kind != "level":
        kind = "level"
        reason = (
            "That may be chance."
            if chance is None
            else "Over the whole curve that cannot be distinguished from chance."
        )
    if not run.finished:
        text = f"So far, in a run that is not finished: {text}"
    money = LabelPrice.of(run).saving(saved)
    details = (_agreement(result, name, chance), _interval(saved, name, result), money)
    detail = " ".join(sentence for sentence in details if sentence)
    lead = result.area_difference
    return Conclusion(kind, text, detail, result.ratio or 0.0, name, unsure, saved, reason, lead)


def _average(seeds: int) -> str:
    return f"on average over {seeds} seeds" if seeds > 1 else "with one seed"


def _outcome(c: CurveComparison, name: str, baseline: str, word: str) -> tuple[str, str]:
    average = _average(len(c.seeds))
    goal = f"{baseline}’s final {word} ({c.target:.3f} at {c.budget:.0f} labels)"
    beaten = f"{name} did not beat {baseline} here: {average} it"
    if c.needed is None or c.ratio is None:
        if abs(c.final_difference) <= LEVEL:
            return "level", f"{beaten} ended at {c.final:.3f}, level with {goal}."
        return "worse", f"{beaten} ended at {c.final:.3f} and never reached {goal}."
    if c.final_difference < -LEVEL:
        return "worse", f"{beaten} reached {goal} after {c.needed:.0f} labels, but ended at {c.final:.3f}."
    if c.ratio < SAVING:
        own = _against_arrival(c.needed, c.baseline_needed, baseline)
        return "level", f"{beaten} reached {goal} after {c.needed:.0f} labels, {own}."
    late = c.budget - c.baseline_needed < 0.5
    own = "" if late else f" than the {c.baseline_needed:.0f} after which {baseline} first reached it"
    text = f"{name} reached {goal} after {c.needed:.0f} labels {average}: {c.ratio:.1f} times fewer{own}."
    if c.area_difference < 0:
        return "level", f"{text} Over the whole curve it was behind, though."
    return "better", text


def _against_arrival(needed: float, baseline_needed: float, baseline: str) -> str:
    """Comparison of labels with those after which the baseline first reached its final score, in words.

    The score is stated with the labels at the end of the curve, which may be more.
    """
    ours, theirs = f"{needed:.0f}", f"{baseline_needed:.0f}"
    if ours == theirs:
        return f"as many as {baseline} when it first reached it"
    quantity = "hardly fewer" if needed < baseline_needed else "more"
    return f"{quantity} than the {theirs} after which {baseline} first reached it"


def _agreement(c: CurveComparison, name: str, chance: _Chance | None) -> str:
    seeds = len(c.seeds)
    if seeds < 2:
        return ""
    wins, draws, losses = tally(c.area_differences)
    text = f"Over the whole curve, {name} was ahead in {wins} of {seeds} seeds"
    if draws and losses:
        text += f" and level in {draws}"
    if chance is None:
        return f"{text}."
    several = f", corrected for {count(chance.compared)} comparisons" if chance.compared > 1 else ""
    unclear = "" if chance.p <= ALPHA or chance.compared < 2 else ", no more than chance"
    return f"{text} (paired permutation test: p = {_p(chance.p)}{several}{unclear})."


def _interval(saved: Efficiency | None, name: str, c: CurveComparison) -> str:
    """Sentence on the 95 % interval of the labels needed; empty with too few seeds."""
    if saved is None or saved.high == 0:
        return ""
    few, most = saved.needed
    labels = (
        f"{few:.0f} to {most:.0f} labels"
        if most is not None
        else f"{few:.0f} labels or more, if it reaches the score at all,"
    )
    ratio = f"{saved.low:.1f} to {saved.high:.1f}" if saved.low else f"at most {saved.high:.1f}"
    one = "; that includes 1.0, no saving" if saved.low <= 1 <= saved.high else ""
    usual = f"{c.baseline_needed:.0f}"
    return f"With 95 % confidence {name} needs {labels} instead of {usual}: {ratio} times fewer{one}."


def _p(p: float) -> str:
    return "less than .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def count(number: int) -> str:
    """The number as a word up to ten, otherwise in digits."""
    return _NUMBERS[number] if 0 <= number < len(_NUMBERS) else str(number)
