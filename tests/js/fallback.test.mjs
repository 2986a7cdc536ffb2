import assert from "node:assert/strict";
import { test } from "node:test";

import { seeded, World } from "./fakes.mjs";
import { onePage, Page } from "./support.mjs";

const transportOf = (page) => page.client.state.transport;

/** A page whose sockets are blocked, once it has settled down. */
async function blocked(stream = "open", options = {}) {
  const rig = onePage(options);
  rig.server.socketsBlocked = true;
  rig.server.stream = stream;
  await rig.clock.advance(10_000);
  return rig;
}

// Server-Sent Events

test("client whose sockets fail twice goes on over Server-Sent Events, from the same cursor", async () => {
  const { clock, server, page } = onePage();
  server.socketsBlocked = true;
  server.publish({ text: 1 });
  await clock.advance(2000);
  assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
  server.publish({ text: 2 });
  await clock.advance(10);
  assert.deepEqual(page.events, [1, 2]);
  assert.equal(server.count("websocket"), 2);
  assert.equal(server.requests.at(-1).url, "https://example.org/orgs/acme/notifications/stream/?since=aaaa.1");
});

test("one failure isn't taken for a blocked socket", async () => {
  const { clock, server, page } = onePage();
  server.socketsBlocked = true;
  await clock.advance(100);
  server.socketsBlocked = false;
  await clock.advance(2000);
  assert.equal(transportOf(page), "websocket");
});

test("failures that aren't in a row don't count", async () => {
  const { clock, server, page } = onePage();
  for (let n = 0; n < 3; n++) {
    server.socketsBlocked = true;
    server.closeAll(1006);
    while (page.client.state.name !== "waiting" || server.count("catch-up") <= n) await clock.advance(1);
    server.socketsBlocked = false;
    await clock.advance(15_000);
    assert.deepEqual(page.client.state, { name: "live", transport: "websocket" });
  }
});

for (const [what, act] of [
  ["has closed with 1012", (server) => server.closeAll(1012)],
  ["has closed with 1001", (server) => server.closeAll(1001)],
  [
    "has said that it is going away",
    (server) => {
      const [connection] = server.connections;
      connection.send({ type: "going_away", retry_after_ms: 0, window_ms: 0 });
    },
  ],
]) {
  test(`sockets that are refused for half a minute after the server ${what} aren't taken for blocked`, async () => {
    const { clock, server, page } = onePage();
    clock.random = () => 0.05;
    await clock.advance(15_000);
    act(server);
    server.socketsBlocked = true;
    await clock.advance(29_000);
    assert.ok(server.count("websocket") > 4);
    assert.equal(server.count("sse"), 0);
    server.socketsBlocked = false;
    await clock.advance(5000);
    assert.deepEqual(page.client.state, { name: "live", transport: "websocket" });
  });

  test(`sockets that are refused for longer after the server ${what} are`, async () => {
    const { clock, server, page } = onePage();
    await clock.advance(15_000);
    act(server);
    server.socketsBlocked = true;
    await clock.advance(120_000);
    assert.ok(server.count("sse") > 0);
    assert.notEqual(transportOf(page), "websocket");
  });
}

test("policy that forbids sockets leads to Server-Sent Events", async () => {
  const { clock, server, page } = onePage();
  server.policyForbidsSockets = true;
  await clock.advance(2000);
  assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
});

