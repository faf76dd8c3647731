// A text as the model reads it: what the model does not read is grey. `make` marks invisible characters.

import { fill, make } from "./elements.js";

/** The nodes of a text; characters from `readUpTo` on are grey. */
export function nodesOf(text, readUpTo = null) {
  const whole = String(text);
  const shown = whole.replace(/\r\n/g, "\n");
  if (readUpTo === null || readUpTo === undefined) return [shown];
  const chars = Array.from(shown); // by code point, as Python counts
  const shift = [...whole.matchAll(/\r\n/g)].filter((m) => Array.from(whole.slice(0, m.index)).length < readUpTo).length;
  const end = Math.max(0, readUpTo - shift);
  if (chars.length <= end) return [shown];
  const about = `The model reads only the first ${end.toLocaleString("en-US")} characters.`;
  const rest = make("span", { class: "unread", title: about }, chars.slice(end).join(""));
  return [chars.slice(0, end).join(""), rest, make("span", { class: "cut" }, about)];
}

/** Shows a text, or a pair of texts, in an element. */
export function showText(element, row) {
  const part = (text, readUpTo) => make("div", { class: "passage", dir: "auto" }, nodesOf(text, readUpTo));
  if (row.pair === null || row.pair === undefined) fill(element, part(row.text, row.read_up_to));
  else {
    const first = make("div", { class: "half" }, make("div", { class: "place" }, "first text"), part(row.text, row.read_up_to));
    fill(element, first, make("div", { class: "half" }, make("div", { class: "place" }, "second text"), part(row.pair, null)));
  }
}

/** A short form of a text on one line. */
export function excerpt(text, most = 300) {
  const chars = Array.from(text);
  const short = chars.length > most ? `${chars.slice(0, most).join("")}...` : text;
  return make("span", { class: "excerpt", dir: "auto" }, nodesOf(short.replace(/[\r\n\t]+/g, " ")));
}
