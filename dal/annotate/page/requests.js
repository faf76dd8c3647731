// Requests to the server, and the outbox: what a person did is kept in the tab until the server has confirmed it.

const PAGE = document.querySelector("meta[name=dal-page]").content;
const KEPT = `dal-outbox-${PAGE}`;
const PAUSES = [400, 800, 1500, 3000, 5000]; // milliseconds between attempts
const PATIENCE = 20000; // milliseconds until a request counts as failed

/** The server refused a request; `status` 409 has what stands in `reply`. */
export class RequestError extends Error {
  constructor(status, reply) {
    super(reply?.error || `the server replied ${status}`);
    this.status = status;
    this.reply = reply || {};
  }
}

/** A key that identifies a request; `randomUUID` is missing on plain http with another host. */
export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

async function request(method, path, body) {
  const reply = await fetch(path, {
    method,
    headers: { "dal-page": PAGE, ...(body ? { "content-type": "application/json" } : {}) },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE),
    credentials: "same-origin",
    redirect: "error",
  });
  let content = null;
  try {
    content = await reply.json();
  } catch (error) {
    if (reply.ok) throw error; // cut off on its way
  }
  if (!reply.ok) throw new RequestError(reply.status, content);
  return content;
}

/** A GET request with parameters; those that are empty are left out. */
export function get(name, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  return request("GET", `/api/${name}${query && `?${query}`}`);
}

/** A POST request that is tried once, as for a change of classes: the dialog stays open when it fails. */
export const post = (name, body) => request("POST", `/api/${name}`, body);

/** Removes this browser's login. */
export const logOut = () => request("POST", "/logout", {});

/** Whether another attempt may succeed: the server is away, restarted, or its disk is full. */
const mayPass = (error) => !(error instanceof RequestError) || error.status >= 500 || [401, 403, 408, 412, 429].includes(error.status);

/** Requests in order, each repeated with the same key until the server has confirmed or refused it. */
export class Outbox {
  constructor(onTrouble) {
    this.onTrouble = onTrouble; // called with an error and the number of attempts; with null when it is over
    this.waiting = new Map(); // key -> functions of the promise
    this.items = this.read();
    this.running = false;
    this.wake = null;
    this.givenUp = false;
    addEventListener("online", () => this.wake?.());
    addEventListener("beforeunload", (event) => this.attempts > 1 && event.preventDefault());
    this.attempts = 0;
  }

  read() {
    try {
      return JSON.parse(sessionStorage.getItem(KEPT)) || [];
    } catch {
      return [];
    }
  }

  write() {
    try {
      if (this.items.length) sessionStorage.setItem(KEPT, JSON.stringify(this.items));
      else sessionStorage.removeItem(KEPT);
    } catch {
      // Without storage the answers wait in memory.
    }
  }

  /** Sends a request with a key; resolves with the reply, rejects with a `RequestError` when it is refused. `words` say
   * what waits until then. */
  send(name, body, words = "") {
    const item = { name, words, body: { ...body, key: newKey() } };
    this.items.push(item);
    this.write();
    const promise = new Promise((resolve, reject) => this.waiting.set(item.body.key, { resolve, reject }));
    this.run();
    return promise;
  }

  /** Sends what an earlier load of this tab left; resolves when nothing waits. */
  async settle() {
    while (this.items.length) {
      const { key } = this.items[0].body;
      await new Promise((resolve) => {
        const before = this.waiting.get(key);
        const both = (name) => (value) => (before?.[name](value), resolve());
        this.waiting.set(key, { resolve: both("resolve"), reject: both("reject") });
        this.run();
      });
    }
  }

  /** Tries what waits first once more, and gives it up if it fails again: a person chose so. */
  giveUp() {
    this.givenUp = true;
    this.wake?.();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    while (this.items.length) {
      const [item] = this.items;
      const slow = setTimeout(() => this.onTrouble(new Error("the server has not answered yet"), this.attempts), 1500);
      let outcome;
      try {
        outcome = { reply: await request("POST", `/api/${item.name}`, item.body) };
      } catch (error) {
        outcome = { error };
      }
      clearTimeout(slow);
      if (outcome.error && mayPass(outcome.error) && !this.givenUp) {
        this.attempts += 1;
        this.onTrouble(outcome.error, this.attempts);
        await new Promise((resolve) => {
          this.wake = resolve;
          setTimeout(resolve, PAUSES[Math.min(this.attempts, PAUSES.length) - 1]);
        });
        continue;
      }
      this.attempts = 0;
      this.givenUp = false;
      this.items.shift();
      this.write();
      this.onTrouble(null, 0);
      const { resolve, reject } = this.waiting.get(item.body.key) || {};
      this.waiting.delete(item.body.key);
      if (outcome.error) reject?.(outcome.error);
      else resolve?.(outcome.reply);
    }
    this.running = false;
  }
}
