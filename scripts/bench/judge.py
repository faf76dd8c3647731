#!/usr/bin/env python
"""Judges rules for `Auto` on the cells of `strategies.py`: each data set with the rule that was best on the others.

    python scripts/bench/judge.py --out cells.jsonl 'Auto' 'Auto(many=UHerding())' 'Auto(many=Diversified())'

A rule is chosen leaving one set out: on each data set the rule counts that had the greatest mean lead over Random on
all the other sets, so that no set takes part in the choice of what it judges. Printed for accuracy (micro-F1 where a
row may have several classes) and macro-F1: the chosen rules against Random on every set, and against the best single
fixed choice over all sets, paired by set and seed, with 95 % bootstrap intervals over seeds. The best fixed choice is
picked by the very figures it is compared on, which flatters it.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from strategies import RANDOM, Lead, interval, leads, mean_of_all, read, sign_of, table

Found = Mapping[str, Mapping[str, Lead]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rules", nargs="+", help="what `Auto` could be, as named in the cells")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/strategies.jsonl"), help="the finished cells")
    options = parser.parse_args(argv)
    lines = [line for line in read(options.out) if "labels" in line and not line["own_start"] and not line["pool"]]
    by_metric = {name: leads(lines, metric, micro) for name, metric, micro in METRICS}
    sets = list(by_metric["accuracy"])
    chosen = {left_out: chosen_without(left_out, options.rules, by_metric) for left_out in sets}
    print("\n".join(f"{left_out}: {rule}" for left_out, rule in chosen.items()))
    for name, found in by_metric.items():
        print(f"\n### {name}\n\n{against_random(found, chosen, options.rules)}\n\n{against_fixed(found, chosen)}")
    return 0


METRICS = (("accuracy", "accuracy", True), ("macro-F1", "macro_f1", False))


def chosen_without(left_out: str, rules: Sequence[str], by_metric: Mapping[str, Found]) -> str:
    """The rule with the greatest lead over Random on the other sets, mean of both metrics."""

    def lead(rule: str) -> float:
        figures = [by[rule].lead for found in by_metric.values() for data, by in found.items() if data != left_out]
        return sum(figures) / len(figures)

    return max(rules, key=lead)


def against_random(found: Found, chosen: Mapping[str, str], rules: Sequence[str]) -> str:
    rows = []
    for title, rule_of in (("chosen", chosen), *((rule, dict.fromkeys(found, rule)) for rule in rules)):
        groups = [by[rule_of[data]].leads for data, by in found.items()]
        cells = [f"{mean_of_all([group]):+.1f}{sign_of(interval([group], mean_of_all))}" for group in groups]
        rows.append([title, *cells, f"{mean_of_all(groups):+.2f}"])
    return table(["lead over Random", *found, "mean"], rows)


def against_fixed(found: Found, chosen: Mapping[str, str]) -> str:
    """The chosen rules against the three best fixed choices, on the seeds that both have on every set."""
    fixed = [
        (mean_of_all([by[name].leads for by in found.values()]), name)
        for name in set.intersection(*(set(by) for by in found.values()))
        if name != RANDOM and not name.startswith("Auto") and all(len(by[name].areas) > 1 for by in found.values())
    ]
    rows = []
    for lead, name in sorted(fixed, reverse=True)[:3]:
        groups = [differences(by[chosen[data]], by[name]) for data, by in found.items()]
        low, high = interval(groups, mean_of_all)
        shown = "-" if math.isinf(low) else f"{mean_of_all(groups):+.2f} [{low:+.2f}, {high:+.2f}]"
        rows.append([name, f"{lead:+.2f}", shown])
    return table(["fixed choice", "its lead over Random", "chosen rules minus it"], rows)


def differences(ours: Lead, theirs: Lead) -> list[float]:
    return [ours.areas[seed] - theirs.areas[seed] for seed in sorted(ours.areas.keys() & theirs.areas.keys())]


if __name__ == "__main__":
    sys.exit(main())
