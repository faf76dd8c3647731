// The second line of the header, on a narrow screen two. They have a fixed height, so that nothing moves when its words change.

import { byId, count, fill, make, number, percent } from "./elements.js";

function rankingWords(ranking) {
  if (!ranking) return ["random order: no model yet", "random order"];
  const since = ranking.answers_since;
  const age = since ? `from ${count(since, "answer")} ago` : "up to date";
  return [`${ranking.strategy}, ${age}`, age];
}

/** Whether the trainer does something that takes a while. */
export const isAtWork = (header) => ["starting", "working"].includes(header?.trainer?.state);

/** "about 40 s left", "about 3 min left". */
function leftWords(left) {
  if (left === null || left === undefined) return "";
  return left < 90 ? `, about ${Math.max(10, Math.round(left / 10) * 10)} s left` : `, about ${Math.round(left / 60)} min left`;
}

function trainerWords({ state, stage, done, total, left, error }) {
  if (state === "failed") return `training failed: ${error || "no reason given"}; the last ranking goes on`;
  if (state === "starting") return "the model is loading";
  if (state === "stopped") return "no training";
  if (state !== "working") return "";
  const place = total ? `: ${percent(Math.min(1, (done || 0) / total))}${leftWords(left)}` : "";
  return `${stage?.split(": ").at(-1) || "training"}${place}`;
}

let drawn = ""; // a button that is drawn again loses the focus

/** Shows the figures of the header; `openProgress` shows more. On a narrow screen the second part is a line of its own. */
export function showStatus(header, openProgress) {
  if (JSON.stringify(header) === drawn) return;
  drawn = JSON.stringify(header);
  const { check } = header;
  const [long, short] = check ? [`check ${check.number}, without hints`, `check ${check.number}`] : rankingWords(header.ranking);
  const training = check ? "" : trainerWords(header.trainer || {});
  const failed = header.trainer?.state === "failed";
  const part = (words, className = "", title = words) => words && make("span", { class: `part ${className}`, title }, words);
  fill(
    byId("status"),
    make("div", { class: "figures" },
      make("span", { class: "part first", title: `${number(header.answered)} of ${number(header.rows)} texts have an answer; ${number(header.mine)} are yours` },
        make("b", {}, number(header.answered)), check ? ` of ${number(check.of)} answered` : " answered"),
      header.per_hour ? part(`${number(Math.round(header.per_hour))} an hour`) : null,
      header.dollars ? part(`$${number(header.dollars)}`) : null,
      part(long, "wide", header.ranking?.reason || long),
      part(short, "narrow", header.ranking?.reason || long)),
    make("div", { class: "work" },
      part(training, failed ? "failed" : "grow", header.trainer?.stage || training),
      part(check ? "" : header.ranking?.recall, "recall"),
      header.stop?.stop &&
        make("button", { type: "button", class: "part stop", title: header.stop.text, onclick: openProgress }, check ? header.stop.text : `Enough labels? ${header.stop.text}`)),
  );
}
