import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { getEventListeners } from "node:events";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { CLOSE_CODES, connect } from "../../src/orgrealtime/static/orgrealtime/client.js";
import { errorOf, World } from "./fakes.mjs";
import { onePage, Page } from "./support.mjs";

const SOCKET = "wss://example.org/ws/orgs/acme/notifications/?since=aaaa.0";

// URLs

test("client connects to the organisation's socket with its cursor and the subprotocol", async () => {
  const { clock, page } = onePage();
  await clock.advance(10);
  assert.equal(page.socket.url.href, SOCKET);
  assert.equal(page.socket.protocol, "orgrealtime.v1");
});

test("client without a cursor begins now", async () => {
  const { clock, server, page } = onePage({ since: undefined });
  server.publish({ text: "before" });
  await clock.advance(10);
  assert.equal(page.socket.url.search, "");
  assert.equal(page.client.cursor, "aaaa.1");
  server.publish({ text: "after" });
  await clock.advance(10);
  assert.deepEqual(page.events, ["after"]);
});

test("client takes URLs of one's own", async () => {
  const { clock, page, server } = onePage({
    org: undefined,
    url: "/live/?board=1",
    catchUpUrl: "/missed/",
    streamUrl: "/flow/stream/",
  });
  server.socketsBlocked = true;
  await clock.advance(3000);
  assert.deepEqual(
    [...new Set(server.requests.map(({ url }) => url))],
    [
      "wss://example.org/live/?board=1&since=aaaa.0",
      "https://example.org/missed/?since=aaaa.0&limit=500",
      "https://example.org/flow/stream/?since=aaaa.0",
    ],
  );
  assert.equal(page.client.state.transport, "sse");
});

test("client gets a new ticket for each socket and offers it beside the subprotocol", async () => {
  const tickets = ["one", "two"];
  const { clock, page, server } = onePage({ ticket: async () => tickets.shift() });
  await clock.advance(10);
  assert.deepEqual(page.socket.protocol, ["orgrealtime.v1", "orgrealtime.ticket.one"]);
  server.closeAll(1006);
  await clock.advance(1000);
  assert.deepEqual(page.socket.protocol, ["orgrealtime.v1", "orgrealtime.ticket.two"]);
  assert.equal(page.state, "live");
});

test("the how-to's page gets tickets, pages and streams with its token", async () => {
  const text = await readFile(new URL("../../docs/howto/token-logins.md", import.meta.url), "utf8");
  const [, block] = text.match(/^```javascript\n(.+?)^```/ms);
  const code = block.replace(/^import .+$/m, "");
  const world = new World();
  const { outside } = world.newTab();
  const asked = [];
  const fetch = (url, init) => {
    asked.push([url.toString().split("?")[0], init.method ?? "GET", init.headers.Authorization]);
    if (init.method) return { ok: true, json: async () => ({ ticket: "secret" }) };
    return outside.fetch(url, init);
  };
  const start = (options) => connect({ ...options, outside: { ...outside, ...options.outside } });
  const shown = [];
  new Function("connect", "fetch", "accessToken", "show", code)(
    start,
    fetch,
    async () => "t",
    (event) => shown.push(event),
  );
  await world.clock.advance(100);
  assert.deepEqual(asked, [["/orgs/acme/notifications/ticket/", "POST", "Bearer t"]]);
  assert.deepEqual(world.tabs[0].sockets[0].protocol, ["orgrealtime.v1", "orgrealtime.ticket.secret"]);
  world.server.publish({ text: "hello" });
  await world.clock.advance(100);
  assert.equal(shown[0].text, "hello");
  world.server.closeAll(4401); // the token has ended: the page says whether there is a new one
  await world.clock.advance(1000);
  assert.deepEqual(asked.slice(1), [
    ["https://example.org/orgs/acme/notifications/", "GET", "Bearer t"],
    ["/orgs/acme/notifications/ticket/", "POST", "Bearer t"],
  ]);
});

test("client that gets no ticket says why, and goes on over what lets it in", async () => {
  const failure = new Error("no ticket");
  const { clock, page, server } = onePage({
    ticket: async () => {
      throw failure;
    },
  });
  await clock.advance(5000);
  assert.deepEqual([...new Set(page.errors)], [failure]);
  assert.equal(server.count("websocket"), 0);
  assert.equal(page.client.state.transport, "sse");
});

