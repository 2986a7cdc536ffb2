/** What is told to developers: one clear error or warning for each mistake, and with `debug` all that happens. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { connect } from "../../src/orgrealtime/static/orgrealtime/client.js";
import { World } from "./fakes.mjs";
import { onePage, Page, until } from "./support.mjs";

const handlers = { onEvent() {}, onReset() {} };
const outside = () => new World().newTab().outside;

// Errors

for (const [name, options, message] of [
  ["nothing", undefined, /needs 'org'/],
  ["null", null, /needs 'org'/],
  ["a slug alone", "acme", /needs 'org'/],
  ["a handler that is no function", { org: "acme", onEvent: "show" }, /handler for "event" must be a function/],
  ["a handler for what doesn't happen", { org: "acme", onEvents() {} }, /"events", but for event,reset,state,/],
  ["an address that is none", { org: "acme", url: "http://[" }, /"http:\/\/\[" is no URL/],
]) {
  test(`connect() given ${name} says what is wrong`, () => {
    const given = typeof options === "object" && options ? { ...options, outside: outside() } : options;
    assert.throws(() => connect(given), message);
  });
}

for (const [name, act, message] of [
  ["a name that isn't known", (client) => client.on("events", () => {}), /"events", but for event,reset,state,/],
  ["no handler", (client) => client.on("event"), /handler for "event" must be a function/],
]) {
  test(`on() given ${name} says what is wrong`, () => {
    const client = connect({ org: "acme", ...handlers, outside: outside() });
    assert.throws(() => act(client), message);
    client.close();
  });
}

test("connect() on a server says that it needs a page", () => {
  const module = new URL("../../src/orgrealtime/static/orgrealtime/client.js", import.meta.url);
  const code = `import { connect } from "${module}"; connect({ org: "acme" })`;
  const run = () => execFileSync(process.execPath, ["--input-type=module", "--eval", code], { stdio: "pipe" });
  assert.throws(run, /connect\(\) needs a page: call it in a browser, not on a server/);
});

// Warnings

/** What is warned of in a page with these options. */
async function warnings(t, options, act = () => {}) {
  const warned = t.mock.method(console, "warn", () => {});
  const rig = onePage(options);
  await act(rig);
  await rig.clock.advance(60_000);
  await until(() => warned.mock.callCount());
  rig.page.client.close();
  return warned.mock.calls.map((call) => call.arguments[0]);
}

for (const [name, options, message] of [
  ["a misspelt option", { sinse: "x" }, /no option "sinse"; did you mean "since"\?$/],
  ["a handler in the wrong case", { onevent() {} }, /no option "onevent"; did you mean "onEvent"\?$/],
  ["an option that there never was", { reconnect: true }, /no option "reconnect"; there are org, url, /],
  ["a number for a cursor", { since: 7 }, /"since" must be a string, not number$/],
  ["a text for a number", { pollInterval: "5000" }, /"pollInterval" must be a number, not string$/],
  ["a text for a switch", { share: "off" }, /"share" must be a boolean, not string$/],
  ["an object for a key", { shareKey: {} }, /"shareKey" must be a string or number, not object$/],
  ["two mistakes", { sinse: "x", share: 1 }, /"share" must be a boolean, not number; there is no option "sinse"/],
]) {
  test(`${name} is warned of, once`, async (t) => {
    const found = await warnings(t, { ...options, since: options.since ?? "aaaa.0" });
    assert.equal(found.length, 1);
    assert.match(found[0], message);
  });
}

test("client whose events nobody handles is warned of, once", async (t) => {
  const nothing = { onEvent: undefined, onReset: undefined, onMessage: undefined };
  const found = await warnings(t, nothing, async ({ clock, server }) => {
    await clock.advance(100);
    server.closeAll(1006);
  });
  assert.equal(found.length, 1);
  assert.match(found[0], /nothing handles what comes/);
});

test("organisation that doesn't exist is warned of", async (t) => {
  const found = await warnings(t, {}, ({ server }) => Object.assign(server, { refusal: 403 }));
  assert.equal(found.length, 1);
  assert.match(found[0], /no such organisation.*see https:\/\/example\.org\/orgs\/acme\/notifications\/$/);
});

test("page of somebody who isn't logged in is warned of", async (t) => {
  const found = await warnings(t, {}, ({ server }) => Object.assign(server, { refusal: 401 }));
  assert.deepEqual(found, ["orgrealtime: nobody is logged in; see https://example.org/orgs/acme/notifications/"]);
});

test("addresses where nothing answers are warned of, once", async (t) => {
  const found = await warnings(t, {}, ({ server }) => {
    server.socketsBlocked = true;
    server.pages = { "catch-up": 404, sse: 404 };
  });
  assert.equal(found.length, 1);
  assert.match(found[0], /no connection to wss:\/\/example\.org\/ws.*orgrealtime\.urls/);
});

test("message that the server refuses is warned of if nothing handles messages", async (t) => {
  const error = { code: "unknown_type", message: "there is no message of this type" };
  const found = await warnings(t, { onMessage: undefined }, async ({ clock, server }) => {
    await clock.advance(100);
    [...server.connections][0].send({ type: "error", error });
  });
  assert.equal(found.length, 1);
  assert.match(found[0], /unknown_type, there is no message of this type/);
});

test("page without a mistake is told nothing, also when its login ends", async (t) => {
  const warned = t.mock.method(console, "warn", () => {});
  const { clock, server, page } = onePage();
  await clock.advance(100);
  server.refusal = 401;
  server.closeAll(4401);
  await clock.advance(1000);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(page.state, "unauthenticated");
  assert.equal(warned.mock.callCount(), 0);
});

// debug

test("debug writes what goes over the network and to other tabs, and changes nothing", async (t) => {
  const written = t.mock.method(console, "debug", () => {});
  const world = new World();
  const tab = world.newTab();
  // A real one has listeners; the client uses none.
  tab.outside.WebSocket = class extends tab.outside.WebSocket {
    #listeners = { message: [], close: [] };
    addEventListener(type, listener) {
      this.#listeners[type].push(listener);
      let own = null;
      Object.defineProperty(this, `on${type}`, {
        get: () => (event) => [own, ...this.#listeners[type]].forEach((act) => void act?.(event)),
        set: (handler) => {
          own = handler;
        },
      });
    }
  };
  const page = new Page(tab, { since: "aaaa.0", share: true, debug: true });
  world.server.publish({ text: 1 });
  await until(() => tab.outside.WebSocket && world.channels.size);
  await world.clock.advance(1000);
  assert.deepEqual(page.events, [1]);
  const recent = page.client.recent();
  await world.clock.advance(100);
  assert.equal((await recent).length, 1);
  world.server.closeAll(1006);
  await world.clock.advance(100);
  const lines = written.mock.calls.map((call) => call.arguments.slice(1).map(String).join(" "));
  for (const part of [
    "socket to wss:",
    'received {"type":"welcome"',
    "sent",
    "to other tabs",
    "GET https:",
    "200 https:",
  ]) {
    assert.ok(
      lines.some((line) => line.startsWith(part)),
      part,
    );
  }
  assert.ok(lines.includes("socket closed with 1006"));
});
