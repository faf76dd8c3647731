"""An annotator's hour, played in a real Chromium: no answer may be lost or stored twice, whatever happens meanwhile.

    python scripts/annotator_trial.py [--folder build/annotator_trial] [--data FOLDER] [--answers 60]

Makes a project of the sentences of `ddi2013_sent` without their labels, starts `dal annotate` and answers with these
labels, with undo, later, decline, a note, classes that are added, renamed and merged, a changed answer, a reload, a
second tab, and SIGKILL of the server and of the trainer; then several classes per text on `psytar`. After every step
the log is read by this process: exactly the events of that step must be new. At the end the labels are exported,
imported and exported again. Prints what was checked. Screenshots of the page at 1280 and 390 pixels, dark and light,
are in the folder. Exit code 0: nothing was lost, doubled or stored differently; 1: something was, and what.

Each data set is a folder of --data (DAL_TEST_DATA by default) with a train.parquet: columns text, and label_name or
label_names. Other options go to `dal init`. Needs the extras `annotate` and `test`, and Chromium.
"""

import argparse
import csv
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pyarrow.parquet
from annotator_ledger import Ledger, Server, TrialError, check, dal, wait
from playwright.sync_api import sync_playwright

from dal.errors import counted
from dal.formats.corpus_files import read_corpus
from dal.store.events import SKIP

GUARD = 130  # milliseconds after which the page takes a key for the text that it shows
# Seconds to wait for a ranking: the trainer has a low priority, and may get no processor for minutes.
PATIENCE = 900.0


