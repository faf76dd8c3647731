// Texts that people answered differently, decided one after the other. The names of people are not shown.

import { AnswerBar } from "./answers.js";
import { count, fill, make } from "./elements.js";
import { get } from "./requests.js";
import { showText } from "./text_view.js";

export class DisputesView {
  constructor(root, shared) {
    this.root = root;
    this.shared = shared;
    this.place = make("div", { class: "answers" });
    this.bar = new AnswerBar(this.place, { commit: (classes) => this.decide(classes), warn: shared.announce });
    this.text = make("article", { class: "disputed", tabIndex: -1, "aria-label": "Disputed text" });
    this.given = make("div", { class: "given" });
    this.left = make("p", { class: "quiet", role: "status" });
    this.busy = false;
  }

  async open() {
    fill(this.root, make("h2", {}, "Disputes"), this.left, this.text, this.given, this.place);
    this.left.textContent = "Loading";
    await this.load();
  }

  async load() {
    try {
      this.rows = (await get("disputes")).rows;
    } catch (error) {
      this.rows = [];
      fill(this.left, `Not to be had: ${error.message}.`);
      this.show(false);
      return;
    }
    this.show();
  }

  show(withCount = true) {
    const [first] = this.rows;
    for (const each of [this.text, this.given, this.place]) each.hidden = !first;
    if (withCount) this.left.textContent = first ? `${count(this.rows.length, "text")} to decide` : "No text is in dispute.";
    if (!first) return;
    const { app, chips } = this.shared;
    this.at = performance.now();
    showText(this.text, first.row);
    fill(this.given, make("span", { class: "quiet" }, "answers: "), first.answers.map(chips));
    this.bar.show({ classes: app.classes, multilabel: app.project.multilabel });
    if (!this.bar.focus()) this.text.focus({ preventScroll: true });
  }

  /** Shows what is to be decided after the first text; `more` is whether the server has further ones. */
  async next(more) {
    this.rows.shift();
    if (!this.rows.length && more) await this.load();
    else this.show();
  }

  async decide(classes) {
    if (this.busy || performance.now() - this.at < 120) return;
    this.busy = true;
    this.bar.disable(true);
    const [{ row }] = this.rows;
    const { outbox, announce, nameOf, namesOf } = this.shared;
    try {
      const reply = await outbox.send("adjudicate", { row: row.id, classes, replaces: null }, classes.map(nameOf).join(", ") || "none of them");
      announce(`Decided: ${namesOf(reply.saved)}.`);
      await this.next(reply.left);
    } catch (error) {
      const stands = error.status === 409 && error.reply.stands;
      const why = stands ? `it was decided elsewhere, ${namesOf(stands)}` : error.message;
      if (stands) await this.next(true);
      announce(`Not stored: ${why}.`);
      fill(this.left, `Not stored: ${why}.`);
    } finally {
      this.busy = false;
      this.bar.disable(false);
    }
  }
}
