// The labeling view: the text on the screen, and what a person does with it.

import { AnswerBar } from "./answers.js";
import { add, byId, count, fill, make } from "./elements.js";
import { askForNote, askWhichStands } from "./label_dialogs.js";
import { announce } from "./messages.js";
import { offerCopies } from "./near_copies.js";
import { clock } from "./reading_time.js";
import { drawSide } from "./side_panel.js";
import { app, classWords, may, namesOf, remember } from "./state.js";
import { showText } from "./text_view.js";

const GUARD = 120; // milliseconds in which a key that was meant for the text before is ignored
const DONE = { answered: "your answer", skipped: "declining", deferred: "putting last", noted: "your note" };

/** `page` has `outbox`, `shared` (what other views need), `receive`, `refresh`, `open` and `drawTools`. */
export class LabelView {
  constructor(page) {
    this.page = page;
    this.shown = null; // the row on the screen, and what is known of the person's look at it
    this.busy = false;
    this.bar = new AnswerBar(byId("answers"), { commit: (classes) => this.answer(classes), warn: announce });
    const text = byId("text");
    text.addEventListener("scroll", () => this.checkBelow(), { passive: true });
    new ResizeObserver(() => this.checkBelow()).observe(text);
  }

  // ---- the text

  show(row, { was = null } = {}) {
    this.shown = row ? { row, at: performance.now(), seen: { model: false, near: false, why: false }, hints: null } : null;
    clock.restart();
    drawSide(this.shown, this.page.shared);
    const text = byId("text");
    byId("label").classList.toggle("empty", !row);
    if (!row) {
      const { declined = 0, pending = 0, rows = 0, waiting = false, check = null, stop = null } = app.header || {};
      let words = rows ? "No text is left to answer." : "The project has no texts yet.";
      if (check && stop) words = `Check ${check.number}: ${stop.text}.`;
      else if (waiting) words = "The next texts are being selected.";
      else if (rows && pending) words += ` ${count(pending, "text")} wait${pending === 1 ? "s" : ""} for other people.`;
      fill(text, make("div", { class: "passage" }, make("p", {}, words), declined ? make("p", {}, `${count(declined, "text")} declined: see History.`) : null));
      this.bar.show({ classes: [], multilabel: false });
      fill(this.bar.list);
      this.page.drawTools();
      return;
    }
    showText(text, row);
    text.lang = "";
    this.showBar(was);
    this.page.drawTools();
    text.scrollTop = 0;
    this.checkBelow();
    if (!byId("label").hidden && !byId("dialog").open) this.focus();
  }

  showBar(was = null) {
    const answered = was || this.shown.row.answer;
    this.bar.show({ classes: app.classes, recent: app.recent, multilabel: app.project.multilabel, marked: answered?.skipped ? null : answered, word: was ? "was" : "now" });
    if (!app.classes.length && may("classes")) {
      const open = () => this.page.open("classes");
      add(this.bar.list, [make("button", { type: "button", class: "choice", onclick: open }, make("span", { class: "name" }, "Make the first class"))]);
    }
  }

  focus() {
    if (!this.bar.focus()) byId("text").focus({ preventScroll: true });
  }

  checkBelow() {
    const text = byId("text");
    const more = text.scrollHeight - text.clientHeight - text.scrollTop > 4;
    text.classList.toggle("more", more);
    byId("below").hidden = !more;
  }

  scroll(pages) {
    const text = byId("text");
    text.scrollBy({ top: pages * 0.85 * text.clientHeight });
  }

  /** Draws the classes again, after a change of them in another view. */
  update() {
    this.showBar();
    drawSide(this.shown, this.page.shared);
  }

  // ---- what a person does

  get ready() {
    return this.shown && !this.busy && performance.now() - this.shown.at >= GUARD;
  }

  hold(busy) {
    this.busy = busy;
    this.bar.disable(busy);
  }

  async send(name, body, { waiting, done }) {
    const { row } = this.shown;
    this.hold(true);
    try {
      const reply = await this.page.outbox.send(name, body, waiting);
      if (reply.saved?.classes && name === "answer") remember(reply.saved.classes);
      this.page.receive(reply);
      announce(done);
      this.busy = false;
      const [next] = app.rows;
      this.show(next, { was: next?.was });
      return reply;
    } catch (error) {
      this.busy = false;
      if (error.status === 409) this.conflict(row, body, error.reply.stands);
      else {
        announce(`Not stored: ${error.message}.`);
        void this.page.refresh(); // the text may be another person's by now, or a class gone
      }
      return null;
    } finally {
      this.bar.disable(false);
    }
  }

  async answer(classes) {
    if (!this.ready || byId("label").hidden) return;
    const { row, seen } = this.shown;
    const body = { row: row.id, classes, replaces: row.answer?.event ?? null, seconds: clock.seconds(), seen };
    const words = classWords(classes);
    const saved = await this.send("answer", body, { waiting: words, done: `Saved: ${words}.` });
    if (saved) void offerCopies(row, classes, this.page.shared, () => this.show(app.rows[0]));
  }

  skip(how) {
    if (!this.ready) return;
    const { row } = this.shown;
    const words = how === "later" ? { waiting: "later", done: "Put last." } : { waiting: "declined", done: "Declined." };
    void this.send("skip", { row: row.id, replaces: row.answer?.event ?? null, how }, words);
  }

  async undo() {
    if (this.busy) return;
    this.hold(true);
    try {
      const reply = await this.page.outbox.send("undo", {}, "undo");
      this.page.receive(reply);
      this.busy = false;
      if (!reply.undone) {
        announce("There is nothing to undo.");
        return;
      }
      const [row] = app.rows;
      const was = row?.was || null;
      announce(`Undone: ${DONE[reply.undone.kind] || reply.undone.kind}${was && !was.skipped ? ` (${namesOf(was)})` : ""}.`);
      this.show(row, { was });
    } catch (error) {
      this.busy = false;
      announce(`Not undone: ${error.message}.`);
    } finally {
      this.bar.disable(false);
    }
  }

  conflict(row, body, stands) {
    const change = () => {
      this.shown = { ...this.shown, row: { ...row, answer: stands }, at: 0 };
      const { key, ...rest } = body;
      const waiting = body.how || classWords(body.classes);
      return this.send(body.how ? "skip" : "answer", { ...rest, replaces: stands?.event ?? null }, { waiting, done: "Changed." });
    };
    askWhichStands(body, stands, { change, keep: () => this.page.refresh() });
  }

  flag() {
    if (!this.shown || this.busy) return;
    const { row } = this.shown;
    askForNote(async (text) => {
      try {
        this.page.receive(await this.page.outbox.send("flag", { row: row.id, text }, "your note"));
        announce("Note stored.");
      } catch (error) {
        announce(`Note not stored: ${error.message}.`);
      }
    });
  }
}
