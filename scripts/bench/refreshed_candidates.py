"""Candidates from the features of an earlier pass: their recall for a fine-tuned model, and the accuracy in the end.

    python scripts/bench/refreshed_candidates.py --data FOLDER --out refreshed.jsonl       run what is missing
    python scripts/bench/refreshed_candidates.py --out refreshed.jsonl --report           print the table, in Markdown

FOLDER holds `NAME/train.parquet` and `NAME/test.parquet` with `text` and `label_name`. A cell is one data set with one
seed and has two runs of fine-tuned MiniLM with the strategy `Margin`, from the same random start: one scores the whole
pool in every round, the other has candidates from `RefreshedProxy`. Their recall is measured in all rounds, also in
those that score the candidates only. Where no round did, both runs are the same, and one is left out. The runs resume
in --folder; a finished cell is one line of --out. A cell takes 10 to 20 minutes of one CPU core.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dal import RefreshedProxy, TransformerLearner

sys.path.insert(0, str(Path(__file__).parent))
from candidates import append_line, read_lines
from proxy import add_options, interval, run_arm, run_or_report, task_of
from strategies import MODEL, table

KEYS = ("data", "seed", "start", "batch", "rounds", "pool", "steps", "size", "min_recall")


def run_cell(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Accuracy by number of labels of both runs, and rows scored and recall in the rounds of the second one."""
    data = task_of(options, name)
    learner = TransformerLearner(MODEL, max_length=64, min_steps=options.steps, max_steps=options.steps)
    candidates = RefreshedProxy(options.size, options.min_recall)
    lines: dict[str, list[dict[str, Any]]] = {}
    cpu_seconds = {}
    rounds: list[dict[str, Any]] = []
    arms: dict[str, dict[str, Any]] = {"candidates": {"candidates": candidates, "recall_every": 1}, "whole": {}}
    for arm, given in arms.items():
        if arm == "whole" and all(each["scored"] == each["of"] for each in rounds):
            lines[arm] = lines["candidates"]  # the same batches, so the same models
            continue
        began = time.process_time()
        cells = run_arm(options, data, learner, seed, f"{name}-{seed}-{arm}", **given)
        lines[arm] = cells[f"Margin-seed{seed}"]
        cpu_seconds[arm] = time.process_time() - began
        for line in lines[arm][1:] if arm == "candidates" else ():
            counted = line.get("candidates", {})
            unasked = options.pool - line["labels"] + options.batch
            scored = counted.get("scored", unasked)
            rounds.append({"labels": line["labels"], "scored": scored, "of": unasked, "recall": counted.get("recall")})
    accuracy = {arm: [line["accuracy"] for line in each] for arm, each in lines.items()}
    return {"accuracy": accuracy, "by_round": rounds, "cpu_seconds": cpu_seconds}


def run(options: argparse.Namespace) -> None:
    finished = {tuple(line[key] for key in KEYS) for line in read_lines(options.out)}
    for seed in range(options.seeds):
        for name in options.sets:
            settings = (options.start, options.batch, options.rounds, options.pool, options.steps, options.size)
            cell = (name, seed, *settings, options.min_recall)
            if cell in finished:
                continue
            line = dict(zip(KEYS, cell, strict=True)) | run_cell(options, name, seed)
            append_line(options.out, line)
            print(f"{name}, seed {seed}: {[each['recall'] for each in line['by_round']]}", file=sys.stderr, flush=True)


def report(lines: Sequence[Mapping[str, Any]]) -> str:
    """Recall by thirds of the rounds, share of rows that were scored, and difference of the accuracies."""
    rows = []
    for name in dict.fromkeys(line["data"] for line in lines):
        of_set = [line for line in lines if line["data"] == name]
        thirds: list[list[float]] = [[], [], []]
        for line in of_set:
            measured = [each["recall"] for each in line["by_round"] if each["recall"] is not None]
            for number, recall in enumerate(measured):
                thirds[3 * number // len(measured)].append(recall)
        last = [each for line in of_set for each in line["by_round"][len(line["by_round"]) // 2 :]]
        scored = sum(each["scored"] for each in last) / sum(each["of"] for each in last)
        own = statistics.mean(line["accuracy"]["whole"][-1] for line in of_set)
        end = [100 * (line["accuracy"]["candidates"][-1] - line["accuracy"]["whole"][-1]) for line in of_set]
        area = [
            100 * (statistics.mean(line["accuracy"]["candidates"]) - statistics.mean(line["accuracy"]["whole"]))
            for line in of_set
        ]
        figures = [f"{statistics.mean(each):.2f}" for each in thirds]
        rows.append(
            [name, str(len(of_set)), *figures, f"{scored:.2f}", f"{100 * own:.1f}", interval(end), interval(area)]
        )
    recalls = ["recall, first third of the rounds", "second", "last"]
    accuracies = ["accuracy, whole pool", "with candidates, at the end", "mean over the rounds"]
    return table(["set", "seeds", *recalls, "rows scored, second half", *accuracies], rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, seeds=3, rounds=12)
    parser.add_argument("--size", type=int, default=200, help="number of candidates")
    parser.add_argument("--min_recall", type=float, default=0.8)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench/refreshed"))
    parser.add_argument("--out", type=Path, default=Path("runs/bench/refreshed.jsonl"))
    parser.add_argument("--report", action="store_true", help="print the table of --out and run nothing")
    options = parser.parse_args(argv)
    return run_or_report(parser, options, run, report)


if __name__ == "__main__":
    sys.exit(main())
