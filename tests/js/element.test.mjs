import assert from "node:assert/strict";
import { register } from "node:module";
import { afterEach, beforeEach, test } from "node:test";

import { nextFrame } from "./dom.mjs";
import { World } from "./fakes.mjs";
import { Page } from "./support.mjs";

const { OrgNotifications, describe, safeUrl } = await import(
  "../../src/orgrealtime/static/orgrealtime/notifications.js"
);

const event = (members = {}) => ({
  type: "note",
  cursor: "aaaa.1",
  created_at: "2026-11-23T08:57:00Z",
  actor: null,
  ...members,
});

const NO_ANSWER = new Error("The newest events can't be loaded");

/** A client that does what the test says. */
class FakeClient {
  /** What `recent` answers, or why it can't; the same for all clients of a test. */
  static events = NO_ANSWER;
  static limits = [];
  state = { name: "live", transport: "websocket" };
  handlers = { event: new Set(), reset: new Set(), state: new Set(), user: new Set() };
  isClosed = false;

  on(kind, handler) {
    this.handlers[kind].add(handler);
    return () => this.handlers[kind].delete(handler);
  }

  async recent(limit) {
    FakeClient.limits.push(limit);
    if (FakeClient.events === NO_ANSWER) throw NO_ANSWER;
    return structuredClone(FakeClient.events);
  }

  close() {
    this.isClosed = true;
  }

  emit(kind, value) {
    return [...this.handlers[kind]].map((handler) => handler(value));
  }

  event(members) {
    this.emit("event", event(members));
  }
}

let element, client, root;

const part = (name) => {
  nextFrame();
  return root.part(name);
};
const items = () => part("list").children;
const text = (item) => (item.part("link") ?? item.part("text")).textContent;
const lines = () => items().map(text);
const click = (node) => node.fire(new Event("click", { bubbles: true, composed: true }));
const press = (node, key) => node.fire(Object.assign(new Event("keydown", { bubbles: true, composed: true }), { key }));

function newElement(attributes = { org: "acme" }) {
  const made = new OrgNotifications();
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Have clients say what the newest events are; returns how many each call of `recent` asks for. */
function recentEvents(...events) {
  FakeClient.events = events;
  FakeClient.limits = [];
  return FakeClient.limits;
}

const settled = () => new Promise((resolve) => setTimeout(resolve));
/** Until what has changed is in the storage, though something was written a moment ago. */
const saved = () => new Promise((resolve) => setTimeout(resolve, 300));

/** Wait for something that comes at no certain time, as a module does. */
async function until(condition) {
  for (let times = 0; times < 5_000; times++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, times && 2));
  }
  assert.fail(`this never comes true: ${condition}`);
}

/** Turn to a bell, so that it loads its list. */
async function turnTo(made) {
  made.shadowRoot.part("button").fire(new Event("pointerenter"));
  await until(() => made.shadowRoot.part("list"));
}

beforeEach(async () => {
  localStorage.clear();
  localStorage.reads = localStorage.writes = 0;
  localStorage.isForbidden = localStorage.isFull = false;
  FakeClient.events = NO_ANSWER;
  element = newElement();
  client = new FakeClient();
  element.client = client;
  document.body.append(element);
  root = element.shadowRoot;
  await turnTo(element);
});

afterEach(() => document.body.replaceChildren());

// Links

for (const url of [
  "/exports/7/",
  "/",
  "/a?b=c#d",
  "https://example.org/x",
  "HTTPS://example.org/x",
  "/a:b",
  "/%5cevil",
]) {
  test(`${url} is a safe link`, () => assert.equal(safeUrl(url), url));
}

for (const url of [
  "//evil.org/",
  "/\\evil.org",
  "\\\\evil.org",
  "/\t/evil.org",
  "/\n/evil.org",
  "\t//evil.org",
  " //evil.org",
  "",
  "exports/7/",
  "javascript:alert(1)",
  "JavaScript:alert(1)",
  " javascript:alert(1)",
  "java\nscript:alert(1)",
  "\u0001javascript:alert(1)",
  "data:text/html,x",
  "vbscript:x",
  "http://example.org/",
  "https://evil.org/",
  "https://example.org.evil.org/",
  "https://example.org:444/",
  "https://example.org@evil.org/",
  "https://user@example.org/",
  "https:/\\evil.org",
  "https:evil.org",
  "https://example.org\\@evil.org",
  "/\u0085/evil.org",
  "https://",
  null,
  7,
  {},
  undefined,
]) {
  test(`${JSON.stringify(url)} is no safe link`, () => assert.equal(safeUrl(url), undefined));
}

// What a line says

for (const [members, text] of [
  [{ text: "hello" }, "hello"],
  [{ message: "hello" }, "hello"],
  [{ text: 7, message: "hello" }, "hello"],
  [{ text: "  " }, "Note"],
  [{ type: "task_event" }, "Task event"],
  [{ type: "export.done:now" }, "Export done now"],
]) {
  test(`${JSON.stringify(members)} reads "${text}"`, () => assert.equal(describe(event(members)).text, text));
}

test("first safe link of the payload is taken", () => {
  const members = { other: "/no/", icon_url: "javascript:alert(1)", download_url: "/exports/7/", url: "//evil.org" };
  assert.equal(describe(event(members)).url, "/exports/7/");
  assert.equal(describe(event({ curl: "/x/" })).url, undefined);
});

test("line shows text and link as they are", () => {
  client.event({ text: "<img src=x onerror=alert(1)>", url: "/exports/7/" });
  const link = part("link");
  assert.equal(link.textContent, "<img src=x onerror=alert(1)>");
  assert.equal(link.getAttribute("href"), "/exports/7/");
  assert.equal(link.children.length, 0);
});

test("line without a safe link is text, also with a format of the page's own", () => {
  element.format = () => ({ text: "click", url: "javascript:alert(1)" });
  client.event();
  assert.equal(part("link"), null);
  assert.equal(part("text").textContent, "click");
});

