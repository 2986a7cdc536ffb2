/**
 * `<org-notifications org="acme" since="…">`: a bell with an unread count, and the list behind it.
 *
 * What an event says is set as text, never as HTML. Works under a Content-Security-Policy without 'unsafe-inline' and
 * under Trusted Types: no style attributes, no parsed HTML.
 *
 * @module orgrealtime/notifications
 */

import { connect } from "./client.js";
import { UnreadEvents } from "./unread.js";

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Options} Options
 * @typedef {import("./client.js").RealtimeEvent} RealtimeEvent
 * @typedef {import("./client.js").Reset} Reset
 * @typedef {import("./client.js").State} State
 * @typedef {import("./client.js").UserChange} UserChange
 * @typedef {{text: string, url?: string | undefined, actor?: string | undefined}} Line  actor: whose name stands before
 * @typedef {(event: RealtimeEvent) => Line | null} Format  null: not shown
 * @typedef {string | Record<string, string> | ((count: number) => string)} Counted  a text with `{count}`, or one for
 *   each plural category of the language ("one", "few", "other" …), or a function
 * @typedef {typeof TEXTS} Texts
 */

const TEXTS = {
  title: "Notifications",
  empty: "Nothing yet",
  markAllRead: "Mark all as read",
  markRead: "Mark as read",
  close: "Close",
  /** @type {Counted} */ unread: "{count} unread",
  /** @type {Counted} */ news: { one: "{count} new notification", other: "{count} new notifications" },
  /** @type {Record<string, string>} */
  states: {
    connecting: "Connecting …",
    "catching-up": "Catching up …",
    live: "Live",
    stuck: "Not responding",
    waiting: "Reconnecting …",
    offline: "Offline",
    stopped: "Stopped",
    unauthenticated: "Signed out",
    forbidden: "No access",
  },
};

const FIRST_LINES = 50;
const MAX_LINES = 500; // as many as the catch-up view gives at a time
const MAX_COUNT = 99;
const GAP = 8; // pixels between the panel and the window's edges
const COMFORTABLE_HEIGHT = 320; // pixels
// Milliseconds.
const ANNOUNCE_INTERVAL = 3_000;
const TIMES_INTERVAL = 30_000;
const NOTHING_TO_FOLLOW_AFTER = 5_000;
const MINUTE = 60_000;
const WEEK = 7 * 24 * 60 * MINUTE;
/** @type {Array<[Intl.RelativeTimeFormatUnit, number]>} */
const UNITS = [
  ["day", 24 * 60 * MINUTE],
  ["hour", 60 * MINUTE],
  ["minute", MINUTE],
];
// These close the list when the user turns to something else: events that come then are new.
const CLOSING_EVENTS = ["pointerdown", "focusin", "visibilitychange"];
const MOVING_EVENTS = ["scroll", "resize"];

