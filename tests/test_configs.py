"""Every file in configs/ runs, in miniature."""

from pathlib import Path

import material
import pytest
from command import Command, write_tickets
from speaking import write_tiny_llama

from dal.config import settings_tree as tree
from dal.config import without_imports as static

FOLDER = Path(__file__).parent.parent / "configs"
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "slurm")

SMALL = {
    "data.text": "text",
    "data.test": "0.3",
    "data.limit": "null",
    "data.test_limit": "null",
    "start": "8",
    "batch": "4",
    "rounds": "1",
    "seeds": "[0]",
    "learner.max_length": "16",
}
QUICK = {"learner.min_steps": "2", "learner.max_steps": "2", "learner.batch_size": "4"}


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*bf16-mixed is supported")
@pytest.mark.parametrize("config", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_a_config_runs(
    config: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {**SMALL, "learner.model": str(tiny_bert), "folder": "out", "report": "false"}
    settings = tree.plain(tree.read(config))
    if "TransformerLearner" in settings["learner"]:
        options |= QUICK
    if "trunk" in settings["learner"].get("TransformerLearner", {}):
        options["learner.layers"] = "1"  # of the two that the tiny model has
    multilabel = settings["data"].get("multilabel", False)
    data = write_tagged(tmp_path / "tagged.csv", 60) if multilabel else write_tickets(tmp_path / "tickets.csv", 60)
    options |= {"data.path": str(data), "data.label": "tags" if multilabel else "label"}
    if "weak_labels" in settings:  # our own tickets, whose classes it describes
        options |= {"weak_labels.labeler.client.model": str(write_tiny_llama(tmp_path / "llama"))}
        options |= {"data.path": str(config.with_name("tickets.csv")), "weak_labels.threshold": "0"}
    if "until" in str(settings["strategy"]):
        options["strategy.until"] = "8"
    if config.stem != "quickstart":
        options["baseline"] = "null"
    capsys.readouterr()  # what writing the models said
    ended = Command(capsys)("run", config, *[part for key, value in options.items() for part in (f"--{key}", value)])
    assert ended.code == 0, ended.err
    assert ended.err == ""
    cells = [path.read_text().splitlines() for path in Path("out").glob("*/metrics.jsonl")]
    assert [len(lines) for lines in cells] == ([2, 2] if config.stem == "quickstart" else [2])


@pytest.mark.parametrize("config", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_a_config_says_what_it_is_for_and_how_to_run_it(config: Path) -> None:
    head = config.read_text().split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in head)
    assert f"#   dal run configs/{config.name}" in head


@pytest.mark.parametrize("config", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_a_config_names_installed_classes_and_its_own_folder(config: Path) -> None:
    settings = tree.read(config)
    static.check(settings, tree.Override())
    assert tree.plain(settings)["folder"] == f"runs/{config.stem}"


def test_there_is_a_config_for_every_built_in_strategy_family() -> None:
    families = {"uncertainty", "disagreement", "diversity", "gradient", "cold_start"}
    kinds = {"quickstart", "fine_tuning", "frozen_probe", "lora", "multilabel", "auto", "committee", "large_pool"}
    kinds |= {"llm_tickets"}
    assert families | kinds <= {path.stem for path in CONFIGS}


def write_tagged(path: Path, count: int) -> Path:
    """A CSV of generated tickets with none, one or two tags each."""
    texts, topics = material.tickets(count)
    tags = [("", topic, f"{topic};urgent")[i % 3] or ";" for i, topic in enumerate(topics)]
    lines = [f'"{text}",{tag}' for text, tag in zip(texts, tags, strict=True)]
    path.write_text("\n".join(["text,tags", *lines]) + "\n", encoding="utf-8")
    return path


def test_resources_of_slurm_jobs_are_read() -> None:
    from dal.config.build import build
    from dal.experiments.slurm_jobs import Slurm

    built, notes = build(Slurm, tree.read(FOLDER / "slurm.yaml"))
    assert built == Slurm(memory=16.0)
    assert notes == ()
