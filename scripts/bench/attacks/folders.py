"""The files and folders that commands are tried on: small, whole, and made by the commands themselves."""

import csv
import hashlib
import json
import os
import random
import stat
from collections.abc import Sequence
from pathlib import Path

CLASSES = ("access", "billing", "praise", "shipping")
WORDS = {
    "access": ("password", "login", "account", "locked", "expired"),
    "billing": ("invoice", "refund", "charge", "receipt", "twice"),
    "praise": ("lovely", "design", "colours", "useful", "thanks"),
    "shipping": ("parcel", "courier", "delayed", "broken", "returned"),
}
FILLING = ("my", "the", "was", "again", "since", "monday", "please", "what", "now", "is", "for", "team", "today")

RUN = """\
data: {path: tickets.csv, id: id, test: 0.3}
learner: TfidfLearner
strategy: Margin
start: 10
batch: 5
rounds: 2
"""
ASK = """\
data: {path: pool.csv, id: id, label: null, classes: [access, billing, praise, shipping]}
learner: TfidfLearner
strategy: {Phases: {first: Random, then: Margin, until: 10}}
"""
LLM = """\
data: {path: tickets.csv, id: id, test: 0.3}
learner:
  LLMLearner:
    client: {OpenAIClient: {model: m, base_url: "http://127.0.0.1:9/v1", retries: 0, cache: replies.db}}
strategy: Random
start: 4
batch: 4
rounds: 1
"""
ROUTER = """\
data: {path: pool.csv, id: id, label: null, classes: [access, billing, praise, shipping]}
learner: TfidfLearner
strategy: Random
oracle:
  Router:
    models:
    - LLMOracle:
        name: first
        labeler:
          LLMLearner:
            client: {OpenAIClient: {model: m, base_url: "http://127.0.0.1:9/v1", retries: 0, cache: replies.db}}
    audit: 0.5
"""

#: Optional modules that libraries try to import. A file of that name in the current folder must never be run.
PLANTED = (
    "peft ray wandb mlflow comet_ml neptune colorama bitsandbytes cupy IPython ipywidgets tensorboardX clearml "
    "dvclive codecarbon optuna apex deepspeed habana_frameworks torch_xla torch_npu "
    "intel_extension_for_pytorch polars jax flax tensorflow keras torchaudio soundfile librosa pytest_attack "
    "dask s3fs gcsfs pydantic_settings onnx onnxruntime orjson ujson simplejson brotli brotlicffi zstandard "
    "socksio h2 cchardet chardet typeshed_client omegaconf argcomplete reconplogger responses docstring_parser "
    "shtab toml tomlkit planted_plugin sitecustomize usercustomize"
)
CANARY = "canary"


def texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """So many texts and their classes; the class can be learnt from the words."""
    point = random.Random(seed)
    found = []
    for number in range(count):
        name = CLASSES[point.randrange(len(CLASSES))]
        words = [*point.sample(WORDS[name], 2), *point.sample(FILLING, 4), str(number)]
        point.shuffle(words)
        found.append((" ".join(words), name))
    return found


def write_data(folder: Path, count: int) -> None:
    """The same rows as every kind of file."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet

    found = [{"id": f"t{i}", "text": text, "label": name} for i, (text, name) in enumerate(texts(count))]
    write_rows(folder / "tickets.csv", [[*found[0]], *([*row.values()] for row in found)])
    write_rows(folder / "pool.csv", [["id", "text"], *([row["id"], row["text"]] for row in found)])
    write_rows(folder / "tickets.tsv", [[*found[0]], *([*row.values()] for row in found)], "\t")
    lines = [json.dumps(row) for row in found]
    (folder / "tickets.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tickets.json").write_text("[" + ",\n".join(lines) + "]\n", encoding="utf-8")
    pa.parquet.write_table(pa.Table.from_pylist(found), folder / "tickets.parquet")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(found).save_to_disk(str(folder / "saved"))


def write_rows(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> None:
    """Write a delimited file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


def fill(path: Path, count: int | None = None, classes: Sequence[str] = CLASSES) -> None:
    """Answer the first rows of a sheet that `dal ask` wrote, by the words of their texts."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    where, answer = head.index("text"), head.index("label")
    for row in rows[:count]:
        words = set(row[where].split())
        row[answer] = max(classes, key=lambda name: len(words.intersection(WORDS[name])))
    write_rows(path, [head, *rows])


def make(folder: Path, rows: int) -> int:
    """Make all of it in `folder`, by the commands themselves; 0 when each succeeded."""
    from dal.cli import main

    write_data(folder, rows)
    for name, text in {"run": RUN, "ask": ASK, "llm": LLM, "router": ROUTER}.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    codes = [
        main(["run", "run.yaml", "--folder", "ran"]),
        main(["compare", "run.yaml", "--strategies", "Margin,Entropy", "--seeds", "1", "--folder", "grid"]),
        main(["ask", "mine", "--config", "ask.yaml", "-n", "12", "-o", "todo.csv"]),
    ]
    fill(folder / "todo.csv")
    codes += [main(["tell", "mine", "todo.csv"]), main(["ask", "mine", "-n", "8", "-o", "todo.csv", "--force"])]
    fill(folder / "todo.csv", 3)
    codes.append(main(["tell", "mine", "todo.csv"]))
    fill(folder / "todo.csv")
    codes.append(main(["estimate", "mine", "-n", "6", "-o", "check.csv"]))
    fill(folder / "check.csv")
    _audited(folder)
    return max(codes)


def _audited(folder: Path) -> None:
    """A folder with a router, in which one machine and a person have answered."""
    from dal.store.events import Answer
    from dal.store.label_store import LabelStore

    (folder / "audited").mkdir()
    (folder / "audited" / "config.yaml").write_text(ROUTER, encoding="utf-8")
    with LabelStore(folder / "audited" / "labels.db") as store:
        names = [f"t{i}" for i in range(20)]
        store.ask(names)
        store.tell([Answer(name, CLASSES[i % 4], "first", "llm", confidence=0.95) for i, name in enumerate(names)])


def plant(folder: Path) -> None:
    """Put modules and a plugin into a folder that leave a file behind when they are run."""
    code = f"open({CANARY!r}, 'a').write(__name__ + '\\n')\nclass Planted: pass\n"
    for name in PLANTED.split():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    told = folder / "planted-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n", encoding="utf-8")
    groups = ("dal.strategies", "dal.learners", "dal.oracles", "dal.stopping", "dal.clients", "dal.candidates")
    lines = [f"[{group}]\nPlanted = planted_plugin:Planted\n" for group in groups]
    (told / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


def contents(folder: Path) -> dict[str, str]:
    """Everything in a folder: its kind, its mode, and what it holds."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            about = os.lstat(path)
            what = stat.filemode(about.st_mode)
            if stat.S_ISLNK(about.st_mode):
                what += " -> " + os.readlink(path)
            elif stat.S_ISREG(about.st_mode):
                what += " " + (_digest(path) if about.st_mode & stat.S_IRUSR else "unreadable")
            found[os.path.relpath(path, folder)] = what
        folders[:] = [name for name in folders if os.lstat(os.path.join(place, name)).st_mode & stat.S_IRUSR]
    return found


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(), digest_size=10).hexdigest()
