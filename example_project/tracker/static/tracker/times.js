import { element } from "./elements.js";
import { language } from "./texts.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "narrow" });
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

/** How long ago it was, kept up to date by `keepTimes`. @param {string} iso */
export function ago(iso) {
  const node = /** @type {HTMLTimeElement} */ (element("time", "ago"));
  node.dateTime = iso;
  showTime(node);
  return node;
}

/** @param {HTMLTimeElement} node */
export function showTime(node) {
  const when = new Date(node.dateTime);
  if (Number.isNaN(when.valueOf())) return;
  node.textContent = inWords(when, new Date());
  node.title = whole.format(when);
}

export function keepTimes() {
  const all = () => document.querySelectorAll("time.ago[datetime]").forEach((node) => showTime(/** @type {any} */ (node)));
  all();
  setInterval(all, 20_000);
}

/** @param {Date} when */
export function timeOfDay(when) {
  return clock.format(when);
}

/** @param {Date} when @param {Date} now */
function inWords(when, now) {
  const age = now.valueOf() - when.valueOf();
  if (age < MINUTE) return relative.format(0, "second"); // A server's clock may be ahead.
  if (age < HOUR) return relative.format(-Math.floor(age / MINUTE), "minute");
  if (age < 12 * HOUR) return relative.format(-Math.floor(age / HOUR), "hour");
  return when.toDateString() === now.toDateString() ? clock.format(when) : day.format(when);
}