test("client whose login has ended gets no ticket and stops", async () => {
  const { clock, page, server } = onePage({ ticket: () => Promise.reject(new Error("401")) });
  server.refusal = 401;
  await clock.advance(1000);
  assert.equal(page.state, "unauthenticated");
});

test("client that is closed while it waits for a ticket opens no socket", async () => {
  let give;
  const { clock, page, server } = onePage({ ticket: () => new Promise((resolve) => (give = resolve)) });
  await clock.advance(10);
  page.client.close();
  give("late");
  await clock.advance(1000);
  assert.equal(server.count("websocket"), 0);
});

test("client that waits too long for a ticket tries again", async () => {
  let asked = 0;
  const { clock, page, server } = onePage({ ticket: () => (asked++ ? "second" : new Promise(() => {})) });
  await clock.advance(15_000);
  assert.equal(server.count("websocket"), 1);
  assert.equal(page.state, "live");
});

test("client on a page without TLS uses ws:", async () => {
  const world = new World();
  const tab = world.newTab();
  tab.outside.href = "http://example.org/";
  new Page(tab, { since: "aaaa.0" });
  await world.clock.advance(10);
  assert.equal(tab.sockets[0].url.protocol, "ws:");
});

test("client refuses options without an address", () => {
  assert.throws(() => connect({ url: "/live/" }), /'org', or 'url' and 'catchUpUrl'/);
});

// States

test("client tells how far it is", async () => {
  const { clock, page } = onePage();
  await clock.advance(10);
  assert.deepEqual(page.stateNames, ["connecting", "catching-up", "live"]);
  assert.deepEqual(page.client.state, { name: "live", transport: "websocket" });
});

test("handler of the first state can use the client", async () => {
  const world = new World();
  const seen = [];
  const client = connect({ org: "acme", outside: world.newTab().outside, onState: () => seen.push(client.state.name) });
  await world.clock.advance(10);
  assert.equal(seen[0], "connecting");
});

// Reconnecting

test("client reconnects from the cursor it has", async () => {
  const { clock, server, page } = onePage();
  server.publish({ text: "one" });
  await clock.advance(10);
  server.closeAll(1006);
  server.publish({ text: "two" });
  await clock.advance(1000);
  assert.equal(page.socket.since, "aaaa.1");
  assert.deepEqual(page.events, ["one", "two"]);
});

/** The delays between attempts, in milliseconds, when nothing can be reached. */
async function delays({ clock, page }, count) {
  const found = [];
  while (found.length < count) {
    const state = page.client.state;
    if (state.name === "waiting") found.push(state.retryAt - clock.now());
    await clock.advance(state.name === "waiting" ? state.retryAt - clock.now() : 1);
  }
  return found;
}

