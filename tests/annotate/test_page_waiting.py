"""The page while people wait: for the next texts of a round, and for the accuracy of a check."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_project import make_project, open_trained, true_class
from page_visit import Visit

from dal.annotate.accuracy_check import open_check
from dal.store.accuracy_samples import AccuracySample, read_checks


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[[Any], Visit]]:
    visits: list[Visit] = []

    def opened(service: Any) -> Visit:
        visits.append(Visit(browser, service))
        return visits[-1]

    yield opened
    for each in visits:
        each.end()
        each.service.close()


def test_round_is_waited_for_and_the_next_text_appears_by_itself(
    opened: Callable[[Any], Visit], tmp_path: Path
) -> None:
    service, trainer = open_trained(make_project(tmp_path / "p"), rounds=True, ranked=2)
    visit = opened(service)
    visit.wait(lambda: "The next texts are being selected." in visit.text())
    trainer.work()
    visit.wait(lambda: "patient number" in visit.text())
    visit.press("1", "2")
    visit.wait(lambda: "The next texts are being selected." in visit.text())
    trainer.work()
    visit.wait(lambda: "patient number" in visit.text())
    assert visit.troubles == []


def test_check_is_answered_on_the_page_and_its_accuracy_is_shown(
    opened: Callable[[Any], Visit], tmp_path: Path
) -> None:
    folder = make_project(tmp_path / "p")
    ids = ("t7", "t3", "t40")
    sample = AccuracySample(1, 0, 0, 60, 1.0, ids, (1 / 60, 1 / 59, 1 / 58), ("none",) * 3)
    sample.save(folder)
    ready = threading.Event()

    def report(each: AccuracySample) -> tuple[list[str], list[str]]:
        assert ready.wait(20)
        return [f"accuracy {sum(each.right) / len(each.right):.3f}"], []

    visit = opened(open_check(folder, sample, report=report))
    status = visit.page.locator("#status").inner_text()
    assert "0 of 3 answered" in status
    assert "check 1, without hints" in status
    assert visit.page.get_by_text("What the model thinks").count() == 0
    for row in ids:
        assert f"patient number {row[1:]} " in visit.text()
        visit.press("h")
        visit.wait(lambda: "hints are hidden here" in visit.page.locator("body").inner_text())
        visit.press(str(true_class(row) + 1))
        assert read_checks(folder)[0].answers.keys() >= {row}
    visit.wait(lambda: "the accuracy is being computed" in visit.text())
    ready.set()
    visit.wait(lambda: "Check 1: accuracy 0.333." in visit.text())
    assert "accuracy 0.333" in visit.page.locator("#status").inner_text()
    assert visit.troubles == []
