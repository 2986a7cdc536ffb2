/** Another login in the same browser, while a page is open. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./fakes.mjs";
import { manyPages, onePage, Page, until } from "./support.mjs";

const ALICE = 7;
const BOB = 8;

/** Bob logs in: the server ends what Alice's login had opened. */
function logIn(server, id = BOB) {
  server.user = { id };
  server.closeAll(4401);
}

/** How a page with these options gets what happens: by what it asks first, and how it comes to ask again. */
const WAYS = [
  ["WebSocket", () => {}, (rig) => logIn(rig.server)],
  [
    "WebSocket that is opened anew",
    () => {},
    ({ server }) => {
      server.user = { id: BOB };
      server.closeAll(1006);
    },
  ],
  [
    "Server-Sent Events",
    ({ server }) => {
      server.socketsBlocked = true;
    },
    (rig) => logIn(rig.server),
  ],
  [
    "polling",
    ({ server }) => Object.assign(server, { socketsBlocked: true, stream: "absent" }),
    ({ server }) => {
      server.user = { id: BOB };
    },
  ],
];

for (const [way, prepare, act] of WAYS) {
  test(`page over ${way} begins anew when another user has logged in`, async () => {
    const told = [];
    const rig = onePage({ onUser: (change) => void told.push(change) });
    const { clock, server, page } = rig;
    prepare(rig);
    server.publish({ text: "hers" });
    await clock.advance(20_000);
    assert.equal(page.client.user, ALICE);
    act(rig);
    server.publish({ text: "his, before the page has let go" });
    await clock.advance(30_000);
    assert.deepEqual(told, [{ user: BOB, previous: ALICE }]);
    assert.deepEqual(page.resets, ["user"]);
    server.publish({ text: "his" });
    await clock.advance(20_000);
    assert.deepEqual(page.events.slice(0, 1), ["hers"]);
    assert.equal(page.events.at(-1), "his");
    assert.deepEqual([page.client.user, page.state], [BOB, "live"]);
  });
}

test("events of another user wait until the handlers of the first have let go", async () => {
  let letGo;
  const order = [];
  const { clock, server } = onePage({
    onUser: () => new Promise((resolve) => (letGo = resolve)),
    onReset: ({ reason }) => void order.push(reason),
    onEvent: ({ text }) => void order.push(text),
  });
  await clock.advance(10);
  logIn(server);
  await clock.advance(1000);
  server.publish({ text: "his" });
  await clock.advance(30_000);
  assert.deepEqual(order, []);
  assert.equal(server.connections.size, 0);
  letGo();
  await clock.advance(1000);
  assert.deepEqual(order, ["user", "his"]);
});

test("what had arrived for the first user is handled no more", async () => {
  let finish;
  const { clock, server, page } = onePage({
    onEvent: ({ text }) => {
      page.events.push(text);
      return new Promise((resolve) => (finish = resolve));
    },
  });
  for (const n of [1, 2, 3]) server.publish({ text: n });
  await clock.advance(10);
  logIn(server);
  await clock.advance(1000);
  finish();
  await clock.advance(1000);
  assert.deepEqual(page.events, [1]);
  assert.deepEqual(page.resets, ["user"]);
});

test("page with nothing that could take away what it shows ends, and says so", async (t) => {
  const warned = t.mock.method(console, "warn", () => {});
  const { clock, server, page } = onePage({ onReset: undefined });
  await clock.advance(10);
  logIn(server);
  server.publish({ text: "his" });
  await clock.advance(60_000);
  assert.deepEqual(page.client.state, { name: "unauthenticated", code: 4401 });
  assert.deepEqual(page.events, []);
  assert.equal(server.connections.size, 0);
  await until(() => warned.mock.callCount());
  assert.match(warned.mock.calls[0].arguments[0], /user 8 has logged in after 7/);
});

test("handler that closes the client when another user has logged in has it closed", async () => {
  const { clock, server, page } = onePage({ onUser: () => page.client.close() });
  await clock.advance(10);
  logIn(server);
  await clock.advance(60_000);
  assert.equal(page.state, "stopped");
  assert.deepEqual(page.resets, []);
  assert.equal(clock.pending, 0);
});

