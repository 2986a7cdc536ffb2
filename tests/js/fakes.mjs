/**
 * A server, a network and a browser with tabs, on a clock that stands still until it is told to go on.
 *
 *     const world = new World();
 *     const tab = world.newTab();
 *     connect({org: "acme", outside: tab.outside, …});
 *     await world.clock.advance(1000);
 */

/** Wait until everything that can happen without time passing has happened. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Mulberry32: the same numbers for the same seed. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Clock {
  #now = 1_000_000;
  #next = 1;
  #timers = new Map();
  random = () => 0.5;

  now() {
    return this.#now;
  }

  setTimeout(act, ms) {
    const id = this.#next++;
    this.#timers.set(id, { at: this.#now + Math.max(0, ms), act });
    return id;
  }

  clearTimeout(id) {
    this.#timers.delete(id);
  }

  /** Time that something takes: no timer ends meanwhile. */
  pass(ms) {
    this.#now += ms;
  }

  get pending() {
    return this.#timers.size;
  }

  async advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const [id, timer] = this.#first();
      if (!timer || timer.at > end) break;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, timer.at);
      timer.act();
    }
    this.#now = end;
    await settle();
  }

  #first() {
    let first = [0, null];
    for (const [id, timer] of this.#timers) if (!first[1] || timer.at < first[1].at) first = [id, timer];
    return first;
  }
}

/** An organisation's stream; `visible: false` is what is meant for others. */
export class Log {
  epoch = "aaaa";
  head = 0;
  kept = 0; // events up to here are deleted
  events = new Map();

  append(members = {}, { visible = true } = {}) {
    const seq = ++this.head;
    const event = {
      type: "note",
      cursor: this.cursor(seq),
      created_at: "2026-11-23T08:57:00Z",
      actor: null,
      ...members,
    };
    this.events.set(seq, { visible, event });
    return event;
  }

  cursor(seq = this.head) {
    return `${this.epoch}.${seq}`;
  }

  position(cursor) {
    const [epoch, seq] = cursor.split(".");
    return { epoch, seq: Number(seq) };
  }

  /** Why nobody can go on from a cursor; null if one can. */
  reasonToReset(cursor) {
    const { epoch, seq } = this.position(cursor);
    if (epoch !== this.epoch) return "epoch";
    if (seq > this.head) return "ahead";
    return seq < this.kept ? "retention" : null;
  }

  visibleAfter(seq, until = this.head) {
    const events = [];
    for (let n = Math.max(seq, this.kept) + 1; n <= until; n++) {
      const { visible, event } = this.events.get(n);
      if (visible) events.push(event);
    }
    return events;
  }

  page(since, limit) {
    if (since === null) return { events: this.visibleAfter(0).slice(-limit), cursor: this.cursor(), has_more: false };
    const events = this.visibleAfter(this.position(since).seq);
    const has_more = events.length > limit;
    return { events: events.slice(0, limit), cursor: has_more ? events[limit - 1].cursor : this.cursor(), has_more };
  }

  recreate(epoch) {
    this.epoch = epoch;
    this.head = this.kept = 0;
    this.events.clear();
  }

  prune() {
    this.kept = this.head;
  }
}

const ERROR_NAMES = {
  400: "bad_request",
  401: "unauthenticated",
  403: "forbidden",
  413: "payload_too_large",
  429: "rate_limited",
  503: "overloaded",
};

const STREAM_PONGS_EVERY = 15_000;

/** The body of a refusal. */
export const errorOf = (status) => ({ error: { code: ERROR_NAMES[status], message: "" } });

/** What the server knows of one reader. `deliver` and `hangUp` reach the browser. */
class Connection {
  constructor(server, since, deliver, hangUp) {
    this.server = server;
    this.since = since;
    this.deliver = deliver;
    this.hangUp = hangUp;
    this.received = [];
    this.isCut = false;
  }

  start() {
    const { log } = this.server;
    const cursor = this.since ?? log.cursor();
    const limits = { message_bytes: 16384, unacknowledged_events: 2000 };
    this.send({
      type: "welcome",
      protocol: 1,
      connection_id: "c1",
      org: { id: 1, slug: "acme" },
      user: this.server.user,
      cursor,
      heartbeat: 25,
      limits,
    });
    const reason = log.reasonToReset(cursor);
    if (reason) this.reset(reason);
    else this.seq = log.position(cursor).seq;
    this.pump();
    this.send({ type: "synced", cursor: log.cursor(this.seq) });
  }