test("page says how events read, and which don't appear", () => {
  element.format = ({ task_id }) => (task_id ? { text: `Task ${task_id}` } : null);
  client.event({ cursor: "a.1", task_id: 7 });
  client.event({ cursor: "a.2" });
  assert.deepEqual(lines(), ["Task 7"]);
  assert.equal(element.unread, 1);
});

test("newest line comes first, and old ones go", () => {
  for (let n = 1; n <= 60; n++) client.event({ cursor: `a.${n}`, text: `${n}` });
  assert.equal(lines().length, 50);
  assert.equal(lines()[0], "60");
});

test("line tells when", () => {
  client.event();
  assert.equal(part("time").getAttribute("datetime"), "2026-11-23T08:57:00Z");
  client.event({ cursor: "a.2", created_at: "rubbish", text: "no time" });
  nextFrame();
  assert.equal(items()[0].part("time"), null);
});

// Counting

test("button says how many are unread", () => {
  assert.equal(part("button").getAttribute("aria-label"), "Notifications");
  assert.equal(part("count").hidden, true);
  for (const n of [1, 2, 3]) client.event({ cursor: `a.${n}` });
  assert.equal(part("button").getAttribute("aria-label"), "Notifications, 3 unread");
  assert.equal(part("count").textContent, "3");
  assert.equal(part("count").hidden, false);
});

test("badge stays small", () => {
  for (let n = 0; n < 120; n++) client.event({ cursor: `a.${n}` });
  assert.equal(part("count").textContent, "99+");
  assert.equal(part("button").getAttribute("aria-label"), "Notifications, 99+ unread");
});

const unreadLines = () => {
  nextFrame();
  return items()
    .filter((item) => item.getAttribute("part") === "item unread")
    .map(text);
};

test("opening takes the number from the bell, and the lines stay marked until somebody has dealt with them", () => {
  for (const n of [1, 2, 3]) client.event({ cursor: `a.${n}`, text: `${n}`, url: "/x/" });
  click(part("button"));
  assert.equal(element.unread, 0);
  assert.equal(part("count").hidden, true);
  click(part("button"));
  assert.deepEqual(unreadLines(), ["3", "2", "1"]);
  click(part("button"));
  click(items()[0].part("dot"));
  assert.deepEqual(unreadLines(), ["2", "1"]);
  assert.equal(document.activeElement, part("list"));
  click(items()[1].part("link"));
  assert.deepEqual(unreadLines(), ["1"]);
  client.event({ cursor: "a.4", text: "4" });
  assert.deepEqual(unreadLines(), ["4", "1"]);
  assert.equal(element.unread, 0);
});

test("button marks all as read, also those that came meanwhile, and is there only if something is unread", () => {
  assert.equal(part("action").hidden, true);
  client.event();
  click(part("button"));
  assert.equal(part("action").hidden, false);
  assert.equal(part("action").textContent, "Mark all as read");
  client.event({ cursor: "a.2" });
  click(part("action"));
  assert.deepEqual(unreadLines(), []);
  assert.equal(part("action").hidden, true);
  assert.equal(document.activeElement, part("list"));
});

test("what was marked as read in one tab is read in the others, and what one has seen is new in none", async () => {
  const other = inAnotherTab();
  for (const each of [client, other.client]) for (const n of [1, 2]) each.event({ cursor: `a.${n}`, text: `${n}` });
  element.open = true;
  await saved();
  assert.equal(other.unread, 0);
  const [key] = localStorage.keys();
  globalThis.dispatchEvent(Object.assign(new Event("storage"), { key }));
  nextFrame();
  assert.equal(other.shadowRoot.part("count").hidden, true);
  click(items()[0].part("dot"));
  await saved();
  globalThis.dispatchEvent(Object.assign(new Event("storage"), { key }));
  await turnTo(other);
  root = other.shadowRoot;
  assert.deepEqual(unreadLines(), ["1"]);
});

test("what comes while the list is open is read", () => {
  click(part("button"));
  client.event();
  assert.equal(element.unread, 0);
});

test("count outlives the page, and is one organisation's and one user's", async () => {
  client.event();
  await settled();
  const counts = [{ org: "acme" }, { org: "umbrella" }, { org: "acme", "share-key": "7" }].map((attributes) => {
    const other = newElement(attributes);
    other.client = new FakeClient();
    document.body.append(other);
    return other.unread;
  });
  assert.deepEqual(counts, [1, 0, 0]);
});

/** An element of another tab: it has nothing in common with the first but the storage. */
function inAnotherTab() {
  const other = newElement();
  other.client = new FakeClient();
  document.body.append(other);
  return other;
}

for (const [how, between] of [
  ["one after the other", () => saved()],
  ["at the same time", () => {}],
]) {
  test(`event that two tabs get ${how} counts once, also after it was read`, async () => {
    const other = inAnotherTab();
    client.event({ cursor: "a.1" });
    await between();
    other.client.event({ cursor: "a.1" });
    await settled();
    assert.deepEqual([element.unread, other.unread], [1, 1]);
    client.event({ cursor: "a.2" });
    element.markRead();
    await between();
    other.client.event({ cursor: "a.2" });
    await saved();
    assert.deepEqual([element.unread, other.unread], [0, 0]);
    nextFrame();
    assert.equal(other.shadowRoot.part("count").hidden, true);
  });

  test(`events that only one of two tabs gets ${how} count too`, async () => {
    const other = inAnotherTab();
    client.event({ cursor: "a.1" });
    await between();
    other.client.event({ cursor: "a.2" });
    await settled();
    assert.deepEqual([element.unread, other.unread], [2, 2]);
    nextFrame();
    assert.equal(other.shadowRoot.part("count").textContent, "2");
  });
}

