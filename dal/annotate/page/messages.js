// Words for the person: what was done, and the banner about what could not be sent.

import { byId, fill, make, number } from "./elements.js";
import { marked } from "./invisible.js";
import { RequestError } from "./requests.js";

const STUCK = 3; // attempts after which a request may be given up

export const notice = make("span", { id: "notice" });

export function announce(words) {
  byId("announced").textContent = marked(words);
  fill(notice, make("span", { title: words }, words));
}

/** Shows why requests fail, and what waits in the outbox; hides the banner where there is no error. */
export function trouble(error, attempts, outbox) {
  const banner = byId("banner");
  if (!error) {
    banner.hidden = true;
    return;
  }
  const away = !(error instanceof RequestError);
  const [first, ...more] = outbox.items;
  // The program answers, but not as it should: a person may go on without this answer.
  const stuck = !away && attempts >= STUCK && Boolean(first);
  const state = `${error.message} ${stuck} ${first?.body.key} ${more.length}`;
  if (!banner.hidden && banner.dataset.state === state) return; // an alert is read aloud once
  banner.dataset.state = state;
  const reason = away ? "the program on this computer does not answer" : error.message;
  if (first) announce(""); // "Saved" there is about the answer before
  fill(
    banner,
    first && ["Not saved yet: ", make("strong", { dir: "auto" }, first.words || "your last step"), more.length > 0 && ` and ${number(more.length)} more`, ` (${reason})`],
    `${first ? "" : reason}. This page keeps trying. `,
    stuck && make("button", { type: "button", class: "link", onclick: () => outbox.giveUp() }, "Go on without it"),
  );
  banner.hidden = false;
}
