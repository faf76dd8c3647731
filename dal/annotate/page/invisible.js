// Characters that cannot be seen, or that turn the direction of writing: they are marked in every text that the page shows.

const NAMES = {
  0x00: "NUL", 0x07: "BEL", 0x08: "BS", 0x0b: "VT", 0x0c: "FF", 0x1b: "ESC", 0x7f: "DEL", 0x85: "NEL",
  0xad: "SHY", 0x61c: "ALM", 0x180e: "MVS", 0x200b: "ZWSP", 0x200c: "ZWNJ", 0x200d: "ZWJ", 0x200e: "LRM", 0x200f: "RLM",
  0x2028: "LS", 0x2029: "PS", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM", 0x3164: "HF", 0xfffc: "OBJ",
};

// Controls, format characters (zero-width, bidirectional, tags), line separators, fillers of Hangul.
export const INVISIBLE = /[\p{Cc}\p{Cf}\u2028\u2029\u115f\u1160\u3164\uffa0\ufffc\ufe00-\ufe0f\u{e0100}-\u{e01ef}]|\p{Cs}/u;
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

function described(char) {
  const code = char.codePointAt(0);
  const point = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  const name = NAMES[code] || point;
  return { name, title: `invisible character ${name === point ? "" : name + ", "}${point}` };
}

/** The parts of a text in order: strings that can be shown, and marks with a `name` and a `title`. */
export function parts(text) {
  if (!INVISIBLE.test(text)) return text ? [text] : [];
  const chars = Array.from(text); // by code point
  const found = [];
  let run = "";
  let inFlag = false;
  chars.forEach((char, place) => {
    if (char === "\u{1f3f4}") inFlag = true;
    else if (!/[\u{e0020}-\u{e007f}]/u.test(char)) inFlag = false;
    if (!INVISIBLE.test(char) || isOrdinary(char, chars[place - 1] ?? "", chars[place + 1] ?? "", inFlag)) {
      run += char;
      return;
    }
    if (run) found.push(run);
    found.push(described(char));
    run = char === "\u2028" || char === "\u2029" || char === "\r" ? "\n" : "";
  });
  if (run) found.push(run);
  return found;
}

/** A text with marks in brackets, for places that hold no elements, such as a title. */
export const marked = (text) => parts(String(text)).map((part) => part.name ? `[${part.name}]` : part).join("");
