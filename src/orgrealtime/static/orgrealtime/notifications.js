/**
 * `<org-notifications org="acme" since="…">`: a bell with an unread count, and the list behind it, which `panel.js` has:
 * it is loaded when somebody turns to the bell.
 *
 * What an event says is set as text, never as HTML. Works under a Content-Security-Policy without 'unsafe-inline' and
 * under Trusted Types: no style attributes, no parsed HTML.
 *
 * @module orgrealtime/notifications
 */

import { connect } from "./client.js";

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
 * @typedef {object} Texts
 * @property {string} title
 * @property {string} empty
 * @property {string} markAllRead
 * @property {string} markRead
 * @property {string} close
 * @property {string} unavailable  said in place of a list that can't be loaded
 * @property {Counted} unread
 * @property {Counted} news
 * @property {Record<string, string>} states
 */

/** What is said without the list, whose texts are in its module. */
const TEXTS = {
  title: "Notifications",
  unavailable: "The list can't be loaded. Try again, or reload the page.",
  /** @type {Counted} */ unread: "{count} unread",
  /** @type {Counted} */ news: { one: "{count} new notification", other: "{count} new notifications" },
};

const MAX_ARRIVED = 500; // as many as the list may have
const MAX_COUNT = 99;
const MAX_CURSORS = 600;
// Milliseconds.
const ANNOUNCE_INTERVAL = 3_000;
const NOTHING_TO_FOLLOW_AFTER = 5_000;
const SAVE_INTERVAL = 250;
// A mark of an event only grows, so that of two tabs' marks the greater one holds.
const NEW = 0;
const SEEN = 1;
const READ = 2;
// These close the list when the user turns to something else: events that come then are new.
const CLOSING_EVENTS = ["pointerdown", "focusin", "visibilitychange"];
// These tell that somebody may be about to open the list.
const APPROACHING_EVENTS = ["pointerenter", "focus"];

const STYLE =
  ":host { display: inline-block; font: 0.9375rem/1.4 system-ui, sans-serif; } " +
  ":host([hidden]), [hidden] { display: none !important; } " +
  "button { background: none; border: 0; color: inherit; font: inherit; padding: 0.5rem; position: relative; } " +
  "svg { " +
  "display: block; fill: none; height: var(--orgrealtime-icon-size, 1.5rem); stroke: currentColor; stroke-linecap: round; " +
  "stroke-linejoin: round; stroke-width: 1.8; width: var(--orgrealtime-icon-size, 1.5rem); } " +
  '[part="count"] { ' +
  "background: var(--orgrealtime-badge, #c81e1e); border: 1px solid transparent; border-radius: 1rem; " +
  "color: var(--orgrealtime-badge-text, #fff); font-size: 0.6875rem; font-weight: 600; inset: 0 0 auto auto; " +
  "line-height: 1rem; min-width: 0.625rem; padding: 0 0.25rem; position: absolute; text-align: center; } " +
  '[part="announcement"] { ' +
  "clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; white-space: nowrap; width: 1px; }";