test("many events at a time are counted with one look into the storage and one entry", () => {
  for (let n = 1; n <= 3000; n++) client.event({ cursor: `a.${n}` });
  assert.ok(localStorage.reads < 10, `${localStorage.reads} reads`);
  assert.equal(localStorage.writes, 0);
  assert.equal(element.unread, 600);
  element.remove();
  assert.equal(localStorage.writes, 1);
  assert.equal(element.unread, 600);
});

test("storage is written a few times a second at most, however many turns the events take", async () => {
  for (let n = 1; n <= 40; n++) {
    client.event({ cursor: `a.${n}` });
    await settled();
  }
  assert.ok(localStorage.writes <= 2, `${localStorage.writes} writes`);
  await saved();
  assert.equal(inAnotherTab().unread, 40);
});

test("many events at a time are read with one entry while the list is open", async () => {
  click(part("button"));
  for (let n = 1; n <= 100; n++) client.event({ cursor: `a.${n}` });
  assert.equal(element.unread, 0);
  await settled();
  assert.equal(localStorage.writes, 1);
  assert.equal(inAnotherTab().unread, 0);
});

for (const [how, end] of [
  ["taken away", () => element.remove()],
  ["given another organisation", () => element.setAttribute("org", "umbrella")],
  ["part of a page that is left", () => globalThis.dispatchEvent(new Event("pagehide"))],
]) {
  test(`what an element that is ${how} at once has counted is kept`, () => {
    client.event();
    end();
    assert.equal(inAnotherTab().unread, 1);
  });
}

test("what another tab has read meanwhile isn't unread again", async () => {
  client.event({ cursor: "a.1" });
  await settled();
  client.event({ cursor: "a.2" });
  const [key] = localStorage.keys();
  localStorage.setItem(key, JSON.stringify([["a.1", 2]]));
  await saved();
  assert.equal(element.unread, 1);
  assert.equal(part("count").textContent, "1");
});

test("event that is in the list isn't listed again", () => {
  for (let n = 1; n <= 51; n++) client.event({ cursor: `a.${n}`, text: `${n}` });
  nextFrame();
  client.event({ cursor: "a.2", text: "again" });
  assert.equal(lines()[0], "51");
  assert.equal(lines().length, 50);
});

test("count follows other tabs", async () => {
  client.event();
  await settled();
  localStorage.clear();
  const [key] = ["orgrealtime.unread acme "];
  localStorage.setItem(
    key,
    JSON.stringify([
      ["a.1", 0],
      ["a.2", 0],
      ["a.3", 1],
      ["a.4", 2],
    ]),
  );
  globalThis.dispatchEvent(Object.assign(new Event("storage"), { key }));
  assert.equal(part("count").textContent, "2");
});

test("page without storage counts for itself", () => {
  localStorage.isForbidden = true;
  client.event({ cursor: "a.1" });
  client.event({ cursor: "a.2" });
  assert.equal(element.unread, 2);
  element.markRead();
  assert.equal(element.unread, 0);
});

test("rubbish in the storage is no obstacle", () => {
  localStorage.setItem("orgrealtime.unread acme ", '{"unread": 7}');
  client.event();
  assert.equal(element.unread, 1);
});

// Loading the list

/** An element that is in the page, with a client, and to which nobody has turned yet. */
function untouched(Element = OrgNotifications) {
  const made = new Element();
  made.setAttribute("org", "untouched");
  made.client = new FakeClient();
  document.body.append(made);
  root = made.shadowRoot;
  return made;
}

test("bell counts, names itself and announces without its list, and asks for nothing", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 10_000 });
  const limits = recentEvents();
  limits.length = 0;
  const made = untouched();
  for (const n of [1, 2]) made.client.event({ cursor: `a.${n}` });
  assert.equal(part("button").getAttribute("aria-label"), "Notifications, 2 unread");
  assert.equal(part("count").textContent, "2");
  t.mock.timers.tick(1);
  assert.equal(part("announcement").textContent, "2 new notifications");
  assert.equal(part("list"), null);
  assert.deepEqual(limits, []);
});

for (const type of ["pointerenter", "focus"]) {
  test(`${type} of the bell loads the list, and what had come before is in it, above what is older`, async () => {
    recentEvents(event({ cursor: "a.1", text: "old" }), event({ cursor: "a.2", text: "one" }));
    const made = untouched();
    for (const [n, text] of ["one", "two"].entries()) made.client.event({ cursor: `a.${n + 2}`, text });
    nextFrame();
    part("button").fire(new Event(type));
    await until(() => part("list"));
    await settled();
    assert.equal(made.open, false);
    assert.equal(made.unread, 2);
    assert.deepEqual(lines(), ["two", "one", "old"]);
    made.open = true;
    assert.equal(made.unread, 0);
    assert.equal(part("panel").hidden, false);
  });
}

test("bell that is opened before its list is there shows it as soon as it is, and counts as new until then", async () => {
  recentEvents();
  const made = untouched();
  made.client.event({ cursor: "a.1", text: "one" });
  click(part("button"));
  assert.equal(part("button").getAttribute("aria-expanded"), "true");
  assert.equal(made.unread, 1);
  made.client.event({ cursor: "a.2", text: "two" });
  assert.equal(made.unread, 2);
  await until(() => part("list"));
  await settled();
  assert.equal(part("panel").isPopover, true);
  assert.equal(made.unread, 0);
  assert.deepEqual(lines(), ["two", "one"]);
});

test("bell that is closed before its list is there stays closed", async () => {
  recentEvents();
  const made = untouched();
  made.client.event();
  click(part("button"));
  click(part("button"));
  await until(() => part("list"));
  await settled();
  assert.equal(made.open, false);
  assert.equal(part("panel").hidden, true);
  assert.equal(made.unread, 1);
  assert.equal(lines().length, 1);
});

test("what is of the first user is in no list that is loaded later", async () => {
  recentEvents();
  const made = untouched();
  made.client.event({ cursor: "a.1", text: "of Alice" });
  nextFrame();
  made.client.emit("user", { user: 8, previous: 7 });
  made.client.event({ cursor: "a.2", text: "of Bob" });
  await turnTo(made);
  assert.deepEqual(lines(), ["of Bob"]);
});

