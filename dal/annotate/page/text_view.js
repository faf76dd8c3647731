// A text as the model reads it: invisible characters are marked, and what the model does not read is grey.

import { fill, make } from "./elements.js";

const NAMES = {
  0x00: "NUL", 0x07: "BEL", 0x08: "BS", 0x0b: "VT", 0x0c: "FF", 0x1b: "ESC", 0x7f: "DEL", 0x85: "NEL",
  0xad: "SHY", 0x61c: "ALM", 0x180e: "MVS", 0x200b: "ZWSP", 0x200c: "ZWNJ", 0x200d: "ZWJ", 0x200e: "LRM", 0x200f: "RLM",
  0x2028: "LS", 0x2029: "PS", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM", 0x3164: "HF", 0xfffc: "OBJ",
};

// Controls, format characters (zero-width, bidirectional, tags), line separators, fillers of Hangul.
const INVISIBLE = /[\p{Cc}\p{Cf}\u2028\u2029\u115f\u1160\u3164\uffa0\ufffc\ufe00-\ufe0f\u{e0100}-\u{e01ef}]|\p{Cs}/u;
const PICTURE = /[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f]/u;
// Scripts whose spelling needs joiners, such as Persian and Hindi.
const JOINING =
  /[\p{Script=Arabic}\p{Script=Syriac}\p{Script=Mongolian}\p{Script=Devanagari}\p{Script=Bengali}\p{Script=Gurmukhi}\p{Script=Gujarati}\p{Script=Oriya}\p{Script=Tamil}\p{Script=Telugu}\p{Script=Kannada}\p{Script=Malayalam}\p{Script=Sinhala}\p{Script=Khmer}\p{Script=Myanmar}\p{M}]/u;

/** Whether a character does its ordinary work between its neighbours, as a joiner within an emoji does. */
function isOrdinary(char, before, after, inFlag) {
  const code = char.codePointAt(0);
  if (char === "\n" || char === "\t") return true;
  if (code >= 0xfe00 && code <= 0xfe0f) return before !== "" && !INVISIBLE.test(before);
  if (code === 0x200d && PICTURE.test(before) && PICTURE.test(after)) return true;
  if (code === 0x200c || code === 0x200d) return JOINING.test(before) && (JOINING.test(after) || code === 0x200d);
  if (code >= 0xe0020 && code <= 0xe007f) return inFlag;
  return false;
}

function mark(char) {
  const code = char.codePointAt(0);
  const point = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  const name = NAMES[code] || point;
  return make("span", { class: "mark", title: `invisible character ${name === point ? "" : name + ", "}${point}`, dir: "ltr" }, name);
}

/** The nodes of a text; characters from `readUpTo` on are grey. */
export function nodesOf(text, readUpTo = null) {
  const chars = Array.from(String(text).replace(/\r\n/g, "\n")); // by code point, as Python counts
  const shift = [...String(text).matchAll(/\r\n/g)].filter((m) => Array.from(text.slice(0, m.index)).length < (readUpTo ?? 0)).length;
  const end = readUpTo === null || readUpTo === undefined ? chars.length : Math.max(0, readUpTo - shift);
  const read = [];
  const unread = [];
  let run = "";
  let inFlag = false;
  const flush = (nodes) => {
    if (run) nodes.push(run);
    run = "";
  };
  chars.forEach((char, place) => {
    if (place === end) flush(read);
    const nodes = place < end ? read : unread;
    if (char === "\u{1f3f4}") inFlag = true;
    else if (!/[\u{e0020}-\u{e007f}]/u.test(char)) inFlag = false;
    if (!INVISIBLE.test(char) || isOrdinary(char, chars[place - 1] ?? "", chars[place + 1] ?? "", inFlag)) {
      run += char;
      return;
    }
    flush(nodes);
    nodes.push(mark(char));
    if (char === "\u2028" || char === "\u2029" || char === "\r") run += "\n";
  });
  flush(chars.length > end ? unread : read);
  if (!unread.length) return read;
  const about = `The model reads only the first ${end.toLocaleString("en-US")} characters.`;
  return [...read, make("span", { class: "unread", title: about }, unread), make("span", { class: "cut" }, about)];
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

/** A short form of a text on one line, with invisible characters marked. */
export function excerpt(text, most = 300) {
  const chars = Array.from(text);
  const short = chars.length > most ? `${chars.slice(0, most).join("")}...` : text;
  return make("span", { class: "excerpt", dir: "auto" }, nodesOf(short.replace(/[\r\n\t]+/g, " ")));
}
