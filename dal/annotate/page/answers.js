// The bar of answers: buttons for up to nine classes, a search for more. Its order is fixed while a text is shown.

import { breakable, fill, folded, isTouch, make } from "./elements.js";

const FEW = 9;

/** The classes as buttons, with keys. */
export class AnswerBar {
  /** `commit` is called with a list of class ids, `warn` with a sentence for the person. */
  constructor(root, { commit, warn }) {
    this.root = root;
    this.commit = commit;
    this.warn = warn;
    this.search = make("input", {
      type: "text", class: "class-search", placeholder: "type to find a class", "aria-label": "Find a class",
      autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "100",
      oninput: () => this.filter(),
    });
    this.list = make("div", { class: "choices", role: "group", "aria-label": "Classes" });
    this.line = make("div", { class: "search-line" }, this.search);
    this.save = make("button", { class: "save", type: "button", onclick: (event) => event.detail < 2 && this.enter(true) });
    this.picked = make("div", { class: "picked", role: "group", "aria-label": "Selected classes" });
    fill(root, this.line, this.save, this.picked, this.list);
    this.classes = [];
  }

  /** Offers the classes for a text. `marked` is an answer to show as it was, `word` says when. */
  show({ classes, recent = [], multilabel, marked = null, word = "was" }) {
    this.many = classes.length > FEW;
    this.multilabel = multilabel;
    this.marked = new Set(marked?.classes || []);
    this.word = word;
    this.selected = new Set(multilabel ? this.marked : []);
    this.emptyConfirmed = false;
    const places = new Map(recent.map((id, place) => [id, place]));
    const place = (each) => places.get(each.id) ?? recent.length;
    this.classes = this.many ? [...classes].sort((a, b) => place(a) - place(b)) : classes;
    this.search.value = "";
    this.line.hidden = !this.many;
    this.save.hidden = !multilabel;
    if (this.many) this.root.insertBefore(this.save, this.picked);
    else this.root.append(this.save);
    this.picked.hidden = !(multilabel && this.many); // the list may not show what was selected before
    this.root.classList.toggle("many", this.many);
    this.filter();
  }

  /** Puts the focus where keys are read; false where the text should have it. */
  focus() {
    if (!this.many || isTouch()) return false;
    this.search.focus({ preventScroll: true });
    return true;
  }