/** Of `notifications.js?failing` the first three attempts to load the list fail. */
const HOOKS = `let attempts = 0;
export async function resolve(name, context, next) {
  const fails = name === "./panel.js" && context.parentURL.endsWith("?failing") && attempts++ < 3;
  if (fails) throw new Error("no network");
  return next(name, context);
}`;

test("list that can't be loaded is told in its place, nothing counts as seen, and the next opening tries again", async (t) => {
  register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);
  const { OrgNotifications: Failing } = await import(
    "../../src/orgrealtime/static/orgrealtime/notifications.js?failing"
  );
  const told = t.mock.method(console, "error", () => {});
  recentEvents();
  const made = untouched(Failing);
  made.client.event({ text: "one" });
  part("button").fire(new Event("pointerenter"));
  await saved();
  assert.equal(told.mock.callCount(), 0);
  assert.equal(part("panel").hidden, true);
  for (const texts of [{}, { unavailable: "Das geht nicht." }]) {
    made.texts = texts;
    click(part("button"));
    await until(() => part("unavailable")?.textContent);
    assert.equal(part("unavailable").getAttribute("role"), "alert");
    assert.match(part("unavailable").textContent, texts.unavailable ? /^Das/ : /can't be loaded/);
    assert.equal(part("panel").isPopover, true);
    assert.equal(made.unread, 1);
    made.client.event({ text: "one" });
    press(part("button"), "Escape");
    assert.equal(part("panel").isPopover, false);
    part("unavailable").remove();
  }
  assert.equal(told.mock.callCount(), 2);
  click(part("button"));
  await until(() => part("list"));
  assert.equal(part("unavailable"), null);
  assert.equal(made.unread, 0);
  assert.deepEqual(lines(), ["one"]);
});

// Opening and closing

test("button opens and closes the list and says so", () => {
  const button = part("button");
  assert.equal(button.getAttribute("aria-controls"), part("panel").getAttribute("id"));
  assert.equal(button.getAttribute("aria-expanded"), "false");
  click(button);
  assert.equal(button.getAttribute("aria-expanded"), "true");
  assert.equal(part("panel").hidden, false);
  click(button);
  assert.equal(button.getAttribute("aria-expanded"), "false");
  assert.equal(part("panel").hidden, true);
});

for (const [where, rectangle, places] of [
  ["below the bell, its right edge under the bell's", {}, { left: 648, top: 54, bottom: "auto", room: 738 }],
  ["to the right where there is no room on the left", { left: 20, right: 60 }, { left: 20 }],
  ["inside of a narrow window", { left: 1200, right: 1276 }, { left: 920 }],
  ["above a bell at the foot of the page", { top: 700, bottom: 740 }, { top: "auto", bottom: 104, room: 688 }],
  ["below a bell that has little room on either side", { top: 100, bottom: 140 }, { top: 144, bottom: "auto" }],
]) {
  test(`list opens ${where}, and never leaves the window`, () => {
    part("button").rectangle = rectangle;
    click(part("button"));
    const { styles } = part("panel");
    for (const [name, value] of Object.entries(places)) {
      assert.equal(styles.get(`--_${name}`), typeof value === "number" ? `${value}px` : value, name);
    }
  });
}

test("list moves with its bell while it is open", () => {
  click(part("button"));
  part("button").rectangle = { top: 30, bottom: 70 };
  globalThis.dispatchEvent(new Event("scroll"));
  assert.equal(part("panel").styles.get("--_top"), "74px");
  click(part("button"));
  part("button").rectangle = {};
  globalThis.dispatchEvent(new Event("resize"));
  assert.equal(part("panel").styles.get("--_top"), "74px");
});

test("list is in the top layer while it is open, and no longer", () => {
  click(part("button"));
  assert.equal(part("panel").isPopover, true);
  click(part("button"));
  assert.equal(part("panel").isPopover, false);
  click(part("button"));
  element.remove();
  assert.equal(part("panel").isPopover, false);
});

test("element that isn't in the page doesn't open", () => {
  const made = newElement();
  made.open = true;
  assert.equal(made.open, false);
});

test("close button closes and returns the focus", () => {
  click(part("button"));
  assert.equal(part("close").getAttribute("aria-label"), "Close");
  click(part("close"));
  assert.equal(element.open, false);
  assert.equal(document.activeElement, part("button"));
});

test("Escape closes and returns the focus", () => {
  client.event({ url: "/x/" });
  click(part("button"));
  part("link").focus();
  press(part("link"), "Escape");
  assert.equal(element.open, false);
  assert.equal(document.activeElement, part("button"));
});

test("Escape is left to others while the list is closed", () => {
  let heard = 0;
  const hear = () => heard++;
  document.addEventListener("keydown", hear);
  press(part("button"), "Escape");
  click(part("button"));
  press(part("button"), "Escape");
  document.removeEventListener("keydown", hear);
  assert.equal(heard, 1);
});

for (const type of ["pointerdown", "focusin"]) {
  test(`${type} elsewhere closes the list, and in it doesn't`, () => {
    click(part("button"));
    part("list").fire(new Event(type, { bubbles: true, composed: true }));
    assert.equal(element.open, true);
    document.body.fire(new Event(type, { bubbles: true, composed: true }));
    assert.equal(element.open, false);
  });
}

test("list of a page that is hidden closes: what comes is unread", () => {
  click(part("button"));
  document.dispatchEvent(new Event("visibilitychange"));
  client.event();
  assert.equal(element.unread, 1);
});

test("empty list says so", () => {
  assert.equal(part("empty").hidden, false);
  client.event();
  assert.equal(part("empty").hidden, true);
  assert.equal(part("list").hidden, false);
});

// Drawing

