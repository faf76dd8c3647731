"""Labeling on the page in a real browser: keys, undo, hints, multi-label, many classes."""

import time
from collections.abc import Callable

from memory_service import MemoryService
from page_visit import CLASSES, DRUGS, GUARD, Visit

MANY = tuple(f"{name} {i}" for i in range(10) for name in ("card", "crédit_line", "transfer", "type 2", "atm"))


def test_one_key_answers_and_backspace_undoes_any_number_of_steps(visit: Callable[..., Visit]) -> None:
    v = visit()
    assert v.text() == DRUGS["t0"]
    v.press("1", "2", "d", "s", "3")
    assert v.service.labels() == {"t0": ("none",), "t1": ("effect",), "t4": ("advise",)}
    assert v.service.current("t2", "ana").kind == "skipped"
    assert v.service.order[-1] == "t3"
    assert v.page.locator("#status b").inner_text() == "3"
    v.press("Backspace", "Backspace")
    assert v.text() == DRUGS["t3"]
    v.press("Backspace")
    assert v.text() == DRUGS["t2"]
    v.press("Backspace")
    assert v.text() == DRUGS["t1"]
    assert v.page.locator(".choice.was").inner_text().split() == ["2", "effect", "was"]
    assert "Undone: your answer (effect)" in v.notice()
    v.press("3", "Backspace", "Backspace")
    assert v.service.labels() == {}
    v.press("Backspace")
    assert v.notice() == "There is nothing to undo."