const STYLE = `
:host { display: inline-block; font: 0.9375rem/1.4 system-ui, sans-serif; }
:host([hidden]), [hidden] { display: none !important; }
:focus-visible, a:focus-visible::after { outline: 2px solid var(--orgrealtime-focus, currentColor); outline-offset: -2px; }
button {
  background: none; border: 0; border-radius: var(--orgrealtime-radius, 0.5rem); color: inherit; cursor: pointer;
  font: inherit; padding: 0.5rem; position: relative;
}
button:hover { background: color-mix(in srgb, currentColor 10%, transparent); }
svg {
  display: block; fill: none; height: var(--orgrealtime-icon-size, 1.5rem); stroke: currentColor; stroke-linecap: round;
  stroke-linejoin: round; stroke-width: 1.8; width: var(--orgrealtime-icon-size, 1.5rem);
}
[part="count"] {
  background: var(--orgrealtime-badge, #c81e1e); border: 1px solid transparent; border-radius: 1rem;
  color: var(--orgrealtime-badge-text, #fff); font-size: 0.6875rem; font-weight: 600; inset: 0 0 auto auto;
  line-height: 1rem; min-width: 0.625rem; padding: 0 0.25rem; position: absolute; text-align: center;
}
[part="panel"] {
  background: var(--orgrealtime-background, Canvas); border: 1px solid var(--orgrealtime-border, GrayText);
  border-radius: var(--orgrealtime-radius, 0.5rem); box-shadow: 0 0.5rem 1.5rem rgb(0 0 0 / 0.25);
  box-sizing: border-box; color: var(--orgrealtime-text, CanvasText); display: flex; flex-direction: column;
  inset: var(--_top) auto var(--_bottom) var(--_left); margin: 0; max-height: var(--_room);
  max-width: calc(100vw - 1rem); overflow: hidden; padding: 0; position: fixed; text-align: start;
  width: var(--orgrealtime-width, 24rem); z-index: var(--orgrealtime-z-index, 10);
}
[part="header"] { align-items: center; display: flex; gap: 0.5rem; padding: 0.5rem 0.5rem 0.5rem 1rem; }
h2 { font-size: 1rem; margin: 0 auto 0 0; padding: 0.25rem 0; }
[part="action"] { color: var(--orgrealtime-link, LinkText); font-size: 0.8125rem; padding: 0.25rem 0.5rem; }
[part="close"] { display: none; line-height: 1; }
[part="state"], time { font-size: 0.8125rem; opacity: 0.8; }
[data-state="live"] { display: none; }
[part="empty"] { margin: 0; padding: 1.5rem 1rem 2rem; text-align: center; }
ul {
  list-style: none; margin: 0; max-height: var(--orgrealtime-height, 26rem); overflow: auto; overscroll-behavior: contain;
  padding: 0;
}
li {
  border-top: 1px solid color-mix(in srgb, currentColor 15%, transparent); display: flex; gap: 0.75rem;
  overflow-wrap: anywhere; padding: 0.625rem 0.5rem 0.625rem 1rem; position: relative;
}
li:has(a):hover { background: color-mix(in srgb, currentColor 6%, transparent); }
li[part~="unread"] { background: var(--orgrealtime-unread, color-mix(in srgb, Highlight 8%, transparent)); }
[part="avatar"] {
  background: color-mix(in srgb, currentColor 14%, transparent); border: 1px solid transparent; border-radius: 50%;
  flex: none; font-weight: 600; height: 2rem; line-height: 2rem; text-align: center; width: 2rem;
}
[part="body"] { flex: 1; min-width: 0; }
p[dir] { display: -webkit-box; margin: 0; overflow: hidden; -webkit-box-orient: vertical; -webkit-line-clamp: 4; }
a { color: var(--orgrealtime-link, LinkText); }
[part="actor"] + a { color: inherit; text-decoration: none; }
a::after { content: ""; inset: 0; position: absolute; }
a:focus-visible { outline: none; }
[part="dot"] { align-self: center; flex: none; height: 1.5rem; padding: 0; visibility: hidden; width: 1.5rem; }
[part~="unread"] > [part="dot"] { visibility: visible; }
[part="dot"]::before {
  background: var(--orgrealtime-dot, var(--orgrealtime-link, LinkText)); border-radius: 50%; content: ""; display: block;
  forced-color-adjust: none; height: 0.625rem; margin: auto; width: 0.625rem;
}
[part="announcement"] {
  clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; white-space: nowrap; width: 1px;
}
@media (max-width: 30rem), (max-height: 30rem) {
  [part="panel"][part] {
    border-radius: 1rem 1rem 0 0; inset: auto 0 0; margin: 0 auto; max-height: calc(100dvh - 1rem); max-width: 40rem;
    padding-bottom: env(safe-area-inset-bottom); width: 100%;
  }
  [part="panel"]::backdrop { background: rgb(0 0 0 / 0.4); }
  ul { max-height: none; }
  [part="close"] { display: block; }
  [part="action"], [part="close"] { min-height: 2.75rem; min-width: 2.75rem; }
}
@media (forced-colors: active) { [part="dot"]::before { background: Highlight; } li[part~="unread"] { border-inline-start: 4px solid Highlight; } }
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
 * after its `actor_name`, with the first safe link of `url` and `…_url`.
 *
 * @type {Format}
 */
export function describe(event) {
  const given = [event.text, event.message].find(isText);
  const actor = isText(event.actor_name) ? event.actor_name : undefined;
  const words = event.type.replace(/[_.:-]+/g, " ").trim();
  const keys = Object.keys(event).filter((key) => key === "url" || key.endsWith("_url"));
  const url = keys.map((key) => safeUrl(event[key])).find(Boolean);
  return { text: given ?? words.charAt(0).toUpperCase() + words.slice(1), url, actor };
}

/** @param {unknown} value */
function isText(value) {
  return typeof value === "string" && value.trim() !== "";
}

export class OrgNotifications extends Base {
  static observedAttributes = ["org", "url", "share-key", "label", "lang", "texts"];

  /** The client that the element follows now. @type {Client | null} */ #activeClient = null;
  /** The page's own client, which the page closes, too. @type {Client | null} */ #givenClient = null;
  #hasLoadedRecent = false;
  /** @type {Format} */ #format = describe;
  #texts = TEXTS;
  #isAttached = false;
  /** @type {Array<() => void>} */ #cleanups = [];
  #unread = new UnreadEvents("");
  /** Set while it is counted. @type {(() => void) | null} */ #endCounting = null;
  /** Who has logged in since the page was made. @type {string | number | undefined} */ #otherUser;
  /** What has come since it was drawn last, the newest last. @type {Array<[RealtimeEvent, Line]>} */ #arrived = [];
  #isDrawingDue = false;
  /** The lines by the cursors of their events. @type {Map<string, HTMLElement>} */ #lines = new Map();
  /** How many lines the list may have. */ #capacity = FIRST_LINES;
  /** Whether there are older events than those of the list. */ #hasOlder = false;
  /** Stands for the answer that is waited for. @type {object | null} */ #loading = null;
  /** Where the element's own client was closed. @type {{key: string, cursor: string | null}} */
  #lastPosition = { key: "", cursor: null };
  #lastAnnouncedAt = 0;
  /** @type {string[]} */ #pendingAnnouncements = [];
  #announceTimer = 0;
  #timesTimer = 0;
  #button = createElement("button", {
    type: "button",
    part: "button",
    "aria-expanded": "false",
    "aria-controls": "panel",
  });
  #badge = createElement("span", { part: "count", "aria-hidden": "true", hidden: "" });
  #heading = createElement("h2", { id: "heading" });
  #state = createElement("span", { part: "state" });
  #action = createElement("button", { type: "button", part: "action", hidden: "" });
  #close = createElement("button", { type: "button", part: "close" });
  #list = createElement("ul", { part: "list", tabindex: "0", "aria-labelledby": "heading", hidden: "" });
  #empty = createElement("p", { part: "empty" });
  #panel = createElement("section", {
    part: "panel",
    id: "panel",
    popover: "manual",
    "aria-labelledby": "heading",
    hidden: "",
  });
  #announcement = createElement("div", { part: "announcement", role: "status", "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    root.adoptedStyleSheets = [sheet];
    const header = createElement("header", { part: "header" }, this.#heading, this.#state, this.#action, this.#close);
    this.#button.append(createIcon(BELL_PATH), this.#badge);
    this.#close.append(createIcon("M6 6l12 12M18 6L6 18"));
    this.#panel.append(header, this.#empty, this.#list);
    root.append(this.#button, this.#panel, this.#announcement);
    this.#button.addEventListener("click", () => {
      this.open = !this.open;
    });
    this.#action.addEventListener("click", () => {
      this.markRead();
      this.#list.focus(); // the button goes
    });
    this.#close.addEventListener("click", () => this.#closeByUser());
    this.#list.addEventListener("click", (event) => this.#onLineClick(event));
    this.#list.addEventListener("scroll", () => this.#loadOlder());
    root.addEventListener("keydown", (event) => this.#onKey(/** @type {KeyboardEvent} */ (event)));
  }

  connectedCallback() {
    this.#upgradeProperty("client");
    this.#upgradeProperty("format");
    this.#upgradeProperty("texts");
    this.#isAttached = true;
    for (const type of CLOSING_EVENTS) document.addEventListener(type, this.#closeIfOutside);
    for (const type of MOVING_EVENTS) addEventListener(type, this.#place, true);
    this.#start();
  }

  disconnectedCallback() {
    this.open = false;
    this.#isAttached = false;
    for (const type of CLOSING_EVENTS) document.removeEventListener(type, this.#closeIfOutside);
    for (const type of MOVING_EVENTS) removeEventListener(type, this.#place, true);
    this.#stop();
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "texts") this.#readTexts(after);
    else if (!this.#isAttached) return;
    else if (name === "label" || name === "lang") this.#draw();
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
    this.#draw();
  }

  /** How many events have come since the list was open last: the number on the bell. */
  get unread() {
    return this.#unread.count;
  }

  /** Whether the list is shown. Opening it sets the count to zero. */
  get open() {
    return !this.#panel.hidden;
  }

  set open(isOpen) {
    if (isOpen === this.open || !this.#isAttached) return;
    this.#panel.hidden = !isOpen;
    // In the top layer nothing of the page can cover or clip it.
    this.#panel[isOpen ? "showPopover" : "hidePopover"]?.();
    this.#button.setAttribute("aria-expanded", String(isOpen));
    clearInterval(this.#timesTimer);
    if (!isOpen) return;
    this.#timesTimer = setInterval(() => this.#showTimes(), TIMES_INTERVAL);
    this.#unread.see();
    this.#draw();
    this.#showTimes();
    this.#place();
    this.#loadOlder();
  }

  /** Set the count to zero, and take the marks from the lines. */
  markRead() {
    this.#unread.read();
    this.#draw();
  }

  /** Set what the page had set before the element was defined. @param {"client" | "format" | "texts"} name */
  #upgradeProperty(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete this[name];
    /** @type {any} */ (this)[name] = value;
  }

  /** @param {string | null} json */
  #readTexts(json) {
    try {
      this.texts = JSON.parse(json ?? "{}");
    } catch {
      console.error(`<org-notifications texts>: this is no JSON: ${json}`);
    }
  }

  /** @param {Event} event */
  #closeIfOutside = (event) => {
    const isInside = event.type !== "visibilitychange" && event.composedPath().includes(this);
    if (!isInside) this.open = false;
  };

  #closeByUser() {
    this.open = false;
    this.#button.focus();
  }

  /** Put the panel below the bell, or above it where there is more room, and into the window. */
  #place = () => {
    if (!this.open) return;
    const { left, right, top, bottom } = this.#button.getBoundingClientRect();
    const { clientWidth, clientHeight } = document.documentElement;
    const width = this.#panel.offsetWidth;
    const wanted = right - width < GAP ? left : right - width;
    const below = clientHeight - bottom - GAP;
    const isBelow = below > Math.min(COMFORTABLE_HEIGHT, top);
    const places = {
      left: Math.max(GAP, Math.min(wanted, clientWidth - width - GAP)),
      top: isBelow && bottom + GAP / 2,
      bottom: !isBelow && clientHeight - top + GAP / 2,
      room: (isBelow ? below : top - GAP) - GAP / 2,
    };
    for (const [name, value] of Object.entries(places)) {
      this.#panel.style.setProperty(`--_${name}`, value === false ? "auto" : `${value}px`);
    }
  };

  #restart() {
    this.#stop();
    this.#clear();
    this.#start();
  }

  #clear() {
    this.#arrived = [];
    this.#lines.clear();
    this.#list.replaceChildren();
    this.#capacity = FIRST_LINES;
    this.#hasOlder = false;
    this.#loading = null;
  }

  #start() {
    this.#activeClient = this.#givenClient ?? this.#createClient();
    this.#otherUser = undefined;
    this.#count();
    this.#draw();
    if (!this.#activeClient) {
      const tell = () => console.warn("<org-notifications> follows nothing: give it `org`, `url` or a client", this);
      const timer = setTimeout(tell, NOTHING_TO_FOLLOW_AFTER);
      this.#cleanups.push(() => clearTimeout(timer));
      return;
    }
    this.#hasLoadedRecent = false;
    this.#loadRecentOnce();
    this.#cleanups.push(
      this.#activeClient.on("event", (event) => this.#onEvent(event)),
      this.#activeClient.on("reset", (reset) => this.#onReset(reset)),
      this.#activeClient.on("state", (state) => this.#onState(state)),
      this.#activeClient.on("user", (change) => this.#onUser(change)),
    );
  }

  /** Count for the user whom the client is for. */
  #count() {
    const place = this.getAttribute("org") ?? this.getAttribute("url") ?? "";
    const user = this.#otherUser ?? this.getAttribute("share-key") ?? this.#activeClient?.user ?? "";
    const name = `${place} ${user}`;
    if (this.#endCounting && name === this.#unread.name) return;
    this.#endCounting?.();
    this.#unread = new UnreadEvents(name);
    this.#endCounting = this.#unread.onChange(() => this.#drawSoon());
  }

  #stop() {
    for (const end of this.#cleanups.splice(0)) end();
    this.#endCounting?.();
    this.#endCounting = null;
    this.#silence();
    this.#loading = null;
    if (this.#activeClient && !this.#givenClient) {
      const { cursor } = this.#activeClient;
      this.#lastPosition.cursor = cursor;
      this.#activeClient.close();
    }
    this.#activeClient = null;
  }

  #silence() {
    clearTimeout(this.#announceTimer);
    this.#announceTimer = 0;
    this.#pendingAnnouncements = [];
    this.#announcement.textContent = "";
  }

  #createClient() {
    const option = (/** @type {string} */ name) => this.getAttribute(name) ?? undefined;
    if (!option("org") && !option("url")) return null; // the page's script may set them later
    const key = `${option("org")} ${option("url")} ${option("share-key")}`;
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
    this.#unread.add(event.cursor, this.open);
    this.#arrived.push([event, line]);
    if (this.#arrived.length > MAX_LINES) this.#arrived.shift();
    this.#announce(line.actor ? `${line.actor} ${line.text}` : line.text);
    this.#drawSoon();
  }

  /** Load the older events after all newer ones have come, so that they belong below the list's lines. */
  #loadRecentOnce() {
    if (this.#hasLoadedRecent || this.#activeClient?.state.name !== "live") return;
    this.#hasLoadedRecent = true;
    this.#load(FIRST_LINES);
  }

  /** Load more when the end of the list comes into sight. */
  #loadOlder() {
    const { scrollTop, scrollHeight, clientHeight } = this.#list;
    const isNearEnd = scrollTop + 2 * clientHeight >= scrollHeight;
    if (this.open && isNearEnd && this.#hasOlder && !this.#loading) this.#load(this.#capacity * 2);
  }

  /** List the newest events, also from before the page was loaded: some may be unread. @param {number} wanted */
  async #load(wanted) {
    const limit = Math.min(wanted, MAX_LINES);
    const loading = {};
    this.#loading = loading; // a later question, or a restart, makes this one's answer worthless
    try {
      const events = await this.#activeClient?.recent(limit);
      if (!events || this.#loading !== loading) return;
      this.#capacity = limit;
      this.#hasOlder = events.length >= limit && limit < MAX_LINES;
      this.#appendOlder(events.reverse());
    } catch {
      // Without the older events the list is shorter.
    } finally {
      if (this.#loading === loading) this.#loading = null;
    }
    this.#loadOlder();
  }

  /** @param {RealtimeEvent[]} events  the newest first */
  #appendOlder(events) {
    this.#draw();
    // What is above the first line that is known comes through the client.
    const known = events.findIndex(({ cursor }) => this.#lines.has(cursor));
    for (const event of events.slice(known + 1)) {
      if (this.#lines.size >= this.#capacity) break;
      const line = this.#format(event);
      if (line && !this.#lines.has(event.cursor)) this.#list.append(this.#createLine(event, line));
    }
    this.#draw();
  }

  /** @param {Reset} reset */
  #onReset(reset) {
    /** @type {Array<Promise<unknown>>} */
    const promises = [];
    const waitUntil = (/** @type {Promise<unknown>} */ promise) => void promises.push(promise);
    this.#dispatch("reset", { ...reset, waitUntil });
    // The list may have a gap now. The unread events are of another stream, unless only old events are gone.
    this.#clear();
    if (!["retention", "user"].includes(reset.reason)) this.#unread.read();
    return Promise.all([...promises, this.#load(FIRST_LINES)]);
  }

  /** @param {State} state */
  #onState(state) {
    this.#dispatch("state", state);
    this.#count();
    this.#loadRecentOnce();
    this.#drawSoon();
  }

  /** What was for the first user goes before anything of the second comes. @param {UserChange} change */
  #onUser(change) {
    this.open = false;
    this.#otherUser = change.user;
    this.#silence();
    this.#clear();
    this.#count();
    this.#draw();
    this.#dispatch("user", change);
  }

  /** @param {string} name @param {unknown} detail */
  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(`orgrealtime:${name}`, { bubbles: true, composed: true, detail }));
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key !== "Escape" || !this.open) return;
    event.stopPropagation();
    this.#closeByUser();
  }

  /** Whoever follows a line, or presses its dot, has read it. @param {Event} event */
  #onLineClick(event) {
    const path = /** @type {HTMLElement[]} */ (event.composedPath());
    const cursor = path.find((node) => node.dataset?.cursor)?.dataset.cursor;
    if (!cursor) return;
    this.#unread.read([cursor]);
    this.#draw();
    if (path[0].getAttribute("part") === "dot") this.#list.focus(); // the dot goes
  }

  /** @param {RealtimeEvent} event @param {Line} line */
  #createLine(event, { text, url, actor }) {
    const href = safeUrl(url);
    const content = href ? createElement("a", { part: "link", href }) : createElement("span", { part: "text" });
    content.textContent = text;
    const paragraph = createElement("p", { dir: "auto" }, content);
    const body = createElement("div", { part: "body" }, paragraph);
    const item = createElement("li", { part: "item" }, body);
    if (actor) {
      const name = createElement("strong", { part: "actor", dir: "auto" });
      name.textContent = actor;
      paragraph.prepend(name, " ");
      const avatar = createElement("span", { part: "avatar", "aria-hidden": "true" });
      const [initial = ""] = actor.trim();
      avatar.textContent = initial.toUpperCase();
      item.prepend(avatar);
    }
    if (!Number.isNaN(Date.parse(event.created_at))) {
      const time = createElement("time", { part: "time", datetime: event.created_at });
      showTime(time, this.#language);
      body.append(time);
    }
    const label = this.#texts.markRead;
    item.append(createElement("button", { type: "button", part: "dot", title: label, "aria-label": label }));
    item.dataset.cursor = event.cursor;
    this.#lines.set(event.cursor, item);
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
      this.#announcement.textContent = texts.length === 1 ? texts[0] : this.#say(this.#texts.news, texts.length);
    }, wait);
  }

  /** Draw at most once a frame, however many events come meanwhile. A page in the background has no frames. */
  #drawSoon() {
    if (this.#isDrawingDue) return;
    this.#isDrawingDue = true;
    const draw = () => this.#isDrawingDue && this.#draw();
    if (document.hidden) setTimeout(draw);
    else requestAnimationFrame(draw);
  }

  #draw() {
    this.#isDrawingDue = false;
    for (const [event, line] of this.#arrived.splice(0).slice(-this.#capacity)) {
      if (!this.#lines.has(event.cursor)) this.#list.prepend(this.#createLine(event, line));
    }
    while (this.#list.children.length > this.#capacity) {
      const last = /** @type {HTMLElement} */ (this.#list.lastElementChild);
      this.#lines.delete(last.dataset.cursor ?? "");
      last.remove();
    }
    const unread = this.#unread.cursors;
    for (const [cursor, line] of this.#lines) {
      line.setAttribute("part", unread.has(cursor) ? "item unread" : "item");
    }
    const state = this.#activeClient?.state.name ?? "stopped";
    this.#state.textContent = this.#texts.states[state];
    this.#state.dataset.state = state;
    this.#heading.textContent = this.getAttribute("label") ?? this.#texts.title;
    this.#empty.textContent = this.#texts.empty;
    this.#empty.hidden = this.#lines.size > 0;
    this.#list.hidden = !this.#empty.hidden;
    this.#action.textContent = this.#texts.markAllRead;
    this.#action.hidden = unread.size === 0;
    this.#close.setAttribute("aria-label", this.#texts.close);
    this.#drawCount();
  }

  #drawCount() {
    const { unread } = this;
    this.#badge.hidden = unread === 0;
    this.#badge.textContent = this.#say("{count}", unread);
    const title = this.#heading.textContent;
    const label = unread ? `${title}, ${this.#say(this.#texts.unread, unread)}` : title;
    this.#button.setAttribute("aria-label", label);
  }

  #showTimes() {
    for (const time of this.#list.querySelectorAll("time")) showTime(time, this.#language);
  }

  /** @param {Counted} text @param {number} count */
  #say(text, count) {
    const shown = Math.min(count, MAX_COUNT);
    const category = new Intl.PluralRules(this.#language).select(shown);
    const form = typeof text === "object" ? (text[category] ?? text.other ?? "{count}") : text;
    const said = typeof form === "function" ? form(shown) : form.replace("{count}", String(shown));
    return count > MAX_COUNT ? said.replace(`${MAX_COUNT}`, `${MAX_COUNT}+`) : said;
  }

  /** The language of the element in its page, as far as it is one. @returns {string | undefined} */
  get #language() {
    const lang = /** @type {HTMLElement | null} */ (this.closest("[lang]"))?.lang ?? "";
    try {
      return Intl.getCanonicalLocales(lang.replaceAll("_", "-"))[0];
    } catch {
      return undefined; // then it is the browser's
    }
  }
}

/** By language: to make one takes longer than to use it. @type {Map<string | undefined, Intl.RelativeTimeFormat>} */
const relativeTimes = new Map();

/** @param {HTMLTimeElement} time @param {string | undefined} language */
function showTime(time, language) {
  const date = new Date(/** @type {string} */ (time.getAttribute("datetime")));
  const age = Math.max(0, Date.now() - date.valueOf()); // a server's clock may be ahead
  /** @type {[Intl.RelativeTimeFormatUnit, number]} */
  const [unit, length] = UNITS.find((each) => age >= each[1]) ?? ["second", Infinity];
  const relative = relativeTimes.get(language) ?? new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  relativeTimes.set(language, relative);
  const isOld = age >= WEEK;
  const day = isOld && date.toLocaleDateString(language, { dateStyle: "medium" });
  time.textContent = day || relative.format(-Math.floor(age / length), unit);
  time.setAttribute("title", date.toLocaleString(language));
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

/** @param {string} shape */
function createIcon(shape) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  const path = document.createElementNS(namespace, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", shape);
  svg.append(path);
  return svg;
}

if (globalThis.customElements && !customElements.get("org-notifications")) {
  customElements.define("org-notifications", OrgNotifications);
}