test("stream with carriage returns, comments, and frames cut anywhere is read", async () => {
  const world = new World();
  const tab = world.newTab();
  world.server.socketsBlocked = true;
  const text =
    ': hello\r\n\r\ndata: {"type":"welcome","cursor":"aaaa.0"}\r\n\r\n' +
    'id: aaaa.1\ndata: {"type":"note","cursor":"aaaa.1","text":"ü"}\n\n:\n\n' +
    'data:{"type":"note",\ndata:"cursor":"aaaa.2","text":"two"}\nid: aaaa.2\n\n';
  const bytes = [...new TextEncoder().encode(text)].map((byte) => ({ value: new Uint8Array([byte]) }));
  const body = { getReader: () => ({ read: async () => bytes.shift() ?? new Promise(() => {}) }) };
  const stream = { ok: true, status: 200, headers: new Headers({ "Content-Type": "text/event-stream" }), body };
  const { fetch } = tab.outside;
  tab.outside.fetch = async (url, init) => (url.includes("/stream/") ? stream : fetch(url, init));
  const page = new Page(tab, { since: "aaaa.0" });
  await world.clock.advance(3000);
  assert.deepEqual(page.events, ["ü", "two"]);
});

test("stream on which not even a comment comes is given up within thirty seconds", async () => {
  const { clock, server, page } = await blocked();
  server.isSilent = true;
  await clock.advance(30_010);
  assert.notEqual(page.state, "live");
});

test("pongs keep a stream", async () => {
  const { clock, server, page } = await blocked();
  await clock.advance(120_000);
  assert.equal(server.count("sse"), 1);
  assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
});

test("stream that ends is made anew", async () => {
  const { clock, server, page } = await blocked();
  server.closeAll(1006);
  server.publish({ text: 1 });
  await clock.advance(2000);
  assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
  assert.deepEqual(page.events, [1]);
});

for (const [code, name] of [
  [4401, "unauthenticated"],
  [4403, "forbidden"],
]) {
  test(`stream's last frame says ${code}`, async () => {
    const { clock, server, page } = await blocked();
    const asked = server.count("catch-up");
    server.refusal = code - 4000;
    server.closeAll(code);
    await clock.advance(60_000);
    assert.deepEqual(page.client.state, { name, code });
    assert.equal(server.count("sse"), 1);
    assert.equal(server.count("catch-up"), asked + 1);
  });

  test(`stream whose last frame says ${code} is made anew for who is logged in again`, async () => {
    const { clock, server, page } = await blocked();
    server.closeAll(code);
    await clock.advance(3000);
    assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
  });
}

test("stream that is closed as a slow one is made anew", async () => {
  const { clock, server, page } = await blocked();
  server.closeAll(4408);
  await clock.advance(3000);
  assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
});

test("reset comes over a stream too", async () => {
  const { clock, server, page } = await blocked();
  server.closeAll(1006);
  server.log.recreate("cccc");
  await clock.advance(3000);
  assert.deepEqual(page.resets, ["epoch"]);
});

test("refused stream says why", async () => {
  const { clock, server, page } = await blocked();
  server.closeAll(1006);
  server.refusal = 403;
  const asked = server.count("catch-up");
  await clock.advance(3000);
  assert.equal(page.state, "forbidden");
  assert.equal(server.count("catch-up"), asked);
});

test("refused stream that says why needs no further question", async () => {
  const { clock, server, page } = await blocked();
  const asked = server.count("catch-up");
  server.closeAll(1006);
  server.refusal = 503;
  await clock.advance(30_000);
  assert.ok(server.count("sse") > 2);
  assert.equal(server.count("catch-up"), asked);
  assert.equal(page.client.state.code, 4503);
});

for (const status of [400, 401, 403, 503]) {
  test(`stream that something before the server answers with ${status} is one that can't be had`, async () => {
    const { clock, server, page } = onePage();
    server.socketsBlocked = true;
    server.pages.sse = status;
    await clock.advance(10_000);
    assert.deepEqual(page.client.state, { name: "live", transport: "polling" });
  });

  test(`poll that something before the server answers with ${status} is asked again`, async () => {
    const { clock, server, page } = await blocked("absent");
    server.pages["catch-up"] = status;
    await clock.advance(60_000);
    assert.equal(page.state, "waiting");
    server.pages = {};
    server.publish({ text: 1 });
    await clock.advance(30_000);
    assert.deepEqual(page.events, [1]);
  });
}

