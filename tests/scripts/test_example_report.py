"""The example of the docs: tickets of our own, and a page that stands alone."""

import csv
import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "example_report.py"
PAGE = ROOT / "docs" / "example" / "report.html"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_report", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_tickets_are_the_same_each_time_no_two_alike_and_of_six_classes_in_their_shares(example: ModuleType) -> None:
    rows = example.tickets()
    assert rows == example.tickets()
    assert len({text for _, text, _ in rows}) == len({row for row, _, _ in rows}) == 1_200
    counts = Counter(label for _, _, label in rows)
    assert {name: round(100 * count / 1_200) for name, count in counts.items()} == pytest.approx(example.SHARES, abs=4)
    with open(ROOT / "configs" / "tickets.csv", newline="", encoding="utf-8") as file:
        assert set(counts) == {line["label"] for line in csv.DictReader(file)}
    assert not any(re.search(r"[{}]", text) for _, text, _ in rows)


def test_example_is_made_from_nothing_and_goes_on_where_it_was(
    example: ModuleType, tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--model", str(tiny_bert), "--count", "150", "--seeds", "2", "--rounds", "1", "--rows", "50"]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["example", "--folder", str(tmp_path / "work"), "--out", "out", *options])
        monkeypatch.chdir(tmp_path)
        example.main()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    chosen = page.partition('<h2 id="chosen">')[2].partition("</section>")[0]
    assert chosen.count('<th scope="row" class="id">') == 50
    assert "Text of the nearest" in page
    assert 'href="report/' not in page
    assert str(tmp_path / "work") not in page
    assert (tmp_path / "out" / "accuracy-by-labels.png").is_file()
    whole = (tmp_path / "work" / "comparison" / "report").glob("*.csv")
    assert {path.name for path in whole} >= {"sources.csv", "chosen.csv"}


def test_page_in_the_docs_is_whole_small_and_of_these_tickets(example: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert PAGE.stat().st_size < 1_500_000
    assert not re.search(r'(src|href)="(?!#)', page)
    texts = {row: text for row, text, _ in example.tickets()}
    shown = re.findall(r'<th scope="row" class="id"><bdi>(t\d{4})</bdi></th>', page)
    assert len(shown) > 500
    assert all(row in texts for row in shown)
    assert all(word in page for word in ("Who answered", "Map of the pool", texts[shown[0]].split(".")[0][:20]))
