/**
 * One organisation's events in a page: each once and in order, over any number of connections, transports and tabs.
 *
 *     Client                      what the application holds
 *     ├── Subscription            the tab's position in the stream: calls the handlers, fills gaps over HTTP
 *     └── Connection              to the server: opens one transport after the other
 *         ├── Transport           a socket, or, where sockets are blocked, what `fallbacks.js` has
 *         └── (in SharedConnection)   one tab, the leader, has the Connection; the others follow it
 *
 * A Connection delivers *segments*: all events between two positions of the stream. A tab that has passed the first
 * position may apply a segment, because it knows by their cursors which of the events it has. This one rule covers
 * reconnecting, other tabs and HTTP; cursors are never compared but for equality. Speaks protocol version 1.
 *
 * @module orgrealtime
 */

/**
 * @typedef {{type: string, cursor: string, created_at: string, actor: number | string | null, [key: string]: any}}
 *   RealtimeEvent  the payload's members stand beside the four
 * @typedef {{type: "reset", cursor: string, reason: string}} Reset
 * @typedef {{type: string, [key: string]: any}} Frame  what the server sends without a cursor
 * @typedef {"websocket" | "sse" | "polling" | "shared"} TransportName  "shared": another tab has the connection
 * @typedef {"connecting" | "catching-up" | "live" | "stuck" | "waiting" | "offline"
 *   | "stopped" | "unauthenticated" | "forbidden"} StateName
 * @typedef {{name: StateName, transport?: TransportName, retryAt?: number, code?: number}} State  `retryAt` in
 *   milliseconds since 1970; `code` is why the last connection ended
 * @typedef {number | string} Key  of a user
 * @typedef {{user: Key, previous: Key}} UserChange
 * @typedef {{event: RealtimeEvent, reset: Reset, state: State, message: Frame, user: UserChange, error: unknown}} Kinds
 */

/**
 * @template T
 * @typedef {(value: T) => unknown} Handler  may return a promise
 */

/**
 * @typedef {object} Clock
 * @property {() => number} now  milliseconds since 1970
 * @property {() => number} random  at least 0, less than 1
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(id: any) => void} clearTimeout
 */

/**
 * What the client takes from the browser; tests pass their own.
 *
 * @typedef {object} Outside
 * @property {Clock} clock
 * @property {new (url: string, protocols: string | string[]) => WebSocket} WebSocket
 * @property {(url: string, init: RequestInit) => Promise<Response>} fetch
 * @property {Pick<LockManager, "request">} [locks]
 * @property {new (name: string) => BroadcastChannel} [BroadcastChannel]
 * @property {EventTarget} [window]
 * @property {EventTarget & Pick<Document, "hidden"> & Partial<Pick<Document, "querySelectorAll">>} [document]
 * @property {{onLine: boolean}} [navigator]
 * @property {string} [href]  what relative URLs are relative to
 */

/**
 * @typedef {object} Options
 * @property {string | undefined} [org]  slug of the organisation; gives the URLs that aren't given
 * @property {string | undefined} [url]  of the socket
 * @property {string | undefined} [catchUpUrl]
 * @property {string | undefined} [streamUrl]  of the Server-Sent Events; default: `stream/` below `catchUpUrl`
 * @property {RequestCredentials | undefined} [credentials]  of requests over HTTP; default: "include", as of sockets
 * @property {string | null | undefined} [since]  cursor of what the page shows; default: what `storage` has, else now
 * @property {Pick<Storage, "getItem" | "setItem"> | undefined} [storage]  keeps the cursor, such as `sessionStorage`
 * @property {Key | undefined} [user]  for whom the page was made; default: whoever is logged in first
 * @property {boolean | undefined} [share]  one connection for all tabs of the browser, if there is a `shareKey`;
 *   default: true
 * @property {Key | undefined} [shareKey]  the user's id: only tabs with the same key share
 * @property {(() => string | Promise<string>) | undefined} [ticket]  gets a ticket, before each attempt to open a socket
 * @property {number | undefined} [pollInterval]  milliseconds, where nothing but polling gets through; default: 5000
 * @property {boolean | undefined} [debug]  write into the console what the client does
 * @property {Handler<RealtimeEvent> | undefined} [onEvent]
 * @property {Handler<Reset> | undefined} [onReset]  fetch what the page shows afresh; asked again if it fails
 * @property {Handler<State> | undefined} [onState]
 * @property {Handler<Frame> | undefined} [onMessage]  frames that are no events: the host's own, and `error`
 * @property {Handler<UserChange> | undefined} [onUser]  another user has logged in; waited for
 * @property {Handler<unknown> | undefined} [onError]  what handlers threw; default: `console.error`
 * @property {{[Name in keyof Outside]?: Outside[Name] | undefined} | undefined} [outside]
 */

/**
 * @typedef {object} Endpoints  where the server is, and how it is asked
 * @property {string} socketUrl
 * @property {string} catchUpUrl
 * @property {string} streamUrl
 * @property {number} pollInterval
 * @property {RequestCredentials} credentials
 * @property {boolean} showsLogin  whether requests over HTTP show the server who is logged in
 * @property {(frame: Frame) => boolean} isSameUser  whether a frame is for the user of this page
 * @property {(() => Promise<string[]>) | undefined} [protocols]  of the next socket, a new ticket among them
 *
 * @typedef {object} CatchUpAnswer  neither frame nor code: not reached
 * @property {Frame} [frame]
 * @property {boolean} [more]
 * @property {number} [code]
 * @property {number} [retryAfter]  milliseconds that the server wants to be left alone
 *
 * @typedef {{cursor: string, event?: RealtimeEvent, reset?: Reset}} Entry  a position, and what lies just before it
 *
 * @typedef {object} ConnectionListener  what a Connection calls
 * @property {() => string | null} getCursor  where a new connection begins
 * @property {(prev: string, frame: Frame) => void} onSegment
 * @property {(frame: Frame) => void} onMessage
 * @property {(state: State) => void} onState
 * @property {(code: number) => void} onStopped
 *
 * @typedef {object} RetryState  what the retry policy remembers
 * @property {number} attempts  delays since the last stable connection: each may be longer than the one before
 * @property {number} failedOpens  attempts in a row that failed although the catch-up view answers
 * @property {number} restartUntil  until then a restarting server may refuse connections
 * @property {number} reconnectAt  chosen after a `going_away`; 0: not chosen
 * @property {number} notBefore  until then the server wants to be left alone
 *
 * @typedef {object} Outcome  what has become of a transport
 * @property {Frame} [goingAway]  the server is about to stop; the transport is still open
 * @property {number} [code]  the close code, or what the HTTP status of a refusal stands for
 * @property {boolean} [wasOpen]  whether the welcome had come
 * @property {boolean} [hasReason]  whether nobody else needs to be asked why it ended
 * @property {number} [retryAfter]  milliseconds that the server wants to be left alone
 * @property {number} [maxFailedOpens]  after that many failures to open, the next transport is used
 * @property {CatchUpAnswer} [answer]  of the catch-up view, if it was asked
 * @property {boolean} [isOffline]  whether the browser says that it has no network
 *
 * @typedef {object} Decision
 * @property {"wait" | "diagnose" | "fall back" | "stop"} action  "diagnose": ask the catch-up view, decide again
 * @property {number} [delay]  milliseconds to wait
 * @property {number} [code]  why
 * @property {RetryState} state
 *
 * @typedef {object} SubscriptionListener  what a Subscription calls
 * @property {(entry: Entry) => void} onHandled
 * @property {(code: number) => void} onStopped
 * @property {() => void} onProgress  the tab catches up, or a handler is stuck, or no longer
 *
 * @typedef {object} AnyConnection  a Connection or a SharedConnection
 * @property {() => void} connect
 * @property {(code?: number) => void} close
 * @property {() => void} wake  do now what waits: the tab is visible again, or resumed
 * @property {() => void} online  the browser has a network again
 * @property {() => void} offline  the browser has lost the network
 * @property {(text: string) => boolean} send
 * @property {(entry: Entry) => void} onHandled
 *
 * @typedef {object} TransportListener  what a transport calls
 * @property {(transport: AnyTransport, frame: Frame) => void} onFrame
 * @property {(transport: AnyTransport, code?: number) => void} onClosed
 *
 * @typedef {{outside: Outside, endpoints: Endpoints, since: string | null, listener: TransportListener,
 *   maxFailedOpens: number, hasReason: boolean, openTimeout: number, openedAt: number, retryAfter: number,
 *   isClosed: boolean, isConfirmed(): boolean, start(): void, open(): void, wake(): void, send(text: string): boolean,
 *   onWelcome(frame: Frame): void, keepAlive(frame: Frame): void, receive(frame: Frame): void, end(code?: number): void,
 *   close(): void}} AnyTransport
 *
 * @typedef {{new (outside: Outside, endpoints: Endpoints, since: string | null,
 *   listener: TransportListener): AnyTransport, transportName: TransportName}} TransportClass
 */

