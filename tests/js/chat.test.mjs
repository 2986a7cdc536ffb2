import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { seeded } from "./fakes.mjs";
import { Hall, live, ME, openRoom, pass, RoomPage } from "./rooms.mjs";

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

const THREE = [
  [8, "one"],
  [ME, "two"],
  [8, "three"],
];
const many = (count) => Array.from({ length: count }, (_, n) => [8, `m${n}`]);

// History and stream

test("history comes first, and what is said then behind it", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  hall.say(8, "four");
  await live(world);
  assert.deepEqual(page.bodies, ["one", "two", "three", "four"]);
  assert.deepEqual(page.arrived, ["four"]);
  assert.deepEqual(page.shown, hall.shown);
});

test("the room's own client begins where the history ends", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  assert.deepEqual(
    world.server.requests.map(({ url }) => new URL(url).searchParams.get("since")),
    ["aaaa.3"],
  );
  assert.equal(page.room.id, 3);
  assert.equal(hall.requests.length, 1);
});

test("a room in which nothing was said", async () => {
  const { world, hall, page } = await openRoom();
  assert.deepEqual(page.bodies, []);
  assert.equal(page.room.hasOlder, false);
  hall.say(8, "first");
  await live(world);
  assert.deepEqual(page.bodies, ["first"]);
});

test("what happens in other rooms, and elsewhere, is nothing to this one", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  world.server.publish({ type: "chat.message", room: 4, message_id: 900, body: "elsewhere", version: 1, actor: 8 });
  world.server.publish({ type: "note", room: 3, message_id: 901, body: "no message" });
  hall.publish({ type: "chat.mention", message_id: 100, body: "one", by: 8 });
  await live(world);
  assert.deepEqual(page.bodies, ["one", "two", "three"]);
});

test("what is said while the history is on its way is there once, and in order", async () => {
  const { world, hall, page } = await openRoom({ said: THREE, isGiven: true, since: "aaaa.0" });
  const letGo = hall.hold();
  page.room.load();
  hall.say(8, "not in the page");
  await live(world);
  const other = new RoomPage(hall, { isGiven: true, since: "aaaa.4" }); // asks now, and has it in its page
  hall.say(8, "in no page");
  await live(world);
  await letGo();
  await live(world);
  const all = ["one", "two", "three", "not in the page", "in no page"];
  assert.deepEqual(page.bodies, all);
  assert.deepEqual(other.bodies, all);
});

test("a client that still catches up brings nothing that is older than the history", async () => {
  const { page } = await openRoom({ said: many(60), isGiven: true, since: "aaaa.0" });
  assert.deepEqual(
    page.bodies,
    many(60)
      .slice(-20)
      .map(([, body]) => body),
  );
  await page.room.loadOlder();
  assert.equal(page.bodies[0], "m20");
  assert.equal(new Set(page.bodies).size, 40);
});

test("a client without a position is waited for, so that nothing falls between", async () => {
  localStorage.clear();
  const world = new (await import("./fakes.mjs")).World();
  const hall = new Hall(world);
  hall.say(8, "before");
  const page = new RoomPage(hall, { isGiven: true, since: null });
  assert.equal(hall.requests.length, 0);
  await live(world);
  hall.say(8, "after");
  await live(world);
  assert.deepEqual(page.bodies, ["before", "after"]);
});

test("older messages are loaded page by page, to the first", async () => {
  const { hall, page } = await openRoom({ said: many(50) });
  for (const [first, hasOlder] of [
    ["m30", true],
    ["m10", true],
    ["m0", false],
  ]) {
    assert.equal(page.bodies[0], first);
    assert.equal(page.room.hasOlder, hasOlder);
    await page.room.loadOlder();
  }
  assert.deepEqual(page.shown, hall.shown);
  assert.equal(hall.requests.length, 3);
});