test("nothing can be sent over a stream, and nothing is acknowledged", async () => {
  const { clock, server, page } = await blocked();
  assert.equal(page.client.send({ type: "echo" }), false);
  const [connection] = server.connections;
  server.publish({ text: 1 });
  await clock.advance(3000);
  assert.deepEqual(connection.received, []);
});

test("closing the client ends the stream", async () => {
  const { clock, server, page } = await blocked();
  page.client.close();
  await clock.advance(1);
  assert.equal(server.connections.size, 0);
  assert.equal(clock.pending, 0);
});

// Polling

for (const stream of ["absent", "buffered"]) {
  test(`client polls where the stream is ${stream} twice`, async () => {
    const { clock, server, page } = await blocked(stream);
    await clock.advance(5000);
    assert.deepEqual(page.client.state, { name: "live", transport: "polling" });
    assert.equal(server.count("sse"), 2);
    server.publish({ text: 1 });
    await clock.advance(5000);
    assert.deepEqual(page.events, [1]);
  });
}

test("stream that stalls after its beginning is given up for polling", async () => {
  const { clock, server, page } = onePage();
  server.socketsBlocked = true;
  server.stream = "stalling";
  await clock.advance(70_000);
  assert.equal(transportOf(page), "polling");
  assert.equal(server.count("sse"), 2);
});

test("stream that falls silent now and then, as in a laptop that sleeps, is kept", async () => {
  const { clock, server, page } = await blocked();
  for (let n = 0; n < 5; n++) {
    for (const connection of server.connections) connection.isCut = true;
    server.publish({ text: n });
    await clock.advance(60_000);
    assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
  }
  assert.equal(server.count("sse"), 6);
  assert.deepEqual(page.events, [0, 1, 2, 3, 4]);
});

test("stream that once began too late is kept", async () => {
  const { clock, server, page } = onePage();
  server.socketsBlocked = true;
  server.stream = "buffered";
  while (!server.count("sse")) await clock.advance(100);
  server.stream = "open";
  await clock.advance(10_000);
  assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
});

test("stream that is held back later is given up for polling", async () => {
  const { clock, server, page } = await blocked();
  server.stream = "buffered";
  await clock.advance(60_000);
  assert.equal(transportOf(page), "polling");
});

async function pollsIn(ms, { hidden = false, random = 0.5 } = {}) {
  const { clock, server, tab } = await blocked("absent");
  tab.document.hidden = hidden;
  clock.random = () => random;
  await clock.advance(100_000);
  const before = server.count("catch-up");
  await clock.advance(ms);
  return server.count("catch-up") - before;
}

test("polls come every five seconds, give or take a fifth", async () => {
  assert.equal(await pollsIn(50_000), 10);
  assert.equal(await pollsIn(48_000, { random: 0 }), 12);
  assert.equal(await pollsIn(48_000, { random: 1 }), 8);
});

test("polls are fewer in the background", async () => {
  assert.equal(await pollsIn(60_000, { hidden: true }), 2);
});

test("page that becomes visible polls at once", async () => {
  const { clock, server, page, tab } = await blocked("absent", { pollInterval: 60_000 });
  server.publish({ text: 1 });
  tab.fire(tab.document, "visibilitychange");
  await clock.advance(5);
  assert.deepEqual(page.events, [1]);
});

test("answer that has more is followed up at once", async () => {
  const { clock, server, page } = await blocked("absent");
  for (let n = 0; n < 1200; n++) server.publish({ text: n });
  await clock.advance(5000);
  assert.equal(page.events.length, 1200);
});

for (const [status, name] of [
  [401, "unauthenticated"],
  [403, "forbidden"],
  [400, "stopped"],
]) {
  test(`poll that is answered with ${status} is the last`, async () => {
    const { clock, server, page } = await blocked("absent");
    server.refusal = status;
    await clock.advance(5010);
    const before = server.requests.length;
    await clock.advance(60_000);
    assert.deepEqual(page.client.state, { name, code: 4000 + status });
    assert.equal(server.requests.length, before);
  });
}

