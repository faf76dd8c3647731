// The second line of the header. It has a fixed height, so that nothing moves when its words change.

import { byId, count, fill, make, number } from "./elements.js";

function rankingWords(ranking) {
  if (!ranking) return ["random order: no model yet", "random order"];
  const since = ranking.answers_since;
  const age = since ? `from ${count(since, "answer")} ago` : "up to date";
  return [`${ranking.strategy}, ${age}`, age];
}

function trainerWords({ state, stage, done, total, error }) {
  if (state === "failed") return `training failed: ${error || "no reason given"}; the last ranking goes on`;
  if (state === "starting") return "the model is loading";
  if (state === "stopped") return "no training";
  if (state !== "working") return "";
  const place = total ? ` ${number(done || 0)} of ${number(total)}` : "";
  return `training${stage ? `: ${stage}` : ""}${place}`;
}

/** Shows the figures of the header; `openProgress` shows more. */
export function showStatus(header, openProgress) {
  const { check } = header;
  const [long, short] = check ? [`check ${check.number}, without hints`, `check ${check.number}`] : rankingWords(header.ranking);
  const training = check ? "" : trainerWords(header.trainer || {});
  const failed = header.trainer?.state === "failed";
  const part = (words, className = "", title = words) => words && make("span", { class: `part ${className}`, title }, words);
  fill(
    byId("status"),
    make("span", { class: "part first", title: `${number(header.answered)} of ${number(header.rows)} texts have an answer; ${number(header.mine)} are yours` },
      make("b", {}, number(header.answered)), check ? ` of ${number(check.of)} answered` : " answered"),
    header.per_hour ? part(`${number(Math.round(header.per_hour))} an hour`) : null,
    header.dollars ? part(`$${number(header.dollars)}`, "wide") : null,
    part(long, "wide", header.ranking?.reason || long),
    part(short, "narrow"),
    part(training, failed ? "failed" : "grow"),
    header.stop?.stop &&
      make("button", { type: "button", class: "part stop", title: header.stop.text, onclick: openProgress }, check ? header.stop.text : `Enough labels? ${header.stop.text}`),
  );
}
