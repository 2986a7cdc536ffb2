import assert from "node:assert/strict";
import { test } from "node:test";

import { errorOf, World } from "./fakes.mjs";
import { manyPages, Page } from "./support.mjs";

const leaderOf = ({ world, pages }) => pages.find((page) => page.tab === world.leader);
const followersOf = ({ world, pages }) => pages.filter((page) => page.tab !== world.leader && !page.tab.isDead);

async function live(count, options) {
  const rig = manyPages(count, options);
  await rig.clock.advance(100);
  return rig;
}

function each(pages, expected) {
  for (const page of pages) assert.deepEqual(page.events, expected);
}

// One connection

test("three tabs have one connection, and each gets every event once", async () => {
  const { clock, server, pages } = await live(3);
  for (const n of [1, 2, 3]) server.publish({ text: n });
  await clock.advance(100);
  assert.equal(server.connections.size, 1);
  assert.deepEqual(
    server.requests.map(({ kind }) => kind),
    ["websocket"],
  );
  each(pages, [1, 2, 3]);
  for (const page of pages) assert.equal(page.client.cursor, "aaaa.3");
});

test("tab whose browser refuses channels has a connection of its own", async () => {
  const world = new World();
  const tab = world.newTab();
  tab.outside.BroadcastChannel = class {
    constructor() {
      throw new Error("storage is denied");
    }
  };
  const page = new Page(tab, { since: "aaaa.0", share: true });
  await world.clock.advance(100);
  assert.deepEqual(page.client.state, { name: "live", transport: "websocket" });
});

test("tabs tell who has the connection", async () => {
  const rig = await live(2);
  assert.deepEqual(leaderOf(rig).client.state, { name: "live", transport: "websocket" });
  assert.deepEqual(followersOf(rig)[0].client.state, { name: "live", transport: "shared" });
});

test("tabs show the leader's waiting", async () => {
  const rig = await live(2);
  rig.server.closeAll(4503);
  await rig.clock.advance(3);
  const [follower] = followersOf(rig);
  const { retryAt } = leaderOf(rig).client.state;
  assert.deepEqual(follower.client.state, { name: "waiting", transport: "shared", retryAt, code: 4503 });
});

for (const [name, options] of [
  ["that don't share", [{ share: false }, { share: false }]],
  ["of two users", [{ shareKey: 1 }, { shareKey: 2 }]],
  ["of users who aren't named", [{ shareKey: undefined }, { shareKey: "" }]],
  ["of two organisations", [{ org: "acme" }, { org: "umbrella" }]],
  ["with two catch-up views", [{}, { catchUpUrl: "/app/missed/" }]],
  ["with two streams", [{}, { streamUrl: "/app/stream/" }]],
]) {
  test(`tabs ${name} have a connection each`, async () => {
    const world = new World();
    for (const option of options) new Page(world.newTab(), { share: true, since: "aaaa.0", ...option });
    await world.clock.advance(100);
    assert.equal(world.server.connections.size, 2);
  });
}

test("tabs whose URLs are written in two ways have one connection", async () => {
  const world = new World();
  const urls = { url: "wss://example.org/ws/orgs/acme/notifications/", catchUpUrl: "../orgs/acme/notifications/" };
  for (const options of [{}, urls]) new Page(world.newTab(), { share: true, since: "aaaa.0", ...options });
  await world.clock.advance(100);
  assert.equal(world.server.connections.size, 1);
});

test("tab whose requests show no login ends no other, though it can't catch up", async () => {
  const rig = await live(2, { credentials: "omit" });
  for (const n of [1, 2]) rig.server.publish({ text: n });
  await rig.clock.advance(100);
  rig.server.refusal = 401;
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.1", credentials: "omit" });
  await rig.clock.advance(60_000);
  assert.equal(late.state, "catching-up");
  for (const page of rig.pages) assert.equal(page.state, "live");
  rig.server.refusal = null;
  await rig.clock.advance(60_000);
  assert.deepEqual(late.events, [2]);
});

for (const missing of ["locks", "BroadcastChannel"]) {
  test(`tabs of a browser without ${missing} have a connection each`, async () => {
    const world = new World();
    for (const tab of [world.newTab(), world.newTab()]) {
      new Page(tab, { share: true, since: "aaaa.0", outside: { ...tab.outside, [missing]: undefined } });
    }
    await world.clock.advance(100);
    assert.equal(world.server.connections.size, 2);
  });
}