test("waiting grows by twice from half a second to half a minute", async () => {
  const rig = onePage();
  rig.clock.random = () => 1;
  rig.server.isDown = true;
  assert.deepEqual(await delays(rig, 9), [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
});

test("waiting is a random part of that", async () => {
  const rig = onePage();
  rig.clock.random = () => 0.1;
  rig.server.isDown = true;
  assert.deepEqual(await delays(rig, 3), [50, 100, 200]);
});

/** A page that has failed to connect five times, and has been connected for a while since. */
async function liveAfterFailures() {
  const rig = onePage();
  rig.clock.random = () => 1;
  rig.server.isDown = true;
  await delays(rig, 5);
  rig.server.isDown = false;
  await rig.clock.advance(40_000);
  assert.equal(rig.page.state, "live");
  return rig;
}

test("connection that stood for ten seconds begins the waiting anew", async () => {
  const rig = await liveAfterFailures();
  rig.server.isDown = true;
  rig.server.closeAll(1006);
  assert.deepEqual(await delays(rig, 2), [500, 1000]);
});

for (const [end, act] of [
  ["its server goes away", ({ server }) => [...server.connections][0].send({ type: "going_away" })],
  ["the network goes", ({ tab }) => tab.outside.window.dispatchEvent(new Event("offline"))],
]) {
  test(`connection that stood for ten seconds and ends because ${end} begins the waiting anew`, async () => {
    const rig = await liveAfterFailures();
    rig.server.isDown = true;
    act(rig);
    await rig.clock.advance(1);
    while (rig.page.state === "live") await rig.clock.advance(100);
    assert.ok((await delays(rig, 1))[0] <= 500);
  });
}

test("every handler hears of the newest state last, though another one takes long over each", async () => {
  const { clock, page } = onePage({ onState: () => new Promise(() => {}) });
  const seen = [];
  page.client.on("state", (state) => void seen.push(state.name));
  await clock.advance(10);
  assert.deepEqual(seen, ["connecting", "catching-up", "live"]);
});

test("connection that was lost sooner doesn't", async () => {
  const rig = onePage();
  rig.clock.random = () => 1;
  await rig.clock.advance(100);
  rig.server.closeAll(1006);
  await rig.clock.advance(600);
  assert.equal(rig.page.state, "live");
  rig.server.closeAll(1006);
  assert.deepEqual(await delays(rig, 1), [1000]);
});

for (const code of [1001, 1012]) {
  test(`first attempt after ${code} is spread over five seconds, the next ones wait as ever`, async () => {
    const rig = onePage();
    rig.clock.random = () => 1;
    await rig.clock.advance(20_000);
    rig.server.isDown = true;
    rig.server.closeAll(code);
    assert.deepEqual(await delays(rig, 3), [5000, 1000, 2000]);
  });
}

test("second mass close in a row is waited for as ever", async () => {
  const rig = onePage();
  rig.clock.random = () => 1;
  await rig.clock.advance(20_000);
  rig.server.closeAll(1012);
  await rig.clock.advance(5010);
  assert.equal(rig.page.state, "live");
  rig.server.closeAll(1012);
  assert.deepEqual(await delays(rig, 1), [1000]);
});

test("client stays on a server that is going away until its part of the window has come", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(20_000);
  for (const connection of server.connections)
    connection.send({ type: "going_away", retry_after_ms: 500, window_ms: 5000 });
  await clock.advance(2990);
  assert.equal(server.count("websocket"), 1);
  server.publish({ text: "still here" });
  await clock.advance(3);
  assert.deepEqual(page.events, ["still here"]);
  await clock.advance(10);
  assert.equal(server.count("websocket"), 2);
  assert.equal(server.connections.size, 1);
});

test("client whose server goes away early comes back when it would have", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(20_000);
  for (const connection of server.connections)
    connection.send({ type: "going_away", retry_after_ms: 500, window_ms: 5000 });
  await clock.advance(1);
  const planned = clock.now() + 3000;
  await clock.advance(500);
  server.closeAll(1012);
  await clock.advance(1);
  assert.equal(page.client.state.retryAt, planned);
});

test("stopping client lets go of everything", async () => {
  const { clock, server, page, tab } = onePage();
  await clock.advance(10);
  page.client.close();
  await clock.advance(1);
  assert.equal(server.connections.size, 0);
  assert.equal(clock.pending, 0);
  for (const type of ["online", "offline", "pagehide", "pageshow"])
    assert.equal(getEventListeners(tab.window, type).length, 0);
  for (const type of ["freeze", "resume", "visibilitychange"])
    assert.equal(getEventListeners(tab.document, type).length, 0);
  assert.deepEqual(page.client.state, { name: "stopped" });
  await clock.advance(60_000);
  assert.equal(server.requests.length, 1);
});

for (const [moment, ms] of [
  ["before it began", 0],
  ["while connecting", 1],
  ["while waiting", 30],
]) {
  test(`client closed ${moment} does nothing more`, async () => {
    const { clock, server, page, tab } = onePage();
    server.isDown = true;
    if (ms) await clock.advance(ms);
    page.client.close();
    const before = server.requests.length;
    await clock.advance(1);
    server.isDown = false;
    tab.fire(tab.window, "online");
    tab.fire(tab.window, "pageshow");
    await clock.advance(60_000);
    assert.equal(server.requests.length, before);
    assert.equal(page.stateNames.at(-1), "stopped");
    assert.equal(clock.pending, 0);
  });
}

// Close codes

for (const [code, { name, retry }] of Object.entries(CLOSE_CODES)) {
  test(`connection closed with ${code} ${retry ? "is made anew" : "isn't made anew"}`, async () => {
    const { clock, server, page } = onePage();
    await clock.advance(10);
    if (["unauthenticated", "forbidden"].includes(name)) server.refusal = code - 4000;
    server.closeAll(Number(code));
    await clock.advance(60_000);
    assert.equal(server.count("websocket") > 1, retry);
    const expected = retry
      ? "live"
      : ({ unauthenticated: "unauthenticated", forbidden: "forbidden" }[name] ?? "stopped");
    assert.equal(page.state, expected);
    if (!retry) assert.equal(page.client.state.code, Number(code));
  });
}