/** @import { Fallbacks } from "./fallbacks.js" */

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
// The types of frames that no event can have.
const SERVER_FRAMES = ["welcome", "batch", "synced", "cursor", "reset", "pong", "error", "going_away"];
// The codes that concern all tabs: they have the same login. A bad cursor or message is one tab's own.
const ACCESS_CODES = [4401, 4403];
// The codes with which a server that stops closes all its connections at the same moment.
const RESTART_CODES = [1001, 1012];

// Milliseconds.
const BACKOFF_BASE = 500;
const BACKOFF_MAX = 30_000;
const STABLE_AFTER = 10_000;
const RESTART_WINDOW = 5_000;
const RESTART_DURATION = 30_000;
const SOCKET_OPEN_TIMEOUT = 10_000;
const PING_INTERVAL = 20_000;
const PONG_TIMEOUT = 10_000;
const SOCKET_IDLE_AFTER = 5_000;
const FETCH_TIMEOUT = 20_000;
const ACK_INTERVAL = 1_000;
const LEADER_CHECK_INTERVAL = 5_000;
const LEADER_IDLE_AFTER = 20_000;
const LEADER_ANSWER_TIMEOUT = 10_000;
const TURN_LENGTH = 8; // then the page gets a turn: 60 frames a second leave 16
const STUCK_AFTER = 10_000;
const FULL_QUEUE_INTERVAL = 1_000;
const MAX_RETRY_AFTER = 3_600_000;

const ACK_BATCH_SIZE = 100;
const PAGE_SIZE = 500;
const RECENT_SIZE = 50;
const MAX_KNOWN_CURSORS = 5_000;
const MAX_BUFFERED_ENTRIES = 5_000;
const MAX_QUEUED_ENTRIES = 5_000;
const FAILURES_TO_TELL = 3;
const DEFAULT_MESSAGE_BYTES = 16_384;

const HANDLER_OPTION = /^on[A-Z]/; // such as onEvent, which is called for "event"

/** The types of all options but the handlers. @type {Readonly<Record<string, string>>} */
const OPTION_TYPES = {
  org: "string",
  url: "string",
  catchUpUrl: "string",
  streamUrl: "string",
  credentials: "string",
  since: "string",
  storage: "object",
  user: "string or number",
  share: "boolean",
  shareKey: "string or number",
  ticket: "function",
  pollInterval: "number",
  debug: "boolean",
  outside: "object",
};

/**
 * Which states may follow which. A change that isn't here is refused, so that nothing that comes late revives what has
 * ended.
 *
 * @typedef {Readonly<Record<string, readonly string[]>>} Transitions
 */

/** A client has a connection only while it is running. @type {Transitions} */
const CLIENT_TRANSITIONS = {
  starting: ["running", "ended"],
  running: ["suspended", "switching", "ended"],
  suspended: ["running", "ended"], // the tab is frozen, or in the back-forward cache
  switching: ["running", "ended"], // another user has logged in, and the handlers of the first are told
  ended: [],
};

/** @type {Transitions} */
const SUBSCRIPTION_TRANSITIONS = {
  following: ["catching-up", "draining", "closed"],
  "catching-up": ["following", "draining", "closed"], // fetches over HTTP what the connection doesn't deliver
  draining: ["closed"], // the handlers get what has arrived, and nothing more is fetched
  closed: [],
};

