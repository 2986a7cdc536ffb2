/**
 * One room of `orgrealtime.chat` in a page: its messages in order, from the history and from the stream, and what the
 * user has written and the server hasn't accepted yet.
 *
 *     const room = new ChatRoom({ org: "acme", room: "general", client, onChange: draw });
 *     room.send("Good morning");
 *
 * The history comes over HTTP, everything newer through a client, which may be the page's own. Messages are known by
 * their ids and applied by their versions, so that neither minds what the other has brought already.
 *
 * @module orgrealtime/chat
 */

/**
 * Types by `@import`: Django takes an import type in a comment for code.
 *
 * @import { Client, Frame, Key, RealtimeEvent, State } from "./client.js"
 * @typedef {{emoji: string, count: number, mine: boolean, users?: Key[]}} Reaction  `users` may be the first ones alone
 * @typedef {object} Message
 * @property {number} message_id
 * @property {number} [position]  in the history; what came live has none
 * @property {string | null} [client_message_id]
 * @property {Key | null} author  null: the host application
 * @property {string} body
 * @property {number} version
 * @property {number | null} [reply_to]
 * @property {Reaction[]} reactions
 * @property {string} created_at
 * @property {boolean} [deleted]
 *
 * @typedef {{code: string, message?: string, limit?: number, retry_after_ms?: number, version?: number, body?: string}}
 *   ChatError  what the server answers to what it refuses
 * @typedef {object} Sending
 * @property {string} client_message_id
 * @property {"pending" | "failed" | "sent"} state  "sent": accepted, and its event is still to come
 * @property {ChatError | null} error  why it has failed, or waits
 *
 * @typedef {Message & Sending} Outgoing  what the user has written; its `message_id` is 0
 *
 * @typedef {{name?: string, archived?: boolean, [key: string]: any}} RoomInfo  what the last event has told of the room
 *
 * @typedef {object} RoomOptions
 * @property {string} org  slug of the organisation
 * @property {string} room  slug of the room; the id of one without a slug
 * @property {string | undefined} [messagesUrl]  default: `/orgs/<org>/rooms/<room>/messages/`
 * @property {Client | ((since: string) => Client)} client  the page's own, or what makes one that begins at a cursor
 * @property {Key | undefined} [user]  for whom the page was made; default: as the client knows
 * @property {() => unknown} [onChange]  something is to be drawn anew
 * @property {(message: Message) => unknown} [onMessage]  somebody else's message has just come
 */

const PAGE_SIZE = 50;
const DEFAULT_LIMIT = 4_000; // characters of a message
// Milliseconds.
const ANSWER_TIMEOUT = 10_000;
const FETCH_TIMEOUT = 20_000;
const RETRY_INTERVAL = 5_000; // at least, and at most three times as long
const TYPING_INTERVAL = 3_000;
const TYPING_SHOWN = 8_000;

const CONNECTED_STATES = ["live", "catching-up", "stuck"];
/** The codes of what is tried again by itself. */
const PASSING_CODES = ["unavailable", "overloaded", "rate_limited", "slow_mode"];
/** @type {ChatError} */ const NOT_REACHED = { code: "unavailable" };

/** How many characters a text has, as the server counts them. @param {string} text */
export function lengthOf(text) {
  return [...text.normalize("NFC")].length;
}

export class ChatRoom {
  /** What the room follows, as soon as there is one. @type {Client | null} */ client = null;
  /** Its id, as soon as that is known. @type {number | undefined} */ id;
  /** What is loaded, the oldest first. @type {Message[]} */ messages = [];
  /** What isn't among the messages yet, the oldest first. @type {Outgoing[]} */ outbox = [];
  /** Whether there are messages before those that are loaded. */ hasOlder = false;
  /** Why the history can't be loaded. @type {ChatError | null} */ problem = null;
  /** @type {RoomInfo} */ info = {};
  /** How many characters a message may have. */ limit = DEFAULT_LIMIT;
  /** Who else is typing: the first few. @type {Key[]} */ typing = [];
  /** How many are. */ typingCount = 0;
  /** @type {Array<() => void>} */ #cleanups = [];
  #options;
  #url;
  /** Stands for the page of history that is waited for. @type {object | null} */ #loading = null;
  /** What has come meanwhile. @type {RealtimeEvent[]} */ #arrived = [];
  /** How many of the newest messages have come live, since the history was loaded. */ #live = 0;
  /** How what is being sent ends. @type {{ref: string, accept: (answer: any) => void, refuse: (error: ChatError) => void} | null} */
  #sending = null;
  #loadTimer = 0;
  /** Set while sending waits. */ #sendTimer = 0;
  #typingTimer = 0;
  #typedAt = -Infinity;
  #isConnected = false;
  #isWatched = false;
  /** The newest message that the user has seen. @type {number | null} */ #seen = null;
  /** The message after which the line of what is new stands. @type {number | null} */ #line = null;
  #seenName = "";
  #outboxName = "";

