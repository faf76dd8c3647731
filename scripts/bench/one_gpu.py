"""One GPU in one table: its tests, a training step, the pass over a pool, and the selection.

    python scripts/bench/one_gpu.py [--data FOLDER] [--model NAME] [--out FOLDER] [--minutes 9]

Takes under ten minutes. The sections run one after the other, each in processes of its own, and write their lines to
`one_gpu.jsonl` in --out as they get them; what does not finish in time says so in the table.

tests: the tests marked `gpu`.
steps: milliseconds per training step of 16 short texts: `TransformerLearner`, and a hand-written loop over the same
batches, plain, compiled, and compiled into CUDA graphs (both padded to multiples of 16 tokens, so that there are few
shapes). A step is the difference between a long and a short fit, divided by the difference in steps: loading, and
compiling in the loops by hand, are not in it.
pass: rows per second of the pass and of a bare forward loop over the same batches; the utilisation that nvidia-smi
reports meanwhile.
selection: `acquisition.py` on this GPU, next to a plain loop.

Without --model, a BERT of MiniLM's size with random weights is written: its speed is that of MiniLM. Texts are made up
and have 5 to 30 words. `--device cpu --small` tries the script on a computer without a GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SECTIONS = ("tests", "steps", "pass", "selection")
#: How a training step is made, by the name in the table.
LOOPS = ("dal", "by hand", "by hand, compiled", "by hand, CUDA graphs")
SHARE = {"tests": 0.15, "steps": 0.4, "pass": 0.1, "selection": 0.35}  # of the minutes, at most
BATCH = 16
CLASSES = ("billing", "access", "shipping", "feedback")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--model", help="checkpoint; default: MiniLM's size, random weights")
    parser.add_argument("--data", help="folder of data sets, for the selection from real embeddings")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/one_gpu"), help="folder of the figures")
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--minutes", type=float, default=9.0, help="limit of all sections together")
    parser.add_argument("--pool", type=int, default=100_000, help="rows of the pass")
    parser.add_argument("--steps", type=int, default=300, help="training steps that are timed")
    parser.add_argument("--small", action="store_true", help="a tiny model, few rows and steps: a trial")
    parser.add_argument("--child", nargs=2, metavar=("SECTION", "NAME"), help=argparse.SUPPRESS)
    return parser.parse_args()


# Material


def written_model(folder: Path, small: bool) -> Path:
    """A BERT of MiniLM's size, or a tiny one, with random weights and a tokenizer of made-up words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    if (folder / "config.json").exists():
        return folder
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate([*special, *(f"word{i}" for i in range(30_517))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names).save_pretrained(folder)
    size = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    if small:
        size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(vocabulary), **size)).save_pretrained(folder)
    return folder