/** A connection is live only after it has caught up. */
const LIVE_AFTER = ["catching-up", "live"];

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
  /** @type {AnyConnection | null} */ #connection = null;
  /** @type {State} */ #state = { name: "connecting" };
  /** @type {State} */ #connectionState = this.#state;
  /** The last state that the handlers were told, as JSON. */ #announcedState = "";
  #listening = new AbortController();
  /** Of CLIENT_TRANSITIONS. */ #phase = "starting";
  /** Whether the stream has reached this page. */ #hasBeenLive = false;
  #failures = 0;
  #handlers;
  /** @type {Outside} */ #outside;
  #options;
  #subscription;
  #endpoints;

  /** @param {Options} options */
  constructor(options) {
    this.#outside = /** @type {Outside} */ ({ ...browserEnvironment(), ...options?.outside });
    this.#options = withConfigOfPage(options ?? {}, this.#outside);
    this.#handlers = new Handlers(this.#options);
    this.#endpoints = endpointsOf(this.#options, this.#outside, this.#handlers, (frame) => this.#isSameUser(frame));
    this.#subscription = this.#createSubscription();
    checkOptions(this.#options);
    const start = () => this.#start();
    // Not at once: handlers may want to use the client that is being made.
    if (!this.#options.debug) queueMicrotask(start);
    else
      diagnostics()
        .then(({ trace }) => trace(/** @type {any} */ (this), this.#outside))
        .then(start, start);
  }

  /** How far the handlers have come. @returns {string | null} */
  get cursor() {
    return this.#subscription.cursor;
  }

  get state() {
    return this.#state;
  }

  /** Whose events these are, as the server or the page has said; null as long as neither has. @returns {Key | null} */
  get user() {
    return this.#options.user ?? null;
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
    return this.#connection?.send(JSON.stringify(message)) ?? false;
  }

  /**
   * Load the newest events over HTTP, the oldest of them first. They change neither `cursor` nor what handlers get.
   *
   * Rejects with an Error; its `code` is a close code, if the server has said why.
   *
   * @param {number} [limit]  1 to 500
   * @returns {Promise<RealtimeEvent[]>}
   */
  async recent(limit = RECENT_SIZE) {
    const { frame, code } = await fetchPage(this.#outside, this.#endpoints, null, limit);
    if (frame?.events) return frame.events;
    const reason = code ? `the answer is ${code} ${CLOSE_CODES[code].name}` : "the server wasn't reached";
    throw Object.assign(new Error(`The newest events can't be loaded: ${reason}`), { code });
  }

  /** Nothing is delivered any more, not even what has arrived. */
  close() {
    this.#end({ name: "stopped" });
    this.#subscription.close();
  }

  #start() {
    if (this.#phase === "ended") return;
    const { window, document } = this.#outside;
    this.#listen(window, "online", () => this.#wake("online"));
    this.#listen(window, "offline", () => this.#connection?.offline());
    // A tab in the back-forward cache, or frozen, must hold neither the connection nor the lock.
    this.#listen(window, "pagehide", () => this.#suspend());
    this.#listen(window, "pageshow", () => this.#resume());
    this.#listen(document, "freeze", () => this.#suspend());
    this.#listen(document, "resume", () => this.#resume());
    this.#listen(document, "visibilitychange", () => !document?.hidden && this.#wake("wake"));
    this.#resume();
  }

  /** @param {"wake" | "online"} how */
  #wake(how) {
    this.#subscription.wake();
    this.#connection?.[how]();
  }

  /** Change the phase; false if that isn't allowed. @param {string} phase */
  #enter(phase) {
    const isAllowed = CLIENT_TRANSITIONS[this.#phase].includes(phase);
    if (isAllowed) this.#phase = phase;
    return isAllowed;
  }

  #suspend() {
    if (this.#enter("suspended")) this.#closeConnection();
  }

  #resume() {
    if (!this.#enter("running")) return;
    this.#connection = this.#createConnection();
    this.#connection.connect();
    this.#subscription.wake();
  }

  #createSubscription() {
    const cursorStore = new CursorStore(this.#options, this.#handlers);
    return new Subscription(this.#outside, this.#endpoints, this.#handlers, cursorStore, {
      onHandled: (entry) => this.#connection?.onHandled(entry),
      onStopped: (code) => this.#stop(code),
      onProgress: () => this.#onConnectionState(this.#connectionState),
    });
  }

  /** Whether a frame is for the user of this page: a browser may have another login since the page was made. */
  #isSameUser(/** @type {Frame} */ { user, cursor }) {
    const { id } = user ?? {};
    this.#options.user ??= id;
    if (String(this.#options.user) === String(id ?? this.#options.user)) return true;
    this.#switchUser(id, cursor);
    return false;
  }

  /**
   * Begin anew as another user. Nothing of theirs is delivered before the handlers have been told; if there are none
   * that could take away what the page shows of the first user, the client ends.
   *
   * @param {Key} user
   * @param {string} cursor  no event before it is needed: the page will show what is newer
   */
  async #switchUser(user, cursor) {
    if (!this.#enter("switching")) return;
    this.#closeConnection();
    this.#subscription.close();
    this.#onConnectionState({ name: "connecting" });
    const previous = /** @type {Key} */ (this.#options.user);
    Object.assign(this.#options, { user, since: null, shareKey: this.#options.shareKey && String(user) });
    await this.#handlers.call("user", { user, previous });
    if (!this.#handlers.has("user", "reset")) {
      tell("user", { user, previous });
      return this.#stop(4401);
    }
    if (this.#phase !== "switching") return;
    this.#subscription = this.#createSubscription();
    this.#subscription.restart(cursor, "user");
    this.#resume();
  }

  #closeConnection(/** @type {number} */ code = 0) {
    this.#connection?.close(code);
    this.#connection = null;
  }

  #createConnection() {
    const { locks, BroadcastChannel } = this.#outside;
    const { share = true, shareKey } = this.#options;
    /** @type {ConnectionListener} */
    const listener = {
      getCursor: () => this.#subscription.resumeCursor,
      onSegment: (prev, frame) => this.#subscription.receive(prev, frame),
      onMessage: (frame) => this.#onMessage(frame),
      onState: (state) => this.#onConnectionState(state),
      onStopped: (code) => this.#stop(code),
    };
    // Without a key the tabs of two users would share one user's connection.
    const { socketUrl, catchUpUrl, streamUrl } = this.#endpoints;
    const name = `${SUBPROTOCOL} ${socketUrl} ${catchUpUrl} ${streamUrl} ${shareKey}`;
    const isShared = share && (shareKey ?? "") !== "" && locks && isChannelUsable(BroadcastChannel, name);
    if (!isShared) return new Connection(this.#outside, this.#endpoints, listener);
    return new SharedConnection(this.#outside, this.#endpoints, listener, name, (cursor) =>
      this.#subscription.catchUpTo(cursor),
    );
  }

  /** @param {Frame} frame */
  #onMessage(frame) {
    if (frame.type === "error" && !this.#handlers.has("message")) tell("error", frame.error);
    this.#handlers.notify("message", frame);
  }

  /** @param {State} state  of the connection */
  #onConnectionState(state) {
    if (this.#phase === "ended") return;
    this.#connectionState = state;
    const { isStuck, isCatchingUp } = this.#subscription;
    let { name } = state;
    if (name === "live" && isCatchingUp) name = "catching-up";
    if (isStuck && (name === "live" || name === "catching-up")) name = "stuck";
    this.#setState({ ...state, name });
    if (!this.#hasBeenLive) this.#tellOfBeginning(name);
  }

  /** Tell of mistakes that show when a client first connects. @param {StateName} name */
  #tellOfBeginning(name) {
    this.#hasBeenLive = name === "live";
    if (name === "live" && !this.#handlers.has("event", "reset", "message", "user")) tell("handlers");
    if (name === "waiting" && ++this.#failures === FAILURES_TO_TELL) tell("unreachable", this.#endpoints);
  }

  /** @param {State} state */
  #setState(state) {
    const text = JSON.stringify(state);
    if (text === this.#announcedState) return;
    this.#announcedState = text;
    this.#state = state;
    queueMicrotask(() => this.#handlers.notify("state", state));
  }

  /** @param {number} code */
  #stop(code) {
    if (!this.#hasBeenLive) tell("refused", { code, ...this.#endpoints });
    const name = /** @type {StateName} */ (ACCESS_CODES.includes(code) ? CLOSE_CODES[code].name : "stopped");
    this.#end({ name, code }, code);
  }

  /** @param {State} state @param {number} [code] */
  #end(state, code) {
    if (!this.#enter("ended")) return;
    this.#subscription.drain();
    this.#listening.abort();
    this.#closeConnection(code);
    this.#setState(state);
  }

  /** @param {EventTarget | undefined} target @param {string} type @param {() => void} callback */
  #listen(target, type, callback) {
    target?.addEventListener(type, callback, { signal: this.#listening.signal });
  }
}

/**
 * Whether the tab can open a channel: some browsers have none, or refuse it to a page without storage.
 *
 * @param {Outside["BroadcastChannel"]} Channel
 * @param {string} name
 */
function isChannelUsable(Channel, name) {
  try {
    new /** @type {NonNullable<typeof Channel>} */ (Channel)(name).close();
    return true;
  } catch {
    return false;
  }
}

/** The application's handlers. One that throws is reported and disturbs no other. */
class Handlers {
  /** @type {{[Kind in keyof Kinds]: Set<Handler<Kinds[Kind]>>}} */
  #handlers = {
    event: new Set(),
    reset: new Set(),
    state: new Set(),
    message: new Set(),
    user: new Set(),
    error: new Set(),
  };

  /** @param {Options} options */
  constructor(options) {
    for (const [name, handler] of Object.entries(options)) {
      const kind = /** @type {keyof Kinds} */ (name.slice(2).toLowerCase());
      if (HANDLER_OPTION.test(name) && handler) this.add(kind, /** @type {any} */ (handler));
    }
  }

  /** @template {keyof Kinds} Kind @param {Kind} kind @param {Handler<Kinds[Kind]>} handler */
  add(kind, handler) {
    /** @type {Set<Handler<Kinds[Kind]>> | undefined} */
    const handlers = this.#handlers[kind];
    if (!handlers) throw new TypeError(`no handler is called for "${kind}", but for ${Object.keys(this.#handlers)}`);
    if (typeof handler !== "function") throw new TypeError(`the handler for "${kind}" must be a function`);
    handlers.add(handler);
    return () => void handlers.delete(handler);
  }

  /** @template {keyof Kinds} Kind @param {Kind} kind @returns {Array<Handler<Kinds[Kind]>>} */
  of(kind) {
    return [...this.#handlers[kind]];
  }

  /** Whether anything handles one of these. @param {...keyof Kinds} kinds */
  has(...kinds) {
    return kinds.some((kind) => this.#handlers[kind].size);
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
   * Call the handlers without waiting for any, so that the newest value is the last that each handler gets.
   *
   * @template {keyof Kinds} Kind
   * @param {Kind} kind
   * @param {Kinds[Kind]} value
   */
  notify(kind, value) {
    for (const handler of this.of(kind)) void this.call(kind, value, [handler]);
  }

  /** @param {unknown} error */
  report(error) {
    const handlers = this.of("error");
    if (!handlers.length) console.error(error);
    for (const handler of handlers) {
      try {
        handler(error);
      } catch (handlerError) {
        console.error(handlerError);
      }
    }
  }
}

/** Keeps the cursor in the storage that the application has chosen, if any. */
class CursorStore {
  #storage;
  #key;
  #handlers;
  /** @type {string | null} */ initialCursor;

  /** @param {Options} options @param {Handlers} handlers */
  constructor({ storage, org, url, shareKey = "", user = shareKey, since }, handlers) {
    this.#storage = storage;
    this.#key = `orgrealtime.cursor ${org ?? url} ${user}`;
    this.#handlers = handlers;
    // `since` counts more than a stored cursor: it says what the page shows.
    this.initialCursor = since || this.#access((storage) => storage.getItem(this.#key)) || null;
  }

  /** @param {string} cursor */
  save(cursor) {
    this.#access((storage) => storage.setItem(this.#key, cursor));
  }

  /** @template T @param {(storage: Pick<Storage, "getItem" | "setItem">) => T} callback */
  #access(callback) {
    try {
      return this.#storage && callback(this.#storage);
    } catch (error) {
      this.#handlers.report(error);
    }
  }
}

/** What this tab has received and handled of the stream. */
class Subscription {
  /** The handlers have had everything up to here. @type {string | null} */ cursor;
  /** The tab has received everything up to here. @type {string | null} */ #receivedCursor;
  /** The last positions that the tab has passed. @type {Set<string>} */ #knownCursors = new Set();
  /** A chain that begins at a position which the tab hasn't reached. @type {Entry[]} */ #buffer = [];
  /** Entries that the tab has received, for the handlers. @type {Entry[]} */ #queue = [];
  #pendingResets = 0;
  /** Of SUBSCRIPTION_TRANSITIONS. */ #phase = "following";
  #isProcessing = false;
  /** Whether a handler hasn't settled for long: until it does, the queue stands still. */ isStuck = false;
  #stuckTimer;
  #catchUpTimer;
  /** In a row that have failed. */ #catchUpAttempts = 0;
  #resetTimer;
  #outside;
  #endpoints;
  #handlers;
  #cursorStore;
  #listener;

  /**
   * @param {Outside} outside
   * @param {Endpoints} endpoints
   * @param {Handlers} handlers
   * @param {CursorStore} cursorStore
   * @param {SubscriptionListener} listener
   */
  constructor(outside, endpoints, handlers, cursorStore, listener) {
    this.#outside = outside;
    this.#endpoints = endpoints;
    this.#handlers = handlers;
    this.#cursorStore = cursorStore;
    this.#listener = listener;
    this.#catchUpTimer = new Timer(outside.clock);
    this.#resetTimer = new Timer(outside.clock);
    this.#stuckTimer = new Timer(outside.clock);
    this.cursor = this.#receivedCursor = cursorStore.initialCursor;
    if (this.#receivedCursor) this.#knownCursors.add(this.#receivedCursor);
  }

  /** Where a new connection begins: the server must repeat a reset that isn't handled yet. */
  get resumeCursor() {
    return this.#pendingResets ? this.cursor : this.#receivedCursor;
  }

  get isCatchingUp() {
    return this.#phase === "catching-up";
  }

  /** Whether so many entries wait for the handlers that what comes now is fetched later. */
  get #isFull() {
    return this.#queue.length >= MAX_QUEUED_ENTRIES;
  }

  /** Begin at a position with a reset. @param {string} cursor @param {string} reason */
  restart(cursor, reason) {
    this.#startAt(cursor);
    this.#append({ cursor, reset: { type: "reset", cursor, reason } });
  }

  /**
   * Apply a segment: at once, or when the tab has reached its first position.
   *
   * @param {string} prev  the first position
   * @param {Frame} frame  names the last position, and has what lies between
   */
  receive(prev, frame) {
    if (this.#phase === "closed") return;
    if (this.#receivedCursor === null) this.#startAt(prev);
    const entries = entriesOf(frame);
    if (this.#pendingResets && frame.type === "reset" && prev === this.cursor) return this.#append(entries[0]);
    const isContinued = this.#buffer.at(-1)?.cursor === prev;
    this.#buffer = [...(isContinued ? this.#buffer : [{ cursor: prev }]), ...entries].slice(-MAX_BUFFERED_ENTRIES);
    if (!this.#applyBuffer() && this.#hasBufferedEvents()) this.#catchUp();
  }

  /**
   * Receive everything up to the leader's position.
   *
   * That this tab has passed the position proves nothing: the stream may have been replaced while the tab was frozen.
   *
   * @param {string} cursor
   */
  catchUpTo(cursor) {
    if (this.#receivedCursor === null) this.#startAt(cursor);
    else if (cursor !== this.#receivedCursor) this.#catchUp();
  }

  /** Make the next attempt now. */
  wake() {
    this.#catchUpTimer.runNow();
    this.#resetTimer.runNow();
  }

  /** Fetch nothing more; the handlers get what has arrived. */
  drain() {
    this.#enter("draining");
    this.#catchUpTimer.clear();
  }

  /** Call no handler any more. */
  close() {
    this.#enter("closed");
    this.#catchUpTimer.clear();
    this.#resetTimer.clear();
    this.#stuckTimer.clear();
    this.#queue = [];
  }

  /** Change the phase; false if that isn't allowed. @param {string} phase */
  #enter(phase) {
    const isAllowed = SUBSCRIPTION_TRANSITIONS[this.#phase].includes(phase);
    if (isAllowed) this.#phase = phase;
    return isAllowed;
  }

  /** @param {string} cursor */
  #startAt(cursor) {
    this.cursor = this.#receivedCursor = cursor;
    this.#knownCursors.add(cursor);
    this.#cursorStore.save(cursor);
  }

  /** Whether what lies before the buffer is needed now: for events or a reset, not for mere positions. */
  #hasBufferedEvents() {
    return this.#buffer.some((entry) => entry.event || entry.reset);
  }

  #applyBuffer() {
    const isApplied = !this.#isFull && this.#apply(this.#buffer);
    if (isApplied) this.#buffer = [];
    return isApplied;
  }

  /**
   * Append what is new of a chain of positions; false if the tab has passed none of them.
   *
   * Positions after a reset don't count: before it, the same cursors may have been those of other events.
   *
   * @param {Entry[]} chain
   */
  #apply(chain) {
    const reset = chain.findIndex((entry) => entry.reset);
    let last = (reset < 0 ? chain.length : reset) - 1;
    while (last >= 0 && !this.#knownCursors.has(chain[last].cursor)) last--;
    if (last < 0) return false;
    let isAhead = chain[last].cursor === this.#receivedCursor;
    for (const entry of chain.slice(last + 1)) {
      // If the chain joins at an earlier position, only an event proves that the chain is ahead of the tab.
      isAhead ||= Boolean(entry.event ?? entry.reset);
      if (isAhead) this.#append(entry);
      else this.#remember(entry.cursor);
    }
    return true;
  }

  /** @param {Entry} entry */
  #append(entry) {
    if (entry.reset) {
      this.#knownCursors.clear();
      this.#pendingResets++;
    }
    this.#remember(entry.cursor);
    this.#receivedCursor = entry.cursor;
    this.#queue.push(entry);
    this.#processQueue();
  }

  /** @param {string} cursor */
  #remember(cursor) {
    this.#knownCursors.add(cursor);
    if (this.#knownCursors.size > MAX_KNOWN_CURSORS) {
      const [oldest] = this.#knownCursors;
      this.#knownCursors.delete(oldest);
    }
  }

  async #processQueue() {
    if (this.#isProcessing) return;
    this.#isProcessing = true;
    // Handlers never run within the code that delivers the events: they may close the client.
    await null;
    const { clock } = this.#outside;
    let turnBegan = clock.now();
    while (this.#queue.length) {
      if (clock.now() - turnBegan >= TURN_LENGTH) {
        await nextTurn();
        turnBegan = clock.now();
      }
      const entry = this.#queue.shift();
      if (!entry) break; // closed meanwhile
      if (entry.reset) await this.#handleReset(entry.reset);
      else if (entry.event) await this.#call("event", entry.event);
      if (this.#phase === "closed") return;
      this.cursor = entry.cursor;
      this.#cursorStore.save(entry.cursor);
      this.#listener.onHandled(entry);
    }
    this.#isProcessing = false;
  }

  /**
   * Call handlers, and tell if one of them doesn't settle.
   *
   * @template {"event" | "reset"} Kind
   * @param {Kind} kind
   * @param {Kinds[Kind]} value
   * @param {Array<Handler<Kinds[Kind]>>} [handlers]
   */
  async #call(kind, value, handlers) {
    this.#stuckTimer.set(STUCK_AFTER, () => {
      this.#setStuck(true);
      tell("stuck", value);
    });
    const failed = await this.#handlers.call(kind, value, handlers);
    this.#stuckTimer.clear();
    if (this.isStuck) this.#setStuck(false);
    return failed;
  }

  /** @param {boolean} isStuck */
  #setStuck(isStuck) {
    this.isStuck = isStuck;
    this.#listener.onProgress();
  }

  /** @param {Reset} reset */
  async #handleReset(reset) {
    let handlers = this.#handlers.of("reset");
    if (!handlers.length) tell("reset", reset);
    for (let attempts = 0; ; attempts++) {
      handlers = await this.#call("reset", reset, handlers);
      if (!handlers.length || this.#phase === "closed") break;
      const delay = backoffDelay(attempts, this.#outside.clock.random());
      await new Promise((resolve) => this.#resetTimer.set(delay, /** @type {() => void} */ (resolve)));
      const left = this.#handlers.of("reset");
      handlers = handlers.filter((handler) => left.includes(handler));
    }
    this.#pendingResets--;
  }

  /** Fetch what lies after the tab's position, until the buffer can be applied. */
  #catchUp() {
    if (!this.#enter("catching-up")) return;
    this.#listener.onProgress();
    this.#fetchNextPage();
  }

  /** @returns {Promise<void>} */
  async #fetchNextPage() {
    if (this.#isFull) return this.#catchUpTimer.set(FULL_QUEUE_INTERVAL, () => this.#fetchNextPage());
    const since = /** @type {string} */ (this.#receivedCursor);
    const bufferedReset = this.#buffer.filter((entry) => entry.reset).pop();
    const { frame, more, code, retryAfter } = await fetchPage(this.#outside, this.#endpoints, since);
    if (!this.isCatchingUp) return;
    if (code && isFinalCode(code)) return this.#listener.onStopped(code);
    const isApplied = frame && this.#apply([{ cursor: since }, ...entriesOf(frame)]);
    if (frame && bufferedReset) this.#dropBufferThrough(bufferedReset);
    this.#applyBuffer();
    if (isApplied) this.#catchUpAttempts = 0;
    if (isApplied && more) return this.#fetchNextPage();
    if (!frame || this.#hasBufferedEvents()) {
      const delay = backoffDelay(this.#catchUpAttempts++, this.#outside.clock.random());
      this.#catchUpTimer.set(delay, () => this.#fetchNextPage(), retryAfter);
      return;
    }
    this.#enter("following");
    this.#listener.onProgress();
  }

  /**
   * Drop the buffer up to a reset. The catch-up view has since answered for the tab's own position, so the tab needs
   * that reset no more.
   *
   * @param {Entry} reset
   */
  #dropBufferThrough(reset) {
    const index = this.#buffer.indexOf(reset);
    if (index >= 0) this.#buffer = [{ cursor: reset.cursor }, ...this.#buffer.slice(index + 1)];
  }
}

/**
 * The retry policy: what to do when a transport has ended, has failed to open, or is about to end.
 *
 * @internal
 * @param {RetryState} state
 * @param {Outcome} outcome
 * @param {number} now
 * @param {number} random  at least 0, less than 1
 * @returns {Decision}
 */
export function nextAttempt(state, outcome, now, random) {
  const { goingAway, code = 0, wasOpen, answer, maxFailedOpens = 1, isOffline } = outcome;
  if (goingAway) {
    const { retry_after_ms = 0, window_ms = RESTART_WINDOW } = goingAway;
    const delay = retry_after_ms + random * window_ms;
    const restartUntil = now + RESTART_DURATION;
    return { action: "wait", delay, state: { ...state, restartUntil, reconnectAt: now + delay } };
  }

  if (needsDiagnosis(outcome)) return { action: "diagnose", state };
  const lastCode = answer ? answer.code : code;
  if (lastCode && isFinalCode(lastCode)) return { action: "stop", code: lastCode, state };

  const next = { ...state };
  if (answer?.frame && !wasOpen && now >= state.restartUntil) {
    // Something on the way lets HTTP through, but maybe not this kind of transport.
    next.failedOpens++;
    if (next.failedOpens >= maxFailedOpens) return { action: "fall back", state: { ...next, failedOpens: 0 } };
  }

  const { retryAfter = 0 } = answer ?? outcome;
  if (retryAfter) next.notBefore = now + retryAfter;
  const isLost = wasOpen && !answer;
  const isRestart = isLost && RESTART_CODES.includes(code);
  if (isRestart) next.restartUntil = now + RESTART_DURATION;
  let delay = Math.max(0, state.reconnectAt - now);
  if (!isLost || !state.reconnectAt) {
    // Everybody has lost the server at the same moment: the first attempts need a wider window.
    const isCrowd = isRestart && state.attempts === 0;
    delay = isCrowd ? random * RESTART_WINDOW : backoffDelay(state.attempts, random);
    next.attempts++;
  }
  delay = (isOffline ? BACKOFF_MAX : delay) + Math.max(0, next.notBefore - now);
  return { action: "wait", delay, code: lastCode || code, state: next };
}

/** Whether only the catch-up view can say what to do. @param {Outcome} outcome */
function needsDiagnosis({ answer, hasReason, wasOpen, code = 0 }) {
  if (answer || hasReason) return false;
  return ACCESS_CODES.includes(code) || !(wasOpen || code in CLOSE_CODES);
}

/** A connection to the server. When a transport ends, the connection opens the next one. */
class Connection {
  /** Cursor of the last frame, also of a catch-up. @type {string | null} */ position = null;
  /** @type {AnyTransport | null} */ #transport = null;
  /** Set once sockets have turned out to be blocked. @type {Fallbacks | null} */ #fallbacks = null;
  /** @type {RetryState} */ #retryState = {
    attempts: 0,
    failedOpens: 0,
    restartUntil: 0,
    reconnectAt: 0,
    notBefore: 0,
  };
  messageBytes = DEFAULT_MESSAGE_BYTES;
  /** Of the last welcome. @type {{id: Key} | undefined} */ user;
  /** @type {State} */ state = { name: "connecting" };
  #acknowledger;
  #listener;
  #reconnectTimer;
  #outside;
  #retryTimer;
  #endpoints;

  /** @param {Outside} outside @param {Endpoints} endpoints @param {ConnectionListener} listener */
  constructor(outside, endpoints, listener) {
    const { clock } = outside;
    this.#outside = outside;
    this.#endpoints = endpoints;
    this.#listener = listener;
    this.#retryTimer = new Timer(clock);
    this.#reconnectTimer = new Timer(clock);
    this.#acknowledger = new Acknowledger(clock, (cursor) =>
      this.#transport?.send(JSON.stringify({ type: "ack", cursor })),
    );
  }

  close() {
    this.state = { name: "stopped" };
    this.#closeTransport();
    this.#fallbacks?.close();
  }

  wake() {
    if (!this.#retryTimer.runNow()) this.#transport?.wake();
  }

  online() {
    this.wake();
    this.#fallbacks?.tryUpgrade();
  }

  /** Close the transport now, instead of when its silence is noticed. */
  offline() {
    if (this.state.name === "stopped") return;
    this.#resetBackoff(this.#transport);
    this.#proceed(this.#transport, { hasReason: true });
  }

  /** @param {string} text */
  send(text) {
    checkMessageSize(text, this.messageBytes);
    return this.#transport?.openedAt ? this.#transport.send(text) : false;
  }

  /** @param {Entry} entry */
  onHandled(entry) {
    this.#acknowledger.onHandled(entry);
  }

  /** @param {AnyTransport} transport @param {Frame} frame */
  onFrame(transport, frame) {
    if (frame.type === "welcome") {
      if (!this.#endpoints.isSameUser(frame)) return;
      transport.onWelcome(frame);
    }
    if (transport.isConfirmed()) this.#retryState.failedOpens = 0;
    if (frame.type === "welcome") this.#onWelcome(frame);
    if (frame.type === "going_away") return this.#onGoingAway(frame);
    this.#forward(frame);
    if (frame.type === "synced") this.#setState({ name: "live" });
  }

  /** @param {AnyTransport} transport @param {number} [code] */
  onClosed(transport, code) {
    if (transport !== this.#transport) return;
    this.#resetBackoff(transport);
    const { openedAt, hasReason, maxFailedOpens, retryAfter } = transport;
    this.#proceed(transport, { code, wasOpen: openedAt > 0, hasReason, maxFailedOpens, retryAfter });
  }

  /** Do what the retry policy says. @param {AnyTransport | null} transport @param {Outcome} outcome */
  #proceed(transport, outcome) {
    const { action, delay = 0, code = 0 } = this.#decide(outcome);
    if (action === "stop") this.#stop(code);
    else if (action === "diagnose") this.#diagnose(transport, outcome);
    else if (action === "fall back") this.#fallBack(transport);
    else this.#wait(delay, code || undefined);
  }

  /** @param {Outcome} outcome */
  #decide(outcome) {
    const { clock, navigator } = this.#outside;
    const isOffline = navigator?.onLine === false;
    const decision = nextAttempt(this.#retryState, { ...outcome, isOffline }, clock.now(), clock.random());
    this.#retryState = decision.state;
    return decision;
  }

  /** Begin the backoff anew if the transport has been open for a while. @param {AnyTransport | null} transport */
  #resetBackoff(transport) {
    const openedAt = transport?.openedAt;
    if (openedAt && this.#outside.clock.now() - openedAt >= STABLE_AFTER) this.#retryState.attempts = 0;
  }

  connect() {
    this.#resetBackoff(this.#transport);
    this.#closeTransport();
    if (!this.#setState({ name: "connecting" })) return;
    this.#transport = this.open(this.#Transport, this);
  }

  /** The kind of transport that is used now. */
  get #Transport() {
    return this.#fallbacks?.Transport ?? Transport;
  }

  /** @param {TransportClass} Transport @param {TransportListener} listener */
  open(Transport, listener) {
    const transport = new Transport(this.#outside, this.#endpoints, this.#listener.getCursor(), listener);
    transport.start();
    return transport;
  }

  /** @param {Frame} frame */
  #onWelcome(frame) {
    this.messageBytes = frame.limits?.message_bytes ?? DEFAULT_MESSAGE_BYTES;
    this.position = frame.cursor;
    this.user = frame.user;
    this.#setState({ name: "catching-up" });
  }

  /** @param {Frame} frame */
  #forward(frame) {
    if (typeof frame.cursor !== "string") return this.#listener.onMessage(frame);
    const prev = this.position ?? frame.cursor;
    this.position = frame.cursor;
    this.#acknowledger.onReceived(frame);
    this.#listener.onSegment(prev, frame);
  }

  /** The server is about to stop. Until the tab reconnects, this transport goes on. @param {Frame} frame */
  #onGoingAway(frame) {
    this.#reconnectTimer.set(this.#decide({ goingAway: frame }).delay ?? 0, () => this.connect());
  }

  /**
   * Ask the catch-up view why a transport has ended. A browser doesn't tell why a socket wasn't opened, and a socket
   * that was open doesn't know the present login; the view answers both.
   *
   * @param {AnyTransport | null} transport
   * @param {Outcome} outcome
   */
  async #diagnose(transport, outcome) {
    this.#setState({ name: "connecting" });
    const since = this.#listener.getCursor();
    const answer = await fetchPage(this.#outside, this.#endpoints, since);
    if (transport !== this.#transport) return;
    if (answer.frame) {
      this.position = since;
      this.#forward(answer.frame);
    }
    this.#proceed(transport, { ...outcome, answer });
  }

  /**
   * Use the next transport. Few pages need one, so they are in a module of their own. As long as it doesn't come the client
   * goes on trying sockets, and gets its events from the catch-up view, which it asks after each failure.
   *
   * @param {AnyTransport | null} transport  that didn't get through
   */
  async #fallBack(transport) {
    this.#retryTimer.set(FETCH_TIMEOUT, () => this.connect());
    try {
      const { Fallbacks } = await import("./fallbacks.js");
      if (transport !== this.#transport) return;
      this.#fallbacks ??= new Fallbacks(this, this.#outside.clock, [
        Transport,
        Timer,
        fetchPage,
        requestOptions,
        urlOf,
        closeCodeOf,
        retryAfterOf,
        parseFrame,
      ]);
      this.#fallbacks.fallBack();
    } catch (error) {
      console.error(error);
    }
  }

  /** Connect after a delay, or when the browser comes online. @param {number} delay @param {number} [code] */
  #wait(delay, code) {
    this.#closeTransport();
    const { clock, navigator } = this.#outside;
    this.#retryTimer.set(delay, () => this.connect(), this.#retryState.notBefore - clock.now());
    const name = navigator?.onLine === false ? "offline" : "waiting";
    this.#setState({ name, retryAt: clock.now() + delay, code });
  }

  /** @param {number} code */
  #stop(code) {
    this.close();
    this.#listener.onStopped(code);
  }

  #closeTransport() {
    this.#retryTimer.clear();
    this.#reconnectTimer.clear();
    this.#retryState.reconnectAt = 0;
    this.#acknowledger.clear();
    const transport = this.#transport;
    this.#transport = null;
    transport?.close();
  }

  /** Change the state; false if that isn't allowed. @param {State} state */
  #setState(state) {
    const { name } = this.state;
    if (name === "stopped" || (state.name === "live" && !LIVE_AFTER.includes(name))) return false;
    this.state = { ...state, transport: this.#Transport.transportName };
    this.#listener.onState(this.state);
    return true;
  }
}

/** Tells the server what the tab has handled of this transport's entries; not after every event. */
class Acknowledger {
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
  onReceived(frame) {
    for (const { cursor } of entriesOf(frame)) this.#sent.add(cursor);
  }

  /** @param {Entry} entry */
  onHandled({ cursor, event }) {
    if (!this.#sent.has(cursor)) return;
    for (const earlier of this.#sent) {
      this.#sent.delete(earlier);
      if (earlier === cursor) break;
    }
    this.#cursor = cursor;
    if (event && ++this.#events >= ACK_BATCH_SIZE) this.#flush();
    else this.#timer.setIfUnset(ACK_INTERVAL, () => this.#flush());
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

/**
 * One attempt to reach the server, and what comes of it: by a WebSocket, unless a class of `fallbacks.js` has another way.
 * Doesn't call its listener after `close()`.
 */
class Transport {
  /** @type {TransportName} */ static transportName = "websocket";
  /** After that many failures to open, the next transport is used. */ maxFailedOpens = 2;
  /** Whether its end says why, so that nobody else needs to be asked. */ hasReason = false;
  openTimeout = SOCKET_OPEN_TIMEOUT;
  /** When the welcome came; 0: not yet. */ openedAt = 0;
  /** Milliseconds that the server wants to be left alone. */ retryAfter = 0;
  isClosed = false;
  /** @type {WebSocket | null} */ #socket = null;
  #lastReceivedAt = 0;
  #openTimer;
  #pingTimer;
  #pongTimer;

  /**
   * @param {Outside} outside
   * @param {Endpoints} endpoints
   * @param {string | null} since
   * @param {TransportListener} listener
   */
  constructor(outside, endpoints, since, listener) {
    this.outside = outside;
    this.endpoints = endpoints;
    this.since = since;
    this.listener = listener;
    this.#openTimer = new Timer(outside.clock);
    this.#pingTimer = new Timer(outside.clock);
    this.#pongTimer = new Timer(outside.clock);
  }

  /** Whether it is sure to work. */
  isConfirmed() {
    return this.openedAt > 0;
  }

  start() {
    this.#openTimer.set(this.openTimeout, () => this.end());
    this.open();
  }

  /** @param {Frame} frame */
  onWelcome(frame) {
    this.openedAt = this.outside.clock.now();
    this.#openTimer.clear();
    this.keepAlive(frame);
  }

  /** @param {Frame} frame */
  receive(frame) {
    if (!this.isClosed) this.listener.onFrame(this, frame);
  }

  /** @param {number} [code] */
  end(code) {
    if (this.isClosed) return;
    this.close();
    this.listener.onClosed(this, code);
  }

  close() {
    this.isClosed = true;
    this.#openTimer.clear();
    this.#pingTimer.clear();
    this.#pongTimer.clear();
    if (!this.#socket) return;
    // If the network is gone, the close event takes minutes.
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  async open() {
    const { socketUrl, protocols } = this.endpoints;
    const url = urlOf(socketUrl, { since: this.since });
    try {
      const offered = protocols ? await protocols() : SUBPROTOCOL;
      if (this.isClosed) return;
      this.#socket = new this.outside.WebSocket(url.href, offered);
    } catch {
      // There is no ticket; or a Content-Security-Policy, for example, forbids sockets.
      this.#pongTimer.set(0, () => this.end());
      return;
    }
    this.#socket.onmessage = ({ data }) => this.#onMessage(data);
    this.#socket.onclose = ({ code }) => this.end(code);
  }

  /** @param {string} text */
  send(text) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(text);
    return true;
  }

  wake() {
    if (this.openedAt && this.outside.clock.now() - this.#lastReceivedAt > SOCKET_IDLE_AFTER) this.#sendPing();
  }

  /** @param {Frame} frame  the welcome */
  keepAlive(frame) {
    this.#schedulePing(Math.min((frame.heartbeat || Infinity) * 1000, PING_INTERVAL));
  }

  /** @param {string} data */
  #onMessage(data) {
    this.#lastReceivedAt = this.outside.clock.now();
    this.#pongTimer.clear();
    const frame = parseFrame(data);
    if (frame) this.receive(frame);
    else this.end();
  }

  /** Ping also while frames arrive: the server closes a connection whose pings have ceased. @param {number} interval */
  #schedulePing(interval) {
    this.#pingTimer.set(interval, () => {
      this.#schedulePing(interval);
      this.#sendPing();
    });
  }

  #sendPing() {
    this.send('{"type":"ping"}');
    this.#pongTimer.setIfUnset(PONG_TIMEOUT, () => this.end());
  }
}

/**
 * The connection of all tabs of a browser. The leader, which is the tab that holds a lock, has the Connection, and
 * broadcasts each segment to the followers.
 *
 * A leader that is closed releases the lock, the browser releases that of a crashed one, and a follower steals that of
 * one that hangs. The new leader goes on from its own position.
 *
 * Tabs that were loaded before an upgrade of the client use the same lock and channel: don't change the messages.
 */
class SharedConnection {
  /** @type {BroadcastChannel | null} */ #channel = null;
  /** The present request for the lock; earlier ones are void. @type {AbortController | null} */ #lockRequest = null;
  /** Set while this tab is the leader. @type {Connection | null} */ #connection = null;
  /** @type {State} */ #leaderState = { name: "connecting" };
  #releaseLock = () => {};
  /** @type {Promise<void> | null} */ #accessCheck = null;
  #messageBytes = DEFAULT_MESSAGE_BYTES;
  #lastHeardAt = 0;
  #lastPingAt = 0;
  #listener;
  #catchUpTo;
  #name;
  #outside;
  #endpoints;
  #leaderCheckTimer;

  /**
   * @param {Outside} outside
   * @param {Endpoints} endpoints
   * @param {ConnectionListener} listener
   * @param {string} name  of the lock and the channel
   * @param {(cursor: string) => void} catchUpTo
   */
  constructor(outside, endpoints, listener, name, catchUpTo) {
    this.#outside = outside;
    this.#endpoints = endpoints;
    this.#listener = listener;
    this.#name = name;
    this.#catchUpTo = catchUpTo;
    this.#leaderCheckTimer = new Timer(outside.clock);
  }

  connect() {
    const Channel = /** @type {NonNullable<Outside["BroadcastChannel"]>} */ (this.#outside.BroadcastChannel);
    this.#channel = new Channel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#onChannelMessage(data);
    this.#listener.onState(this.#leaderState);
    this.#requestLeadership();
    this.#pingLeader();
    this.#scheduleLeaderCheck();
  }

  /** @param {number} [code] */
  close(code) {
    if (code && ACCESS_CODES.includes(code)) this.#broadcast({ kind: "stop", code });
    const lockRequest = this.#lockRequest;
    this.#lockRequest = null;
    lockRequest?.abort();
    this.#leaderCheckTimer.clear();
    this.#resignLeadership();
    this.#channel?.close();
    this.#channel = null;
  }

  wake() {
    if (this.#connection) this.#connection.wake();
    else this.#pingLeader();
  }

  online() {
    this.#connection?.online();
  }

  offline() {
    this.#connection?.offline();
  }

  /** @param {string} text */
  send(text) {
    if (this.#connection) return this.#connection.send(text);
    checkMessageSize(text, this.#messageBytes);
    const { name, transport } = this.#leaderState;
    if (transport !== "websocket" || (name !== "live" && name !== "catching-up")) return false;
    this.#broadcast({ kind: "send", text });
    return true;
  }

  /** @param {Entry} entry */
  onHandled(entry) {
    this.#connection?.onHandled(entry);
  }

  /** @param {LockOptions} [options] */
  #requestLeadership(options) {
    const locks = /** @type {NonNullable<Outside["locks"]>} */ (this.#outside.locks);
    this.#lockRequest?.abort();
    const lockRequest = new AbortController();
    this.#lockRequest = lockRequest;
    locks
      .request(this.#name, options ?? { signal: lockRequest.signal }, () =>
        lockRequest === this.#lockRequest ? this.#becomeLeader() : undefined,
      )
      .catch(() => lockRequest === this.#lockRequest && this.#onLeadershipLost());
  }

  #becomeLeader() {
    const listener = this.#listener;
    const connection = new Connection(this.#outside, this.#endpoints, {
      getCursor: listener.getCursor,
      onSegment: (prev, frame) => {
        listener.onSegment(prev, frame);
        this.#broadcast({ kind: "segment", prev, frame });
      },
      onMessage: (frame) => {
        listener.onMessage(frame);
        this.#broadcast({ kind: "message", frame });
      },
      onState: (state) => {
        listener.onState(state);
        this.#broadcastState();
      },
      onStopped: listener.onStopped,
    });
    this.#connection = connection;
    Promise.resolve(this.#accessCheck).then(() => connection.connect());
    return new Promise((resolve) => {
      this.#releaseLock = () => resolve(null);
    });
  }

  #resignLeadership() {
    this.#connection?.close();
    this.#connection = null;
    this.#releaseLock();
  }

  /** The lock was stolen, because this tab hung; or the browser refuses locks, and each tab connects for itself. */
  #onLeadershipLost() {
    if (!this.#connection) return this.#becomeLeader();
    this.#resignLeadership();
    this.#requestLeadership();
    this.#pingLeader();
  }

  /** @param {any} data */
  #onChannelMessage(data) {
    if (data.kind === "stop") {
      // A connection that lives has a login, whatever another tab was told.
      if ((this.#connection?.state ?? this.#leaderState).name !== "live") this.#accessCheck ??= this.#checkAccess();
      return;
    }
    if (this.#connection) return this.#onFollowerMessage(data);
    if (data.kind === "segment") this.#listener.onSegment(data.prev, data.frame);
    else if (data.kind === "message") this.#listener.onMessage(data.frame);
    else if (data.kind === "state") this.#onLeaderState(data);
    else return;
    this.#lastHeardAt = this.#outside.clock.now();
  }

  /** Another tab had to stop. This tab may have a later login, so it asks the catch-up view itself. */
  async #checkAccess() {
    const { code } = await fetchPage(this.#outside, this.#endpoints, null);
    this.#accessCheck = null;
    if (this.#channel && code && isFinalCode(code)) this.#listener.onStopped(code);
  }

  /** @param {any} data */
  #onFollowerMessage(data) {
    if (data.kind === "send") this.#connection?.send(data.text);
    if (data.kind !== "greeting") return;
    this.#broadcastState();
    if (data.isVisible) this.#connection?.wake();
  }

  /** @param {{state: State, at: string | null, messageBytes: number, user?: {id: Key}}} data */
  #onLeaderState({ state, at, messageBytes, user }) {
    if (at !== null && !this.#endpoints.isSameUser({ type: "state", cursor: at, user })) return;
    this.#leaderState = state;
    this.#messageBytes = messageBytes;
    this.#listener.onState({ ...state, transport: "shared" });
    if (at !== null) this.#catchUpTo(at);
  }

  /** Have the leader answer with its state, and, if this tab is visible, do now what it puts off in the background. */
  #pingLeader() {
    this.#lastPingAt = this.#outside.clock.now();
    this.#broadcast({ kind: "greeting", isVisible: !this.#outside.document?.hidden });
  }

  #scheduleLeaderCheck() {
    this.#leaderCheckTimer.set(LEADER_CHECK_INTERVAL, () => {
      this.#scheduleLeaderCheck();
      if (!this.#connection) this.#checkLeader();
    });
  }

  /** Ping a leader that is silent, or slow in the background; steal the lock of one that doesn't answer. */
  #checkLeader() {
    const { clock, document } = this.#outside;
    const now = clock.now();
    if (this.#lastPingAt > this.#lastHeardAt) {
      if (now - this.#lastPingAt >= LEADER_ANSWER_TIMEOUT) this.#requestLeadership({ steal: true });
      return;
    }
    const { transport, retryAt = Infinity } = this.#leaderState;
    const isSlow = transport === "polling" || retryAt + LEADER_CHECK_INTERVAL < now;
    if (now - this.#lastHeardAt > LEADER_IDLE_AFTER || (isSlow && !document?.hidden)) this.#pingLeader();
  }

  #broadcastState() {
    if (!this.#connection) return;
    const { state, position, messageBytes, user } = this.#connection;
    this.#broadcast({ kind: "state", state, at: position, messageBytes, user });
  }

  /** @param {object} data */
  #broadcast(data) {
    this.#channel?.postMessage(data);
  }
}

class Timer {
  /** @type {any} */ #id;
  /** @type {(() => void) | null} */ #callback = null;
  #notBefore = 0;
  #clock;

  /** @param {Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /** @param {number} ms @param {() => void} callback @param {number} [atLeast]  added to `ms`; see `runNow` */
  set(ms, callback, atLeast = 0) {
    this.clear();
    this.#callback = callback;
    this.#notBefore = this.#clock.now() + atLeast;
    this.#id = this.#clock.setTimeout(() => this.runNow(), Math.max(ms, atLeast));
  }

  /** @param {number} ms @param {() => void} callback */
  setIfUnset(ms, callback) {
    if (!this.#callback) this.set(ms, callback);
  }

  /** Call back now instead of later, or as soon as `atLeast` is over; false if the timer isn't set. */
  runNow() {
    const callback = this.#callback;
    const early = this.#notBefore - this.#clock.now();
    if (callback && early > 0) {
      this.set(early, callback, early);
      return true;
    }
    this.clear();
    callback?.();
    return callback !== null;
  }

  clear() {
    this.#clock.clearTimeout(this.#id);
    this.#callback = null;
  }
}

/**
 * Exponential backoff with full jitter: thousands of clients that lost a server don't come back in step.
 *
 * @param {number} attempts  made already
 * @param {number} random
 */
function backoffDelay(attempts, random) {
  return random * Math.min(BACKOFF_MAX, BACKOFF_BASE * 2 ** attempts);
}

/**
 * Ask the catch-up view for a page: the answer in the words of the protocol, as a frame or as a close code.
 *
 * @param {Outside} outside
 * @param {Endpoints} endpoints
 * @param {string | null} since  null: the newest events
 * @param {number} [limit]  default: without `since`, one event: only the cursor of the answer matters
 * @returns {Promise<CatchUpAnswer>}
 */
async function fetchPage(outside, endpoints, since, limit = since === null ? 1 : PAGE_SIZE) {
  const controller = new AbortController();
  const deadline = new Timer(outside.clock);
  deadline.set(FETCH_TIMEOUT, () => controller.abort());
  let retryAfter = 0;
  try {
    const address = urlOf(endpoints.catchUpUrl, { since, limit: String(limit) });
    const init = requestOptions(endpoints, "application/json", controller.signal);
    const response = await outside.fetch(address.href, init);
    retryAfter = retryAfterOf(response, outside.clock);
    const body = await response.json();
    const code = closeCodeOf(response.status, body, endpoints);
    if (code) return { code, retryAfter };
    const { events, cursor, reason, has_more, user, error } = body;
    if (typeof cursor !== "string" || !endpoints.isSameUser(body)) return {};
    if (response.ok) return { frame: { type: "batch", events, cursor, user }, more: has_more };
    const isReset = response.status === 410 && error?.code === "reset";
    return isReset ? { frame: { type: "reset", cursor, reason } } : { retryAfter };
  } catch {
    return { retryAfter };
  } finally {
    deadline.clear();
  }
}

/**
 * @param {Endpoints} endpoints
 * @param {string} accept
 * @param {AbortSignal} signal
 * @returns {RequestInit}
 */
function requestOptions({ credentials }, accept, signal) {
  return { headers: { Accept: accept }, cache: "no-store", credentials, signal };
}

/** How many milliseconds a response asks to be left alone (RFC 9110, section 10.2.3). */
function retryAfterOf(/** @type {Response} */ { headers }, /** @type {Clock} */ clock) {
  const value = headers.get("Retry-After") ?? "";
  const ms = Number(value) * 1000 || Date.parse(value) - clock.now();
  return Math.min(Math.max(ms || 0, 0), MAX_RETRY_AFTER);
}

/** The positions that a frame names, each with what lies before it. @param {Frame} frame @returns {Entry[]} */
function entriesOf(frame) {
  const { type, cursor } = frame;
  if (type === "reset") return [{ cursor, reset: /** @type {Reset} */ (frame) }];
  if (!SERVER_FRAMES.includes(type)) return [{ cursor, event: /** @type {RealtimeEvent} */ (frame) }];
  const events = type === "batch" ? /** @type {RealtimeEvent[]} */ (frame.events) : [];
  return [...events.map((event) => ({ cursor: event.cursor, event })), { cursor }];
}

/** The server closes the connection on a message that is too long. @param {string} text @param {number} limit */
function checkMessageSize(text, limit) {
  const bytes = new Blob([text]).size;
  if (bytes > limit) throw new RangeError(`a message has at most ${limit} bytes; this one has ${bytes}`);
}

/** @param {number} code */
function isFinalCode(code) {
  return CLOSE_CODES[code]?.retry === false;
}

/**
 * The close code that a response stands for. A proxy's or a firewall's response has the same status, but not the
 * server's JSON. A request that showed no login doesn't tell whether there is one.
 *
 * @param {number} status
 * @param {any} body
 * @param {Endpoints} endpoints
 */
function closeCodeOf(status, body, { showsLogin }) {
  const code = status + 4000;
  if (ACCESS_CODES.includes(code) && !showsLogin) return undefined;
  return code in CLOSE_CODES && CLOSE_CODES[code].name === body?.error?.code ? code : undefined;
}

/** @param {string} text @returns {Frame | null} */
function parseFrame(text) {
  try {
    const frame = JSON.parse(text);
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/** @param {string} url @param {Record<string, string | null>} parameters */
function urlOf(url, parameters) {
  const address = new URL(url);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null) address.searchParams.set(name, value);
  }
  return address;
}

/**
 * @param {Options} options
 * @param {Outside} outside
 * @param {Handlers} handlers
 * @param {Endpoints["isSameUser"]} isSameUser
 * @returns {Endpoints}
 */
function endpointsOf(options, { href }, handlers, isSameUser) {
  const { org, url, catchUpUrl, streamUrl, ticket, pollInterval = 5_000, credentials = "include" } = options;
  if (!org && !(url && catchUpUrl)) throw new TypeError("connect() needs 'org', or 'url' and 'catchUpUrl'");
  const path = `/orgs/${encodeURIComponent(org ?? "")}/notifications/`;
  const catchUp = absolute(catchUpUrl ?? path, href);
  const isOwn = href !== undefined && new URL(catchUp).origin === new URL(href).origin;
  return {
    socketUrl: absolute(url ?? `/ws${path}`, href).replace(/^http/, "ws"),
    catchUpUrl: catchUp,
    streamUrl: absolute(streamUrl ?? "stream/", streamUrl ? href : catchUp),
    pollInterval,
    credentials,
    showsLogin: credentials === "include" || (credentials === "same-origin" && isOwn),
    isSameUser,
    protocols:
      ticket &&
      (async () => {
        try {
          return [SUBPROTOCOL, `orgrealtime.ticket.${await ticket()}`];
        } catch (error) {
          handlers.report(error);
          throw error;
        }
      }),
  };
}

/** @param {string} url @param {string | undefined} base */
function absolute(url, base) {
  try {
    return new URL(url, base).href;
  } catch {
    throw new TypeError(base ? `"${url}" is no URL` : "connect() needs a page: call it in a browser, not on a server");
  }
}

/**
 * Options, and what isn't given of what `{% orgrealtime_client %}` says in the page of this organisation.
 *
 * @param {Options} options
 * @param {Outside} outside
 * @returns {Options}
 */
function withConfigOfPage(options, { document }) {
  for (const { textContent } of document?.querySelectorAll?.("#orgrealtime-config") ?? []) {
    const { org, url, catchUpUrl, streamUrl, user } = JSON.parse(/** @type {string} */ (textContent));
    if (org !== options.org) continue;
    return {
      ...options,
      url: options.url ?? url,
      catchUpUrl: options.catchUpUrl ?? catchUpUrl,
      streamUrl: options.streamUrl ?? (options.catchUpUrl ? undefined : streamUrl),
      user: options.user ?? user,
    };
  }
  return { ...options };
}

/** Tell of options that don't exist, or whose type is another. @param {Options} options */
function checkOptions(options) {
  const isMistaken = (/** @type {[string, unknown]} */ [name, value]) =>
    value != null && !HANDLER_OPTION.test(name) && !OPTION_TYPES[name]?.includes(typeof value);
  const mistakes = Object.entries(options).filter(isMistaken);
  if (mistakes.length) tell("options", { mistakes, types: OPTION_TYPES });
}

/** The texts of warnings, and what `debug` needs: a page without a mistake never loads them. */
function diagnostics() {
  return import("./diagnostics.js");
}

/** Tell the developer of a mistake. @param {string} topic @param {any} [detail] */
function tell(topic, detail) {
  diagnostics().then(
    ({ warn }) => warn(topic, detail),
    () => console.warn(`orgrealtime: ${topic}`, detail),
  );
}

/** Let the browser do what else there is to do. Timers would take a second each in the background. */
function nextTurn() {
  return /** @type {Promise<void>} */ (
    new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(null);
    })
  );
}

/** @returns {Outside} */
function browserEnvironment() {
  const { WebSocket, BroadcastChannel, navigator, document, location } = globalThis;
  return {
    clock: {
      now: () => Date.now(),
      random: () => Math.random(),
      setTimeout: (callback, ms) => setTimeout(callback, ms),
      clearTimeout: (id) => clearTimeout(id),
    },
    WebSocket,
    fetch: (url, init) => fetch(url, init),
    locks: navigator?.locks,
    BroadcastChannel,
    window: globalThis,
    document,
    navigator,
    href: document?.baseURI ?? location?.href,
  };
}
