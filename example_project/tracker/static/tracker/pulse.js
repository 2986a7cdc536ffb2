import { byId, element, restart, within } from "./elements.js";
import { kindOf } from "./wording.js";

export const REMEMBERED = 500;

const MINUTE = 60_000;
/** @type {Record<string, {bars: number, width: number, labelEvery: number, words: string}>} */
const RANGES = {
  hours: { bars: 24, width: 60 * MINUTE, labelEvery: 6, words: "in the last 24 hours" },
  minutes: { bars: 30, width: 2 * MINUTE, labelEvery: 10, words: "in the last 60 minutes" },
};
const KINDS = ["move", "export", "other"];

/** @typedef {{kind: string, at: number, actor: number | string | null}} Beat */

/** Counters and a chart of the last events, drawn at most once a frame. */
export class Pulse {
  /** @type {Beat[]} */ #beats = [];
  /** @type {Set<string>} */ #known = new Set();
  #isDue = false;
  #range = RANGES.hours;

  constructor() {
    byId("pulse").hidden = false;
    byId("pulse").addEventListener("change", ({ target }) => {
      this.#range = RANGES[/** @type {HTMLInputElement} */ (target).value];
      this.#draw();
    });
    // The bars move on with the clock.
    setInterval(() => this.#draw(), MINUTE / 2);
    this.#draw();
  }

  /** @param {import("./wording.js").RealtimeEvent} event */
  add(event) {
    const kind = kindOf(event);
    if (!kind || this.#known.has(event.cursor)) return;
    this.#known.add(event.cursor);
    this.#beats.push({ kind: kind === "failure" ? "export" : kind, at: Date.parse(event.created_at), actor: event.actor });
    if (this.#beats.length > REMEMBERED) this.#beats.shift();
    this.#drawSoon();
  }

  #drawSoon() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  #draw() {
    byId("pulse-count").textContent = String(this.#beats.length);
    byId("pulse-noun").textContent = noun(this.#beats.length);
    for (const kind of KINDS) this.#tile(kind, this.#beats.filter((beat) => beat.kind === kind).length);
    this.#tile("people", new Set(this.#beats.flatMap(({ actor }) => (actor === null ? [] : [actor]))).size);
    this.#chart();
  }

  /** @param {string} kind @param {number} count */
  #tile(kind, count) {
    const number = within(byId("pulse"), `[data-kind="${kind}"] dd`);
    if (number.textContent === String(count)) return;
    number.textContent = String(count);
    restart(number, "bumped");
  }

  #chart() {
    const { bars, width, labelEvery, words } = this.#range;
    const chart = byId("chart");
    while (chart.children.length > bars) chart.lastElementChild?.remove();
    while (chart.children.length < bars) chart.append(emptyBar());
    const end = Math.floor(Date.now() / width) + 1;
    const counts = this.#counted(end - bars, bars, width);
    const highest = Math.max(4, ...counts.map(sum));
    counts.forEach((count, index) => {
      const begin = new Date((end - bars + index) * width);
      const bar = /** @type {HTMLElement} */ (chart.children[index]);
      bar.title = `${clock(begin)}: ${sum(count)}`;
      KINDS.forEach((kind, place) => {
        const part = /** @type {HTMLElement} */ (bar.children[place]);
        part.style.setProperty("--share", String(count[place] / highest));
        part.classList.toggle("top", count[place] > 0 && !count.slice(place + 1).some(Boolean));
      });
      const isLabelled = index === bars - 1 || (bars - 1 - index) % labelEvery === 0;
      within(bar, ".hour").textContent = index === bars - 1 ? "now" : isLabelled ? clock(begin) : "";
    });
    const total = counts.reduce((all, count) => all + sum(count), 0);
    chart.ariaLabel = `${total} ${noun(total)} ${words}`;
    chart.dataset.highest = String(highest);
  }

  /** For each bar how many of each kind. @param {number} first @param {number} bars @param {number} width */
  #counted(first, bars, width) {
    const counts = Array.from({ length: bars }, () => KINDS.map(() => 0));
    for (const { kind, at } of this.#beats) {
      const index = Math.min(bars - 1, Math.floor(at / width) - first); // A server's clock may be ahead.
      if (index >= 0) counts[index][KINDS.indexOf(kind)]++;
    }
    return counts;
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

/** @param {Date} when */
function clock(when) {
  return when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

/** @param {number} count */
function noun(count) {
  return count === 1 ? "event" : "events";
}