for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1013, 3999, 4999]) {
  test(`connection closed with ${code} is made anew`, async () => {
    const { clock, server, page } = onePage();
    await clock.advance(10);
    server.closeAll(code);
    await clock.advance(6000);
    assert.equal(page.state, "live");
    assert.equal(page.states.find((state) => state.name === "waiting").code, code);
  });
}

for (const code of [4401, 4403]) {
  test(`${code} of a login that is over is no matter to a page that is logged in again`, async () => {
    const { clock, server, page } = onePage();
    await clock.advance(10);
    for (let n = 1; n <= 5; n++) {
      server.closeAll(code);
      server.publish({ text: n });
      await clock.advance(40_000);
    }
    assert.deepEqual(page.client.state, { name: "live", transport: "websocket" });
    assert.deepEqual(page.events, [1, 2, 3, 4, 5]);
    assert.equal(server.count("catch-up"), 5);
    assert.ok(page.states.some((state) => state.name === "waiting" && state.code === code));
  });

  test(`${code} of a login that is over ends with one question`, async () => {
    const { clock, server, page } = onePage();
    await clock.advance(10);
    server.refusal = code - 4000;
    server.closeAll(code);
    await clock.advance(600_000);
    assert.equal(page.client.state.code, code);
    assert.deepEqual([server.count("websocket"), server.count("catch-up")], [1, 1]);
    assert.equal(clock.pending, 0);
  });
}

test("answer of 410 to the question after 4401 is a reset", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(10);
  server.closeAll(4401);
  server.log.recreate("cccc");
  await clock.advance(3000);
  assert.deepEqual(page.resets, ["epoch"]);
  assert.equal(page.state, "live");
});

for (const [what, trouble] of [
  ["isn't reached", { isDown: true }],
  ["is overloaded", { refusal: 503 }],
]) {
  test(`server that ${what} after 4401 is tried as ever, until it says so again`, async () => {
    const { clock, server, page } = onePage();
    await clock.advance(10);
    Object.assign(server, trouble);
    server.closeAll(4401);
    await clock.advance(60_000);
    assert.equal(page.state, "waiting");
    Object.assign(server, { isDown: false, refusal: 401 });
    await clock.advance(60_000);
    assert.equal(page.state, "unauthenticated");
  });
}

test("server that closes with 4403 what it has just welcomed is asked less and less often", async () => {
  const { clock, server, page } = onePage();
  clock.random = () => 1;
  const { accept } = server;
  server.accept = (...given) => {
    const connection = accept.apply(server, given);
    clock.setTimeout(() => connection.close(4403), 5);
    return connection;
  };
  await clock.advance(600_000);
  assert.ok(server.requests.length < 60);
  server.publish({ text: "still here" });
  await clock.advance(31_000);
  assert.deepEqual(page.events, ["still here"]);
});

test("page that is closed while it asks whether it is logged in does nothing more", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(10);
  server.closeAll(4401);
  await clock.advance(2);
  page.client.close();
  await clock.advance(60_000);
  assert.equal(page.state, "stopped");
  assert.equal(server.count("websocket"), 1);
  assert.equal(clock.pending, 0);
});

// Refused handshakes

for (const [status, name] of [
  [400, "stopped"],
  [401, "unauthenticated"],
  [403, "forbidden"],
]) {
  test(`client that is refused asks once and learns ${status}`, async () => {
    const { clock, server, page } = onePage();
    server.refusal = status;
    await clock.advance(60_000);
    assert.equal(server.count("websocket"), 1);
    assert.equal(server.count("catch-up"), 1);
    assert.deepEqual(page.client.state, { name, code: 4000 + status });
  });
}

for (const status of [429, 503]) {
  test(`client that is refused with ${status} goes on trying the socket`, async () => {
    const { clock, server, page } = onePage();
    server.refusal = status;
    await clock.advance(60_000);
    assert.ok(server.count("websocket") > 3);
    assert.equal(server.count("sse"), 0);
    assert.equal(page.states.find((state) => state.name === "waiting").code, 4000 + status);
    server.refusal = null;
    await clock.advance(30_000);
    assert.equal(page.state, "live");
  });
}

