// The table of keys.

import { byId, make, openDialog } from "./elements.js";

/** Shows the keys of a project with more than nine classes (`many`) or fewer, with one or several classes a text. */
export function showKeys({ many, multilabel }) {
  const shift = many ? "Shift+" : "";
  const search = [
    ["letters", "find a class by its name; the latest used come first"],
    ["' or \"", "before digits: they are part of the name"],
    ["↑ ↓", "move the mark in the list"],
    ["Enter", multilabel ? "select the marked class" : "answer with the marked class, and go on"],
    ["Esc", "empty the search"],
  ];
  const lines = [
    ["1 ... 9", multilabel ? "select or deselect a class" : "answer with a class, and go on"],
    ...(many ? search : [["letters", "classes that have one, as shown on the button"]]),
    ...(multilabel ? [["Enter", "save what is selected, and go on"]] : []),
    ["Backspace", "undo the last step, any number of times"],
    [`${shift}S`, "later: put this text last"],
    [`${shift}D`, "decline: this text cannot be answered"],
    [`${shift}F`, "flag it with a note"],
    [`${shift}H`, "show or hide the hints"],
    ["Space", "scroll the text"],
    ["?", "these keys"],
  ];
  openDialog(
    "Keys",
    make("table", { class: "key-table" }, make("tbody", {}, lines.map(([key, what]) =>
      make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, key)), make("td", {}, what))))),
    make("div", { class: "buttons" }, make("button", { type: "button", autofocus: true, onclick: () => byId("dialog").close() }, "Close")),
  );
}