  /** The typed words; a leading quote makes digits text. */
  get typed() {
    return folded(this.search.value.replace(/^['"]/, ""));
  }

  get quoted() {
    return /^['"]/.test(this.search.value);
  }

  filter() {
    const words = this.typed.split(" ").filter(Boolean);
    const fits = (each) => {
      const name = folded(each.name);
      return words.every((word) => name.includes(word));
    };
    const starts = (each) => (folded(each.name).startsWith(this.typed) ? 0 : 1);
    this.shown = this.classes.filter(fits);
    if (words.length) this.shown.sort((a, b) => starts(a) - starts(b));
    this.best = words.length && this.shown.length ? 0 : -1; // nothing is marked before something is typed
    this.draw();
  }

  draw() {
    this.buttons = this.shown.map((each, place) => this.button(each, place));
    if (this.classes.length === 0) fill(this.list, make("p", { class: "none" }, "There is no class yet."));
    else if (!this.buttons.length) fill(this.list, make("p", { class: "none" }, "No class has this in its name."));
    else fill(this.list, this.buttons);
    const n = this.selected.size;
    const picked = this.classes.filter((each) => this.selected.has(each.id));
    const remove = (each) => make("button", { type: "button", "aria-label": `Deselect ${each.name}`, onclick: () => this.choose(each) }, `${each.name} ×`);
    fill(this.picked, n ? picked.map(remove) : "nothing selected");
    fill(this.save, make("kbd", {}, "Enter"), n ? `Save ${n} ${n === 1 ? "class" : "classes"}` : make("span", {}, "Save", make("span", { class: "wide" }, ": none of them")));
    this.save.classList.toggle("ready", n > 0);
  }

  button(each, place) {
    const digit = place < FEW ? String(place + 1) : null;
    const letter = each.letter ? `${this.many ? "⇧" : ""}${each.letter.toUpperCase()}` : null;
    const chosen = this.selected.has(each.id);
    const was = this.marked.has(each.id);
    const shortcuts = [digit, each.letter && `${this.many ? "Shift+" : ""}${each.letter.toUpperCase()}`].filter(Boolean);
    return make(
      "button",
      {
        type: "button",
        class: `choice${chosen ? " chosen" : ""}${place === this.best ? " best" : ""}${was ? " was" : ""}`,
        "aria-pressed": this.multilabel ? String(chosen) : null,
        "aria-keyshortcuts": shortcuts.join(" ") || null,
        title: each.description ? `${each.name}: ${each.description}` : each.name,
        dataset: { id: String(each.id) },
        onclick: (event) => event.detail < 2 && this.choose(each),
      },
      make("span", { class: "keys", "aria-hidden": "true" }, digit && make("kbd", {}, digit), letter && make("kbd", {}, letter)),
      make("span", { class: "name", dir: "auto" }, breakable(each.name)),
      was && make("span", { class: "old" }, this.word),
    );
  }

  choose(each) {
    if (!this.multilabel) {
      this.commit([each.id]);
      return;
    }
    if (this.selected.has(each.id)) this.selected.delete(each.id);
    else this.selected.add(each.id);
    this.emptyConfirmed = false;
    if (this.many && this.search.value) {
      this.search.value = "";
      this.filter();
    } else this.draw();
  }

  /** Enter: takes the best match of what was typed; saves a multi-label answer when nothing is typed. */
  enter(clicked = false) {
    if (this.best >= 0 && !clicked) {
      this.choose(this.shown[this.best]);
    } else if (this.multilabel && !this.typed) {
      if (!this.selected.size && !this.emptyConfirmed) {
        this.emptyConfirmed = true;
        this.warn("Nothing is selected. Enter once more: none of the classes.");
        return;
      }
      const order = this.classes.map((each) => each.id).filter((id) => this.selected.has(id));
      this.commit(order.sort((a, b) => a - b));
    }
  }

  /** Handles a key; returns whether it meant something here. Commands are handled before. */
  key(event) {
    const { key } = event;
    const typing = this.many && document.activeElement === this.search;
    if (key === "Enter") {
      const { activeElement } = document;
      if (activeElement?.tagName === "BUTTON") return false; // it presses the button that has the focus
      this.enter();
      return true;
    }
    // On keyboards whose digits need Shift, the key in their place counts, too.
    const digit = /^[1-9]$/.test(key) ? key : !typing && !event.shiftKey && /^Digit([1-9])$/.exec(event.code)?.[1];
    if (digit && !(typing && this.quoted)) {
      const each = this.shown[Number(digit) - 1];
      if (each) this.choose(each);
      return true;
    }
    if (this.many && (key === "ArrowDown" || key === "ArrowUp") && this.shown.length) {
      const step = key === "ArrowDown" ? 1 : -1;
      this.best = this.best < 0 ? (step > 0 ? 0 : this.shown.length - 1) : (this.best + step + this.shown.length) % this.shown.length;
      this.draw();
      this.buttons[this.best].scrollIntoView({ block: "nearest" });
      return true;
    }
    if (typing && key === "Escape" && this.search.value) {
      this.search.value = "";
      this.filter();
      return true;
    }
    if (key.length === 1 && event.shiftKey === this.many) {
      const each = this.classes.find((one) => one.letter === key.toLowerCase());
      if (each) this.choose(each);
      return Boolean(each);
    }
    return false;
  }

  disable(off) {
    this.root.classList.toggle("busy", off);
    this.root.setAttribute("aria-busy", String(off));
  }
}
