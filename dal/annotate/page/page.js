// The labeling view, the keys, and the switch between views.

import { AnswerBar } from "./answers.js";
import { ClassEditor } from "./class_editor.js";
import { DisputesView } from "./disputes_view.js";
import { add, byId, count, fill, make, moment, number, openDialog } from "./elements.js";
import { showKeys } from "./key_table.js";
import { HistoryView, SearchView } from "./lists.js";
import { offerCopies } from "./near_copies.js";
import { ProgressView } from "./progress_view.js";
import { clock } from "./reading_time.js";
import { get, logOut, Outbox, post, RequestError } from "./requests.js";
import { drawSide, toggleHints } from "./side_panel.js";
import { showStatus } from "./status_line.js";
import { showText } from "./text_view.js";

const GUARD = 120; // milliseconds in which a key that was meant for the text before is ignored
const STUCK = 3; // attempts after which a request may be given up
const POLL = 15000; // milliseconds between looks at the figures

// The token or login of the link must not stay in the address or the history.
const hasLogin = location.hash.startsWith("#login=");
history.replaceState(null, "", hasLogin ? "/" : `/${location.hash}`);

const app = { project: {}, me: { who: "", rights: [] }, classes: [], rows: [], header: null, recent: [] };
let shown = null; // the row on the screen, and what is known of the person's look at it
let busy = false;

const outbox = new Outbox(trouble);
const bar = new AnswerBar(byId("answers"), { commit: (classes) => answer(classes), warn: announce });

// ---- words for the person

const notice = make("span", { id: "notice" });

function announce(words) {
  byId("announced").textContent = words;
  fill(notice, make("span", { title: words }, words));
}

function trouble(error, attempts) {
  const banner = byId("banner");
  if (!error) {
    banner.hidden = true;
    return;
  }
  const away = !(error instanceof RequestError);
  // The program answers, but not as it should: a person may go on without this answer.
  const stuck = !away && attempts >= STUCK && outbox.items.length > 0;
  const state = `${error.message} ${stuck}`;
  if (!banner.hidden && banner.dataset.state === state) return; // an alert is read aloud once
  banner.dataset.state = state;
  const reason = away ? "the program does not answer" : error.message;
  const giveUp = () => outbox.giveUp();
  if (outbox.items.length) announce(""); // "Saved" there is about the answer before
  fill(
    banner,
    outbox.items.length > 0 && make("strong", {}, "Not saved yet: "),
    `${reason}. This page keeps trying. `,
    stuck && make("button", { type: "button", class: "link", onclick: giveUp }, "Go on without it"),
  );
  banner.hidden = false;
}

const chips = (answered) =>
  make("span", { class: "chips" }, (answered.skipped ? ["declined"] : answered.classes.map(nameOf)).map((name) => make("span", { class: "chip", dir: "auto" }, name)));
const nameOf = (id) => app.classes.find((each) => each.id === id)?.name ?? `class ${id}`;
const namesOf = (answered) => (answered.skipped ? "declined" : answered.classes.map(nameOf).join(", ") || "none of them");

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && app.header) void take(get("state"), { quietly: true });
});

// ---- what the server says

function receive(reply) {
  if (reply.header) app.header = reply.header;
  if (reply.project) app.project = reply.project;
  if (reply.me) app.me = reply.me;
  if (reply.classes) app.classes = reply.classes;
  if (reply.recent) app.recent = reply.recent;
  if (reply.rows) app.rows = reply.rows;
  if (app.header) showStatus(app.header, () => open("progress"));
  byId("project").textContent = app.project.name || "";
  document.title = app.project.name ? `${app.project.name} - dal` : "dal";
  byId("who").textContent = app.me.who;
}

/** Takes a reply of state in; a text that is on the screen stays there. */
async function take(promise, { quietly = false } = {}) {
  let reply;
  try {
    reply = await promise;
  } catch (error) {
    if (!outbox.items.length) trouble(error, 0);
    return;
  }
  if (busy || outbox.items.length) return;
  trouble(null);
  const classesBefore = JSON.stringify(app.classes);
  if (quietly && shown) delete reply.rows;
  receive(reply);
  drawViews();
  if (!shown || !quietly) showRow(app.rows[0]);
  else if (JSON.stringify(app.classes) !== classesBefore) shown.classesChanged = true;
}

