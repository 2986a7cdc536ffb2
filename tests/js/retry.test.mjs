/** The retry policy as a table: what has become of a transport, and what the client does about it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { CLOSE_CODES, nextAttempt } from "../../src/orgrealtime/static/orgrealtime/client.js";

const NOW = 1_000_000;
const RESTARTING = NOW + 30_000;
const FIRST = { attempts: 0, failedOpens: 0, restartUntil: 0, reconnectAt: 0, notBefore: 0 };
const EVENTS = { frame: { type: "batch", events: [], cursor: "aaaa.1" } };
const lost = { wasOpen: true };
const refused = { hasReason: true };
const blocked = { maxFailedOpens: 2, answer: EVENTS };

const wait = (delay, state, code) => ({ action: "wait", delay, state, code });
const diagnose = { action: "diagnose" };
const stop = (code) => ({ action: "stop", code });
const fallBack = { action: "fall back", state: { failedOpens: 0 } };

const ROWS = [
  // what has become of the transport, after what, how it ended, what to do (with a random number of 0.5)

  // The backoff
  ["connection that is lost for the first time", {}, { ...lost, code: 1006 }, wait(250, { attempts: 1 }, 1006)],
  ["connection that is lost without a code", {}, lost, wait(250, { attempts: 1 })],
  ["connection that is lost again", { attempts: 1 }, lost, wait(500, { attempts: 2 })],
  ["connection that is lost a fifth time", { attempts: 4 }, lost, wait(4000, { attempts: 5 })],
  ["connection that is lost a seventh time", { attempts: 6 }, lost, wait(15_000, { attempts: 7 })],
  ["connection that is lost a hundredth time", { attempts: 99 }, lost, wait(15_000, { attempts: 100 })],
  ["reader that was too slow", {}, { ...lost, code: 4408 }, wait(250, { attempts: 1 }, 4408)],
  ["refusal for a while that is told", {}, { ...refused, code: 4503 }, wait(250, { attempts: 1 }, 4503)],
  ["refusal of a socket for a while", {}, { code: 4429 }, wait(250, { attempts: 1 }, 4429)],
  ["poll that didn't reach the server", { attempts: 2 }, refused, wait(1000, { attempts: 3 })],

  // The browser has no network
  ["connection that is lost with the network", {}, { ...lost, isOffline: true }, wait(30_000, { attempts: 1 })],
  [
    "connection that restarts without a network",
    { reconnectAt: NOW + 100 },
    { ...lost, isOffline: true },
    wait(30_000, { attempts: 0 }),
  ],
  ["final code without a network", {}, { ...refused, code: 4403, isOffline: true }, stop(4403)],

  // The server restarts
  [
    "server that goes away and gives hints",
    { attempts: 3 },
    { goingAway: { type: "going_away", retry_after_ms: 1000, window_ms: 8000 } },
    wait(5000, { attempts: 3, reconnectAt: NOW + 5000, restartUntil: RESTARTING }),
  ],
  [
    "server that goes away and gives none",
    {},
    { goingAway: { type: "going_away" } },
    wait(2500, { attempts: 0, reconnectAt: NOW + 2500, restartUntil: RESTARTING }),
  ],
  [
    "connection that ends before its moment after going_away",
    { reconnectAt: NOW + 700 },
    { ...lost, code: 1006 },
    wait(700, { attempts: 0 }, 1006),
  ],
  ["connection that ends after that moment", { reconnectAt: NOW - 1 }, lost, wait(0, { attempts: 0 })],
  [
    "connection that is closed with 1012 before that moment",
    { reconnectAt: NOW + 700 },
    { ...lost, code: 1012 },
    wait(700, { attempts: 0, restartUntil: RESTARTING }, 1012),
  ],
  ...[1001, 1012].flatMap((code) => [
    [
      `connection that is closed with ${code}`,
      {},
      { ...lost, code },
      wait(2500, { attempts: 1, restartUntil: RESTARTING }, code),
    ],
    [
      `connection that is closed with ${code} after other failures`,
      { attempts: 2 },
      { ...lost, code },
      wait(1000, { attempts: 3, restartUntil: RESTARTING }, code),
    ],
  ]),

  // Only the catch-up view knows why
  ["socket that doesn't open", {}, {}, diagnose],
  ["socket that doesn't open, as browsers say it", {}, { code: 1006 }, diagnose],
  ["socket that is closed with 1012 before its welcome", {}, { code: 1012 }, diagnose],
  ["connection whose login has ended", {}, { ...lost, code: 4401 }, diagnose],
  ["connection whose membership has ended", {}, { ...lost, code: 4403 }, diagnose],
  ["socket of nobody", {}, { code: 4401 }, diagnose],
  ["socket that doesn't open, and a view that isn't reached", {}, { answer: {} }, wait(250, { attempts: 1 })],
  [
    "socket that doesn't open, and a view that is overloaded",
    { failedOpens: 1 },
    { code: 1006, maxFailedOpens: 2, answer: { code: 4503 } },
    wait(250, { attempts: 1, failedOpens: 1 }, 4503),
  ],
  ["login that the view knows to have ended", {}, { ...lost, code: 4401, answer: { code: 4401 } }, stop(4401)],
  ["socket that doesn't open for who isn't a member", {}, { code: 1006, answer: { code: 4403 } }, stop(4403)],
  [
    "old login's end while the browser has another",
    {},
    { ...lost, code: 4401, answer: EVENTS },
    wait(250, { attempts: 1, failedOpens: 0 }, 4401),
  ],
  [
    "old login's end after going_away",
    { reconnectAt: NOW + 700 },
    { ...lost, code: 4401, answer: EVENTS },
    wait(250, { attempts: 1 }, 4401),
  ],

  // Codes that forbid another attempt
  ["stream of nobody", {}, { ...refused, code: 4401 }, stop(4401)],
  ["cursor that the server doesn't understand", {}, { code: 4400 }, stop(4400)],
  ["message that was too long", {}, { ...lost, code: 4413 }, stop(4413)],

  // Something on the way lets HTTP through, but not this kind of transport
  ["first socket that is blocked", {}, blocked, wait(250, { attempts: 1, failedOpens: 1 })],
  ["second socket in a row that is blocked", { attempts: 1, failedOpens: 1 }, blocked, fallBack],
  ["transport that may fail once", {}, { answer: EVENTS }, fallBack],
  [
    "socket that is refused by a server that restarts",
    { failedOpens: 1, restartUntil: NOW + 1 },
    blocked,
    wait(250, { attempts: 1, failedOpens: 1 }),
  ],
  ["socket that is blocked when a restart should be over", { failedOpens: 1, restartUntil: NOW }, blocked, fallBack],
  [
    "second blocked socket whose view answers reset",
    { failedOpens: 1 },
    { ...blocked, answer: { frame: {} } },
    fallBack,
  ],
];

for (const [what, before, outcome, { state: changed, ...expected }] of ROWS) {
  test(`${what}: ${expected.action}`, () => {
    const state = Object.freeze({ ...FIRST, ...before });
    const { state: after, code, ...decision } = nextAttempt(state, outcome, NOW, 0.5);
    assert.deepEqual({ ...decision, code: code || undefined }, { code: undefined, ...expected });
    assert.deepEqual(after, { ...state, ...changed });
  });
}

for (const [code, { retry }] of Object.entries(CLOSE_CODES)) {
  test(`refusal with ${code} that says why is ${retry ? "retried" : "final"}`, () => {
    const { action } = nextAttempt(FIRST, { hasReason: true, code: Number(code) }, NOW, 0.5);
    assert.equal(action, retry ? "wait" : "stop");
  });
}

test("delays are spread from nothing to the longest", () => {
  const delays = [0, 0.25, 0.999].map((random) => nextAttempt({ ...FIRST, attempts: 9 }, lost, NOW, random).delay);
  assert.deepEqual(delays, [0, 7500, 29_970]);
});
