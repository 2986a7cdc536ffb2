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
export type RealtimeEvent = {
    type: string;
    cursor: string;
    created_at: string;
    actor: number | string | null;
    [key: string]: any;
};
export type Reset = {
    type: "reset";
    cursor: string;
    reason: string;
};
export type Frame = {
    type: string;
    [key: string]: any;
};
export type TransportName = "websocket" | "sse" | "polling" | "shared";
export type StateName = "connecting" | "catching-up" | "live" | "stuck" | "waiting" | "offline" | "stopped" | "unauthenticated" | "forbidden";
export type State = {
    name: StateName;
    transport?: TransportName;
    retryAt?: number;
    code?: number;
};
export type Key = number | string;
export type UserChange = {
    user: Key;
    previous: Key;
};
export type Kinds = {
    event: RealtimeEvent;
    reset: Reset;
    state: State;
    message: Frame;
    user: UserChange;
    error: unknown;
};
export type Handler<T> = (value: T) => unknown;
export type Clock = {
    /**
     * milliseconds since 1970
     */
    now: () => number;
    /**
     * at least 0, less than 1
     */
    random: () => number;
    setTimeout: (callback: () => void, ms: number) => any;
    clearTimeout: (id: any) => void;
};
export type Outside = {
    clock: Clock;
    WebSocket: new (url: string, protocols: string | string[]) => WebSocket;
    fetch: (url: string, init: RequestInit) => Promise<Response>;
    locks?: Pick<LockManager, "request">;
    BroadcastChannel?: new (name: string) => BroadcastChannel;
    window?: EventTarget;
    document?: EventTarget & Pick<Document, "hidden"> & Partial<Pick<Document, "querySelectorAll">>;
    navigator?: {
        onLine: boolean;
    };
    /**
     * what relative URLs are relative to
     */
    href?: string;
};
export type Options = {
    /**
     * slug of the organisation; gives the URLs that aren't given
     */
    org?: string | undefined;
    /**
     * of the socket
     */
    url?: string | undefined;
    catchUpUrl?: string | undefined;
    /**
     * of the Server-Sent Events; default: `stream/` below `catchUpUrl`
     */
    streamUrl?: string | undefined;
    /**
     * of requests over HTTP; default: "include", as of sockets
     */
    credentials?: RequestCredentials | undefined;
    /**
     * cursor of what the page shows; default: what `storage` has, else now
     */
    since?: string | null | undefined;
    /**
     * keeps the cursor, such as `sessionStorage`
     */
    storage?: Pick<Storage, "getItem" | "setItem"> | undefined;
    /**
     * for whom the page was made; default: whoever is logged in first
     */
    user?: Key | undefined;
    /**
     * one connection for all tabs of the browser, if there is a `shareKey`;
     * default: true
     */
    share?: boolean | undefined;
    /**
     * the user's id: only tabs with the same key share
     */
    shareKey?: Key | undefined;
    /**
     * gets a ticket, before each attempt to open a socket
     */
    ticket?: (() => string | Promise<string>) | undefined;
    /**
     * milliseconds, where nothing but polling gets through; default: 5000
     */
    pollInterval?: number | undefined;
    /**
     * write into the console what the client does
     */
    debug?: boolean | undefined;
    onEvent?: Handler<RealtimeEvent> | undefined;
    /**
     * fetch what the page shows afresh; asked again if it fails
     */
    onReset?: Handler<Reset> | undefined;
    onState?: Handler<State> | undefined;
    /**
     * frames that are no events: the host's own, and `error`
     */
    onMessage?: Handler<Frame> | undefined;
    /**
     * another user has logged in; waited for
     */
    onUser?: Handler<UserChange> | undefined;
    /**
     * what handlers threw; default: `console.error`
     */
    onError?: Handler<unknown> | undefined;
    outside?: { [Name in keyof Outside]?: Outside[Name] | undefined; } | undefined;
};
export type Endpoints = {
    socketUrl: string;
    catchUpUrl: string;
    streamUrl: string;
    pollInterval: number;
    credentials: RequestCredentials;
    /**
     * whether requests over HTTP show the server who is logged in
     */
    showsLogin: boolean;
    /**
     * whether a frame is for the user of this page
     */
    isSameUser: (frame: Frame) => boolean;
    /**
     * of the next socket, a new ticket among them
     */
    protocols?: (() => Promise<string[]>) | undefined;
};
export type CatchUpAnswer = {
    frame?: Frame;
    more?: boolean;
    code?: number;
    /**
     * milliseconds that the server wants to be left alone
     */
    retryAfter?: number;
};
export type Entry = {
    cursor: string;
    event?: RealtimeEvent;
    reset?: Reset;
};
export type ConnectionListener = {
    /**
     * where a new connection begins
     */
    getCursor: () => string | null;
    onSegment: (prev: string, frame: Frame) => void;
    onMessage: (frame: Frame) => void;
    onState: (state: State) => void;
    onStopped: (code: number) => void;
};
export type RetryState = {
    /**
     * delays since the last stable connection: each may be longer than the one before
     */
    attempts: number;
    /**
     * attempts in a row that failed although the catch-up view answers
     */
    failedOpens: number;
    /**
     * until then a restarting server may refuse connections
     */
    restartUntil: number;
    /**
     * chosen after a `going_away`; 0: not chosen
     */
    reconnectAt: number;
    /**
     * until then the server wants to be left alone
     */
    notBefore: number;
};
export type Outcome = {
    /**
     * the server is about to stop; the transport is still open
     */
    goingAway?: Frame;
    /**
     * the close code, or what the HTTP status of a refusal stands for
     */
    code?: number;
    /**
     * whether the welcome had come
     */
    wasOpen?: boolean;
    /**
     * whether nobody else needs to be asked why it ended
     */
    hasReason?: boolean;
    /**
     * milliseconds that the server wants to be left alone
     */
    retryAfter?: number;
    /**
     * after that many failures to open, the next transport is used
     */
    maxFailedOpens?: number;
    /**
     * of the catch-up view, if it was asked
     */
    answer?: CatchUpAnswer;
    /**
     * whether the browser says that it has no network
     */
    isOffline?: boolean;
};
export type Decision = {
    /**
     * "diagnose": ask the catch-up view, decide again
     */
    action: "wait" | "diagnose" | "fall back" | "stop";
    /**
     * milliseconds to wait
     */
    delay?: number;
    /**
     * why
     */
    code?: number;
    state: RetryState;
};
export type SubscriptionListener = {
    onHandled: (entry: Entry) => void;
    onStopped: (code: number) => void;
    /**
     * the tab catches up, or a handler is stuck, or no longer
     */
    onProgress: () => void;
};
export type AnyConnection = {
    connect: () => void;
    close: (code?: number) => void;
    /**
     * do now what waits: the tab is visible again, or resumed
     */
    wake: () => void;
    /**
     * the browser has a network again
     */
    online: () => void;
    /**
     * the browser has lost the network
     */
    offline: () => void;
    send: (text: string) => boolean;
    onHandled: (entry: Entry) => void;
};
export type TransportListener = {
    onFrame: (transport: AnyTransport, frame: Frame) => void;
    onClosed: (transport: AnyTransport, code?: number) => void;
};
export type AnyTransport = {
    outside: Outside;
    endpoints: Endpoints;
    since: string | null;
    listener: TransportListener;
    maxFailedOpens: number;
    hasReason: boolean;
    openTimeout: number;
    openedAt: number;
    retryAfter: number;
    isClosed: boolean;
    isConfirmed(): boolean;
    start(): void;
    open(): void;
    wake(): void;
    send(text: string): boolean;
    onWelcome(frame: Frame): void;
    keepAlive(frame: Frame): void;
    receive(frame: Frame): void;
    end(code?: number): void;
    close(): void;
};
export type TransportClass = {
    new (outside: Outside, endpoints: Endpoints, since: string | null, listener: TransportListener): AnyTransport;
    transportName: TransportName;
};
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
export declare const CLOSE_CODES: Readonly<Record<number, {
    name: string;
    retry: boolean;
}>>;
export type Transitions = Readonly<Record<string, readonly string[]>>;
/**
 * Follow an organisation's events.
 *
 * @param {Options} options
 * @returns {Client}
 */
