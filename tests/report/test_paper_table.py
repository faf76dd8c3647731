"""Tables for papers: their values, the marking of the best, escapes, and the command that writes them."""

import csv
import io
import json
import re
from pathlib import Path
from statistics import mean, stdev

import pytest
from command import Command, read_rows, running

from dal.cli import main
from dal.errors import ConfigError, DataError
from dal.evaluation import Curve, area
from dal.report.paper_table import paper_table, table_text
from dal.report.run_reading import read
from dal.report.verdict import comparisons, corrected_p

LABELS = (10, 20, 30)


def comparison(folder: Path, scores: dict[str, float], seeds: int = 6, **config: object) -> Path:
    """A folder of made-up cells: each strategy gains its score from 10 to 30 labels, with a spread over the seeds."""
    for name, gain in scores.items():
        for seed in range(seeds):
            cell = folder / f"{name}-seed{seed}"
            cell.mkdir(parents=True)
            lines = [
                {"round": i, "labels": x, "strategy": name, "seed": seed, "accuracy": value, "log_loss": 1 - value}
                | {"own_metrics": {"cost_of_all": 10 * value}, "lower_is_better": ["cost_of_all"]}
                for i, x in enumerate(LABELS)
                for value in [0.5 + gain * i / 2 + 0.01 * seed]
            ]
            (cell / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    named = json.dumps(dict.fromkeys(scores, "Margin"))
    extra = "".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items())
    (folder / "config.yaml").write_text(
        f"strategies: {named}\nbaseline: Random\nseeds: {list(range(seeds))}\nrounds: 2\n{extra}"
    )
    return folder


def test_entries_are_means_and_deviations_over_the_seeds(tmp_path: Path) -> None:
    run = read(comparison(tmp_path, {"Margin": 0.4, "Random": 0.2}))
    table = paper_table(run)
    assert table.heads == ("10", "20", "30", "area")
    finals = [0.9 + 0.01 * seed for seed in range(6)]
    assert table.rows["Margin"][2].mean == pytest.approx(mean(finals))
    assert table.rows["Margin"][2].std == pytest.approx(stdev(finals))
    assert table.rows["Margin"][3].mean == pytest.approx(
        mean(area(Curve(LABELS, (0.5 + 0.01 * s, 0.7 + 0.01 * s, 0.9 + 0.01 * s))) for s in range(6))
    )
    assert table.p == corrected_p(comparisons(run, "accuracy")) == {"Margin": pytest.approx(1 / 32)}
    assert list(table.rows) == ["Margin", "Random"]


def test_best_is_that_of_the_metric_and_its_direction(tmp_path: Path) -> None:
    table = paper_table(read(comparison(tmp_path, {"Margin": 0.4, "Random": 0.2}, metric="log_loss")))
    assert (table.metric, table.lower) == ("log loss", True)
    assert table.is_best("Margin", 2)
    assert not table.is_best("Random", 2)
    assert table.is_best("Margin", 0)
    assert table.is_best("Random", 0)  # both are equal with 10 labels


def test_metric_of_ones_own_is_taken_in_place_of_the_verdicts(tmp_path: Path) -> None:
    folder = comparison(tmp_path, {"Margin": 0.4, "Random": 0.2}, metric="log_loss")
    table = paper_table(read(folder, "cost_of_all"))
    assert (table.metric, table.lower) == ("cost_of_all", True)
    assert table.is_best("Random", 2)
    assert "\n\ncost_of_all on the test set by number of labels" in table_text(folder, "markdown", "cost_of_all")
    assert "\n\nLog loss on the test set by number of labels" in table_text(folder, "markdown")
    with pytest.raises(ConfigError, match="no scores named ece: its metrics are accuracy, log_loss, cost_of_all"):
        table_text(folder, "markdown", "ece")


def test_report_is_written_on_another_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = comparison(tmp_path, {"Margin": 0.4, "Random": 0.2})
    assert main(["report", str(folder), "--metric", "cost_of_all"]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert main(["report", str(folder)]) == 0
    verdict = re.search(r"Margin (reached|did not beat)[^<]*", page)
    assert verdict
    assert "cost_of_all" in verdict[0]
    assert page != (folder / "report.html").read_text(encoding="utf-8")
    assert main(["report", str(folder), "--metric", "nothing"]) == 2
    assert "has no scores named nothing: its metrics are accuracy" in capsys.readouterr().err


def test_latex_has_booktabs_escaped_names_and_bold_best(tmp_path: Path) -> None:
    text = table_text(comparison(tmp_path, {"BADGE~2": 0.4, "My_Margin & 5%": 0.3, "Random": 0.2}), "latex")
    rules = re.findall(r"\\(\w+rule)", text)
    assert rules == ["toprule", "midrule", "bottomrule"]
    rows = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r"\\")]
    assert rows[0] == ["strategy", "10 labels", "20 labels", "30 labels", "area", "$p$"]
    assert r"\begin{tabular}{lrrrrr}" in text
    assert rows[1][0] == r"BADGE\textasciitilde{}2"
    assert rows[1][3] == r"\textbf{0.925} $\pm$ 0.019"
    assert text.count(r"My\_Margin \& 5\%") == 1
    assert rows[-1][0] == "Random"
    assert rows[-1][-1] == "--"
    assert all(len(re.split(r"(?<!\\)&", line)) == 6 for line in text.splitlines() if line.endswith(r"\\"))


