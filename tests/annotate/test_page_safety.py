"""No answer is lost or doubled by the page, and no stored string runs, in a real browser."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
from memory_service import MemoryService
from page_server import PageServer
from page_visit import CLASSES, DRUGS, GUARD, Visit

from dal.errors import AnswerError, SessionError

SCRIPT = "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'><b>bold</b>"


def test_second_tab_shows_what_stands(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.expected = ("409 (Conflict)",)
    other = v.open()
    assert v.text(other) == v.text() == DRUGS["t0"]
    v.press("1")
    v.press("2", page=other)
    dialog = other.locator("dialog")
    assert "What stands: none" in dialog.inner_text()
    assert v.service.labels() == {"t0": ("none",)}
    dialog.get_by_role("button", name="Change to: effect").click()
    v.wait(lambda: v.service.labels() == {"t0": ("effect",)})
    other.wait_for_selector("#answers:not(.busy)")
    assert v.text(other) == DRUGS["t1"]
    v.press("1", page=other)
    v.press("3")
    v.page.locator("dialog").get_by_role("button", name="Keep: none").click()
    v.page.wait_for_timeout(200)
    assert v.service.labels()["t1"] == ("none",)
    assert v.text() == DRUGS["t2"]


def test_tab_to_which_a_person_comes_back_shows_no_text_that_she_has_answered(visit: Callable[..., Visit]) -> None:
    v = visit()
    other = v.open()
    v.press("1", "2")
    assert v.text(other) == DRUGS["t0"]
    other.evaluate("dispatchEvent(new Event('focus'))")
    v.wait(lambda: v.text(other) == DRUGS["t2"])
    notice = "The next text: this text was answered elsewhere, as in another tab."
    assert other.locator("#notice").inner_text() == notice
    v.press("Backspace", page=other)
    assert v.text(other) == DRUGS["t1"]
    v.press("3", page=other)
    v.page.evaluate("dispatchEvent(new Event('focus'))")  # its text is nobody's yet, and stays
    v.page.wait_for_timeout(100)
    assert v.text() == DRUGS["t2"]
    assert v.service.labels() == {"t0": ("none",), "t1": ("advise",)}


def test_answer_waits_for_a_killed_server_and_is_stored_once(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.expected = ("ERR_CONNECTION_REFUSED", "401 (Unauthorized)")
    v.press("1")
    v.server.stop()
    v.page.wait_for_timeout(GUARD)
    v.page.keyboard.press("2")
    v.page.wait_for_selector("#banner:visible")
    assert v.page.locator("#banner").inner_text().startswith("Not saved yet: effect (the program on this computer ")
    assert v.notice() == ""  # what was saved before would contradict it
    assert v.text() == DRUGS["t1"]  # the row does not move
    v.page.keyboard.press("3")
    v.page.keyboard.press("d")
    v.server = PageServer(v.service, port=v.server.port)  # a new start: its cookies are others
    v.wait(lambda: "open the link" in v.page.locator("#banner").inner_text())
    v.open()
    v.page.wait_for_selector("#banner", state="hidden")
    assert v.service.labels() == {"t0": ("none",), "t1": ("effect",)}
    assert len(v.service.stored("answered")) == 2
    v.press("3")
    assert v.service.labels()["t2"] == ("advise",)


def test_answer_survives_a_reload_and_a_full_disk(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.expected = ("503 (Service Unavailable)",)

    def full(call: str) -> None:
        if call == "answer":
            raise SessionError("labels.db: no space left on device")

    v.service.before = full
    v.page.wait_for_timeout(GUARD)
    v.page.keyboard.press("2")
    v.page.wait_for_selector("#banner:visible")
    assert "no space left on device" in v.page.locator("#banner").inner_text()
    assert v.page.evaluate("Object.keys(sessionStorage).filter(k => k.startsWith('dal-outbox')).length") == 1
    v.page.on("dialog", lambda dialog: dialog.accept())
    v.page.reload()
    v.page.wait_for_selector("#banner:visible")
    v.service.before = lambda call: None
    v.ready()
    assert v.service.labels() == {"t0": ("effect",)}
    assert v.text() == DRUGS["t1"]
    assert v.page.evaluate("Object.keys(sessionStorage).filter(k => k.startsWith('dal-outbox')).length") == 0


def test_reply_that_was_lost_is_not_a_second_answer(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.expected = ("ERR_FAILED",)
    lost = []

    def lose(route: Any) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.fetch())  # the server has it, the page does not know
            route.abort()

    v.page.route("**/api/answer", lose)
    v.press("2")
    assert len(lost) == 1
    assert len(v.service.stored("answered")) == 1
    assert v.text() == DRUGS["t1"]


def test_reload_shows_the_same_text_and_address_holds_no_token(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.press("1")
    assert v.page.url == f"{v.server.origin}/"
    assert v.page.evaluate("history.length") <= 2
    v.page.reload()
    v.ready()
    assert v.text() == DRUGS["t1"]
    (cookie,) = v.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (f"dal{v.server.port}", True, "Strict")
    assert v.page.evaluate("document.cookie") == ""


def test_link_from_a_web_page_opens_the_page_and_sends_no_referer(browser: Any) -> None:
    server = PageServer(MemoryService(DRUGS, CLASSES))
    context = browser.new_context()
    try:
        page = context.new_page()
        asked: list[Any] = []
        page.on("request", lambda request: asked.append(request))
        link = server.link()
        page.route(
            "http://mail.example/*",
            lambda route: route.fulfill(body=f"<a href='{link}'>label</a>", content_type="text/html"),
        )
        page.goto("http://mail.example/inbox")
        page.click("a")
        page.wait_for_selector("body[data-ready]")
        token = link.partition("=")[2]
        assert not [each for each in asked if token in each.headers.get("referer", "")]
        assert sum(token in each.url for each in asked) == 1
        assert page.locator("#text").inner_text() == DRUGS["t0"]
    finally:
        context.close()
        server.stop()


TURNED = "se\u202emild\u200b"  # reads as "sedlim"
MARKED = "seRLOmildZWSP"


def test_characters_that_deceive_are_marked_in_every_name(visit: Callable[..., Visit]) -> None:
    service = MemoryService(DRUGS, [TURNED, "none"], name=TURNED, wanted={"t1": 2})
    for i, change in enumerate(({"do": "describe", "id": 0, "text": TURNED}, {"do": "guide", "text": TURNED})):
        service.change_classes("ana", change=change, key=f"change{i}0")
    given = {"replaces": None, "seconds": 1.0, "seen": {}}
    service.answer("ben", row="t1", classes=[1], key="ben00000", **given)
    v = visit(service, who=TURNED)
    for place in ("#project", "#who", ".choice .name"):
        assert v.page.locator(place).first.inner_text() == MARKED
    v.page.locator(".guide > summary").click()
    assert v.page.locator(".guide h3").inner_text() == MARKED
    assert v.page.locator(".choice").first.get_attribute("title") == "se[RLO]mild[ZWSP]: se[RLO]mild[ZWSP]"
    assert v.page.title() == "se[RLO]mild[ZWSP] - dal"
    v.press("1")
    assert v.notice() == f"Saved: {MARKED}."
    assert v.page.locator("[aria-live=polite]").inner_text() == "Saved: se[RLO]mild[ZWSP]."
    v.press("1")
    hidden = """[...document.querySelectorAll('body *:not(textarea)')].filter(each =>
        [...each.childNodes].filter(node => node.nodeType === 3).map(node => node.data)
            .concat(each.title, each.ariaLabel).some(words => /[\\u202e\\u200b]/u.test(words))).length"""
    for name in ("History", "Search", "Progress", "Disputes", "Classes"):
        v.view(name)
        view = v.page.locator(f"#{name.lower()}")
        if name == "Search":
            v.page.locator("#search input").fill("aspirin")
        v.wait(lambda view=view: MARKED in view.inner_text())
        assert v.page.evaluate(hidden) == 0, name
    v.page.get_by_role("button", name="Describe").first.click()
    assert v.page.locator("dialog textarea").first.input_value() == TURNED  # it is edited and stored as it is
    v.press("Escape")
    v.page.get_by_role("button", name="Rename").first.click()
    assert v.page.locator("dialog h2").inner_text() == f"Rename {MARKED}"
    assert v.page.locator("dialog input").input_value() == TURNED


@pytest.mark.parametrize(("key", "words"), [("s", "later"), ("d", "declined"), ("2", "effect"), ("Backspace", "undo")])
def test_banner_names_what_waits_also_after_a_reload(visit: Callable[..., Visit], key: str, words: str) -> None:
    v = visit()
    v.expected = ("503 (Service Unavailable)",)
    v.press("1")

    def full(call: str) -> None:
        if call != "state":
            raise SessionError("no space left")

    v.service.before = full
    v.page.wait_for_timeout(GUARD)
    v.page.keyboard.press(key)
    v.wait(lambda: v.page.locator("#banner").inner_text().startswith(f"Not saved yet: {words} (no space left)"))
    v.page.on("dialog", lambda dialog: dialog.accept())
    v.page.reload()
    v.wait(lambda: v.page.locator("#banner").inner_text().startswith(f"Not saved yet: {words} (no space left)"))
    v.service.before = lambda call: None
    v.page.wait_for_selector("#banner", state="hidden")


def test_stored_scripts_are_shown_as_text(visit: Callable[..., Visit]) -> None:
    row = {"text": SCRIPT, "pair": SCRIPT, "fields": {SCRIPT: SCRIPT}}
    texts = {SCRIPT: row, **{f"{SCRIPT}{i}": {**row, "text": f"{SCRIPT} {i}"} for i in range(8)}}
    service = MemoryService(texts, [SCRIPT, "none"], name=SCRIPT, wanted={SCRIPT: 2})
    letter = {"do": "bind", "id": 0, "letter": "x"}
    describe = {"do": "describe", "id": 0, "text": SCRIPT, "examples": [SCRIPT]}
    for i, change in enumerate((letter, describe, {"do": "guide", "text": SCRIPT})):
        service.change_classes("ana", change=change, key=f"change{i}0")
    given = {"row": SCRIPT, "replaces": None, "seconds": 1.0, "seen": {}}
    service.answer("ben", classes=[1], key="ben00000", **given)
    service.flag("ana", row=SCRIPT, key="note0000", text=SCRIPT)
    service.stop = {"stop": True, "text": SCRIPT}
    service.trainer = {"state": "failed", "stage": None, "done": 0, "total": 0, "error": SCRIPT}
    service.rank([SCRIPT])
    v = visit(service, who=SCRIPT)
    assert SCRIPT in v.text()
    assert v.page.locator("#project").inner_text() == SCRIPT
    assert v.page.locator("#who").inner_text() == SCRIPT
    for fold in v.page.locator("#side > details").all():
        fold.locator("> summary").click()
    v.press("x")
    v.page.locator("#notice .link").wait_for()
    v.page.locator("#notice .link").click()
    assert SCRIPT in v.page.locator("dialog").inner_text()
    v.press("Escape")
    for name in ("History", "Search", "Progress", "Disputes", "Classes"):
        v.view(name)
        if name == "Search":
            v.page.locator("#search input").fill("bold script")
        view = v.page.locator(f"#{name.lower()}")
        v.wait(lambda view=view: SCRIPT in view.inner_text())
    v.page.get_by_role("button", name="Rename").first.click()
    assert SCRIPT in v.page.locator("dialog").inner_text()
    v.press("Escape")
    assert v.page.evaluate("window.taken") is None
    assert v.page.locator("b:has-text('bold')").count() == 0
    assert v.page.locator("img, iframe").count() == 0


def test_policy_stops_html_and_scripts_even_if_they_were_inserted(visit: Callable[..., Visit]) -> None:
    v = visit()
    trap = socket.create_server(("127.0.0.1", 0))
    trap.settimeout(0.2)
    address = f"http://127.0.0.1:{trap.getsockname()[1]}/"
    v.expected = ("Content Security Policy", "TrustedHTML", "TrustedScript", "violates", address)
    tried = v.page.evaluate(
        """address => {
            const outcome = {};
            const attempt = (name, run) => {
                try { run(); outcome[name] = 'ran'; } catch (e) { outcome[name] = e.name; }
            };
            attempt('html', () => { document.body.innerHTML = '<b>x</b>'; });
            attempt('script', () => { document.createElement('script').text = 'window.taken = 1'; });
            attempt('policy', () => trustedTypes.createPolicy('default', {createHTML: x => x}));
            attempt('handler', () => document.body.setAttribute('onclick', 'window.taken = 1'));
            for (const [tag, name] of [['img', 'src'], ['iframe', 'src'], ['link', 'href'], ['object', 'data']]) {
                attempt(tag, () => {
                    const element = document.createElement(tag);
                    element.rel = 'stylesheet';
                    element[name] = address;
                    document.body.append(element);
                });
            }
            attempt('fetch', () => fetch(address, {mode: 'no-cors'}).catch(() => {}));
            return outcome;
        }""",
        address,
    )
    assert tried["html"] == tried["script"] == tried["policy"] == "TypeError"
    v.page.evaluate("document.body.click()")
    assert v.page.evaluate("window.taken") is None
    v.page.wait_for_timeout(200)
    asked = []
    with trap, contextlib.suppress(TimeoutError):
        while True:
            connection, _ = trap.accept()  # a browser may connect ahead
            with connection, contextlib.suppress(TimeoutError):
                connection.settimeout(0.1)
                asked.append(connection.recv(1_000))
    assert [each for each in asked if each] == []  # nothing was asked from there


def test_request_that_always_fails_is_given_up_by_the_person_only(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.expected = ("500 (Internal Server Error)",)

    def broken(call: str) -> None:
        if call == "answer":
            raise ZeroDivisionError("a bug")

    v.service.before = broken
    v.page.wait_for_timeout(GUARD)
    v.page.keyboard.press("2")
    v.page.get_by_role("button", name="Go on without it").click()
    v.page.wait_for_selector("#banner", state="hidden")
    assert "Not stored: " in v.notice()
    assert v.text() == DRUGS["t0"]
    v.press("d")
    assert v.service.labels() == {}
    assert v.text() == DRUGS["t1"]


def test_text_that_another_person_answered_meanwhile_makes_room_for_the_next(visit: Callable[..., Visit]) -> None:
    v = visit()
    v.expected = ("400 (Bad Request)",)

    def meanwhile(call: str) -> None:
        if call == "answer":
            v.service.before = lambda call: None
            seen = {"model": False, "near": False, "why": False}
            v.service.answer("ben", row="t0", classes=[0], key="b" * 8, replaces=None, seconds=None, seen=seen)
            raise AnswerError("another person has answered this text meanwhile")

    v.service.before = meanwhile
    v.press("2")
    v.wait(lambda: v.text() == DRUGS["t1"])
    assert "another person has answered" in v.notice()
    v.press("3")
    assert v.service.labels()["t1"] == ("advise",)