  reset(reason) {
    this.seq = this.server.log.head;
    this.send({ type: "reset", cursor: this.server.log.cursor(), reason });
  }

  pump() {
    const { log, random } = this.server;
    while (this.seq < log.head) {
      const until = Math.min(log.head, this.seq + 1 + Math.floor(random() * 3));
      const events = log.visibleAfter(this.seq, until);
      const cursor = log.cursor(until);
      this.seq = until;
      if (events.length === 1 && events[0].cursor === cursor) this.send(events[0]);
      else if (events.length) this.send({ type: "batch", events, cursor });
      else this.send({ type: "cursor", cursor });
    }
  }

  send(frame) {
    if (this.isAlive()) this.deliver(frame);
  }

  /** A link that has lost something brings nothing after it. */
  isAlive() {
    this.isCut ||= this.server.isSilent;
    return !this.isCut;
  }

  receive(text) {
    if (!this.isAlive()) return;
    const message = JSON.parse(text);
    this.received.push(message);
    if (message.type === "ping") this.send({ type: "pong", cursor: this.server.log.cursor(this.seq) });
    if (message.type === "echo") this.send({ type: "echoed", text: message.text });
    this.server.onMessage?.(message, this);
  }

  close(code = 1006) {
    this.server.connections.delete(this);
    this.hangUp(code);
  }
}

export class Server {
  log = new Log();
  connections = new Set();
  /** Of every kind of request, in order: {kind, url}. */
  requests = [];
  /** How those over HTTP were to be sent with cookies. */
  credentials = new Set();
  isDown = false; // refuses TCP
  isSilent = false; // packets vanish
  socketsBlocked = false;
  stream = "open"; // "absent": 404, "buffered": nothing comes through, "stalling": only what comes first
  refusal = null; // an HTTP status for everybody
  retryAfter = null; // the header of refusals
  user = { id: 7 }; // who is logged in
  pages = {}; // HTTP statuses by which something before the server answers, by kind of request
  stale = 0; // answers of the catch-up view lack that many of the newest events
  random = () => 0;

  publish(members, options) {
    const event = this.log.append(members, options);
    for (const connection of this.connections) connection.pump();
    return event;
  }

  count(kind) {
    return this.requests.filter((request) => request.kind === kind).length;
  }

  closeAll(code) {
    for (const connection of [...this.connections]) connection.close(code);
  }

  accept(since, deliver, hangUp) {
    const connection = new Connection(this, since, deliver, hangUp);
    this.connections.add(connection);
    connection.start();
    return connection;
  }

  catchUp(url) {
    const since = url.searchParams.get("since");
    const reason = since && this.log.reasonToReset(since);
    const { log, user } = this;
    if (reason) return [410, { error: { code: "reset", message: "" }, cursor: log.cursor(), reason, user }];
    return [200, { ...log.page(since, Number(url.searchParams.get("limit") ?? 100)), user }];
  }
}

class Response {
  constructor(status, body, contentType = "application/json", retryAfter = null) {
    this.status = status;
    this.ok = status < 300;
    this.headers = new Headers({ "Content-Type": contentType, ...(retryAfter && { "Retry-After": retryAfter }) });
    this.body = body;
  }

  async json() {
    if (!this.headers.get("Content-Type").startsWith("application/json")) throw new SyntaxError("not JSON");
    return structuredClone(this.body);
  }
}

/** The body of a response that goes on, chunk by chunk. */
class Chunks {
  #chunks = [];
  #waiting = null;

