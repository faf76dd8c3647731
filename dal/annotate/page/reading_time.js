// The time that a person spends on a text: the gaps between signs of life while the page is visible, each cut at a minute.

const IDLE = 60000; // milliseconds after which a person counts as away
let total = 0;
let last = performance.now();

function tick(counts = !document.hidden) {
  const now = performance.now();
  if (counts) total += Math.min(now - last, IDLE);
  last = now;
}

for (const kind of ["keydown", "pointermove", "pointerdown", "wheel", "scroll", "touchmove"]) {
  addEventListener(kind, () => tick(), { passive: true, capture: true });
}
document.addEventListener("visibilitychange", () => tick(document.hidden)); // until it was hidden it was visible

export const clock = {
  restart() {
    total = 0;
    last = performance.now();
  },
  /** Seconds since the start, with three places. */
  seconds() {
    tick();
    return Math.round(total) / 1000;
  },
};
