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

const MAX_LINES = 50;
const MAX_COUNT = 99;
const ANNOUNCE_INTERVAL = 3_000; // milliseconds
// These close the list when the user turns to something else: events that come then are unread.
const CLOSING_EVENTS = ["pointerdown", "focusin", "visibilitychange"];

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

const BELL_PATH = "M6 9a6 6 0 1 1 12 0c0 5 2 6 2 7H4c0-1 2-2 2-7m4 10a2 2 0 0 0 4 0";

/** A server, where the module must be importable, has no HTMLElement. */
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
  // Browsers drop tabs and newlines from a URL, and take a backslash for a slash.
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

  /** The client that the element follows now. @type {Client | null} */ #activeClient = null;
  /** The page's own client, which the page closes, too. @type {Client | null} */ #givenClient = null;
  #hasLoadedRecent = false;
  /** @type {Format} */ #format = describe;
  #texts = TEXTS;
  #isAttached = false;
  /** @type {Array<() => void>} */ #cleanups = [];
  #unread = new UnreadEvents("");
  /** Cursors of the last events that were put into the list. @type {Set<string>} */ #listedCursors = new Set();
  /** Where the element's own client was closed. @type {{key: string, cursor: string | null}} */
  #lastPosition = { key: "", cursor: null };
  #lastAnnouncedAt = 0;
  /** @type {string[]} */ #pendingAnnouncements = [];
  #announceTimer = 0;
  #button = createElement("button", {
    type: "button",
    part: "button",
    "aria-expanded": "false",
    "aria-controls": "panel",
  });
  #count = createElement("span", { part: "count", "aria-hidden": "true", hidden: "" });
  #heading = createElement("h2", { id: "heading" });
  #state = createElement("span", { part: "state" });
  #list = createElement("ul", { part: "list", tabindex: "0", "aria-labelledby": "heading", hidden: "" });
  #empty = createElement("p", { part: "empty" });
  #panel = createElement("section", { part: "panel", id: "panel", "aria-labelledby": "heading", hidden: "" });
  #announcement = createElement("div", { part: "announcement", role: "status", "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    root.adoptedStyleSheets = [sheet];
    const header = createElement("header", { part: "header" }, this.#heading, this.#state);
    this.#button.append(createBell(), this.#count);
    this.#panel.append(header, this.#empty, this.#list);
    root.append(this.#button, this.#panel, this.#announcement);
    this.#button.addEventListener("click", () => {
      this.open = !this.open;
    });
    root.addEventListener("keydown", (event) => this.#onKey(/** @type {KeyboardEvent} */ (event)));
  }

  connectedCallback() {
    this.#upgradeProperty("client");
    this.#upgradeProperty("format");
    this.#upgradeProperty("texts");
    this.#isAttached = true;
    for (const type of CLOSING_EVENTS) document.addEventListener(type, this.#closeIfOutside);
    this.#start();
  }

  disconnectedCallback() {
    this.#isAttached = false;
    this.open = false;
    for (const type of CLOSING_EVENTS) document.removeEventListener(type, this.#closeIfOutside);
    this.#stop();
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (!this.#isAttached || before === after) return;
    if (name === "label") this.#render();
    else this.#restart();
  }

  /** The client that is followed: the page's, or one that the element makes for itself. @returns {Client | null} */
  get client() {
    return this.#activeClient ?? this.#givenClient;
  }

  set client(client) {
    if (client === this.#givenClient) return;
    this.#stop();
    this.#givenClient = client;
    if (this.#isAttached) this.#restart();
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
    this.#render();
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
    this.#renderCount();
  }

  /** Set what the page had set before the element was defined. @param {"client" | "format" | "texts"} name */
  #upgradeProperty(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete this[name];
    /** @type {any} */ (this)[name] = value;
  }

  /** @param {Event} event */
  #closeIfOutside = (event) => {
    const isInside = event.type !== "visibilitychange" && event.composedPath().includes(this);
    if (!isInside) this.open = false;
  };

  #restart() {
    this.#stop();
    this.#list.replaceChildren();
    this.#listedCursors.clear();
    this.#start();
  }

  #start() {
    const key = `${this.getAttribute("org") ?? this.getAttribute("url") ?? ""} ${this.getAttribute("share-key") ?? ""}`;
    this.#unread = new UnreadEvents(key);
    this.#activeClient = this.#givenClient ?? this.#createClient(key);
    this.#cleanups.push(this.#unread.onChange(() => this.#renderCount()));
    this.#render();
    if (!this.#activeClient) return;
    this.#hasLoadedRecent = false;
    this.#loadRecentOnce();
    this.#cleanups.push(
      this.#activeClient.on("event", (event) => this.#onEvent(event)),
      this.#activeClient.on("reset", (reset) => this.#onReset(reset)),
      this.#activeClient.on("state", (state) => this.#onState(state)),
    );
  }

  #stop() {
    for (const end of this.#cleanups.splice(0)) end();
    clearTimeout(this.#announceTimer);
    this.#announceTimer = 0;
    this.#pendingAnnouncements = [];
    if (this.#activeClient && !this.#givenClient) {
      const { cursor } = this.#activeClient;
      this.#lastPosition.cursor = cursor;
      this.#activeClient.close();
    }
    this.#activeClient = null;
  }

  /** @param {string} key */
  #createClient(key) {
    const option = (/** @type {string} */ name) => this.getAttribute(name) ?? undefined;
    if (!option("org") && !option("url")) return null; // the page's script may set them later
    // An element that is moved within the page goes on from its last position.
    const since =
      this.#lastPosition.key === key && this.#lastPosition.cursor ? this.#lastPosition.cursor : option("since");
    this.#lastPosition = { key, cursor: null };
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
    this.#dispatch("event", event);
    const line = this.#format(event);
    if (!line) return;
    this.#unread.add(event.cursor);
    if (this.open) this.#unread.clear();
    if (this.#addToListed(event)) {
      this.#list.prepend(this.#createLine(event, line));
      while (this.#list.children.length > MAX_LINES) this.#list.lastElementChild?.remove();
    }
    this.#render();
    this.#announce(line.text);
  }

  /** Load the older events after all newer ones have come, so that they belong below the list's lines. */
  #loadRecentOnce() {
    if (this.#hasLoadedRecent || this.#activeClient?.state.name !== "live") return;
    this.#hasLoadedRecent = true;
    this.#loadRecent();
  }

  /** List events from before the page was loaded: some of them may be unread. */
  async #loadRecent() {
    const unread = this.#unread; // each #start makes another one
    try {
      const events = await this.#activeClient?.recent(MAX_LINES);
      if (events && unread === this.#unread && this.#activeClient) this.#appendOlder(events.reverse());
    } catch {
      // Without the older events the list is shorter.
    }
  }

  /** @param {RealtimeEvent[]} events  the newest first */
  #appendOlder(events) {
    for (const event of events) {
      const line = this.#format(event);
      const isLast = this.#list.children.length >= MAX_LINES;
      if (line && !isLast && this.#addToListed(event)) this.#list.append(this.#createLine(event, line));
    }
    this.#render();
  }

  /** @param {RealtimeEvent} event */
  #addToListed({ cursor }) {
    const isNew = !this.#listedCursors.has(cursor);
    addBounded(this.#listedCursors, cursor);
    return isNew;
  }

  /** @param {Reset} reset */
  #onReset(reset) {
    /** @type {Array<Promise<unknown>>} */
    const promises = [];
    const waitUntil = (/** @type {Promise<unknown>} */ promise) => void promises.push(promise);
    this.#dispatch("reset", { ...reset, waitUntil });
    // The list may have a gap now. The unread events are of another stream, unless only old events are gone.
    this.#list.replaceChildren();
    this.#listedCursors.clear();
    if (reset.reason !== "retention") this.#unread.clear();
    return Promise.all([...promises, this.#loadRecent()]);
  }

  /** @param {State} state */
  #onState(state) {
    this.#dispatch("state", state);
    this.#loadRecentOnce();
    this.#render();
  }

  /** @param {string} name @param {unknown} detail */
  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(`orgrealtime:${name}`, { bubbles: true, composed: true, detail }));
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key !== "Escape" || !this.open) return;
    event.stopPropagation();
    this.open = false;
    this.#button.focus();
  }

  /** @param {RealtimeEvent} event @param {Line} line */
  #createLine(event, { text, url }) {
    const href = safeUrl(url);
    const content = href ? createElement("a", { part: "link", href }) : createElement("span", { part: "text" });
    content.textContent = text;
    const isUnread = this.#unread.cursors.has(event.cursor);
    const item = createElement("li", { part: isUnread ? "item unread" : "item" }, content);
    const date = new Date(event.created_at);
    if (!Number.isNaN(date.valueOf())) {
      const time = createElement("time", { part: "time", datetime: event.created_at });
      time.textContent = date.toLocaleString(this.lang || document.documentElement.lang || undefined);
      item.append(time);
    }
    return item;
  }

  /** Announce several lines as their number: a screen reader would read them for minutes. @param {string} text */
  #announce(text) {
    this.#pendingAnnouncements.push(text);
    if (this.#announceTimer) return;
    const wait = Math.max(0, this.#lastAnnouncedAt + ANNOUNCE_INTERVAL - Date.now());
    this.#announceTimer = setTimeout(() => {
      const texts = this.#pendingAnnouncements.splice(0);
      this.#announceTimer = 0;
      this.#lastAnnouncedAt = Date.now();
      this.#announcement.textContent = texts.length === 1 ? texts[0] : this.#texts.news(texts.length);
    }, wait);
  }

  #render() {
    this.#state.textContent = this.#texts.states[this.#activeClient?.state.name ?? "stopped"];
    this.#state.dataset.state = this.#activeClient?.state.name ?? "stopped";
    this.#heading.textContent = this.#title;
    this.#empty.textContent = this.#texts.empty;
    this.#empty.hidden = this.#list.children.length > 0;
    this.#list.hidden = !this.#empty.hidden;
    this.#renderCount();
  }

  get #title() {
    return this.getAttribute("label") ?? this.#texts.title;
  }

  #renderCount() {
    const { unread } = this;
    this.#count.hidden = unread === 0;
    this.#count.textContent = unread > MAX_COUNT ? `${MAX_COUNT}+` : String(unread);
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
function createElement(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function createBell() {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  const path = document.createElementNS(namespace, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", BELL_PATH);
  svg.append(path);
  return svg;
}

if (globalThis.customElements && !customElements.get("org-notifications")) {
  customElements.define("org-notifications", OrgNotifications);
}
