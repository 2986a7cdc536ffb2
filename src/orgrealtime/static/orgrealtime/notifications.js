/**
 * `<org-notifications org="acme" since="…">`: a bell with an unread count, and the list behind it.
 *
 * What an event says is set as text, never as HTML. Works under a Content-Security-Policy without 'unsafe-inline' and
 * under Trusted Types: no inline styles, no parsed HTML.
 *
 * @module orgrealtime/notifications
 */

import { connect } from "./client.js";
import { addBounded, UnreadEvents } from "./unread.js";

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").RealtimeEvent} RealtimeEvent
 * @typedef {import("./client.js").Reset} Reset
 * @typedef {import("./client.js").State} State
 * @typedef {{text: string, url?: string}} Line
 * @typedef {(event: RealtimeEvent) => Line | null} Format  null: not shown
 * @typedef {typeof TEXTS} Texts
 */

const TEXTS = {
  title: "Notifications",
  empty: "Nothing yet",
  /** @param {number} count */
  unread: (count) => `${count} unread`,
  /** @param {number} count */
  news: (count) => `${count} new notifications`,
  /** @type {Record<string, string>} */
  states: {
    connecting: "Connecting …",
    "catching-up": "Catching up …",
    live: "Live",
    waiting: "Reconnecting …",
    offline: "Offline",
    stopped: "Stopped",
    unauthenticated: "Signed out",
    forbidden: "No access",
  },
};

const LINES = 50;
const COUNTED = 99;
const ANNOUNCE_EVERY = 3_000; // milliseconds
// The list is closed when the user is elsewhere: what comes then is unread.
const LEAVING = ["pointerdown", "focusin", "visibilitychange"];

const STYLE = `
:host { display: inline-block; font: 0.9375rem/1.4 system-ui, sans-serif; position: relative; }
:host([hidden]), [hidden] { display: none !important; }
:focus-visible { outline: 2px solid var(--orgrealtime-focus, currentColor); outline-offset: 1px; }
button {
  background: none; border: 0; border-radius: var(--orgrealtime-radius, 0.5rem); color: inherit; cursor: pointer;
  display: block; font: inherit; padding: 0.5rem; position: relative;
}
button:hover { background: color-mix(in srgb, currentColor 10%, transparent); }
svg {
  display: block; fill: none; height: var(--orgrealtime-icon-size, 1.5rem); stroke: currentColor; stroke-linecap: round;
  stroke-linejoin: round; stroke-width: 1.8; width: var(--orgrealtime-icon-size, 1.5rem);
}
[part="count"] {
  background: var(--orgrealtime-badge, #c81e1e); border-radius: 1rem; color: var(--orgrealtime-badge-text, #fff);
  font-size: 0.6875rem; font-weight: 600; inset: 0 0 auto auto; line-height: 1.125rem; min-width: 0.625rem;
  padding: 0 0.25rem; position: absolute; text-align: center;
}
[part="panel"] {
  background: var(--orgrealtime-background, Canvas); border: 1px solid var(--orgrealtime-border, GrayText);
  border-radius: var(--orgrealtime-radius, 0.5rem); box-shadow: 0 0.5rem 1.5rem rgb(0 0 0 / 0.25);
  box-sizing: border-box; color: var(--orgrealtime-text, CanvasText); inset: 100% 0 auto auto; margin-top: 0.25rem;
  position: absolute; width: var(--orgrealtime-width, 22rem); z-index: var(--orgrealtime-z-index, 10);
}
[part="panel"][data-start] { inset: 100% auto auto 0; }
@media (max-width: 30rem) { [part="panel"][part] { inset: auto 1rem auto 1rem; position: fixed; width: auto; } }
[part="header"] {
  align-items: baseline; display: flex; gap: 1rem; justify-content: space-between; padding: 0.75rem 1rem;
}
h2 { font-size: 1rem; margin: 0; }
[part="state"], time { font-size: 0.8125rem; opacity: 0.8; }
[part="empty"] { margin: 0; padding: 0 1rem 1rem; }
ul { list-style: none; margin: 0; max-height: var(--orgrealtime-height, 24rem); overflow: auto; padding: 0; }
li {
  border-top: 1px solid color-mix(in srgb, currentColor 15%, transparent); overflow-wrap: anywhere;
  padding: 0.5rem 1rem;
}
li[part~="unread"] { background: var(--orgrealtime-unread, color-mix(in srgb, Highlight 12%, transparent)); }
a { color: var(--orgrealtime-link, LinkText); }
time { display: block; }
[part="announcement"] {
  clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; white-space: nowrap; width: 1px;
}
`;

