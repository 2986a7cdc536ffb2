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
 * @typedef {Message | Outgoing} Item
 * @typedef {{node: HTMLElement, item: Item | null, look: string}} Row  look: what else its content depends on
 * @typedef {object} Parts  what the module of the actions is given
 * @property {OrgRoom} element
 * @property {HTMLTextAreaElement} field
 * @property {HTMLElement} context  the line above the field
 * @property {typeof h} setUp
 * @property {typeof button} button
 * @property {typeof fill} fill
 * @property {typeof setText} setText
 * @property {(id: Key | null | undefined) => string} nameOf
 * @property {(error: ChatError) => string} reason
 * @property {() => void} measure
 */

/**
 * What the element itself says; in braces what is put in. The module of the actions has texts of its own.
 *
 * @type {Record<string, string>}
 */
const TEXTS = {
  title: "Messages",
  field: "Write a message",
  send: "Send",
  user: "User {id}",
  system: "System",
  empty: "Nothing has been said here yet.",
  beginning: "This is where the room begins.",
  loading: "Loading …",
  newMessages: "New messages",
  news: "New messages: {count}",
  latest: "To the newest",
  deleted: "This message was deleted.",
  edited: "edited",
  pending: "Sending …",
  retry: "Try again",
  discard: "Discard",
  typing: "{names} is typing …",
  typingMany: "{names} are typing …",
  others: "{count} others",
  waiting: "Not connected. What you write is sent when the connection is back.",
  ended: "Live updates have ended. Reload the page to go on.",
  archived: "This room is archived.",
  forbidden: "You have no access here.",
  conflict: "It has been changed meanwhile.",
  too_long: "A message has at most {limit} characters.",
  rate_limited: "Too many messages. This one is sent in {seconds} s.",
  unavailable: "The server isn't reached. It is tried again.",
};
const MIN_ROWS = 60;
const PIXELS_PER_ROW = 12; // of the list's height: less than half of what a row has, so that the rows are enough
const END = 40; // pixels from the end that still count as the end
const COUNTER_FROM = 0.9; // of the limit
const MAX_LINES = 8;
// Milliseconds.
const GROUPED_WITHIN = 5 * 60_000;
const ANNOUNCE_INTERVAL = 3_000;
const DAY = 24 * 60 * 60_000;
// These tell that somebody begins to look at the page, or no longer does.
const WATCHED_EVENTS = ["focus", "blur", "visibilitychange"];
/** What is said of states in which nothing comes now. @type {Record<string, string>} */
const STATES = {
  stopped: "ended",
  unauthenticated: "ended",
  forbidden: "ended",
  waiting: "waiting",
  offline: "waiting",
};