setInterval(() => {
  if (!document.hidden && !busy && !outbox.items.length) void take(get("state"), { quietly: true });
}, POLL);

// ---- the text

function showRow(row, { was = null } = {}) {
  shown = row ? { row, at: performance.now(), seen: { model: false, near: false, why: false }, hints: null } : null;
  clock.restart();
  drawSide(shown, shared);
  const text = byId("text");
  byId("label").classList.toggle("empty", !row);
  if (!row) {
    const { declined = 0, rows = 0 } = app.header || {};
    const words = rows ? "No text is left to answer." : "The project has no texts yet.";
    fill(text, make("div", { class: "passage" }, make("p", {}, words), declined ? make("p", {}, `${count(declined, "text")} declined: see History.`) : null));
    bar.show({ classes: [], multilabel: false });
    fill(bar.list);
    drawTools();
    return;
  }
  showText(text, row);
  text.lang = "";
  showBar(was);
  drawTools();
  text.scrollTop = 0;
  checkBelow();
  if (!byId("label").hidden && !byId("dialog").open && !bar.focus()) text.focus({ preventScroll: true });
}

function showBar(was = null) {
  const marked = was || shown.row.answer;
  bar.show({ classes: app.classes, recent: app.recent, multilabel: app.project.multilabel, marked: marked?.skipped ? null : marked, word: was ? "was" : "now" });
  if (!app.classes.length && may("classes")) {
    add(bar.list, [make("button", { type: "button", class: "choice", onclick: () => open("classes") }, make("span", { class: "name" }, "Make the first class"))]);
  }
}

function checkBelow() {
  const text = byId("text");
  const more = text.scrollHeight - text.clientHeight - text.scrollTop > 4;
  text.classList.toggle("more", more);
  byId("below").hidden = !more;
}
byId("text").addEventListener("scroll", checkBelow, { passive: true });
new ResizeObserver(checkBelow).observe(byId("text"));

// ---- what a person does

function ready() {
  return shown && !busy && performance.now() - shown.at >= GUARD;
}

async function send(name, body, words) {
  const { row } = shown;
  busy = true;
  bar.disable(true);
  try {
    const reply = await outbox.send(name, body);
    if (reply.saved?.classes && name === "answer") remember(reply.saved.classes);
    receive(reply);
    announce(words(reply));
    busy = false;
    const [next] = app.rows;
    showRow(next, { was: next?.was });
    return reply;
  } catch (error) {
    busy = false;
    if (error.status === 409) conflict(row, body, error.reply.stands);
    else {
      announce(`Not stored: ${error.message}.`);
      void take(get("state")); // the text may be another person's by now, or a class gone
    }
    return null;
  } finally {
    bar.disable(false);
  }
}

function remember(classes) {
  app.recent = [...classes, ...app.recent.filter((id) => !classes.includes(id))];
}

async function answer(classes) {
  if (!ready() || byId("label").hidden) return;
  const { row, seen } = shown;
  const seconds = clock.seconds();
  const saved = await send("answer", { row: row.id, classes, replaces: row.answer?.event ?? null, seconds, seen }, () => `Saved: ${classes.map(nameOf).join(", ") || "none of them"}.`);
  if (saved) void offerCopies(row, classes, shared, () => showRow(app.rows[0]));
}

function skip(how) {
  if (!ready()) return;
  const { row } = shown;
  const words = how === "later" ? "Put last." : "Declined.";
  void send("skip", { row: row.id, replaces: row.answer?.event ?? null, how }, () => words);
}