test("what changes while an older page is on its way isn't lost", async () => {
  const { world, hall, page } = await openRoom({ said: many(30) });
  const letGo = hall.hold();
  const loading = page.room.loadOlder();
  await live(world);
  hall.edit(hall.messages[3], "changed");
  hall.delete(hall.messages[4]);
  hall.react(8, hall.messages[5], "👍");
  hall.say(8, "new");
  await live(world);
  assert.equal(page.bodies.at(-1), "new");
  await letGo();
  await loading;
  assert.deepEqual(page.shown, hall.shown);
});

test("a reset has the history fetched anew", async () => {
  const { world, hall, page } = await openRoom({ said: many(30) });
  page.tab.goOffline();
  await live(world);
  for (const [author, body] of many(60)) hall.say(author, `later ${body}`);
  hall.edit(hall.messages[80], "edited while away");
  world.server.log.prune();
  page.tab.goOnline();
  await live(world);
  assert.deepEqual(page.shown, hall.shown.slice(-20));
});

test("history that can't be had now is asked for again; one that may not be had isn't", async () => {
  localStorage.clear();
  const world = new (await import("./fakes.mjs")).World();
  const hall = new Hall(world);
  hall.say(8, "hello");
  hall.isUnreachable = true;
  const page = new RoomPage(hall);
  await live(world);
  assert.equal(page.room.problem.code, "unavailable");
  hall.isUnreachable = false;
  await pass(world, 20_000);
  assert.deepEqual(page.bodies, ["hello"]);
  assert.equal(page.room.problem, null);
  hall.refusal = [403, { code: "forbidden", message: "no" }];
  await page.room.load();
  const before = hall.requests.length;
  await pass(world, 100_000);
  assert.equal(hall.requests.length, before);
  assert.equal(page.room.problem.code, "forbidden");
  assert.deepEqual(page.bodies, []);
});

// Changes

test("edits, deletions and reactions are applied, and none of an older version", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  const [one, two, three] = hall.messages;
  hall.edit(one, "uno");
  hall.delete(two);
  hall.react(8, three, "👍");
  hall.react(ME, three, "👍");
  hall.react(9, three, "🎉");
  hall.react(9, three, "🎉", false);
  await live(world);
  assert.deepEqual(page.shown, hall.shown);
  hall.publish({ type: "chat.edited", message_id: one.message_id, body: "stale", version: 1 });
  hall.publish({ type: "chat.edited", message_id: two.message_id, body: "back", version: 9 });
  await live(world);
  assert.deepEqual(page.shown, hall.shown);
});

test("what was edited and deleted while the page was away", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  page.tab.goOffline();
  await live(world);
  hall.edit(hall.messages[0], "uno");
  hall.delete(hall.messages[2]);
  hall.delete(hall.say(8, "said and gone"));
  hall.edit(hall.say(8, "sayd"), "said");
  page.tab.goOnline();
  await live(world);
  assert.deepEqual(page.shown, hall.shown);
});

test("a reaction that history has counted isn't counted twice", async () => {
  const { world, hall, page } = await openRoom({ said: THREE, isGiven: true, since: "aaaa.3" });
  hall.react(8, hall.messages[0], "👍");
  await live(world);
  await page.room.load();
  hall.publish({ type: "chat.reaction", message_id: 100, user: 8, emoji: "👍", on: true });
  await live(world);
  assert.deepEqual(page.room.messages[0].reactions[0].count, 1);
});

test("one of those who aren't named takes a reaction away", async () => {
  const { world, hall, page } = await openRoom();
  const message = hall.say(8, "liked by many");
  message.reactions = [{ emoji: "👍", count: 60, mine: false, users: [1, 2] }];
  await page.room.load();
  hall.publish({ type: "chat.reaction", message_id: 100, user: 50, emoji: "👍", on: false });
  hall.publish({ type: "chat.reaction", message_id: 100, user: 2, emoji: "👍", on: false });
  hall.publish({ type: "chat.reaction", message_id: 100, user: ME, emoji: "👍", on: true });
  await live(world);
  const [{ count, mine, users }] = page.room.messages[0].reactions;
  assert.deepEqual([count, mine, users], [59, true, [1, ME]]);
});