test("tabs that are refused locks have a connection each", async () => {
  const world = new World();
  const locks = { request: () => Promise.reject(new DOMException("", "SecurityError")) };
  for (const tab of [world.newTab(), world.newTab()]) {
    new Page(tab, { share: true, since: "aaaa.0", outside: { ...tab.outside, locks } });
  }
  await world.clock.advance(100);
  assert.equal(world.server.connections.size, 2);
});

// Joining

test("tab that joins where the leader stands asks nobody", async () => {
  const rig = await live(1);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.1" });
  await rig.clock.advance(100);
  rig.server.publish({ text: 2 });
  await rig.clock.advance(100);
  assert.deepEqual(late.events, [2]);
  assert.equal(rig.server.requests.length, 1);
});

test("tab that joins with an older cursor catches up over HTTP and goes on live", async () => {
  const rig = await live(1);
  for (let n = 1; n <= 700; n++) rig.server.publish({ text: n });
  await rig.clock.advance(100);
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.100" });
  rig.world.latency = () => 20;
  await rig.clock.advance(30);
  // These come from the leader while the tab still reads the first page.
  for (let n = 701; n <= 703; n++) rig.server.publish({ text: n });
  await rig.clock.advance(1000);
  rig.server.publish({ text: 704 });
  await rig.clock.advance(1000);
  assert.deepEqual(
    late.events,
    Array.from({ length: 604 }, (_, n) => n + 101),
  );
  assert.equal(rig.server.count("websocket"), 1);
  assert.equal(late.state, "live");
  assert.ok(late.stateNames.includes("catching-up"));
});

test("tab that joins far behind reads page after page, though nothing new happens", async () => {
  const rig = await live(1);
  for (let n = 1; n <= 1200; n++) rig.server.publish({ text: n });
  await rig.clock.advance(100);
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.0" });
  await rig.clock.advance(100);
  assert.equal(late.events.length, 1200);
  assert.equal(rig.server.count("catch-up"), 3);
});

test("what the leader brings while the answer is on its way is not asked for again", async () => {
  const rig = await live(1);
  for (const n of [1, 2, 3]) rig.server.publish({ text: n });
  await rig.clock.advance(100);
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.1" });
  await rig.clock.advance(2.5);
  rig.world.latency = () => 50;
  await rig.clock.advance(1); // the answer is made
  rig.world.latency = () => 1;
  for (const n of [4, 5, 6]) {
    rig.server.publish({ text: n });
    await rig.clock.advance(5);
  }
  assert.deepEqual(late.events, []);
  await rig.clock.advance(3000);
  assert.deepEqual(late.events, [2, 3, 4, 5, 6]);
  assert.equal(rig.server.count("catch-up"), 1);
});

test("tab that comes back from the ice is told that the database is another", async () => {
  const rig = await live(2);
  const [frozen] = followersOf(rig);
  for (const n of [1, 2, 3]) rig.server.publish({ text: n });
  await rig.clock.advance(100);
  frozen.tab.freeze();
  rig.server.log.head = 1;
  rig.server.closeAll(1006);
  await rig.clock.advance(2000);
  rig.server.publish({ text: "other 2" }); // its cursor is one that the frozen tab has passed
  await rig.clock.advance(100);
  frozen.tab.thaw();
  await rig.clock.advance(100);
  rig.server.publish({ text: "other 3" });
  await rig.clock.advance(100);
  assert.deepEqual(frozen.resets, ["ahead"]);
  assert.deepEqual(frozen.events, [1, 2, 3, "other 3"]);
});