async function undo() {
  if (busy) return;
  busy = true;
  bar.disable(true);
  try {
    const reply = await outbox.send("undo", {});
    receive(reply);
    busy = false;
    if (!reply.undone) {
      announce("There is nothing to undo.");
      return;
    }
    const [row] = app.rows;
    const was = row?.was || null;
    const done = { answered: "your answer", skipped: "declining", deferred: "putting last", noted: "your note" }[reply.undone.kind] || reply.undone.kind;
    announce(`Undone: ${done}${was && !was.skipped ? ` (${namesOf(was)})` : ""}.`);
    showRow(row, { was });
  } catch (error) {
    busy = false;
    announce(`Not undone: ${error.message}.`);
  } finally {
    bar.disable(false);
  }
}

function conflict(row, body, stands) {
  const change = async () => {
    byId("dialog").close();
    shown = { ...shown, row: { ...row, answer: stands }, at: 0 };
    const { key, ...rest } = body;
    await send(body.how ? "skip" : "answer", { ...rest, replaces: stands?.event ?? null }, () => "Changed.");
  };
  const keep = () => {
    byId("dialog").close();
    void take(get("state"));
  };
  const mine = body.how ? (body.how === "later" ? "put last" : "declined") : body.classes.map(nameOf).join(", ") || "none of them";
  openDialog(
    "This text was answered elsewhere",
    make("p", {}, stands ? `What stands: ${namesOf(stands)} (${moment(stands.at)}).` : "Its answer was taken back there."),
    make("p", {}, `What you pressed here, ${mine}, is not stored.`),
    make("div", { class: "buttons" },
      make("button", { type: "button", onclick: keep, autofocus: true }, stands ? `Keep: ${namesOf(stands)}` : "Leave it"),
      make("button", { type: "button", onclick: change }, `Change to: ${mine}`)),
  );
}

function flag() {
  if (!shown || busy) return;
  const { row } = shown;
  const note = make("textarea", { rows: "4", maxlength: "4000", "aria-label": "Note", placeholder: "what is odd about this text", autofocus: true });
  const store = async (event) => {
    event.preventDefault();
    const text = note.value.trim();
    if (!text) return;
    byId("dialog").close();
    try {
      receive(await outbox.send("flag", { row: row.id, text }));
      announce("Note stored.");
    } catch (error) {
      announce(`Note not stored: ${error.message}.`);
    }
  };
  openDialog("Flag this text", make("form", { onsubmit: store }, note,
    make("div", { class: "buttons" },
      make("button", { type: "button", onclick: () => byId("dialog").close() }, "Cancel"),
      make("button", { type: "submit" }, "Store the note"))));
  note.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) void store(event);
  });
}

// ---- commands and keys

const COMMANDS = [
  ["s", "Later", () => skip("later")],
  ["d", "Decline", () => skip("decline")],
  ["f", "Flag", flag],
  ["h", "Hints", toggleHints],
];

function drawTools() {
  const shift = bar.many ? "⇧" : "";
  const tool = (key, name, run, shortcut) =>
    make("button", { type: "button", class: "tool", "aria-keyshortcuts": shortcut, onclick: run }, make("kbd", { "aria-hidden": "true" }, key), name);
  fill(
    byId("tools"),
    tool("Bksp", "Undo", undo, "Backspace"),
    shown && COMMANDS.map(([letter, name, run]) => tool(shift + letter.toUpperCase(), name, run, `${shift ? "Shift+" : ""}${letter.toUpperCase()}`)),
    tool("?", "Keys", keys, "?"),
    notice,
  );
}

const keys = () => showKeys({ many: bar.many, multilabel: app.project.multilabel });

function scrollText(pages) {
  const text = byId("text");
  text.scrollBy({ top: pages * 0.85 * text.clientHeight });
}

