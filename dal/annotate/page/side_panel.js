// The panel next to a text: hints, which are hidden until asked for since each suggests an answer, and guidelines.

import { byId, fill, make, percent } from "./elements.js";
import { get } from "./requests.js";
import { excerpt, nodesOf } from "./text_view.js";

const HINTS = [
  // name, title, title on a narrow screen
  ["why", "Why this text", "Why"],
  ["model", "What the model thinks", "Model"],
  ["near", "Nearest answered texts", "Nearest"],
];

/** Draws the panel of a shown row, with its hints closed. */
export function drawSide(shown, shared) {
  const side = byId("side");
  if (!shown) {
    fill(side);
    return;
  }
  const columns = Object.entries(shown.row.fields || {});
  const hints = shared.app.header?.check ? HINTS.slice(0, 1) : HINTS; // a check of the model is blind
  fill(
    side,
    hints.map(([name, title, short]) => make(
      "details",
      { class: "hint", dataset: { hint: name }, ontoggle: (event) => event.target.open && showHint(name, event.target, shown, shared) },
      make("summary", { "aria-label": title }, make("span", { class: "wide" }, title), make("span", { class: "narrow" }, short)),
      make("div", { class: "inside" }))),
    columns.length > 0 && make("details", {}, make("summary", {}, "Other columns"),
      make("dl", { class: "inside" }, columns.map(([name, value]) => [make("dt", {}, name), make("dd", {}, excerpt(String(value ?? "")))]))),
    guidelines(shared.app),
  );
}

function guidelines({ project, classes }) {
  const described = classes.filter((each) => each.description || each.examples?.length);
  if (!project.guide && !described.length) return null;
  return make(
    "details",
    {
      class: "guide",
      open: sessionStorage.getItem("dal-guide") === "open",
      ontoggle: (event) => sessionStorage.setItem("dal-guide", event.target.open ? "open" : ""),
    },
    make("summary", {}, "Guidelines"),
    make("div", { class: "inside" },
      project.guide && make("p", { class: "plain", dir: "auto" }, nodesOf(project.guide)),
      described.map((each) => [
        make("h3", { dir: "auto" }, each.name),
        each.description && make("p", { class: "plain", dir: "auto" }, nodesOf(each.description)),
        each.examples?.length > 0 && make("ul", {}, each.examples.map((example) => make("li", {}, excerpt(example)))),
      ])),
  );
}

async function showHint(name, details, shown, shared) {
  shown.seen[name] = true; // stored with the answer, also when it could not be read in time
  const inside = details.querySelector(".inside");
  try {
    shown.hints ??= get("hints", { row: shown.row.id });
    fill(inside, content(name, await shown.hints, shared));
  } catch (error) {
    shown.hints = null;
    fill(inside, make("p", {}, `Not to be had: ${error.message}.`));
  }
}

function content(name, hints, { nameOf, chips }) {
  if (name === "why") return make("p", {}, hints.why || "This text was picked at random.");
  if (name === "model") {
    if (!hints.guesses?.length) return make("p", {}, "No model has read this text yet.");
    const inOrder = [...hints.guesses].sort((a, b) => a[0] - b[0]); // with the surest first the order would suggest it
    return make("div", { class: "guesses" }, inOrder.map(([id, p]) => [
      make("span", { dir: "auto" }, nameOf(id)),
      make("meter", { min: "0", max: "1", value: String(p), "aria-label": percent(p) }),
      make("span", { class: "figure" }, percent(p)),
    ]));
  }
  if (!hints.near?.length) return make("p", {}, "No text near it has an answer yet.");
  return hints.near.map((each) => make("div", { class: "near" }, chips(each), excerpt(each.text, 200)));
}

/** Opens all hints, or closes them when all are open. */
export function toggleHints() {
  const folds = [...byId("side").querySelectorAll(".hint")];
  const opening = folds.some((fold) => !fold.open);
  for (const fold of folds) fold.open = opening;
}
