/**
 * One organisation's notifications over a WebSocket: every event once, in order, over any number of connections.
 *
 * Speaks protocol version 1 and knows nothing of the page.
 *
 * @typedef {{type: string, cursor: string, created_at: string, actor: number | null, [key: string]: unknown}} Event
 * @typedef {{name: "connecting" | "catching-up" | "live" | "signed-out" | "no-access" | "stopped"}
 *   | {name: "waiting", until: number}} State   `until` in milliseconds since 1970
 */

const SUBPROTOCOL = "orgrealtime.v1";
const STOPPING = new Map([[4400, "stopped"], [4401, "signed-out"], [4403, "no-access"], [4413, "stopped"]]);

// Milliseconds.
const BACKOFF_BASE = 500;
const BACKOFF_CAP = 30_000;
const HEALTHY_AFTER = 10_000;
const HANDSHAKE_WITHIN = 15_000;
const PONG_WITHIN = 10_000;
const ACK_EVERY = 1_000;

// Far more than can be on its way twice.
const REMEMBERED_CURSORS = 1_000;

export class Notifications {
  /** @type {WebSocket | null} */ #socket = null;
  #attempts = 0;
  #liveSince = Infinity;
  #retryTimer = 0;
  #handshakeTimer = 0;
  #pingTimer = 0;
  #pongTimer = 0;
  #ackTimer = 0;
  /** Frames are handled one after the other, also where a handler has to wait. */
  #handled = Promise.resolve();
  /** @type {Set<string>} */ #seen = new Set();

  /**
   * @param {object} options
   * @param {string} options.socketUrl
   * @param {string} options.catchUpUrl
   * @param {string} options.cursor  the position of what the page shows
   * @param {(event: Event) => void | Promise<void>} options.onEvent
   * @param {() => Promise<void>} options.onReset  fetch what the page shows afresh; may throw, then it is asked again
   * @param {(state: State) => void} options.onState
   */
  constructor({ socketUrl, catchUpUrl, cursor, onEvent, onReset, onState }) {
    this.socketUrl = socketUrl;
    this.catchUpUrl = catchUpUrl;
    this.cursor = cursor;
    this.onEvent = onEvent;
    this.onReset = onReset;
    this.onState = onState;
  }

  start() {
    addEventListener("online", () => this.#hurry());
    addEventListener("offline", () => this.#socket && this.#lost(this.#socket));
    // A page that comes back from the back-forward cache finds its socket gone.
    addEventListener("pageshow", (event) => event.persisted && this.#hurry());
    document.addEventListener("visibilitychange", () => !document.hidden && this.#hurry());
    this.#connect();
  }

  /** Don't wait any longer: something has just changed for the better. */
  #hurry() {
    if (!this.#retryTimer) return;
    this.#attempts = 0;
    this.#connect();
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.onState({ name: "connecting" });
    const url = new URL(this.socketUrl, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("since", this.cursor);
    const socket = new WebSocket(url, SUBPROTOCOL);
    let opened = false;
    this.#socket = socket;
    this.#handshakeTimer = setTimeout(() => this.#lost(socket), HANDSHAKE_WITHIN);
    socket.onopen = () => {
      opened = true;
    };
    socket.onmessage = ({ data }) => {
      this.#heard();
      this.#handled = this.#handled.then(() => this.#receive(socket, JSON.parse(data))).catch((error) => {
        console.error(error);
        this.#lost(socket);
      });
    };
    socket.onclose = ({ code }) => {
      // What arrived before the close is handled before it, or the cursor would fall back.
      this.#handled = this.#handled.then(() => this.#closed(socket, code, opened));
    };
  }

  /** @param {WebSocket} socket @param {any} frame */
  async #receive(socket, frame) {
    if (socket !== this.#socket) return;
    switch (frame.type) {
      case "welcome":
        clearTimeout(this.#handshakeTimer);
        this.#pingTimer = setInterval(() => this.#ping(socket), frame.heartbeat * 1000);
        return this.onState({ name: "catching-up" });
      case "batch":
        for (const event of frame.events) await this.#deliver(event);
        return this.#moveTo(frame.cursor);
      case "synced":
        this.#liveSince = Date.now();
        this.#moveTo(frame.cursor);
        return this.onState({ name: "live" });
      case "cursor":
        return this.#moveTo(frame.cursor);
      case "reset":
        // The old cursor is kept until this has succeeded: if it fails, the next connection says reset again.
        await this.onReset();
        return this.#moveTo(frame.cursor);
      case "pong":
        return;
      case "error":
        return console.warn("The server refused a message:", frame.error.code, frame.error.message);
      case "going_away":
        return this.#lost(socket, frame.retry_after_ms + Math.random() * frame.window_ms);
      default:
        await this.#deliver(frame);
        return this.#moveTo(frame.cursor);
    }
  }

  /** @param {Event} event */
  async #deliver(event) {
    if (this.#seen.has(event.cursor)) return;
    this.#seen.add(event.cursor);
    if (this.#seen.size > REMEMBERED_CURSORS) {
      const [oldest] = this.#seen;
      this.#seen.delete(oldest);
    }
    try {
      await this.onEvent(event);
    } catch (error) {
      // One event that the page can't show must not keep the following ones away.
      console.error(error);
    }
  }

  /** @param {string} cursor */
  #moveTo(cursor) {
    this.cursor = cursor;
    this.#ackTimer ||= setTimeout(() => {
      this.#ackTimer = 0;
      this.#send({ type: "ack", cursor: this.cursor });
    }, ACK_EVERY);
  }

  /** @param {object} message */
  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** @param {WebSocket} socket */
  #ping(socket) {
    this.#send({ type: "ping" });
    this.#pongTimer ||= setTimeout(() => this.#lost(socket), PONG_WITHIN);
  }

  /** Any frame proves that the link is up, not only a pong. */
  #heard() {
    clearTimeout(this.#pongTimer);
    this.#pongTimer = 0;
  }

  /** @param {WebSocket} socket @param {number} code @param {boolean} opened */
  async #closed(socket, code, opened) {
    if (socket !== this.#socket) return;
    const stop = STOPPING.get(code) ?? (opened ? undefined : await this.#whyRefused());
    if (socket !== this.#socket) return;
    if (!stop) return this.#lost(socket);
    this.#release();
    this.onState(/** @type {State} */ ({ name: stop }));
  }

  /** A browser doesn't tell a page why a handshake was refused, so ask where it does. */
  async #whyRefused() {
    const url = new URL(this.catchUpUrl, location.href);
    url.searchParams.set("since", this.cursor);
    url.searchParams.set("limit", "1");
    const response = await fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
    return response?.status === 401 ? "signed-out" : response?.status === 403 ? "no-access" : undefined;
  }

  /** Give this connection up, closed or not, and plan the next one. @param {WebSocket} socket @param {number} [delay] */
  #lost(socket, delay) {
    if (socket !== this.#socket) return;
    if (Date.now() - this.#liveSince > HEALTHY_AFTER) this.#attempts = 0;
    this.#release();
    // Full jitter, so that thousands who lost the same server don't come back in step.
    delay ??= Math.random() * Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** this.#attempts++);
    this.#retryTimer = setTimeout(() => this.#connect(), delay);
    this.onState({ name: "waiting", until: Date.now() + delay });
  }

  #release() {
    clearTimeout(this.#handshakeTimer);
    clearInterval(this.#pingTimer);
    clearTimeout(this.#ackTimer);
    this.#heard();
    this.#ackTimer = 0;
    this.#liveSince = Infinity;
    // On a dead link the close event takes minutes; from here on nobody listens to this socket.
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
