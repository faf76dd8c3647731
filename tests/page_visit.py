"""A person's browser on the annotation page, with the service in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from memory_service import MemoryService
from page_server import CHROMIUM, QUIET, PageServer

DRUGS = {f"t{i}": f"text number {i} about aspirin" for i in range(30)}
CLASSES = ("none", "effect", "advise")
GUARD = 130  # milliseconds after which a key counts


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


class Visit:
    """A person's browser on a server of its own."""

    def __init__(
        self, browser: Any, service: MemoryService, *, width: int = 1280, who: str = "ana", **more: Any
    ) -> None:
        self.service = service
        self.server = PageServer(service)
        size = {"width": width, "height": 800}
        self.context = browser.new_context(viewport=size, has_touch=width < 500, is_mobile=width < 500, **more)
        self.context.set_default_timeout(10_000)
        self.troubles: list[str] = []
        self.expected: Sequence[str] = ()
        self.page = self.open(who)

    def open(self, who: str = "ana") -> Any:
        page = self.context.new_page()
        page.on("console", lambda message: self.troubles.append(message.text))
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(self.server.origin) or self.troubles.append(asked.url))
        page.goto(self.server.link(who))
        self.ready(page)
        return page

    def ready(self, page: Any = None) -> None:
        (page or self.page).wait_for_selector("body[data-ready]")

    def text(self, page: Any = None) -> str:
        return (page or self.page).locator("#text").inner_text()

    def press(self, *keys: str, page: Any = None) -> None:
        """Press keys, each when the page is ready for the next."""
        page = page or self.page
        for key in keys:
            page.wait_for_selector("#answers:not(.busy)", state="attached")
            page.wait_for_timeout(GUARD)
            page.keyboard.press(key)
        page.wait_for_selector("#answers:not(.busy)", state="attached")

    def wait(self, is_so: Callable[[], object]) -> None:
        """Wait until something is so. `wait_for_function` needs eval, which the page's policy forbids."""
        for _ in range(200):
            if is_so():
                return
            self.page.wait_for_timeout(25)
        raise AssertionError("waited for 5 seconds")

    def notice(self) -> str:
        return self.page.locator("#notice").inner_text()

    def view(self, name: str) -> None:
        self.page.get_by_role("navigation").get_by_role("button", name=name).click()

    def end(self) -> None:
        self.context.close()
        self.server.stop()
        found = [each for each in self.troubles if not any(part in each for part in self.expected)]
        assert found == []


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens the page; at the end nothing may have been logged, and nothing fetched from elsewhere."""
    visits: list[Visit] = []

    def visit(service: MemoryService | None = None, **options: Any) -> Visit:
        visits.append(Visit(browser, service or MemoryService(DRUGS, CLASSES), **options))
        return visits[-1]

    yield visit
    for each in visits:
        each.end()