test("tab finds its way in from a position that no frame names, through events meant for others", async () => {
  const rig = await live(1);
  rig.server.publish({ text: 1 });
  for (let n = 0; n < 5; n++) rig.server.publish({}, { visible: false });
  await rig.clock.advance(100);
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.3" }); // no frame ever names this one
  rig.server.random = () => 0.99;
  for (let n = 0; n < 5; n++) {
    rig.server.publish({}, { visible: false });
    rig.server.log.append({}, { visible: false }); // so that no answer ends where a frame does
    await rig.clock.advance(1000);
  }
  assert.equal(rig.server.count("catch-up"), 1);
  rig.server.publish({ text: 2 });
  rig.server.publish({ text: 3 });
  await rig.clock.advance(2000);
  assert.deepEqual(late.events, [2, 3]);
  const asked = rig.server.count("catch-up");
  for (let n = 0; n < 5; n++) rig.server.publish({ text: 4 + n });
  await rig.clock.advance(100);
  assert.deepEqual(late.events, [2, 3, 4, 5, 6, 7, 8]);
  assert.equal(rig.server.count("catch-up"), asked);
});

test("tab that joins ahead of a leader that lags gets nothing twice", async () => {
  const rig = await live(1);
  rig.server.closeAll(1006);
  rig.server.isDown = true;
  for (const n of [1, 2, 3]) rig.server.publish({ text: n });
  rig.server.isDown = false;
  const ahead = new Page(rig.world.newTab(), { share: true, since: "aaaa.2" });
  await rig.clock.advance(2000);
  rig.server.publish({ text: 4 });
  await rig.clock.advance(100);
  assert.deepEqual(ahead.events, [3, 4]);
  each(rig.pages, [1, 2, 3, 4]);
});

test("answer that is older than what the leader has is asked again, not believed", async () => {
  const rig = await live(1);
  for (const n of [1, 2, 3]) rig.server.publish({ text: n });
  await rig.clock.advance(100);
  const { page } = rig.server.log;
  let stale = 3;
  rig.server.log.page = function (since, limit) {
    if (stale-- <= 0) return page.call(this, since, limit);
    return { events: [], cursor: since, has_more: false };
  };
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.1" });
  await rig.clock.advance(100);
  rig.server.publish({ text: 4 });
  await rig.clock.advance(10_000);
  assert.deepEqual(late.events, [2, 3, 4]);
});

test("tab whose cursor is of another stream resets alone", async () => {
  const rig = await live(2);
  const late = new Page(rig.world.newTab(), { share: true, since: "bbbb.5" });
  await rig.clock.advance(100);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  assert.deepEqual(late.resets, ["epoch"]);
  assert.deepEqual(late.events, [1]);
  each(rig.pages, [1]);
  for (const page of rig.pages) assert.deepEqual(page.resets, []);
});

test("tab without a cursor begins where the leader stands", async () => {
  const rig = await live(1);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  const late = new Page(rig.world.newTab(), { share: true });
  await rig.clock.advance(100);
  rig.server.publish({ text: 2 });
  await rig.clock.advance(100);
  assert.deepEqual(late.events, [2]);
});

test("reset of the connection reaches every tab", async () => {
  const rig = await live(3);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  rig.server.log.recreate("cccc");
  rig.server.closeAll(1006);
  await rig.clock.advance(2000);
  rig.server.publish({ text: 2 });
  await rig.clock.advance(100);
  each(rig.pages, [1, 2]);
  for (const page of rig.pages) assert.deepEqual(page.resets, ["epoch"]);
});

// Leaders

for (const [how, leave] of [
  ["closes its client", (page) => page.client.close()],
  ["crashes", (page) => page.tab.crash()],
  ["is frozen", (page) => page.tab.freeze()],
  ["goes into the back-forward cache", (page) => page.tab.fire(page.tab.window, "pagehide")],
]) {
  test(`another tab goes on when the leader ${how}`, async () => {
    const rig = await live(3);
    rig.server.publish({ text: 1 });
    await rig.clock.advance(100);
    const followers = followersOf(rig);
    leave(leaderOf(rig));
    rig.server.publish({ text: 2 });
    await rig.clock.advance(1000);
    rig.server.publish({ text: 3 });
    await rig.clock.advance(100);
    each(followers, [1, 2, 3]);
    assert.equal(rig.server.connections.size, 1);
    for (const page of followers) assert.equal(page.state, "live");
  });
}

test("tab that was frozen goes on from where it was, as a follower", async () => {
  const rig = await live(2);
  const old = leaderOf(rig);
  old.tab.freeze();
  for (const n of [1, 2]) rig.server.publish({ text: n });
  await rig.clock.advance(60_000);
  old.tab.thaw();
  await rig.clock.advance(100);
  rig.server.publish({ text: 3 });
  await rig.clock.advance(100);
  each(rig.pages, [1, 2, 3]);
  assert.equal(old.client.state.transport, "shared");
});