for (const trouble of [{ refusal: 503 }, { refusal: 429 }, { isDown: true }]) {
  test(`polling outlives ${JSON.stringify(trouble)}`, async () => {
    const { clock, server, page } = await blocked("absent");
    Object.assign(server, trouble);
    await clock.advance(30_000);
    assert.equal(page.state, "waiting");
    Object.assign(server, { refusal: null, isDown: false });
    await clock.advance(30_000);
    assert.deepEqual(page.client.state, { name: "live", transport: "polling" });
  });
}

test("poll that fails is one question, not two", async () => {
  const { clock, server, page } = await blocked("absent");
  clock.random = () => 1;
  server.isDown = true;
  await clock.advance(6000);
  assert.equal(page.state, "waiting");
  const before = server.requests.length;
  await clock.advance(page.client.state.retryAt - clock.now() + 2);
  assert.equal(server.requests.length, before + 1);
});

test("poll that is answered with 410 is one reset, and polling goes on from there", async () => {
  let resets = 0;
  const { clock, server, page } = await blocked("absent", { onReset: () => void resets++ });
  server.log.recreate("cccc");
  await clock.advance(30_000);
  server.publish({ text: "after" });
  await clock.advance(30_000);
  assert.equal(resets, 1);
  assert.deepEqual(page.events, ["after"]);
});

// And back

test("client on a fallback tries a socket every three minutes, beside it", async () => {
  const { clock, server, page } = await blocked("absent");
  const before = page.states.length;
  await clock.advance(400_000);
  assert.equal(server.count("websocket"), 4);
  assert.equal(page.states.length, before);
});

test("client that polls tries a stream too, after the socket", async () => {
  const { clock, server } = await blocked("absent");
  await clock.advance(400_000);
  const kinds = server.requests.map(({ kind }) => kind).filter((kind) => kind !== "catch-up");
  const [first, second, third] = [kinds.slice(0, 4), kinds.slice(4, 6), kinds.slice(6)];
  assert.deepEqual(first, ["websocket", "websocket", "sse", "sse"]);
  for (const tries of [second, third]) assert.deepEqual(tries, ["websocket", "sse"]);
});

/** How long it takes from one try of a socket to the next. */
async function pauseOfTries(random) {
  const { clock, server } = await blocked("absent", { pollInterval: 60_000 });
  const tries = async (count) => {
    while (server.count("websocket") < count) await clock.advance(1000);
    return clock.now();
  };
  await tries(3);
  clock.random = () => random;
  const first = await tries(4);
  return (await tries(5)) - first;
}

test("clients on a fallback don't try in step", async () => {
  assert.equal(Math.round((await pauseOfTries(0)) / 1000), 144);
  assert.equal(Math.round((await pauseOfTries(1)) / 1000), 216);
});

test("client that polls goes over to a stream that proves to work, with nothing lost or doubled", async () => {
  const { clock, server, page } = await blocked("buffered");
  await clock.advance(5000);
  server.stream = "open";
  for (let n = 0; n < 500; n++) {
    server.publish({ text: n });
    await clock.advance(500);
  }
  assert.deepEqual(page.client.state, { name: "live", transport: "sse" });
  assert.deepEqual(
    page.events,
    Array.from({ length: 500 }, (_, n) => n),
  );
  assert.equal(server.connections.size, 1);
  server.socketsBlocked = false;
  await clock.advance(200_000);
  assert.equal(transportOf(page), "websocket");
});

test("client that polls isn't disturbed by streams that only begin", async () => {
  const { clock, server, page } = onePage();
  server.socketsBlocked = true;
  server.stream = "stalling";
  await clock.advance(70_000);
  const before = page.states.length;
  for (let n = 0; n < 200; n++) {
    server.publish({ text: n });
    await clock.advance(6000);
    assert.equal(page.events.at(-1), n);
  }
  assert.ok(server.count("sse") > 6);
  assert.equal(page.states.length, before);
});

