/** The module of the fallbacks may fail to come, or come late: the client gets its events all the same. */

import assert from "node:assert/strict";
import { register } from "node:module";
import { before, test } from "node:test";

import { World } from "./fakes.mjs";

/** `client.js?failing` gets the module at the third attempt, `client.js?late` after a while, `client.js?waiting` never. */
const HOOKS = `let attempts = 0;
export async function resolve(name, context, next) {
  if (name === "./fallbacks.js") {
    if (context.parentURL.endsWith("?failing") && attempts++ < 2) throw new Error("no network");
    if (context.parentURL.endsWith("?late")) await new Promise((resolve) => setTimeout(resolve, 100));
    if (context.parentURL.endsWith("?waiting")) await new Promise(() => {});
  }
  return next(name, context);
}`;

before(() => register(`data:text/javascript,${encodeURIComponent(HOOKS)}`));

/** A page whose sockets are blocked. */
async function blockedPage(how) {
  const { connect } = await import(`../../src/orgrealtime/static/orgrealtime/client.js?${how}`);
  const world = new World();
  const { server, clock } = world;
  const { outside } = world.newTab();
  const events = [];
  server.socketsBlocked = true;
  const onEvent = (event) => void events.push(event.text);
  const client = connect({ org: "acme", since: "aaaa.0", share: false, outside, onEvent, onReset() {} });
  /** Let time pass until something has come about; modules come in real time. */
  const until = async (condition) => {
    const end = clock.now() + 300_000;
    while (!condition()) {
      assert.ok(clock.now() < end, `not within five minutes: ${condition}`);
      await clock.advance(100);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  return { server, clock, events, client, until };
}

test("fallback begins as soon as its module can be loaded, and until then events come all the same", async (t) => {
  const told = t.mock.method(console, "error", () => {});
  const { server, events, client, until } = await blockedPage("failing");
  for (const failures of [1, 2]) {
    await until(() => told.mock.callCount() === failures);
    assert.equal(client.state.transport, "websocket");
    server.publish({ text: failures });
    await until(() => events.includes(failures));
  }
  await until(() => client.state.name === "live");
  assert.equal(client.state.transport, "sse");
  server.publish({ text: 3 });
  await until(() => events.includes(3));
  assert.deepEqual(events, [1, 2, 3]);
  assert.equal(told.mock.callCount(), 2);
  assert.equal(told.mock.calls[0].arguments[0].message, "no network");
  client.close();
});

test("client doesn't wait for a module that doesn't come", async () => {
  const { server, events, client, until } = await blockedPage("waiting");
  await until(() => server.count("websocket") === 2);
  server.publish({ text: 1 });
  await until(() => server.count("websocket") === 3);
  await until(() => events.includes(1));
  server.socketsBlocked = false;
  await until(() => client.state.name === "live");
  assert.equal(client.state.transport, "websocket");
  client.close();
});

test("client that is closed while the module is on its way stays closed", async () => {
  const { server, client, clock, until } = await blockedPage("late");
  await until(() => server.count("websocket") === 2);
  await clock.advance(50);
  client.close();
  await new Promise((resolve) => setTimeout(resolve, 500));
  await clock.advance(60_000);
  assert.equal(clock.pending, 0);
  assert.equal(server.count("sse"), 0);
});
