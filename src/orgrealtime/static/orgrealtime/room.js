/**
 * `<org-room org="acme" room="general">`: the messages of a room of `orgrealtime.chat`, and a field to write in.
 *
 * Of the messages only those around what is in sight are in the document, so that a long history slows nothing down.
 * What people write is set as text, never as HTML. Works under a Content-Security-Policy without 'unsafe-inline' and
 * under Trusted Types: no style attributes, no parsed HTML.
 *
 * @module orgrealtime/room
 */

import { ChatRoom, lengthOf } from "./chat.js";
import { connect } from "./client.js";

/**
 * @typedef {import("./chat.js").ChatError} ChatError
 * @typedef {import("./chat.js").Message} Message
 * @typedef {import("./chat.js").Outgoing} Outgoing
 * @typedef {import("./chat.js").Reaction} Reaction
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Key} Key
 * @typedef {{name: string, initials?: string, color?: string}} Person  color: behind the initials, which are white
 * @typedef {Message & Partial<Pick<Outgoing, "state" | "error">>} Item
 */

const MIN_ROWS = 60;
const PIXELS_PER_ROW = 12; // of the list's height: less than half of what a row has, so that the rows are enough
const END = 40; // pixels from the end that still count as the end
// Milliseconds.
const GROUPED_WITHIN = 5 * 60_000;
const DAY = 24 * 60 * 60_000;
// These tell that somebody begins to look at the page, or no longer does.
const WATCHED_EVENTS = ["focus", "blur", "visibilitychange"];
// These are for the module of the actions.
const ACTING_EVENTS = ["pointerover", "focusin", "click", "keydown"];
/** The states in which nothing comes now: the first two pass. */
const STATES = ["waiting", "offline", "stopped", "unauthenticated", "forbidden"];

const STYLE = `
:host {
  --_line: var(--orgrealtime-border, color-mix(in srgb, currentColor 25%, transparent));
  background: var(--orgrealtime-background, Canvas); color: var(--orgrealtime-text, CanvasText); display: flex;
  flex-direction: column; font: 0.9375rem/1.45 system-ui, sans-serif; height: 30rem;
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; outline-color: var(--orgrealtime-focus); outline-offset: -2px; }
button {
  background: none; border: 1px solid transparent; border-radius: 0.5rem; color: inherit; cursor: pointer; font: inherit;
  font-size: 0.8125rem; padding: 0.125rem 0.5rem;
}
button:hover, article:hover, article:focus-within { background: color-mix(in srgb, currentColor 6%, transparent); }
[part="list"] { flex: 1; overflow: hidden auto; overflow-anchor: none; }
[part="state"], [part="note"], [part="typing"] { font-size: 0.8125rem; padding: 0.5rem 1rem 0; }
[part="typing"] { height: 1.75rem; }
p:empty { padding: 0; }
button:empty { display: none; }
article { padding: 0.125rem 1rem; padding-inline-start: 4rem; position: relative; }
[part~="first"] { margin-top: 0.5rem; }
[part="avatar"] {
  background: var(--_color, #5b6475); border: 1px solid transparent; border-radius: 50%; color: #fff;
  inset-inline-start: 1rem; line-height: 2.125rem; position: absolute; text-align: center; width: 2.25rem;
}
time, small, b { font-size: 0.75rem; }
time, small, [part~="deleted"] > p, [part~="pending"] > p { color: color-mix(in srgb, currentColor 75%, transparent); }
time { margin-inline-start: 0.5rem; }
[part="body"] { overflow-wrap: anywhere; white-space: pre-wrap; }
[part="quote"] { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
b {
  border-top: 1px solid var(--_line); display: block; margin-block: 0.75rem 0.25rem; margin-inline-start: -3rem;
  padding-top: 0.25rem; text-align: center;
}
b::first-letter { text-transform: uppercase; }
[part="new"] { border-color: currentColor; color: var(--orgrealtime-error, light-dark(#b42318, #ff9d93)); }
[part="reaction"] { border-color: var(--_line); margin-inline-end: 0.25rem; }
[aria-pressed="true"] { border: 2px solid var(--orgrealtime-accent, Highlight); font-weight: 600; }
[part="bottom"] { position: relative; }
[part="jump"], [part="send"] {
  background: var(--orgrealtime-accent, Highlight); color: var(--orgrealtime-accent-text, HighlightText); font-weight: 600;
  padding: 0.5rem 0.875rem;
}
[part="jump"] { bottom: 100%; inset-inline-end: 1rem; position: absolute; }
form { align-items: end; display: flex; gap: 0.5rem; margin: 0.25rem 1rem 1rem; }
textarea {
  background: none; border: 1px solid var(--_line); border-radius: 0.5rem; color: inherit; field-sizing: content; flex: 1;
  font: inherit; max-height: 12rem; min-width: 0; padding: 0.5rem 0.75rem; resize: none;
}
textarea::placeholder { color: inherit; opacity: 0.75; }
[part="announcement"] { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; width: 1px; }
`;