const SVG = "http://www.w3.org/2000/svg";
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
    const { origin, username, password } = new URL(url);
    return origin === `https://${host}` && !username && !password ? url : undefined;
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
  const keys = Object.keys(event).filter((key) => /(^|_)url$/.test(key));
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
  /** The list, once its module is loaded. @type {InstanceType<typeof import("./panel.js").Panel> | null} */ #panel =
    null;
  /** @type {Format} */ #format = describe;
  /** @type {Partial<Texts> & typeof TEXTS} */ #texts = TEXTS;
  #isAttached = false;
  /** @type {Array<() => void>} */ #cleanups = [];
  #unread = new UnreadEvents("");
  /** Set while it is counted. @type {(() => void) | null} */ #endCounting = null;
  /** Who has logged in since the page was made. @type {string | number | undefined} */ #otherUser;
  /** What has come since it was drawn last, the newest last. @type {Array<[RealtimeEvent, Line]>} */ #arrived = [];
  #isDrawingDue = false;
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
  #badge = createElement("span", { part: "count", "aria-hidden": "true", hidden: "" });
  /** Where the list comes. */ #section = createElement("section", {
    part: "panel",
    id: "panel",
    popover: "manual",
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
    this.#button.append(createIcon(BELL_PATH), this.#badge);
    root.append(this.#button, this.#section, this.#announcement);
    this.#button.addEventListener("click", () => {
      this.open = !this.open;
    });
    for (const type of APPROACHING_EVENTS) this.#button.addEventListener(type, () => this.#makePanel().catch(() => {}));
    root.addEventListener("keydown", (event) => this.#onKey(/** @type {KeyboardEvent} */ (event)));
  }

  connectedCallback() {
    for (const name of /** @type {const} */ (["client", "format", "texts"])) this.#upgradeProperty(name);
    this.#isAttached = true;
    for (const type of CLOSING_EVENTS) document.addEventListener(type, this.#closeIfOutside);
    this.#start();
  }

  disconnectedCallback() {
    this.open = false;
    this.#isAttached = false;
    for (const type of CLOSING_EVENTS) document.removeEventListener(type, this.#closeIfOutside);
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
    this.#texts = { ...TEXTS, ...texts };
    this.#draw();
  }

  /** How many events have come since the list was open last: the number on the bell. */
  get unread() {
    return this.#unread.count;
  }

  /** Whether the list is shown. Opening it sets the count to zero. */
  get open() {
    return this.#button.getAttribute("aria-expanded") === "true";
  }

  set open(isOpen) {
    if (isOpen === this.open || !this.#isAttached) return;
    this.#button.setAttribute("aria-expanded", String(isOpen));
    if (this.#panel || !isOpen) this.#show(isOpen);
    else this.#makePanel().catch((error) => this.open && this.#showFailure(error));
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
      console.error("<org-notifications texts>: this is no JSON:", json);
    }
  }

  /** @param {Event} event */
  #closeIfOutside = (event) => {
    if (!event.composedPath().includes(this)) this.open = false;
  };

  /** Have the list, and show it if that is waited for. */
  async #makePanel() {
    const { Panel } = await import("./panel.js");
    if (this.#panel) return;
    this.#panel = new Panel([
      this,
      this.#button,
      this.#section,
      createElement,
      createIcon,
      () => this.#unread,
      (event) => this.#toLine(event),
      () => this.#language,
      () => this.#draw(),
    ]);
    if (this.#activeClient) this.#panel.start();
    this.#draw();
    if (this.open) this.#show(true);
  }

  /** @param {boolean} isShown */
  #show(isShown) {
    const section = this.#section;
    // In the top layer nothing of the page can cover or clip it.
    if (section.hidden === isShown) {
      section.hidden = !isShown;
      section[isShown ? "showPopover" : "hidePopover"]?.();
    }
    if (isShown && this.#panel) this.#unread.see();
    this.#draw();
    this.#panel?.toggle();
  }

  /** @param {unknown} error */
  #showFailure(error) {
    console.error("<org-notifications>: the list can't be loaded", error);
    const failure = createElement("p", { part: "unavailable", role: "alert" });
    this.#section.replaceChildren(failure);
    this.#show(true);
    failure.textContent = this.#texts.unavailable;
  }

  #restart() {
    this.#stop();
    this.#clear();
    this.#start();
  }

  #clear() {
    this.#arrived = [];
    this.#panel?.clear();
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
    this.#panel?.start();
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
    this.#panel?.stop();
    if (this.#activeClient && !this.#givenClient) {
      this.#lastPosition.cursor = this.#activeClient.cursor;
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
    const line = this.#toLine(event);
    if (!line) return;
    this.#unread.add(event.cursor, this.open && this.#panel !== null);
    this.#arrived.push([event, line]); // for the list, also if it isn't loaded yet
    if (this.#arrived.length > MAX_ARRIVED) this.#arrived.shift();
    this.#announce(line.actor ? `${line.actor} ${line.text}` : line.text);
    this.#drawSoon();
  }

  /** @param {RealtimeEvent} event @returns {Line | null} */
  #toLine(event) {
    const line = this.#format(event);
    return line && { ...line, url: safeUrl(line.url) };
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
    return Promise.all([...promises, this.#panel?.load()]);
  }

  /** @param {State} state */
  #onState(state) {
    this.#dispatch("state", state);
    this.#count();
    this.#panel?.loadOnce();
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
    this.open = false;
    this.#button.focus();
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
    if (this.#panel) this.#panel.draw(this.#arrived.splice(0));
    const { unread } = this;
    this.#badge.hidden = unread === 0;
    this.#badge.textContent = this.#say("{count}", unread);
    const title = this.getAttribute("label") ?? this.#texts.title;
    const label = unread ? `${title}, ${this.#say(this.#texts.unread, unread)}` : title;
    this.#button.setAttribute("aria-label", label);
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
    try {
      const { lang } = /** @type {HTMLElement} */ (this.closest("[lang]"));
      return Intl.getCanonicalLocales(lang.replaceAll("_", "-"))[0];
    } catch {
      return undefined; // there is none, or none that the browser knows: then it is the browser's
    }
  }
}

/**
 * Which events are new, and which are unread: the same in all tabs, each of which hears of every event.
 *
 * An event is new until the list has been open, and unread until somebody has dealt with it. Both are kept in
 * `localStorage`; a tab without a storage counts for itself.
 */
class UnreadEvents {
  #key;
  /** Of the organisation and the user. */ name;
  /** The last events, the oldest first. @type {Map<string, number>} */ #marks = new Map();
  /** Set while a change is to be written: one write for all changes of a moment. */ #saveTimer = 0;
  #savedAt = 0;
  /** Whether the storage keeps what is written to it. */ #isPersistent = true;
  #changed = () => {};

  /** @param {string} name  of the organisation and the user */
  constructor(name) {
    this.name = name;
    this.#key = `orgrealtime.unread ${name}`;
  }

  /** How many events are new. */
  get count() {
    return [...this.#loaded.values()].filter((mark) => mark === NEW).length;
  }

  /** Those that somebody has still to deal with. */
  get cursors() {
    const cursors = [...this.#loaded.keys()];
    return new Set(cursors.filter((cursor) => /** @type {number} */ (this.#marks.get(cursor)) < READ));
  }

  /** Count an event as new or seen, unless it is known already. @param {string} cursor @param {boolean} isSeen */
  add(cursor, isSeen) {
    if (!this.#loaded.has(cursor)) this.#mark([cursor], isSeen ? SEEN : NEW);
  }

  /** Nothing is new any more. */
  see() {
    this.#mark(this.#loaded.keys(), SEEN);
  }

  /** Count these events as read; default: all. @param {Iterable<string>} [cursors] */
  read(cursors = this.#loaded.keys()) {
    this.#mark(cursors, READ);
  }

  /** Call back when something has changed; returns a function that ends it. @param {() => void} callback */
  onChange(callback) {
    this.#changed = callback;
    addEventListener("storage", this.#onStorage);
    addEventListener("pagehide", this.#save);
    return () => {
      this.#changed = () => {};
      removeEventListener("storage", this.#onStorage);
      removeEventListener("pagehide", this.#save);
      this.#save();
    };
  }

  get #loaded() {
    if (!this.#saveTimer) this.#load();
    return this.#marks;
  }

  /** @param {Iterable<string>} cursors @param {number} mark */
  #mark(cursors, mark) {
    for (const cursor of [...cursors]) {
      const before = this.#marks.get(cursor) ?? -1;
      if (before >= mark) continue;
      this.#marks.set(cursor, mark);
      const wait = this.#savedAt + SAVE_INTERVAL - Date.now();
      this.#saveTimer ||= setTimeout(this.#save, Math.min(SAVE_INTERVAL, Math.max(0, wait)));
      const [oldest] = this.#marks.keys();
      if (this.#marks.size > MAX_CURSORS) this.#marks.delete(oldest);
    }
  }

  /** @param {StorageEvent} event */
  #onStorage = ({ key }) => {
    if (key !== this.#key) return;
    this.#load();
    this.#changed();
  };

  /** Read the storage. What this tab hasn't written yet counts beside what is stored. */
  #load() {
    if (!this.#isPersistent) return;
    try {
      const marks = new Map(JSON.parse(localStorage.getItem(this.#key) ?? ""));
      for (const [cursor, mark] of this.#saveTimer ? this.#marks : []) {
        marks.set(cursor, Math.max(mark, marks.get(cursor) ?? NEW));
      }
      this.#marks = new Map([...marks].slice(-MAX_CURSORS));
    } catch {
      // Nothing is stored, or rubbish, or the page may not use the storage.
    }
  }

  #save = () => {
    if (!this.#saveTimer) return;
    this.#load();
    clearTimeout(this.#saveTimer);
    this.#saveTimer = 0;
    this.#savedAt = Date.now();
    try {
      localStorage.setItem(this.#key, JSON.stringify([...this.#marks]));
      this.#isPersistent = true;
    } catch {
      // The storage is full, or the page may not use it: from here on this tab counts for itself.
      this.#isPersistent = false;
    }
    this.#changed();
  };
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes
 * @param {...Node} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function createElement(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, ...children);
}

/** @template {Element} E @param {E} element @param {Record<string, string>} attributes @param {...Node} children */
function fill(element, attributes, ...children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** @param {string} shape */
function createIcon(shape) {
  const path = fill(document.createElementNS(SVG, "path"), { d: shape });
  return fill(document.createElementNS(SVG, "svg"), { viewBox: "0 0 24 24", "aria-hidden": "true" }, path);
}

if (globalThis.customElements && !customElements.get("org-notifications")) {
  customElements.define("org-notifications", OrgNotifications);
}