  push(chunk) {
    if (this.#waiting) this.#waiting.resolve(chunk);
    else this.#chunks.push(chunk);
    this.#waiting = null;
  }

  fail(error) {
    this.#waiting?.reject(error);
    this.error = error;
  }

  getReader() {
    return { read: () => this.#read() };
  }

  async #read() {
    if (this.#chunks.length) return this.#chunks.shift();
    if (this.error) throw this.error;
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }
}

/** Tabs of one origin. */
export class World {
  clock = new Clock();
  server = new Server();
  latency = () => 1;
  tabs = [];
  channels = new Set();
  locks = new Map(); // name → {holder, queue}

  newTab() {
    const tab = new Tab(this);
    this.tabs.push(tab);
    return tab;
  }

  lock(name) {
    if (!this.locks.has(name)) this.locks.set(name, { holder: null, queue: [] });
    return this.locks.get(name);
  }

  get leader() {
    return [...this.locks.values()].map((lock) => lock.holder?.tab).find(Boolean);
  }
}

export class Tab {
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { hidden: false });
  navigator = { onLine: true };
  isDead = false;
  sockets = [];
  #isHung = false;
  #postponed = [];
  #sent = new Map(); // what is under way, to keep its order

  constructor(world) {
    this.world = world;
    const tab = this;
    this.outside = {
      clock: {
        now: () => world.clock.now(),
        random: () => world.clock.random(),
        setTimeout: (act, ms) => world.clock.setTimeout(() => tab.run(act), ms),
        clearTimeout: (id) => world.clock.clearTimeout(id),
      },
      WebSocket: class extends FakeWebSocket {
        constructor(url, protocol) {
          super(tab, url, protocol);
        }
      },
      BroadcastChannel: class extends FakeChannel {
        constructor(name) {
          super(tab, name);
        }
      },
      fetch: (url, init) => tab.#fetch(new URL(url), init ?? {}),
      locks: { request: (name, options, callback) => tab.#request(name, options, callback) },
      window: this.window,
      document: this.document,
      navigator: this.navigator,
      href: "https://example.org/board/",
    };
  }

  /** Run what comes from outside: not at all in a tab that is gone, later in one that hangs. */
  run(act) {
    if (this.isDead) return;
    if (this.#isHung) this.#postponed.push(act);
    else act();
  }

  /** After a while, in the order of a line of its own. */
  later(line, act) {
    const { clock, latency } = this.world;
    const at = Math.max(clock.now() + latency(), this.#sent.get(line) ?? 0);
    this.#sent.set(line, at);
    clock.setTimeout(() => this.run(act), at - clock.now());
  }

  hang() {
    this.#isHung = true;
  }

  unhang() {
    this.#isHung = false;
    for (const act of this.#postponed.splice(0)) this.run(act);
  }

  /** Without a word to anybody, as a browser does away with a renderer. */
  crash() {
    this.isDead = true;
    for (const socket of this.sockets) socket.connection && this.world.server.connections.delete(socket.connection);
    for (const channel of [...this.world.channels]) if (channel.tab === this) channel.close();
    for (const lock of this.world.locks.values()) {
      lock.queue = lock.queue.filter((request) => request.tab !== this);
      if (lock.holder?.tab === this) this.#release(lock, lock.holder);
    }
  }

  fire(target, type, members = {}) {
    this.run(() => target.dispatchEvent(Object.assign(new Event(type), members)));
  }

  goOffline() {
    this.navigator.onLine = false;
    this.fire(this.window, "offline");
  }

  goOnline() {
    this.navigator.onLine = true;
    this.fire(this.window, "online");
  }

  freeze() {
    this.fire(this.document, "freeze");
    this.hang();
  }

  thaw() {
    this.unhang();
    this.fire(this.document, "resume");
  }

  async #fetch(url, { signal, credentials }) {
    const { server } = this.world;
    const isStream = url.pathname.endsWith("/stream/");
    server.requests.push({ kind: isStream ? "sse" : "catch-up", url: url.href });
    server.credentials.add(credentials);
    return new Promise((resolve, reject) => {
      const abort = () => this.run(() => reject(new DOMException("aborted", "AbortError")));
      signal?.addEventListener("abort", abort);
      this.later("fetch", () => {
        if (server.isSilent) return;
        if (server.isDown || !this.navigator.onLine) return reject(new TypeError("Failed to fetch"));
        const page = server.pages[isStream ? "sse" : "catch-up"];
        if (page) return resolve(new Response(page, {}, "text/html", server.retryAfter));
        if (isStream) return this.#answerStream(url, signal, resolve);
        const { refusal } = server;
        const [status, body] = refusal ? [refusal, errorOf(refusal)] : server.catchUp(url);
        const response = new Response(status, body, "application/json", status >= 400 ? server.retryAfter : null);
        this.later("fetch", () => (server.isDown ? reject(new TypeError("Failed to fetch")) : resolve(response)));
      });
    });
  }

  #answerStream(url, signal, resolve) {
    const { server, clock } = this.world;
    const { refusal, retryAfter } = server;
    if (refusal) return resolve(new Response(refusal, errorOf(refusal), "application/json", retryAfter));
    if (server.stream === "absent") return resolve(new Response(404, {}, "text/html"));
    const chunks = new Chunks();
    let pushed = 0;
    const push = (text) => {
      if (server.stream === "buffered" || (server.stream === "stalling" && ++pushed > 2)) return;
      const bytes = new TextEncoder().encode(text);
      // Cut where it hurts.
      const middle = Math.floor(bytes.length / 2);
      for (const part of [bytes.slice(0, middle), bytes.slice(middle)]) {
        this.later(chunks, () => chunks.push({ done: false, value: part }));
      }
    };
    const deliver = (frame) => push(`${frame.cursor ? `id: ${frame.cursor}\n` : ""}data: ${JSON.stringify(frame)}\n\n`);
    const connection = server.accept(url.searchParams.get("since"), deliver, (code) => {
      if (code > 4000) push(`event: close\ndata: ${JSON.stringify({ type: "close", code })}\n\n`);
      this.later(chunks, () => chunks.push({ done: true }));
      clock.clearTimeout(pong);
    });
    const beat = () => {
      connection.send({ type: "pong", cursor: server.log.cursor(connection.seq) });
      pong = clock.setTimeout(beat, STREAM_PONGS_EVERY);
    };
    let pong = clock.setTimeout(beat, STREAM_PONGS_EVERY);
    signal?.addEventListener("abort", () => {
      server.connections.delete(connection);
      clock.clearTimeout(pong);
      this.run(() => chunks.fail(new DOMException("aborted", "AbortError")));
    });
    if (server.stream !== "buffered") resolve(new Response(200, chunks, "text/event-stream; charset=utf-8"));
  }

  #request(name, options, callback) {
    const lock = this.world.lock(name);
    return new Promise((resolve, reject) => {
      const request = { tab: this, callback, resolve, reject };
      if (options.steal) {
        const robbed = lock.holder;
        lock.holder = null;
        lock.queue.unshift(request);
        robbed?.tab.run(() => robbed.reject(new DOMException("stolen", "AbortError")));
      } else {
        lock.queue.push(request);
        options.signal?.addEventListener("abort", () => {
          if (lock.holder === request) return;
          lock.queue = lock.queue.filter((other) => other !== request);
          reject(new DOMException("aborted", "AbortError"));
        });
      }
      this.#grant(lock);
    });
  }

  #grant(lock) {
    if (lock.holder || !lock.queue.length) return;
    const request = lock.queue.shift();
    lock.holder = request;
    request.tab.later("locks", async () => {
      if (lock.holder !== request) return;
      await request.callback({ name: "" });
      request.resolve();
      this.#release(lock, request);
    });
  }

  #release(lock, request) {
    if (lock.holder !== request) return;
    lock.holder = null;
    this.#grant(lock);
  }
}