/** A server, where the module must be importable, has no HTMLElement. */
const Base = /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? class {});

/** @type {CSSStyleSheet | undefined} */
let sheet;

export class OrgRoom extends Base {
  static observedAttributes = ["org", "room", "messages-url", "share-key", "people", "label", "lang", "texts"];

  /** @type {ChatRoom | null} */ #chat = null;
  /** The page's own client, which the page closes, too. @type {Client | null} */ #givenClient = null;
  /** @type {Record<string, Person>} */ #people = {};
  /** What the page says itself, and, once that is loaded, the rest. @type {Record<string, string>} */ #texts = {};
  #hasTexts = false;
  #isAttached = false;
  #isDrawingDue = false;
  /** Changes when all rows are to be filled anew. */ #look = 0;
  /**
   * What is in the document, by the keys of the items; `look` is what else a row's content depends on.
   *
   * @type {Map<string, {node: HTMLElement, item: Item | null, look: string}>}
   */
  #rows = new Map();
  /** Where the first row's item is. */ #start = 0;
  /** Its message, and where that was. @type {[number | undefined, number]} */ #first = [undefined, 0];
  /** Whether the last row was that of the newest message when it was drawn. */ #isLast = true;
  /** Whether the newest message stays in sight, whatever comes. */ #isAtEnd = true;
  /** Once their module is loaded. @type {InstanceType<typeof import("./actions.js").Actions> | null} */ #actions =
    null;
  #state = h("p", "state", { role: "status" });
  #note = h("p", "note");
  #feed = h("div", "feed", { role: "feed" });
  #list = h("div", "list", {}, this.#note, this.#feed);
  #jump = h("button", "jump", { type: "button" });
  #typing = h("p", "typing");
  #context = h("div", "context", { role: "status" });
  #field = h("textarea", "field", { dir: "auto" });
  #counter = h("small", "counter");
  #button = h("button", "send");
  #form = h("form", "composer", {}, this.#field, this.#counter, this.#button);
  #announcement = h("div", "announcement", { "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    root.adoptedStyleSheets = [sheet];
    const bottom = h("div", "bottom", {}, this.#jump, this.#typing, this.#context, this.#form);
    root.append(this.#state, this.#list, bottom, this.#announcement);
    this.#list.addEventListener("scroll", () => this.#onScroll());
    for (const type of ACTING_EVENTS) this.#feed.addEventListener(type, (event) => this.#act(event));
    this.#jump.addEventListener("click", () => this.#toEnd());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener("keydown", (event) => this.#onFieldKey(event));
    this.#field.addEventListener("input", () => this.#withActions((actions) => actions.measure()));
    new ResizeObserver(() => this.#drawSoon()).observe(this.#list);
  }

  connectedCallback() {
    for (const name of /** @type {const} */ (["client", "people", "texts"])) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name]; // which the page had set before the element was defined
      /** @type {any} */ (this)[name] = value;
    }
    this.#isAttached = true;
    for (const type of WATCHED_EVENTS) addEventListener(type, this.#watch);
    this.#restart();
  }

  disconnectedCallback() {
    for (const type of WATCHED_EVENTS) removeEventListener(type, this.#watch);
    this.#stop();
    this.#isAttached = false;
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "texts") this.texts = JSON.parse(after ?? "{}");
    else if (name === "people") this.people = JSON.parse(document.getElementById(after ?? "")?.textContent ?? "{}");
    else if (name === "label" || name === "lang") this.#drawAnew();
    else if (this.#isAttached) this.#restart();
  }

  /** The client that is followed: the page's, or one that the element makes for itself. @returns {Client | null} */
  get client() {
    return this.#givenClient ?? this.#chat?.client ?? null;
  }

  set client(client) {
    if (client === this.#givenClient) return;
    this.#givenClient = client;
    if (this.#isAttached) this.#restart();
  }

  /** The room that is shown. @returns {ChatRoom | null} */
  get chat() {
    return this.#chat;
  }

  /** Who is who, by the ids of the users. @returns {Record<string, Person>} */
  get people() {
    return this.#people;
  }

  set people(people) {
    this.#people = people;
    this.#drawAnew();
  }

  /** What the element says, by the names in `texts.js`; what isn't given is said in English. @returns {Record<string, string>} */
  get texts() {
    return this.#texts;
  }

  set texts(texts) {
    this.#texts = texts;
    this.#hasTexts = false;
    this.#drawAnew();
  }

  /**
   * One of the texts, or another if there is none of this name.
   *
   * @param {string} name
   * @param {Record<string, unknown>} [values]
   * @param {string} [other]
   */
  #say(name, values = {}, other = "") {
    if (!(name in this.#texts || this.#hasTexts)) this.#loadTexts();
    return (this.#texts[name] ?? other).replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
  }

  async #loadTexts() {
    this.#hasTexts = true;
    const loaded = await import("./texts.js").catch(() => null);
    this.#hasTexts = loaded !== null;
    if (!loaded) return;
    this.#texts = { ...loaded.TEXTS, ...this.#texts };
    this.#drawAnew();
  }

  #restart() {
    this.#stop();
    const names = ["org", "room", "share-key", "messages-url"];
    const [org, room, user, messagesUrl] = names.map((name) => this.getAttribute(name) ?? undefined);
    if (!org || !room) return; // the page's script may set them later
    this.#chat = new ChatRoom({
      org,
      room,
      user,
      messagesUrl,
      client: this.#givenClient ?? ((since) => connect({ org, since, shareKey: user })),
      onChange: () => this.#drawSoon(),
      onMessage: (message) => this.#withActions((actions) => actions.announce(message)),
    });
  }

  #stop() {
    this.#chat?.close();
    this.#chat = null;
    this.#isAtEnd = true;
    this.#actions?.stop();
    this.#drawAnew();
  }

  /** What somebody looks at counts as seen. */
  #watch = () => {
    const isShown = !document.hidden && document.hasFocus() && this.#list.clientHeight > 0;
    if (this.#chat) this.#chat.isWatched = isShown && this.#isAtEnd;
  };

  #drawAnew() {
    this.#look++;
    this.#drawSoon();
  }

