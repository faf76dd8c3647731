// Questions of the labeling view: what to do about an answer given elsewhere, and a note about a text.

import { byId, make, moment, openDialog } from "./elements.js";
import { classWords, namesOf } from "./state.js";

const close = () => byId("dialog").close();

/** Asks what to do where a text was answered elsewhere; `stands` is its answer there, `body` what was pressed here. */
export function askWhichStands(body, stands, { change, keep }) {
  const mine = body.how ? (body.how === "later" ? "put last" : "declined") : classWords(body.classes);
  const then = (run) => () => {
    close();
    void run();
  };
  openDialog(
    "This text was answered elsewhere",
    make("p", {}, stands ? `What stands: ${namesOf(stands)} (${moment(stands.at)}).` : "Its answer was taken back there."),
    make("p", {}, `What you pressed here, ${mine}, is not stored.`),
    make("div", { class: "buttons" },
      make("button", { type: "button", onclick: then(keep), autofocus: true }, stands ? `Keep: ${namesOf(stands)}` : "Leave it"),
      make("button", { type: "button", onclick: then(change) }, `Change to: ${mine}`)),
  );
}

/** Asks for a note, and passes it to `store`. */
export function askForNote(store) {
  const note = make("textarea", { rows: "4", maxlength: "4000", "aria-label": "Note", placeholder: "what is odd about this text", autofocus: true });
  const submit = (event) => {
    event.preventDefault();
    const text = note.value.trim();
    if (!text) return;
    close();
    void store(text);
  };
  openDialog("Flag this text", make("form", { onsubmit: submit }, note,
    make("div", { class: "buttons" },
      make("button", { type: "button", onclick: close }, "Cancel"),
      make("button", { type: "submit" }, "Store the note"))));
  note.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  });
}
