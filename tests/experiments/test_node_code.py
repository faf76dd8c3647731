"""Cells on other nodes run only with the code of the process that compares them."""

import json
from pathlib import Path

import pytest
from test_experiment import experiment

from dal.errors import ConfigError
from dal.experiments.comparison import Comparison
from dal.experiments.node_code import VARIABLE, code_variables
from dal.strategies import Margin


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return Comparison(experiment(tmp_path / "grid"), (Margin(),))


def test_cell_with_the_code_of_the_comparison_runs(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, code_variables()[VARIABLE])
    assert comparison.run_cell("Margin-seed0")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"versions": {"torch": "1.0"}},
            "^the comparison on login1 has torch 1.0, and the cell on .* has 2.*: install",
        ),
        ({"source": "0" * 32, "folder": "/home/me/dal"}, r"^the comparison on login1 runs other source .*/home/me/dal"),
    ],
)
def test_cell_with_other_code_is_refused_in_one_line_and_writes_nothing(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: dict[str, object], said: str
) -> None:
    facts = json.loads(code_variables()[VARIABLE]) | other | {"host": "login1"}
    monkeypatch.setenv(VARIABLE, json.dumps(facts))
    with pytest.raises(ConfigError, match=said) as refused:
        comparison.run_cell("Margin-seed0")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "grid").exists()