  /** Draw at most once a frame, whatever happens meanwhile; in the background not at all. */
  #drawSoon() {
    if (this.#isDrawingDue || !this.#isAttached) return;
    this.#isDrawingDue = true;
    requestAnimationFrame(this.#draw);
  }

  #draw = () => {
    this.#isDrawingDue = false;
    const chat = this.#chat;
    const list = this.#list;
    this.#watch();
    // The first row in sight stays where it is, whatever changes above it.
    const { top } = list.getBoundingClientRect();
    const anchor = [...this.#feed.children].find((node) => node.getBoundingClientRect().bottom > top);
    const before = anchor?.getBoundingClientRect().top ?? 0;
    this.#drawRows();
    const state = STATES.indexOf(chat?.client?.state.name ?? "");
    const isArchived = chat?.info.archived;
    const problem = chat?.problem;
    const isLoading = !chat || chat.isLoading;
    const isEmpty = !this.#rows.size;
    const note = isLoading ? "loading" : isEmpty ? "empty" : chat?.hasOlder ? "" : "beginning";
    setText(this.#state, isArchived || state >= 0 ? this.#say(STATES[state] ?? "archived") : "");
    setText(this.#note, problem ? this.#reason(problem) : note && this.#say(note));
    set(this.#feed, { "aria-label": this.getAttribute("label") ?? this.#say("title"), "aria-busy": isLoading });
    if (this.#isAtEnd) list.scrollTop = list.scrollHeight;
    else if (anchor?.isConnected) list.scrollTop += anchor.getBoundingClientRect().top - before;
    const count = chat?.unread;
    setText(this.#jump, this.#isAtEnd ? "" : this.#say(count ? "news" : "latest", { count }));
    if (chat?.typingCount) this.#withActions((actions) => actions.showTyping());
    else setText(this.#typing, "");
    set(this.#field, { "aria-label": this.#say("field"), placeholder: this.#say("field") });
    setText(this.#button, this.#say("send"));
    this.#form.hidden = Boolean(isArchived || state > 1 || (isEmpty && problem));
    this.#onScroll();
  };

  get #size() {
    return Math.max(MIN_ROWS, Math.ceil(this.#list.clientHeight / PIXELS_PER_ROW));
  }

  /** Have the rows of the items around what is in sight in the document, and no others. */
  #drawRows() {
    const { messages = [], outbox = [], firstNew, hasOlder } = this.#chat ?? {};
    const feed = this.#feed;
    const size = this.#size;
    const total = messages.length + outbox.length;
    const last = Math.max(0, total - size);
    // Older messages may have come before the first row's.
    const [first, firstAt] = this.#first;
    const moved = messages.findIndex(({ message_id }) => message_id === first);
    if (moved < 0) this.#isAtEnd = true;
    this.#start = this.#isAtEnd ? last : Math.min(Math.max(0, this.#start + moved - firstAt), last);
    this.#first = [messages[this.#start]?.message_id, this.#start];
    this.#isLast = this.#start === last;
    const items = [...messages.slice(this.#start, this.#start + size), ...outbox].slice(0, size);
    const keys = items.map((item) => this.#keyOf(item));
    const focused = this.#focused;
    for (const [key, { node }] of this.#rows) {
      if (keys.includes(key)) continue;
      node.remove();
      this.#rows.delete(key);
    }
    let place = feed.firstElementChild;
    /** @type {Item | undefined} */ let above = messages[this.#start - 1];
    items.forEach((item, index) => {
      const row = this.#rows.get(keys[index]) ?? { node: h("article", "message"), item: null, look: "" };
      const { node } = row;
      this.#rows.set(keys[index], row);
      this.#fill(row, item, above, item.message_id === firstNew);
      set(node, { "aria-posinset": this.#start + index + 1, "aria-setsize": hasOlder ? -1 : total, tabindex: -1 });
      if (node === place) place = node.nextElementSibling;
      else feed.insertBefore(node, place);
      above = item;
    });
    const current = this.#rows.get(this.#actions?.current ?? "")?.node ?? feed.lastElementChild;
    if (current) set(current, { tabindex: 0 });
    if (focused && !this.#focused) /** @type {HTMLElement | null} */ (current)?.focus();
  }

  get #focused() {
    return /** @type {ShadowRoot} */ (this.shadowRoot).activeElement;
  }

  /** The same before and after the server has it. @param {Item} item */
  #keyOf(item) {
    return `${((item.state || this.#chat?.isMe(item.author)) && item.client_message_id) || item.message_id}`;
  }

  /** @param {{node: HTMLElement, item: Item | null, look: string}} row @param {Item} item @param {Item | undefined} above @param {boolean} isNew */
  #fill(row, item, above, isNew) {
    const language = this.#language;
    const date = new Date(item.created_at);
    const dateAbove = new Date(above?.created_at ?? 0);
    const { author, version, deleted, reply_to, reactions, state = "", error } = item;
    const isSystem = author === null;
    const isOtherDay = date.toDateString() !== dateAbove.toDateString();
    const isLater = Number(date) - Number(dateAbove) > GROUPED_WITHIN;
    const isFirst = isNew || isOtherDay || isLater || isSystem || author !== above?.author;
    const look = [this.#look, isNew, isOtherDay, isFirst, state, error?.code].join();
    if (row.item === item && row.look === look) return;
    row.item = item;
    row.look = look;
    const name = this.#nameOf(author);
    const time = date.toLocaleTimeString(language, { timeStyle: "short" });
    const body = deleted ? this.#say("deleted") : item.body;
    const edited = version > 1 && !deleted && this.#say("edited");
    const isRefused = error && error.code !== "unavailable";
    const status = isRefused ? this.#reason(error) : state === "pending" && this.#say("pending");
    const quoted = reply_to && this.#chat?.messages.find(({ message_id }) => message_id === reply_to);
    const isMine = this.#chat?.isMe(author);
    const kinds = [isFirst && "first", isMine && "own", deleted && "deleted", isSystem && "system", state];
    set(row.node, {
      part: ["message", ...kinds].filter(Boolean).join(" "),
      "aria-label": [`${name}: ${body}`, time, edited, status].filter(Boolean).join(", "),
    });
    const hasHead = isFirst && !isSystem;
    const isFailed = state === "failed";
    row.node.replaceChildren();
    put(
      row.node,
      isOtherDay && h("b", "day", {}, this.#dayOf(date, language)),
      isNew && h("b", "new", {}, this.#say("newMessages")),
      hasHead && this.#avatar(author, name),
      hasHead && h("strong", "author", { dir: "auto" }, name),
      hasHead && h("time", "time", { datetime: item.created_at }, time),
      quoted && h("small", "quote", { dir: "auto" }, `${this.#nameOf(quoted.author)}: ${quoted.body}`),
      h("p", "body", { dir: "auto" }, body),
      edited && h("small", "edited", {}, edited),
      status && h("small", "status", {}, status),
      isFailed && h("button", "retry", {}, this.#say("retry")),
      isFailed && h("button", "discard", {}, this.#say("discard")),
      ...reactions.map((reaction) => this.#reaction(reaction)),
    );
    if (this.#actions?.current === this.#keyOf(item)) this.#actions.offer(row);
  }

  /** @param {Key | null | undefined} id */
  #nameOf(id) {
    return id === null ? this.#say("system") : (this.#people[id ?? ""]?.name ?? this.#say("user", { id }));
  }

  /** @param {Key | null | undefined} id @param {string} name */
  #avatar(id, name) {
    const { initials = [...name][0], color = "" } = this.#people[id ?? ""] ?? {};
    const avatar = h("span", "avatar", { "aria-hidden": true }, initials);
    avatar.style.setProperty("--_color", color);
    return avatar;
  }

  /** @param {Date} date @param {string | undefined} language */
  #dayOf(date, language) {
    const days = Math.ceil((new Date().setHours(0, 0, 0, 0) - Number(date)) / DAY);
    return days > 1
      ? date.toLocaleDateString(language, { dateStyle: "full" })
      : new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(-days, "day");
  }

  /** @param {Reaction} reaction */
  #reaction({ emoji, count, mine, users = [] }) {
    const title = users.map((id) => this.#nameOf(id)).join(", ");
    return h("button", "reaction", { "aria-pressed": mine, "data-emoji": emoji, title }, `${emoji} ${count}`);
  }

  /** Why something isn't done. @param {ChatError} error */
  #reason({ code, message, limit, retry_after_ms = 0 }) {
    return this.#say(code, { limit, seconds: Math.ceil(retry_after_ms / 1000) }, message ?? code);
  }

  /** Have the module of the actions deal with an event. @param {Event} event */
  #act(event) {
    const target = /** @type {HTMLElement} */ (event.target); // as long as it is dispatched
    this.#withActions((actions) => actions.handle(event, target));
  }

  /** At once, if the module is loaded. @param {(actions: InstanceType<typeof import("./actions.js").Actions>) => void} use */
  async #withActions(use) {
    if (!this.#actions) {
      const loaded = await import("./actions.js").catch(() => null); // the next time, if the page is offline now
      this.#actions ??=
        loaded &&
        new loaded.Actions({
          element: this,
          h,
          lengthOf,
          rows: () => this.#rows,
          say: (name, values) => this.#say(name, values),
          nameOf: (id) => this.#nameOf(id),
          reason: (error) => this.#reason(error),
        });
    }
    if (this.#actions) use(this.#actions);
  }

  #submit() {
    const { value } = this.#field;
    const chat = this.#chat;
    if (!chat || !value.trim() || lengthOf(value) > chat.limit || this.#actions?.save()) return;
    chat.send(value, this.#actions?.replyTo?.message_id);
    this.#field.value = "";
    this.#actions?.cancel();
    this.#toEnd();
  }

  #toEnd() {
    this.#isAtEnd = true;
    this.#drawSoon();
  }

  /** Have more in the document, or loaded, where the end of what there is comes into sight. */
  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#list;
    const isLast = this.#isLast;
    const left = scrollHeight - scrollTop - clientHeight;
    const step = Math.ceil(this.#size / 3);
    const start = this.#start;
    const wasAtEnd = this.#isAtEnd;
    this.#isAtEnd = isLast && left < END;
    if (scrollTop < clientHeight / 2) {
      if (start) this.#start -= step;
      else this.#chat?.loadOlder();
    } else if (left < clientHeight / 2 && !isLast) this.#start += step;
    if (start !== this.#start || wasAtEnd !== this.#isAtEnd) this.#drawSoon();
  }

  /** @param {KeyboardEvent} event */
  #onFieldKey(event) {
    if (event.isComposing || event.keyCode === 229) return; // the key is the input method's
    if (event.key !== "Enter" || event.shiftKey) this.#act(event);
    else {
      event.preventDefault();
      this.#submit();
    }
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

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} part
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children  strings become text
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function h(tag, part, attributes, ...children) {
  const element = document.createElement(tag);
  set(element, { part, ...attributes });
  put(element, ...children);
  return element;
}

/** @param {Element} element @param {...(Node | string | false | null | undefined | 0)} children  those that there are */
function put(element, ...children) {
  element.append(.../** @type {(Node | string)[]} */ (children.filter(Boolean)));
}

/** @param {Element} element @param {Record<string, any>} attributes */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

/** Only if it is another: what is written anew is read aloud anew. @param {HTMLElement} element @param {string} text */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

if (globalThis.customElements && !customElements.get("org-room")) customElements.define("org-room", OrgRoom);
