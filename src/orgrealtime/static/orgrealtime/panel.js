/**
 * The list behind the bell of `<org-notifications>`, which loads this module when somebody turns to the bell.
 *
 * It imports nothing: what it shares with the element it is given, so that no page loads the element's module twice.
 *
 * @module orgrealtime/panel
 */

/**
 * Types by `@import`: Django takes an import type in a comment for code, and can't hash modules that import each other.
 *
 * @import { Client, RealtimeEvent } from "./client.js"
 * @import { Line, Texts } from "./notifications.js"
 * @typedef {<Tag extends keyof HTMLElementTagNameMap>(tag: Tag, attributes: Record<string, string>, ...children: Node[]) =>
 *   HTMLElementTagNameMap[Tag]} CreateElement
 * @typedef {{client: Client | null, open: boolean, texts: Partial<Texts>, markRead(): void}} Followed
 *   as much of the element as the list uses
 * @typedef {[
 *   element: HTMLElement & Followed,
 *   button: HTMLElement,
 *   section: HTMLElement,
 *   createElement: CreateElement,
 *   createIcon: (shape: string) => SVGElement,
 *   unread: () => {cursors: Set<string>, read: (cursors: string[]) => void},
 *   toLine: (event: RealtimeEvent) => Line | null,
 *   language: () => string | undefined,
 *   draw: () => void,
 * ]} Bell  the button opens the list, which comes into the section; a line's link is safe, and null isn't shown; `draw`
 *   draws what has changed, here and in the element
 */

const TEXTS = {
  empty: "Nothing yet",
  markAllRead: "Mark all as read",
  markRead: "Mark as read",
  close: "Close",
};
/** @type {Record<string, string>} */
const STATES = {
  connecting: "Connecting …",
  "catching-up": "Catching up …",
  live: "Live",
  stuck: "Not responding",
  waiting: "Reconnecting …",
  offline: "Offline",
  stopped: "Stopped",
  unauthenticated: "Signed out",
  forbidden: "No access",
};

const FIRST_LINES = 50;
const MAX_LINES = 500; // as many as the catch-up view gives at a time
const GAP = 8; // pixels between the panel and the window's edges
const COMFORTABLE_HEIGHT = 320; // pixels
// Milliseconds.
const TIMES_INTERVAL = 30_000;
const MINUTE = 60_000;
const WEEK = 7 * 24 * 60 * MINUTE;
/** @type {Array<[Intl.RelativeTimeFormatUnit, number]>} */
const UNITS = [
  ["day", 24 * 60 * MINUTE],
  ["hour", 60 * MINUTE],
  ["minute", MINUTE],
];
const MOVING_EVENTS = ["scroll", "resize"];
const AS_CAPTURE = { capture: true }; // scrolling of an inner box doesn't bubble