for (const [what, answer] of [
  ["a page", (server) => (server.pages["catch-up"] = 403)],
  ["JSON that isn't the server's", (server) => (server.catchUp = () => [403, { error: "forbidden" }])],
  ["another status's words", (server) => (server.catchUp = () => [401, errorOf(403)])],
  ["a 410 that is no reset", (server) => (server.catchUp = () => [410, { error: null, cursor: "aaaa.7" }])],
  ["an error of another kind", (server) => (server.catchUp = () => [500, { error: "broken" }])],
  ["a cursor beside an error", (server) => (server.catchUp = () => [500, { cursor: "aaaa.7" }])],
]) {
  test(`refusal that is ${what} isn't the server's`, async () => {
    const { clock, server, page } = onePage();
    server.socketsBlocked = true;
    answer(server);
    await clock.advance(60_000);
    assert.ok(server.count("websocket") > 3);
    assert.equal(server.count("sse"), 0);
    assert.equal(page.client.cursor, "aaaa.0");
    assert.equal(page.client.state.code, 1006);
    assert.deepEqual(page.resets, []);
    server.socketsBlocked = false;
    await clock.advance(30_000);
    assert.equal(page.state, "live");
  });
}

test("client without a cursor isn't given the past by the answer", async () => {
  const { clock, server, page } = onePage({ since: undefined });
  server.socketsBlocked = true;
  server.publish({ text: "before" });
  await clock.advance(4);
  server.publish({ text: "after" });
  await clock.advance(3000);
  assert.deepEqual(page.events, ["after"]);
});

for (const body of [{ hello: "captive portal" }, null]) {
  test(`answer ${JSON.stringify(body)} is none`, async () => {
    const { clock, server, page } = onePage();
    server.socketsBlocked = true;
    server.catchUp = () => [200, body];
    await clock.advance(10_000);
    assert.equal(page.client.cursor, "aaaa.0");
    assert.equal(server.count("sse"), 0);
  });
}

test("answer to the question isn't wasted", async () => {
  const { clock, server, page } = onePage();
  server.socketsBlocked = true;
  server.publish({ text: "one" });
  await clock.advance(4);
  assert.deepEqual(page.events, ["one"]);
  assert.equal(page.client.cursor, "aaaa.1");
});

test("answer of 410 is a reset", async () => {
  const { clock, server, page } = onePage({ since: "bbbb.7" });
  server.socketsBlocked = true;
  await clock.advance(4);
  assert.deepEqual(page.resets, ["epoch"]);
  assert.equal(page.client.cursor, "aaaa.0");
});

test("server that can't be reached isn't taken for one without sockets", async () => {
  const { clock, server, page } = onePage();
  server.isDown = true;
  await clock.advance(120_000);
  assert.equal(server.count("sse"), 0);
  server.isDown = false;
  await clock.advance(30_000);
  assert.equal(page.client.state.transport, "websocket");
});

test("refusal is heard although a wake-up opened another socket meanwhile", async () => {
  const { clock, server, page, tab } = onePage();
  server.refusal = 401;
  await clock.advance(2);
  tab.fire(tab.document, "visibilitychange");
  await clock.advance(100);
  assert.equal(page.state, "unauthenticated");
});

// Waking

for (const [name, wake] of [
  ["online", (tab) => tab.goOnline()],
  ["a visible page", (tab) => tab.fire(tab.document, "visibilitychange")],
]) {
  test(`${name} ends the waiting`, async () => {
    const { clock, server, page, tab } = onePage();
    server.isDown = true;
    clock.random = () => 1;
    await clock.advance(100_000);
    const waiting = page.client.state;
    assert.ok(waiting.retryAt - clock.now() > 5000);
    server.isDown = false;
    wake(tab);
    await clock.advance(5);
    assert.equal(page.state, "live");
  });
}

test("hidden page doesn't end the waiting", async () => {
  const { clock, server, tab } = onePage();
  server.isDown = true;
  clock.random = () => 1;
  await clock.advance(100_000);
  const before = server.count("websocket");
  tab.document.hidden = true;
  tab.fire(tab.document, "visibilitychange");
  await clock.advance(1);
  assert.equal(server.count("websocket"), before);
});