test("element draws once a frame, however many events come, and creates only the lines that stay", () => {
  const { createElement } = document;
  let created = 0;
  document.createElement = (tag) => {
    if (tag === "li") created++;
    return createElement(tag);
  };
  part("button");
  for (let n = 1; n <= 5000; n++) client.event({ cursor: `a.${n}`, text: `${n}` });
  assert.equal(created, 0);
  assert.equal(nextFrame(), 1);
  document.createElement = createElement;
  assert.equal(created, 50);
  assert.equal(lines()[0], "5000");
  assert.equal(lines().at(-1), "4951");
  assert.equal(nextFrame(), 0);
});

test("page in the background, which has no frames, is drawn all the same", async () => {
  nextFrame();
  document.hidden = true;
  client.event();
  assert.equal(nextFrame(), 0);
  await settled();
  document.hidden = false;
  assert.equal(root.part("count").textContent, "1");
});

test("line has the name of who did it, and its first letter", () => {
  element.format = () => ({ actor: " élise Martin", text: "moved “Badges”" });
  client.event();
  assert.equal(part("avatar").textContent, "É");
  assert.equal(part("avatar").getAttribute("aria-hidden"), "true");
  assert.equal(part("actor").textContent, " élise Martin");
  assert.equal(part("body").children[0].textContent, " élise Martin moved “Badges”");
});

test("line without a name has no avatar, and directions are found by what is written", () => {
  client.event({ text: "مرحبا" });
  assert.equal(part("avatar"), null);
  assert.equal(part("body").children[0].getAttribute("dir"), "auto");
});

// Times

const NOW = Date.parse("2026-11-23T12:00:00Z");

for (const [age, en, de] of [
  [-60, "now", "jetzt"],
  [59, "now", "jetzt"],
  [60, "1 minute ago", "vor 1 Minute"],
  [59 * 60, "59 minutes ago", "vor 59 Minuten"],
  [3 * 3600, "3 hours ago", "vor 3 Stunden"],
  [24 * 3600, "yesterday", "gestern"],
  [6 * 86400, "6 days ago", "vor 6 Tagen"],
  [8 * 86400, "Nov 15, 2026", "15.11.2026"],
]) {
  test(`event ${age} seconds ago happened "${en}", "${de}"`, (t) => {
    t.mock.timers.enable({ apis: ["Date"], now: NOW });
    client.event({ created_at: new Date(NOW - age * 1000).toISOString() });
    assert.equal(part("time").textContent, en);
    element.setAttribute("lang", "de");
    client.event({ cursor: "a.2", created_at: new Date(NOW - age * 1000).toISOString() });
    assert.equal(part("time").textContent, de);
  });
}

test("times go on while the list is open", (t) => {
  t.mock.timers.enable({ apis: ["Date", "setInterval"], now: NOW });
  client.event({ created_at: new Date(NOW).toISOString() });
  click(part("button"));
  assert.equal(part("time").textContent, "now");
  t.mock.timers.tick(60_000);
  assert.equal(part("time").textContent, "1 minute ago");
  click(part("button"));
  t.mock.timers.tick(60_000);
  assert.equal(part("time").textContent, "1 minute ago");
  click(part("button"));
  assert.equal(part("time").textContent, "2 minutes ago");
});

for (const lang of [
  "en_US",
  "x-klingon",
  "zh-hans",
  "'\"><img>",
  "ar",
  "",
  "  ",
  "de-",
  "i-default",
  "\u0000",
  "tlh",
]) {
  test(`lang=${JSON.stringify(lang)} is no obstacle`, () => {
    element.setAttribute("lang", lang);
    for (let n = 1; n <= 120; n++) client.event({ cursor: `a.${n}` });
    assert.equal(lines().length, 50);
    assert.ok(part("time").textContent);
    assert.match(part("button").getAttribute("aria-label"), /99\+/);
  });
}

// Older lines

/** A list that is open and whose end is in sight, of a stream with so many events. */
async function openList(total) {
  const made = newElement({ org: "long" });
  made.client = new FakeClient();
  made.client.recent = async (limit) => {
    FakeClient.limits.push(limit);
    const from = Math.max(0, total - limit);
    return Array.from({ length: Math.min(limit, total) }, (_, n) =>
      event({ cursor: `a.${from + n}`, text: `${from + n}` }),
    );
  };
  FakeClient.limits = [];
  document.body.append(made);
  await turnTo(made);
  root = made.shadowRoot;
  await settled();
  made.open = true;
  return made;
}

const scrollToEnd = async () => {
  part("list").scrollTop = 3_600;
  part("list").fire(new Event("scroll"));
  part("list").scrollTop = 0;
  await settled();
};

test("older lines come when the end of the list comes into sight, as far as the view goes back", async () => {
  await openList(1000);
  assert.equal(lines().length, 50);
  part("list").fire(new Event("scroll"));
  await settled();
  assert.deepEqual(FakeClient.limits, [50]);
  for (let times = 0; times < 6; times++) await scrollToEnd();
  assert.deepEqual(FakeClient.limits, [50, 100, 200, 400, 500]);
  assert.equal(lines().length, 500);
  assert.equal(lines()[0], "999");
  assert.equal(lines().at(-1), "500");
});

test("list whose stream ends asks for no more", async () => {
  await openList(70);
  for (let times = 0; times < 3; times++) await scrollToEnd();
  assert.deepEqual(FakeClient.limits, [50, 100]);
  assert.equal(lines().length, 70);
});

test("what is newer than the list waits for the client, so that the lines stay in order", async () => {
  const made = await openList(60);
  made.client.recent = async () =>
    ["a.61", "a.60", "a.59", "a.9"].reverse().map((cursor) => event({ cursor, text: cursor }));
  await scrollToEnd();
  assert.equal(lines()[0], "59");
  assert.equal(lines().at(-1), "a.9");
  made.client.event({ cursor: "a.60", text: "60" });
  assert.equal(lines()[0], "60");
});