def texts(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Made-up texts of 5 to 30 words, and a class each that the first word tells."""
    import numpy as np

    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 31, count)
    words = generator.integers(len(CLASSES), 30_517, int(lengths.sum()))
    codes = generator.integers(0, len(CLASSES), count)
    written, start = [], 0
    for length, code in zip(lengths.tolist(), codes.tolist(), strict=True):
        rest = words[start : start + length - 1].tolist()
        written.append(" ".join([f"word{code}", *(f"word{word}" for word in rest)]))
        start += length
    return written, [CLASSES[code] for code in codes.tolist()]


def material(options: argparse.Namespace, count: int, steps: int = 1) -> tuple[Any, Any, Any]:
    """A learner of `steps` steps, and its prepared rows with their labels."""
    from dal.data import Rows
    from dal.learners.transformer_learner import TransformerLearner

    model = options.model or str(options.out / "model")
    learner = TransformerLearner(
        model, min_steps=steps, max_steps=steps, epochs=1, batch_size=BATCH, device=options.device
    )
    written, labels = texts(count, 0)
    rows = Rows.from_inputs(written, labels)
    return learner, learner.prepare(rows), rows.labels


def synchronised(device: str) -> float:
    """Seconds of the clock, when the device has done everything so far."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# A training step


def step_of_dal(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds per step of a fit."""
    import torch

    def fit(steps: int) -> float:
        learner, data, labels = material(options, 400, steps)
        begun = synchronised(options.device)
        learner.fit(data, torch.arange(400), labels, seed=0)
        return synchronised(options.device) - begun

    fit(2)  # libraries are loaded
    few = max(1, options.steps // 4)
    short, long = fit(few), fit(few + options.steps)
    return {"milliseconds": 1000 * (long - short) / options.steps}


def step_by_hand(options: argparse.Namespace, loop: str) -> dict[str, float]:
    """Milliseconds per step of a loop over the batches of the fit, and the seconds before the first timed step."""
    import torch
    from torch.nn import functional as F

    from dal.learners.inference import autocast_to
    from dal.learners.training.length_batches import BatchSampler
    from dal.modules.transformer import TransformerClassifier

    device = torch.device(options.device)
    learner, data, labels = material(options, 400)
    batches = BatchSampler(data, torch.arange(400), labels, None, BATCH, 0)
    model: Any = TransformerClassifier(learner.model, CLASSES).model.to(device).train()
    fixed = loop != "by hand"
    call = {
        "by hand": lambda: model,
        "by hand, compiled": lambda: torch.compile(model, dynamic=False),
        "by hand, CUDA graphs": lambda: torch.compile(model, dynamic=False, mode="reduce-overhead"),
    }[loop]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=7e-5, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            for batch in batches:
                if not fixed:
                    yield batch
                elif len(batch["labels"]) == BATCH:
                    more = -batch["input_ids"].shape[1] % 16
                    yield {name: F.pad(x, (0, more)) if x.dim() == 2 else x for name, x in batch.items()}

    def step(batch: dict[str, Any]) -> None:
        there = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        targets = there.pop("labels")
        with autocast_to(device, "auto"):
            logits = call(**there).logits
        F.cross_entropy(logits.float(), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)

    source = endless()
    begun = synchronised(options.device)
    for _ in range(3 * len(batches) if fixed else 3):  # every shape is compiled
        step(next(source))
    ready = synchronised(options.device)
    for _ in range(options.steps):
        step(next(source))
    ended = synchronised(options.device)
    return {"milliseconds": 1000 * (ended - ready) / options.steps, "warm-up": ready - begun}


# The pass


def passes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows per second of the pass, with and without ten Monte-Carlo samples, and of a bare forward loop."""
    import torch

    from dal.learners.inference import autocast_to, run_pass
    from dal.modules.transformer import TransformerClassifier

    device = torch.device(options.device)
    learner, data, _ = material(options, options.pool)
    module = TransformerClassifier(learner.model, CLASSES, mc_mode="head").to(device).eval()
    lengths = data.lengths
    order, batches, start = lengths.argsort(descending=True, stable=True), [], 0
    while start < len(order):
        stop = start + max(1, learner.token_budget // int(lengths[order[start]]))
        batches.append(order[start:stop].tolist())
        start = stop

    def ours(*names: str) -> None:
        run_pass(module, data, None, names, samples=10, token_budget=learner.token_budget)

    def bare() -> None:
        found = torch.empty(len(order), len(CLASSES), device=device)
        with torch.inference_mode(), autocast_to(device, "auto"):
            for rows in batches:
                batch = {name: value.to(device, non_blocking=True) for name, value in data.batch(rows).items()}
                found[torch.tensor(rows, device=device)] = module.model(**batch).logits.float()

    systems: dict[str, Callable[[], None]] = {
        "bare forward loop": bare,
        "dal: logits": lambda: ours("logits"),
        "dal: logits and features": lambda: ours("logits", "features"),
        "dal: mutual information of 10 samples": lambda: ours("mutual_information"),
    }
    lines = []
    for name, run in systems.items():
        run()
        with utilisation(options.device) as used:
            begun = synchronised(options.device)
            run()
            seconds = synchronised(options.device) - begun
        lines.append({"system": name, "rows": len(order), "rows per second": len(order) / seconds, **used})
    return lines


@contextmanager
def utilisation(device: str) -> Iterator[dict[str, float]]:
    """Mean utilisation of the GPU in percent, by nvidia-smi; empty where it is not known."""
    import torch

    found: dict[str, float] = {}
    if device != "cuda":
        yield found
        return
    chosen = str(torch.cuda.get_device_properties(0).uuid)
    chosen = chosen if chosen.startswith(("GPU-", "MIG-")) else f"GPU-{chosen}"
    command = ["nvidia-smi", f"--id={chosen}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    values: list[float] = []
    try:
        process = subprocess.Popen([*command, "--loop-ms=200"], stdout=subprocess.PIPE, text=True)
    except OSError:
        yield found
        return

    def read() -> None:
        assert process.stdout is not None
        values.extend(float(line) for line in process.stdout if line.strip().isdigit())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield found
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=5)
        if values:
            found["utilisation"] = sum(values) / len(values)


# The sections


def child(options: argparse.Namespace, section: str, name: str) -> None:
    """Print the lines of one measurement as JSON."""
    import warnings

    warnings.simplefilter("ignore")
    if section == "pass":
        lines = passes(options)
    elif name == "dal":
        lines = [{"system": name} | step_of_dal(options)]
    else:
        lines = [{"system": name} | step_by_hand(options, name)]
    for line in lines:
        print(json.dumps(line))


def run(command: list[str], limit: float) -> tuple[list[str], str]:
    """Run a command for at most `limit` seconds: the lines of its output, and why it failed or ''."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=max(limit, 1.0), check=False)
    except subprocess.TimeoutExpired:
        return [], f"not done within {limit:.0f} s"
    lines = ended.stdout.strip().splitlines()
    if not ended.returncode:
        return lines, ""
    return lines, ((ended.stderr.strip() or ended.stdout.strip()).splitlines() or ["ended without output"])[-1][:200]


def measured(options: argparse.Namespace, section: str, limit: float) -> Iterator[dict[str, Any]]:
    """The lines of a section, as they come."""
    deadline = time.monotonic() + limit
    if section == "tests":
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", str(HERE.parents[1])]
        lines, failed = run(command, limit)
        yield {"system": "tests marked gpu", "result": (lines or [failed])[-1].strip("= "), "failed": failed}
    elif section == "selection":
        yield from selection(options, limit)
    else:
        loops = LOOPS[:2] if options.small else LOOPS  # compiling takes a minute
        names = loops if section == "steps" else ("pass",)
        for name in names:
            lines, failed = run([*own_command(options), "--child", section, name], deadline - time.monotonic())
            if failed:
                yield {"system": name, "failed": failed}
            else:
                yield from (json.loads(line) for line in lines)


def selection(options: argparse.Namespace, limit: float) -> Iterator[dict[str, Any]]:
    """Seconds of every case of `acquisition.py` that runs here."""
    sys.path.insert(0, str(HERE))
    from acquisition import CASES, ON_GPU_ONLY

    cases = [name for name, case in CASES.items() if not case.busy and (case.data != "minilm" or options.data)]
    if options.small:
        cases = ["badge-10k"]
    elif options.device == "cpu":
        cases = [name for name in cases if name not in ON_GPU_ONLY]
    cases.sort(key=lambda name: name not in ON_GPU_ONLY)  # the case that is for GPUs first
    deadline = time.monotonic() + limit
    for name in cases:
        out = options.out / "acquisition.jsonl"
        out.unlink(missing_ok=True)
        command = [sys.executable, str(HERE / "acquisition.py"), "--cases", name, "--systems", "dal", "plain"]
        command += ["--device", options.device, "--out", str(out), *(["--data", options.data] if options.data else [])]
        _, failed = run(command, deadline - time.monotonic())
        found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []
        if not found:
            yield {"case": name, "system": "dal", "failed": failed or "no figures"}
        yield from found


def own_command(options: argparse.Namespace) -> list[str]:
    """This script with the same options."""
    command = [sys.executable, __file__, "--device", options.device, "--out", str(options.out)]
    command += ["--pool", str(options.pool), "--steps", str(options.steps)]
    return command + (["--model", options.model] if options.model else []) + (["--small"] if options.small else [])


# The table


def table(lines: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    rows = ["| section | what | figure | against |", "|---|---|---|---|"]
    rows += [
        f"| {line['section']} | {' | '.join(cells(line, lines))} |" for line in lines if line["section"] != "about"
    ]
    return "\n".join(rows)


def cells(line: dict[str, Any], lines: list[dict[str, Any]]) -> tuple[str, str, str]:
    """What was measured, the figure, and its ratio to what it is compared with."""
    name = f"{line['case']}: {line['system']}" if "case" in line else line["system"]
    if line.get("failed"):
        return name, f"failed: {line['failed']}", line.get("result", "")
    if line["section"] == "tests":
        return name, line["result"], ""
    others = [each for each in lines if each["section"] == line["section"] and not each.get("failed")]
    if line["section"] == "steps":
        warm = f", after {line['warm-up']:.1f} s" if "warm-up" in line else ""
        base = next((each["milliseconds"] for each in others if each["system"] == "by hand"), None)
        ratio = f"{line['milliseconds'] / base:.2f} of the time by hand" if base else ""
        return name, f"{line['milliseconds']:.2f} ms a step{warm}", ratio
    if line["section"] == "pass":
        used = f", GPU {line['utilisation']:.0f} % busy" if "utilisation" in line else ""
        base = next(each["rows per second"] for each in others if each["system"] == "bare forward loop")
        return name, f"{line['rows per second']:,.0f} rows a second{used}", f"{line['rows per second'] / base:.2f}x"
    plain = [each["seconds"] for each in others if each.get("case") == line["case"] and each["system"] == "plain"]
    ratio = f"{plain[0] / line['seconds']:.1f}x faster than plain" if plain and line["system"] == "dal" else ""
    return name, f"{1000 * line['seconds']:.1f} ms, {line['extra_mib']} MiB", ratio


def about(options: argparse.Namespace) -> dict[str, Any]:
    """The device and the versions."""
    code = (
        "import json, platform, torch; from importlib.metadata import version;"
        "name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or 'CPU';"
        "print(json.dumps({'device': name, 'gpu': torch.cuda.is_available(), 'torch': torch.__version__,"
        "'transformers': version('transformers'), 'lightning': version('lightning')}))"
    )
    lines, failed = run([sys.executable, "-c", code], 120)
    if failed:
        raise SystemExit(f"one_gpu.py: {failed}")
    found: dict[str, Any] = json.loads(lines[-1])
    if options.device == "cuda" and not found["gpu"]:
        raise SystemExit("one_gpu.py: torch sees no GPU; --device cpu --small tries the script without one")
    return found


def main() -> None:
    options = arguments()
    if options.small:
        options.pool, options.steps = min(options.pool, 200), min(options.steps, 8)
    if options.child:
        child(options, *options.child)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.TemporaryDirectory(prefix="dal-one-gpu-")
    os.environ.setdefault("DAL_CACHE", scratch.name)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    lines = [{"section": "about", **about(options)}]
    print(
        " ".join(f"{name}: {value}" for name, value in lines[0].items() if name not in ("section", "gpu")), flush=True
    )
    if not options.model:
        written_model(options.out / "model", options.small)
    for section in options.sections:
        for line in measured(options, section, 60 * options.minutes * SHARE[section]):
            lines.append({"section": section, **line})
            print("; ".join(filter(None, cells(lines[-1], lines))), file=sys.stderr, flush=True)
            (options.out / "one_gpu.jsonl").write_text(
                "".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8"
            )
    print(table(lines))
    scratch.cleanup()


if __name__ == "__main__":
    main()
