import assert from "node:assert/strict";
import { test } from "node:test";

import { settle } from "./fakes.mjs";
import { onePage, Page, until } from "./support.mjs";

const deferred = () => {
  let resolve, reject;
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
};

const acksOf = (connection) => connection.received.filter(({ type }) => type === "ack").map(({ cursor }) => cursor);

// Once and in order

test("reset handler that was taken away after it failed is asked no more", async () => {
  const { clock, server, page } = onePage({ since: "bbbb.9", onReset: undefined });
  let calls = 0;
  const off = page.client.on("reset", () => {
    calls++;
    throw new Error("no network");
  });
  await clock.advance(100);
  assert.equal(calls, 1);
  off();
  await clock.advance(60_000);
  server.publish({ text: "goes on" });
  await clock.advance(100);
  assert.equal(calls, 1);
  assert.deepEqual(page.events, ["goes on"]);
});

test("events arrive in order, however they are distributed over frames", async () => {
  const { clock, server, page } = onePage();
  server.random = () => 0.99;
  for (let n = 1; n <= 7; n++) server.publish({ text: n });
  await clock.advance(10);
  server.random = () => 0;
  server.publish({ text: 8 });
  await clock.advance(10);
  assert.deepEqual(page.events, [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("events that come again are not handled again", async () => {
  const { clock, server, page } = onePage();
  for (const n of [1, 2, 3]) server.publish({ text: n });
  await clock.advance(10);
  const [connection] = server.connections;
  connection.seq = 1;
  connection.pump();
  connection.send({ type: "batch", events: server.log.visibleAfter(0), cursor: "aaaa.3" });
  server.publish({ text: 4 });
  await clock.advance(10);
  assert.deepEqual(page.events, [1, 2, 3, 4]);
  assert.equal(page.client.cursor, "aaaa.4");
});

test("cursor moves past what is meant for others, also beyond a batch's last event", async () => {
  const { clock, server, page } = onePage();
  server.random = () => 0.99;
  server.publish({ text: 1 });
  server.publish({ text: "secret" }, { visible: false });
  await clock.advance(10);
  assert.equal(page.client.cursor, "aaaa.2");
  server.publish({}, { visible: false });
  await clock.advance(10);
  assert.equal(page.client.cursor, "aaaa.3");
  assert.deepEqual(page.events, [1]);
});

test("position further back doesn't set the cursor back", async () => {
  const { clock, server, page } = onePage();
  server.random = () => 0.99;
  server.publish({ text: 1 });
  server.publish({}, { visible: false });
  server.publish({ text: 3 });
  await clock.advance(10);
  const [connection] = server.connections;
  connection.send({ type: "welcome", cursor: "aaaa.1", heartbeat: 25 });
  connection.send({ type: "cursor", cursor: "aaaa.2" });
  await clock.advance(10);
  assert.equal(page.client.cursor, "aaaa.3");
});

test("events that come again from further back than is remembered are not handled again", async () => {
  const { clock, server, page } = onePage();
  const all = Array.from({ length: 7000 }, (_, n) => n);
  for (const n of all) server.publish({ text: n });
  await clock.advance(10);
  const [connection] = server.connections;
  connection.send({ type: "welcome", cursor: "aaaa.10", heartbeat: 25 });
  connection.seq = 10;
  connection.pump();
  server.publish({ text: 7000 });
  await clock.advance(60_000);
  assert.deepEqual(page.events, [...all, 7000]);
});

test("gap in what a connection brings is filled over HTTP", async () => {
  const { clock, server, page } = onePage();
  await clock.advance(10);
  const [connection] = server.connections;
  // A welcome that begins elsewhere than was asked for.
  for (const n of [1, 2, 3]) server.log.append({ text: n });
  connection.send({ type: "welcome", cursor: "aaaa.2", heartbeat: 25 });
  connection.seq = 2;
  connection.pump();
  await clock.advance(10);
  assert.deepEqual(page.events, [1, 2, 3]);
  assert.equal(server.count("catch-up"), 1);
});

// Handlers

test("handler that waits is waited for", async () => {
  const order = [];
  const { clock, server } = onePage({
    onEvent: async ({ text }) => {
      order.push(`begin ${text}`);
      await settle();
      order.push(`end ${text}`);
    },
  });
  server.publish({ text: 1 });
  server.publish({ text: 2 });
  await clock.advance(20);
  assert.deepEqual(order, ["begin 1", "end 1", "begin 2", "end 2"]);
});

test("cursor is that of the event that has been handled, not of the one that is being handled", async () => {
  const gate = deferred();
  const { clock, server, page } = onePage({ onEvent: ({ text }) => text === 2 && gate.promise });
  server.publish({ text: 1 });
  server.publish({ text: 2 });
  await clock.advance(10);
  assert.equal(page.client.cursor, "aaaa.1");
  gate.resolve();
  await clock.advance(1);
  assert.equal(page.client.cursor, "aaaa.2");
});

for (const kind of ["throws", "rejects"]) {
  test(`handler that ${kind} disturbs neither the others nor the stream`, async () => {
    const broken = new Error("broken");
    const { clock, server, page } = onePage({
      onEvent:
        kind === "throws"
          ? () => {
              throw broken;
            }
          : () => Promise.reject(broken),
    });
    page.client.on("event", ({ text }) => page.events.push(text));
    server.publish({ text: 1 });
    server.publish({ text: 2 });
    await clock.advance(10);
    assert.deepEqual(page.events, [1, 2]);
    assert.deepEqual(page.errors, [broken, broken]);
    assert.equal(page.client.cursor, "aaaa.2");
  });
}

test("handler of states that throws disturbs nothing", async () => {
  const { clock, server, page } = onePage({
    onState: () => {
      throw new Error("broken");
    },
  });
  server.publish({ text: 1 });
  await clock.advance(10);
  assert.deepEqual(page.events, [1]);
  assert.equal(page.errors.length, 3);
});

test("errors go to the console if nobody wants them", async (t) => {
  const logged = t.mock.method(console, "error", () => {});
  const broken = new Error("broken");
  const { clock, server } = onePage({
    onError: undefined,
    onEvent: () => {
      throw broken;
    },
  });
  server.publish({ text: 1 });
  await clock.advance(10);
  assert.deepEqual(
    logged.mock.calls.map((call) => call.arguments),
    [[broken]],
  );
});

test("handler of errors that throws disturbs nothing", async (t) => {
  t.mock.method(console, "error", () => {});
  const { clock, server, page } = onePage({
    onError: () => {
      throw new Error("worse");
    },
    onEvent: () => {
      throw new Error("broken");
    },
  });
  server.publish({ text: 1 });
  await clock.advance(10);
  assert.equal(page.client.cursor, "aaaa.1");
});

test("handler that was taken away isn't called", async () => {
  const { clock, server, page } = onePage();
  const seen = [];
  const off = page.client.on("event", ({ text }) => seen.push(text));
  server.publish({ text: 1 });
  await clock.advance(10);
  off();
  server.publish({ text: 2 });
  await clock.advance(10);
  assert.deepEqual(seen, [1]);
  assert.deepEqual(page.events, [1, 2]);
});

test("handler isn't called within the code that receives", async () => {
  const { clock, page, tab } = onePage();
  await clock.advance(10);
  tab.sockets[0].onmessage({ data: '{"type":"note","cursor":"aaaa.1","text":"one"}' });
  assert.deepEqual(page.events, []);
  await settle();
  assert.deepEqual(page.events, ["one"]);
});

test("handler that closes the client is called no more", async () => {
  const seen = [];
  const { clock, server, page } = onePage({
    onEvent: ({ text }) => {
      seen.push(text);
      page.client.close();
    },
  });
  server.random = () => 0.99;
  for (const n of [1, 2, 3]) server.publish({ text: n });
  await clock.advance(10);
  assert.deepEqual(seen, [1]);
  assert.equal(clock.pending, 0);
});

test("client closed while a handler waits handles nothing more", async () => {
  const gate = deferred();
  const { clock, server, page } = onePage({
    onEvent: ({ text }) => {
      page.events.push(text);
      return gate.promise;
    },
  });
  for (const n of [1, 2]) server.publish({ text: n });
  await clock.advance(10);
  page.client.close();
  gate.resolve();
  await clock.advance(10);
  assert.deepEqual(page.events, [1]);
  assert.equal(page.client.cursor, "aaaa.0");
});

test("what arrived before access ended is handled", async () => {
  const { clock, server, page } = onePage({
    onEvent: async ({ text }) => {
      await settle();
      page.events.push(text);
    },
  });
  await clock.advance(10);
  for (const n of [1, 2]) server.publish({ text: n });
  server.closeAll(4403);
  server.refusal = 403;
  await clock.advance(20);
  assert.deepEqual(page.events, [1, 2]);
  assert.equal(page.state, "forbidden");
});

// Resets

test("reset is handed over and waited for, and the old cursor is kept until then", async () => {
  const gate = deferred();
  const { clock, server, page } = onePage({
    since: "bbbb.9",
    onReset: (reset) => {
      page.resets.push(reset);
      return gate.promise;
    },
  });
  server.publish({ text: "before" });
  await clock.advance(10);
  server.publish({ text: "after" });
  await clock.advance(10);
  assert.deepEqual(page.resets, [{ type: "reset", cursor: "aaaa.1", reason: "epoch" }]);
  assert.deepEqual(page.events, []);
  assert.equal(page.client.cursor, "bbbb.9");
  gate.resolve();
  await clock.advance(1);
  assert.deepEqual(page.events, ["after"]);
  assert.equal(page.client.cursor, "aaaa.2");
});

test("reset that failed is tried again, later and later, and nothing goes past it", async () => {
  const times = [];
  const { clock, server, page } = onePage({
    since: "bbbb.9",
    onReset: () => {
      times.push(clock.now());
      if (times.length < 5) throw new Error("no network");
    },
  });
  clock.random = () => 1;
  server.publish({ text: "before" });
  await clock.advance(10);
  server.publish({ text: "after" });
  await clock.advance(7000);
  assert.deepEqual(page.events, []);
  await clock.advance(1000);
  assert.deepEqual(
    times.slice(1).map((time, n) => time - times[n]),
    [500, 1000, 2000, 4000],
  );
  assert.deepEqual(page.events, ["after"]);
  assert.equal(page.errors.length, 4);
});

test("only the handler that failed is asked to reset again", async () => {
  let good = 0;
  const { clock, page } = onePage({
    since: "bbbb.9",
    onReset: () => {
      page.resets.push(1);
      if (page.resets.length < 3) throw new Error("no network");
    },
  });
  page.client.on("reset", () => void good++);
  await clock.advance(10_000);
  assert.equal(page.resets.length, 3);
  assert.equal(good, 1);
});

test("connection lost during a reset leads to another reset", async () => {
  const gates = [];
  const { clock, server, page } = onePage({
    since: "bbbb.9",
    onReset: () => {
      gates.push(deferred());
      return gates.at(-1).promise;
    },
  });
  server.publish({ text: "1" });
  await clock.advance(10);
  server.closeAll(1006);
  server.publish({ text: "2" });
  await clock.advance(1000);
  assert.equal(page.socket.since, "bbbb.9");
  gates[0].resolve();
  await clock.advance(10);
  assert.equal(gates.length, 2);
  gates[1].resolve();
  server.publish({ text: "3" });
  await clock.advance(10);
  assert.deepEqual(page.events, ["3"]);
  assert.equal(page.client.cursor, "aaaa.3");
});

test("reset in the middle of a stream comes between the events around it", async () => {
  const order = [];
  const { clock, server } = onePage({
    onEvent: ({ text }) => order.push(text),
    onReset: async () => {
      await settle();
      order.push("reset");
    },
  });
  server.random = () => 0.99;
  for (const n of [1, 2]) server.publish({ text: n });
  await clock.advance(10);
  const [connection] = server.connections;
  for (const n of [3, 4, 5]) server.log.append({ text: n });
  connection.reset("retention");
  for (const n of [6, 7]) server.publish({ text: n });
  await clock.advance(10);
  assert.deepEqual(order, [1, 2, "reset", 6, 7]);
});

test("events of a restored database are handled although their cursors have been seen", async () => {
  const { clock, server, page } = onePage();
  for (const n of [1, 2, 3]) server.publish({ text: n });
  await clock.advance(10);
  server.closeAll(1006);
  server.log.head = 1;
  await clock.advance(1000);
  assert.deepEqual(page.resets, ["ahead"]);
  server.publish({ text: "other 2" });
  server.publish({ text: "other 3" });
  await clock.advance(10);
  assert.deepEqual(page.events, [1, 2, 3, "other 2", "other 3"]);
});

test("client closed while a reset is tried again leaves nothing behind", async () => {
  const { clock, page } = onePage({ since: "bbbb.9", onReset: () => Promise.reject(new Error("no network")) });
  await clock.advance(10);
  page.client.close();
  await clock.advance(1);
  assert.equal(clock.pending, 0);
});

test("reset that nobody handles is warned of", async (t) => {
  const warned = t.mock.method(console, "warn", () => {});
  const { clock } = onePage({ since: "bbbb.9", onReset: undefined });
  await clock.advance(10);
  await until(() => warned.mock.callCount());
  assert.match(warned.mock.calls[0].arguments[0], /nothing handles a reset/);
});

// Turns of the page

/** Publish events that come in one frame. */
function sendAtOnce(server, texts) {
  const [connection] = server.connections;
  for (const text of texts) server.log.append({ text });
  connection.seq = server.log.head;
  connection.send({ type: "batch", events: server.log.visibleAfter(0), cursor: server.log.cursor() });
}

test("page gets a turn between handlers that take long, and all events in order", async () => {
  const { clock, server, page } = onePage({
    onEvent: ({ text }) => {
      page.events.push(text);
      clock.pass(4);
    },
  });
  const all = Array.from({ length: 1000 }, (_, n) => n);
  let turns = 0;
  let ends = false;
  const count = () => {
    turns++;
    if (!ends) setImmediate(count);
  };
  await clock.advance(10);
  sendAtOnce(server, all);
  setImmediate(count);
  await clock.advance(10);
  await until(() => page.events.length === all.length);
  ends = true;
  assert.deepEqual(page.events, all);
  // Two handlers of 4 ms fill the 8 ms of a turn.
  assert.ok(turns >= 450, `${turns} turns`);
});

test("client that is closed while the page has its turn handles nothing more", async () => {
  const { clock, server, page } = onePage({
    onEvent: ({ text }) => {
      page.events.push(text);
      clock.pass(10);
      setImmediate(() => page.client.close());
    },
  });
  await clock.advance(10);
  sendAtOnce(
    server,
    Array.from({ length: 50 }, (_, n) => n),
  );
  await clock.advance(10);
  await until(() => page.state === "stopped");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(page.events.length < 5, `${page.events.length} events`);
});

// Handlers that don't settle

for (const [kind, options] of [
  ["event", (wait) => ({ onEvent: wait })],
  ["reset", (wait) => ({ onReset: wait, since: "bbbb.9" })],
]) {
  test(`handler of ${kind} that doesn't settle for ten seconds is told of, until it does`, async (t) => {
    const warned = t.mock.method(console, "warn", () => {});
    const gate = deferred();
    const { clock, server, page } = onePage(options(() => gate.promise));
    server.publish({ text: 1 });
    await clock.advance(9_000);
    assert.notEqual(page.state, "stuck");
    await clock.advance(2_000);
    assert.deepEqual(page.client.state, { name: "stuck", transport: "websocket" });
    await until(() => warned.mock.callCount());
    assert.match(
      warned.mock.calls[0].arguments[0],
      new RegExp(`not settled for 10 seconds.*"${kind === "event" ? "note" : "reset"}"`),
    );
    gate.resolve();
    await clock.advance(100);
    assert.equal(page.state, "live");
    assert.equal(warned.mock.callCount(), 1);
  });
}

test("lost connection is told of also while a handler is stuck", async () => {
  const { clock, server, page } = onePage({ onEvent: () => new Promise(() => {}) });
  server.publish({ text: 1 });
  await clock.advance(11_000);
  server.isDown = true;
  server.closeAll(1006);
  await clock.advance(1000);
  assert.equal(page.state, "waiting");
});

test("handlers of states and messages that don't settle stop nothing", async () => {
  const forever = () => new Promise(() => {});
  const { clock, server, page } = onePage({ onState: forever, onMessage: forever });
  server.publish({ text: 1 });
  await clock.advance(11_000);
  assert.equal(page.state, "live");
  assert.deepEqual(page.events, [1]);
});

test("what is too much to keep for a handler is fetched when the handler goes on", async () => {
  const gate = deferred();
  const { clock, server, page } = onePage({
    onEvent: async ({ text }) => {
      await gate.promise;
      page.events.push(text);
    },
  });
  await clock.advance(10);
  const all = Array.from({ length: 20_000 }, (_, n) => n);
  for (const text of all) server.publish({ text });
  await clock.advance(5_000);
  assert.equal(page.state, "catching-up");
  assert.equal(server.count("catch-up"), 0);
  gate.resolve();
  await clock.advance(60_000);
  assert.deepEqual(page.events, all);
  assert.ok(server.count("catch-up") >= 20, `${server.count("catch-up")} pages`);
  assert.equal(page.state, "live");
});

test("tab that catches up over HTTP asks for no more while its handlers have enough to do", async () => {
  const gate = deferred();
  const { clock, server, page } = onePage({ onEvent: () => gate.promise });
  await clock.advance(10);
  for (let n = 1; n <= 20_000; n++) server.log.append({ text: n });
  const [connection] = server.connections;
  connection.send({ type: "welcome", cursor: "aaaa.19999", heartbeat: 25 });
  connection.seq = 19_999;
  connection.pump();
  await clock.advance(60_000);
  assert.equal(server.count("catch-up"), 10);
  gate.resolve();
  await clock.advance(60_000);
  assert.equal(page.client.cursor, "aaaa.20000");
});

// Acknowledging

test("client acknowledges once a second what it has handled", async () => {
  const { clock, server } = onePage();
  await clock.advance(10);
  const [connection] = server.connections;
  for (const n of [1, 2, 3]) server.publish({ text: n });
  await clock.advance(10);
  assert.deepEqual(acksOf(connection), []);
  await clock.advance(1000);
  assert.deepEqual(acksOf(connection), ["aaaa.3"]);
  await clock.advance(5000);
  assert.deepEqual(acksOf(connection), ["aaaa.3"]);
});

test("client acknowledges after a hundred events, without waiting for the second", async () => {
  const { clock, server } = onePage();
  await clock.advance(10);
  const [connection] = server.connections;
  for (let n = 0; n < 250; n++) server.publish({ text: n });
  await clock.advance(10);
  assert.deepEqual(acksOf(connection), ["aaaa.100", "aaaa.200"]);
  await clock.advance(1000);
  assert.deepEqual(acksOf(connection), ["aaaa.100", "aaaa.200", "aaaa.250"]);
});

test("client doesn't acknowledge what it is still handling", async () => {
  const gate = deferred();
  const { clock, server } = onePage({ onEvent: ({ text }) => text === 2 && gate.promise });
  await clock.advance(2000);
  const [connection] = server.connections;
  for (const n of [1, 2]) server.publish({ text: n });
  await clock.advance(3000);
  assert.equal(acksOf(connection).at(-1), "aaaa.1");
});

test("client acknowledges only what was sent on the connection", async () => {
  const gates = { 1: deferred(), 2: deferred() };
  const { clock, server } = onePage({ onEvent: ({ text }) => gates[text]?.promise });
  await clock.advance(10);
  for (const n of [1, 2]) server.publish({ text: n });
  await clock.advance(10);
  server.closeAll(1006);
  await clock.advance(1000);
  server.publish({ text: 3 });
  await clock.advance(10);
  const [connection] = server.connections;
  gates[1].resolve();
  await clock.advance(3000);
  assert.deepEqual(acksOf(connection), []);
  gates[2].resolve();
  await clock.advance(3000);
  assert.deepEqual(acksOf(connection), ["aaaa.3"]);
});

// Keeping the cursor

class Memory {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => void this.items.set(key, value);
}

test("cursor is kept in the storage, and found there by the next page", async () => {
  const storage = new Memory();
  const { clock, server, page, world } = onePage({ storage });
  server.publish({ text: 1 });
  await clock.advance(10);
  assert.deepEqual([...storage.items], [["orgrealtime.cursor acme 7", "aaaa.1"]]);
  page.client.close();
  server.publish({ text: 2 });
  const next = new Page(world.newTab(), { storage });
  await clock.advance(10);
  assert.deepEqual(next.events, [2]);
});

test("cursor that the page was rendered with counts more than a stored one", async () => {
  const storage = new Memory();
  storage.setItem("orgrealtime.cursor acme ", "aaaa.0");
  const { clock, page } = onePage({ storage, since: "aaaa.3" });
  await clock.advance(2);
  assert.equal(page.socket.since, "aaaa.3");
});

test("stored cursor is one organisation's and one user's", async () => {
  const storage = new Memory();
  const { clock, server } = onePage({ storage, shareKey: 7 });
  server.publish({ text: 1 });
  await clock.advance(10);
  assert.deepEqual([...storage.items.keys()], ["orgrealtime.cursor acme 7"]);
});

test("storage that fails is reported and disturbs nothing", async () => {
  const full = new Error("QuotaExceededError");
  const storage = {
    getItem: () => null,
    setItem: () => {
      throw full;
    },
  };
  const { clock, server, page } = onePage({ storage });
  server.publish({ text: 1 });
  await clock.advance(10);
  assert.deepEqual(page.events, [1]);
  assert.ok(page.errors.includes(full));
});

// The newest events

test("newest events are loaded oldest first, and neither cursor nor handlers notice", async () => {
  const { clock, server, page } = onePage({ since: "aaaa.3" });
  for (const text of ["one", "two", "three"]) server.publish({ text });
  await clock.advance(10);
  const recent = page.client.recent(2);
  await clock.advance(10);
  assert.deepEqual(
    (await recent).map(({ text, cursor }) => [text, cursor]),
    [
      ["two", "aaaa.2"],
      ["three", "aaaa.3"],
    ],
  );
  assert.deepEqual(page.events, []);
  assert.equal(page.client.cursor, "aaaa.3");
  const { url } = server.requests.find(({ kind }) => kind === "catch-up");
  assert.equal(url, "https://example.org/orgs/acme/notifications/?limit=2");
});

test("fifty of the newest events are loaded if no number is given", async () => {
  const { clock, server, page } = onePage({ catchUpUrl: "/missed/" });
  for (let n = 1; n <= 60; n++) server.publish({ n });
  const recent = page.client.recent();
  await clock.advance(10);
  const numbers = (await recent).map(({ n }) => n);
  assert.deepEqual([numbers.length, numbers[0], numbers.at(-1)], [50, 11, 60]);
  assert.ok(server.requests.some(({ url }) => url === "https://example.org/missed/?limit=50"));
});

test("newest events are loaded while there is no connection, and after the client's end", async () => {
  const { clock, server, page } = onePage({ since: "aaaa.1" });
  server.publish({ text: "one" });
  const early = page.client.recent(1);
  page.client.close();
  const late = page.client.recent(1);
  await clock.advance(10);
  for (const events of [await early, await late]) assert.equal(events[0].text, "one");
});

for (const [why, happens, code, message] of [
  ["is refused", ({ server }) => Object.assign(server, { refusal: 401 }), 4401, /4401 unauthenticated/],
  ["is overloaded", ({ server }) => Object.assign(server, { refusal: 503 }), 4503, /4503 overloaded/],
  ["isn't there", ({ server }) => Object.assign(server, { isDown: true }), undefined, /wasn't reached/],
  ["doesn't answer", ({ server }) => Object.assign(server, { isSilent: true }), undefined, /wasn't reached/],
  ["is a proxy's page", ({ server }) => Object.assign(server.pages, { "catch-up": 503 }), undefined, /wasn't reached/],
]) {
  test(`promise of the newest events is rejected if the view ${why}`, async () => {
    const rig = onePage();
    await rig.clock.advance(10);
    happens(rig);
    const refused = assert.rejects(rig.page.client.recent(), (error) => {
      assert.ok(error instanceof Error);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    });
    await rig.clock.advance(20_001);
    await refused;
    rig.page.client.close();
  });
}
