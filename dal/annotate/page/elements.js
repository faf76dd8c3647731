// Building of elements without HTML: every string becomes a text node, in which invisible characters are marked.

import { marked, parts } from "./invisible.js";

const WORDS = ["title", "aria-label", "placeholder"]; // attributes that people read

/** An element with properties, and children: elements, strings, arrays of them; null and false are left out. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else if (WORDS.includes(name)) element.setAttribute(name, marked(value));
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

/** Appends children, leaving out what is not there: `append(null)` would write the word null. */
export function add(element, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    if (typeof child !== "string") element.append(child);
    else if (element.localName === "textarea") element.append(child); // it is edited, and stored as it is
    else if (element.localName === "option") element.append(marked(child));
    else element.append(...parts(child).map((part) => (part.name ? mark(part) : part)));
  }
}

function mark({ name, title }) {
  const element = document.createElement("span");
  Object.assign(element, { className: "mark", title, dir: "ltr", textContent: name });
  return element;
}

/** Replaces what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

export const byId = (id) => document.getElementById(id);

/** A number as people write it: 5,000. */
export const number = (value) => Number(value).toLocaleString("en-US", { maximumFractionDigits: 1 });

/** "1 answer", "2 answers". */
export const count = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

/** A time, in seconds since 1970 or as ISO text, as day and hour of here. */
export function moment(at) {
  const date = typeof at === "number" ? new Date(at * 1000) : new Date(at);
  return date.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

/** A share as a percentage. */
export const percent = (share) => `${Math.round(share * 100)} %`;

/** A name without case, accents, underscores and hyphens, for searching. */
export const folded = (name) =>
  name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[_\-\s]+/gu, " ").trim();

/** A name that may be broken after a slash, an underscore or a hyphen, and not in mid-word. */
export const breakable = (name) => name.split(/(?<=[/_\-])/u).flatMap((part, place) => (place ? [make("wbr"), part] : [part]));

/** Whether the page is used by touch, where focus in a search box opens a keyboard over half of the page. */
export const isTouch = () => matchMedia("(pointer: coarse)").matches;

/** Opens the dialog with a title and content, and returns it. Escape closes it. */
export function openDialog(title, ...children) {
  const dialog = byId("dialog");
  fill(dialog, make("h2", { id: "dialog-title" }, title), children);
  if (!dialog.open) dialog.showModal();
  return dialog;
}