test("follower that is frozen doesn't get the lock", async () => {
  const rig = await live(3);
  const [frozen, next] = followersOf(rig);
  frozen.tab.freeze();
  leaderOf(rig).tab.crash();
  await rig.clock.advance(1000);
  assert.equal(rig.world.leader, next.tab);
});

test("leader that hangs loses the lock within 45 seconds, and follows when it is back", async () => {
  const rig = await live(2);
  const old = leaderOf(rig);
  const [follower] = followersOf(rig);
  old.tab.hang();
  rig.server.publish({ text: 1 });
  await rig.clock.advance(45_000);
  assert.deepEqual(follower.events, [1]);
  assert.equal(follower.client.state.transport, "websocket");
  old.tab.unhang();
  await rig.clock.advance(1000);
  rig.server.publish({ text: 2 });
  await rig.clock.advance(100);
  each(rig.pages, [1, 2]);
  assert.equal(rig.server.connections.size, 1);
  assert.deepEqual(old.client.state, { name: "live", transport: "shared" });
  follower.tab.crash();
  await rig.clock.advance(100);
  assert.deepEqual(old.client.state, { name: "live", transport: "websocket" });
});

test("tab that joins one that hangs waits ten seconds", async () => {
  const rig = await live(1);
  rig.pages[0].tab.hang();
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.0" });
  await rig.clock.advance(16_000);
  assert.deepEqual(late.client.state, { name: "live", transport: "websocket" });
});

test("leader that is only quiet keeps the lock", async () => {
  const rig = await live(2);
  const leader = rig.world.leader;
  rig.server.isDown = true;
  rig.server.closeAll(1006);
  await rig.clock.advance(300_000);
  assert.equal(rig.world.leader, leader);
});

test("leader that is slow to handle keeps nobody waiting", async () => {
  const world = new World();
  const slow = new Page(world.newTab(), { share: true, since: "aaaa.0", onEvent: () => new Promise(() => {}) });
  await world.clock.advance(100);
  const quick = new Page(world.newTab(), { share: true, since: "aaaa.0" });
  for (const n of [1, 2]) world.server.publish({ text: n });
  await world.clock.advance(100);
  assert.equal(world.leader, slow.tab);
  assert.deepEqual(quick.events, [1, 2]);
});

test("leader acknowledges what its own page has handled", async () => {
  const rig = await live(2);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(2000);
  const [connection] = rig.server.connections;
  assert.deepEqual(connection.received, [{ type: "ack", cursor: "aaaa.1" }]);
});

test("tab that one looks at has a leader in the background try again", async () => {
  const rig = await live(2);
  const leader = leaderOf(rig);
  const [follower] = followersOf(rig);
  leader.tab.document.hidden = true;
  rig.clock.random = () => 1;
  rig.server.isDown = true;
  rig.server.closeAll(1006);
  await rig.clock.advance(60_000);
  rig.server.isDown = false;
  follower.tab.fire(follower.tab.document, "visibilitychange");
  await rig.clock.advance(10);
  assert.equal(follower.state, "live");
});

test("leader in the background polls as often as a tab that one looks at needs", async () => {
  const rig = manyPages(2);
  rig.server.socketsBlocked = true;
  rig.server.stream = "absent";
  await rig.clock.advance(10_000);
  leaderOf(rig).tab.document.hidden = true;
  await rig.clock.advance(30_000);
  const before = rig.server.count("catch-up");
  await rig.clock.advance(60_000);
  assert.ok(rig.server.count("catch-up") - before >= 11);
});

test("tabs share a fallback too", async () => {
  const rig = manyPages(3);
  rig.server.socketsBlocked = true;
  await rig.clock.advance(10_000);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  each(rig.pages, [1]);
  assert.equal(rig.server.connections.size, 1);
  assert.equal(leaderOf(rig).client.state.transport, "sse");
});

// Stopping