test("page knows for whom it was made before the server says who is logged in", async () => {
  const { clock, server, page } = onePage({ user: ALICE });
  assert.equal(page.client.user, ALICE);
  server.user = { id: BOB };
  server.publish({ text: "his" });
  await clock.advance(1000);
  assert.deepEqual(page.resets, ["user"]);
});

for (const [id, user] of [
  [ALICE, "7"],
  ["7", ALICE],
  ["a3d4", "a3d4"],
]) {
  test(`user ${JSON.stringify(user)} of the page is the server's ${JSON.stringify(id)}`, async () => {
    const rig = onePage({ user });
    rig.server.user = { id };
    await rig.clock.advance(1000);
    assert.equal(rig.page.state, "live");
    assert.deepEqual(rig.page.resets, []);
  });
}

test("server of before, which says nothing of the user, changes none", async () => {
  const rig = onePage({ user: ALICE });
  rig.server.user = undefined;
  await rig.clock.advance(1000);
  assert.equal(rig.page.state, "live");
  assert.equal(rig.page.client.user, ALICE);
});

test("recent() doesn't give the first user's page what the second may see", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(10);
  server.publish({ text: "his" });
  server.user = { id: BOB };
  const found = assert.rejects(page.client.recent(), /can't be loaded/);
  await clock.advance(1000);
  await found;
  assert.deepEqual(page.resets, ["user"]);
});

test("all tabs begin anew, and share among themselves and with the second user's pages", async () => {
  const rig = manyPages(3, { shareKey: "7", user: ALICE });
  await rig.clock.advance(100);
  logIn(rig.server);
  await rig.clock.advance(5000);
  const his = new Page(rig.world.newTab(), { since: rig.server.log.cursor(), share: true, shareKey: "8", user: BOB });
  await rig.clock.advance(1000);
  rig.server.publish({ text: "his" });
  await rig.clock.advance(1000);
  for (const page of rig.pages) {
    assert.deepEqual(page.resets, ["user"]);
    assert.deepEqual(page.events, ["his"]);
  }
  assert.deepEqual(his.events, ["his"]);
  assert.deepEqual(his.resets, []);
  assert.equal(rig.server.connections.size, 1);
});

test("tab that doesn't know its user learns it from the leader, and notices another when it leads", async () => {
  const rig = manyPages(2);
  await rig.clock.advance(100);
  const follower = rig.pages.find((page) => page.tab !== rig.world.leader);
  assert.equal(follower.client.user, ALICE);
  rig.server.user = { id: BOB };
  rig.world.leader.crash();
  rig.server.publish({ text: "his" });
  await rig.clock.advance(1000);
  assert.deepEqual(follower.resets, ["user"]);
});

test("tab that catches up over HTTP notices another user before it handles anything of theirs", async () => {
  const world = new World();
  const leader = new Page(world.newTab(), { since: "aaaa.0", share: true });
  await world.clock.advance(100);
  for (const text of ["one", "two"]) world.server.publish({ text });
  await world.clock.advance(100);
  world.server.user = { id: BOB }; // the leader's connection isn't closed yet
  const late = new Page(world.newTab(), { since: "aaaa.0", share: true, user: ALICE });
  await world.clock.advance(100);
  assert.deepEqual(late.events, []);
  assert.deepEqual(late.resets, ["user"]);
  assert.deepEqual(leader.events, ["one", "two"]);
});

test("stored cursor is the user's own", async () => {
  const stored = new Map();
  const storage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  const { clock, server } = onePage({ storage, user: ALICE });
  server.publish({ text: 1 });
  await clock.advance(10);
  logIn(server);
  server.publish({ text: 2 });
  await clock.advance(1000);
  assert.deepEqual(
    [...stored],
    [
      ["orgrealtime.cursor acme 7", "aaaa.1"],
      ["orgrealtime.cursor acme 8", "aaaa.2"],
    ],
  );
});