test("what has come but isn't drawn yet counts for that, too", async () => {
  const made = newElement({ org: "undrawn" });
  made.client = new FakeClient();
  made.client.state = { name: "catching-up" };
  document.body.append(made);
  root = made.shadowRoot;
  await turnTo(made);
  recentEvents(...[1, 2, 3, 4].map((n) => event({ cursor: `a.${n}`, text: `${n}` })));
  nextFrame();
  made.client.event({ cursor: "a.3", text: "3" });
  made.client.state = { name: "live" };
  made.client.emit("state", made.client.state);
  await settled();
  assert.deepEqual(lines(), ["3", "2", "1"]);
});

test("list that doesn't fill its panel, as its page leaves most events out, asks for older ones by itself", async () => {
  const made = newElement({ org: "sparse" });
  made.client = new FakeClient();
  made.format = ({ text }) => (text === "shown" ? { text } : null);
  const limits = recentEvents(
    ...Array.from({ length: 50 }, (_, n) => event({ cursor: `a.${n}`, text: n ? "" : "shown" })),
  );
  document.body.append(made);
  await turnTo(made);
  root = made.shadowRoot;
  await settled();
  part("list").scrollHeight = 60;
  made.open = true;
  await settled();
  assert.deepEqual(limits, [50, 100]);
});

// Announcing

test("new lines are announced, several at once as a number", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 10_000 });
  const live = part("announcement");
  assert.equal(live.getAttribute("aria-live"), "polite");
  client.event({ cursor: "a.1", text: "one" });
  t.mock.timers.tick(1);
  assert.equal(live.textContent, "one");
  for (const n of [2, 3, 4]) client.event({ cursor: `a.${n}`, text: `${n}` });
  t.mock.timers.tick(2000);
  assert.equal(live.textContent, "one");
  t.mock.timers.tick(1000);
  assert.equal(live.textContent, "3 new notifications");
});

test("element that is taken away announces nothing more", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 10_000 });
  client.event({ text: "one" });
  element.remove();
  t.mock.timers.tick(5000);
  assert.equal(part("announcement").textContent, "");
});

// Words

test("texts can be in another language", () => {
  element.texts = { title: "Nachrichten", unread: (count) => `${count} ungelesen`, states: { live: "Verbunden" } };
  client.event();
  assert.equal(part("button").getAttribute("aria-label"), "Nachrichten, 1 ungelesen");
  assert.equal(part("state").textContent, "Verbunden");
  client.state = { name: "offline" };
  client.emit("state", client.state);
  assert.equal(part("state").textContent, "Offline");
});

test("texts can come from the page's template, with the plurals of its language", () => {
  const unread = {
    one: "{count} wiadomość",
    few: "{count} wiadomości",
    many: "{count} wiadomości (wiele)",
    other: "?",
  };
  element.setAttribute("lang", "pl");
  element.setAttribute("texts", JSON.stringify({ title: "Powiadomienia", unread, markAllRead: "Przeczytane" }));
  const names = [1, 2, 5].map((count) => {
    while (element.unread < count) client.event({ cursor: `a.${element.unread}` });
    return part("button").getAttribute("aria-label");
  });
  const plurals = ["1 wiadomość", "2 wiadomości", "5 wiadomości (wiele)"];
  assert.deepEqual(
    names,
    plurals.map((plural) => `Powiadomienia, ${plural}`),
  );
  assert.equal(part("action").textContent, "Przeczytane");
});

test("plural that isn't given is said as the others", () => {
  element.texts = { unread: { other: "{count} unread" } };
  client.event();
  assert.equal(part("button").getAttribute("aria-label"), "Notifications, 1 unread");
});

test("texts that are no JSON are told, and English stays", (t) => {
  const told = t.mock.method(console, "error", () => {});
  element.setAttribute("texts", "{title: 'x'}");
  assert.equal(told.mock.callCount(), 1);
  assert.match(told.mock.calls[0].arguments[0], /texts/);
  assert.equal(part("button").getAttribute("aria-label"), "Notifications");
});

test("label attribute names the bell", () => {
  element.setAttribute("label", "News");
  assert.equal(part("button").getAttribute("aria-label"), "News");
});

// Events to the page

test("element tells the page by bubbling events", () => {
  const heard = [];
  const hear = ({ type, detail, bubbles, composed }) => heard.push([type, detail, bubbles && composed]);
  for (const kind of ["event", "state"]) document.addEventListener(`orgrealtime:${kind}`, hear);
  client.event({ text: "one" });
  client.emit("state", { name: "waiting" });
  for (const kind of ["event", "state"]) document.removeEventListener(`orgrealtime:${kind}`, hear);
  assert.deepEqual(heard, [
    ["orgrealtime:event", event({ text: "one" }), true],
    ["orgrealtime:state", { name: "waiting" }, true],
  ]);
});

test("reset waits for what the page does about it", async () => {
  let resolve;
  const hear = ({ detail }) => detail.waitUntil(new Promise((done) => (resolve = done)));
  document.addEventListener("orgrealtime:reset", hear);
  let isOver = false;
  const [handled] = client.emit("reset", { type: "reset", cursor: "a.1", reason: "epoch" });
  handled.then(() => (isOver = true));
  document.removeEventListener("orgrealtime:reset", hear);
  await new Promise(setImmediate);
  assert.equal(isOver, false);
  resolve();
  await handled;
});

test("reset that the page fails to handle fails, so that it is tried again", async () => {
  const hear = ({ detail }) => detail.waitUntil(Promise.reject(new Error("no network")));
  document.addEventListener("orgrealtime:reset", hear);
  const [handled] = client.emit("reset", { type: "reset", cursor: "a.1", reason: "epoch" });
  document.removeEventListener("orgrealtime:reset", hear);
  await assert.rejects(handled, /no network/);
});

// Another user

