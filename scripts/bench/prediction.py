#!/usr/bin/env python
"""How often the report's predictions would have held: stored curves, cut off and continued by the fitted power law.

    python scripts/bench/prediction.py --cells runs/bench/strategies.jsonl [--more 100] [--data trec6 ...]
    python scripts/bench/prediction.py --runs FOLDER ...

Every stored curve is cut at each of its points from the fifth on that is followed by one `--more` labels later. What
the law and its interval say of that later score is compared with what was measured there: for single seeds, and for
the means over seeds that the report predicts from. Printed: the share of intervals that held the measured score, the
mean error of the predicted one and of predicting no change, and how wide the intervals are.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np

from dal.evaluation import Curve, band, curve
from dal.evaluation.extrapolation import predicted_score
from dal.store.run_folder import read_metrics

Curves = dict[tuple[str, str], list[Curve]]


@dataclass(frozen=True)
class Trial:
    """One prediction and the later measurement."""

    points: int
    predicted: float
    low: float
    high: float
    before: float
    came: float

    @property
    def held(self) -> bool:
        return self.low <= self.came <= self.high


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=Path("runs/bench/strategies.jsonl"), help="of strategies.py")
    parser.add_argument("--runs", nargs="+", type=Path, help="folders of stored runs, instead of --cells")
    parser.add_argument("--data", nargs="+", help="only these data sets")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--more", type=float, default=60)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--most", type=int, default=1500, help="single curves that are tried, drawn at random")
    options = parser.parse_args(argv)
    curves = stored(options.runs, options.metric) if options.runs else benched(options.cells, options.metric)
    chosen = {key: each for key, each in curves.items() if options.data is None or key[0] in options.data}
    single = [(key, c) for key, each in chosen.items() for c in each]
    order = np.random.default_rng(0).permutation(len(single))[: options.most]
    means = [(key, band(each).mean) for key, each in chosen.items() if len(each) >= 5]
    print(f"{options.more:g} labels ahead, intervals of {options.confidence:.0%}\n")
    print("| curves | predictions | held | too low | too high | error | error of no change | width |")
    print("|---|---|---|---|---|---|---|---|")
    for title, found in (("single seeds", [single[i] for i in order]), ("means over seeds", means)):
        trials = [(key, trial) for key, c in found for trial in tried(c, options.more, options.confidence)]
        line(title, [trial for _, trial in trials])
        by_data = defaultdict(list)
        for (data, _), trial in trials:
            by_data[data].append(trial)
        for data in sorted(by_data):
            line(f"– {data}", by_data[data])
    return 0


def benched(path: Path, metric: str) -> Curves:
    """The curves of the cells of `strategies.py`, by data set and strategy."""
    found: Curves = defaultdict(list)
    for text in path.read_text(encoding="utf-8").splitlines():
        cell = json.loads(text)
        if metric in cell and not cell["own_start"] and not cell["pool"]:
            found[cell["data"], cell["strategy"]].append(Curve(tuple(cell["labels"]), tuple(cell[metric])))
    return found


def stored(folders: Sequence[Path], metric: str) -> Curves:
    """The curves of run folders, by folder and strategy."""
    found: Curves = defaultdict(list)
    for folder in folders:
        for path in sorted(folder.rglob("metrics.jsonl")):
            found[folder.name, path.parent.name.rsplit("-seed", 1)[0]].append(curve(read_metrics(path.parent), metric))
    return found


def tried(c: Curve, more: float, confidence: float) -> Iterator[Trial]:
    """A prediction at every point from the fifth on that has a point `more` labels later."""
    for i in range(5, len(c) + 1):
        came = c.at(c.labels[i - 1] + more)
        if came is not None:
            labels, scores = c.labels[:i], c.scores[:i]
            said = predicted_score(labels, scores, more, confidence=confidence, samples=300)
            yield Trial(i, said.value, said.low, said.high, scores[-1], came)


def line(title: str, trials: Sequence[Trial]) -> None:
    if trials:
        shares = [
            mean(which(t) for t in trials)
            for which in (lambda t: t.held, lambda t: t.came > t.high, lambda t: t.came < t.low)
        ]
        errors = [mean(abs(t.predicted - t.came) for t in trials), mean(abs(t.before - t.came) for t in trials)]
        figures = [*(f"{s:.0%}" for s in shares), *(f"{e:.4f}" for e in errors)]
        print(f"| {title} | {len(trials)} | {' | '.join(figures)} | {mean(t.high - t.low for t in trials):.4f} |")


if __name__ == "__main__":
    sys.exit(main())