def test_answer_has_time_and_what_was_seen(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.press("1", "2")
    assert v.page.locator(".hint[open]").count() == 0
    v.press("h")
    v.page.wait_for_selector(".near")
    assert v.page.locator(".guesses").inner_text().split() == ["none", "50", "%", "effect", "50", "%"]
    v.press("3")
    assert v.page.locator(".hint[open]").count() == 0  # closed again with the next text
    v.page.locator(".hint summary").first.click()
    v.press("1")
    stored = v.service.stored("answered")
    assert [event.seen for event in stored] == [
        {"model": False, "near": False, "why": False},
        {"model": False, "near": False, "why": False},
        {"model": True, "near": True, "why": True},
        {"model": False, "near": False, "why": True},
    ]
    assert all(0.1 < event.seconds < 10 for event in stored)
    v.press("Backspace", "h", "h", "1")
    assert v.service.stored("answered")[-1].seen == {"model": True, "near": True, "why": True}


def test_pressing_twice_holding_and_composing_answer_once(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.page.wait_for_timeout(GUARD)
    send = "key => document.body.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, ...key}))"
    for key in ({"key": "1", "isComposing": True}, {"key": "Process", "keyCode": 229}, {"key": "1", "repeat": True}):
        v.page.evaluate(send, key)
    v.page.wait_for_timeout(100)
    assert v.service.events == []
    v.page.evaluate(f"(() => {{ const press = {send}; press({{key: '1'}}); press({{key: '1'}}); }})()")
    v.wait(lambda: v.service.events)
    v.page.evaluate(send, {"key": "1", "repeat": True})  # held over the change of the text
    v.page.locator("#answers:not(.busy)").wait_for()
    v.page.locator(".choice").nth(1).dblclick()
    v.press("Control+1", "Alt+2")
    v.page.wait_for_timeout(200)
    assert v.service.labels() in ({"t0": ("none",)}, {"t0": ("none",), "t1": ("effect",)})
    v.page.wait_for_timeout(GUARD)
    before = len(v.service.events)
    v.page.locator(".choice").nth(2).dblclick()
    v.wait(lambda: len(v.service.events) > before)
    v.page.wait_for_timeout(300)
    assert len(v.service.events) == before + 1


def test_key_within_the_guard_is_not_taken_for_the_next_text(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.page.wait_for_timeout(GUARD)
    # Pressed in the very moment in which the next text appears.
    v.page.evaluate(
        """() => new Promise(done => {
            const press = () => document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '1', bubbles: true}));
            const watch = new MutationObserver(() => {
                watch.disconnect();
                setTimeout(() => { press(); done(); }, 20);
            });
            watch.observe(document.getElementById('text'), {childList: true});
            press();
        })"""
    )
    v.page.wait_for_timeout(300)
    assert list(v.service.labels()) == ["t0"]


def test_multilabel_digits_toggle_and_enter_saves(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService(DRUGS, CLASSES, multilabel=True))
    assert v.page.locator(".choice.chosen").count() == 0
    v.press("1", "3", "2", "2")
    assert v.page.locator(".choice[aria-pressed=true] .name").all_inner_texts() == ["none", "advise"]
    assert v.service.events == []
    v.press("Enter")
    assert v.service.labels() == {"t0": ("none", "advise")}
    v.press("Enter")
    assert "Enter once more" in v.notice()
    assert len(v.service.events) == 1
    v.press("Enter")
    assert v.service.labels()["t1"] == ()
    v.press("Backspace", "Backspace")
    assert v.page.locator(".choice.chosen .name").all_inner_texts() == ["none", "advise"]


def test_many_classes_are_found_by_typing(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService(DRUGS, MANY))
    assert v.page.evaluate("document.activeElement.className") == "class-search"
    assert v.page.locator(".choice.best").count() == 0  # nothing is marked before something is typed
    v.press("Enter")
    assert v.service.events == []
    v.page.keyboard.type("'credit 7")  # without the quote a digit chooses
    assert v.page.locator(".choice").count() == 1
    assert v.page.locator(".choice.best .name").inner_text() == "crédit_line 7"
    v.press("Enter")
    assert v.service.labels() == {"t0": ("crédit_line 7",)}
    # The latest used comes first; letters are text, and Shift makes commands of them.
    assert v.page.locator(".choice .name").first.inner_text() == "crédit_line 7"
    v.press("1", "Shift+D")
    assert v.service.labels()["t1"] == ("crédit_line 7",)
    assert v.service.current("t2", "ana").kind == "skipped"
    assert v.page.locator(".tool kbd").all_inner_texts()[1:5] == ["⇧S", "⇧D", "⇧F", "⇧H"]
    v.page.keyboard.type("sd")
    assert v.page.locator(".class-search").input_value() == "sd"
    assert v.page.locator(".none").inner_text() == "No class has this in its name."
    v.press("Backspace", "Backspace")
    assert v.text() == DRUGS["t3"]
    v.press("Backspace")
    assert v.text() == DRUGS["t2"]  # in an empty search it undoes
    v.page.wait_for_timeout(GUARD)
    v.page.keyboard.type("'type 2 3")
    assert v.page.locator(".choice .name").all_inner_texts() == ["type 2 3"]
    v.press("Escape")
    assert v.page.locator(".class-search").input_value() == ""
    v.press("ArrowDown", "ArrowDown", "Enter")
    assert v.service.labels()["t2"] == ("card 0",)


def test_letter_bound_to_a_class_answers_and_stands_on_its_button(visit: Callable[..., Visit]) -> None:
    service = MemoryService(DRUGS, CLASSES)
    service.change_classes("ana", change={"do": "bind", "id": 1, "letter": "e"}, key="0" * 8)
    v = visit(service)
    assert v.page.locator(".choice").nth(1).inner_text().split() == ["2", "E", "effect"]
    v.press("e", "x")
    assert v.service.labels() == {"t0": ("effect",)}


def test_flag_stores_a_note_and_stays_at_the_text(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.press("f")
    v.page.keyboard.type("1 d s: two sentences")
    v.page.keyboard.press("Enter")
    v.wait(lambda: v.service.stored("noted"))
    (note,) = v.service.stored("noted")
    assert (note.row, note.text) == ("t0", "1 d s: two sentences")
    assert v.text() == DRUGS["t0"]
    assert v.service.labels() == {}
    v.press("f", "Escape", "1")
    assert len(v.service.stored("noted")) == 1
    assert v.service.labels() == {"t0": ("none",)}


def test_nothing_left_is_said_and_new_texts_are_shown(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService({"a": "one", "b": "two"}, CLASSES))
    v.press("1", "d")
    assert "No text is left to answer." in v.text()
    v.press("1")
    v.press("Backspace")
    assert v.text() == "two"


def test_tab_in_the_background_does_not_count_time(visit: Callable[..., Visit]) -> None:
    started = time.monotonic()
    v = visit()
    hide = """hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        document.dispatchEvent(new Event('visibilitychange')); }"""
    v.page.evaluate(hide, True)
    v.page.wait_for_timeout(1_200)
    v.page.evaluate(hide, False)
    v.press("1")
    took = time.monotonic() - started
    assert v.service.stored("answered")[0].seconds < took - 1.2
