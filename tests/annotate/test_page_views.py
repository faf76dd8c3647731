"""History, search, disputes, classes and the header of the page, in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest
from memory_service import MemoryService
from page_visit import CLASSES, DRUGS, GUARD, Visit


def test_classes_are_made_changed_and_merged_on_the_page(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService(DRUGS, []))
    v.page.get_by_role("button", name="Make the first class").click()
    for name in ("none", "efect", "side effect", "old"):
        v.page.get_by_label("Name of a new class").fill(name)
        v.page.keyboard.press("Enter")
        v.page.get_by_role("button", name=f"Rename {name}", exact=True).wait_for()

    def dialog(action: str, fill: Callable[[Any], object]) -> None:
        v.page.get_by_role("button", name=action, exact=True).click()
        fill(v.page.locator("dialog"))
        v.page.locator("dialog button[type=submit]").click()
        v.page.wait_for_selector("dialog", state="hidden")

    dialog("Rename efect", lambda d: d.locator("input").fill("effect"))
    dialog("Describe effect", lambda d: d.get_by_label("Description").fill("what a drug does"))
    dialog("Letter effect", lambda d: d.locator("input").fill("E"))
    dialog("Merge side effect", lambda d: d.locator("select").select_option("effect"))
    dialog("Retire old", lambda d: None)
    v.page.get_by_text("old was retired.").get_by_role("button").click()
    v.page.get_by_role("button", name="Rename old", exact=True).wait_for()
    v.page.get_by_label("Guidelines for all").fill("take the more specific one")
    v.page.get_by_role("button", name="Store the guidelines").click()
    v.wait(lambda: v.service.project["guide"] == "take the more specific one")
    active = {each["name"]: each for each in v.service._active()}
    assert list(active) == ["none", "effect", "old"]
    assert (active["effect"]["description"], active["effect"]["letter"]) == ("what a drug does", "e")
    v.page.get_by_role("button", name="Letter none", exact=True).click()
    v.expected = ("400 (Bad Request)",)
    v.page.locator("dialog input").fill("s")
    v.page.keyboard.press("Enter")
    v.wait(lambda: "Not changed" in v.page.locator("dialog .refused").inner_text())
    v.page.keyboard.press("Escape")
    v.view("Label")
    v.press("e")
    assert v.service.labels() == {"t0": ("effect",)}


def test_people_without_the_right_see_classes_and_no_disputes(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService(DRUGS, CLASSES, people={"ben": ()}), who="ben")
    assert v.page.locator("#views button").all_inner_texts() == ["Label", "History", "Search", "Progress", "Classes"]
    v.view("Classes")
    assert v.page.locator("#classes button").count() == 0


def test_answer_is_found_and_changed_in_the_history(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.press("1", "2", "1")
    v.view("History")
    v.page.locator("#history .line").nth(2).wait_for()
    v.page.get_by_label("Class", exact=True).select_option("effect")
    v.wait(lambda: v.page.locator("#history .line").count() == 1)
    assert DRUGS["t1"] in v.page.locator("#history .line").inner_text()
    v.page.get_by_role("button", name="Change").click()
    v.page.wait_for_selector("#label:visible")
    assert v.text() == DRUGS["t1"]
    assert v.page.locator(".choice.was").inner_text().split() == ["2", "effect", "now"]
    v.press("3")
    assert v.service.labels()["t1"] == ("advise",)
    assert v.text() == DRUGS["t3"]


def test_text_is_found_by_search_and_labeled(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService({**DRUGS, "rare": "digoxin and quinidine"}, CLASSES))
    v.view("Search")
    v.page.keyboard.type("quinidine")
    v.page.get_by_role("button", name="Label", exact=True).nth(1).click()
    v.page.wait_for_selector("#label:visible")
    v.press("2")
    assert v.service.labels() == {"rare": ("effect",)}


def test_text_is_found_by_its_meaning_when_the_model_is_ready(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService({**DRUGS, "rare": "digoxin and quinidine"}, CLASSES))
    v.service.why = "the model is reading the texts"
    v.view("Search")
    v.page.keyboard.type("heart drugs")
    v.page.get_by_text("No text has these words.").wait_for()  # at once
    v.page.get_by_text("Not ready: the model is reading the texts.").wait_for()
    v.service.similar, v.service.why = ["rare"], None
    v.page.get_by_text("digoxin and quinidine").wait_for()  # asked again by itself
    assert [q for by, q in v.service.searches if by == "meaning"][-1] == "heart drugs"
    v.page.get_by_role("button", name="Label", exact=True).nth(1).click()
    v.page.wait_for_selector("#label:visible")
    v.press("2")
    assert v.service.labels() == {"rare": ("effect",)}
    v.view("Search")
    v.page.locator("#search input").fill("aspirin")
    v.wait(lambda: v.page.locator("#search section").first.locator(".line").count() == 8)
    v.page.get_by_role("button", name="Show 22 more").click()
    assert v.page.locator("#search section").first.locator(".line").count() == 30
    v.view("Label")
    v.service.similar = []
    v.page.wait_for_timeout(1_000)  # until the search by meaning is over
    asked = len(v.service.searches)
    v.view("Search")
    v.page.get_by_text("No text is like this.").wait_for()
    v.page.wait_for_timeout(500)
    assert len(v.service.searches) == asked + 2


@pytest.mark.parametrize("width", [1280, 390])
def test_header_is_whole_and_does_not_move(visit: Callable[..., Visit], width: int) -> None:
    service = MemoryService(DRUGS, CLASSES)
    v = visit(service, width=width)
    boxes = [v.page.locator("body > header").bounding_box()]
    service.rank(list(DRUGS))
    stage = {"stage": "reading the texts", "done": 2_150, "total": 5_000, "left": 61.0, "error": None}
    for trainer in ({"state": "starting"}, {"state": "working", **stage}, {"state": "stopped"}):
        service.trainer = {"stage": None, "done": 0, "total": 0, "left": None, "error": None, **trainer}
        v.press("1")
        boxes.append(v.page.locator("body > header").bounding_box())
        if trainer["state"] == "working":
            assert "reading the texts: 43 %, about 60 s left" in v.page.locator("#status").inner_text()
            cut = (
                "[...document.querySelectorAll('#status .part')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
            )
            assert v.page.evaluate(cut) == 0
            inside = v.page.locator(".work").bounding_box()
            assert inside["x"] + inside["width"] <= width
    assert boxes.count(boxes[0]) == len(boxes)


def test_button_keeps_the_focus_while_the_figures_are_read_again(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.service.trainer = {**v.service.trainer, "state": "working", "stage": "reading the texts"}
    v.press("1")
    v.page.locator("#views button").nth(1).focus()
    v.page.wait_for_timeout(4_000)  # read again every three seconds while the trainer works
    assert v.page.evaluate("document.activeElement.innerText") == "History"


def test_ten_disputed_texts_are_adjudicated_without_names(visit: Callable[..., Visit]) -> None:
    service = MemoryService(DRUGS, CLASSES, wanted=dict.fromkeys(DRUGS, 2))
    for i in range(10):
        for who, chosen in (("first-person", 0), ("second-person", 1)):
            given = {"row": f"t{i}", "classes": [chosen], "replaces": None, "seconds": 1.0, "seen": {}}
            service.answer(who, key=f"{who}{i}", **given)
    v = visit(service)
    assert v.page.locator("#views").inner_text().split("\n")[4] == "Disputes (10)"
    v.view("Disputes")
    for i in range(10):
        v.wait(lambda text=DRUGS[f"t{i}"]: v.page.locator(".disputed").inner_text() == text)
        assert sorted(v.page.locator(".given .chip").all_inner_texts()) == ["effect", "none"]
        assert "person" not in v.page.locator("#disputes").inner_text()
        v.page.wait_for_timeout(GUARD)
        v.page.keyboard.press(str(1 + i % 3))
    v.page.get_by_text("No text is in dispute.").wait_for()
    decided = service.stored("adjudicated")
    assert [(event.row, event.classes) for event in decided] == [(f"t{i}", (i % 3,)) for i in range(10)]
    assert len(service.stored("answered")) == 20


def test_dispute_that_was_decided_elsewhere_is_not_decided_again(visit: Callable[..., Visit]) -> None:
    service = MemoryService(DRUGS, CLASSES, wanted={"t0": 2})
    for who, chosen in (("first-person", 0), ("second-person", 1)):
        given = {"row": "t0", "classes": [chosen], "replaces": None, "seconds": 1.0, "seen": {}}
        service.answer(who, key=who, **given)
    v = visit(service)
    v.expected = ("409 (Conflict)",)
    v.view("Disputes")
    v.wait(lambda: v.page.locator(".disputed").inner_text() == DRUGS["t0"])
    service.adjudicate("ben", row="t0", classes=[2], key="decided-elsewhere", replaces=None)
    v.page.wait_for_timeout(GUARD)
    v.page.keyboard.press("1")
    v.page.get_by_text("Not stored: it was decided elsewhere, advise.").first.wait_for()
    assert [event.classes for event in service.stored("adjudicated")] == [(2,)]
    assert v.page.locator(".disputed").is_hidden()


def test_header_says_how_old_the_ranking_is_and_what_the_trainer_does(visit: Callable[..., Visit]) -> None:
    service = MemoryService(DRUGS, CLASSES)
    v = visit(service)
    assert "random order: no model yet" in v.page.locator("#status").inner_text()
    service.rank(list(DRUGS))
    service.trainer = {
        "state": "working",
        "stage": "embedding",
        "done": 1_200,
        "total": 5_000,
        "left": 130,
        "error": None,
    }
    v.press("1", "2")
    status = v.page.locator("#status").inner_text()
    assert "Margin, from 2 answers ago" in status
    assert "embedding: 24 %, about 2 min left" in status
    service.trainer = {**service.trainer, "stage": "selecting the texts: training the model", "left": 34.0}
    v.wait(lambda: "training the model: 24 %, about 30 s left" in v.page.locator("#status").inner_text())  # by itself
    service.recall = "candidates: 300 of 960 rows contain 24 of the 40 that the whole pool would have given"
    v.wait(lambda: service.recall in v.page.locator("#status").inner_text())
    service.trainer = {"state": "failed", "stage": None, "done": 0, "total": 0, "error": "one class only"}
    service.stop = {"stop": True, "text": "the last 100 labels changed 1 % of the predictions"}
    v.press("3")
    assert "training failed: one class only; the last ranking goes on" in v.page.locator("#status").inner_text()
    v.page.get_by_role("button", name="Enough labels?").click()
    assert "the last 100 labels changed 1 %" in v.page.locator("#progress .verdict").first.inner_text()
    assert v.page.locator("#progress").get_by_text(service.recall, exact=True).is_visible()