for (const [code, name] of [
  [4401, "unauthenticated"],
  [4403, "forbidden"],
]) {
  test(`${code} stops all tabs`, async () => {
    const rig = await live(3);
    const [sockets, asked] = ["websocket", "catch-up"].map((kind) => rig.server.count(kind));
    rig.server.closeAll(code);
    rig.server.refusal = code - 4000;
    await rig.clock.advance(100);
    for (const page of rig.pages) assert.deepEqual(page.client.state, { name, code });
    assert.equal(rig.server.count("websocket"), sockets);
    assert.equal(rig.server.count("catch-up"), asked + 3);
    const before = rig.server.requests.length;
    await rig.clock.advance(120_000);
    assert.equal(rig.server.requests.length, before);
    assert.equal(rig.world.leader, undefined);
    assert.equal(rig.clock.pending, 0);
  });
}

test("tab that is logged in again when it hears that another had to stop goes on", async () => {
  const rig = await live(2);
  const leader = leaderOf(rig);
  const [follower] = followersOf(rig);
  follower.tab.hang();
  rig.server.refusal = 401;
  rig.server.closeAll(4401);
  await rig.clock.advance(100);
  assert.equal(leader.state, "unauthenticated");
  rig.server.refusal = null;
  rig.server.publish({ text: 1 });
  follower.tab.unhang();
  await rig.clock.advance(100);
  assert.equal(follower.state, "live");
  assert.deepEqual(follower.events, [1]);
  assert.equal(leaderOf(rig), follower);
});

test("old login's 4401 stops no tab while somebody is logged in", async () => {
  const rig = await live(3);
  rig.server.closeAll(4401);
  await rig.clock.advance(3000);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  each(rig.pages, [1]);
  assert.equal(rig.server.connections.size, 1);
});

test("leader that hears that another had to stop keeps its connection if it may", async () => {
  const rig = await live(2);
  const leader = leaderOf(rig);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  rig.server.refusal = 401;
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.0" });
  while (late.state !== "unauthenticated") await rig.clock.advance(1);
  rig.server.refusal = null;
  await rig.clock.advance(100);
  assert.equal(leader.state, "live");
  assert.equal(rig.server.count("websocket"), 1);
});

test("tab that can't ask when another had to stop goes on trying", async () => {
  const rig = await live(2);
  const [follower] = followersOf(rig);
  follower.tab.hang();
  rig.server.refusal = 403;
  rig.server.closeAll(4403);
  await rig.clock.advance(100);
  rig.server.refusal = null;
  rig.server.isDown = true;
  follower.tab.unhang();
  await rig.clock.advance(60_000);
  assert.equal(follower.state, "waiting");
  rig.server.isDown = false;
  await rig.clock.advance(30_000);
  assert.equal(follower.state, "live");
});

test("tab that loses the lead while it asks whether it is logged in makes no connection", async () => {
  const rig = await live(2);
  const [follower] = followersOf(rig);
  rig.server.refusal = 401;
  rig.server.closeAll(4401);
  while (leaderOf(rig) !== follower) await rig.clock.advance(1);
  await rig.clock.advance(0);
  rig.server.isSilent = true;
  await rig.clock.advance(1);
  follower.tab.hang();
  rig.server.refusal = null;
  const thief = new Page(rig.world.newTab(), { share: true, since: "aaaa.0" });
  await rig.clock.advance(30_000);
  assert.equal(rig.world.leader, thief.tab);
  rig.server.isSilent = false;
  follower.tab.unhang();
  await rig.clock.advance(60_000);
  assert.deepEqual([follower.state, thief.state], ["live", "live"]);
  assert.equal(rig.server.connections.size, 1);
  assert.equal(follower.tab.sockets.length, 0);
});

test("tab that learns over HTTP that access has ended ends no tab that is live", async () => {
  const rig = await live(2);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  rig.server.refusal = 401;
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.0" });
  await rig.clock.advance(100);
  assert.equal(late.state, "unauthenticated");
  for (const page of rig.pages) assert.equal(page.state, "live");
  assert.equal(rig.server.connections.size, 1);
  rig.server.closeAll(4401);
  await rig.clock.advance(100);
  for (const page of rig.pages) assert.equal(page.state, "unauthenticated");
});

