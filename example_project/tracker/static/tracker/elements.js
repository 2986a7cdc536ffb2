/** Making and finding elements. Text gets in as text nodes only. */

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** @param {Element} parent @param {string} selector @returns {HTMLElement} */
export function within(parent, selector) {
  return /** @type {HTMLElement} */ (parent.querySelector(selector));
}

/** @param {string} id  of a template with one element @returns {HTMLElement} */
export function copyOf(id) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  return /** @type {HTMLElement} */ (/** @type {Element} */ (template.content.firstElementChild).cloneNode(true));
}

/** @param {string} tag @param {string} [className] @param {(string | Node)[]} [children] */
export function element(tag, className = "", children = []) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children); // Strings become text nodes.
  return node;
}

/** The path of a link if it leads to this site; nothing else is ever made a link. @param {unknown} path */
export function safePath(path) {
  return typeof path === "string" && /^\/(?![/\\])[^\s\\]*$/.test(path) ? path : null;
}

/** @param {string} path @param {string} text */
export function link(path, text) {
  const node = /** @type {HTMLAnchorElement} */ (element("a", "", [text]));
  node.href = path;
  return node;
}

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
  node.textContent = inWords(when, new Date());
  node.title = when.toLocaleString();
}

export function keepTimes() {
  const all = () => document.querySelectorAll("time.ago[datetime]").forEach((node) => showTime(/** @type {any} */ (node)));
  all();
  setInterval(all, 20_000);
}

/** @param {Date} when @param {Date} now */
function inWords(when, now) {
  const minutes = Math.floor((now.getTime() - when.getTime()) / 60_000);
  if (Number.isNaN(minutes)) return "";
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 12 * 60) return `${Math.floor(minutes / 60)} h ago`;
  const clock = /** @type {const} */ ({ hour: "2-digit", minute: "2-digit", hour12: false });
  if (when.toDateString() === now.toDateString()) return when.toLocaleTimeString([], clock);
  return when.toLocaleDateString([], { day: "numeric", month: "short" });
}

/** @param {HTMLElement} node @param {string} name  of a class that starts an animation */
export function restart(node, name) {
  node.classList.remove(name);
  void node.offsetWidth;
  node.classList.add(name);
}