const BELL = "M6 9a6 6 0 1 1 12 0c0 5 2 6 2 7H4c0-1 2-2 2-7m4 10a2 2 0 0 0 4 0";

/** On a server there is no HTMLElement, and the module must be importable there. */
const Base = /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? class {});

/** @type {CSSStyleSheet | undefined} */
let sheet;

/**
 * A link that is safe to offer: a path of this site, or https on this host.
 *
 * @param {unknown} url
 * @returns {string | undefined}
 */
export function safeUrl(url, host = location.host) {
  // Browsers drop tabs and newlines, and take a backslash for a slash.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (typeof url !== "string" || /[\u0000-\u001f\u007f-\u009f\\]/.test(url)) return undefined;
  if (/^\/(?!\/)/.test(url)) return url;
  try {
    const { protocol, host: itsHost, username, password } = new URL(url);
    return protocol === "https:" && itsHost === host && !username && !password ? url : undefined;
  } catch {
    return undefined;
  }
}

/**
 * How an event is shown, unless the page says so itself: `text` or `message` of the payload, else its type in words,
 * with the first safe link of `url` and `…_url`.
 *
 * @type {Format}
 */
export function describe(event) {
  const given = [event.text, event.message].find((text) => typeof text === "string" && text.trim());
  const words = event.type.replace(/[_.:-]+/g, " ").trim();
  const keys = Object.keys(event).filter((key) => key === "url" || key.endsWith("_url"));
  const url = keys.map((key) => safeUrl(event[key])).find(Boolean);
  return { text: given ?? words.charAt(0).toUpperCase() + words.slice(1), url };
}

export class OrgNotifications extends Base {
  static observedAttributes = ["org", "url", "share-key", "label"];

  /** @type {Client | null} */ #client = null;
  /** Given by the page, which also closes it. @type {Client | null} */ #given = null;
  #hasLookedBack = false;
  /** @type {Format} */ #format = describe;
  #texts = TEXTS;
  #isInPage = false;
  /** @type {Array<() => void>} */ #subscriptions = [];
  #unread = new UnreadEvents("");
  /** Cursors of the last events that the list has had. @type {Set<string>} */ #listed = new Set();
  /** @type {{key: string, cursor: string | null}} */ #last = { key: "", cursor: null };
  #announced = 0;
  /** @type {string[]} */ #unannounced = [];
  #announceTimer = 0;
  #button = make("button", { type: "button", part: "button", "aria-expanded": "false", "aria-controls": "panel" });
  #count = make("span", { part: "count", "aria-hidden": "true", hidden: "" });
  #heading = make("h2", { id: "heading" });
  #state = make("span", { part: "state" });
  #list = make("ul", { part: "list", tabindex: "0", "aria-labelledby": "heading", hidden: "" });
  #empty = make("p", { part: "empty" });
  #panel = make("section", { part: "panel", id: "panel", "aria-labelledby": "heading", hidden: "" });
  #announcement = make("div", { part: "announcement", role: "status", "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    root.adoptedStyleSheets = [sheet];
    const header = make("header", { part: "header" }, this.#heading, this.#state);
    this.#button.append(bell(), this.#count);
    this.#panel.append(header, this.#empty, this.#list);
    root.append(this.#button, this.#panel, this.#announcement);
    this.#button.addEventListener("click", () => {
      this.open = !this.open;
    });
    root.addEventListener("keydown", (event) => this.#onKey(/** @type {KeyboardEvent} */ (event)));
  }