def test_markdown_is_a_table_with_a_caption(tmp_path: Path) -> None:
    text = table_text(comparison(tmp_path, {"A|B*": 0.4, "Random": 0.2}), "markdown")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(row) for row in cells} == {6}
    assert cells[2][0].strip() == r"A\|B\*"
    assert cells[2][3].strip() == "**0.925** ± 0.019"
    assert cells[2][5].strip() == "0.031"
    assert "mean and standard deviation over 6 seeds; p: paired permutation test of the area against Random" in text


def test_csv_has_numbers_and_no_formula(tmp_path: Path) -> None:
    text = table_text(comparison(tmp_path, {"=cmd()": 0.4, "Random": 0.2}), "csv")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert [row["strategy"] for row in rows] == ["'=cmd()", "Random"]
    assert float(rows[0]["30 mean"]) == pytest.approx(0.925)
    assert float(rows[0]["30 std"]) == pytest.approx(0.0187083, abs=1e-6)
    assert (rows[0]["seeds"], rows[0]["metric"], rows[1]["p"]) == ("6", "accuracy", "")


def test_one_seed_has_no_deviation_and_no_significance(tmp_path: Path) -> None:
    text = table_text(comparison(tmp_path, {"Margin": 0.4, "Random": 0.2}, seeds=1), "markdown")
    assert "±" not in text
    assert "one seed." in text
    assert "permutation" not in text


def test_caption_says_that_longer_runs_are_cut(tmp_path: Path) -> None:
    folder = comparison(tmp_path, {"Margin": 0.4, "Random": 0.2})
    assert "all runs have" not in table_text(folder, "markdown")
    path = folder / "Margin-seed3" / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))  # stopped by a rule with 20 labels
    text = table_text(folder, "markdown")
    assert "| 20 labels | area |" in text
    assert "; columns and area are for 10 to 20 labels, which all runs have (the longest has 30)" in text


def test_strategies_are_in_the_order_of_the_config(tmp_path: Path) -> None:
    run = read(comparison(tmp_path, {"Margin": 0.4, "Random": 0.2, "BADGE": 0.3, "BADGE~2": 0.1}))
    assert list(paper_table(run).rows) == ["Margin", "BADGE", "BADGE~2", "Random"]


def test_folder_without_scores_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Margin-seed0").mkdir()
    (tmp_path / "Margin-seed0" / "metrics.jsonl").write_text('{"labels": 10}\n')
    with pytest.raises(DataError, match="has no scores for a table"):
        table_text(tmp_path, "latex")


def test_command_prints_the_table_of_a_folder_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = comparison(tmp_path / "grid", {"Margin": 0.4, "Random": 0.2})
    before = sorted(path.name for path in folder.rglob("*"))
    assert main(["compare", str(folder), "--table", "latex"]) == 0
    assert capsys.readouterr().out == table_text(folder, "latex")
    assert main(["compare", str(folder), "--table", "latex", "--metric", "log_loss"]) == 0
    assert capsys.readouterr().out == table_text(folder, "latex", "log_loss")
    output = tmp_path / "table.csv"
    assert main(["compare", str(folder), "--table", "csv", "-o", str(output)]) == 0
    assert main(["compare", str(folder), "--table", "csv", "-o", str(output)]) == 2
    assert "--force" in capsys.readouterr().err
    assert [row["strategy"] for row in read_rows(output)] == ["Margin", "Random"]
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("grid", "--table", "excel"), "invalid choice: 'excel'"),
        (("grid", "-o", "t.tex"), "give --table latex, csv or markdown"),
        (
            ("grid", "--table", "csv", "--seeds", "3"),
            "a folder takes only the folder, --metric, -o and --force",
        ),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    comparison(tmp_path / "grid", {"Margin": 0.4, "Random": 0.2})
    assert main(["compare", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_comparison_ends_with_its_table(with_tickets: Command) -> None:
    dal = with_tickets.configured(run=running(start=10, batch=5, rounds=1, report=False))
    ended = dal(
        "compare", "run.yaml", "--strategies", "Margin", "--seeds", 2, "--folder", "grid", "--table", "markdown",
        "-o", "table.md",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert Path("table.md").read_text() == table_text("grid", "markdown")
