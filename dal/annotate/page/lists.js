// Answers that were given: a list from which a text is taken to the labeling view.

import { fill, make, moment, percent } from "./elements.js";
import { get } from "./requests.js";
import { excerpt } from "./text_view.js";

const PAGE = 30;

/** A row of a list: its text, its answer, and the button that takes it. */
export function line(shared, row, answered, action) {
  return make("li", { class: "line" },
    make("div", { class: "words" }, excerpt(row.text), row.pair ? [make("span", { class: "place" }, "second text"), excerpt(row.pair)] : null),
    make("div", { class: "facts" },
      answered ? shared.chips(answered) : make("span", { class: "quiet" }, "no answer of yours"),
      answered && make("span", { class: "quiet" }, `${answered.who ? `${answered.who}, ` : ""}${moment(answered.at)}`),
      answered?.source === "adjudicated" && make("span", { class: "quiet" }, "decided"),
      row.guess && make("span", { class: "quiet" }, `model: ${shared.nameOf(row.guess[0])} ${percent(row.guess[1])}`),
      make("button", { type: "button", onclick: () => shared.label(row) }, action)));
}

/** A list that fills itself, one request at a time; the latest request wins. */
export class ResultList {
  constructor() {
    this.asked = 0;
    this.state = make("p", { class: "quiet", role: "status" });
    this.list = make("ul", { class: "lines" });
  }

  say(words) {
    fill(this.state, words);
  }

  /** Forgets the request that is on its way. */
  forget() {
    this.asked += 1;
    fill(this.list);
    this.say("");
  }

  /** The reply, or null when a later request was made or this one failed. */
  async ask(name, parameters) {
    const turn = ++this.asked;
    this.say("Loading");
    try {
      const reply = await get(name, parameters);
      return turn === this.asked ? reply : null;
    } catch (error) {
      if (turn === this.asked) this.say(`Not to be had: ${error.message}.`);
      return null;
    }
  }
}

export class HistoryView {
  constructor(root, shared) {
    this.root = root;
    this.shared = shared;
    this.found = new ResultList();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), 250);
  }

  async open() {
    const { app, may } = this.shared;
    const later = () => this.later();
    const now = () => this.load();
    this.words ??= make("input", { type: "search", placeholder: "words of the text", "aria-label": "Words of the text", maxlength: "500", oninput: later });
    this.person ??= make("input", { type: "text", placeholder: "person", "aria-label": "Person", maxlength: "200", autocomplete: "off", oninput: later });
    this.since ??= make("input", { type: "date", "aria-label": "Since", onchange: now });
    this.disagree ??= make("input", { type: "checkbox", onchange: now });
    const before = this.of?.value ?? "";
    this.of = make("select", { "aria-label": "Class", onchange: now }, make("option", { value: "" }, "all classes"),
      app.classes.map((each) => make("option", { value: String(each.id), selected: String(each.id) === before }, each.name)));
    this.more ??= make("button", { type: "button", onclick: () => this.load(true) }, "Earlier answers");
    fill(this.root, make("h2", {}, "History"),
      make("form", { class: "filters", onsubmit: (event) => (event.preventDefault(), now()) },
        this.words, this.of, may("adjudicate") && this.person,
        make("label", {}, "since ", this.since),
        make("label", {}, this.disagree, " the model disagrees, surest first")),
      this.found.state, this.found.list, this.more);
    await this.load();
  }

  async load(further = false) {
    const since = this.since.value ? new Date(`${this.since.value}T00:00`).getTime() / 1000 : null;
    const reply = await this.found.ask("history", {
      q: this.words.value.trim(), class: this.of.value, who: this.person.value.trim(), since,
      disagree: this.disagree.checked ? 1 : null, before: further ? this.last : null, limit: PAGE,
    });
    if (!reply) return;
    const lines = reply.rows.map(({ row, answer }) => line(this.shared, row, answer, "Change"));
    const { list } = this.found;
    if (further) list.append(...lines);
    else fill(list, lines);
    this.last = reply.rows.at(-1)?.answer.event ?? this.last;
    this.found.say(list.children.length ? "" : "No answer fits.");
    this.more.hidden = !reply.more || this.disagree.checked; // the surest come first, in no order of time
  }
}
