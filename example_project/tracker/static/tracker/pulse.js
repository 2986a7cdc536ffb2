import { animate, byId, element, onceAFrame, within } from "./elements.js";
import { say, sayCount } from "./texts.js";
import { timeOfDay } from "./times.js";
import { kindOf } from "./wording.js";

const MINUTE = 60_000;
/** @type {Record<string, {bars: number, width: number, labelEvery: number}>}  width in minutes */
const RANGES = {
  hours: { bars: 24, width: 60, labelEvery: 6 },
  minutes: { bars: 30, width: 2, labelEvery: 10 },
};
const KINDS = ["move", "export", "other"];
const KEPT = 24 * 60; // minutes

/** @typedef {{minute: number, kind: string, actor: number | string | null, count: number}} Beat  `minute` since 1970 */

/**
 * Counters and a chart of the last hours, drawn at most once a frame. The server has counted what was before the page;
 * from there on each event is one more.
 */
export class Pulse {
  /** @type {Map<string, Beat>} */ #beats = new Map();
  #name = "hours";
  #drawSoon = onceAFrame(() => this.#draw());

  /** @param {Beat[]} beats */
  constructor(beats) {
    byId("pulse").hidden = false;
    byId("pulse").addEventListener("change", ({ target }) => {
      this.#name = /** @type {HTMLInputElement} */ (target).value;
      this.#draw();
    });
    // The bars move on with the clock.
    setInterval(() => this.#draw(), MINUTE / 2);
    this.replace(beats);
  }

  /** @param {Beat[]} beats */
  replace(beats) {
    this.#beats.clear();
    for (const beat of beats) this.#count(beat);
    this.#draw();
  }

  /** @param {import("./wording.js").RealtimeEvent} event */
  add(event) {
    const kind = kindOf(event);
    if (!kind) return;
    const minute = Math.floor(Date.parse(event.created_at) / MINUTE);
    this.#count({ minute, kind: kind === "failure" ? "export" : kind, actor: event.actor, count: 1 });
    this.#drawSoon();
  }

  /** @param {Beat} beat */
  #count(beat) {
    const key = `${beat.minute} ${beat.kind} ${beat.actor}`;
    const known = this.#beats.get(key);
    if (known) known.count += beat.count;
    else this.#beats.set(key, { ...beat });
  }

  #draw() {
    const { bars, width } = RANGES[this.#name];
    const now = Math.floor(Date.now() / MINUTE);
    const end = Math.floor(now / width) + 1;
    const counts = Array.from({ length: bars }, () => KINDS.map(() => 0));
    const totals = KINDS.map(() => 0);
    const people = new Set();
    for (const [key, { minute, kind, actor, count }] of this.#beats) {
      if (minute < now - KEPT) this.#beats.delete(key);
      const index = Math.min(bars - 1, Math.floor(minute / width) - end + bars); // A server's clock may be ahead.
      if (index < 0) continue;
      counts[index][KINDS.indexOf(kind)] += count;
      totals[KINDS.indexOf(kind)] += count;
      if (actor !== null) people.add(actor);
    }
    const total = sum(totals);
    byId("pulse-count").textContent = String(total);
    byId("pulse-noun").textContent = sayCount("events", total);
    KINDS.forEach((kind, place) => this.#tile(kind, totals[place]));
    this.#tile("people", people.size);
    this.#chart(counts, end);
    byId("chart").ariaLabel = sayCount(this.#name, total);
  }

  /** @param {string} kind @param {number} count */
  #tile(kind, count) {
    const number = within(byId("pulse"), `[data-kind="${kind}"] dd`);
    if (number.textContent === String(count)) return;
    number.textContent = String(count);
    animate(number, [{}, { color: "var(--accent)", offset: 0.3 }, {}], 500);
  }

  /** @param {number[][]} counts  of each bar, by kind @param {number} end  of the last one, in widths since 1970 */
  #chart(counts, end) {
    const { bars, width, labelEvery } = RANGES[this.#name];
    const chart = byId("chart");
    while (chart.children.length > bars) chart.lastElementChild?.remove();
    while (chart.children.length < bars) chart.append(emptyBar());
    const highest = Math.max(4, ...counts.map(sum));
    counts.forEach((count, index) => {
      const begin = new Date((end - bars + index) * width * MINUTE);
      const bar = /** @type {HTMLElement} */ (chart.children[index]);
      bar.title = `${timeOfDay(begin)}: ${sum(count)}`;
      KINDS.forEach((_, place) => {
        const part = /** @type {HTMLElement} */ (bar.children[place]);
        part.style.setProperty("--share", String(count[place] / highest));
        part.classList.toggle("top", count[place] > 0 && !count.slice(place + 1).some(Boolean));
      });
      const isLabelled = (bars - 1 - index) % labelEvery === 0;
      const label = index === bars - 1 ? say("now") : isLabelled ? timeOfDay(begin) : "";
      within(bar, ".hour").textContent = label;
    });
    chart.dataset.highest = String(highest);
  }
}

function emptyBar() {
  const parts = KINDS.map((kind) => {
    const part = element("span", "part");
    part.dataset.kind = kind;
    return part;
  });
  return element("div", "stack", [...parts, element("span", "hour")]);
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((all, one) => all + one, 0);
}