test("offline gives the connection up at once and waits for online", async () => {
  const { clock, server, page, tab } = onePage();
  await clock.advance(10);
  tab.goOffline();
  await clock.advance(1);
  assert.equal(page.state, "offline");
  assert.equal(server.connections.size, 0);
  server.publish({ text: "meanwhile" });
  await clock.advance(20_000);
  assert.equal(server.count("websocket"), 1);
  tab.goOnline();
  await clock.advance(5);
  assert.deepEqual(page.events, ["meanwhile"]);
});

test("browser that is wrong about being offline doesn't keep the client away for long", async () => {
  const { clock, page, tab } = onePage();
  await clock.advance(10);
  tab.goOffline();
  tab.navigator = tab.outside.navigator;
  await clock.advance(1);
  assert.equal(page.state, "offline");
  tab.navigator.onLine = true; // but no event
  await clock.advance(30_010);
  assert.equal(page.state, "live");
});

test("page in the back-forward cache holds no connection, and one that comes back goes on", async () => {
  const { clock, server, page, tab } = onePage();
  await clock.advance(10);
  tab.fire(tab.window, "pagehide", { persisted: true });
  await clock.advance(10);
  assert.equal(server.connections.size, 0);
  assert.equal(clock.pending, 0);
  server.publish({ text: "meanwhile" });
  await clock.advance(60_000);
  tab.fire(tab.window, "pageshow", { persisted: true });
  await clock.advance(10);
  assert.deepEqual(page.events, ["meanwhile"]);
});

test("pageshow of an ordinary load makes no second connection", async () => {
  const { clock, server, tab } = onePage();
  await clock.advance(10);
  tab.fire(tab.window, "pageshow", { persisted: false });
  await clock.advance(10);
  assert.equal(server.count("websocket"), 1);
});

// Half-open links

test("link on which nothing comes is given up within thirty seconds", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(100);
  const lastHeard = clock.now();
  server.isSilent = true;
  await clock.advance(30_000);
  assert.notEqual(page.state, "live");
  assert.ok(clock.now() - lastHeard <= 30_000);
});

test("quiet link is kept by pings", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(300_000);
  assert.equal(server.count("websocket"), 1);
  assert.equal(page.state, "live");
  const [connection] = server.connections;
  assert.ok(connection.received.filter((message) => message.type === "ping").length >= 14);
});

test("busy link is pinged too, for the server closes one whose pings cease", async () => {
  const { clock, server } = onePage();
  await clock.advance(10);
  const [connection] = server.connections;
  for (let second = 0; second < 75; second++) {
    server.publish({ text: "busy" });
    await clock.advance(1000);
  }
  assert.ok(connection.received.filter((message) => message.type === "ping").length >= 3);
});

test("any frame counts as the answer to a ping", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(10);
  const [connection] = server.connections;
  connection.receive = () => {}; // no pongs
  for (let second = 0; second < 60; second++) {
    server.publish({ text: "busy" });
    await clock.advance(1000);
  }
  assert.equal(page.state, "live");
  assert.equal(server.count("websocket"), 1);
});

test("page that becomes visible after a silence looks whether its link is alive", async () => {
  const { clock, server, page, tab } = onePage();
  await clock.advance(15_000);
  server.isSilent = true;
  tab.fire(tab.document, "visibilitychange");
  await clock.advance(10_001);
  assert.notEqual(page.state, "live");
});

test("socket that never opens is given up after ten seconds", async () => {
  const { clock, server, tab } = onePage();
  server.isSilent = true;
  await clock.advance(10_001);
  assert.equal(tab.sockets[0].readyState, 2);
});

// Late callbacks

test("frame of a socket that was given up is not received", async () => {
  const { clock, server, page, tab } = onePage();
  await clock.advance(10);
  const [old] = tab.sockets;
  tab.goOffline();
  tab.goOnline();
  await clock.advance(10);
  assert.equal(old.onmessage, null);
  assert.equal(old.onclose, null);
  server.publish({ text: "one" });
  await clock.advance(10);
  assert.deepEqual(page.events, ["one"]);
});

test("frame that can't be read ends the connection, for it may have been an event", async () => {
  const { clock, server, page, tab } = onePage();
  await clock.advance(10);
  tab.sockets[0].onmessage({ data: "<html>" });
  await clock.advance(1000);
  assert.equal(server.count("websocket"), 2);
  assert.equal(page.state, "live");
});