const STYLE = `
:focus-visible { outline: 2px solid var(--orgrealtime-focus, currentColor); outline-offset: -2px; }
button { border-radius: var(--orgrealtime-radius, 0.5rem); cursor: pointer; }
button:hover { background: color-mix(in srgb, currentColor 10%, transparent); }
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
a:focus-visible::after { outline: 2px solid var(--orgrealtime-focus, currentColor); outline-offset: -2px; }
[part="dot"] { align-self: center; flex: none; height: 1.5rem; padding: 0; visibility: hidden; width: 1.5rem; }
[part~="unread"] > [part="dot"] { visibility: visible; }
[part="dot"]::before {
  background: var(--orgrealtime-dot, var(--orgrealtime-link, LinkText)); border-radius: 50%; content: ""; display: block;
  forced-color-adjust: none; height: 0.625rem; margin: auto; width: 0.625rem;
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

/** @type {CSSStyleSheet | undefined} */
let sheet;

export class Panel {
  #bell;
  #element;
  #section;
  #hasLoadedRecent = false;
  /** The lines by the cursors of their events. @type {Map<string, HTMLElement>} */ #lines = new Map();
  /** How many lines the list may have. */ #capacity = FIRST_LINES;
  /** Whether there are older events than those of the list. */ #hasOlder = false;
  /** Stands for the answer that is waited for. @type {object | null} */ #loading = null;
  #timesTimer = 0;
  #heading;
  #state;
  #action;
  #close;
  #list;
  #empty;

  /** @param {Bell} bell */
  constructor(bell) {
    const [element, button, section, createElement, createIcon, unread, toLine, language, draw] = bell;
    this.#bell = { button, createElement, unread, toLine, language, draw };
    this.#element = element;
    this.#section = section;
    this.#heading = createElement("h2", { id: "heading" });
    this.#state = createElement("span", { part: "state" });
    this.#action = createElement("button", { type: "button", part: "action", hidden: "" });
    this.#close = createElement("button", { type: "button", part: "close" }, createIcon("M6 6l12 12M18 6L6 18"));
    this.#list = createElement("ul", { part: "list", tabindex: "0", "aria-labelledby": "heading", hidden: "" });
    this.#empty = createElement("p", { part: "empty" });
    const header = createElement("header", { part: "header" }, this.#heading, this.#state, this.#action, this.#close);
    section.setAttribute("aria-labelledby", "heading");
    section.replaceChildren(header, this.#empty, this.#list);
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    /** @type {ShadowRoot} */ (element.shadowRoot).adoptedStyleSheets.push(sheet);
    this.#action.addEventListener("click", () => {
      element.markRead();
      this.#list.focus(); // the button goes
    });
    this.#close.addEventListener("click", () => {
      element.open = false;
      button.focus();
    });
    this.#list.addEventListener("click", (event) => this.#onLineClick(event));
    this.#list.addEventListener("scroll", () => this.#loadOlder());
  }

  /** Follow the element's client, which may be another one than before. */
  start() {
    this.#hasLoadedRecent = false;
    this.loadOnce();
  }

  stop() {
    this.#loading = null;
  }

  clear() {
    this.#lines.clear();
    this.#list.replaceChildren();
    this.#capacity = FIRST_LINES;
    this.#hasOlder = false;
    this.#loading = null;
  }

  /** What there is to do when the list has been shown, or hidden. */
  toggle() {
    clearInterval(this.#timesTimer);
    const { open } = this.#element;
    for (const type of MOVING_EVENTS) {
      removeEventListener(type, this.#place, AS_CAPTURE);
      if (open) addEventListener(type, this.#place, AS_CAPTURE);
    }
    if (!open) return;
    this.#timesTimer = setInterval(() => this.#showTimes(), TIMES_INTERVAL);
    this.#showTimes();
    this.#place();
    this.#loadOlder();
  }

  /** @param {Array<[RealtimeEvent, Line]>} arrived  what has come since it was drawn last, the newest last */
  draw(arrived) {
    for (const [event, line] of arrived.slice(-this.#capacity)) {
      if (!this.#lines.has(event.cursor)) this.#list.prepend(this.#createLine(event, line));
    }
    while (this.#list.children.length > this.#capacity) {
      const last = /** @type {HTMLElement} */ (this.#list.lastElementChild);
      this.#lines.delete(last.dataset.cursor ?? "");
      last.remove();
    }
    const unread = this.#bell.unread().cursors;
    for (const [cursor, line] of this.#lines) {
      line.setAttribute("part", unread.has(cursor) ? "item unread" : "item");
    }
    const texts = { ...TEXTS, ...this.#element.texts };
    const state = this.#element.client?.state.name ?? "stopped";
    this.#state.textContent = texts.states?.[state] ?? STATES[state];
    this.#state.dataset.state = state;
    this.#heading.textContent = this.#element.getAttribute("label") ?? texts.title ?? "";
    this.#empty.textContent = texts.empty;
    this.#empty.hidden = this.#lines.size > 0;
    this.#list.hidden = !this.#empty.hidden;
    this.#action.textContent = texts.markAllRead;
    this.#action.hidden = unread.size === 0;
    this.#close.setAttribute("aria-label", texts.close);
  }

  /** Put the panel below the bell, or above it where there is more room, and into the window. */
  #place = () => {
    const { left, right, top, bottom } = this.#bell.button.getBoundingClientRect();
    const { clientWidth, clientHeight } = document.documentElement;
    const width = this.#section.offsetWidth;
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
      this.#section.style.setProperty(`--_${name}`, value === false ? "auto" : `${value}px`);
    }
  };

  /** Load the older events after all newer ones have come, so that they belong below the list's lines. */
  loadOnce() {
    if (this.#hasLoadedRecent || this.#element.client?.state.name !== "live") return;
    this.#hasLoadedRecent = true;
    this.load();
  }

  /** Load more when the end of the list comes into sight. */
  #loadOlder() {
    const { scrollTop, scrollHeight, clientHeight } = this.#list;
    const isNearEnd = scrollTop + 2 * clientHeight >= scrollHeight;
    if (this.#element.open && isNearEnd && this.#hasOlder && !this.#loading) this.load(this.#capacity * 2);
  }

  /** List the newest events, also from before the page was loaded: some may be unread. @param {number} [wanted] */
  async load(wanted = FIRST_LINES) {
    const limit = Math.min(wanted, MAX_LINES);
    const loading = {};
    this.#loading = loading; // a later question, or a restart, makes this one's answer worthless
    try {
      const events = await this.#element.client?.recent(limit);
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
    this.#bell.draw();
    // What is above the first line that is known comes through the client.
    const known = events.findIndex(({ cursor }) => this.#lines.has(cursor));
    for (const event of events.slice(known + 1)) {
      if (this.#lines.size >= this.#capacity) break;
      const line = this.#bell.toLine(event);
      if (line && !this.#lines.has(event.cursor)) this.#list.append(this.#createLine(event, line));
    }
    this.#bell.draw();
  }

  /** Whoever follows a line, or presses its dot, has read it. @param {Event} event */
  #onLineClick(event) {
    const path = /** @type {HTMLElement[]} */ (event.composedPath());
    const cursor = path.find((node) => node.dataset?.cursor)?.dataset.cursor;
    if (!cursor) return;
    this.#bell.unread().read([cursor]);
    this.#bell.draw();
    if (path[0].getAttribute("part") === "dot") this.#list.focus(); // the dot goes
  }

  /** @param {RealtimeEvent} event @param {Line} line */
  #createLine(event, { text, url, actor }) {
    const { createElement } = this.#bell;
    const content = url ? createElement("a", { part: "link", href: url }) : createElement("span", { part: "text" });
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
      showTime(time, this.#bell.language());
      body.append(time);
    }
    const label = this.#element.texts.markRead ?? TEXTS.markRead;
    item.append(createElement("button", { type: "button", part: "dot", title: label, "aria-label": label }));
    item.dataset.cursor = event.cursor;
    this.#lines.set(event.cursor, item);
    return item;
  }

  #showTimes() {
    for (const time of this.#list.querySelectorAll("time")) showTime(time, this.#bell.language());
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