  connectedCallback() {
    this.#adopt("client");
    this.#adopt("format");
    this.#adopt("texts");
    this.#isInPage = true;
    for (const type of LEAVING) document.addEventListener(type, this.#closeIfLeft);
    this.#join();
  }

  disconnectedCallback() {
    this.#isInPage = false;
    this.open = false;
    for (const type of LEAVING) document.removeEventListener(type, this.#closeIfLeft);
    this.#leave();
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (!this.#isInPage || before === after) return;
    if (name === "label") this.#show();
    else this.#joinAnew();
  }

  /** The client that is followed: the page's, or one that the element makes for itself. @returns {Client | null} */
  get client() {
    return this.#client ?? this.#given;
  }

  set client(client) {
    if (client === this.#given) return;
    this.#leave();
    this.#given = client;
    if (this.#isInPage) this.#joinAnew();
  }

  /** How an event becomes a line. @returns {Format} */
  get format() {
    return this.#format;
  }

  set format(format) {
    this.#format = format;
  }

  /** What the element itself says; give those that shall differ. @returns {Partial<Texts>} */
  get texts() {
    return this.#texts;
  }

  set texts(texts) {
    this.#texts = { ...TEXTS, ...texts, states: { ...TEXTS.states, ...texts.states } };
    this.#show();
  }

  /** How many events are unread. */
  get unread() {
    return this.#unread.cursors.size;
  }

  /** Whether the list is shown. Opening it marks all as read. */
  get open() {
    return !this.#panel.hidden;
  }

  set open(isOpen) {
    if (isOpen === this.open) return;
    this.#panel.hidden = !isOpen;
    this.#button.setAttribute("aria-expanded", String(isOpen));
    const { right } = this.#button.getBoundingClientRect();
    this.#panel.toggleAttribute("data-start", right < this.#panel.offsetWidth);
    if (isOpen) this.markRead();
    else for (const line of this.#list.children) line.setAttribute("part", "item");
  }

  markRead() {
    this.#unread.clear();
    this.#showCount();
  }

  /** Properties that were set before the element was defined. @param {"client" | "format" | "texts"} name */
  #adopt(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete this[name];
    /** @type {any} */ (this)[name] = value;
  }

  /** @param {Event} event */
  #closeIfLeft = (event) => {
    const isInside = event.type !== "visibilitychange" && event.composedPath().includes(this);
    if (!isInside) this.open = false;
  };

  #joinAnew() {
    this.#leave();
    this.#list.replaceChildren();
    this.#listed.clear();
    this.#join();
  }

  #join() {
    const key = `${this.getAttribute("org") ?? this.getAttribute("url") ?? ""} ${this.getAttribute("share-key") ?? ""}`;
    this.#unread = new UnreadEvents(key);
    this.#client = this.#given ?? this.#connect(key);
    this.#subscriptions.push(this.#unread.onChange(() => this.#showCount()));
    this.#show();
    if (!this.#client) return;
    this.#hasLookedBack = false;
    this.#lookBackOnce();
    this.#subscriptions.push(
      this.#client.on("event", (event) => this.#onEvent(event)),
      this.#client.on("reset", (reset) => this.#onReset(reset)),
      this.#client.on("state", (state) => this.#onState(state)),
    );
  }

  #leave() {
    for (const end of this.#subscriptions.splice(0)) end();
    clearTimeout(this.#announceTimer);
    this.#announceTimer = 0;
    this.#unannounced = [];
    if (this.#client && !this.#given) {
      const { cursor } = this.#client;
      this.#last.cursor = cursor;
      this.#client.close();
    }
    this.#client = null;
  }

  /** @param {string} key */
  #connect(key) {
    const option = (/** @type {string} */ name) => this.getAttribute(name) ?? undefined;
    if (!option("org") && !option("url")) return null; // a page's script may be about to say it
    // An element that is moved goes on where it was.
    const since = this.#last.key === key && this.#last.cursor ? this.#last.cursor : option("since");
    this.#last = { key, cursor: null };
    return connect({
      org: option("org"),
      url: option("url"),
      catchUpUrl: option("catch-up-url"),
      streamUrl: option("stream-url"),
      shareKey: option("share-key"),
      share: option("share") !== "off",
      since,
    });
  }

  /** @param {RealtimeEvent} event */
  #onEvent(event) {
    this.#tell("event", event);
    const line = this.#format(event);
    if (!line) return;
    this.#unread.add(event.cursor);
    if (this.open) this.#unread.clear();
    if (this.#isNew(event)) {
      this.#list.prepend(this.#lineFor(event, line));
      while (this.#list.children.length > LINES) this.#list.lastElementChild?.remove();
    }
    this.#show();
    this.#announce(line.text);
  }

  /** When all that is newer has come, so that what the page answers is older than the list's lines. */
  #lookBackOnce() {
    if (this.#hasLookedBack || this.#client?.state.name !== "live") return;
    this.#hasLookedBack = true;
    this.#lookBack();
  }

  /** List what happened before the page was loaded, so that what is unread can be read. */
  async #lookBack() {
    const joined = this.#unread; // another one after the next join
    try {
      const events = await this.#client?.recent(LINES);
      if (events && joined === this.#unread && this.#client) this.#append(events.reverse());
    } catch {
      // The list is shorter, and fills as things happen.
    }
  }

  /** @param {RealtimeEvent[]} events  the newest first */
  #append(events) {
    for (const event of events) {
      const line = this.#format(event);
      const isLast = this.#list.children.length >= LINES;
      if (line && !isLast && this.#isNew(event)) this.#list.append(this.#lineFor(event, line));
    }
    this.#show();
  }

  /** @param {RealtimeEvent} event */
  #isNew({ cursor }) {
    const isNew = !this.#listed.has(cursor);
    addBounded(this.#listed, cursor);
    return isNew;
  }

  /** @param {Reset} reset */
  #onReset(reset) {
    /** @type {Array<Promise<unknown>>} */
    const promises = [];
    const waitUntil = (/** @type {Promise<unknown>} */ promise) => void promises.push(promise);
    this.#tell("reset", { ...reset, waitUntil });
    // What is listed may have a gap now; what was unread is of another stream, unless only old events are gone.
    this.#list.replaceChildren();
    this.#listed.clear();
    if (reset.reason !== "retention") this.#unread.clear();
    return Promise.all([...promises, this.#lookBack()]);
  }

  /** @param {State} state */
  #onState(state) {
    this.#tell("state", state);
    this.#lookBackOnce();
    this.#show();
  }

  /** @param {string} what @param {unknown} detail */
  #tell(what, detail) {
    this.dispatchEvent(new CustomEvent(`orgrealtime:${what}`, { bubbles: true, composed: true, detail }));
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key !== "Escape" || !this.open) return;
    event.stopPropagation();
    this.open = false;
    this.#button.focus();
  }