test("connection is live only after its welcome", async () => {
  const { clock, page, tab } = onePage();
  await clock.advance(0);
  tab.sockets[0].onmessage({ data: '{"type":"synced","cursor":"aaaa.0"}' });
  await clock.advance(0);
  assert.equal(page.state, "connecting");
  await clock.advance(10);
  assert.deepEqual(page.stateNames, ["connecting", "catching-up", "live"]);
});

test("frame and member that aren't known are ignored", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(10);
  const [connection] = server.connections;
  connection.send({ type: "future", what: 1 });
  connection.send({ type: "cursor", cursor: "aaaa.0", future: true });
  await clock.advance(10);
  assert.equal(page.state, "live");
  assert.deepEqual(page.messages, [{ type: "future", what: 1 }]);
});

// Sending

test("client sends messages and hands over the host's frames and errors", async () => {
  const { clock, server, page } = onePage();
  assert.equal(page.client.send({ type: "echo", text: "too early" }), false);
  await clock.advance(10);
  assert.equal(page.client.send({ type: "echo", text: "hi" }), true);
  const [connection] = server.connections;
  connection.send({ type: "error", error: { code: "rate_limited", message: "" } });
  await clock.advance(10);
  assert.deepEqual(
    page.messages.map((frame) => frame.type),
    ["echoed", "error"],
  );
  server.closeAll(1006);
  await clock.advance(1);
  assert.equal(page.client.send({ type: "echo" }), false);
});

test("client doesn't send what the server would close the connection for", async () => {
  const { clock, page } = onePage();
  await clock.advance(10);
  assert.throws(
    () => page.client.send({ type: "echo", text: "ü".repeat(8192) }),
    /at most 16384 bytes; this one has 164/,
  );
});

// What the page says

/** A tab whose page has what `{% orgrealtime_client %}` puts there, for each organisation. */
function tabWithConfig(...configs) {
  const tab = new World().newTab();
  const scripts = configs.map((config) => ({ textContent: JSON.stringify(config) }));
  tab.document.querySelectorAll = (selector) => (selector === "#orgrealtime-config" ? scripts : []);
  return tab;
}

const BELOW_APP = {
  org: "acme",
  url: "/app/ws/orgs/acme/notifications/",
  catchUpUrl: "/app/orgs/acme/notifications/",
  streamUrl: "/app/orgs/acme/notifications/stream/",
  user: 7,
};

test("client finds the URLs of its organisation in the page", async () => {
  const tab = tabWithConfig({ ...BELOW_APP, org: "globex", url: "/wrong/" }, BELOW_APP);
  const { server, clock } = tab.world;
  server.socketsBlocked = true;
  const page = new Page(tab, { since: "aaaa.0" });
  assert.equal(page.client.user, 7);
  await clock.advance(5000);
  assert.deepEqual(
    [...new Set(server.requests.map(({ url }) => new URL(url).pathname))],
    [BELOW_APP.url, BELOW_APP.catchUpUrl, BELOW_APP.streamUrl],
  );
});

test("what a client is given counts more than what the page says", async () => {
  const tab = tabWithConfig(BELOW_APP);
  const { server, clock } = tab.world;
  server.socketsBlocked = true;
  const own = { url: "/live/", catchUpUrl: "/missed/", streamUrl: undefined, user: 7 };
  new Page(tab, { since: "aaaa.0", ...own });
  await clock.advance(5000);
  assert.deepEqual(
    [...new Set(server.requests.map(({ url }) => new URL(url).pathname))],
    ["/live/", "/missed/", "/missed/stream/"],
  );
});

test("URLs are relative to the document's base", () => {
  const module = new URL("../../src/orgrealtime/static/orgrealtime/client.js", import.meta.url);
  const code = `
    globalThis.document = Object.assign(new EventTarget(), { baseURI: "https://example.org/app/board/", hidden: false });
    globalThis.addEventListener = () => {};
    globalThis.location = { href: "https://example.org/elsewhere/" };
    globalThis.WebSocket = class { constructor(url) { console.log(url); process.exit(); } };
    const { connect } = await import("${module}");
    connect({ url: "../ws/", catchUpUrl: "../pages/", onEvent() {} });`;
  const found = execFileSync(process.execPath, ["--input-type=module", "--eval", code], { encoding: "utf8" });
  assert.equal(found.trim(), "wss://example.org/app/ws/");
});

// Other origins

const ELSEWHERE = {
  url: "wss://live.example.net/ws/",
  catchUpUrl: "https://live.example.net/pages/",
  streamUrl: "https://live.example.net/stream/",
};