export declare function connect(options: Options): Client;
export declare class Client {
    #private;
    /** @param {Options} options */
    constructor(options: Options);
    /** How far the handlers have come. @returns {string | null} */
    get cursor(): string | null;
    get state(): State;
    /** Whose events these are, as the server or the page has said; null as long as neither has. @returns {Key | null} */
    get user(): Key | null;
    /**
     * Have a handler called from now on; returns a function that ends it.
     *
     * @template {keyof Kinds} Kind
     * @param {Kind} kind
     * @param {Handler<Kinds[Kind]>} handler
     * @returns {() => void}
     */
    on<Kind extends keyof Kinds>(kind: Kind, handler: Handler<Kinds[Kind]>): () => void;
    /**
     * Send a message of the host application; false if nothing can take it now, and for ever over SSE or polling.
     *
     * @param {{type: string, [key: string]: unknown}} message
     */
    send(message: {
        type: string;
        [key: string]: unknown;
    }): boolean;
    /**
     * Load the newest events over HTTP, the oldest of them first. They change neither `cursor` nor what handlers get.
     *
     * Rejects with an Error; its `code` is a close code, if the server has said why.
     *
     * @param {number} [limit]  1 to 500
     * @returns {Promise<RealtimeEvent[]>}
     */
    recent(limit?: number): Promise<RealtimeEvent[]>;
    /** Nothing is delivered any more, not even what has arrived. */
    close(): void;
}