test("editing, deleting and reacting go over HTTP, with the CSRF token", async () => {
  const { hall, page } = await openRoom({ said: THREE });
  const [, message] = page.room.messages;
  await page.room.edit(message, "zwei");
  await page.room.react(message, "👍", true).catch(() => {});
  await page.room.react(message, "👍", false);
  await page.room.delete(message);
  const path = "/orgs/acme/rooms/general/messages/101/";
  assert.deepEqual(
    hall.requests.slice(1).map((each) => `${each.method} ${each.path}`),
    [`PATCH ${path}`, `POST ${path}reactions/`, `DELETE ${path}reactions/?emoji=%F0%9F%91%8D`, `DELETE ${path}`],
  );
  assert.deepEqual(JSON.parse(hall.requests[1].body), { body: "zwei", version: 1 });
  for (const { headers } of hall.requests.slice(1)) assert.equal(headers["X-CSRFToken"], "token");
});

test("a conflict is told with what the message says now", async () => {
  const { hall, page } = await openRoom({ said: THREE });
  hall.refusal = [409, { code: "conflict", version: 3, body: "tre" }];
  await assert.rejects(page.room.edit(page.room.messages[2], "drei"), { code: "conflict", version: 3, body: "tre" });
});

// Own messages

test("a message is pending until its event comes", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  page.room.send("four");
  assert.deepEqual(page.waiting, ["four: pending"]);
  await live(world);
  assert.deepEqual(page.waiting, []);
  assert.deepEqual(page.bodies, ["one", "two", "three", "four"]);
  assert.deepEqual(page.arrived, []);
  assert.equal(hall.requests.length, 1); // by the socket
});

test("messages typed offline wait, and are sent once and in order when the page is back", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  page.tab.goOffline();
  await live(world);
  for (const body of ["a", "b", "c"]) page.room.send(body);
  await live(world);
  assert.deepEqual(page.waiting, ["a: pending", "b: pending", "c: pending"]);
  hall.say(8, "meanwhile");
  page.tab.goOnline();
  await live(world);
  assert.deepEqual(page.bodies, ["one", "two", "three", "meanwhile", "a", "b", "c"]);
  assert.deepEqual(page.shown, hall.shown);
  assert.deepEqual(page.waiting, []);
});

test("a message whose answer is lost is said once", async () => {
  const { world, hall, page } = await openRoom();
  hall.isMute = true;
  world.server.publish = (members, options) => world.server.log.append(members, options); // nothing comes any more
  page.room.send("once");
  await live(world);
  assert.deepEqual(page.waiting, ["once: pending"]);
  delete world.server.publish;
  hall.isMute = false;
  world.server.closeAll(1006);
  await live(world);
  await pass(world, 2_000);
  assert.deepEqual(page.bodies, ["once"]);
  assert.deepEqual(page.waiting, []);
  assert.equal(hall.messages.length, 1);
});

test("a socket that never answers: the message goes over HTTP, under the same id", async () => {
  const { world, hall, page } = await openRoom();
  hall.isMute = true;
  world.server.publish = (members, options) => world.server.log.append(members, options);
  page.room.send("once");
  await live(world);
  delete world.server.publish;
  mock.timers.tick(10_000);
  await live(world);
  assert.equal(hall.requests.at(-1).method, "POST");
  assert.equal(hall.messages.length, 1);
  assert.deepEqual(page.waiting, []);
});

test("without a WebSocket messages go over HTTP", async () => {
  const { world, hall, page } = await openRoom();
  world.server.socketsBlocked = true;
  world.server.closeAll(1006);
  for (let turn = 0; turn < 40; turn++) await pass(world, 1_000);
  assert.equal(page.room.client.state.transport, "sse");
  page.room.send("over HTTP");
  await pass(world, 10);
  assert.equal(hall.requests.at(-1).method, "POST");
  await live(world);
  assert.deepEqual(page.bodies, ["over HTTP"]);
  assert.deepEqual(page.waiting, []);
});

