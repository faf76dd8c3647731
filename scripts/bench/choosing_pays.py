"""When choosing rows stops paying: the lead of Auto over random rows from the moment at which Auto would take them.

    python scripts/bench/choosing_pays.py runs/bench/embeddings/*.safetensors

The files are those that strategies.py keeps in its --cache, single-label. Each seed starts from 20 random rows. Auto
chooses batches of 40 until classifiers without a fifth of the labels agree with one on all of them at each kappa of
--kappas, or 1,600 rows have a label. From there, five batches of 20 are chosen by Auto and five at random, and the mean
scores of the last four are compared. The model is a `ProbeLearner` with the descriptions of descriptions.yaml. A table
is printed, in Markdown.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.evaluation.metrics import evaluate
from dal.learner import Predictor
from dal.outputs import Outputs
from dal.session.acquisition import select_rows
from dal.session.distance_memory import SessionMemory
from dal.session.seeds import Seeds
from dal.strategies import Auto, Random
from dal.strategies.auto import agreement_without_a_fifth
from dal.strategy import Query, RoundState, Strategy

sys.path.insert(0, str(Path(__file__).parent))
from strategies import Task, learner_of, load_task, per_class, table

START, BATCH, MOST = 20, 40, 1600
AFTER, ROUNDS = 20, 5
CHOOSING = Auto(stable=None)


def unlabeled(task: Task, rows: Tensor) -> Tensor:
    return torch.ones(len(task.pool), dtype=torch.bool).index_fill_(0, rows, False).nonzero().flatten()


def fitted(task: Task, learner: Any, rows: Tensor) -> Predictor:
    order = rows.sort().values
    predictor: Predictor = learner.fit(task.pool, order, task.labels[order], seed=0)
    return predictor


def chosen(
    task: Task, learner: Any, predictor: Predictor, rows: Tensor, strategy: Strategy, n: int, seed: int
) -> Tensor:
    """The labeled rows and n more, by the model of the labeled ones."""
    order, rest = rows.sort().values, unlabeled(task, rows)
    state = RoundState(labels=len(rows), per_class=per_class(task, rows))
    selection, _, _ = select_rows(
        strategy.resolve(state),
        rest,
        n,
        predictor=predictor,
        prepared=task.pool,
        labeled=order,
        labels=task.labels[order],
        seeds=Seeds(seed, len(rows)),
        state=state,
        memory=SessionMemory(len(task.pool), learner.label_free),
    )
    return torch.cat([rows, rest[selection.positions]])


def kappa_of(task: Task, rows: Tensor) -> float:
    rest, C = unlabeled(task, rows), len(task.pool.classes)
    pool = Outputs({"embeddings": task.pool.inputs[rest], "logits": torch.zeros(len(rest), C)})
    labeled = Outputs({"embeddings": task.pool.inputs[rows]})
    query = Query(pool, 1, torch.Generator(), labeled=labeled, labels=task.labels[rows])
    return agreement_without_a_fifth(query, per_class(task, rows))


def scores_after(task: Task, learner: Any, predictor: Predictor, rows: Tensor, strategy: Strategy, seed: int) -> Tensor:
    """Accuracy and macro-F1, times 100, mean over the batches after the first."""
    found = []
    for _ in range(ROUNDS):
        rows = chosen(task, learner, predictor, rows, strategy, AFTER, seed)
        predictor = fitted(task, learner, rows)
        figures = evaluate(predictor.outputs(task.test, None, {"logits"}), task.test_labels)
        found.append([100 * float(figures[name] or 0) for name in ("accuracy", "macro_f1")])
    return torch.tensor(found[1:]).mean(0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kappas", type=float, nargs="+", default=[0.95, 0.96, 0.97, 0.98])
    options = parser.parse_args(argv)
    rows_of_table = []
    for file in options.files:
        task, name = load_task(file), file.stem.rpartition("-")[0] or file.stem
        if task.pool.multilabel:
            continue
        learner, leads, labels = learner_of(task, "Auto @ gated"), defaultdict(list), defaultdict(list)
        most = min(MOST, len(task.pool) - BATCH - ROUNDS * AFTER)  # the rounds that are compared need rows, too
        for seed in range(options.seeds):
            rows = torch.randperm(len(task.pool), generator=torch.Generator().manual_seed(seed))[:START]
            predictor = fitted(task, learner, rows)
            for bar in sorted(options.kappas):
                while kappa_of(task, rows) < bar and len(rows) < most:
                    rows = chosen(task, learner, predictor, rows, CHOOSING, BATCH, seed)
                    predictor = fitted(task, learner, rows)
                if len(rows) >= most:
                    break
                by_auto, by_chance = (
                    scores_after(task, learner, predictor, rows, s, seed) for s in (CHOOSING, Random())
                )
                leads[bar].append(by_auto - by_chance)
                labels[bar].append(len(rows))
        for bar in sorted(leads):
            lead = torch.stack(leads[bar])
            error = lead.std(0) / len(lead) ** 0.5 if len(lead) > 1 else torch.full((2,), torch.nan)
            shown = [f"{value:+.1f} ({e:.1f})" for value, e in zip(lead.mean(0).tolist(), error.tolist(), strict=True)]
            counted = f"{sum(labels[bar]) / len(labels[bar]):.0f}"
            rows_of_table.append([name, f"{bar:g}", f"{len(lead)} of {options.seeds}", counted, *shown])
        print(f"{name} is done", file=sys.stderr, flush=True)
    print(
        table(["set", "kappa", "seeds that reached it", "labels", "accuracy (s.e.)", "macro-F1 (s.e.)"], rows_of_table)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
