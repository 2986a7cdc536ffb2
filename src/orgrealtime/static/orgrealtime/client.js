/**
 * One organisation's events in a page: each once and in order, over any number of connections, transports and tabs.
 *
 *     Client                what the application holds
 *     ├── Reader            where this page stands, what it has got; calls the handlers, closes gaps over HTTP
 *     └── Link              one connection after the other, and what to do when one ends
 *         ├── SocketTransport, StreamTransport, PollTransport
 *         └── (in Tabs)     the tabs that share one Link
 *
 * A Link brings *segments*: all events between two positions of the stream. Whoever has passed the first position may
 * apply a segment, for it knows by their cursors which of the events it has. This one rule covers reconnecting, other
 * tabs and HTTP; cursors are never compared but for equality. Speaks protocol version 1.
 *
 * @module orgrealtime
 */

/**
 * @typedef {{type: string, cursor: string, created_at: string, actor: number | string | null, [key: string]: any}}
 *   RealtimeEvent  the payload's members stand beside the four
 * @typedef {{type: "reset", cursor: string, reason: string}} Reset
 * @typedef {{type: string, [key: string]: any}} Frame  what the server sends without a cursor
 * @typedef {"websocket" | "sse" | "polling" | "shared"} TransportName  "shared": another tab has the connection
 * @typedef {"connecting" | "catching-up" | "live" | "waiting" | "offline"
 *   | "stopped" | "unauthenticated" | "forbidden"} StateName
 * @typedef {{name: StateName, transport?: TransportName, retryAt?: number, code?: number}} State  `retryAt` in
 *   milliseconds since 1970; `code` is why the last connection ended
 * @typedef {{event: RealtimeEvent, reset: Reset, state: State, message: Frame, error: unknown}} Kinds
 */

/**
 * @template T
 * @typedef {(value: T) => unknown} Handler  may return a promise
 */

/**
 * @typedef {object} Clock
 * @property {() => number} now  milliseconds since 1970
 * @property {() => number} random  at least 0, less than 1
 * @property {(act: () => void, ms: number) => any} setTimeout
 * @property {(id: any) => void} clearTimeout
 */

/**
 * What the client takes from the browser; tests pass their own.
 *
 * @typedef {object} Outside
 * @property {Clock} clock
 * @property {new (url: string, protocol: string) => WebSocket} WebSocket
 * @property {(url: string, init: RequestInit) => Promise<Response>} fetch
 * @property {Pick<LockManager, "request">} [locks]
 * @property {new (name: string) => BroadcastChannel} [BroadcastChannel]
 * @property {EventTarget} [window]
 * @property {EventTarget & {hidden: boolean}} [document]
 * @property {{onLine: boolean}} [navigator]
 * @property {string} [href]  what relative URLs are relative to
 */

/**
 * @typedef {object} Options
 * @property {string} [org]  slug of the organisation; gives the URLs that aren't given
 * @property {string} [url]  of the socket
 * @property {string} [catchUpUrl]
 * @property {string} [streamUrl]  of the Server-Sent Events; default: `stream/` below `catchUpUrl`
 * @property {string | null} [since]  cursor of what the page shows; default: what `storage` has, else now
 * @property {Pick<Storage, "getItem" | "setItem">} [storage]  keeps the cursor, such as `sessionStorage`
 * @property {boolean} [share]  one connection for all tabs of the browser, if there is a `shareKey`; default: true
 * @property {string | number} [shareKey]  the user's id: only tabs with the same key share
 * @property {number} [pollInterval]  milliseconds, where nothing but polling gets through; default: 5000
 * @property {Handler<RealtimeEvent>} [onEvent]
 * @property {Handler<Reset>} [onReset]  fetch what the page shows afresh; asked again if it fails
 * @property {Handler<State>} [onState]
 * @property {Handler<Frame>} [onMessage]  frames that are no events: the host's own, and `error`
 * @property {Handler<unknown>} [onError]  what handlers threw; default: `console.error`
 * @property {Partial<Outside>} [outside]
 */

/**
 * @typedef {{socket: string, catchUp: string, stream: string, pollInterval: number}} Site
 * @typedef {{frame?: Frame, more?: boolean, code?: number}} Answer  neither frame nor code: not reached
 * @typedef {{cursor: string, event?: RealtimeEvent, reset?: Reset}} Item  a position, and what lies just before it
 *
 * @typedef {object} Host  whom a Link works for
 * @property {() => string | null} since
 * @property {(prev: string, frame: Frame) => void} segment
 * @property {(frame: Frame) => void} message
 * @property {(state: State) => void} state
 * @property {(code: number) => void} stopped
 *
 * @typedef {object} Source  where segments come from: a Link or Tabs
 * @property {() => void} start
 * @property {(code?: number) => void} close
 * @property {() => void} wake  something has changed for the better
 * @property {() => void} online
 * @property {() => void} offline
 * @property {(text: string) => boolean} send
 * @property {(item: Item) => void} handled
 */

/**
 * The protocol's table "Close and error codes"; codes that aren't here are retried. The HTTP status of a code is the
 * code less 4000.
 *
 * @type {Readonly<Record<number, {name: string, retry: boolean}>>}
 */
export const CLOSE_CODES = Object.freeze({
  4400: { name: "bad_request", retry: false },
  4401: { name: "unauthenticated", retry: false },
  4403: { name: "forbidden", retry: false },
  4408: { name: "slow_consumer", retry: true },
  4413: { name: "payload_too_large", retry: false },
  4429: { name: "rate_limited", retry: true },
  4503: { name: "overloaded", retry: true },
});

const SUBPROTOCOL = "orgrealtime.v1";
const CONTROL_FRAMES = new Set(["welcome", "batch", "synced", "cursor", "reset", "pong"]);
// Login and membership are the same in all tabs; a bad cursor or message is one tab's own.
const COMMON_STOPS = new Set([4401, 4403]);
// Everybody on the server was closed with these at the same moment.
const MASS_CLOSES = new Set([1001, 1012]);

// Milliseconds.
const BACKOFF_BASE = 500;
const BACKOFF_CAP = 30_000;
const HEALTHY_AFTER = 10_000;
const MASS_WINDOW = 5_000;
const RESTARTS_WITHIN = 30_000;
const SOCKET_OPENS_WITHIN = 10_000;
const STREAM_OPENS_WITHIN = 5_000;
const PING_EVERY = 20_000;
const PONG_WITHIN = 10_000;
const STREAM_SILENCE = 30_000; // something comes every 15 s
const RECENT = 5_000;
const ASK_WITHIN = 20_000;
const ACK_EVERY = 1_000;
const RETRY_BETTER_EVERY = 180_000;
const WATCH_EVERY = 5_000;
const LEADER_SILENCE = 20_000;
const LEADER_ANSWERS_WITHIN = 10_000;