test("what is refused for good has failed, the next is sent, and the user may try again or give up", async () => {
  const { world, hall, page } = await openRoom();
  hall.refusal = [413, { code: "too_long", message: "too long", limit: 10 }];
  page.room.send("x".repeat(11));
  page.room.send("y".repeat(11));
  await live(world);
  assert.deepEqual(page.waiting, ["xxxxxxxxxxx: failed", "yyyyyyyyyyy: failed"]);
  assert.equal(page.room.limit, 10);
  hall.refusal = null;
  page.room.send("z");
  await live(world);
  assert.deepEqual(page.bodies, ["z"]);
  const [first, second] = page.room.outbox;
  page.room.discard(second);
  page.room.retry(first);
  await live(world);
  assert.deepEqual(page.bodies, ["z", "xxxxxxxxxxx"]);
  assert.deepEqual(page.waiting, []);
});

test("one message too many waits as long as the server says, and what is typed meanwhile behind it", async () => {
  const { world, hall, page } = await openRoom();
  hall.refusal = [429, { code: "rate_limited", message: "slower", limit: 30, retry_after_ms: 12_000 }];
  page.room.send("31st");
  await live(world);
  assert.equal(page.room.outbox[0].error.retry_after_ms, 12_000);
  page.room.send("32nd");
  hall.refusal = null;
  mock.timers.tick(11_000);
  await live(world);
  assert.deepEqual(page.waiting, ["31st: pending", "32nd: pending"]);
  mock.timers.tick(1_000);
  await live(world);
  assert.deepEqual(page.bodies, ["31st", "32nd"]);
});

test("what waits survives a reload of the page, and is sent once; another user's page doesn't have it", async () => {
  const { world, hall, page } = await openRoom();
  page.tab.goOffline();
  await live(world);
  page.room.send("still to be said");
  page.room.close();
  const other = new RoomPage(hall, { room: { user: 9, client: () => page.room.client } });
  assert.deepEqual(other.waiting, []);
  other.room.close();
  const again = new RoomPage(hall);
  assert.deepEqual(again.waiting, ["still to be said: pending"]);
  await live(world);
  assert.deepEqual(again.bodies, ["still to be said"]);
  assert.doesNotMatch(sessionStorage.text, /still/);
});

test("another login: nothing of the first user's is left, and none of it is sent", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  page.tab.goOffline();
  await live(world);
  page.room.send("in the first user's name");
  world.server.user = { id: 9 };
  hall.refusal = [403, { code: "forbidden", message: "no" }];
  page.tab.goOnline();
  await live(world);
  assert.deepEqual(page.bodies, []);
  assert.deepEqual(page.waiting, []);
  assert.equal(page.room.user, 9);
  assert.doesNotMatch(sessionStorage.text, /first user/);
  assert.equal(hall.messages.length, 3);
});

// Who is there

test("who is put out of the room sees nothing of it any more; who is let in again does", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  hall.refusal = [403, { code: "forbidden", message: "no" }];
  hall.publish({ type: "chat.left", users: [8] });
  await live(world);
  assert.equal(page.bodies.length, 3);
  hall.publish({ type: "chat.left", users: [ME] });
  await live(world);
  assert.deepEqual(page.bodies, []);
  assert.equal(page.room.problem.code, "forbidden");
  hall.refusal = null;
  hall.publish({ type: "chat.joined", users: [8, ME], role: "member" });
  await live(world);
  assert.deepEqual(page.bodies, ["one", "two", "three"]);
});

test("the room tells that it is archived", async () => {
  const { world, hall, page } = await openRoom();
  hall.publish({ type: "chat.room", name: "General", archived: true, version: 2 });
  await live(world);
  assert.equal(page.room.info.archived, true);
});