test("tab that is told to stop asks no more", async () => {
  const rig = await live(1);
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  rig.server.refusal = 503;
  const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.0" });
  await rig.clock.advance(1000);
  assert.equal(late.state, "catching-up");
  rig.server.refusal = 401;
  rig.server.closeAll(4401);
  await rig.clock.advance(100);
  const before = rig.server.requests.length;
  await rig.clock.advance(60_000);
  assert.equal(late.state, "unauthenticated");
  assert.equal(rig.server.requests.length, before);
});

for (const [how, wake] of [
  ["becomes visible", (tab) => tab.fire(tab.document, "visibilitychange")],
  ["comes online", (tab) => tab.fire(tab.window, "online")],
]) {
  test(`tab that ${how} waits no longer with catching up`, async () => {
    const rig = await live(1);
    rig.clock.random = () => 1;
    rig.server.publish({ text: 1 });
    await rig.clock.advance(100);
    rig.server.refusal = 503;
    const late = new Page(rig.world.newTab(), { share: true, since: "aaaa.0" });
    await rig.clock.advance(60_000);
    rig.server.refusal = null;
    await rig.clock.advance(100);
    assert.deepEqual(late.events, []);
    wake(late.tab);
    await rig.clock.advance(100);
    assert.deepEqual(late.events, [1]);
  });
}

test("state that hasn't changed isn't told again", async () => {
  const rig = await live(2);
  const [follower] = followersOf(rig);
  const before = follower.states.length;
  for (let n = 0; n < 3; n++) {
    follower.tab.fire(follower.tab.document, "visibilitychange");
    await rig.clock.advance(100);
  }
  assert.equal(follower.states.length, before);
});

test("bad cursor stops the tab that has it, and no other", async () => {
  const world = new World();
  const bad = new Page(world.newTab(), { share: true, since: "rubbish" });
  const good = new Page(world.newTab(), { share: true, since: "aaaa.0" });
  const { catchUp } = world.server;
  world.server.catchUp = (url) =>
    url.searchParams.get("since") === "rubbish" ? [400, errorOf(400)] : catchUp.call(world.server, url);
  world.server.socketsBlocked = true;
  await world.clock.advance(10_000);
  assert.deepEqual(bad.client.state, { name: "stopped", code: 4400 });
  assert.equal(good.state, "live");
});

test("closing a follower leaves the others alone", async () => {
  const rig = await live(3);
  const [gone, stays] = followersOf(rig);
  gone.client.close();
  rig.server.publish({ text: 1 });
  await rig.clock.advance(100);
  assert.deepEqual(gone.events, []);
  assert.deepEqual(stays.events, [1]);
  assert.equal(rig.server.count("websocket"), 1);
});

test("closing all tabs leaves nothing behind", async () => {
  const rig = await live(3);
  for (const page of rig.pages) page.client.close();
  await rig.clock.advance(100);
  assert.equal(rig.clock.pending, 0);
  assert.equal(rig.world.channels.size, 0);
  assert.equal(rig.server.connections.size, 0);
  assert.equal(rig.world.leader, undefined);
});

test("client closed while it is given the lock gives it back", async () => {
  const world = new World();
  const page = new Page(world.newTab(), { share: true, since: "aaaa.0" });
  await world.clock.advance(0);
  page.client.close();
  await world.clock.advance(100);
  assert.equal(world.leader, undefined);
  assert.equal(world.server.requests.length, 0);
});

// Sending

test("followers send through the leader, and every tab gets the answer", async () => {
  const rig = await live(2);
  const [follower] = followersOf(rig);
  assert.equal(follower.client.send({ type: "echo", text: "hi" }), true);
  await rig.clock.advance(100);
  for (const page of rig.pages) assert.deepEqual(page.messages, [{ type: "echoed", text: "hi" }]);
});

test("follower can't send while the leader has no socket", async () => {
  const rig = await live(2);
  const [follower] = followersOf(rig);
  rig.server.closeAll(1006);
  await rig.clock.advance(3);
  assert.equal(follower.client.send({ type: "echo" }), false);
});

test("follower doesn't have the leader send what is too long", async () => {
  const rig = await live(2);
  const [follower] = followersOf(rig);
  assert.throws(() => follower.client.send({ type: "echo", text: "x".repeat(17_000) }), RangeError);
});
