// Texts that say the same as the one just answered: offered to get the same answer.

import { add, byId, make, number, openDialog } from "./elements.js";
import { get } from "./requests.js";
import { excerpt } from "./text_view.js";

const many = (n) => `${number(n)} near-${n === 1 ? "copy" : "copies"}`;

/** Offers the near-copies of an answered row next to the words "Saved"; `done` is called when they are answered. */
export async function offerCopies(row, classes, shared, done) {
  let copies;
  try {
    copies = (await get("copies", { row: row.id })).rows.filter((each) => !each.answer);
  } catch {
    return; // an offer, not an answer: nothing is lost
  }
  const notice = byId("notice");
  if (!copies.length || !notice.textContent.startsWith("Saved")) return;
  const open = () => choose(copies, classes, shared, done);
  add(notice, [make("button", { type: "button", class: "link", onclick: open }, `${many(copies.length)}: answer alike`)]);
}

function choose(copies, classes, shared, done) {
  const dialog = byId("dialog");
  const words = classes.map(shared.nameOf).join(", ") || "none of them";
  const ticks = copies.map((row) => make("input", { type: "checkbox", checked: true, value: row.id }));
  const store = async () => {
    const chosen = copies.filter((_, place) => ticks[place].checked);
    dialog.close();
    let stored = 0;
    for (const row of chosen) {
      try {
        const seen = { model: false, near: false, why: false };
        shared.receive(await shared.outbox.send("answer", { row: row.id, classes, replaces: null, seconds: null, seen }, words));
        stored += 1;
      } catch (error) {
        shared.announce(`Not stored: ${error.message}.`);
        break;
      }
    }
    if (stored === chosen.length) shared.announce(`Saved: ${many(stored)}.`);
    done();
  };
  openDialog(
    `The same answer: ${words}`,
    make("div", { class: "copies" }, copies.map((row, place) => make("label", {}, ticks[place], excerpt(row.text)))),
    make("div", { class: "buttons" },
      make("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      make("button", { type: "button", onclick: store, autofocus: true }, "Store")),
  );
}
