"""Take the picture of the annotation page that the README shows, from a real project of made-up support tickets.

    python scripts/page_picture.py [-o docs/annotate_page.png]

Makes a project in a temporary folder, starts `dal annotate`, answers forty texts in a headless Chromium by the
keyboard, waits for a ranking of the model, and takes the picture with the hints open: about three minutes. Needs the
extras `annotate` and `demo`, playwright, and a Chromium in the path.
"""

import argparse
import csv
import itertools
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPENINGS = ("Hello,", "Hi there,", "Good morning,", "Dear team,", "")
CLOSINGS = ("Thank you!", "Please advise.", "Can you help?", "Many thanks, and have a nice day.", "")
TOPICS = {
    "billing": (
        "I was charged twice for {month}, and the second invoice has no order number on it.",
        "the refund for my {thing} that you promised in {month} is still not on my account.",
        "your invoice for {month} shows the old price, although I changed my plan before.",
        "my card was declined when I paid for the {thing}, but the bank says the money has left.",
    ),
    "access": (
        "since {month} I cannot sign in on my phone: the code that you send by mail is refused.",
        "my account was locked after I had ordered a {thing}, and the link to reset it has expired.",
        "the app logs me out whenever I open the page of the {thing}.",
        "a colleague who joined in {month} never got her invitation, so she has no account yet.",
    ),
    "delivery": (
        "the {thing} that I ordered in {month} has been 'on its way' for nine days.",
        "the parcel with the {thing} arrived, but the box was open and a part is missing.",
        "I moved in {month}; can the {thing} still be sent to my new address?",
        "the courier says that nobody was home, yet I waited for the {thing} all day.",
    ),
    "praise": (
        "I only wanted to say that the {thing} is the best one that I ever had.",
        "your new page is so much clearer than the one in {month}. Well done!",
        "the person at your counter was patient and kind when I brought the {thing} back.",
        "we have used the {thing} every day since {month}, and it still looks like new.",
    ),
}
THINGS = ("coffee grinder", "desk lamp", "garden chair", "rain jacket", "tea kettle", "bicycle bell", "alarm clock")
MONTHS = ("March", "April", "May", "June", "July")
ANSWERED, SECONDS = 40, 3
WIDTH, HEIGHT = 1280, 600


def tickets() -> dict[str, str]:
    """Text -> class, in a fixed mixed order."""
    made = {}
    for (topic, sentences), thing, month in itertools.product(TOPICS.items(), THINGS, MONTHS):
        for number, sentence in enumerate(sentences):
            draw = random.Random(f"{topic} {thing} {month} {number}")
            body = sentence.format(thing=thing, month=month)
            opening = draw.choice(OPENINGS)
            text = f"{opening} {body if opening else body[0].upper() + body[1:]} {draw.choice(CLOSINGS)}".strip()
            made[text] = topic
    order = list(made)
    random.Random(0).shuffle(order)
    return {text: made[text] for text in order}


@contextmanager
def annotating(folder: Path) -> Iterator[str]:
    """Run `dal annotate` and yield the link to its page."""
    command = [sys.executable, "-m", "dal", "annotate", str(folder), "--port", "0", "--no-open", "--who", "ana"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                raise SystemExit("dal annotate did not start")
            yield found.group()
        finally:
            process.terminate()


def answer(page: Any, truth: dict[str, str]) -> None:
    """Answer the shown text by its key."""
    page.wait_for_selector("#answers:not(.busy)", state="attached")
    page.wait_for_timeout(SECONDS * 1_000)
    shown = page.locator(".passage").first.inner_text().strip()
    page.keyboard.press(str(1 + list(TOPICS).index(truth[shown])))


def take(link: str, truth: dict[str, str], output: Path) -> None:
    """Label in the browser until a model has ranked the texts, and take the picture."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(link)
        page.wait_for_selector("body[data-ready]")
        for number in range(ANSWERED):
            if number == ANSWERED - 5:  # the last answers are to texts that the model selected
                _wait_for_ranking(page)
            answer(page, truth)
        page.wait_for_timeout(1_000)
        for hint in page.locator("details.hint summary").all():
            hint.click()
        page.wait_for_timeout(1_500)
        page.screenshot(path=str(output))
        browser.close()


def _wait_for_ranking(page: Any) -> None:
    """Wait until the header tells of a model, for five minutes at most."""
    for _ in range(600):
        if re.search(r"\bago\b|up to date", page.locator("#status").inner_text()):
            return
        page.wait_for_timeout(500)
    raise SystemExit("the model did not rank the texts within five minutes")


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[1] / "docs" / "annotate_page.png"
    parser.add_argument("-o", dest="output", type=Path, default=default, help="the PNG file to write")
    output: Path = parser.parse_args().output
    truth = tickets()
    with tempfile.TemporaryDirectory() as place:
        data, folder = Path(place) / "tickets.csv", Path(place) / "tickets"
        with data.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["body"], *([text] for text in truth)])
        made = [sys.executable, "-m", "dal", "init", str(folder), "--data", str(data), "--classes", ",".join(TOPICS)]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        with annotating(folder) as link:
            take(link, truth, output)
    print(f"written: {output}, {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
