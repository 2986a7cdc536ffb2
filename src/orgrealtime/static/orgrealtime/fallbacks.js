/**
 * What the client does where sockets are blocked: it goes on over Server-Sent Events, or by polling, and tries better ways
 * beside. The client loads this module when it has found that sockets don't get through, though HTTP does; most pages
 * never do.
 *
 * It imports nothing: what it shares with the client it is given, so that no page loads the client twice.
 *
 * @module orgrealtime/fallbacks
 */

/**
 * Types by `@import`: Django takes an import type in a comment for code, and can't hash modules that import each other.
 *
 * @import { AnyTransport, CatchUpAnswer, Clock, Endpoints, Frame, Outside, State } from "./client.js"
 * @import { TransportClass, TransportListener, TransportName } from "./client.js"
 *
 * @typedef {object} FallingConnection  what this module calls of a connection
 * @property {State} state
 * @property {() => void} connect
 * @property {(Transport: TransportClass, listener: TransportListener) => AnyTransport} open
 *
 * @typedef {{set(ms: number, callback: () => void): void, runNow(): boolean, clear(): void}} Timer
 *
 * @typedef {[
 *   Transport: TransportClass,
 *   Timer: new (clock: Clock) => Timer,
 *   fetchPage: (outside: Outside, endpoints: Endpoints, since: string | null) => Promise<CatchUpAnswer>,
 *   requestOptions: (endpoints: Endpoints, accept: string, signal: AbortSignal) => RequestInit,
 *   urlOf: (url: string, parameters: Record<string, string | null>) => URL,
 *   closeCodeOf: (status: number, body: any, endpoints: Endpoints) => number | undefined,
 *   retryAfterOf: (response: Response, clock: Clock) => number,
 *   parseFrame: (text: string) => Frame | null,
 * ]} Tools  of the client
 */

const STREAMS_CHANNEL = "orgrealtime.streams";
// Milliseconds.
const CONFIRMED_AFTER = 10_000;
const STREAM_OPEN_TIMEOUT = 5_000;
const POLL_TIMEOUT = 20_000;
const STREAM_SILENCE_TIMEOUT = 30_000; // the server sends something every 15 s
const STREAM_ANSWER_TIME = 250;
const UPGRADE_INTERVAL = 180_000;

const HIDDEN_POLL_FACTOR = 6;
const MAX_STREAMS = 4; // of all tabs: over HTTP/1.1 a browser has six connections to a site, and each stream keeps one

/**
 * Which transport a connection uses once sockets have turned out to be blocked, and the attempts at better ones.
 *
 * @implements {TransportListener}
 */
export class Fallbacks {
  /** The transports of a connection, the best first. @type {TransportClass[]} */ #transports;
  /** Which of them is used. */ #index = 0;
  /** A better transport that is tried beside the one in use. @type {AnyTransport | null} */ #candidate = null;
  /** Which of the transports that is. */ #candidateIndex = 0;
  #connection;
  #upgradeTimer;
  #clock;

  /** @param {FallingConnection} connection @param {Clock} clock @param {Tools} tools  of the client */
  constructor(connection, clock, tools) {
    const [Transport, Timer] = tools;
    this.#transports = [Transport, ...fallbackTransports(tools)];
    this.#connection = connection;
    this.#upgradeTimer = new Timer(clock);
    this.#clock = clock;
  }

  /** The one in use. */
  get Transport() {
    return this.#transports[this.#index];
  }

  /** Use the next transport: this one doesn't get through. */
  fallBack() {
    this.#index++;
    this.#scheduleUpgrade();
    this.#connection.connect();
  }

  close() {
    this.#candidate?.close();
    this.#candidate = null;
    this.#upgradeTimer.clear();
  }

