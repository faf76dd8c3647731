// Classes and guidelines: add, rename, describe, bind a letter, merge and retire. Each change is an event of the log.

import { fill, make, openDialog, byId } from "./elements.js";
import { newKey, post } from "./requests.js";
import { excerpt, nodesOf } from "./text_view.js";

const RESERVED = "sdfh"; // letters of commands

export class ClassEditor {
  constructor(root, shared) {
    this.root = root;
    this.shared = shared;
    this.gone = []; // classes that were merged or retired since the page was opened
  }

  async open() {
    this.draw();
  }

  draw() {
    const { app, may } = this.shared;
    const allowed = may("classes");
    fill(
      this.root,
      make("h2", {}, "Classes"),
      !allowed && make("p", { class: "quiet" }, "Only people with the right to change classes can edit them."),
      make("p", { role: "alert", class: "verdict", hidden: true, id: "class-error" }),
      this.gone.map((each) => make("p", { class: "verdict" }, `${each.what} `,
        make("button", { type: "button", onclick: () => this.restore(each) }, "Take it back"))),
      allowed && this.addForm(),
      make("ul", { class: "class-list" }, app.classes.map((each) => this.line(each, allowed))),
      make("h3", {}, "Guidelines for all"),
      allowed ? this.guideForm() : make("p", { class: "plain", dir: "auto" }, nodesOf(app.project.guide || "none yet")),
    );
  }

  async change(change, key = newKey()) {
    const error = byId("class-error");
    try {
      const reply = await post("classes", { ...change, key });
      this.shared.receive(reply);
      this.shared.announce("Classes changed.");
      this.draw();
      return true;
    } catch (failure) {
      const place = byId("dialog").open ? byId("dialog").querySelector(".refused") : error;
      if (place) {
        place.hidden = false;
        fill(place, `Not changed: ${failure.message}.`);
      }
      return false;
    }
  }

  addForm() {
    const name = make("input", { type: "text", required: true, maxlength: "200", placeholder: "name of a new class", "aria-label": "Name of a new class", autocomplete: "off", dir: "auto" });
    const about = make("input", { type: "text", maxlength: "4000", placeholder: "what belongs to it (the model reads it, too)", "aria-label": "Description", autocomplete: "off", dir: "auto" });
    const store = async (event) => {
      event.preventDefault();
      const given = name.value.trim();
      if (given && (await this.change({ do: "add", name: given, ...(about.value.trim() ? { description: about.value.trim() } : {}) }))) {
        this.root.querySelector(".add-class input")?.focus();
      }
    };
    return make("form", { class: "add-class filters", onsubmit: store }, name, about, make("button", { type: "submit" }, "Add"));
  }

  line(each, allowed) {
    const action = (words, run) => make("button", { type: "button", onclick: run, "aria-label": `${words} ${each.name}` }, words);
    return make("li", { class: "line" },
      make("div", { class: "words" },
        make("strong", { dir: "auto" }, each.name), each.letter && [" ", make("kbd", {}, each.letter.toUpperCase())],
        each.description && make("p", { class: "plain quiet", dir: "auto" }, nodesOf(each.description)),
        each.examples?.length ? make("ul", { class: "quiet" }, each.examples.map((example) => make("li", {}, excerpt(example)))) : null),
      allowed && make("div", { class: "facts" },
        action("Rename", () => this.rename(each)), action("Describe", () => this.describe(each)), action("Letter", () => this.bind(each)),
        this.shared.app.classes.length > 1 && action("Merge", () => this.merge(each)), action("Retire", () => this.retire(each))));
  }

  /** A dialog with one form, whose fields make a change; it stays open when the change is refused. */
  ask(title, fields, changeOf, { word = "Store", about = null, after = () => {} } = {}) {
    const key = newKey();
    const store = async (event) => {
      event.preventDefault();
      const change = changeOf();
      if (change && (await this.change(change, key))) {
        byId("dialog").close();
        after();
      }
    };
    openDialog(title, about && make("p", {}, about), make("form", { onsubmit: store }, fields, make("p", { class: "refused", role: "alert", hidden: true }),
      make("div", { class: "buttons" },
        make("button", { type: "button", onclick: () => byId("dialog").close() }, "Cancel"),
        make("button", { type: "submit" }, word))));
  }

  rename(each) {
    const name = make("input", { type: "text", required: true, maxlength: "200", value: each.name, "aria-label": "New name", dir: "auto", autofocus: true });
    this.ask(`Rename ${each.name}`, name, () => name.value.trim() && { do: "rename", id: each.id, name: name.value.trim() }, { about: "Answers keep their class under the new name." });
    name.select();
  }

  describe(each) {
    const about = make("textarea", { rows: "4", maxlength: "4000", "aria-label": "Description", placeholder: "what belongs to it, and what does not", dir: "auto", autofocus: true }, each.description || "");
    const examples = make("textarea", { rows: "4", maxlength: "40000", "aria-label": "Examples, one a line", placeholder: "examples, one a line", dir: "auto" }, (each.examples || []).join("\n"));
    const changeOf = () => ({ do: "describe", id: each.id, text: about.value.trim(), examples: examples.value.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, 100) });
    this.ask(`Describe ${each.name}`, [about, examples], changeOf);
  }

  bind(each) {
    const letter = make("input", { type: "text", maxlength: "2", value: each.letter || "", "aria-label": "Letter", autocapitalize: "off", autocomplete: "off", class: "letter", autofocus: true });
    const about = `A letter that answers with this class; empty for none. ${[...RESERVED.toUpperCase()].join(", ")} are commands.`;
    this.ask(`Letter of ${each.name}`, letter, () => ({ do: "bind", id: each.id, letter: letter.value.trim().toLowerCase() || null }), { about });
    letter.select();
  }

  merge(each) {
    const into = make("select", { "aria-label": "Merge into", autofocus: true }, this.shared.app.classes.filter((other) => other.id !== each.id).map((other) => make("option", { value: String(other.id) }, other.name)));
    const after = () => this.away(each, `${each.name} was merged.`);
    this.ask(`Merge ${each.name} into`, into, () => ({ do: "merge", id: each.id, into: Number(into.value) }), { word: "Merge", about: "Its answers count for the other class. This can be taken back.", after });
  }

  retire(each) {
    const after = () => this.away(each, `${each.name} was retired.`);
    this.ask(`Retire ${each.name}`, [], () => ({ do: "retire", id: each.id }), { word: "Retire", about: "It is no longer offered; its answers stay in the log. This can be taken back.", after });
  }

  away(each, what) {
    this.gone.push({ id: each.id, what });
    this.draw();
  }

  async restore(each) {
    this.gone = this.gone.filter((other) => other !== each);
    if (!(await this.change({ do: "restore", id: each.id }))) this.gone.push(each);
  }

  guideForm() {
    const guide = make("textarea", { rows: "8", maxlength: "40000", "aria-label": "Guidelines for all", placeholder: "rules for all classes: what to do when a text fits two of them", dir: "auto" }, this.shared.app.project.guide || "");
    const store = async (event) => {
      event.preventDefault();
      await this.change({ do: "guide", text: guide.value.trim() });
    };
    return make("form", { class: "guide-form", onsubmit: store }, guide, make("div", { class: "buttons" }, make("button", { type: "submit" }, "Store the guidelines")));
  }
}
