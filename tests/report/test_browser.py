"""The report in a real browser, without a network. Skipped where there is no Chromium."""

import shutil

import pytest
from made_up import measured, record, write_cell, write_map, write_measured_run

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
    gains = {"Phases": 0.03, "Random": 0}
    folder = write_measured_run(tmp_path_factory.mktemp("run"), gains=gains, config={"show_texts": True})
    lines = [
        measured(
            record(
                "Phases",
                0,
                r,
                gain=0.03,
                batch=3,
                start=3,
                rows=[f"{r}-{i}-" + "wide" * 60 for i in range(3)],
                candidates={"count": 20_000, "of": 120_000 - 3 * r, "scored": 20_000, "recall": 0.5 + r / 20},
                texts=["unbreakable" * 40, "<script>document.title = 'taken over'</script>", "<b id=bold>bold</b>"],
            )
        )
        for r in range(7)
    ]
    write_cell(folder / "Phases-seed0", lines, answers=False)
    write_map(folder / "Phases-seed0", lines)
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


def choose_all(page):
    """Opens one tab after the other, and gives the page back each time."""
    for group in page.locator(".tabs").all():
        for label in group.locator("> label").all():
            label.click()
            yield group


@pytest.mark.parametrize("width", [1200, 360])
def test_every_plot_is_drawn_within_the_page(open_page, width):
    page = open_page(width)
    seen = set()
    for _ in choose_all(page):
        shown = [plot for plot in page.locator("svg.plot").all() if plot.is_visible()]
        for plot in shown:
            box = plot.bounding_box()
            assert box["width"] > 200
            assert box["height"] > 60
            assert box["x"] + box["width"] <= width
            seen.add(plot.locator("> title").get_attribute("id"))
    every = page.evaluate("[...document.querySelectorAll('svg.plot > title')].map(t => t.id)")
    narrow = {i for i in every if i.endswith("-n-t")}
    wide = {i.replace("-n-t", "-t") for i in narrow}
    assert seen == (set(every) - narrow if width > 640 else set(every) - wide)
    assert len(seen) > 20


@pytest.mark.parametrize("width", [1200, 360])
def test_names_of_curves_lie_within_the_page_and_words_can_be_read(open_page, width):
    page = open_page(width)
    texts = [text for text in page.locator("svg.plot text").all() if text.is_visible()]
    boxes = [text.bounding_box() for text in texts]
    assert len(boxes) > 100
    assert all(box["x"] >= -1 and box["x"] + box["width"] <= width + 1 for box in boxes)
    assert min(box["height"] for box in boxes) > 9


def test_one_tab_is_shown_at_a_time_on_the_screen_and_all_of_them_in_print(open_page):
    page = open_page()
    panels = page.locator(".tabs").first.locator("> .panel")
    assert [panel.is_visible() for panel in panels.all()] == [True, False, False]
    page.get_by_text("By money", exact=True).first.click()
    assert [panel.is_visible() for panel in panels.all()] == [False, True, False]
    page.emulate_media(media="print")
    assert [panel.is_visible() for panel in panels.all()] == [True, True, True]


def test_tabs_are_chosen_by_the_arrow_keys(open_page):
    page = open_page()
    page.locator("#t-over-1").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#t-over-2").is_checked()
    outline = page.evaluate("getComputedStyle(document.querySelector('#t-over-2 + label')).outlineStyle")
    assert outline == "solid"


def test_contents_lead_to_the_sections(open_page):
    page = open_page(360)
    links = page.locator(".contents a")
    assert links.count() == page.locator("main > section").count()
    links.last.click()
    assert page.locator("h2").last.bounding_box()["y"] < 800


def test_hidden_figures_of_a_map_are_told_on_the_spot(open_page):
    page = open_page()
    titles = page.evaluate("[...document.querySelectorAll('.labeled title')].map(t => t.textContent)")
    assert any("labeled in round 3: <script>" in title for title in titles)


def test_landmarks_tables_and_scrolling_regions_are_named_and_can_be_focused(open_page):
    page = open_page()
    assert [page.locator(name).count() for name in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    named = "e => (e.getAttribute('aria-label') || document.getElementById(e.getAttribute('aria-labelledby')))"
    for selector in ("section", "nav", "[role=region]", "[role=group]"):
        assert page.evaluate(f"[...document.querySelectorAll('{selector}')].every({named})")
    scrolling = "[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)"
    assert page.evaluate(scrolling)
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption && t.tHead)")


@pytest.mark.parametrize("width", [1200, 360, 320])
def test_page_never_scrolls_sideways_even_with_everything_open(open_page, width):
    page = open_page(width, everything=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 375])
def test_rounds_with_candidates_and_all_captions_fit_on_a_phone(open_page, width):
    page = open_page(width, everything=True)
    page.add_style_tag(content="html { padding-right: 15px }")  # the room that a scroll bar takes
    inside = "e => e.scrollWidth <= e.clientWidth"
    assert page.locator(".scroll[aria-label='Candidates of Phases']").evaluate(inside)
    within = "e => e.getBoundingClientRect().right <= e.closest('.scroll').getBoundingClientRect().right + 1"
    shown = "[...document.querySelectorAll('caption span')].filter(e => e.offsetParent)"
    assert page.evaluate(f"{shown}.length") > 5
    assert page.evaluate(f"{shown}.every({within})")


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
    texts = "h1, .said, .detail, caption, th, td, .note, .lead, summary, .status, .files a, .contents a"
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
    assert page.locator("td.words").get_by_text("document.title = 'taken over'").first.is_visible()


def test_page_prints_on_paper_without_cutting_a_plot(open_page):
    page = open_page(794)  # the width of A4 at 96 dots to the inch
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    boxes = [plot.bounding_box() for plot in page.locator("svg.plot").all() if plot.is_visible()]
    assert len(boxes) > 20
    assert all(box["x"] + box["width"] <= 794 for box in boxes)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".tab + label").first.is_visible()
