"""The report in a real browser, without a network. Skipped where there is no Chromium."""

import shutil

import pytest
from made_up import record, write_cell, write_run

from dal.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run"), gains={"Phases": 0.03, "Random": 0}, config={"show_texts": True})
    lines = [
        record(
            "Phases",
            0,
            r,
            gain=0.03,
            batch=3,
            start=3,
            rows=[f"{r}-{i}-" + "wide" * 60 for i in range(3)],
            texts=["unbreakable" * 40, "<script>document.title = 'taken over'</script>", "<b id=bold>bold</b>"],
        )
        for r in range(5)
    ]
    write_cell(folder / "Phases-seed0", lines, answers=False)
    return write_report(folder).as_uri()


@pytest.fixture
def open_page(browser, address):
    """Opens the report; at the end of the test nothing may have been logged or fetched."""
    troubles, pages = [], []

    def open_page(width=1200, height=900, scheme="light", everything=False):
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url == address or troubles.append(request.url))
        page.goto(address)
        if everything:
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not troubles


@pytest.mark.parametrize("width", [1200, 375, 320])
def test_plots_are_visible_and_hold_their_names_at_any_width(open_page, width):
    page = open_page(width)
    boxes = [plot.bounding_box() for plot in page.locator("svg.plot").all() if plot.is_visible()]
    assert len(boxes) == 3
    assert all(box["width"] > 250 and box["height"] > 150 for box in boxes)
    names = [name.bounding_box() for name in page.locator("svg.plot .name").all() if name.is_visible()]
    assert len(names) == 6
    assert all(name["x"] + name["width"] <= width for name in names)


@pytest.mark.parametrize("width", [1200, 375, 320])
def test_page_never_scrolls_sideways_even_with_everything_open(open_page, width):
    page = open_page(width, everything=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def contrast(first, second):
    def luminance(color):
        parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast_in_light_and_dark(open_page, scheme):
    page = open_page(scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (contrast(paper, "rgb(255, 255, 255)") < 1.1) is (scheme == "light")
    texts = "h1, .said, .detail, caption, th, td, .note, summary, .status"
    inks = set(page.evaluate(f"[...document.querySelectorAll('{texts}')].map(e => getComputedStyle(e).color)"))
    inks |= set(page.evaluate("[...document.querySelectorAll('svg.plot text')].map(e => getComputedStyle(e).fill)"))
    assert all(contrast(ink, paper) >= 4.5 for ink in inks)


def test_page_can_be_read_by_keyboard_alone(open_page):
    page = open_page(everything=False)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the result"
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.evaluate("d => d.open")


def test_texts_of_the_pool_run_nothing_and_become_no_elements(open_page):
    page = open_page(everything=True)
    assert page.title().startswith("Phases against Random")
    assert page.locator("#bold").count() == 0
    assert page.get_by_text("document.title = 'taken over'").first.is_visible()


def test_page_prints(open_page):
    assert open_page().pdf(format="A4").startswith(b"%PDF")