test("requests to another origin carry the login, as sockets do", async () => {
  const { clock, server } = onePage(ELSEWHERE);
  server.socketsBlocked = true;
  await clock.advance(5000);
  assert.deepEqual([...server.credentials], ["include"]);
});

for (const credentials of ["omit", "same-origin"]) {
  for (const [transport, socketsBlocked] of [
    ["the socket", false],
    ["what a stream would be tried for", true],
  ]) {
    test(`401 of a request with credentials "${credentials}" to another origin doesn't end ${transport}`, async () => {
      const { clock, server, page } = onePage({ ...ELSEWHERE, credentials });
      server.socketsBlocked = true;
      server.refusal = 401;
      await clock.advance(60_000);
      assert.equal(page.state, "waiting");
      assert.deepEqual([...server.credentials], [credentials]);
      Object.assign(server, { refusal: null, socketsBlocked });
      await clock.advance(60_000);
      assert.equal(page.state, "live");
    });
  }
}

test('401 of a request with credentials "same-origin" to the own origin ends the client', async () => {
  const { clock, server, page } = onePage({ credentials: "same-origin" });
  server.refusal = 401;
  await clock.advance(10_000);
  assert.equal(page.state, "unauthenticated");
});

// Retry-After

/** How long a client that is refused with these headers stays away from the server, after its first request. */
async function secondsAway(rig, retryAfter, refusal = 503) {
  const { clock, server } = rig;
  Object.assign(server, { refusal, retryAfter: typeof retryAfter === "function" ? retryAfter(clock) : retryAfter });
  await clock.advance(100);
  const { length } = server.requests;
  const before = clock.now();
  while (server.requests.length === length && clock.now() - before < 8_000_000) await clock.advance(500);
  return (clock.now() - before) / 1000;
}

for (const [name, retryAfter, least, most] of [
  ["seconds", "20", 19, 25],
  ["a date", (clock) => new Date(clock.now() + 60_000).toUTCString(), 58, 66],
  ["more than timers can hold", "99999999", 3600, 3605],
  ["a date that is over", "Thu, 01 Jan 1970 00:00:01 GMT", 0, 5],
  ["nonsense", "soon", 0, 5],
]) {
  test(`Retry-After with ${name} is obeyed`, async () => {
    const away = await secondsAway(onePage(), retryAfter);
    assert.ok(away >= least && away <= most, `${away} s`);
  });
}

test("Retry-After of a proxy's own page is obeyed", async () => {
  const rig = onePage();
  Object.assign(rig.server, { socketsBlocked: true, pages: { "catch-up": 503, sse: 503 } });
  const away = await secondsAway(rig, "20", null);
  assert.ok(away >= 19, `${away} s`);
});

for (const [how, wake] of [
  ["becomes visible", (tab) => tab.fire(tab.document, "visibilitychange")],
  ["comes online", (tab) => tab.fire(tab.window, "online")],
  [
    "was offline for a moment",
    (tab) => {
      tab.goOffline();
      tab.goOnline();
    },
  ],
]) {
  test(`page that ${how} doesn't come before Retry-After is over`, async () => {
    const { clock, server, tab } = onePage();
    Object.assign(server, { refusal: 429, retryAfter: "50" });
    await clock.advance(1000);
    const { length } = server.requests;
    wake(tab);
    await clock.advance(45_000);
    assert.equal(server.requests.length, length);
    server.refusal = null;
    await clock.advance(10_000);
    assert.ok(server.requests.length > length);
  });
}

for (const [transport, blocked] of [
  ["sse", { socketsBlocked: true }],
  ["polling", { socketsBlocked: true, stream: "absent" }],
]) {
  test(`Retry-After is obeyed over ${transport}`, async () => {
    const rig = onePage();
    Object.assign(rig.server, blocked);
    await rig.clock.advance(20_000);
    assert.equal(rig.page.client.state.transport, transport);
    rig.server.refusal = 503;
    rig.server.retryAfter = "50";
    rig.server.closeAll(1006);
    while (rig.page.state !== "waiting" || rig.page.client.state.code !== 4503) await rig.clock.advance(100);
    const { length } = rig.server.requests;
    await rig.clock.advance(45_000);
    assert.equal(rig.server.requests.length, length);
    await rig.clock.advance(10_000);
    assert.ok(rig.server.requests.length > length);
  });
}