class Annotator(Ledger):
    """A person at the page, who knows the labels.

    Args:
        truth: text -> its labels.
    """

    def __init__(self, browser: Any, project: Path, truth: dict[str, list[str]], *, multilabel: bool) -> None:
        super().__init__(project)
        self.truth, self.multilabel = truth, multilabel
        self.renamed: dict[str, str] = {}  # class name in `truth` -> its present name
        self.delays: list[float] = []  # seconds from the key to the next text
        self.troubles: list[str] = []
        self.server = Server(project)
        self.context = browser.new_context(viewport={"width": 1280, "height": 800})
        self.page = self.open(self.server.link)

    def open(self, address: str) -> Any:
        """A new tab on the page."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        return page

    def text(self, page: Any = None) -> str:
        """The text on the screen, without the remark on its length."""
        read = "each => [...each.childNodes].filter(n => n.className !== 'cut').map(n => n.textContent).join('')"
        return str((page or self.page).locator("#text .passage").first.evaluate(read))

    def idle(self, page: Any = None) -> None:
        """Wait until the page takes keys."""
        (page or self.page).wait_for_selector("#answers:not(.busy)", state="attached")
        (page or self.page).wait_for_timeout(GUARD)

    def names(self, page: Any = None) -> list[str]:
        """The classes, in the order of their digits."""
        return list((page or self.page).locator(".choice .name").all_inner_texts())

    def press(self, *keys: str) -> None:
        """Press keys, each when the page takes it."""
        for key in keys:
            self.idle()
            self.page.keyboard.press(key)

    def view(self, name: str) -> None:
        """Open a view."""
        self.page.get_by_role("navigation").get_by_role("button", name=name).click()

    def wanted(self) -> list[str]:
        """Present names of the classes of the text on the screen."""
        return [self.renamed.get(name, name) for name in self.truth[self.text()]]

    def keys_for(self, names: Sequence[str]) -> list[str]:
        """The keys that answer with these classes."""
        digits = [str(self.names().index(name) + 1) for name in names]
        return [*digits, *["Enter"] * (1 if names else 2)] if self.multilabel else digits

    def answer(self, names: Sequence[str] | None = None, *, name: str = "answer") -> str:
        """Answer the text on the screen, with its label unless others are given; returns the row."""
        self.idle()
        text, names = self.text(), self.wanted() if names is None else names
        keys = self.keys_for(names)
        shown = self.page.locator("#text .passage").first.element_handle()
        with self.step(name, "answered") as new:
            self.press(*keys[:-1])
            self.idle()
            began = time.monotonic()
            self.page.keyboard.press(keys[-1])
            while shown.evaluate("each => each.isConnected"):
                check(time.monotonic() - began < 60, "no further text for a minute")
            seconds = time.monotonic() - began
        if name == "answer":
            self.delays.append(seconds)
        self.expect(new, text, names)
        return str(new[-1].row)

    def screenshots(self, folder: Path, name: str, page: Any = None) -> None:
        """The tab at two widths, dark and light."""
        page = page or self.page
        for width, height in ((1280, 800), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.wait_for_timeout(150)
                check(
                    page.evaluate("document.documentElement.scrollWidth") <= width,
                    f"{name} is wider than {width} pixels",
                )
                page.screenshot(path=folder / f"{name}_{width}_{scheme}.png")
        page.set_viewport_size({"width": 1280, "height": 800})
        page.emulate_media(color_scheme="light")


# -- the two projects ----------------------------------------------------------------------------------------------


def hour(me: Annotator, folder: Path, answers: int) -> None:
    """The hour on one class per text: everything that may happen between answers."""
    me.screenshots(folder, "no_classes")
    for name in ("interaction", "none"):
        me.view("Classes")
        with me.step("class added", "class"):
            me.page.get_by_label("Name of a new class").fill(name)
            me.page.keyboard.press("Enter")
    me.view("Label")
    check(me.names() == ["interaction", "none"], f"classes are {me.names()}")
    me.screenshots(folder, "label")
    for _ in range(answers // 6):
        me.answer()
    # Undo of an answer, of two steps, and of a decline; the texts come back and are answered.
    last, text = me.answer(), me.text()
    with me.step("undo", "retracted"):
        me.press("Backspace")
        me.idle()
    check(me.texts[last] == me.text(), "undo shows another text")
    check(me.page.locator(".choice.was").count() == 1, "undo does not show what the answer was")
    del me.stands[last]
    check(me.answer() == last and me.text() == text, "after undo and answer another text comes")
    with me.step("later", "deferred"):
        me.press("s")
    me.idle()
    declined = me.text()
    with me.step("decline", "skipped") as new:
        me.press("d")
    check(me.texts[new[-1].row] == declined, "another text was declined")
    me.stands[new[-1].row] = SKIP
    me.idle()
    with me.step("undo", "retracted"):
        me.press("Backspace")
    me.idle()
    del me.stands[new[-1].row]
    check(me.text() == declined, "undo of a decline shows another text")
    with me.step("decline", "skipped") as new:
        me.press("d")
    me.stands[new[-1].row] = SKIP
    me.idle()
    with me.step("note", "noted") as new:
        me.press("f")
        me.page.keyboard.type("dosis unclear: 1 or 7?")
        me.screenshots(folder, "note")
        me.page.keyboard.press("Enter")
    check(new[-1].value == "dosis unclear: 1 or 7?", f"the note is {new[-1].value!r}")
    me.idle()
    # A class is added, answered with, renamed; answers follow. Merging moves them.
    me.view("Classes")
    with me.step("class added", "class"):
        me.page.get_by_label("Name of a new class").fill("unclear")
        me.page.keyboard.press("Enter")
    me.view("Label")
    me.answer(["unclear"])
    me.answer(["unclear"])
    me.view("Classes")
    with me.step("class renamed", "class"):
        me.page.get_by_role("button", name="Rename interaction").click()
        me.page.locator("dialog input").fill("drug interaction")
        me.page.locator("dialog button[type=submit]").click()
    me.renamed["interaction"] = "drug interaction"
    me.stands = {r: ["drug interaction"] if n == ["interaction"] else n for r, n in me.stands.items()}
    me.page.get_by_role("button", name="Merge unclear").wait_for()
    me.screenshots(folder, "classes")
    with me.step("class merged", "class"):
        me.page.get_by_role("button", name="Merge unclear").click()
        me.page.locator("dialog select").select_option("none")
        me.page.locator("dialog button[type=submit]").click()
    me.stands = {r: ["none"] if n == ["unclear"] else n for r, n in me.stands.items()}
    me.view("Label")
    me.agree()
    # A held key, a double click and a reload make no second answer.
    text, names = me.text(), me.wanted()
    [key] = me.keys_for(names)
    me.idle()
    with me.step("held key", "answered") as new:
        for _ in range(10):
            me.page.keyboard.down(key)
        me.page.keyboard.up(key)
        me.idle()
    me.expect(new, text, names)
    text, names = me.text(), me.wanted()
    with me.step("double click", "answered") as new:
        me.page.locator(".choice").nth(int(me.keys_for(names)[0]) - 1).dblclick()
        me.idle()
    me.expect(new, text, names)
    text = me.text()
    me.page.reload()
    me.page.wait_for_selector("body[data-ready]")
    check(me.text() == text, "after a reload another text is shown")
    me.done["reload"] += 1
    # Two tabs show the same text: the second answer is refused with a question, and the first stays.
    other = me.open(f"http://127.0.0.1:{me.server.port}/")
    check(me.text(other) == me.text(), "the second tab shows another text")
    names = me.wanted()
    wrong = next(str(i + 1) for i, name in enumerate(me.names()) if name not in names)
    me.idle(other)
    with me.step("second tab", "answered") as new:
        other.keyboard.press(me.keys_for(names)[0])
        me.idle(other)
        me.press(wrong)
        me.page.wait_for_selector("dialog[open]")
        me.page.wait_for_timeout(200)
    me.screenshots(folder, "two_tabs")
    me.expect(new, text, names)
    me.page.get_by_role("button", name="Keep").click()
    other.close()
    # An answer is changed in the history.
    me.idle()
    row = next(row for row, names in me.stands.items() if names == ["none"])
    me.view("History")
    me.page.get_by_label("Words of the text").fill(" ".join(re.findall(r"\w{4,}", me.texts[row])[:6]))
    me.page.locator("#history .line").first.wait_for()
    me.page.wait_for_timeout(800)
    me.screenshots(folder, "history")
    me.page.locator("#history .line").first.get_by_role("button", name="Change").click()
    me.page.wait_for_selector("#label:not([hidden])")
    me.idle()
    me.answer(["drug interaction"], name="changed answer")
    me.idle()
    me.answer()
    # The server is killed before and while it stores an answer; the tab sends it once it is back.
    for pause in (0.0, 0.004, None):
        me.idle()
        text, names = me.text(), me.wanted()
        [key] = me.keys_for(names)
        me.idle()
        with me.step("server killed", "answered") as new:
            if pause is None:
                me.server.kill()
            me.page.keyboard.press(key)
            if pause is not None:
                time.sleep(pause)
                me.server.kill()
            else:
                me.page.wait_for_selector("#banner:visible")
                me.screenshots(folder, "not_saved")
            me.server.start()
            me.open(me.server.link).close()
            me.page.wait_for_selector("#banner", state="hidden", timeout=30_000)
            me.idle()
        me.expect(new, text, names)
        me.agree()
    with me.step("undo after a restart", "retracted"):
        me.press("Backspace")
    me.idle()
    check(me.text() == text, "undo after a restart shows another text")
    del me.stands[new[-1].row]
    me.answer()
    # A ranking of the trainer; then the trainer is killed, and another one ranks.
    before = 0
    for kill in (False, True):
        before = me.rankings()
        if kill:
            killed = wait(me.server.trainers, "a trainer")
            for process in killed:
                os.kill(process, signal.SIGKILL)
            me.done["trainer killed"] += 1
            wait(lambda killed=killed: me.server.trainers() - killed, "another trainer", PATIENCE)
        for _ in range(11):
            me.answer()
        wait(lambda before=before: me.rankings() > before, "a ranking", PATIENCE)
        me.done["ranking"] += 1
    me.idle()
    while sum(names is not SKIP for names in me.stands.values()) < answers:
        me.answer()
    words = me.page.locator("#status").inner_text()
    check("ago" in words or "up to date" in words, f"the header does not say how old the ranking is: {words!r}")
    check("failed" not in words, f"the header says {words!r}")
    print(f"header: {' | '.join(words.splitlines())}")
    me.press("h")
    me.page.wait_for_timeout(3000)
    me.screenshots(folder, "hints")
    for name in ("Progress", "Search", "Disputes"):
        me.view(name)
        if name == "Search":
            me.page.keyboard.type("warfarin")
        me.page.wait_for_timeout(1500)
        me.screenshots(folder, name.lower())
    me.view("Label")
    me.press("?")
    me.screenshots(folder, "keys")
    me.page.keyboard.press("Escape")


def several(me: Annotator, folder: Path, answers: int) -> None:
    """Several classes per text: toggles, a correction before Enter, none of them, undo."""
    me.screenshots(folder, "multilabel")
    for count in range(answers):
        me.answer()
        if count == 3:
            names = me.wanted()
            spare = next(name for name in me.names() if name not in names)
            me.press(*me.keys_for([spare])[:1] * 2)  # selected and deselected
            me.answer()
        if count == 5:
            row = me.answer()
            with me.step("undo", "retracted"):
                me.press("Backspace")
                me.idle()
            check(me.texts[row] == me.text(), "undo shows another text")
            del me.stands[row]
            for chosen in me.page.locator(".choice.chosen").all():
                chosen.click()
            me.answer()
    me.idle()
    me.press("1", "2")
    me.screenshots(folder, "multilabel_selected")
    me.press("1", "2")


def read(data: Path, name: str) -> dict[str, list[str]]:
    """Text -> its labels; of equal texts the first one."""
    rows = pyarrow.parquet.read_table(data / name / "train.parquet").to_pylist()
    several = "label_names" in rows[0]
    truth: dict[str, list[str]] = {}
    for row in rows:
        truth.setdefault(row["text"], list(row["label_names"]) if several else [row["label_name"]])
    return truth


def play(
    browser: Any, folder: Path, data: Path, name: str, answers: int, formats: Sequence[str], options: Sequence[str]
) -> Annotator:
    """Make a project, answer its texts, and take its labels out and in again."""
    truth = read(data, name)
    multilabel = name == "psytar"
    classes = sorted({label for labels in truth.values() for label in labels})
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "body"), *((f"s{i}", text) for i, text in enumerate(truth))])
    project = folder / f"project_{name}"
    given = ["--multilabel", "--classes", ",".join(classes)] if multilabel else []
    dal("init", project, "--data", folder / f"{name}.csv", "--text", "body", "--id", "id", *given, *options)
    me = Annotator(browser, project, truth, multilabel=multilabel)
    try:
        (several if multilabel else hour)(me, folder, answers)
        me.agree()
    except BaseException:
        me.page.screenshot(path=folder / f"{name}_failed.png")
        raise
    finally:
        said = me.server.stop()
        me.context.close()
    check("all answers are stored" in said, f"dal annotate ended with {said!r}")
    check(not me.troubles, f"errors of the page: {me.troubles}")
    me.agree()
    # Out, in and out again: the same labels, the same bytes.
    for suffix in formats:
        first, again = (folder / f"{name}_{each}.{suffix}" for each in ("labels", "again"))
        dal("export", project, "-o", first)
        dal("init", folder / f"second_{name}_{suffix}", "--data", first)
        dal("export", folder / f"second_{name}_{suffix}", "-o", again)
        check(first.read_bytes() == again.read_bytes(), f"{first.name}: differs after import and export")
        exported = {row.id: sorted(row.answer.classes or ()) if row.answer else [] for row in read_corpus(first).rows}
        standing = {row: names for row, names in me.stands.items() if names is not SKIP}
        check(exported == standing, f"{first.name}: other labels than those that were given")
    return me


def main() -> int:
    """Play both projects, and print what was checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("build/annotator_trial"), help="new or empty")
    parser.add_argument("--data", type=Path, default=os.environ.get("DAL_TEST_DATA"), help="folder of data sets")
    parser.add_argument("--answers", type=int, default=60, help="answers to ddi2013_sent; a third as many to psytar")
    parser.add_argument("--only", choices=("ddi2013_sent", "psytar"), help="one of the two")
    parser.add_argument("--formats", default="csv,jsonl,parquet", help="of the exports that are imported again")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    own, options = parser.parse_known_args()
    if own.data is None:
        parser.error("give --data, or set DAL_TEST_DATA")
    own.folder.mkdir(parents=True, exist_ok=True)
    if any(own.folder.iterdir()):
        parser.error(f"{own.folder} is not empty: name another --folder, or remove it")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=own.chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, answers in (("ddi2013_sent", own.answers), ("psytar", own.answers // 3)):
            if own.only not in (None, name):
                continue
            try:
                me = play(browser, own.folder, own.data, name, answers, own.formats.split(","), options)
            except TrialError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 1
            kept = sum(names is not SKIP for names in me.stands.values())
            declined = counted(len(me.stands) - kept, "declined text")
            print(f"{name}: {kept} answers and {declined} stand, none lost, none doubled")
            print("  " + ", ".join(f"{what} {count}" for what, count in sorted(me.done.items())))
            middle, slow = 1000 * median(me.delays), 1000 * quantiles(me.delays, n=20)[-1]
            print(
                f"  from key to next text, the trainer at work: median {middle:.0f} ms, 95th percentile {slow:.0f} ms"
            )
            print(f"  exported as {own.formats}; imported and exported again: the same bytes")
        browser.close()
    print(f"screenshots: {own.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
