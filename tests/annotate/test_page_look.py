"""Texts, long content, contrast, keyboard and screen readers: the page in a real browser."""

from collections.abc import Callable

import pytest
from memory_service import MemoryService
from page_visit import CLASSES, DRUGS, GUARD, Visit


def test_order_of_classes_stays_while_a_text_is_shown(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService(DRUGS, CLASSES))
    names = v.page.locator(".choice .name").all_inner_texts()
    boxes = v.page.locator(".choice").nth(1).bounding_box()
    v.press("3")
    assert v.page.locator(".choice .name").all_inner_texts() == names
    assert v.page.locator(".choice").nth(1).bounding_box() == boxes


def test_long_name_of_a_class_is_broken_after_a_slash(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService(DRUGS, ("none", "sign/symptom/illness")), width=390)
    name = v.page.locator(".choice .name").nth(1)
    assert name.inner_text() == "sign/symptom/illness"
    assert name.locator("wbr").count() == 2
    assert name.evaluate("each => getComputedStyle(each).fontSize") == "16px"


def test_invisible_characters_are_marked_and_ordinary_joiners_are_not(visit: Callable[..., Visit]) -> None:
    texts = {
        "a": "live\u202egnp.exe\u202c a\u200bb\u00adc \u0007 \ufeffd",
        "b": "👨‍👩‍👧 می‌خواهم क्‍ष ❤️ é🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f x\u200dy",
        "c": {"text": "שלום עולם", "pair": "hello"},
    }
    v = visit(MemoryService(texts, CLASSES))
    assert v.page.locator(".mark").all_inner_texts() == ["RLO", "PDF", "ZWSP", "SHY", "BEL", "BOM"]
    assert "\u202e" not in v.text()
    assert "U+202E" in v.page.locator(".mark").first.get_attribute("title")
    v.press("1")
    assert v.page.locator(".mark").all_inner_texts() == ["ZWJ"]
    v.press("1")
    start = [v.page.evaluate(f"getComputedStyle(document.querySelectorAll('.passage')[{i}]).direction") for i in (0, 1)]
    assert start == ["rtl", "ltr"]


def test_what_the_model_does_not_read_is_grey(visit: Callable[..., Visit]) -> None:
    v = visit(
        MemoryService({"a": {"text": "😀" * 10 + "read" + "unread", "read_up_to": 14}, "b": "all of it"}, CLASSES)
    )
    assert v.page.locator(".unread").inner_text() == "unread"
    assert "first 14 characters" in v.page.locator(".cut").inner_text()
    v.press("1")
    assert v.page.locator(".unread").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("many", [False, True])
def test_long_texts_and_many_classes_leave_the_bar_in_its_place(
    visit: Callable[..., Visit], width: int, many: bool
) -> None:
    classes = [f"class {i} with a name of many words that goes on and on" for i in range(150)] if many else CLASSES
    texts = {"a": "short", "b": "word " * 1_000, "c": "x" * 5_000, "d": "z\u0335\u0321\u0322" * 500}
    service = MemoryService(texts, classes)
    service.trainer = {
        "state": "working",
        "stage": "embedding the texts of the pool",
        "done": 1,
        "total": 9,
        "error": None,
    }
    v = visit(service, width=width)
    boxes, headers = [], []
    for _ in texts:
        boxes.append(v.page.locator("#answers").bounding_box())
        headers.append(v.page.locator("body > header").bounding_box())
        assert v.page.evaluate("document.documentElement.scrollWidth") == width
        assert v.page.evaluate("document.documentElement.scrollHeight") == 800
        more = v.page.locator("#below").is_visible()
        assert more == (v.page.evaluate("(e => e.scrollHeight > e.clientHeight + 4)(document.getElementById('text'))"))
        v.page.locator(".choice").first.click()
        v.page.wait_for_selector("#answers:not(.busy)", state="attached")
        v.page.wait_for_timeout(GUARD)
    assert boxes.count(boxes[0]) == len(boxes)
    assert headers.count(headers[0]) == len(headers)
    assert boxes[0]["height"] <= 0.45 * 800
    assert boxes[0]["y"] + boxes[0]["height"] < 800


def test_space_scrolls_a_long_text_to_its_end(visit: Callable[..., Visit]) -> None:
    v = visit(MemoryService({"a": "word " * 1_000}, CLASSES))
    assert v.page.locator("#below").is_visible()
    for _ in range(8):
        v.press("Space")
        v.page.wait_for_timeout(150)
    v.page.wait_for_selector("#below", state="hidden")
    assert v.service.events == []


def test_page_is_used_with_the_keyboard_alone_and_read_aloud(visit: Callable[..., Visit]) -> None:
    v = visit()
    assert v.page.evaluate("document.activeElement.id") == "text"
    v.press("2")
    assert v.page.evaluate("document.activeElement.id") == "text"
    assert v.page.locator("[aria-live=polite]").inner_text() == "Saved: effect."
    reached = set()
    for _ in range(30):
        v.page.keyboard.press("Tab")
        reached.add(v.page.evaluate("document.activeElement.innerText || document.activeElement.id").strip())
    assert {"Label", "History", "Progress", "1\neffect".replace("1", "2")} <= reached | {"2\neffect"}
    assert any("Flag" in each for each in reached)
    v.page.locator(".choice").nth(2).focus()
    v.page.wait_for_timeout(GUARD)
    v.page.keyboard.press("Enter")
    v.wait(lambda: v.service.labels().get("t1") == ("advise",))
    v.press("?")
    assert "undo the last step" in v.page.locator("dialog").inner_text()
    v.press("Escape", "1")
    assert v.service.labels()["t2"] == ("none",)
    nameless = "e => !(e.innerText || e.getAttribute('aria-label') || e.closest('label'))"
    assert v.page.evaluate(f"[...document.querySelectorAll('button, input, select')].filter({nameless}).length") == 0


COLORED = (".passage", ".unread", ".cut", "#status", "#views button", ".choice .name", ".tool", "#side summary", "kbd")

#: Contrast ratios of WCAG 2 of the first element of each selector.
CONTRASTS = """selectors => {
    const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const luminance = color => {
        const [r, g, b] = color.match(/[\\d.]+/g).map(v => linear(v / 255));
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const ground = element => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor;
            if (!color.startsWith('rgba(0, 0, 0, 0')) return color;
        }
        return 'rgb(255, 255, 255)';
    };
    return Object.fromEntries(selectors.map(selector => {
        const element = document.querySelector(selector);
        const both = [getComputedStyle(element).color, ground(element)].map(luminance).sort((x, y) => y - x);
        return [selector, (both[0] + .05) / (both[1] + .05)];
    }));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_have_enough_contrast(visit: Callable[..., Visit], scheme: str) -> None:
    v = visit(MemoryService({"a": {"text": "text unread", "read_up_to": 4}}, CLASSES), color_scheme=scheme)
    ratios = v.page.evaluate(CONTRASTS, [*COLORED])
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
