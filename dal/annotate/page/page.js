// The start of the page: its state from the server, and the switch between its views.

import { ClassEditor } from "./class_editor.js";
import { DisputesView } from "./disputes_view.js";
import { byId, fill, make, number, openDialog } from "./elements.js";
import { marked } from "./invisible.js";
import { Keys } from "./keys.js";
import { LabelView } from "./label_view.js";
import { HistoryView } from "./lists.js";
import { announce, notice, trouble } from "./messages.js";
import { ProgressView } from "./progress_view.js";
import { clock } from "./reading_time.js";
import { get, logOut, Outbox, post } from "./requests.js";
import { SearchView } from "./search_view.js";
import { app, chips, learn, may, nameOf, namesOf } from "./state.js";
import { isAtWork, showStatus } from "./status_line.js";

const POLL = 15000; // milliseconds between looks at the figures
const POLL_AT_WORK = 3000; // the same, while the trainer says how far it is
const POLL_WAITING = 1000; // while the next texts of a round are being selected, or the accuracy of a check is computed

// The token or login of the link must not stay in the address or the history.
const hasLogin = location.hash.startsWith("#login=");
history.replaceState(null, "", hasLogin ? "/" : `/${location.hash}`);

const outbox = new Outbox((error, attempts) => trouble(error, attempts, outbox));

// ---- what the server says

function receive(reply) {
  learn(reply);
  if (app.header) showStatus(app.header, () => open("progress"));
  fill(byId("project"), app.project.name || "");
  document.title = app.project.name ? `${marked(app.project.name)} - dal` : "dal";
  fill(byId("who"), app.me.who);
}

/** Takes the state of the server; with `quietly` a text that is on the screen stays there, as long as it may be answered. */
async function refresh({ quietly = false } = {}) {
  const asked = quietly ? label.shown : null;
  let reply;
  try {
    reply = await get("state", asked ? { row: asked.row.id, replaces: asked.row.answer?.event } : {});
  } catch (error) {
    if (!outbox.items.length) trouble(error, 0, outbox);
    return;
  }
  if (label.busy || outbox.items.length) return;
  trouble(null, 0, outbox);
  const classesBefore = JSON.stringify(app.classes);
  const { shown } = label;
  const gone = shown === asked && reply.gone; // answered in another tab, or by another person
  const stays = quietly && shown && !gone;
  if (stays) delete reply.rows;
  receive(reply);
  drawViews();
  if (gone) announce(`The next text: ${gone}.`);
  if (!stays) label.show(app.rows[0]);
  else if (JSON.stringify(app.classes) !== classesBefore) shown.classesChanged = true;
}

let polled = performance.now();
let awake = Date.now(); // a clock that goes on while the computer sleeps, unlike the other one

function poll() {
  const pause = app.header?.waiting ? POLL_WAITING : isAtWork(app.header) ? POLL_AT_WORK : POLL;
  const hasSlept = Math.abs(Date.now() - awake) > POLL;
  awake = Date.now();
  if (document.hidden || label.busy || outbox.items.length || (performance.now() - polled < pause && !hasSlept)) return;
  polled = performance.now();
  void refresh({ quietly: true });
}

/** A tab or window to which a person comes back: its text may have been answered in another one. */
function lookAgain() {
  if (!document.hidden && app.header) void refresh({ quietly: true });
}
document.addEventListener("visibilitychange", lookAgain);
addEventListener("focus", lookAgain);

// ---- views

/** What the views need of the page. */
const shared = {
  app, may, nameOf, namesOf, chips, announce, outbox,
  /** Takes a text to the labeling view. */
  async label(row) {
    try {
      receive(await post("take", { row: row.id }));
      open("label");
      label.show(app.rows[0]);
    } catch (error) {
      announce(`Not possible: ${error.message}.`);
      openDialog("Not possible", make("p", {}, `${error.message}.`), make("div", { class: "buttons" }, make("button", { type: "button", onclick: () => byId("dialog").close() }, "Close")));
    }
  },
  receive(reply) {
    receive(reply);
    if (label.shown && reply.classes) label.update();
  },
};

const label = new LabelView({ outbox, shared, receive, refresh, open, drawTools: () => keys.draw() });
const views = {
  history: new HistoryView(byId("history"), shared),
  search: new SearchView(byId("search"), shared),
  progress: new ProgressView(byId("progress"), shared),
  disputes: new DisputesView(byId("disputes"), shared),
  classes: new ClassEditor(byId("classes"), shared),
};
const TITLES = { label: "Label", history: "History", search: "Search", progress: "Progress", disputes: "Disputes", classes: "Classes" };
const page = { label, disputes: views.disputes, view: "label", open };
const keys = new Keys(page);
let drawn = ""; // what `drawViews` drew: a button that is drawn again loses the focus

function drawViews() {
  const allowed = Object.entries(TITLES).filter(([name]) => name !== "disputes" || may("adjudicate"));
  const disputed = app.header?.disputed || 0;
  const title = (name, words) => (name === "disputes" && disputed ? `${words} (${number(disputed)})` : words);
  const titles = allowed.map(([name, words]) => [name, title(name, words)]);
  if (JSON.stringify([page.view, titles]) === drawn) return;
  drawn = JSON.stringify([page.view, titles]);
  fill(byId("views"), titles.map(([name, words]) =>
    make("button", { type: "button", "aria-current": name === page.view ? "page" : null, onclick: () => open(name) }, words)));
  fill(byId("jump"), titles.map(([name, words]) => make("option", { value: name, selected: name === page.view }, words)));
}
byId("jump").addEventListener("change", (event) => open(event.target.value));

function open(name) {
  if (!(name in TITLES) || (name === "disputes" && !may("adjudicate"))) name = "label";
  page.view = name;
  history.replaceState(null, "", name === "label" ? "/" : `/#${name}`);
  for (const each of Object.keys(TITLES)) byId(each).hidden = each !== name;
  drawViews();
  if (name !== "label") {
    void views[name].open();
    return;
  }
  clock.restart();
  if (label.shown?.classesChanged) label.showBar();
  label.checkBelow();
  label.focus();
}

// ---- login

const leave = byId("log-out");
leave.hidden = document.querySelector("meta[name=dal-login]").content !== "yes";
leave.addEventListener("click", async () => {
  if (outbox.items.length) {
    announce("Not possible: an answer is not saved yet.");
    return;
  }
  try {
    await logOut();
    location.replace("/");
  } catch (error) {
    announce(`Not possible: ${error.message}.`);
  }
});

/** A link of a person was opened where somebody is logged in: whose answers follow must not change unnoticed. */
function refuseLogin() {
  const close = () => byId("dialog").close();
  openDialog(`You are logged in as ${app.me.who}`,
    make("p", {}, "This link is a login. To use that of another person, log out first, and open the link again."),
    make("div", { class: "buttons" }, make("button", { type: "button", onclick: close }, "Close")));
}

// ---- start

async function start() {
  fill(byId("tools"), notice);
  await outbox.settle(); // what an earlier load of this tab could not send
  for (;;) {
    try {
      receive(await get("state"));
      break;
    } catch (error) {
      trouble(error, 0, outbox);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  trouble(null, 0, outbox);
  label.show(app.rows[0]);
  open(location.hash.slice(1) || "label");
  document.body.dataset.ready = "yes";
  setInterval(poll, 500);
  if (hasLogin) refuseLogin();
}

void start();
