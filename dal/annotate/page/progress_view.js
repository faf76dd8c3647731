// Figures of the project: answers, pace, money, classes, people, agreement, the learning curve.

import { count, fill, make, number, percent } from "./elements.js";
import { get } from "./requests.js";

const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A curve of points with `labels`, `accuracy` and the ends `low` and `high` of its interval. */
function curve(given, label) {
  const points = given.map((each) => ({ x: each.labels, y: each.accuracy, low: each.low, high: each.high }));
  const [wide, high, left, foot] = [560, 200, 44, 24];
  const most = Math.max(...points.map((p) => p.x), 1);
  const x = (value) => left + ((wide - left - 8) * value) / most;
  const y = (value) => 8 + (high - foot - 8) * (1 - value);
  const path = (list) => list.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const band = points.filter((p) => Number.isFinite(p.low) && Number.isFinite(p.high));
  const picture = draw("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", class: "curve", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    picture.append(draw("line", { x1: left, x2: wide - 8, y1: y(share), y2: y(share), class: "grid" }), draw("text", { x: left - 6, y: y(share) + 4, class: "tick", "text-anchor": "end" }, percent(share)));
  }
  picture.append(draw("text", { x: wide - 8, y: high - 6, class: "tick", "text-anchor": "end" }, `${number(most)} answers`));
  if (band.length > 1) picture.append(draw("path", { class: "band", d: `${path([...band.map((p) => [p.x, p.high]), ...band.reverse().map((p) => [p.x, p.low])])}Z` }));
  picture.append(draw("path", { class: "stroke", d: path(points.map((p) => [p.x, p.y])) }));
  return picture;
}

const card = (title, value, about) =>
  make("div", { class: "card" }, make("div", { class: "quiet" }, title), make("div", { class: "big" }, value), about && make("div", { class: "quiet" }, about));

/** Horizontal bars with names. */
function bars(rows) {
  const most = Math.max(...rows.map(([, value]) => value), 1);
  return make("div", { class: "bars" }, rows.map(([name, value]) => {
    const strip = make("span", { class: "strip" });
    strip.style.setProperty("width", `${(100 * value) / most}%`);
    return [make("span", { class: "bar-name", dir: "auto", title: name }, name), make("span", { class: "track" }, strip), make("span", { class: "figure" }, number(value))];
  }));
}

/** A figure with its 95 % interval. */
function interval(figure) {
  if (!figure || figure.value === null || figure.value === undefined) return "-";
  const { value, low, high } = figure;
  return Number.isFinite(low) && Number.isFinite(high) ? `${value.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})` : value.toFixed(2);
}

function table(titles, lines) {
  return make("div", { class: "wide-table" }, make("table", {},
    make("thead", {}, make("tr", {}, titles.map((title) => make("th", { scope: "col" }, title)))),
    make("tbody", {}, lines.map((line) => make("tr", {}, line.map((cell) => make("td", { dir: "auto" }, cell)))))));
}

/** The cells of a person's work, or of everybody's. */
const workLine = (each) => [each.who || "no name", number(each.answers), ((each.seconds ?? 0) / 3600).toFixed(1), each.per_hour ? number(Math.round(each.per_hour)) : "-"];

function agreementTable(found, nameOf) {
  const line = (name, each) => [name, number(each.texts), interval(each.raw), interval(each.alpha), interval(each.ac1)];
  return [
    make("h3", {}, "Agreement"),
    make("p", { class: "quiet" }, `${count(found.people, "person").replace("persons", "people")}, ${count(found.texts, "text")} that several answered, ${count(found.answers, "answer")}. In brackets: 95 % intervals.`),
    table(["", "texts", "same answer", "Krippendorff's alpha", "Gwet's AC1"],
      [line("all classes", found), ...(found.per_class || []).map((each) => line(nameOf(each.id), each))]),
  ];
}

const points = (share) => (100 * share).toFixed(1);

/** The predicted gain of more answers in words. */
const gainWords = ({ more, value, low, high }) =>
  `${number(more)} more answers: ${value < 0 ? "" : "+"}${points(value)} points of accuracy (90 % interval: ${points(low)} to ${points(high)})`;

export class ProgressView {
  constructor(root, shared) {
    this.root = root;
    this.shared = shared;
  }

  async open() {
    const { app, nameOf } = this.shared;
    fill(this.root, make("h2", {}, "Progress"), make("p", { class: "quiet", role: "status" }, "Loading"));
    let got;
    try {
      got = await get("progress");
    } catch (error) {
      fill(this.root, make("h2", {}, "Progress"), make("p", { role: "alert" }, `Not to be had: ${error.message}.`));
      return;
    }
    const { header } = app;
    const curves = ["chosen", "random"].map((kind) => [kind, (got.curve || []).filter((each) => each.kind === kind)]);
    const dollars = got.dollars ?? header.dollars;
    fill(
      this.root,
      make("h2", {}, "Progress"),
      header.stop && make("p", { class: header.stop.stop ? "verdict" : "quiet" }, `${header.stop.stop ? "Enough labels? " : ""}${header.stop.text}`),
      header.ranking?.recall && make("p", { class: "quiet" }, header.ranking.recall),
      header.trainer?.state === "failed" && make("p", { class: "verdict", role: "alert" }, `Training failed: ${header.trainer.error}`),
      make("div", { class: "cards" },
        card("answered", number(header.answered), `of ${count(header.rows, "text")}`),
        card("yours", number(header.mine)),
        header.per_hour ? card("pace", number(Math.round(header.per_hour)), "answers an hour") : null,
        dollars ? card("money", `$${number(dollars)}`) : null,
        header.declined ? card("declined", number(header.declined)) : null,
        header.disputed ? card("disputed", number(header.disputed)) : null),
      got.per_class?.length ? [make("h3", {}, "Answers per class"), bars(got.per_class.map(([id, n]) => [nameOf(id), n]))] : null,
      got.without?.length ? make("p", {}, `Without an answer: ${got.without.map(nameOf).join(", ")}. Search finds examples.`) : null,
      got.answers_by_day?.length ? [make("h3", {}, "Answers by day"), bars(got.answers_by_day.slice(-14))] : null,
      got.accuracy ? [make("h3", {}, "Accuracy of the model"), make("p", {}, `${interval(got.accuracy)} on ${count(got.accuracy.labels, "held-out answer")}, by cross-validation; texts that the strategy chose lower it`)] : null,
      curves.map(([kind, points]) => points.length > 1 && [
        make("h3", {}, kind === "chosen" ? "Guesses that were right, on the texts that the strategy chose" : "Guesses that were right, on texts in random order"),
        curve(points, `share of right guesses, ${kind} texts`),
        make("p", { class: "quiet" }, kind === "chosen" ? "Each guess was made before the answer. The strategy chooses hard texts, so that this share is too low." : "Each guess was made before the answer, and the texts are a random sample.")]),
      got.forecast ? [make("h3", {}, "What more answers would bring"), make("p", {}, gainWords(got.forecast))] : null,
      got.total?.people > 1 ? [make("h3", {}, "People"),
        table(["", "texts", "hours", "an hour"], [...got.people, { ...got.total, who: `all ${number(got.total.people)} people` }].map(workLine))] : null,
      got.agreement ? agreementTable(got.agreement, nameOf) : null,
    );
  }
}