test("what is of the first user goes when another one logs in, before anything of theirs comes", async () => {
  const made = newElement({ org: "shared", "share-key": "7" });
  made.client = new FakeClient();
  document.body.append(made);
  await turnTo(made);
  root = made.shadowRoot;
  recentEvents(event({ cursor: "a.1", text: "of both" }));
  for (const n of [2, 3]) made.client.event({ cursor: `a.${n}`, text: "of Alice", url: "/alice/" });
  made.open = true;
  made.client.event({ cursor: "a.4", text: "of Alice" });
  const heard = [];
  const hear = ({ detail }) => heard.push(detail);
  document.addEventListener("orgrealtime:user", hear, { once: true });
  made.client.emit("user", { user: 8, previous: 7 });
  assert.deepEqual(heard, [{ user: 8, previous: 7 }]);
  assert.equal(root.textContent.includes("Alice"), false);
  assert.equal(made.open, false);
  assert.equal(made.unread, 0);
  made.client.event({ cursor: "a.5", text: "of Bob" });
  await Promise.all(made.client.emit("reset", { type: "reset", cursor: "a.5", reason: "user" }));
  assert.equal(made.unread, 1);
  await settled();
  assert.deepEqual(lines(), ["of both"]);
  assert.equal(part("announcement").textContent.includes("Alice"), false);
  // Whoever comes back finds what they had not dealt with.
  made.client.emit("user", { user: 7, previous: 8 });
  made.client.event({ cursor: "a.3", text: "of Alice again" });
  assert.deepEqual(unreadLines(), ["of Alice again"]);
  assert.equal(made.unread, 0);
});

test("users are told apart without share-key too, as soon as the client knows them", () => {
  const made = newElement({ org: "nameless" });
  made.client = new FakeClient();
  document.body.append(made);
  made.client.user = 7;
  made.client.emit("state", { name: "catching-up" });
  made.client.event();
  const other = newElement({ org: "nameless" });
  other.client = Object.assign(new FakeClient(), { user: 8 });
  document.body.append(other);
  assert.deepEqual([made.unread, other.unread], [1, 0]);
});

// Clients

test("client that the page gave is left open, and heard no more, when the element goes", () => {
  element.remove();
  assert.equal(client.isClosed, false);
  assert.equal(client.handlers.event.size, 0);
});

test("another client takes the place of the one before", () => {
  client.event({ text: "old" });
  const other = new FakeClient();
  element.client = other;
  assert.equal(client.handlers.event.size, 0);
  other.event({ cursor: "b.1", text: "new" });
  assert.deepEqual(lines(), ["new"]);
});

test("properties that were set before the element was defined count", () => {
  const early = newElement();
  const given = new FakeClient();
  Object.defineProperty(early, "client", { value: given, configurable: true, writable: true, enumerable: true });
  document.body.append(early);
  assert.equal(early.client, given);
  assert.equal(given.handlers.event.size, 1);
});

/** An element that connects by itself, in a world. */
function ownConnection(attributes) {
  const world = new World();
  const tab = world.newTab();
  const saved = {};
  const { WebSocket, BroadcastChannel, locks, fetch } = tab.outside;
  const replaced = { WebSocket, BroadcastChannel, fetch, navigator: { locks, onLine: true } };
  for (const [name, value] of Object.entries(replaced)) {
    saved[name] = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  const made = newElement(attributes);
  const restore = () => {
    made.remove();
    for (const [name, descriptor] of Object.entries(saved)) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  };
  return { world, tab, made, restore };
}

test("element connects when it is put into the page, sharing, and closes when it is taken away", async () => {
  const { world, tab, made, restore } = ownConnection({ org: "acme", since: "aaaa.0", "share-key": "7" });
  await world.clock.advance(10);
  assert.equal(tab.sockets.length, 0);
  document.body.append(made);
  await world.clock.advance(10);
  assert.equal(tab.sockets[0].url.href, "wss://example.org/ws/orgs/acme/notifications/?since=aaaa.0");
  assert.equal(world.leader, tab);
  world.server.publish({ text: "one" });
  await world.clock.advance(10);
  assert.equal(made.unread, 1);
  made.remove();
  await world.clock.advance(10);
  assert.equal(world.server.connections.size, 0);
  assert.equal(world.leader, undefined);
  // Moved within the page it goes on where it was.
  document.body.append(made);
  await world.clock.advance(10);
  assert.equal(tab.sockets[1].since, "aaaa.1");
  restore();
});

test("element doesn't share if told so, and takes URLs", async () => {
  const { world, tab, made, restore } = ownConnection({ url: "/live/", "catch-up-url": "/missed/", share: "off" });
  document.body.append(made);
  await world.clock.advance(10);
  assert.equal(tab.sockets[0].url.href, "wss://example.org/live/");
  assert.equal(world.leader, undefined);
  restore();
});

test("change of the organisation makes another connection", async () => {
  const { world, tab, made, restore } = ownConnection({ org: "acme", since: "aaaa.0" });
  document.body.append(made);
  await turnTo(made);
  await world.clock.advance(10);
  world.server.publish({ text: "one" });
  await world.clock.advance(10);
  world.server.log.prune(); // of the one organisation; the other has had no events
  made.setAttribute("since", "aaaa.1");
  made.setAttribute("org", "umbrella");
  await world.clock.advance(10);
  assert.equal(tab.sockets[1].url.href, "wss://example.org/ws/orgs/umbrella/notifications/?since=aaaa.1");
  assert.equal(world.server.connections.size, 1);
  assert.equal(made.shadowRoot.part("list").children.length, 0);
  restore();
});

test("element without an organisation waits for one", () => {
  const made = newElement({});
  document.body.append(made);
  assert.equal(made.client, null);
});

test("element that has nothing to follow says so after a while", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const told = t.mock.method(console, "warn", () => {});
  for (const attributes of [{}, {}]) document.body.append(newElement(attributes));
  document.body.lastElementChild.client = new FakeClient();
  t.mock.timers.tick(5_000);
  assert.equal(told.mock.callCount(), 1);
  assert.match(told.mock.calls[0].arguments[0], /org-notifications/);
});