const ACK_EVENTS = 100;
const PAGE_EVENTS = 500;
const RECENT_EVENTS = 50;
const HIDDEN_POLLS_SLOWER = 6;
const REMEMBERED_POSITIONS = 5_000;
const HELD_ITEMS = 5_000;
const DEFAULT_MESSAGE_BYTES = 16_384;

/**
 * Follow an organisation's events.
 *
 * @param {Options} options
 * @returns {Client}
 */
export function connect(options) {
  return new Client(options);
}

export class Client {
  /** @type {Source | null} */ #source = null;
  /** @type {State} */ #state = { name: "connecting" };
  /** @type {State} */ #sourceState = this.#state;
  #shown = "";
  /** @type {Array<() => void>} */ #unlisten = [];
  #isOver = false;
  #handlers;
  #outside;
  #options;
  #reader;
  #site;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#outside = { ...browser(), ...options.outside };
    this.#site = siteOf(options);
    this.#handlers = new Handlers(options);
    this.#reader = new Reader(this.#outside, this.#site, this.#handlers, new Shelf(options, this.#handlers), {
      handled: (item) => this.#source?.handled(item),
      stopped: (code) => this.#stop(code),
      busy: () => this.#show(this.#sourceState),
    });
    // Not at once: handlers may want to use the client that is being made.
    queueMicrotask(() => this.#begin());
  }

  /** How far the handlers have come. @returns {string | null} */
  get cursor() {
    return this.#reader.cursor;
  }

  get state() {
    return this.#state;
  }

  /**
   * Have a handler called from now on; returns a function that ends it.
   *
   * @template {keyof Kinds} Kind
   * @param {Kind} kind
   * @param {Handler<Kinds[Kind]>} handler
   * @returns {() => void}
   */
  on(kind, handler) {
    return this.#handlers.add(kind, handler);
  }

  /**
   * Send a message of the host application; false if nothing can take it now, and for ever over SSE or polling.
   *
   * @param {{type: string, [key: string]: unknown}} message
   */
  send(message) {
    return this.#source?.send(JSON.stringify(message)) ?? false;
  }

  /**
   * Load the newest events over HTTP, the oldest of them first. They change neither `cursor` nor what handlers get.
   *
   * Rejects with an Error; its `code` is a close code, if the server has said why.
   *
   * @param {number} [limit]  1 to 500
   * @returns {Promise<RealtimeEvent[]>}
   */
  async recent(limit = RECENT_EVENTS) {
    const { frame, code } = await fetchPage(this.#outside, this.#site.catchUp, null, limit);
    if (frame?.events) return frame.events;
    const reason = code ? `the answer is ${code} ${CLOSE_CODES[code].name}` : "the server wasn't reached";
    throw Object.assign(new Error(`The newest events can't be loaded: ${reason}`), { code });
  }

  /** Nothing is delivered any more, not even what has arrived. */
  close() {
    this.#end({ name: "stopped" });
    this.#reader.close();
  }

  #begin() {
    if (this.#isOver) return;
    const { window, document } = this.#outside;
    this.#listen(window, "online", () => this.#wake("online"));
    this.#listen(window, "offline", () => this.#source?.offline());
    // A page in the back-forward cache, or frozen, must hold neither the connection nor the lock.
    this.#listen(window, "pagehide", () => this.#suspend());
    this.#listen(window, "pageshow", () => this.#resume());
    this.#listen(document, "freeze", () => this.#suspend());
    this.#listen(document, "resume", () => this.#resume());
    this.#listen(document, "visibilitychange", () => !document?.hidden && this.#wake("wake"));
    this.#resume();
  }

  /** @param {"wake" | "online"} how */
  #wake(how) {
    this.#reader.wake();
    this.#source?.[how]();
  }

  #suspend() {
    this.#source?.close();
    this.#source = null;
  }

  #resume() {
    if (this.#source || this.#isOver) return;
    this.#source = this.#newSource();
    this.#source.start();
    this.#reader.wake();
  }

  #newSource() {
    const { locks, BroadcastChannel } = this.#outside;
    const { share = true, shareKey } = this.#options;
    /** @type {Host} */
    const host = {
      since: () => this.#reader.resumeAt,
      segment: (prev, frame) => this.#reader.offer(prev, frame),
      message: (frame) => this.#handlers.tell("message", frame),
      state: (state) => this.#show(state),
      stopped: (code) => this.#stop(code),
    };
    // Without a key tabs of two users would share one's connection.
    const name = `orgrealtime.v1 ${this.#site.socket} ${shareKey}`;
    const isShared = share && (shareKey ?? "") !== "" && locks && canOpen(BroadcastChannel, name);
    if (!isShared) return new Link(this.#outside, this.#site, host);
    return new Tabs(this.#outside, this.#site, host, name, (cursor) => this.#reader.meet(cursor));
  }

  /** @param {State} state  of the source */
  #show(state) {
    if (this.#isOver) return;
    this.#sourceState = state;
    this.#setState(state.name === "live" && this.#reader.isBusy ? { ...state, name: "catching-up" } : state);
  }

  /** @param {State} state */
  #setState(state) {
    const text = JSON.stringify(state);
    if (text === this.#shown) return;
    this.#shown = text;
    this.#state = state;
    queueMicrotask(() => this.#handlers.tell("state", state));
  }

  /** @param {number} code */
  #stop(code) {
    this.#end({ name: code === 4401 ? "unauthenticated" : code === 4403 ? "forbidden" : "stopped", code }, code);
  }

  /** @param {State} state @param {number} [code] */
  #end(state, code) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reader.stopAsking();
    for (const unlisten of this.#unlisten) unlisten();
    this.#source?.close(code);
    this.#source = null;
    this.#setState(state);
  }

  /** @param {EventTarget | undefined} target @param {string} type @param {() => void} act */
  #listen(target, type, act) {
    target?.addEventListener(type, act);
    this.#unlisten.push(() => target?.removeEventListener(type, act));
  }
}

/** Some browsers have channels but refuse them to a page without storage. @param {Outside["BroadcastChannel"]} Channel @param {string} name */
function canOpen(Channel, name) {
  try {
    if (Channel) new Channel(name).close();
    return Boolean(Channel);
  } catch {
    return false;
  }
}

