"""A run keeps the descriptions of the classes that it began with, also those of rows built in Python."""

from pathlib import Path
from typing import Any

import pytest

from dal.config.stored import read_config
from dal.data import Rows, Splits, TextData
from dal.errors import ConfigError
from dal.experiments.comparison import Comparison
from dal.experiments.experiment import Experiment
from dal.learners.tfidf_learner import TfidfLearner
from dal.strategies import Margin, Random

TEXTS = [f"{'invoice' if i % 2 else 'login'} number {i}" for i in range(40)]
LABELS = ["billing" if i % 2 else "access" for i in range(40)]


def experiment(data: Any, folder: Path) -> Experiment:
    return Experiment(
        data, TfidfLearner(), Random(), baseline=None, start=4, batch=2, rounds=1, folder=str(folder), quiet=True
    )


def rows(**given: Any) -> Splits:
    return Splits(*(Rows.from_inputs(part, LABELS[:20], **given) for part in (TEXTS[:20], TEXTS[20:])))


def test_rows_with_other_descriptions_are_another_run(tmp_path: Path) -> None:
    first = experiment(rows(descriptions={"billing": "invoices"}), tmp_path / "a")
    first.run()
    assert read_config(tmp_path / "a")["data"]["descriptions"] == {"billing": "invoices"}
    first.run()
    with pytest.raises(ConfigError, match=r'billing is "invoices" there and \["invoices", "fees"\] here'):
        experiment(rows(descriptions={"billing": ["invoices", "fees"]}), tmp_path / "a").run()


def test_rows_without_descriptions_have_no_key_for_them(tmp_path: Path) -> None:
    experiment(rows(), tmp_path / "a").run()
    assert set(read_config(tmp_path / "a")["data"]) == {"pool", "test", "validation"}


@pytest.mark.parametrize("grid", [False, True])
def test_file_of_descriptions_is_stored_as_its_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{text},{label}" for text, label in zip(TEXTS, LABELS, strict=True)]
    Path("texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")

    def run(text: str) -> None:
        Path("classes.csv").write_text(f"class,description\nbilling,{text}\n")
        one = experiment(TextData("texts.csv", test=0.5, descriptions="classes.csv"), tmp_path / "a")
        (Comparison(one, (Random(), Margin())) if grid else one).run()

    run("invoices")
    for folder in ("a", "a/Random-seed0"):
        assert read_config(tmp_path / folder)["data"]["descriptions"] == {"billing": "invoices"}
    run("invoices")
    with pytest.raises(ConfigError, match='billing is "invoices" there and "fees" here; choose another folder'):
        run("fees")
