// What the page knows of the project and the person, and how it names classes and answers.

import { make } from "./elements.js";

export const app = { project: {}, me: { who: "", rights: [] }, classes: [], rows: [], header: null, recent: [] };

/** Takes what is new from a reply. */
export function learn(reply) {
  for (const name of ["header", "project", "me", "classes", "recent", "rows"]) if (reply[name]) app[name] = reply[name];
}

/** Puts the classes of an answer first among those used last. */
export function remember(classes) {
  app.recent = [...classes, ...app.recent.filter((id) => !classes.includes(id))];
}

export const may = (right) => app.me.rights.includes(right);
export const nameOf = (id) => app.classes.find((each) => each.id === id)?.name ?? `class ${id}`;

/** The classes in words; of a multi-label answer there may be none. */
export const classWords = (classes) => classes.map(nameOf).join(", ") || "none of them";
export const namesOf = (answered) => (answered.skipped ? "declined" : classWords(answered.classes));

export const chips = (answered) =>
  make("span", { class: "chips" }, (answered.skipped ? ["declined"] : answered.classes.map(nameOf)).map((name) => make("span", { class: "chip", dir: "auto" }, name)));
