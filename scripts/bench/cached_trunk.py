"""Processor seconds, memory and disk of a cached trunk and of the row cache.

    python scripts/bench/cached_trunk.py --model sentence-transformers/all-MiniLM-L6-v2

compares a fit and a pass of the full model with those on a cached trunk, each in a process of its own; then appends one
row to a pool of made-up short texts, and prints the seconds of preparing the pool before and after. Embeddings are
measured on fewer rows (--embedded); the time for the whole pool is extrapolated from them, and marked by "~".
Texts are made up and labels follow a word: the figures are about time, not about accuracy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from memory import max_memory

SYSTEMS = ("full", "freeze", "cached")


def made_up(count: int, seed: int, words: int) -> list[str]:
    """Texts of `words` words, each with one of two that its label follows."""
    import numpy as np

    generator = np.random.default_rng(seed)
    ordinary = ["the", "parcel", "is", "late", "again", "and", "nobody", "answers", "my", "mail", "since", "monday"]
    drawn = generator.choice(ordinary, (count, words - 2)).tolist()
    return [f"{('refund', 'login')[row % 2]} {' '.join(each)} {row}" for row, each in enumerate(drawn)]


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Processor seconds of one system, whose cache is empty."""
    import torch

    from dal.data import Rows
    from dal.learners.transformer_learner import TransformerLearner

    torch.set_num_threads(1)
    texts = made_up(options.rows, 0, options.words)
    rows = Rows.from_inputs(texts, [("refund", "login")[row % 2] for row in range(len(texts))])
    extra: dict[str, Any] = {
        "freeze": {"freeze": options.freeze},
        "cached": {"trunk": "cached", "layers": options.layers},
    }
    learner = TransformerLearner(
        model=options.model,
        min_steps=options.steps,
        max_steps=options.steps,
        precision="float32",
        device="cpu",
        **extra.get(options.system, {}),
    )
    data, labeled = learner.prepare(rows), torch.arange(min(160, options.rows))
    seconds: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        start = time.process_time()
        found = work()
        seconds[name] = time.process_time() - start
        return found

    if options.system == "cached":
        timed("states, once", lambda: learner._states.of(data, torch.arange(len(data))))
    predictor = timed("fit", lambda: learner.fit(data, labeled, rows.labels[labeled], seed=0))
    logits = timed("pass", lambda: predictor.outputs(data, exact=True).logits)
    seconds["accuracy"] = float((logits.argmax(1).cpu() == rows.labels).float().mean())
    seconds["memory"] = max_memory()
    seconds["disk"] = _disk(Path(os.environ["DAL_CACHE"]))
    return seconds


def _disk(folder: Path) -> float:
    """Bytes of stored states."""
    return float(sum(file.stat().st_size for file in folder.glob("rows/states/**/*") if file.is_file()))


def append(options: argparse.Namespace) -> None:
    """Print the seconds of preparing a pool at first, again, and with one more row."""
    import torch

    from dal.data import Rows
    from dal.learners.probe_learner import ProbeLearner

    torch.set_num_threads(1)
    learner = ProbeLearner(model=options.model, head=None, precision="float32", device="cpu")
    texts = made_up(options.pool, 1, options.words)
    added = [*texts, "one more parcel that is late"]
    print(f"\nAppending a row to a pool of {options.pool:,} texts; processor seconds, seconds\n")
    print("| | first | opened again | with one more row | opened again |\n|---|---|---|---|---|")
    pools = [texts, texts, added, added]
    opened = [_timed(lambda pool=pool: learner.prepare(Rows.from_inputs(pool, classes=["a", "b"]))) for pool in pools]
    print(f"| tokens | {' | '.join(opened)} |")
    few = [[*pool[: options.embedded], *pool[options.pool :]] for pool in pools]
    embedded, first = [], None
    for pool in few:
        data, start = learner.prepare(Rows.from_inputs(pool, classes=["a", "b"])), time.process_time()
        embedded.append(_timed(lambda data=data: learner.untrained(data).outputs(data, names={"embeddings"})))
        first = first or (time.process_time() - start) * options.pool / len(pool)
    print(f"| embeddings of {options.embedded:,} | {' | '.join(embedded)} |")
    print(f"\nAll embeddings at first: ~{first:,.0f} processor seconds, extrapolated from {options.embedded:,} texts.")


def _timed(work: Any) -> str:
    start, wall = time.process_time(), time.perf_counter()
    work()
    return f"{time.process_time() - start:.2f}, {time.perf_counter() - wall:.2f}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2", help="hub name or folder")
    parser.add_argument("--rows", type=int, default=2000, help="texts of a pass")
    parser.add_argument("--words", type=int, default=11, help="words of a text")
    parser.add_argument("--steps", type=int, default=100, help="steps of a fit, of 16 texts")
    parser.add_argument("--layers", type=int, default=2, help="upper layers that are trained on the cached trunk")
    parser.add_argument("--freeze", type=int, default=4, help="frozen layers of the system freeze")
    parser.add_argument("--pool", type=int, default=100_000, help="texts of the pool that a row is appended to")
    parser.add_argument("--embedded", type=int, default=2000, help="texts of it that are embedded")
    parser.add_argument("--system", choices=SYSTEMS, help="measure one system, and print its figures as JSON")
    options = parser.parse_args()
    if options.system:
        print(json.dumps(measure(options)))
        return
    print(f"{options.model}: fits of {options.steps} steps, passes over {options.rows:,} texts; processor seconds\n")
    print("| | fit | pass | round | states, once | peak memory, MB | states on disk, kB per text | accuracy |")
    print("|---|---|---|---|---|---|---|---|")
    for system in SYSTEMS:
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, __file__, *sys.argv[1:], "--system", system]
            ended = subprocess.run(command, env={**os.environ, "DAL_CACHE": cache}, stdout=subprocess.PIPE, check=True)
        found = json.loads(ended.stdout.splitlines()[-1])
        cells = [f"{found[name]:.1f}" for name in ("fit", "pass")] + [f"{found['fit'] + found['pass']:.1f}"]
        cells += [f"{found.get('states, once', 0):.1f}", f"{found['memory'] / 1e6:,.0f}"]
        cells += [f"{found['disk'] / options.rows / 1e3:.1f}", f"{found['accuracy']:.2f}"]
        print(f"| {system} | {' | '.join(cells)} |", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DAL_CACHE"] = cache
        append(options)


if __name__ == "__main__":
    main()