const STYLE = `
:host {
  --_line: var(--orgrealtime-border, color-mix(in srgb, currentColor 25%, transparent));
  --_soft: color-mix(in srgb, currentColor 75%, transparent);
  background: var(--orgrealtime-background, Canvas); color: var(--orgrealtime-text, CanvasText); display: flex;
  flex-direction: column; font: 0.9375rem/1.45 system-ui, sans-serif; height: 30rem;
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; }
:focus-visible { outline: 2px solid var(--orgrealtime-focus, currentColor); outline-offset: -2px; }
button {
  background: none; border: 1px solid transparent; border-radius: 0.5rem; color: inherit; cursor: pointer; font: inherit;
  font-size: 0.8125rem; padding: 0.125rem 0.5rem;
}
button:hover, article:hover, article:focus-within { background: color-mix(in srgb, currentColor 6%, transparent); }
[part="list"] { flex: 1; overflow: hidden auto; overflow-anchor: none; overscroll-behavior: contain; }
[part="state"], [part="note"], [part="typing"] { font-size: 0.8125rem; padding: 0.5rem 1rem 0; }
article { padding: 0.125rem 1rem; padding-inline-start: 4rem; position: relative; }
[part~="first"] { margin-top: 0.5rem; }
[part="avatar"] {
  background: var(--_color); border: 1px solid transparent; border-radius: 50%; color: #fff; font-weight: 600;
  inset-inline-start: 1rem; line-height: 2.125rem; position: absolute; text-align: center; width: 2.25rem;
}
time, [part="edited"], [part="status"], [part="quote"], [part="counter"], [part~="deleted"], [part~="pending"] { color: var(--_soft); }
time, [part="edited"], [part="status"], [part="quote"], [part="counter"], [part="day"], [part="new"] { font-size: 0.75rem; }
time { margin-inline-start: 0.5rem; }
[part="body"] { overflow-wrap: anywhere; white-space: pre-wrap; }
[part~="failed"] > [part="status"], [aria-invalid="true"] + [part="counter"], [part="new"] {
  color: var(--orgrealtime-error, light-dark(#b42318, #ff9d93));
}
[part="quote"] { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
[part="day"], [part="new"] {
  border-top: 1px solid var(--_line); font-weight: 600; margin-block: 0.75rem 0.25rem; margin-inline-start: -3rem;
  padding-top: 0.25rem; text-align: center;
}
[part="new"] { border-color: currentColor; }
[part="reaction"] { border-color: var(--_line); margin-inline-end: 0.25rem; }
[aria-pressed="true"] { border: 2px solid var(--orgrealtime-accent, Highlight); font-weight: 600; }
[part="bottom"] { position: relative; }
[part="jump"], [part="send"] {
  background: var(--orgrealtime-accent, Highlight); color: var(--orgrealtime-accent-text, HighlightText); font-weight: 600;
  padding: 0.375rem 0.875rem;
}
[part="jump"] { bottom: 100%; inset-inline-end: 1rem; position: absolute; }
form {
  align-items: end; border: 1px solid var(--_line); border-radius: 0.625rem; display: flex; flex-wrap: wrap; gap: 0.25rem;
  margin: 0.5rem 1rem 1rem; padding: 0.25rem;
}
textarea {
  background: none; border: 0; color: inherit; field-sizing: content; flex: 1; font: inherit; max-height: 12rem; min-width: 0;
  padding: 0.375rem 0.5rem; resize: none;
}
textarea::placeholder { color: var(--_soft); }
:disabled { opacity: 0.5; }
[part="announcement"] { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; width: 1px; }
@media (pointer: coarse) { button { min-height: 2.5rem; min-width: 2.5rem; } }
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
  #texts = TEXTS;
  #isAttached = false;
  #isDrawingDue = false;
  /** Changes when all rows are to be filled anew. */ #look = 0;
  /** What is in the document, by the keys of the items. @type {Map<string, Row>} */ #rows = new Map();
  /** Where the first row's item is. */ #start = 0;
  /** Its message, and where that was. @type {[number | undefined, number]} */ #first = [undefined, 0];
  /** Whether the newest message stays in sight, whatever comes. */ #isAtEnd = true;
  /** The key of the row that somebody has turned to. */ #current = "";
  /** Once their module is loaded. @type {InstanceType<typeof import("./actions.js").Actions> | undefined} */ #actions;
  /** What is still to be announced. @type {string[]} */ #news = [];
  #announceTimer = 0;
  #announcedAt = 0;
  #state = h("p", { part: "state", role: "status" });
  #note = h("p", { part: "note" });
  #feed = h("div", { role: "feed" });
  #list = h("div", { part: "list" }, this.#note, this.#feed);
  #jump = h("button", { part: "jump", type: "button" });
  #typing = h("p", { part: "typing" });
  #context = h("div", { part: "context", role: "status" });
  #field = h("textarea", { part: "field", dir: "auto", enterkeyhint: "send" });
  #counter = h("span", { part: "counter" });
  #button = h("button", { part: "send" });
  #form = h("form", { part: "composer" }, this.#context, this.#field, this.#counter, this.#button);
  #announcement = h("div", { part: "announcement", "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    root.adoptedStyleSheets = [sheet];
    const bottom = h("div", { part: "bottom" }, this.#jump, this.#typing, this.#form);
    root.append(this.#state, this.#list, bottom, this.#announcement);
    this.#list.addEventListener("scroll", () => this.#onScroll());
    this.#feed.addEventListener("keydown", (event) => this.#onListKey(event));
    for (const type of ["pointerover", "focusin"]) this.#feed.addEventListener(type, (event) => this.#turnTo(event));
    this.#jump.addEventListener("click", () => this.#toEnd());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener("keydown", (event) => this.#onFieldKey(event));
    this.#field.addEventListener("input", () => {
      if (this.#field.value) this.#chat?.type();
      this.#measure();
    });
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

  /** What the element itself says; give those that shall differ. @returns {Record<string, string>} */
  get texts() {
    return this.#texts;
  }

  set texts(texts) {
    this.#texts = { ...TEXTS, ...texts };
    this.#drawAnew();
  }

  #restart() {
    this.#stop();
    const option = (/** @type {string} */ name) => this.getAttribute(name) ?? undefined;
    const [org, room, user] = ["org", "room", "share-key"].map(option);
    if (!org || !room) return; // the page's script may set them later
    this.#chat = new ChatRoom({
      org,
      room,
      user,
      messagesUrl: option("messages-url"),
      client: this.#givenClient ?? ((since) => connect({ org, since, shareKey: user })),
      onChange: () => this.#drawSoon(),
      onMessage: (message) => this.#announce(message),
    });
  }

  #stop() {
    clearTimeout(this.#announceTimer);
    this.#announceTimer = 0;
    this.#news = [];
    this.#announcement.textContent = "";
    this.#chat?.close();
    this.#chat = null;
    this.#isAtEnd = true;
    this.#actions?.write();
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

  /** Draw at most once a frame, whatever happens meanwhile. A page in the background has no frames. */
  #drawSoon() {
    if (this.#isDrawingDue || !this.#isAttached) return;
    this.#isDrawingDue = true;
    if (document.hidden) setTimeout(this.#draw);
    else requestAnimationFrame(this.#draw);
  }

  #draw = () => {
    this.#isDrawingDue = false;
    const chat = this.#chat;
    const texts = this.#texts;
    const list = this.#list;
    this.#watch();
    // The first row in sight stays where it is, whatever changes above it.
    const { top } = list.getBoundingClientRect();
    const anchor = [...this.#feed.children].find((node) => node.getBoundingClientRect().bottom > top);
    const before = anchor?.getBoundingClientRect().top ?? 0;
    this.#drawRows();
    const state = chat?.info.archived ? "archived" : STATES[chat?.client?.state.name ?? ""];
    const problem = chat?.problem;
    const isLoading = !chat || chat.isLoading;
    const isEmpty = !this.#rows.size;
    const beginning = isEmpty ? texts.empty : chat?.hasOlder ? "" : texts.beginning;
    setText(this.#state, texts[state]);
    setText(this.#note, problem ? this.#reason(problem) : isLoading ? texts.loading : beginning);
    set(this.#feed, { "aria-label": this.getAttribute("label") ?? texts.title, "aria-busy": isLoading });
    if (this.#isAtEnd) list.scrollTop = list.scrollHeight;
    else if (anchor?.isConnected) list.scrollTop += anchor.getBoundingClientRect().top - before;
    setText(this.#jump, this.#isAtEnd ? "" : chat?.unread ? fill(texts.news, { count: chat.unread }) : texts.latest);
    setText(this.#typing, this.#typists());
    set(this.#field, { "aria-label": texts.field, placeholder: texts.field });
    setText(this.#button, texts.send);
    this.#form.hidden = Boolean(state && state !== "waiting") || (isEmpty && Boolean(problem));
    this.#measure();
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
    const hadFocus = feed.contains(this.#focused);
    /** @type {Map<string, Row>} */ const rows = new Map();
    let place = feed.firstElementChild;
    /** @type {Item | undefined} */ let above = messages[this.#start - 1];
    for (const item of [...messages.slice(this.#start, this.#start + size), ...outbox].slice(0, size)) {
      const key = this.#keyOf(item);
      const row = this.#rows.get(key) ?? { node: h("article", {}), item: null, look: "" };
      rows.set(key, row);
      this.#fill(row, item, above, "version" in item && item.message_id === firstNew);
      set(row.node, { "aria-posinset": this.#start + rows.size, "aria-setsize": hasOlder ? -1 : total });
      if (row.node === place) place = place.nextElementSibling;
      else feed.insertBefore(row.node, place);
      above = item;
    }
    for (const [key, { node }] of this.#rows) if (!rows.has(key)) node.remove();
    this.#rows = rows;
    const current = rows.get(this.#current)?.node ?? feed.lastElementChild;
    for (const { node } of rows.values()) node.tabIndex = node === current ? 0 : -1;
    if (hadFocus && !this.#focused) focusOn(current);
  }

  get #focused() {
    return /** @type {ShadowRoot} */ (this.shadowRoot).activeElement;
  }

  /** The same before and after the server has it. @param {Item} item */
  #keyOf(item) {
    return "version" in item && !(item.client_message_id && this.#chat?.isMe(item.author))
      ? `${item.message_id}`
      : `${item.client_message_id}`;
  }

  /** @param {Row} row @param {Item} item @param {Item | undefined} above @param {boolean} isNew */
  #fill(row, item, above, isNew) {
    const texts = this.#texts;
    const language = this.#language;
    const date = new Date(item.created_at);
    const dateAbove = new Date(above?.created_at ?? 0);
    const author = this.#authorOf(item);
    const isSystem = author === null;
    const isOtherDay = date.toDateString() !== dateAbove.toDateString();
    const isLater = Number(date) - Number(dateAbove) > GROUPED_WITHIN;
    const isFirst = isNew || isOtherDay || isLater || isSystem || author !== this.#authorOf(above);
    const message = "version" in item ? item : null;
    const outgoing = "version" in item ? null : item;
    const { state = "", error } = outgoing ?? {};
    const look = [this.#look, isNew, isOtherDay, isFirst, state, error?.code].join();
    if (row.item === item && row.look === look) return;
    row.item = item;
    row.look = look;
    const isDeleted = message?.deleted;
    const name = this.#nameOf(author);
    const time = date.toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
    const body = isDeleted ? texts.deleted : item.body;
    const edited = (message?.version ?? 1) > 1 && !isDeleted ? texts.edited : "";
    const isRefused = error && error.code !== "unavailable";
    const status = isRefused ? this.#reason(error) : state === "pending" ? texts.pending : "";
    const quoted = item.reply_to && this.#chat?.messages.find(({ message_id }) => message_id === item.reply_to);
    const isMine = outgoing || this.#chat?.isMe(author);
    const kinds = [isFirst && "first", isMine && "own", isDeleted && "deleted", isSystem && "system", state];
    set(row.node, {
      part: ["message", ...kinds].filter(Boolean).join(" "),
      "aria-label": [`${name}: ${body}`, time, edited, status].filter(Boolean).join(", "),
    });
    const hasHead = isFirst && !isSystem;
    const isFailed = outgoing && state === "failed";
    row.node.replaceChildren();
    put(
      row.node,
      isOtherDay && h("p", { part: "day" }, this.#dayOf(date, language)),
      isNew && h("p", { part: "new" }, texts.newMessages),
      hasHead && this.#avatar(author, name),
      hasHead && h("strong", { part: "author", dir: "auto" }, name),
      hasHead && h("time", { part: "time", datetime: item.created_at, title: date.toLocaleString(language) }, time),
      quoted && h("span", { part: "quote", dir: "auto" }, `${this.#nameOf(quoted.author)}: ${quoted.body}`),
      h("p", { part: "body", dir: "auto" }, body),
      edited && h("span", { part: "edited" }, edited),
      status && h("p", { part: "status" }, status),
      isFailed && button(texts.retry, () => this.#chat?.retry(outgoing)),
      isFailed && button(texts.discard, () => this.#chat?.discard(outgoing)),
      ...(message?.reactions ?? []).map((reaction) => this.#reaction(/** @type {Message} */ (message), reaction)),
    );
    if (this.#current === this.#keyOf(item)) this.#actions?.offer(row.node, message);
  }

  /** @param {Item | undefined} item */
  #authorOf(item) {
    return item && "version" in item ? item.author : this.#chat?.user;
  }

  /** @param {Key | null | undefined} id */
  #nameOf(id) {
    return id === null ? this.#texts.system : (this.#people[id ?? ""]?.name ?? fill(this.#texts.user, { id }));
  }

  /** @param {Key | null | undefined} id @param {string} name */
  #avatar(id, name) {
    const { initials = [...name][0], color = `oklch(50% 0.13 ${(parseInt(String(id), 36) * 47) % 360})` } =
      this.#people[id ?? ""] ?? {};
    const avatar = h("span", { part: "avatar", "aria-hidden": true }, initials);
    avatar.style.setProperty("--_color", color);
    return avatar;
  }

  /** @param {Date} date @param {string | undefined} language */
  #dayOf(date, language) {
    const [day, today] = [date, new Date()].map((each) => new Date(each).setHours(0, 0, 0, 0));
    const days = Math.round((today - day) / DAY);
    return days > 1
      ? date.toLocaleDateString(language, { dateStyle: "full" })
      : new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(-days, "day");
  }

  #typists() {
    const { typing = [], typingCount = 0 } = this.#chat ?? {};
    const { others, typing: one, typingMany } = this.#texts;
    const names = typing.map((id) => this.#nameOf(id));
    if (typingCount > names.length) names.push(fill(others, { count: typingCount - names.length }));
    const text = typingCount > 1 ? typingMany : typingCount ? one : "";
    return fill(text, { names: new Intl.ListFormat(this.#language).format(names) });
  }

  /** @param {Message} message @param {Reaction} reaction */
  #reaction(message, { emoji, count, mine, users = [] }) {
    const title = users.map((id) => this.#nameOf(id)).join(", ");
    const react = async () => (await this.#load()).react(message, emoji, !mine);
    return button(`${emoji} ${count}`, react, { part: "reaction", "aria-pressed": mine, title });
  }

  /** Why something isn't done. @param {ChatError} error */
  #reason({ code, message, limit, retry_after_ms = 0 }) {
    const text = this.#texts[code === "slow_mode" ? "rate_limited" : code] ?? message ?? code;
    return fill(text, { limit, seconds: Math.ceil(retry_after_ms / 1000) });
  }

  /** Have the buttons at the row that somebody turns to. @param {Event} event */
  async #turnTo({ target, type }) {
    const node = /** @type {HTMLElement} */ (target).closest("article");
    const isInUse = type === "pointerover" && this.#feed.contains(this.#focused);
    const [key, row] = [...this.#rows].find((entry) => entry[1].node === node) ?? [];
    if (!key || !row || isInUse || (key === this.#current && this.#actions)) return;
    this.#current = key;
    const actions = await this.#load();
    const { node: now, item } = this.#rows.get(this.#current) ?? row;
    actions.offer(now, item && "version" in item ? item : null);
  }

  async #load() {
    const { Actions } = await import("./actions.js");
    this.#actions ??= new Actions({
      element: this,
      field: this.#field,
      context: this.#context,
      setUp: h,
      button,
      fill,
      setText,
      nameOf: (id) => this.#nameOf(id),
      reason: (error) => this.#reason(error),
      measure: () => this.#measure(),
    });
    return this.#actions;
  }

  #submit() {
    const { value } = this.#field;
    const { how, about } = this.#actions ?? {};
    if (this.#button.disabled) return;
    if (how === "editing") this.#actions?.save(value);
    else {
      this.#chat?.send(value, about?.message_id);
      this.#field.value = "";
      this.#actions?.write();
      this.#toEnd();
    }
  }

  /** How long the text is, and whether that is too long. */
  #measure() {
    const { limit = 0 } = this.#chat ?? {};
    const { value } = this.#field;
    const length = lengthOf(value);
    setText(this.#counter, length > limit * COUNTER_FROM ? `${length} / ${limit}` : "");
    set(this.#field, { "aria-invalid": length > limit, rows: Math.min(MAX_LINES, value.split("\n").length) });
    this.#button.disabled = length > limit || !value.trim();
  }

  #toEnd() {
    this.#isAtEnd = true;
    this.#drawSoon();
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#list;
    const { messages = [], outbox = [] } = this.#chat ?? {};
    const isLast = this.#start + this.#rows.size >= messages.length + outbox.length;
    const left = scrollHeight - scrollTop - clientHeight;
    const step = Math.ceil(this.#size / 3);
    this.#isAtEnd = isLast && left < END;
    if (scrollTop < clientHeight / 2) {
      if (this.#start) this.#start -= step;
      else this.#chat?.loadOlder();
    } else if (left < clientHeight / 2 && !isLast) this.#start += step;
    this.#drawSoon();
  }

  /** @param {KeyboardEvent} event */
  #onListKey(event) {
    const article = /** @type {HTMLElement} */ (event.target).closest("article");
    const next = {
      ArrowUp: article?.previousElementSibling,
      ArrowDown: article?.nextElementSibling,
      Escape: this.#field,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    focusOn(next);
  }

  /** @param {KeyboardEvent} event */
  #onFieldKey(event) {
    const { key } = event;
    if (event.isComposing || event.keyCode === 229) return; // the key is the input method's
    if (key === "Enter" && !event.shiftKey) this.#submit();
    else if (key === "Escape" && this.#actions?.how) this.#actions.write();
    else if (key === "ArrowUp" && !this.#field.value) this.#load().then((actions) => actions.editLast());
    else return;
    event.preventDefault();
  }

  /** Announce several messages as their number: a screen reader would read them for minutes. @param {Message} message */
  #announce({ author, body }) {
    this.#news.push(`${this.#nameOf(author)}: ${body}`);
    const wait = Math.max(0, this.#announcedAt + ANNOUNCE_INTERVAL - Date.now());
    this.#announceTimer ||= setTimeout(() => {
      const [text, ...more] = this.#news.splice(0);
      this.#announceTimer = 0;
      this.#announcedAt = Date.now();
      this.#announcement.textContent = more.length ? fill(this.#texts.news, { count: more.length + 1 }) : text;
    }, wait);
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
 * @param {Record<string, any>} attributes
 * @param {...(Node | string)} children  strings become text
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
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

/** @param {string} text @param {() => unknown} act @param {Record<string, any>} [attributes] */
function button(text, act, attributes = { part: "action" }) {
  const element = h("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", act);
  return element;
}

/** A text with the names in braces filled in. @param {string} text @param {Record<string, unknown>} values */
function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** Only if it is another: what is written anew is read aloud anew. @param {HTMLElement} element @param {string | undefined} text */
function setText(element, text = "") {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

/** @param {Element | null | undefined} element */
function focusOn(element) {
  /** @type {HTMLElement | null | undefined} */ (element)?.focus();
}

if (globalThis.customElements && !customElements.get("org-room")) customElements.define("org-room", OrgRoom);