  /** @param {RealtimeEvent} event @param {Line} line */
  #lineFor(event, { text, url }) {
    const href = safeUrl(url);
    const content = href ? make("a", { part: "link", href }) : make("span", { part: "text" });
    content.textContent = text;
    const isUnread = this.#unread.cursors.has(event.cursor);
    const item = make("li", { part: isUnread ? "item unread" : "item" }, content);
    const date = new Date(event.created_at);
    if (!Number.isNaN(date.valueOf())) {
      const time = make("time", { part: "time", datetime: event.created_at });
      time.textContent = date.toLocaleString(this.lang || document.documentElement.lang || undefined);
      item.append(time);
    }
    return item;
  }

  /** Not each one: a screen reader would speak for minutes after a long absence. @param {string} text */
  #announce(text) {
    this.#unannounced.push(text);
    if (this.#announceTimer) return;
    const wait = Math.max(0, this.#announced + ANNOUNCE_EVERY - Date.now());
    this.#announceTimer = setTimeout(() => {
      const texts = this.#unannounced.splice(0);
      this.#announceTimer = 0;
      this.#announced = Date.now();
      this.#announcement.textContent = texts.length === 1 ? texts[0] : this.#texts.news(texts.length);
    }, wait);
  }

  #show() {
    this.#state.textContent = this.#texts.states[this.#client?.state.name ?? "stopped"];
    this.#state.dataset.state = this.#client?.state.name ?? "stopped";
    this.#heading.textContent = this.#title;
    this.#empty.textContent = this.#texts.empty;
    this.#empty.hidden = this.#list.children.length > 0;
    this.#list.hidden = !this.#empty.hidden;
    this.#showCount();
  }

  get #title() {
    return this.getAttribute("label") ?? this.#texts.title;
  }

  #showCount() {
    const { unread } = this;
    this.#count.hidden = unread === 0;
    this.#count.textContent = unread > COUNTED ? `${COUNTED}+` : String(unread);
    this.#button.setAttribute("aria-label", unread ? `${this.#title}, ${this.#texts.unread(unread)}` : this.#title);
  }
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes
 * @param {...Node} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function bell() {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  const path = document.createElementNS(namespace, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", BELL);
  svg.append(path);
  return svg;
}

if (globalThis.customElements && !customElements.get("org-notifications")) {
  customElements.define("org-notifications", OrgNotifications);
}
