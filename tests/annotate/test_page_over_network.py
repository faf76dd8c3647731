"""The page on other computers: a person's login, its end, and a proxy, in a real browser over TLS."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_server import CHROMIUM, QUIET
from page_visit import GUARD
from test_network_access import Team
from tls_proxy import TlsProxy

LOGIN = "Link or login"


@pytest.fixture(scope="module")
def far_browser() -> Iterator[Any]:
    """A browser on another computer, for which label.test is this one. It does not know who issued the certificate."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    names = "--host-resolver-rules=MAP label.test 127.0.0.1"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, names])
        yield browser
        browser.close()


class FarVisit:
    """A browser of a team's person, and what it logged and asked for."""

    def __init__(self, browser: Any, team: Team, **options: Any) -> None:
        self.team, self.origin = team, team.server.origin
        self.context = browser.new_context(ignore_https_errors=True, **options)
        self.context.set_default_timeout(10_000)
        self.asked: list[Any] = []
        self.context.on("request", lambda request: self.asked.append(request))  # playwright sets an attribute on it
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def link(self, who: str) -> str:
        return f"{self.origin}/#login={self.team.secrets[who]}"

    def ready(self, page: Any = None) -> None:
        (page or self.page).wait_for_selector("body[data-ready]")

    def answer(self, key: str) -> None:
        before = self.page.locator("#text").inner_text()
        self.page.wait_for_selector("#answers:not(.busy)", state="attached")
        self.page.wait_for_timeout(GUARD)
        self.page.keyboard.press(key)
        for _ in range(200):
            if self.page.locator("#text").inner_text() != before:
                return
            self.page.wait_for_timeout(25)
        raise AssertionError("no next text")

    def answers(self) -> list[tuple[str, object]]:
        return [(event.who, event.value) for event in self.team.service.log.history()]


@pytest.fixture
def visit(far_browser: Any, tmp_path: Path) -> Iterator[Callable[..., FarVisit]]:
    visits: list[FarVisit] = []

    def visit(team: Team | None = None, **options: Any) -> FarVisit:
        visits.append(FarVisit(far_browser, team or Team(tmp_path / "ddi"), **options))
        return visits[-1]

    yield visit
    for each in visits:
        each.context.close()
    for team in {each.team for each in visits}:
        team.end()
    assert [error for each in visits for error in each.errors] == []


def test_link_logs_in_and_an_answer_is_stored(visit: Callable[..., FarVisit]) -> None:
    v = visit()
    v.page.goto(v.link("ben"))
    v.ready()
    assert v.page.url == f"{v.origin}/"
    assert v.page.locator("#who").inner_text() == "ben"
    v.answer("2")
    assert v.answers() == [("ben", "mild")]
    (cookie,) = v.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (
        f"__Host-dal{v.team.server.port}",
        True,
        True,
        "Strict",
    )
    assert v.page.evaluate("document.cookie") == ""
    # The login was sent once, in a body; it is in no address and no referer.
    secret = v.team.secrets["ben"]
    assert [each.url for each in v.asked if secret in each.url.partition("#")[0]] == []
    assert [each.url for each in v.asked if secret in each.headers.get("referer", "")] == []
    assert [each.url for each in v.asked if secret in (each.post_data or "")] == [f"{v.origin}/login"]
    assert [each.url for each in v.asked if not each.url.startswith(v.origin)] == []


def test_login_is_typed_and_survives_a_restart_of_the_server(visit: Callable[..., FarVisit]) -> None:
    v = visit()
    v.page.goto(v.origin)
    field = v.page.get_by_label(LOGIN)
    assert field.evaluate("each => each === document.activeElement")
    field.fill("no such login")
    v.page.keyboard.press("Enter")
    v.page.get_by_text("Not logged in: this login is wrong").wait_for()
    field.fill(f"  {v.link('ana')} ")  # the whole link, as it was sent
    v.page.get_by_role("button", name="Log in").click()
    v.ready()
    v.answer("1")
    v.team.server.stop()
    v.team.server.start()
    v.answer("2")
    v.page.reload()
    v.ready()
    assert sorted(v.answers()) == [("ana", "mild"), ("ana", "none")]


def test_link_from_a_web_mail_logs_in_and_a_bookmark_there_opens_the_page(visit: Callable[..., FarVisit]) -> None:
    v = visit()
    link = v.link("cem")
    content = f"<a id=login href='{link}'>log in</a><a id=page href='{v.origin}/'>page</a>"
    v.page.route("https://mail.example/*", lambda route: route.fulfill(body=content, content_type="text/html"))
    for name in ("login", "page"):  # the cookie is strict: the second one does not bring it along
        v.page.goto("https://mail.example/")
        v.page.click(f"#{name}")
        v.ready()
        assert v.page.locator("#who").inner_text() == "cem"
        assert v.page.url == f"{v.origin}/"


def test_removed_person_is_told_and_keeps_what_was_not_sent(visit: Callable[..., FarVisit]) -> None:
    from dal.annotate.logins import new_login

    v = visit()
    v.page.goto(v.link("ben"))
    v.ready()
    v.team.service.log.remove_person("ben")
    v.page.wait_for_timeout(GUARD)
    v.page.keyboard.press("1")
    v.page.wait_for_selector("#banner:visible")
    assert "Not saved yet: none (log in: open this address again" in v.page.locator("#banner").inner_text()
    assert v.answers() == []
    v.team.secrets["ben"] = new_login(v.team.service.log, "ben")
    other = v.context.new_page()
    other.goto(v.link("ben"))
    v.ready(other)
    v.page.wait_for_selector("#banner", state="hidden")
    assert v.answers() == [("ben", "none")]


def test_link_of_another_person_changes_nobody_unnoticed(visit: Callable[..., FarVisit]) -> None:
    v = visit()
    v.page.goto(v.link("ana"))
    v.ready()
    v.page.goto("about:blank")
    v.page.goto(v.link("ben"))
    v.ready()
    assert "You are logged in as ana" in v.page.locator("dialog").inner_text()
    assert v.page.url == f"{v.origin}/"
    v.page.get_by_role("button", name="Close").click()
    v.page.get_by_role("button", name="Log out").click()
    v.page.get_by_label(LOGIN).wait_for()
    assert v.context.cookies() == []
    v.page.goto("about:blank")
    v.page.goto(v.link("ben"))
    v.ready()
    assert v.page.locator("#who").inner_text() == "ben"


def test_page_works_behind_a_proxy_that_adds_tls(
    far_browser: Any, visit: Callable[..., FarVisit], tmp_path: Path
) -> None:
    proxy = TlsProxy()
    try:
        team = Team(tmp_path / "proxied", tls=None, origin=f"https://{proxy.host}", hosts=[proxy.host])
        proxy.backend = team.server.port
        v = visit(team)
        v.page.goto(v.link("cem"))
        v.ready()
        v.answer("3")
        assert v.answers() == [("cem", "severe")]
        assert v.context.cookies()[0]["name"] == f"__Host-dal{proxy.port}"
    finally:
        proxy.stop()


def test_page_of_one_person_has_no_log_out(far_browser: Any) -> None:
    from memory_service import MemoryService
    from page_server import PageServer
    from page_visit import CLASSES, DRUGS

    server = PageServer(MemoryService(DRUGS, CLASSES))
    context = far_browser.new_context()
    try:
        page = context.new_page()
        page.goto(server.link())
        page.wait_for_selector("body[data-ready]")
        assert page.get_by_role("button", name="Log out").count() == 0
    finally:
        context.close()
        server.stop()
