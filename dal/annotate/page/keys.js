// Keys and the row of commands.

import { byId, fill, make } from "./elements.js";
import { showKeys } from "./key_table.js";
import { notice } from "./messages.js";
import { toggleHints } from "./side_panel.js";
import { app } from "./state.js";

/** Keys of the labeling view and of the disputes. `page` has `label`, `disputes`, `view` (name of the open one) and `open`. */
export class Keys {
  constructor(page) {
    this.page = page;
    const { label } = page;
    this.commands = [
      ["s", "Later", () => label.skip("later")],
      ["d", "Decline", () => label.skip("decline")],
      ["f", "Flag", () => label.flag()],
      ["h", "Hints", toggleHints],
    ];
    document.addEventListener("keydown", (event) => this.press(event));
  }

  /** Draws the row of commands. */
  draw() {
    const { bar, shown } = this.page.label;
    const shift = bar.many ? "⇧" : "";
    const tool = (key, name, run, shortcut) =>
      make("button", { type: "button", class: "tool", "aria-keyshortcuts": shortcut, onclick: run }, make("kbd", { "aria-hidden": "true" }, key), name);
    fill(
      byId("tools"),
      tool("Bksp", "Undo", () => this.page.label.undo(), "Backspace"),
      shown && this.commands.map(([letter, name, run]) => tool(shift + letter.toUpperCase(), name, run, `${shift ? "Shift+" : ""}${letter.toUpperCase()}`)),
      tool("?", "Keys", () => this.showTable(), "?"),
      notice,
    );
  }

  showTable() {
    showKeys({ many: this.page.label.bar.many, multilabel: app.project.multilabel });
  }

  press(event) {
    if (event.isComposing || event.keyCode === 229) return; // an input method in mid-word
    if (event.ctrlKey || event.metaKey || event.altKey || byId("dialog").open) return;
    const { label, disputes, view } = this.page;
    const active = view === "label" ? label.bar : view === "disputes" ? disputes.bar : null;
    const { target, key } = event;
    const typing = active && target === active.search;
    if (!typing && target.closest?.("input, textarea, select")) return;
    if (!active) {
      if (key === "Escape") this.page.open("label");
      else if (key === "?") this.showTable();
      return;
    }
    const text = typing && active.search.value !== "";
    if (event.repeat) {
      const harmless = (key === "Backspace" && text) || key === " " || key.startsWith("Arrow") || key.startsWith("Page");
      if (!harmless) {
        event.preventDefault(); // a key that is held over the change of the text
        return;
      }
    }
    if (view === "label" && this.command(event, text)) return;
    if (view === "disputes" && key === "Escape" && !text) {
      this.page.open("label");
      return;
    }
    if (view === "label" && !label.shown) return;
    if (active.key(event)) event.preventDefault();
    else if (active.many && !typing && key.length === 1 && key !== " ") active.search.focus({ preventScroll: true }); // the letter goes there
  }

  /** Handles a key of the labeling view that is no answer; returns whether it was one. `text`: something is typed. */
  command(event, text) {
    const { label } = this.page;
    const { target, key } = event;
    const command = this.commands.find(([letter]) => letter === key.toLowerCase() && (!label.bar.many || event.shiftKey));
    const onButton = target.closest?.("button, summary");
    let run = null;
    if (key === "Backspace" && !text) run = () => event.repeat || label.undo();
    else if (key === "?") run = () => this.showTable();
    else if (command) run = () => label.shown && command[2]();
    else if (key === " " && !text && !onButton) run = () => label.scroll(event.shiftKey ? -1 : 1);
    else if (key === "PageDown" || key === "PageUp") run = () => label.scroll(key === "PageDown" ? 1 : -1);
    if (!run) return false;
    event.preventDefault();
    void run();
    return true;
  }
}