  /** @param {RoomOptions} options */
  constructor(options) {
    const { org, room, client, messagesUrl } = options;
    this.#options = options;
    this.#url = messagesUrl ?? `/orgs/${encodeURIComponent(org)}/rooms/${encodeURIComponent(room)}/messages/`;
    if (typeof client !== "function") this.#follow(client);
    this.#remember();
    this.#begin();
  }

  /** Whose page it is. @returns {Key | undefined} */
  get user() {
    return this.client?.user ?? this.#options.user;
  }

  /** Whether messages are being loaded. */
  get isLoading() {
    return this.#loading !== null;
  }

  /** @param {Key | null | undefined} author */
  isMe(author) {
    return author != null && String(author) === String(this.user);
  }

  /** Whether the newest message is in sight: while it is, nothing is unread. */
  get isWatched() {
    return this.#isWatched;
  }

  set isWatched(isWatched) {
    if (isWatched === this.#isWatched) return;
    if (isWatched)
      this.#tell("watch"); // another tab may have ended it: they have one connection
    else this.#line = this.#seen;
    this.#isWatched = isWatched;
    this.#see();
    this.#changed();
  }

  /** How many messages of others the user hasn't seen. */
  get unread() {
    return this.#newSince(this.#seen).length;
  }

  /** The id of the message above which the line "new messages" belongs. @returns {number | undefined} */
  get firstNew() {
    return this.#newSince(this.#line)[0]?.message_id;
  }

  /** Load the newest messages. What fails for a while is tried again by itself; `problem` tells of it. */
  async load() {
    clearTimeout(this.#loadTimer);
    const page = await this.#page("");
    if (!page) return;
    this.messages = page.messages;
    this.hasOlder = page.has_older;
    this.#live = 0;
    this.id = page.room;
    const accepted = new Set(this.messages.map((message) => message.client_message_id));
    this.#keep((item) => !accepted.has(item.client_message_id));
    const { client } = this.#options;
    if (!this.client && typeof client === "function") this.#follow(client(page.cursor));
    for (const event of this.#arrived.splice(0)) this.#apply(event);
    this.#see();
    this.#onState();
  }

  /** Load the messages before the first one. */
  async loadOlder() {
    const position = this.messages[0]?.position;
    if (!this.hasOlder || this.#loading || position === undefined) return;
    clearTimeout(this.#loadTimer);
    const page = await this.#page(`&before=${position}`);
    if (!page) return;
    this.hasOlder = page.has_older;
    this.messages = [...page.messages, ...this.messages];
    // What has come while the page was on its way may be newer than the page.
    for (const { message_id } of page.messages) {
      for (const event of this.#arrived) if (event.message_id === message_id) this.#apply(event);
    }
    this.#changed();
  }

  /** Have a message sent, now or as soon as there is a connection: once, however often that takes. @param {string} body */
  send(body, /** @type {number | null} */ reply_to = null) {
    this.outbox.push({
      message_id: 0,
      client_message_id: `${Math.random()}${Math.random()}`, // another than the last ones of this user in this room
      author: /** @type {Key} */ (this.user),
      body,
      version: 1,
      reply_to,
      reactions: [],
      created_at: new Date().toISOString(),
      state: "pending",
      error: null,
    });
    this.#line = this.#seen;
    this.#save();
    this.#flush();
  }

  /** Send what has failed once more. @param {Outgoing} item */
  retry(item) {
    item.state = "pending";
    item.error = null;
    this.#flush();
    this.#changed();
  }

  /** Give up what has failed, or still waits. @param {Outgoing} item */
  discard(item) {
    this.#keep((other) => other !== item);
    this.#changed();
  }

  /** Rejects with a ChatError; "conflict" if the message has been changed meanwhile. @param {Message} message @param {string} body */
  edit({ message_id, version }, body) {
    return this.#request("PATCH", `${message_id}/`, { body, version });
  }

  /** Rejects with a ChatError. @param {Message} message */
  delete({ message_id }) {
    return this.#request("DELETE", `${message_id}/`, {});
  }

  /** Rejects with a ChatError. @param {Message} message @param {string} emoji @param {boolean} on */
  react({ message_id }, emoji, on) {
    const path = `${message_id}/reactions/`;
    return on
      ? this.#request("POST", path, { emoji })
      : this.#request("DELETE", `${path}?emoji=${encodeURIComponent(emoji)}`, {});
  }

  /** Tell the others that the user is typing. */
  type() {
    const now = Date.now();
    if (now - this.#typedAt < TYPING_INTERVAL) return;
    this.#typedAt = now;
    this.#tell("chat.typing");
  }

  /** Follow the room no longer. A client that was made for it is closed, too. */
  close() {
    this.#options = { ...this.#options, onChange: undefined };
    this.#tell("unwatch");
    for (const end of this.#cleanups) end();
    for (const timer of [this.#loadTimer, this.#sendTimer, this.#typingTimer]) clearTimeout(timer);
    this.#loading = null;
    if (typeof this.#options.client === "function") this.client?.close();
  }

  /** @param {Client} client */
  #follow(client) {
    this.client = client;
    this.#cleanups.push(
      client.on("event", (event) => this.#onEvent(event)),
      client.on("message", (frame) => this.#onFrame(frame)),
      client.on("state", () => this.#onState()),
      client.on("reset", () => this.load()),
      client.on("user", () => this.#onUser()),
    );
  }

  /** A client without a position begins when it is welcomed: the history must not be older than that. */
  #begin() {
    if (!this.id && !this.#loading && !this.problem && this.client?.cursor !== null) this.load();
  }

  #changed() {
    this.#options.onChange?.();
  }

  /** What is another user's now goes before anything is loaded for them, as the reset that follows has it. */
  #onUser() {
    stored("sessionStorage", this.#outboxName, null);
    this.#loading = null;
    this.messages = [];
    this.hasOlder = false;
    this.#remember();
    this.#changed();
  }

  /** What storage has of this user and room. */
  #remember() {
    const { org, room } = this.#options;
    this.#seenName = `seen ${org} ${room} ${this.user}`;
    this.#outboxName = `outbox ${org} ${room} ${this.user}`;
    this.#seen = this.#line = stored("localStorage", this.#seenName);
    this.outbox = this.user === undefined ? [] : (stored("sessionStorage", this.#outboxName) ?? []);
  }

  /** Keep what is still to be sent, also for after a reload. */
  #save() {
    const items = this.outbox.filter(({ state }) => state !== "sent");
    stored("sessionStorage", this.#outboxName, items);
    this.#changed();
  }

  /** @param {(item: Outgoing) => boolean} isKept */
  #keep(isKept) {
    if (this.outbox.every(isKept)) return;
    this.outbox = this.outbox.filter(isKept);
    this.#save();
  }

  /** The newest message counts as seen while it is in sight; so does what was there before the first visit. */
  #see() {
    const isFirst = this.#seen === null;
    if (!isFirst && (!this.#isWatched || this.#last === this.#seen)) return;
    this.#seen = this.#last;
    if (isFirst) this.#line = this.#seen;
    stored("localStorage", this.#seenName, this.#seen);
  }

  get #last() {
    return this.messages.at(-1)?.message_id ?? 0;
  }

  /** Those of others after a message; all that are loaded if that one isn't. @param {number | null} id */
  #newSince(id) {
    return id === null ? [] : this.messages.slice(this.#indexOf(id) + 1).filter(({ author }) => !this.isMe(author));
  }

  /** From the newest on, as nearly all that is looked for is new. @param {unknown} id */
  #indexOf(id) {
    let index = this.messages.length;
    while (index-- && this.messages[index].message_id !== id);
    return index;
  }

  /**
   * A page of history; undefined if it can't be had, or isn't wanted any more.
   *
   * @param {string} query
   * @returns {Promise<any>}
   */
  async #page(query) {
    const loading = {};
    this.#loading = loading; // a later question makes this one's answer worthless
    this.#arrived = [];
    this.problem = null;
    this.#changed();
    /** @type {any} */ let page;
    try {
      page = await this.#request("GET", `?limit=${PAGE_SIZE}${query}`);
    } catch (error) {
      const tryAgain = () => (query ? this.loadOlder() : this.load());
      if (this.#loading === loading) this.#onProblem(/** @type {ChatError} */ (error), tryAgain);
    }
    if (this.#loading !== loading) return undefined;
    this.#loading = null;
    this.#changed();
    return page;
  }

  /** @param {ChatError} problem @param {() => void} tryAgain */
  #onProblem(problem, tryAgain) {
    this.problem = problem;
    if (isPassing(problem)) this.#loadTimer = setTimeout(tryAgain, delayOf(problem));
    else this.messages = []; // what is loaded isn't for this user any more
  }

  /**
   * Resolves to the answer, rejects with a ChatError.
   *
   * @param {string} method
   * @param {string} path  below the room's messages
   * @param {object} [data]
   * @returns {Promise<any>}
   */
  async #request(method, path, data) {
    const headers = { "Content-Type": "application/json", "X-CSRFToken": csrfToken() };
    const body = data && JSON.stringify(data);
    const init = { method, headers, body, cache: "no-store", signal: AbortSignal.timeout(FETCH_TIMEOUT) };
    let answer;
    try {
      const response = await fetch(this.#url + path, /** @type {RequestInit} */ (init));
      if (response.status === 204) return {};
      answer = await response.json();
      if (response.ok) return answer;
    } catch {
      // It wasn't reached, or something else has answered.
    }
    throw answer?.error ?? NOT_REACHED;
  }

  /** By the socket; false if that can't take it. @param {string} type @param {object} [data] */
  #tell(type, data) {
    try {
      return this.client?.send({ type, room: this.id, ...data }) ?? false;
    } catch {
      return false; // too long for the socket
    }
  }

  #onState() {
    const wasConnected = this.#isConnected;
    this.#begin();
    this.#isConnected = this.id !== undefined && CONNECTED_STATES.includes(this.client?.state.name ?? "");
    if (this.#isConnected && !wasConnected) {
      this.#tell("watch");
      this.#sendNow();
    }
    if (!this.#isConnected) {
      this.#setTyping([], 0);
      this.#sending?.refuse(NOT_REACHED);
    }
    this.#changed();
  }

  /** Send what waits, one after the other. */
  async #flush() {
    const item = this.outbox.find(({ state }) => state === "pending");
    if (!item || this.#sendTimer || !this.#isConnected) return;
    /** @type {ChatError | null} */ let error = null;
    const { duplicate } = await this.#deliver(item).catch((reason) => {
      error = reason;
      return {};
    });
    this.#sending = null;
    clearTimeout(this.#sendTimer);
    this.#sendTimer = 0;
    this.#onAnswer(item, error);
    if (duplicate) this.#keep((other) => other !== item); // its event has come, or is about to
    this.#save();
    this.#flush();
  }

  /**
   * By the socket, or over HTTP if that can't take it, or doesn't answer: sent twice is said once.
   *
   * @param {Outgoing} item
   * @returns {Promise<any>}
   */
  #deliver(item) {
    const { client_message_id, body, reply_to } = item;
    const message = { client_message_id, body, reply_to };
    return new Promise((accept, refuse) => {
      this.#sending = { ref: client_message_id, accept, refuse };
      const isTaken = this.#tell("message", { ref: client_message_id, ...message });
      const post = () => this.#request("POST", "", message).then(accept, refuse);
      this.#sendTimer = setTimeout(post, isTaken ? ANSWER_TIMEOUT : 0);
    });
  }

  /** @param {Outgoing} item @param {ChatError | null} error */
  #onAnswer(item, error) {
    item.error = error;
    if (!error) {
      item.state = "sent";
    } else if (isPassing(error)) this.#sendTimer = setTimeout(() => this.#sendNow(), delayOf(error));
    else {
      item.state = "failed";
      if (error.code === "too_long") this.limit = error.limit ?? this.limit;
    }
  }

  #sendNow() {
    clearTimeout(this.#sendTimer);
    this.#sendTimer = 0;
    this.#flush();
  }

  /** @param {Frame} frame */
  #onFrame(frame) {
    const { type, ref, room, users, count, error } = frame;
    const { ref: awaited, accept, refuse } = this.#sending ?? {};
    if (ref && ref === awaited) error ? refuse?.(error) : accept?.(frame);
    if (type !== "chat.typing" || room !== this.id) return;
    this.#setTyping(users, count);
    this.#typingTimer = setTimeout(() => this.#setTyping([], 0), TYPING_SHOWN);
  }

  /** @param {Key[]} users @param {number} count */
  #setTyping(users, count) {
    clearTimeout(this.#typingTimer);
    this.typing = users.filter((user) => !this.isMe(user));
    this.typingCount = count - users.length + this.typing.length;
    this.#changed();
  }

  /** @param {RealtimeEvent} event */
  #onEvent(event) {
    if (!event.type.startsWith("chat.")) return;
    if (this.#loading) this.#arrived.push(event);
    this.#apply(event);
    this.#changed();
  }

  /** @param {RealtimeEvent} event */
  #apply(event) {
    if (event.room !== this.id) return;
    const { type, version, body } = event;
    const index = this.#indexOf(event.message_id);
    const message = this.messages[index];
    if (type === "chat.room") this.info = event;
    else if (type === "chat.joined" || type === "chat.left") this.#onMembers(event);
    else if (type === "chat.message" && !message) this.#append(event);
    else if (!message || message.deleted) return;
    else if (type === "chat.reaction")
      this.messages[index] = { ...message, reactions: reacted(message, event, this.isMe(event.user)) };
    else if (type === "chat.deleted") {
      this.messages[index] = { ...message, version, body: "", reactions: [], deleted: true };
    } else {
      if (version > message.version) this.messages[index] = { ...message, version, body };
      if (type === "chat.message") this.#dropOlder(index);
    }
  }

  /** @param {RealtimeEvent} event */
  #append(event) {
    const message = /** @type {Message} */ (/** @type {unknown} */ ({ ...event, author: event.actor, reactions: [] }));
    const isMine = this.isMe(message.author);
    const hasLine = this.#line !== this.#seen;
    this.messages.push(message);
    this.#live++;
    this.#see();
    if (!hasLine && this.#isWatched) this.#line = this.#seen;
    if (isMine) this.#keep((item) => item.client_message_id !== message.client_message_id);
    else this.#options.onMessage?.(message);
  }

  /**
   * The event of a message that the history has: those that came live before it are in the history, too, or are older
   * than its first page, and have got behind it only because the client was still catching up.
   *
   * @param {number} index
   */
  #dropOlder(index) {
    if (index >= this.messages.length - this.#live) return;
    this.messages.splice(-this.#live, this.#live);
    this.#live = 0;
  }

  /** @param {RealtimeEvent} event */
  #onMembers({ user, users = [user] }) {
    if (users.some((/** @type {Key} */ each) => this.isMe(each))) this.load();
  }
}

/** @param {Message} message @param {RealtimeEvent} event @param {boolean} isMine @returns {Reaction[]} */
function reacted({ reactions }, { emoji, user, on }, isMine) {
  const before = reactions.find((each) => each.emoji === emoji);
  const { count = 0, mine = false, users = [] } = before ?? {};
  const others = users.filter((each) => String(each) !== String(user));
  // Of those that aren't named, one who takes a reaction away has been counted.
  const wasOn = isMine ? mine : others.length < users.length || (!on && count > users.length);
  const after = {
    emoji,
    count: count + Number(on) - Number(wasOn),
    mine: isMine ? on : mine,
    users: on ? [...others, user] : others,
  };
  const all = before ? reactions.map((each) => (each === before ? after : each)) : [...reactions, after];
  return all.filter((each) => each.count > 0);
}

/** How long to leave the server alone; at random, so that many don't come back in step. @param {ChatError} error */
function delayOf({ retry_after_ms }) {
  return retry_after_ms ?? RETRY_INTERVAL * (1 + 2 * Math.random());
}

/** @param {ChatError} error */
function isPassing({ code }) {
  return PASSING_CODES.includes(code);
}

/** As Django gives it: in a form of the page, else in its cookie. */
function csrfToken() {
  const field = /** @type {HTMLInputElement | null} */ (document.querySelector("[name=csrfmiddlewaretoken]"));
  return field?.value ?? document.cookie.split("csrftoken=")[1]?.split(";")[0] ?? "";
}

/**
 * What is stored under a name, after `value` is, should one be given: null for nothing. A storage that is full, or that
 * the page may not use, has nothing.
 *
 * @param {"localStorage" | "sessionStorage"} storage
 * @param {string} name
 * @param {unknown} [value]
 */
function stored(storage, name, value) {
  try {
    if (value !== undefined) globalThis[storage].setItem(`orgrealtime.${name}`, JSON.stringify(value));
    return JSON.parse(globalThis[storage].getItem(`orgrealtime.${name}`) ?? "null");
  } catch {
    return null;
  }
}