test("client leaves the fallback once a socket works, with nothing lost or doubled", async () => {
  const { clock, server, page } = await blocked();
  server.socketsBlocked = false;
  for (let n = 0; n < 400; n++) {
    server.publish({ text: n });
    await clock.advance(500);
  }
  assert.deepEqual(page.client.state, { name: "live", transport: "websocket" });
  assert.deepEqual(
    page.events,
    Array.from({ length: 400 }, (_, n) => n),
  );
  assert.equal(server.connections.size, 1);
});

test("client on a fallback tries a socket when the browser comes online", async () => {
  const { clock, server, page, tab } = await blocked("absent");
  server.socketsBlocked = false;
  tab.goOnline();
  await clock.advance(10);
  assert.equal(transportOf(page), "websocket");
});

test("socket that is tried in vain disturbs the fallback in nothing", async () => {
  const { clock, server, page, tab } = await blocked();
  const before = page.states.length;
  tab.goOnline();
  await clock.advance(10);
  assert.equal(server.count("websocket"), 3);
  assert.equal(page.states.length, before);
  server.publish({ text: 1 });
  await clock.advance(10);
  assert.deepEqual(page.events, [1]);
});

test("closing the client ends a stream that is being tried", async () => {
  const { clock, server, page, tab } = await blocked("absent");
  server.stream = "open";
  tab.goOnline();
  await clock.advance(1000);
  assert.equal(server.connections.size, 1);
  page.client.close();
  await clock.advance(1);
  assert.equal(server.connections.size, 0);
  assert.equal(clock.pending, 0);
});

test("closing the client ends a socket that is being tried", async () => {
  const { clock, server, page, tab } = await blocked();
  server.isSilent = true;
  tab.goOnline();
  await clock.advance(1);
  page.client.close();
  await clock.advance(1);
  assert.equal(page.socket.readyState, 2);
  assert.equal(clock.pending, 0);
});

// The connections that a browser has to a site

/** Tabs that share nothing and whose sockets are blocked, opened `apart` milliseconds from each other. */
async function tabsWithoutSockets(count, apart, change = () => {}) {
  const world = new World();
  world.clock.random = seeded(1);
  world.server.socketsBlocked = true;
  const pages = [];
  for (let n = 0; n < count; n++) {
    const tab = world.newTab();
    change(tab);
    pages.push(new Page(tab, { since: "aaaa.0" }));
    await world.clock.advance(apart);
  }
  await world.clock.advance(30_000);
  return { world, pages, transports: pages.map((page) => page.client.state.transport) };
}

for (const [when, apart] of [
  ["one after the other", 5000],
  ["all at once", 0],
]) {
  test(`of eight tabs that are opened ${when} four have streams, and the others poll`, async () => {
    const { world, pages, transports } = await tabsWithoutSockets(8, apart);
    assert.deepEqual(transports.sort(), [...Array(4).fill("polling"), ...Array(4).fill("sse")]);
    for (const page of pages) assert.equal(page.state, "live");
    world.server.publish({ text: 1 });
    await world.clock.advance(10_000);
    for (const page of pages) assert.deepEqual(page.events, [1]);
  });
}

test("tab takes the place of a stream that has ended", async () => {
  const { world, pages, transports } = await tabsWithoutSockets(5, 5000);
  assert.deepEqual(transports, ["sse", "sse", "sse", "sse", "polling"]);
  pages[0].client.close();
  await world.clock.advance(240_000);
  assert.equal(transportOf(pages[4]), "sse");
});

test("tabs whose browser has no channels have a stream each", async () => {
  const { transports } = await tabsWithoutSockets(5, 5000, (tab) => {
    tab.outside.BroadcastChannel = undefined;
  });
  assert.deepEqual(transports, Array(5).fill("sse"));
});
