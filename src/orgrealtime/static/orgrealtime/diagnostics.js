/**
 * What the client tells developers: warnings about mistakes, and with `debug: true` all that it does. The client loads
 * this module when there is something to tell, so most pages never do.
 *
 * @module orgrealtime/diagnostics
 */

/**
 * Types by `@import`: Django takes an import type in a comment for code, and can't hash modules that import each other.
 *
 * @import { Client, Outside } from "./client.js"
 */

const HANDLERS = ["onEvent", "onReset", "onState", "onMessage", "onUser", "onError"];

/** The text of a warning by its topic. @type {Record<string, (detail: any) => string>} */
const TEXTS = {
  options: ({ mistakes, types }) => mistakes.map(describeMistake(types)).join("; "),
  handlers: () =>
    "nothing handles what comes: give connect() `onEvent` and `onReset`, or call client.on() before the client is live",
  reset: ({ reason }) =>
    `nothing handles a reset (${reason}): what this page shows may be incomplete. Give connect() an \`onReset\` that ` +
    "fetches afresh what the page shows",
  stuck: ({ type, cursor }) =>
    `a handler has not settled for 10 seconds, so this page gets nothing more: it was called with "${type}" ${cursor}. ` +
    "Give what it waits for a time limit",
  user: ({ user, previous }) =>
    `user ${user} has logged in after ${previous}, for whom this page was made. The client has ended, because nothing ` +
    "handles it: give connect() `onUser`, such as () => location.reload(), or `onReset`",
  refused: ({ code, catchUpUrl }) => `${REFUSALS[code] ?? `the server has refused with ${code}`}; see ${catchUpUrl}`,
  unreachable: ({ socketUrl, catchUpUrl }) =>
    `no connection to ${socketUrl}, and ${catchUpUrl} doesn't answer as the catch-up view does. Open the latter in a ` +
    'tab: it must answer with JSON that has "cursor". Is orgrealtime.urls in your URLs, and is the socket routed there? ' +
    "If it answers, and an error above tells that fallbacks.js can't be loaded: serve it beside client.js",
  error: ({ code, message }) => `the server has refused what send() sent: ${code}, ${message}. \`onMessage\` gets this`,
};

/** @type {Record<number, string>} */
const REFUSALS = {
  4400: "the server can't read the request: is `since` a cursor that the server gave?",
  4401: "nobody is logged in",
  4403: "there is no such organisation, or the user is no member of it: is `org` its slug?",
};

/** Write a warning into the console. @param {string} topic @param {any} detail */
export function warn(topic, detail) {
  console.warn(`orgrealtime: ${TEXTS[topic](detail)}`, ...(detail === undefined ? [] : [detail]));
}

/** @param {Record<string, string>} types @returns {(mistake: [string, unknown]) => string} */
function describeMistake(types) {
  return ([name, value]) => {
    if (name in types) return `the option "${name}" must be a ${types[name]}, not ${typeof value}`;
    const known = [...Object.keys(types), ...HANDLERS];
    const alike = known.find((other) => distance(name.toLowerCase(), other.toLowerCase()) <= 2);
    return `there is no option "${name}"; ${alike ? `did you mean "${alike}"?` : `there are ${known.join(", ")}`}`;
  };
}

/** How many letters differ (Levenshtein). @param {string} one @param {string} other */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, n) => n);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const replaced = row[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[other.length];
}

/**
 * Write into the console what a client does from now on: its states, and what it exchanges with server and tabs.
 *
 * @param {Client} client
 * @param {Outside} outside  what the client takes from the browser; its members are replaced
 */
export function trace(client, outside) {
  const log = (/** @type {any[]} */ ...what) => console.debug("orgrealtime:", ...what);
  const { WebSocket, BroadcastChannel, fetch } = outside;
  client.on("state", (state) => log("state", state));
  client.on("user", (change) => log("user", change));
  outside.fetch = async (url, init) => {
    log("GET", url);
    const response = await fetch(url, init);
    log(response.status, url);
    return response;
  };
  if (WebSocket) {
    outside.WebSocket = class extends WebSocket {
      /** @param {string} url @param {string | string[]} protocols */
      constructor(url, protocols) {
        super(url, /** @type {any} */ (protocols));
        log("socket to", url);
        this.addEventListener("message", ({ data }) => log("received", data));
        this.addEventListener("close", ({ code }) => log("socket closed with", code));
      }

      /** @param {any} data */
      send(data) {
        log("sent", data);
        super.send(data);
      }
    };
  }
  if (BroadcastChannel) {
    outside.BroadcastChannel = class extends BroadcastChannel {
      /** @param {any} data */
      postMessage(data) {
        log("to other tabs", data);
        super.postMessage(data);
      }
    };
  }
}
