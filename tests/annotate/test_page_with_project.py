"""A person's hour in a minute: the page in a real browser, with the annotation service and a project on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_project import AlphabeticalTrainer, make_project, open_trained
from page_server import PageServer
from page_visit import Visit

from dal.store.label_log import LabelLog


class Hour(Visit):
    """A visit to a project, whose service can be killed and opened again."""

    def __init__(self, browser: Any, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.trainer: AlphabeticalTrainer
        self.options = options
        service, self.trainer = open_trained(folder, **options)
        super().__init__(browser, service)

    def labels(self) -> dict[str, object]:
        """Id -> standing answer, as another process reads it."""
        with LabelLog(self.folder / "labels.db", access="read") as log:
            return {event.row: log.renamed(event).value for event in log.history() if event.kind == "answered"}

    def restart(self) -> None:
        """End server and service, and open both again at the same port."""
        self.server.stop()
        self.service.close()
        service, self.trainer = open_trained(self.folder, **self.options)
        self.service = service
        self.server = PageServer(service, port=self.server.port)

    def current(self) -> str:
        return "t" + self.text().split()[2]

    def end(self) -> None:
        super().end()
        self.service.close()


@pytest.fixture
def hour(browser: Any, tmp_path: Path) -> Iterator[Hour]:
    hour = Hour(browser, make_project(tmp_path / "ddi"), every=5)
    yield hour
    hour.end()


def test_hour_with_a_project_loses_and_doubles_nothing(hour: Hour) -> None:
    v, given = hour, {}

    def answer(key: str, name: str) -> str:
        row = v.current()
        v.press(key)
        given[row] = name
        return row

    assert "random order" in v.page.locator("#status").inner_text()
    names = ("none", "mild", "severe")
    for i in range(6):
        answer(str(i % 3 + 1), names[i % 3])
    assert v.labels() == given
    # Rankings arrive: the next texts are their own, and the header says how old the last one is.
    assert v.trainer.work() == 1  # asked for before there was an answer
    answer("1", "none")
    assert v.trainer.work() == 1
    answer("2", "mild")
    answer("3", "severe")
    assert "Alphabetical" in v.page.locator("#status").inner_text()
    v.press("h")
    v.page.wait_for_selector(".hint[open] .chips")
    assert "of the alphabet" in v.page.locator("#side").inner_text()
    # Undo over a skip and two answers, and once more after a restart.
    last = answer("3", "severe")
    declined = v.current()
    v.press("d", "Backspace", "Backspace")
    assert v.current() == last
    assert v.page.locator(".choice.was .name").inner_text() == "severe"
    del given[last]
    assert v.labels() == given
    v.expected = ("ERR_CONNECTION_REFUSED", "401 (Unauthorized)", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET")
    v.server.stop()
    v.page.wait_for_timeout(200)
    v.page.keyboard.press("2")
    given[last] = "mild"
    v.page.wait_for_selector("#banner:visible")
    v.restart()
    other = v.open()
    v.page.wait_for_selector("#banner", state="hidden")
    assert v.labels() == given
    other.close()
    assert v.current() != last
    # A class is added, named otherwise and merged; flagged, put off and declined texts are no labels.
    v.view("Classes")
    v.page.get_by_label("Name of a new class").fill("grave")
    v.page.keyboard.press("Enter")
    v.page.get_by_role("button", name="Rename grave").wait_for()
    v.view("Label")
    assert v.current() == declined
    answer("4", "grave")
    v.view("Classes")
    v.page.get_by_role("button", name="Merge grave").click()
    v.page.locator("dialog select").select_option("severe")
    v.page.locator("dialog button[type=submit]").click()
    v.page.get_by_text("grave was merged.").wait_for()
    v.page.get_by_role("button", name="Rename mild").click()
    v.page.locator("dialog input").fill("light")
    v.page.locator("dialog button[type=submit]").click()
    v.page.get_by_role("button", name="Rename light").wait_for()
    given = {row: {"grave": "severe", "mild": "light"}.get(name, name) for row, name in given.items()}
    v.view("Label")
    assert v.labels() == given
    v.press("f")
    v.page.keyboard.type("two sentences")
    v.page.keyboard.press("Enter")
    put_off = v.current()
    v.press("s")
    assert v.current() != put_off
    v.press("d")
    assert v.labels() == given
    # An answer is changed in the history, and a text found by its words.
    v.view("History")
    line = v.page.locator("#history .line").filter(has_text=f"number {last[1:]} has")
    line.get_by_role("button", name="Change").click()
    v.wait(lambda: v.current() == last)
    answer("1", "none")
    v.view("Search")
    v.page.keyboard.type("number 59")
    v.page.locator("#search .line").first.get_by_role("button").click()
    v.wait(lambda: v.current() == "t59")
    answer("3", "severe")
    assert v.labels() == given
    v.view("Progress")
    v.page.get_by_text("Answers per class").wait_for()
    assert v.page.locator("#progress .big").first.inner_text() == str(len(given))