  /** Try the better transports, the best first. The fallback goes on until one of them is confirmed to work. */
  tryUpgrade(index = 0) {
    if (this.#index === 0 || this.#candidate || this.#connection.state.name === "stopped") return;
    if (index === this.#index) return this.#scheduleUpgrade();
    this.#candidateIndex = index;
    this.#candidate = this.#connection.open(this.#transports[index], this);
  }

  /**
   * Use the candidate's kind of transport instead of the fallback, if this frame confirms that it works.
   *
   * @param {AnyTransport} candidate
   * @param {Frame} frame
   */
  onFrame(candidate, frame) {
    if (frame.type === "welcome") {
      if (!candidate.endpoints.isSameUser(frame)) return;
      candidate.onWelcome(frame);
    }
    if (!candidate.isConfirmed()) return;
    this.#candidate = null;
    this.#index = this.#candidateIndex;
    if (this.#index > 0) this.#scheduleUpgrade();
    // Nothing of what the candidate has received was delivered: begin again, from the tab's present position.
    candidate.close();
    this.#connection.connect();
  }

  onClosed() {
    this.#candidate = null;
    this.tryUpgrade(this.#candidateIndex + 1);
  }

  /** Jittered, because others have fallen back at the same moment. */
  #scheduleUpgrade() {
    this.#upgradeTimer.set(jitter(this.#clock, UPGRADE_INTERVAL), () => this.tryUpgrade());
  }
}

/**
 * Server-Sent Events and polling, as kinds of the client's transport.
 *
 * @param {Tools} tools
 * @returns {TransportClass[]}
 */
function fallbackTransports([
  Transport,
  Timer,
  fetchPage,
  requestOptions,
  urlOf,
  closeCodeOf,
  retryAfterOf,
  parseFrame,
]) {
  /** Over HTTP, where no message can be sent, not even a ping. */
  class HttpTransport extends Transport {
    keepAlive() {}

    wake() {}
  }

  /** Server-Sent Events. Read with `fetch`, which shows the status of a refusal, and comments as signs of life. */
  class StreamTransport extends HttpTransport {
    /** @type {TransportName} */ static transportName = "sse";
    openTimeout = STREAM_OPEN_TIMEOUT;
    #abortController = new AbortController();
    #silenceTimer = new Timer(this.outside.clock);
    /** On which the tabs of a site tell each other how many streams there are. @type {BroadcastChannel | null} */
    #channel = null;

    /** A proxy that buffers a stream often lets its beginning through. */
    isConfirmed() {
      return super.isConfirmed() && this.outside.clock.now() - this.openedAt >= CONFIRMED_AFTER;
    }

    async open() {
      try {
        if (await this.#takePlace()) await this.#read();
        else this.maxFailedOpens = 1;
      } catch {
        // The server wasn't reached, or the stream was broken off or aborted.
      }
      this.end();
    }

    close() {
      super.close();
      this.#silenceTimer.clear();
      this.#channel?.close();
      this.#channel = null;
      this.#abortController.abort();
    }

    /**
     * Whether this stream may keep a connection to the site. The streams that there are answer the question, and those
     * that have asked earlier.
     */
    async #takePlace() {
      const { BroadcastChannel, clock } = this.outside;
      const askedAt = clock.now() + clock.random(); // never two at the same moment
      let others = 0;
      const channel = openChannel(BroadcastChannel);
      if (!channel) return true;
      this.#channel = channel;
      channel.onmessage = ({ data: { question, answer } }) => {
        if (answer === askedAt) others++;
        else if (askedAt < question) channel.postMessage({ answer: question });
      };
      channel.postMessage({ question: askedAt });
      await new Promise((resolve) => this.#silenceTimer.set(STREAM_ANSWER_TIME, () => resolve(null)));
      return others < MAX_STREAMS;
    }

    async #read() {
      const url = urlOf(this.endpoints.streamUrl, { since: this.since });
      const init = requestOptions(this.endpoints, "text/event-stream", this.#abortController.signal);
      const response = await this.outside.fetch(url.href, init);
      const isStream = response.ok && response.headers.get("Content-Type")?.startsWith("text/event-stream");
      if (!isStream || !response.body) {
        this.retryAfter = retryAfterOf(response, this.outside.clock);
        return this.#onRefused(closeCodeOf(response.status, await response.json(), this.endpoints));
      }
      const chunks = response.body.getReader();
      const decoder = new TextDecoder();
      for (let rest = ""; ; ) {
        const { done, value } = await chunks.read();
        if (done || this.isClosed) return;
        this.#silenceTimer.set(STREAM_SILENCE_TIMEOUT, () => this.#onSilence());
        rest = this.#parseChunk(rest + decoder.decode(value, { stream: true }));
      }
    }

    /** @param {number} [code] */
    #onRefused(code) {
      this.hasReason = code !== undefined;
      this.end(code);
    }

    /** A proxy may buffer the stream: if the server can be reached, the stream counts as not opened. */
    #onSilence() {
      this.openedAt = 0;
      this.end();
    }

    /** Receive the complete frames of a text; returns the rest. @param {string} text */
    #parseChunk(text) {
      const blocks = text.split(/\r?\n\r?\n/);
      const rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const lines = block.split(/\r?\n/);
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
        if (data.length) this.#onData(data.join("\n"), lines.includes("event: close"));
      }
      return rest;
    }

    /** @param {string} data @param {boolean} isClose */
    #onData(data, isClose) {
      const frame = parseFrame(data);
      if (!frame || isClose) this.end(frame?.code);
      else this.receive(frame);
    }
  }

  /** Polling: asks the catch-up view again and again. */
  class PollTransport extends HttpTransport {
    /** @type {TransportName} */ static transportName = "polling";
    hasReason = true;
    openTimeout = POLL_TIMEOUT;
    #timer = new Timer(this.outside.clock);
    #cursor = this.since;
    #isSynced = false;

    open() {
      this.#poll();
    }

    wake() {
      this.#timer.runNow();
    }

    close() {
      super.close();
      this.#timer.clear();
    }

    async #poll() {
      const { frame, more, code, retryAfter = 0 } = await fetchPage(this.outside, this.endpoints, this.#cursor);
      this.retryAfter = retryAfter;
      if (!frame) return this.end(code);
      if (!this.openedAt) this.receive({ type: "welcome", cursor: this.#cursor ?? frame.cursor, user: frame.user });
      this.#cursor = frame.cursor;
      this.receive(frame);
      if (!more && !this.#isSynced) {
        this.#isSynced = true;
        this.receive({ type: "synced", cursor: frame.cursor });
      }
      if (!this.isClosed) this.#timer.set(more ? 0 : this.#interval(), () => this.#poll());
    }

    #interval() {
      const { clock, document } = this.outside;
      return jitter(clock, this.endpoints.pollInterval * (document?.hidden ? HIDDEN_POLL_FACTOR : 1));
    }
  }

  return [StreamTransport, PollTransport];
}

/** A time up to a fifth shorter or longer. @param {Clock} clock @param {number} ms */
function jitter(clock, ms) {
  return ms * (0.8 + 0.4 * clock.random());
}

/** A channel of all tabs; null where there is none: some browsers refuse it to a page without storage. */
function openChannel(/** @type {Outside["BroadcastChannel"]} */ Channel) {
  try {
    return Channel ? new Channel(STREAMS_CHANNEL) : null;
  } catch {
    return null;
  }
}
