"""Proxy mode: labels that a frozen probe chose for a fine-tuned model, against those that this model chose itself.

    python scripts/bench/proxy.py --data FOLDER --out proxy.jsonl        run what is missing
    python scripts/bench/proxy.py --out proxy.jsonl --report            print the tables, in Markdown

FOLDER holds `NAME/train.parquet` and `NAME/test.parquet` with `text` and `label_name`. A cell is one data set with one
seed and has three runs from the same random start, all with the strategy `Margin`:

- probe: `ProbeLearner` chooses, and MiniLM is fine-tuned once at the end, also on as many random rows;
- transformer: fine-tuned MiniLM chooses from the whole pool, in every round;
- candidates: fine-tuned MiniLM chooses among a tenth of the pool, from `LinearProxy`, and the recall is measured.

What is compared is the accuracy of MiniLM, fine-tuned in the same way on all labels of a run. For scale, MiniLM is also
fitted twice on the same random labels, with two seeds of training: the share of the batch of one model that is among
the tenth of the pool with the smallest margins of the other is the recall of a proxy as good as the model itself. The
runs resume in --folder; a finished cell is one line of --out. On one CPU core a cell takes six minutes or more.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dal import Experiment, Margin, ProbeLearner, Random, TextData, TransformerLearner
from dal.functional.uncertainty import margin
from dal.learner import Learner
from dal.strategies.proxy_candidates import LinearProxy

sys.path.insert(0, str(Path(__file__).parent))
from candidates import append_line, read_lines
from strategies import MODEL, table

KEYS = ("data", "seed", "start", "batch", "rounds", "pool", "steps")
ARMS = ("probe", "candidates", "random")  # compared with "transformer"


def task_of(options: argparse.Namespace, name: str) -> TextData:
    """The data of a set."""
    folder = Path(options.data) / name
    return TextData(
        str(folder / "train.parquet"),
        label="label_name",
        test=str(folder / "test.parquet"),
        limit=options.pool,
        test_limit=1000,
    )


def run_arm(
    options: argparse.Namespace, data: TextData, learner: Learner, seed: int, folder: str, **given: Any
) -> dict[str, list[dict[str, Any]]]:
    """Run or resume one arm of a cell with `Margin`, in a folder of its own; the lines of its runs, by name."""
    experiment = Experiment(
        data,
        learner,
        Margin(),
        **{"baseline": None, **given},
        start=options.start,
        batch=options.batch,
        rounds=options.rounds,
        seeds=[seed],
        folder=str(options.folder / folder),
        save_model=False,
        report=False,
    )
    return experiment.run().cells


def run_cell(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Final accuracies by arm, the agreement of the choices and the recall of the candidates."""
    data = task_of(options, name)
    probe = ProbeLearner(MODEL, max_length=64)
    tuned = TransformerLearner(MODEL, max_length=64, min_steps=options.steps, max_steps=options.steps)
    lines: dict[str, list[dict[str, Any]]] = {}
    cpu_seconds = {}
    for arm, given in {
        "probe": {"baseline": Random(), "successor": tuned, "successor_every": 0, "successor_sample": 1000},
        "transformer": {},
        "candidates": {"candidates": LinearProxy(options.pool // 10), "recall_every": 1},
    }.items():
        began = time.process_time()
        learner = probe if arm == "probe" else tuned
        given = {"measure_distances": False, "pool_sample": 0, "quiet": True, **given}
        cells = run_arm(options, data, learner, seed, f"{name}-{seed}-{arm}", **given)
        cpu_seconds[arm] = time.process_time() - began
        lines |= {arm: cells[f"Margin-seed{seed}"]}
        if arm == "probe":
            lines |= {"random": cells[f"Random-seed{seed}"]}
    accuracy = {arm: each[-1].get("successor", each[-1])["accuracy"] for arm, each in lines.items()}
    recall = [line["candidates"]["recall"] for line in lines["candidates"] if "recall" in line.get("candidates", {})]
    agreement = lines["probe"][-1]["successor"].get("agreement")
    other_seed = recall_of_other_seed(data, tuned, options.start + options.batch, options.batch, seed)
    return {
        "accuracy": accuracy,
        "recall": recall,
        "other_seed": other_seed,
        "agreement": agreement,
        "cpu_seconds": cpu_seconds,
    }


def recall_of_other_seed(data: TextData, learner: TransformerLearner, labels: int, batch: int, seed: int) -> float:
    """Share of the batch of least margin of one model that is in the tenth of the pool of least margin of another.

    Both are fitted on the same `labels` random rows, with different seeds of training.
    """
    rows = data.load().pool
    prepared = learner.prepare(rows)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    labeled, unlabeled = order[:labels], order[labels:]
    ranked = []
    for number in range(2):
        fitted = learner.fit(prepared, labeled, rows.labels[labeled], seed=2 * seed + number)
        ranked.append(margin(fitted.outputs(prepared, unlabeled).logits.softmax(1)).argsort())
    return int(torch.isin(ranked[0][:batch], ranked[1][: len(rows) // 10]).sum()) / batch


def run(options: argparse.Namespace) -> None:
    finished = {tuple(line[key] for key in KEYS) for line in read_lines(options.out)}
    for seed in range(options.seeds):
        for name in options.sets:
            cell = (name, seed, options.start, options.batch, options.rounds, options.pool, options.steps)
            if cell in finished:
                continue
            line = dict(zip(KEYS, cell, strict=True)) | run_cell(options, name, seed)
            append_line(options.out, line)
            print(f"{name}, seed {seed}: {line['accuracy']}", file=sys.stderr, flush=True)


def report(lines: Sequence[Mapping[str, Any]]) -> str:
    """Differences of the final accuracy from that of the model that chose for itself, and the live figures."""
    rows = []
    for name in dict.fromkeys(line["data"] for line in lines):
        of_set = [line for line in lines if line["data"] == name]
        own = statistics.mean(line["accuracy"]["transformer"] for line in of_set)
        leads = [[100 * (e["accuracy"][arm] - e["accuracy"]["transformer"]) for e in of_set] for arm in ARMS]
        agreements = [line["agreement"] for line in of_set if line["agreement"]]
        ranks = [each["rank_correlation"] for each in agreements if each["rank_correlation"] is not None]
        recalls = [recall for line in of_set for recall in line["recall"]]
        other_seeds = [line["other_seed"] for line in of_set]
        figures = [f"{statistics.mean(each):.2f}" if each else "-" for each in (ranks, recalls, other_seeds)]
        rows.append([name, str(len(of_set)), f"{100 * own:.1f}", *map(interval, leads), *figures])
    heads = ["set", "seeds", "it chose itself", "the probe chose", "a tenth by LinearProxy", "random rows"]
    measures = ["rank correlation, probe", "recall of LinearProxy, 10 %", "of another seed, 10 %"]
    return table([*heads, *measures], rows)


def interval(differences: Sequence[float]) -> str:
    """Mean difference with its 95 % t interval over the seeds; without one for a single seed."""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.1f}"
    from scipy.stats import t

    half = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def add_options(parser: argparse.ArgumentParser, *, seeds: int, rounds: int) -> None:
    """Add the options of a benchmark whose cells are runs of a fine-tuned model."""
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"), help="folder of data sets")
    parser.add_argument("--sets", nargs="+", default=["trec6", "mr", "banking77", "agnews"])
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--start", type=int, default=40, help="labels drawn at random first")
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--pool", type=int, default=2000, help="rows of the pool")
    parser.add_argument("--steps", type=int, default=100, help="steps of each fine-tuning")


def run_or_report(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    run: Callable[[argparse.Namespace], None],
    report: Callable[[Sequence[Mapping[str, Any]]], str],
) -> int:
    """Run the missing cells unless only the report is wanted, and print the report."""
    if not options.report:
        if not options.data:
            parser.error("give --data, or set DAL_TEST_DATA")
        run(options)
    print(report(read_lines(options.out)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, seeds=5, rounds=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench/proxy"))
    parser.add_argument("--out", type=Path, default=Path("runs/bench/proxy.jsonl"))
    parser.add_argument("--report", action="store_true", help="print the tables of --out and run nothing")
    options = parser.parse_args(argv)
    return run_or_report(parser, options, run, report)


if __name__ == "__main__":
    sys.exit(main())
