// Texts that match words, and texts that are like them as the model reads it: taken from here to the labeling view.

import { fill, make } from "./elements.js";
import { line, ResultList } from "./lists.js";

const PAGE = 30;
const FIRST = 8; // texts by words that are shown until asked for more, so that those by meaning are in sight
const PAUSE = 250; // milliseconds without a key until words are searched
const LONG_PAUSE = 700; // the same by meaning, which takes the model a moment
const AGAIN = 3000; // milliseconds until the model is asked again

export class SearchView {
  constructor(root, shared) {
    this.root = root;
    this.shared = shared;
    this.words = new ResultList();
    this.meaning = new ResultList();
    this.input = make("input", { type: "search", placeholder: "words or a sentence, as of a rare class", "aria-label": "Words or a sentence to find", maxlength: "500", oninput: () => this.typed() });
    this.more = make("button", { type: "button", hidden: true, onclick: () => this.showWords(this.rows.length) }, "Show more");
    this.near = make("section", { hidden: true }, make("h3", {}, "By meaning"), this.meaning.state, this.meaning.list);
    this.exact = make("section", { hidden: true }, make("h3", {}, "By words"), this.words.state, this.words.list, this.more);
    fill(root, make("h2", {}, "Search"),
      make("p", { class: "quiet" }, "Answers to texts that were found here train the model and stay out of unbiased estimates."),
      make("form", { class: "filters", onsubmit: (event) => (event.preventDefault(), this.load()) }, this.input), this.exact, this.near);
  }

  async open() {
    this.input.focus();
    if (this.sought) await this.load();
  }

  get sought() {
    return this.input.value.trim();
  }

  typed() {
    clearTimeout(this.timer);
    clearTimeout(this.further);
    this.timer = setTimeout(() => this.loadWords(), PAUSE);
    this.further = setTimeout(() => this.loadMeaning(), LONG_PAUSE);
  }

  async load() {
    clearTimeout(this.timer);
    clearTimeout(this.further);
    await Promise.all([this.loadWords(), this.loadMeaning()]);
  }

  line(row) {
    return line(this.shared, row, row.answer, row.answer ? "Change" : "Label");
  }

  async loadWords() {
    const q = this.sought;
    this.exact.hidden = this.near.hidden = !q;
    if (!q) {
      this.words.forget();
      this.meaning.forget();
      return;
    }
    const reply = await this.words.ask("search", { q, limit: PAGE });
    if (!reply) return;
    this.rows = reply.rows;
    this.showWords(FIRST);
    this.words.say(reply.rows.length ? "" : "No text has these words.");
  }

  showWords(most) {
    fill(this.words.list, this.rows.slice(0, most).map((row) => this.line(row)));
    this.more.hidden = this.rows.length <= most;
    fill(this.more, `Show ${this.rows.length - most} more`);
  }

  async loadMeaning() {
    const q = this.sought;
    if (!q) return;
    const reply = await this.meaning.ask("search", { q, by: "meaning", limit: PAGE });
    if (!reply) return;
    fill(this.meaning.list, reply.rows.map((row) => this.line(row)));
    this.meaning.say(reply.why ? `Not ready: ${reply.why}.` : reply.rows.length ? "" : "No text is like this.");
    if (!reply.again) return;
    this.further = setTimeout(() => {
      if (!this.root.hidden && this.sought === q) void this.loadMeaning();
    }, AGAIN);
  }
}