/** The application's functions. One that throws is reported and disturbs no other. */
class Handlers {
  /** @type {{[Kind in keyof Kinds]: Set<Handler<Kinds[Kind]>>}} */
  #sets = { event: new Set(), reset: new Set(), state: new Set(), message: new Set(), error: new Set() };

  /** @param {Options} options */
  constructor({ onEvent, onReset, onState, onMessage, onError }) {
    if (onEvent) this.add("event", onEvent);
    if (onReset) this.add("reset", onReset);
    if (onState) this.add("state", onState);
    if (onMessage) this.add("message", onMessage);
    if (onError) this.add("error", onError);
  }

  /** @template {keyof Kinds} Kind @param {Kind} kind @param {Handler<Kinds[Kind]>} handler */
  add(kind, handler) {
    /** @type {Set<Handler<Kinds[Kind]>>} */
    const set = this.#sets[kind];
    set.add(handler);
    return () => void set.delete(handler);
  }

  /** @template {keyof Kinds} Kind @param {Kind} kind @returns {Array<Handler<Kinds[Kind]>>} */
  of(kind) {
    return [...this.#sets[kind]];
  }

  /**
   * Call the handlers one after the other; returns those that failed.
   *
   * @template {keyof Kinds} Kind
   * @param {Kind} kind
   * @param {Kinds[Kind]} value
   * @param {Array<Handler<Kinds[Kind]>>} [handlers]
   */
  async call(kind, value, handlers = this.of(kind)) {
    const failed = [];
    for (const handler of handlers) {
      try {
        await handler(value);
      } catch (error) {
        failed.push(handler);
        this.report(error);
      }
    }
    return failed;
  }

  /**
   * Call the handlers without waiting for any, so that all have heard the newest last.
   *
   * @template {keyof Kinds} Kind
   * @param {Kind} kind
   * @param {Kinds[Kind]} value
   */
  tell(kind, value) {
    for (const handler of this.of(kind)) void this.call(kind, value, [handler]);
  }

  /** @param {unknown} error */
  report(error) {
    const handlers = this.of("error");
    if (!handlers.length) console.error(error);
    for (const handler of handlers) {
      try {
        handler(error);
      } catch (another) {
        console.error(another);
      }
    }
  }
}

/** Where the application wants the cursor kept. */
class Shelf {
  #storage;
  #key;
  #handlers;
  /** @type {string | null} */ start;

  /** @param {Options} options @param {Handlers} handlers */
  constructor({ storage, org, url, shareKey = "", since }, handlers) {
    this.#storage = storage;
    this.#key = `orgrealtime.cursor ${org ?? url} ${shareKey}`;
    this.#handlers = handlers;
    // `since` says what the page shows, which is what counts.
    this.start = since || this.#try((storage) => storage.getItem(this.#key)) || null;
  }

  /** @param {string} cursor */
  keep(cursor) {
    this.#try((storage) => storage.setItem(this.#key, cursor));
  }

  /** @template T @param {(storage: Pick<Storage, "getItem" | "setItem">) => T} act */
  #try(act) {
    try {
      return this.#storage && act(this.#storage);
    } catch (error) {
      this.#handlers.report(error);
    }
  }
}

/** What this page has got of the stream. */
class Reader {
  /** Handled up to here. @type {string | null} */ cursor;
  /** Received up to here. @type {string | null} */ #at;
  /** The last positions received. @type {Set<string>} */ #passed = new Set();
  /** Received after a position that this page hasn't reached, without a gap. @type {Item[]} */ #held = [];
  /** Received, to be handled. @type {Item[]} */ #queue = [];
  #resets = 0;
  #isHandling = false;
  #isAsking = false;
  #isClosed = false;
  #mayAsk = true;
  #askTimer;
  #askBackoff;
  #resetTimer;
  #outside;
  #site;
  #handlers;
  #shelf;
  #owner;