class FakeWebSocket {
  readyState = 0;
  onopen = null;
  onmessage = null;
  onclose = null;

  constructor(tab, url, protocol) {
    this.tab = tab;
    this.url = new URL(url);
    this.protocol = protocol;
    const { server } = tab.world;
    if (server.policyForbidsSockets) throw new DOMException("Content-Security-Policy", "SecurityError");
    tab.sockets.push(this);
    server.requests.push({ kind: "websocket", url });
    tab.later(this, () => this.#reach());
  }

  get since() {
    return this.url.searchParams.get("since");
  }

  send(text) {
    if (this.readyState !== 1) throw new DOMException("InvalidStateError");
    this.connection.receive(text);
  }

  close() {
    if (this.readyState > 1) return;
    this.readyState = 2;
    this.tab.world.server.connections.delete(this.connection);
  }

  #reach() {
    const { server } = this.tab.world;
    if (this.readyState !== 0 || server.isSilent) return;
    if (server.isDown || server.socketsBlocked || server.refusal || !this.tab.navigator.onLine)
      return this.#closed(1006);
    this.readyState = 1;
    this.connection = server.accept(
      this.since,
      (frame) => this.#deliver(JSON.stringify(frame)),
      (code) => this.tab.later(this, () => this.#closed(code)),
    );
  }

  #deliver(data) {
    this.tab.later(this, () => this.readyState === 1 && this.onmessage?.({ data }));
  }

  #closed(code) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

class FakeChannel {
  onmessage = null;

  constructor(tab, name) {
    this.tab = tab;
    this.name = name;
    tab.world.channels.add(this);
  }

  postMessage(data) {
    if (!this.tab.world.channels.has(this)) throw new DOMException("InvalidStateError");
    for (const other of this.tab.world.channels) {
      if (other === this || other.name !== this.name) continue;
      const copy = structuredClone(data);
      other.tab.later(other, () => this.tab.world.channels.has(other) && other.onmessage?.({ data: copy }));
    }
  }

  close() {
    this.tab.world.channels.delete(this);
  }
}
