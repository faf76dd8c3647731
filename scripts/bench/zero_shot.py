"""How far class descriptions get without labels, and what first labels chosen by them are worth.

    python scripts/bench/zero_shot.py runs/bench/embeddings/*.safetensors

The files are those that strategies.py keeps in its --cache. Two tables are printed, in Markdown: the scores of
`zero_shot_logits` on the test part with descriptions and with bare class names, and those of a `ProbeLearner` trained
on the first LABELS labels by each way to choose them, with descriptions, and the classes among these labels.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.errors import LearnerError
from dal.evaluation.metrics import evaluate
from dal.outputs import Outputs
from dal.strategies import LikelyPerClass, MaxHerding, Random
from dal.strategy import Query, Strategy, choose

sys.path.insert(0, str(Path(__file__).parent))
from strategies import Task, learner_of, load_task, table

#: Ways to choose the first labels: the strategy of the first row of each class, and that of all others.
WAYS: dict[str, tuple[Strategy, Strategy]] = {
    "LikelyPerClass": (LikelyPerClass(), LikelyPerClass()),
    "one LikelyPerClass for each class, then MaxHerding": (LikelyPerClass(), MaxHerding()),
    "MaxHerding": (MaxHerding(), MaxHerding()),
    "Random": (Random(), Random()),
}


#: What `learner_of` makes probes of: with descriptions, and with the bare names of the classes in their place.
DESCRIBED, NAMED = "probe @ gated", "probe @ gated-names"


def zero_shot_logits(task: Task, system: str, rows: Any) -> Tensor:
    """Logits (n, C) of prepared rows by a probe without labels."""
    predictor = learner_of(task, system).untrained(task.pool)
    found: Tensor = predictor.outputs(rows, names={"zero_shot_logits"}).zero_shot_logits
    return found


def first_rows(task: Task, way: str, labels: int, seed: int) -> Tensor:
    """The first rows of the pool to label, (labels,) int64."""
    zero_shot = zero_shot_logits(task, DESCRIBED, task.pool)
    outputs = Outputs({"zero_shot_logits": zero_shot, "embeddings": task.pool.inputs}, multilabel=task.pool.multilabel)
    rows = torch.zeros(0, dtype=torch.int64)
    for strategy, until in zip(WAYS[way], (min(labels, len(task.pool.classes)), labels), strict=True):
        rest = torch.ones(len(task.pool), dtype=torch.bool).index_fill_(0, rows, False).nonzero().flatten()
        if until > len(rows):
            generator = torch.Generator().manual_seed(seed)
            given = {"labeled": outputs.take(rows), "labels": task.labels[rows]}
            query = Query(outputs.take(rest), until - len(rows), generator, **given)
            rows = torch.cat([rows, rest[choose(strategy, query).positions]])
    return rows


def scores(task: Task, logits: Tensor) -> tuple[float, float]:
    """Accuracy (multi-label: micro-F1) and macro-F1 on the test, times 100."""
    found: dict[str, Any] = evaluate(Outputs({"logits": logits}, multilabel=task.test.multilabel), task.test_labels)
    return 100 * found["micro_f1" if task.test.multilabel else "accuracy"], 100 * found["macro_f1"]


def trained(task: Task, way: str, labels: int, seeds: int) -> str:
    """Mean scores of the seeds, and the mean number of classes among the labels."""
    learner, lines = learner_of(task, DESCRIBED), []
    for seed in range(seeds):
        rows = first_rows(task, way, labels, seed)
        given = task.labels[rows]
        seen = given.any(0).sum() if given.dim() == 2 else len(given.unique())
        try:
            predictor = learner.fit(task.pool, rows, given, seed=seed)
        except LearnerError:  # labels of a single class
            continue
        lines.append([*scores(task, predictor.outputs(task.test).logits), float(seen)])
    if not lines:
        return "none trained"
    accuracy, macro, classes = torch.tensor(lines).mean(0).tolist()
    return f"{accuracy:.0f} / {macro:.0f} ({classes:.1f})"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args(argv)
    without, first = [], []
    for file in options.files:
        task, name = load_task(file), file.stem.rpartition("-")[0] or file.stem
        shown = []
        for system in (DESCRIBED, NAMED):
            shown.append("{:.0f} / {:.0f}".format(*scores(task, zero_shot_logits(task, system, task.test))))
        classes = str(len(task.pool.classes))
        without.append([name, classes, *shown])
        first.append([name, classes, *(trained(task, way, options.labels, options.seeds) for way in WAYS)])
    print(table(["set", "classes", "descriptions", "bare names"], without))
    print(f"\nFirst {options.labels} labels:\n")
    print(table(["set", "classes", *WAYS], first))
    return 0


if __name__ == "__main__":
    sys.exit(main())