function onKey(event) {
  if (event.isComposing || event.keyCode === 229) return; // an input method in mid-word
  if (event.ctrlKey || event.metaKey || event.altKey || byId("dialog").open) return;
  const active = view === "label" ? bar : view === "disputes" ? views.disputes.bar : null;
  const { target, key } = event;
  const typing = active && target === active.search;
  if (!typing && target.closest?.("input, textarea, select")) return;
  if (!active) {
    if (key === "Escape") open("label");
    else if (key === "?") keys();
    return;
  }
  const text = typing && active.search.value !== "";
  if (event.repeat) {
    const harmless = (key === "Backspace" && text) || key === " " || key.startsWith("Arrow") || key.startsWith("Page");
    if (!harmless) {
      event.preventDefault(); // a key that is held over the change of the text
      return;
    }
  }
  if (view === "label") {
    const command = COMMANDS.find(([letter]) => letter === key.toLowerCase() && (!active.many || event.shiftKey));
    if (key === "Backspace" && !text) {
      event.preventDefault();
      if (!event.repeat) void undo();
      return;
    }
    if (key === "?" || command) {
      event.preventDefault();
      if (key === "?") keys();
      else if (shown) command[2]();
      return;
    }
    const onButton = target.closest?.("button, summary");
    if (key === " " && !text && !onButton) {
      event.preventDefault();
      scrollText(event.shiftKey ? -1 : 1);
      return;
    }
    if (key === "PageDown" || key === "PageUp") {
      event.preventDefault();
      scrollText(key === "PageDown" ? 1 : -1);
      return;
    }
  }
  if (view === "disputes" && key === "Escape" && !text) {
    open("label");
    return;
  }
  if (view === "label" && !shown) return;
  if (active.key(event)) event.preventDefault();
  else if (active.many && !typing && key.length === 1 && key !== " ") active.search.focus({ preventScroll: true }); // the letter goes there
}
document.addEventListener("keydown", onKey);

// ---- views

const may = (right) => app.me.rights.includes(right);

/** What the views need of the labeling view. */
const shared = {
  app, may, nameOf, namesOf, chips, announce, outbox,
  /** Takes a text to the labeling view. */
  async label(row) {
    try {
      const reply = await post("take", { row: row.id });
      receive(reply);
      open("label");
      showRow(app.rows[0]);
    } catch (error) {
      announce(`Not possible: ${error.message}.`);
      openDialog("Not possible", make("p", {}, `${error.message}.`), make("div", { class: "buttons" }, make("button", { type: "button", onclick: () => byId("dialog").close() }, "Close")));
    }
  },
  receive(reply) {
    receive(reply);
    if (shown && reply.classes) {
      showBar();
      drawSide(shown, shared);
    }
  },
};

const views = {
  history: new HistoryView(byId("history"), shared),
  search: new SearchView(byId("search"), shared),
  progress: new ProgressView(byId("progress"), shared),
  disputes: new DisputesView(byId("disputes"), shared),
  classes: new ClassEditor(byId("classes"), shared),
};
const TITLES = { label: "Label", history: "History", search: "Search", progress: "Progress", disputes: "Disputes", classes: "Classes" };
let view = "label";

function drawViews() {
  const allowed = Object.entries(TITLES).filter(([name]) => name !== "disputes" || may("adjudicate"));
  const open_ = app.header?.disputed || 0;
  const title = (name, words) => (name === "disputes" && open_ ? `${words} (${number(open_)})` : words);
  fill(byId("views"), allowed.map(([name, words]) =>
    make("button", { type: "button", "aria-current": name === view ? "page" : null, onclick: () => open(name) }, title(name, words))));
  fill(byId("jump"), allowed.map(([name, words]) => make("option", { value: name, selected: name === view }, title(name, words))));
}
byId("jump").addEventListener("change", (event) => open(event.target.value));

function open(name) {
  if (!(name in TITLES) || (name === "disputes" && !may("adjudicate"))) name = "label";
  view = name;
  history.replaceState(null, "", name === "label" ? "/" : `/#${name}`);
  for (const each of Object.keys(TITLES)) byId(each).hidden = each !== name;
  drawViews();
  if (name !== "label") {
    void views[name].open();
    return;
  }
  clock.restart();
  if (shown?.classesChanged) showBar();
  checkBelow();
  if (!bar.focus()) byId("text").focus({ preventScroll: true });
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
      trouble(error, 0);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  trouble(null);
  showRow(app.rows[0]);
  open(location.hash.slice(1) || "label");
  document.body.dataset.ready = "yes";
  if (hasLogin) refuseLogin();
}

void start();