  /**
   * @param {Outside} outside
   * @param {Site} site
   * @param {Handlers} handlers
   * @param {Shelf} shelf
   * @param {{handled: (item: Item) => void, stopped: (code: number) => void, busy: () => void}} owner
   */
  constructor(outside, site, handlers, shelf, owner) {
    this.#outside = outside;
    this.#site = site;
    this.#handlers = handlers;
    this.#shelf = shelf;
    this.#owner = owner;
    this.#askTimer = new Timer(outside.clock);
    this.#resetTimer = new Timer(outside.clock);
    this.#askBackoff = new Backoff(outside.clock);
    this.cursor = this.#at = shelf.start;
    if (this.#at) this.#passed.add(this.#at);
  }

  /** Where a new connection begins: a reset that isn't handled yet is to come again. */
  get resumeAt() {
    return this.#resets ? this.cursor : this.#at;
  }

  get isBusy() {
    return this.#isAsking;
  }

  /**
   * Take the events between two positions, at once or when this page has reached the first of them.
   *
   * @param {string} prev
   * @param {Frame} frame
   */
  offer(prev, frame) {
    if (this.#isClosed) return;
    if (this.#at === null) this.#startAt(prev);
    const items = itemsOf(frame);
    if (this.#resets && frame.type === "reset" && prev === this.cursor) return this.#append(items[0]);
    const isContinued = this.#held.at(-1)?.cursor === prev;
    this.#held = [...(isContinued ? this.#held : [{ cursor: prev }]), ...items].slice(-HELD_ITEMS);
    if (!this.#applyHeld() && this.#isWaitedFor()) this.#ask();
  }

  /**
   * Another tab stands at `cursor`: have everything up to there.
   *
   * That this page has passed it proves nothing: while it was frozen, the stream may have become another.
   *
   * @param {string} cursor
   */
  meet(cursor) {
    if (this.#at === null) this.#startAt(cursor);
    else if (cursor !== this.#at) this.#ask();
  }

  /** Wait no longer for the next attempt. */
  wake() {
    this.#askTimer.hurry();
    this.#resetTimer.hurry();
  }

  stopAsking() {
    this.#mayAsk = false;
    this.#isAsking = false;
    this.#askTimer.clear();
  }

  close() {
    this.#isClosed = true;
    this.stopAsking();
    this.#resetTimer.clear();
    this.#queue = [];
  }

  /** @param {string} cursor */
  #startAt(cursor) {
    this.cursor = this.#at = cursor;
    this.#passed.add(cursor);
    this.#shelf.keep(cursor);
  }

  /** Events or a reset wait for what lies before them; mere positions can wait. */
  #isWaitedFor() {
    return this.#held.some((item) => item.event || item.reset);
  }

  #applyHeld() {
    const isApplied = this.#apply(this.#held);
    if (isApplied) this.#held = [];
    return isApplied;
  }

  /**
   * Append what is new of a chain of positions; false if this page has passed none of them.
   *
   * After a reset positions don't count: their cursors may have been those of other events before.
   *
   * @param {Item[]} chain
   */
  #apply(chain) {
    const reset = chain.findIndex((item) => item.reset);
    let last = (reset < 0 ? chain.length : reset) - 1;
    while (last >= 0 && !this.#passed.has(chain[last].cursor)) last--;
    if (last < 0) return false;
    let isAhead = chain[last].cursor === this.#at;
    for (const item of chain.slice(last + 1)) {
      // From a position further back, only an event proves that the chain is ahead of this page.
      isAhead ||= Boolean(item.event ?? item.reset);
      if (isAhead) this.#append(item);
      else this.#pass(item.cursor);
    }
    return true;
  }

  /** @param {Item} item */
  #append(item) {
    if (item.reset) {
      this.#passed.clear();
      this.#resets++;
    }
    this.#pass(item.cursor);
    this.#at = item.cursor;
    this.#queue.push(item);
    this.#handle();
  }

  /** @param {string} cursor */
  #pass(cursor) {
    this.#passed.add(cursor);
    if (this.#passed.size > REMEMBERED_POSITIONS) {
      const [oldest] = this.#passed;
      this.#passed.delete(oldest);
    }
  }

  async #handle() {
    if (this.#isHandling) return;
    this.#isHandling = true;
    // Handlers never run inside of the code that brings the events: they may close the client.
    await null;
    while (this.#queue.length) {
      const item = /** @type {Item} */ (this.#queue.shift());
      if (item.reset) await this.#handleReset(item.reset);
      else if (item.event) await this.#handlers.call("event", item.event);
      if (this.#isClosed) return;
      this.cursor = item.cursor;
      this.#shelf.keep(item.cursor);
      this.#owner.handled(item);
    }
    this.#isHandling = false;
  }

  /** @param {Reset} reset */
  async #handleReset(reset) {
    const backoff = new Backoff(this.#outside.clock);
    let handlers = this.#handlers.of("reset");
    if (!handlers.length) console.warn("orgrealtime: nothing handles a reset; what this page shows may be incomplete");
    for (;;) {
      handlers = await this.#handlers.call("reset", reset, handlers);
      if (!handlers.length || this.#isClosed) break;
      await new Promise((resolve) => this.#resetTimer.set(backoff.next(), () => resolve(null)));
      const left = this.#handlers.of("reset");
      handlers = handlers.filter((handler) => left.includes(handler));
    }
    this.#resets--;
  }

  /** Fetch what lies after this page's position, until it has met what is held. */
  #ask() {
    if (!this.#mayAsk || this.#isAsking) return;
    this.#isAsking = true;
    this.#owner.busy();
    this.#askOnce();
  }

  /** @returns {Promise<void>} */
  async #askOnce() {
    const since = /** @type {string} */ (this.#at);
    const judged = this.#held.filter((item) => item.reset).pop();
    const { frame, more, code } = await fetchPage(this.#outside, this.#site.catchUp, since);
    if (!this.#mayAsk) return;
    if (code && isFinal(code)) return this.#owner.stopped(code);
    const isApplied = frame && this.#apply([{ cursor: since }, ...itemsOf(frame)]);
    if (frame && judged) this.#forgetUpTo(judged);
    this.#applyHeld();
    if (isApplied) this.#askBackoff.reset();
    if (isApplied && more) return this.#askOnce();
    if (!frame || this.#isWaitedFor()) return this.#askTimer.set(this.#askBackoff.next(), () => this.#askOnce());
    this.#isAsking = false;
    this.#owner.busy();
  }

  /** The server has judged this page's own position since: the chain's reset isn't for it. @param {Item} reset */
  #forgetUpTo(reset) {
    const index = this.#held.indexOf(reset);
    if (index >= 0) this.#held = [{ cursor: reset.cursor }, ...this.#held.slice(index + 1)];
  }
}

/** One connection after the other. */
class Link {
  /** Where the connection stands. @type {string | null} */ position = null;
  /** @type {Transport | null} */ #transport = null;
  /** Something better that is being tried beside a fallback. @type {Transport | null} */ #candidate = null;
  /** Which of TRANSPORTS; they are worse and worse. */ #level = 0;
  /** Attempts in a row that a working server would have answered. */ #blocked = 0;
  /** When to leave a server that is stopping. */ #leaveAt = 0;
  /** Until then connections may be refused because the server is stopping. */ #restartsUntil = 0;
  messageBytes = DEFAULT_MESSAGE_BYTES;
  /** @type {State} */ state = { name: "connecting" };
  #isClosed = false;
  #acks;
  #backoff;
  #betterTimer;
  #host;
  #leaveTimer;
  #outside;
  #retryTimer;
  #site;

  /** @param {Outside} outside @param {Site} site @param {Host} host */
  constructor(outside, site, host) {
    const { clock } = outside;
    this.#outside = outside;
    this.#site = site;
    this.#host = host;
    this.#backoff = new Backoff(clock);
    this.#retryTimer = new Timer(clock);
    this.#leaveTimer = new Timer(clock);
    this.#betterTimer = new Timer(clock);
    this.#acks = new Acks(clock, (cursor) => this.#transport?.send(JSON.stringify({ type: "ack", cursor })));
  }

  start() {
    if (!this.#isClosed) this.#connect();
  }

  close() {
    this.#isClosed = true;
    this.#release();
    this.#candidate?.close();
    this.#candidate = null;
    this.#betterTimer.clear();
  }

  wake() {
    if (!this.#retryTimer.hurry()) this.#transport?.wake();
  }

  online() {
    this.wake();
    this.#tryBetter();
  }

  /** Don't wait until the silence is noticed. */
  offline() {
    if (this.#isClosed) return;
    this.#praise(this.#transport);
    this.#retry();
  }

  /** @param {string} text */
  send(text) {
    checkSize(text, this.messageBytes);
    return this.#transport?.welcomedAt ? this.#transport.send(text) : false;
  }

  /** @param {Item} item */
  handled(item) {
    this.#acks.handled(item);
  }

  /** @param {Transport} transport @param {Frame} frame */
  receive(transport, frame) {
    if (frame.type === "welcome") transport.welcomed(frame);
    if (transport.isProved) this.#blocked = 0;
    if (transport === this.#candidate && !this.#adopt(transport, frame)) return;
    if (frame.type === "welcome") this.#welcome(frame);
    if (frame.type === "going_away") return this.#leave(frame);
    this.#deliver(frame);
    if (frame.type === "synced") this.#show({ name: "live" });
  }

  /** @param {Transport} transport @param {number} [code] */
  ended(transport, code) {
    if (transport === this.#candidate) {
      this.#candidate = null;
      this.#tryBetter(transport.level + 1);
    }
    if (transport !== this.#transport) return;
    const { welcomedAt, explains } = transport;
    this.#praise(transport);
    // The connection was an old login's; the browser may have another one by now.
    if (code && COMMON_STOPS.has(code) && !explains) return void this.#inquire(transport, code);
    if (code && isFinal(code)) return this.#stop(code);
    if (welcomedAt) return this.#lost(code);
    if (explains || (code && code in CLOSE_CODES)) return this.#retry(code);
    this.#inquire(transport, code);
  }

  /** A connection that stood for a while: the next attempt is a first one. @param {Transport | null} transport */
  #praise(transport) {
    const welcomedAt = transport?.welcomedAt;
    if (welcomedAt && this.#outside.clock.now() - welcomedAt >= HEALTHY_AFTER) this.#backoff.reset();
  }

  #connect() {
    this.#praise(this.#transport);
    this.#release();
    this.#show({ name: "connecting" });
    this.#transport = this.#open(this.#level);
  }

  /** @param {number} level */
  #open(level) {
    const transport = new TRANSPORTS[level](this.#outside, this.#site, this.#host.since(), this);
    transport.level = level;
    transport.start();
    return transport;
  }

  /**
   * Change over to what was tried beside a fallback; false if it isn't what receives this frame.
   *
   * @param {Transport} candidate
   * @param {Frame} frame
   */
  #adopt(candidate, { type }) {
    if (!candidate.isProved) return false;
    this.#candidate = null;
    this.#level = candidate.level;
    if (this.#level > 0) this.#tryBetterLater();
    if (type === "welcome") {
      this.#praise(this.#transport);
      this.#release();
      this.#transport = candidate;
      return true;
    }
    // Nobody has received what it brought until now: begin again, from where this page has come to meanwhile.
    candidate.close();
    this.#connect();
    return false;
  }

  /** @param {Frame} frame */
  #welcome(frame) {
    this.messageBytes = frame.limits?.message_bytes ?? DEFAULT_MESSAGE_BYTES;
    this.position = frame.cursor;
    this.#show({ name: "catching-up" });
  }

  /** @param {Frame} frame */
  #deliver(frame) {
    if (typeof frame.cursor !== "string") return this.#host.message(frame);
    const prev = this.position ?? frame.cursor;
    this.position = frame.cursor;
    this.#acks.received(frame);
    this.#host.segment(prev, frame);
  }

  /** The server is about to stop; until then this connection goes on. @param {Frame} frame */
  #leave({ retry_after_ms = 0, window_ms = MASS_WINDOW }) {
    const { clock } = this.#outside;
    const delay = retry_after_ms + clock.random() * window_ms;
    this.#restartsUntil = clock.now() + RESTARTS_WITHIN;
    this.#leaveAt = clock.now() + delay;
    this.#leaveTimer.set(delay, () => this.#connect());
  }

  /** @param {number} [code] */
  #lost(code) {
    const { clock } = this.#outside;
    const isMass = code !== undefined && MASS_CLOSES.has(code);
    if (isMass) this.#restartsUntil = clock.now() + RESTARTS_WITHIN;
    if (this.#leaveAt) return this.#retry(code, Math.max(0, this.#leaveAt - clock.now()));
    if (isMass && this.#backoff.isFresh) {
      this.#backoff.next();
      return this.#retry(code, clock.random() * MASS_WINDOW);
    }
    this.#retry(code);
  }

  /**
   * A browser doesn't tell why a connection wasn't opened, nor is one that was open judged by the login of now: ask
   * where both are told.
   *
   * @param {Transport} transport
   * @param {number} [code]
   */
  async #inquire(transport, code) {
    this.#show({ name: "connecting" });
    const since = this.#host.since();
    const answer = await fetchPage(this.#outside, this.#site.catchUp, since);
    if (transport !== this.#transport) return;
    if (answer.code && isFinal(answer.code)) return this.#stop(answer.code);
    if (answer.frame) {
      this.position = since;
      this.#deliver(answer.frame);
      if (this.#isBlocked(transport)) return this.#fallBack();
    }
    this.#retry(answer.code ?? code);
  }

  /** Something lets HTTP through, but not this kind of connection. @param {Transport} transport */
  #isBlocked({ welcomedAt, chances }) {
    if (welcomedAt || this.#outside.clock.now() < this.#restartsUntil) return false;
    return ++this.#blocked >= chances;
  }

  #fallBack() {
    this.#blocked = 0;
    this.#level++;
    this.#tryBetterLater();
    this.#connect();
  }

  /** Not in step with the others who lost the same way. */
  #tryBetterLater() {
    this.#betterTimer.set(spread(this.#outside.clock, RETRY_BETTER_EVERY), () => this.#tryBetter());
  }

  /** Have the fallback go on until something better is proved to work, the best first. */
  #tryBetter(level = 0) {
    if (this.#level === 0 || this.#candidate || this.#isClosed) return;
    if (level < this.#level) this.#candidate = this.#open(level);
    else this.#tryBetterLater();
  }

  /** @param {number} [code] @param {number} [delay] */
  #retry(code, delay = this.#backoff.next()) {
    this.#release();
    const isOffline = this.#outside.navigator?.onLine === false;
    // The browser may be wrong, so try now and then; `online` is what is waited for.
    if (isOffline) delay = BACKOFF_CAP;
    this.#retryTimer.set(delay, () => this.#connect());
    this.#show({ name: isOffline ? "offline" : "waiting", retryAt: this.#outside.clock.now() + delay, code });
  }

  /** @param {number} code */
  #stop(code) {
    this.close();
    this.#host.stopped(code);
  }

  #release() {
    this.#retryTimer.clear();
    this.#leaveTimer.clear();
    this.#leaveAt = 0;
    this.#acks.clear();
    const transport = this.#transport;
    this.#transport = null;
    transport?.close();
  }

  /** @param {State} state */
  #show(state) {
    this.state = { ...state, transport: TRANSPORTS[this.#level].transportName };
    this.#host.state(this.state);
  }
}

/** Tells the server what has been handled: only what it sent on this connection, and not for every event. */
class Acks {
  /** @type {Set<string>} */ #sent = new Set();
  #cursor = "";
  #events = 0;
  #timer;
  #send;

  /** @param {Clock} clock @param {(cursor: string) => void} send */
  constructor(clock, send) {
    this.#timer = new Timer(clock);
    this.#send = send;
  }

  /** @param {Frame} frame */
  received(frame) {
    for (const { cursor } of itemsOf(frame)) this.#sent.add(cursor);
  }

  /** @param {Item} item */
  handled({ cursor, event }) {
    if (!this.#sent.has(cursor)) return;
    for (const earlier of this.#sent) {
      this.#sent.delete(earlier);
      if (earlier === cursor) break;
    }
    this.#cursor = cursor;
    if (event && ++this.#events >= ACK_EVENTS) this.#flush();
    else if (!this.#timer.isSet) this.#timer.set(ACK_EVERY, () => this.#flush());
  }

  clear() {
    this.#sent.clear();
    this.#events = 0;
    this.#timer.clear();
  }

  #flush() {
    this.#timer.clear();
    this.#events = 0;
    this.#send(this.#cursor);
  }
}

/** One attempt, and the connection that comes of it. Calls the link never again after `close()`. */
class Transport {
  /** @type {TransportName} */ static transportName = "websocket";
  /** How often it may fail to open, before another kind is used. */ chances = 1;
  /** Its failures say all there is to know. */ explains = false;
  /** Which of TRANSPORTS it is. */ level = 0;
  /** How long after its welcome something must come, to prove that it works. */ provedAfter = 0;
  opensWithin = ASK_WITHIN;
  welcomedAt = 0;
  isOver = false;
  #deadline;

  /** @param {Outside} outside @param {Site} site @param {string | null} since @param {Link} link */
  constructor(outside, site, since, link) {
    this.outside = outside;
    this.site = site;
    this.since = since;
    this.link = link;
    this.#deadline = new Timer(outside.clock);
  }

  get isProved() {
    return this.welcomedAt > 0 && this.outside.clock.now() - this.welcomedAt >= this.provedAfter;
  }

  start() {
    this.#deadline.set(this.opensWithin, () => this.end());
    this.open();
  }

  open() {}

  wake() {}

  /** @param {string} _text */
  send(_text) {
    return false;
  }

  /** @param {Frame} _frame */
  welcomed(_frame) {
    this.welcomedAt = this.outside.clock.now();
    this.#deadline.clear();
  }

  /** @param {Frame} frame */
  receive(frame) {
    if (!this.isOver) this.link.receive(this, frame);
  }

  /** @param {number} [code] */
  end(code) {
    if (this.isOver) return;
    this.close();
    this.link.ended(this, code);
  }

  close() {
    this.isOver = true;
    this.#deadline.clear();
  }
}

class SocketTransport extends Transport {
  chances = 2;
  opensWithin = SOCKET_OPENS_WITHIN;
  /** @type {WebSocket | null} */ #socket = null;
  #heardAt = 0;
  #pingTimer = new Timer(this.outside.clock);
  #pongTimer = new Timer(this.outside.clock);

  open() {
    const url = addressOf(this.outside, this.site.socket, { since: this.since });
    url.protocol = url.protocol.replace("http", "ws");
    try {
      this.#socket = new this.outside.WebSocket(url.href, SUBPROTOCOL);
    } catch {
      // Such as a Content-Security-Policy that allows no sockets.
      this.#pongTimer.set(0, () => this.end());
      return;
    }
    this.#socket.onmessage = ({ data }) => this.#hear(data);
    this.#socket.onclose = ({ code }) => this.end(code);
  }

  /** @param {string} text */
  send(text) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(text);
    return true;
  }

  wake() {
    if (this.welcomedAt && this.outside.clock.now() - this.#heardAt > RECENT) this.#ping();
  }

  /** @param {Frame} frame */
  welcomed(frame) {
    super.welcomed(frame);
    this.#pingLater(Math.min((frame.heartbeat || Infinity) * 1000, PING_EVERY));
  }

  close() {
    super.close();
    this.#pingTimer.clear();
    this.#pongTimer.clear();
    if (!this.#socket) return;
    // On a dead link the close event takes minutes.
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  /** @param {string} data */
  #hear(data) {
    this.#heardAt = this.outside.clock.now();
    this.#pongTimer.clear();
    const frame = parse(data);
    if (frame) this.receive(frame);
    else this.end();
  }

  /** Also while frames arrive: the server closes a connection whose pings have ceased. @param {number} interval */
  #pingLater(interval) {
    this.#pingTimer.set(interval, () => {
      this.#pingLater(interval);
      this.#ping();
    });
  }

  #ping() {
    this.send('{"type":"ping"}');
    if (!this.#pongTimer.isSet) this.#pongTimer.set(PONG_WITHIN, () => this.end());
  }
}

/** Server-Sent Events. Read with `fetch`, which shows the status of a refusal and what proves life. */
class StreamTransport extends Transport {
  /** @type {TransportName} */ static transportName = "sse";
  chances = 2;
  provedAfter = HEALTHY_AFTER; // what holds a stream back often lets its beginning through
  opensWithin = STREAM_OPENS_WITHIN;
  #abort = new AbortController();
  #silenceTimer = new Timer(this.outside.clock);

  async open() {
    try {
      await this.#read();
    } catch {
      // Not reached, broken off or aborted.
    }
    this.end();
  }

  close() {
    super.close();
    this.#silenceTimer.clear();
    this.#abort.abort();
  }

  async #read() {
    const url = addressOf(this.outside, this.site.stream, { since: this.since });
    const headers = { Accept: "text/event-stream" };
    const response = await this.outside.fetch(url.href, { headers, cache: "no-store", signal: this.#abort.signal });
    const isStream = response.ok && response.headers.get("Content-Type")?.startsWith("text/event-stream");
    if (!isStream || !response.body) return this.#refused(verdictOf(response.status, await response.json()));
    const chunks = response.body.getReader();
    const decoder = new TextDecoder();
    for (let rest = ""; ; ) {
      const { done, value } = await chunks.read();
      if (done || this.isOver) return;
      this.#silenceTimer.set(STREAM_SILENCE, () => this.#fallSilent());
      rest = this.#take(rest + decoder.decode(value, { stream: true }));
    }
  }

  /** @param {number} [code] */
  #refused(code) {
    this.explains = code !== undefined;
    this.end(code);
  }

  /** Something may hold back what the server sends: as good as not opened, if the server can be reached. */
  #fallSilent() {
    this.welcomedAt = 0;
    this.end();
  }

  /** Receive the complete frames of a text; returns what is left. @param {string} text */
  #take(text) {
    const blocks = text.split(/\r?\n\r?\n/);
    const rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const lines = block.split(/\r?\n/);
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (data.length) this.#hear(data.join("\n"), lines.includes("event: close"));
    }
    return rest;
  }

  /** @param {string} data @param {boolean} isClose */
  #hear(data, isClose) {
    const frame = parse(data);
    if (!frame || isClose) this.end(frame?.code);
    else this.receive(frame);
  }
}

/** The catch-up view, asked again and again. */
class PollTransport extends Transport {
  /** @type {TransportName} */ static transportName = "polling";
  explains = true;
  #timer = new Timer(this.outside.clock);
  #at = this.since;
  #isSynced = false;

  open() {
    this.#poll();
  }

  wake() {
    this.#timer.hurry();
  }

  close() {
    super.close();
    this.#timer.clear();
  }

  async #poll() {
    const { frame, more, code } = await fetchPage(this.outside, this.site.catchUp, this.#at);
    if (!frame) return this.end(code);
    if (!this.welcomedAt) this.receive({ type: "welcome", cursor: this.#at ?? frame.cursor });
    this.#at = frame.cursor;
    this.receive(frame);
    if (!more && !this.#isSynced) {
      this.#isSynced = true;
      this.receive({ type: "synced", cursor: frame.cursor });
    }
    if (!this.isOver) this.#timer.set(more ? 0 : this.#interval(), () => this.#poll());
  }

  #interval() {
    const { clock, document } = this.outside;
    return spread(clock, this.site.pollInterval * (document?.hidden ? HIDDEN_POLLS_SLOWER : 1));
  }
}

const TRANSPORTS = [SocketTransport, StreamTransport, PollTransport];

/**
 * The tabs of one browser: the one that holds the lock has the Link and tells the others each segment.
 *
 * A tab that goes away gives up the lock, one that crashes is freed of it by the browser, from one that hangs it is
 * taken; whoever gets it goes on from its own position.
 */
class Tabs {
  /** @type {BroadcastChannel | null} */ #channel = null;
  /** The request for the lock that counts. @type {AbortController | null} */ #bid = null;
  /** Set while this tab leads. @type {Link | null} */ #link = null;
  /** @type {State} */ #leaderState = { name: "connecting" };
  #resign = () => {};
  /** @type {Promise<void> | null} */ #check = null;
  #messageBytes = DEFAULT_MESSAGE_BYTES;
  #heardAt = 0;
  #askedAt = 0;
  #host;
  #meet;
  #name;
  #outside;
  #site;
  #watchTimer;

  /**
   * @param {Outside} outside
   * @param {Site} site
   * @param {Host} host
   * @param {string} name  of the lock and the channel
   * @param {(cursor: string) => void} meet
   */
  constructor(outside, site, host, name, meet) {
    this.#outside = outside;
    this.#site = site;
    this.#host = host;
    this.#name = name;
    this.#meet = meet;
    this.#watchTimer = new Timer(outside.clock);
  }

  start() {
    const Channel = /** @type {NonNullable<Outside["BroadcastChannel"]>} */ (this.#outside.BroadcastChannel);
    this.#channel = new Channel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#host.state(this.#leaderState);
    this.#campaign();
    this.#greet();
    this.#watchLater();
  }

  /** @param {number} [code] */
  close(code) {
    if (code && COMMON_STOPS.has(code)) this.#tell({ kind: "stop", code });
    const bid = this.#bid;
    this.#bid = null;
    bid?.abort();
    this.#watchTimer.clear();
    this.#stepDown();
    this.#channel?.close();
    this.#channel = null;
  }

  wake() {
    if (this.#link) this.#link.wake();
    else this.#greet();
  }

  online() {
    this.#link?.online();
  }

  offline() {
    this.#link?.offline();
  }

  /** @param {string} text */
  send(text) {
    if (this.#link) return this.#link.send(text);
    checkSize(text, this.#messageBytes);
    const { name, transport } = this.#leaderState;
    if (transport !== "websocket" || (name !== "live" && name !== "catching-up")) return false;
    this.#tell({ kind: "send", text });
    return true;
  }

  /** @param {Item} item */
  handled(item) {
    this.#link?.handled(item);
  }

  /** @param {LockOptions} [options] */
  #campaign(options) {
    const locks = /** @type {NonNullable<Outside["locks"]>} */ (this.#outside.locks);
    this.#bid?.abort();
    const bid = new AbortController();
    this.#bid = bid;
    locks
      .request(this.#name, options ?? { signal: bid.signal }, () => (bid === this.#bid ? this.#lead() : undefined))
      .catch(() => bid === this.#bid && this.#deposed());
  }

  #lead() {
    const host = this.#host;
    const link = new Link(this.#outside, this.#site, {
      since: host.since,
      segment: (prev, frame) => {
        host.segment(prev, frame);
        this.#tell({ kind: "segment", prev, frame });
      },
      message: (frame) => {
        host.message(frame);
        this.#tell({ kind: "message", frame });
      },
      state: (state) => {
        host.state(state);
        this.#tellState();
      },
      stopped: host.stopped,
    });
    this.#link = link;
    Promise.resolve(this.#check).then(() => link.start());
    return new Promise((resolve) => {
      this.#resign = () => resolve(null);
    });
  }

  #stepDown() {
    this.#link?.close();
    this.#link = null;
    this.#resign();
  }

  /** Another tab took this one for dead; or there are no locks to be had. */
  #deposed() {
    if (!this.#link) return this.#lead();
    this.#stepDown();
    this.#campaign();
    this.#greet();
  }

  /** @param {any} data */
  #hear(data) {
    if (data.kind === "stop") {
      this.#check ??= this.#checkAccess();
      return;
    }
    if (this.#link) return this.#serve(data);
    if (data.kind === "segment") this.#host.segment(data.prev, data.frame);
    else if (data.kind === "message") this.#host.message(data.frame);
    else if (data.kind === "state") this.#follow(data);
    else return;
    this.#heardAt = this.#outside.clock.now();
  }

  /** Another tab had to stop. This one may be of a later login, so it asks for itself. */
  async #checkAccess() {
    const { code } = await fetchPage(this.#outside, this.#site.catchUp, null);
    this.#check = null;
    if (this.#channel && code && isFinal(code)) this.#host.stopped(code);
  }

  /** @param {any} data */
  #serve(data) {
    if (data.kind === "send") this.#sendFor(data.text);
    if (data.kind !== "greeting") return;
    this.#tellState();
    if (data.isVisible) this.#link?.wake();
  }

  /** @param {string} text */
  #sendFor(text) {
    try {
      this.#link?.send(text);
    } catch (error) {
      console.error(error);
    }
  }

  /** @param {{state: State, at: string | null, messageBytes: number}} data */
  #follow({ state, at, messageBytes }) {
    this.#leaderState = state;
    this.#messageBytes = messageBytes;
    this.#host.state({ ...state, transport: "shared" });
    if (at !== null) this.#meet(at);
  }

  /** Ask the leader for a sign of life, and to do at once what it puts off while nobody looks. */
  #greet() {
    this.#askedAt = this.#outside.clock.now();
    this.#tell({ kind: "greeting", isVisible: !this.#outside.document?.hidden });
  }

  #watchLater() {
    this.#watchTimer.set(WATCH_EVERY, () => {
      this.#watchLater();
      if (!this.#link) this.#watch();
    });
  }

  /** A leader in the background has slow timers, and one that hangs keeps its lock. */
  #watch() {
    const { clock, document } = this.#outside;
    const now = clock.now();
    if (this.#askedAt > this.#heardAt) {
      if (now - this.#askedAt >= LEADER_ANSWERS_WITHIN) this.#campaign({ steal: true });
      return;
    }
    const { transport, retryAt = Infinity } = this.#leaderState;
    const isSlow = transport === "polling" || retryAt + WATCH_EVERY < now;
    if (now - this.#heardAt > LEADER_SILENCE || (isSlow && !document?.hidden)) this.#greet();
  }

  #tellState() {
    if (!this.#link) return;
    const { state, position, messageBytes } = this.#link;
    this.#tell({ kind: "state", state, at: position, messageBytes });
  }

  /** @param {object} data */
  #tell(data) {
    this.#channel?.postMessage(data);
  }
}

class Timer {
  /** @type {any} */ #id;
  /** @type {(() => void) | null} */ #act = null;
  #clock;

  /** @param {Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  get isSet() {
    return this.#act !== null;
  }

  /** @param {number} ms @param {() => void} act */
  set(ms, act) {
    this.clear();
    this.#act = act;
    this.#id = this.#clock.setTimeout(() => this.hurry(), ms);
  }

  /** Do at once what waits, if anything. */
  hurry() {
    const act = this.#act;
    this.clear();
    act?.();
    return act !== null;
  }

  clear() {
    this.#clock.clearTimeout(this.#id);
    this.#act = null;
  }
}

/** Full jitter: thousands who lost the same server don't come back in step. */
class Backoff {
  #attempts = 0;
  #clock;

  /** @param {Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  get isFresh() {
    return this.#attempts === 0;
  }

  next() {
    return this.#clock.random() * Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** this.#attempts++);
  }

  reset() {
    this.#attempts = 0;
  }
}

/** Give or take a fifth. @param {Clock} clock @param {number} ms */
function spread(clock, ms) {
  return ms * (0.8 + 0.4 * clock.random());
}

/**
 * Ask the catch-up view for a page: the answer in the words of the protocol, as a frame or as a close code.
 *
 * @param {Outside} outside
 * @param {string} url
 * @param {string | null} since  null: the newest events
 * @param {number} [limit]  default: without `since`, one event: only the cursor of the answer matters
 * @returns {Promise<Answer>}
 */
async function fetchPage(outside, url, since, limit = since === null ? 1 : PAGE_EVENTS) {
  const abort = new AbortController();
  const deadline = new Timer(outside.clock);
  deadline.set(ASK_WITHIN, () => abort.abort());
  try {
    const address = addressOf(outside, url, { since, limit: String(limit) });
    const init = { headers: { Accept: "application/json" }, cache: /** @type {const} */ ("no-store") };
    const response = await outside.fetch(address.href, { ...init, signal: abort.signal });
    const body = await response.json();
    const code = verdictOf(response.status, body);
    if (code) return { code };
    const { events, cursor, reason, has_more, error } = body;
    if (typeof cursor !== "string") return {};
    if (response.ok) return { frame: { type: "batch", events, cursor }, more: has_more };
    return response.status === 410 && error?.code === "reset" ? { frame: { type: "reset", cursor, reason } } : {};
  } catch {
    return {};
  } finally {
    deadline.clear();
  }
}

/** The stream's positions that a frame names, with what lies between. @param {Frame} frame @returns {Item[]} */
function itemsOf(frame) {
  const { type, cursor } = frame;
  if (type === "reset") return [{ cursor, reset: /** @type {Reset} */ (frame) }];
  if (!CONTROL_FRAMES.has(type)) return [{ cursor, event: /** @type {RealtimeEvent} */ (frame) }];
  const events = type === "batch" ? /** @type {RealtimeEvent[]} */ (frame.events) : [];
  return [...events.map((event) => ({ cursor: event.cursor, event })), { cursor }];
}

/** The server closes the connection on a message that is too long. @param {string} text @param {number} limit */
function checkSize(text, limit) {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > limit) throw new RangeError(`a message has at most ${limit} bytes; this one has ${bytes}`);
}

/** @param {number} code */
function isFinal(code) {
  return CLOSE_CODES[code]?.retry === false;
}

/**
 * The close code that an answer stands for: proxies and firewalls have statuses too, but not the server's words.
 *
 * @param {number} status
 * @param {any} body
 */
function verdictOf(status, body) {
  const code = status + 4000;
  return code in CLOSE_CODES && CLOSE_CODES[code].name === body?.error?.code ? code : undefined;
}

/** @param {string} text @returns {Frame | null} */
function parse(text) {
  try {
    const frame = JSON.parse(text);
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/** @param {Outside} outside @param {string} url @param {Record<string, string | null>} parameters */
function addressOf({ href }, url, parameters) {
  const address = new URL(url, href);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null) address.searchParams.set(name, value);
  }
  return address;
}

/** @param {Options} options @returns {Site} */
function siteOf({ org, url, catchUpUrl, streamUrl, pollInterval = 5_000 }) {
  if (!org && !(url && catchUpUrl)) throw new TypeError("connect() needs 'org', or 'url' and 'catchUpUrl'");
  const path = `/orgs/${encodeURIComponent(org ?? "")}/notifications/`;
  const catchUp = catchUpUrl ?? path;
  return { socket: url ?? `/ws${path}`, catchUp, stream: streamUrl ?? `${catchUp}stream/`, pollInterval };
}

/** @returns {Outside} */
function browser() {
  const { WebSocket, BroadcastChannel, navigator, document, location } = globalThis;
  return {
    clock: {
      now: () => Date.now(),
      random: () => Math.random(),
      setTimeout: (act, ms) => setTimeout(act, ms),
      clearTimeout: (id) => clearTimeout(id),
    },
    WebSocket,
    fetch: (url, init) => fetch(url, init),
    locks: navigator?.locks,
    BroadcastChannel,
    window: globalThis,
    document,
    navigator,
    href: location?.href,
  };
}