test("client's own pages and the element agree on the interface", async () => {
  const world = new World();
  const page = new Page(world.newTab(), { since: "aaaa.0" });
  const made = newElement();
  made.client = page.client;
  document.body.append(made);
  await turnTo(made);
  await world.clock.advance(10);
  world.server.publish({ text: "one" });
  await world.clock.advance(10);
  assert.equal(made.unread, 1);
  assert.equal(made.shadowRoot.part("state").textContent, "Live");
});

test("element lists what its own client finds in the catch-up view", async () => {
  const { world, made, restore } = ownConnection({ url: "/live/", "catch-up-url": "/missed/", share: "off" });
  for (const text of ["one", "two"]) world.server.publish({ text });
  document.body.append(made);
  await turnTo(made);
  await world.clock.advance(10);
  root = made.shadowRoot;
  assert.deepEqual(lines(), ["two", "one"]);
  const asked = world.server.requests.filter(({ kind }) => kind === "catch-up");
  assert.deepEqual(asked, [{ kind: "catch-up", url: "https://example.org/missed/?limit=50" }]);
  assert.equal(made.unread, 0);
  restore();
});

test("element lists what the page's client finds, without being told where", async () => {
  const world = new World();
  world.server.publish({ text: "one" });
  const page = new Page(world.newTab(), { since: "aaaa.1" });
  const made = newElement({});
  made.client = page.client;
  document.body.append(made);
  await turnTo(made);
  await world.clock.advance(10);
  root = made.shadowRoot;
  assert.deepEqual(lines(), ["one"]);
});

test("list has what happened before the page was loaded, the newest first, and what is unread of it is marked", async () => {
  const limits = recentEvents(event({ cursor: "a.1", text: "one" }), event({ cursor: "a.2", text: "two" }));
  limits.length = 0;
  const [before, after] = [1, 2].map(() => newElement({ org: "early", "share-key": "7" }));
  for (const each of [before, after]) {
    each.client = new FakeClient();
    each.connectedCallback();
    await turnTo(each);
    each.client.event({ cursor: each === before ? "a.2" : "a.3", text: each === before ? "two" : "three" });
    await settled();
  }
  root = after.shadowRoot;
  assert.deepEqual(lines(), ["three", "two", "one"]);
  const parts = part("list").children.map((line) => line.getAttribute("part"));
  assert.deepEqual(parts, ["item unread", "item unread", "item"]);
  assert.deepEqual(limits, [50, 50]);
});

test("event that the list has from before comes once, and counts as unread", async () => {
  recentEvents(event({ cursor: "a.1", text: "one" }));
  const made = newElement({ "catch-up-url": "/live/" });
  made.client = new FakeClient();
  made.connectedCallback();
  await turnTo(made);
  await settled();
  made.client.event({ cursor: "a.1", text: "one" });
  root = made.shadowRoot;
  assert.deepEqual(lines(), ["one"]);
  assert.equal(made.unread, 1);
});

test("list of another organisation isn't mixed with what was asked for before", async () => {
  recentEvents(event({ cursor: "a.1", text: "old" }));
  const made = newElement({ org: "first" });
  made.client = new FakeClient();
  made.connectedCallback();
  await turnTo(made);
  made.client = new FakeClient();
  made.disconnectedCallback();
  await settled();
  root = made.shadowRoot;
  assert.deepEqual(lines(), []);
});

test("page that can't be read leaves the list empty", async () => {
  const made = newElement({ org: "acme" });
  made.client = new FakeClient();
  made.connectedCallback();
  await turnTo(made);
  await settled();
  root = made.shadowRoot;
  assert.deepEqual(lines(), []);
});

test("list is asked for once all that is newer has come", async () => {
  const limits = recentEvents(event({ cursor: "a.1", text: "old" }), event({ cursor: "a.2", text: "missed" }));
  const made = newElement({ org: "late" });
  made.client = new FakeClient();
  made.client.state = { name: "catching-up", transport: "websocket" };
  made.connectedCallback();
  await turnTo(made);
  await settled();
  assert.deepEqual(limits, []);
  made.client.event({ cursor: "a.2", text: "missed" });
  made.client.state = { name: "live", transport: "websocket" };
  made.client.emit("state", made.client.state);
  made.client.emit("state", made.client.state);
  await settled();
  root = made.shadowRoot;
  assert.deepEqual(lines(), ["missed", "old"]);
  assert.equal(limits.length, 1);
});

test("reset empties the list and has it filled anew; what was unread of another stream is forgotten", async () => {
  const made = newElement({ org: "again", "share-key": "9" });
  made.client = new FakeClient();
  made.connectedCallback();
  await turnTo(made);
  made.client.event({ cursor: "a.7", text: "before" });
  await settled();
  recentEvents(event({ cursor: "b.1", text: "after" }));
  await Promise.all(made.client.emit("reset", { type: "reset", cursor: "b.1", reason: "epoch" }));
  root = made.shadowRoot;
  assert.deepEqual(lines(), ["after"]);
  assert.equal(made.unread, 0);
});

test("what is unread stays so after a reset that only says that old events are gone", async () => {
  const made = newElement({ org: "pruned", "share-key": "9" });
  made.client = new FakeClient();
  made.connectedCallback();
  made.client.event({ cursor: "a.7", text: "before" });
  await Promise.all(made.client.emit("reset", { type: "reset", cursor: "a.9", reason: "retention" }));
  assert.equal(made.unread, 1);
});

test("page whose storage is full counts for itself", async () => {
  client.event({ cursor: "a.1" });
  await settled();
  localStorage.isFull = true;
  client.event({ cursor: "a.2" });
  await settled();
  assert.equal(element.unread, 2);
  element.markRead();
  await settled();
  assert.equal(element.unread, 0);
});