test("others who type are shown for a while, and oneself never", async () => {
  const { world, page } = await openRoom();
  const [connection] = world.server.connections;
  assert.ok(connection.received.some(({ type, room }) => type === "watch" && room === 3));
  connection.send({ type: "chat.typing", room: 3, users: [8, ME], count: 7 });
  connection.send({ type: "chat.typing", room: 4, users: [9], count: 1 });
  await live(world);
  assert.deepEqual(page.room.typing, [8]);
  assert.equal(page.room.typingCount, 6);
  mock.timers.tick(8_000);
  assert.deepEqual(page.room.typing, []);
  assert.equal(page.room.typingCount, 0);
});

test("that one types is told once in three seconds; whoever leaves watches no more", async () => {
  const { world, page } = await openRoom();
  const [connection] = world.server.connections;
  const count = (wanted) => connection.received.filter(({ type }) => type === wanted).length;
  mock.timers.reset();
  mock.timers.enable({ apis: ["Date", "setTimeout"], now: 1_000_000 });
  for (let times = 0; times < 5; times++) page.room.type();
  assert.equal(count("chat.typing"), 1);
  mock.timers.tick(3_000);
  page.room.type();
  assert.equal(count("chat.typing"), 2);
  page.room.close();
  assert.equal(count("unwatch"), 1);
});

// What is new

test("the line stands above the first message of others that came while nobody looked", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  const { room } = page;
  room.isWatched = true;
  hall.say(8, "seen at once");
  await live(world);
  assert.equal(room.firstNew, undefined);
  room.isWatched = false;
  room.send("from another window");
  const first = hall.say(8, "four");
  hall.say(8, "five");
  await live(world);
  assert.equal(room.firstNew, first.message_id);
  assert.equal(room.unread, 2);
  room.isWatched = true; // the line stays as long as one reads
  hall.say(8, "six");
  await live(world);
  assert.equal(room.firstNew, first.message_id);
  assert.equal(room.unread, 0);
  room.isWatched = false;
  assert.equal(room.firstNew, undefined);
});

test("what was seen is known after a reload", async () => {
  const { world, hall, page } = await openRoom({ said: THREE });
  assert.equal(page.room.unread, 0); // a first visit
  page.room.isWatched = true;
  await live(world);
  page.room.isWatched = false;
  page.room.close();
  const { message_id } = hall.say(8, "four");
  const again = new RoomPage(hall);
  await live(world);
  assert.equal(again.room.unread, 1);
  assert.equal(again.room.firstNew, message_id);
});

// All of it together

for (let seed = 1; seed <= 60; seed++) {
  test(`whatever happens, in whatever order, the page shows what the server has (${seed})`, async () => {
    const random = seeded(seed);
    const pick = (items) => items[Math.floor(random() * items.length)];
    const left = () => pick(hall.messages.filter(({ deleted }) => !deleted));
    const { world, hall, page } = await openRoom({ said: many(35), isGiven: random() < 0.5, since: "aaaa.0" });
    world.latency = () => Math.floor(random() * 30);
    let typed = 0;
    const acts = [
      () => hall.say(8, `said ${hall.messages.length}`),
      () => hall.edit(left(), `edited ${random()}`),
      () => hall.delete(left()),
      () => hall.react(pick([8, 9, ME]), left(), pick(["👍", "🎉"]), random() < 0.6),
      () => page.room.send(`typed ${typed++}`),
      () => page.room.loadOlder(),
      () => page.room.load(),
      () => page.tab.goOffline(),
      () => page.tab.goOnline(),
      () => world.server.closeAll(pick([1001, 1006, 4408])),
      () => world.clock.advance(random() * 100),
      () => mock.timers.tick(random() * 5_000),
    ];
    for (let step = 0; step < 80; step++) {
      pick(acts)();
      if (random() < 0.3) await world.clock.advance(random() * 40);
    }
    page.tab.goOnline();
    for (let turn = 0; turn < 8; turn++) await pass(world, 10_000);
    while (page.room.hasOlder) await page.room.loadOlder();
    assert.deepEqual(page.waiting, []);
    assert.deepEqual(page.shown, hall.shown);
    const own = page.room.messages.filter(({ client_message_id }) => client_message_id);
    assert.equal(own.length, typed);
  });
}
