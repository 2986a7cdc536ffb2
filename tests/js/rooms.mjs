/**
 * A room on a server of fakes.mjs: its history over HTTP, what happens there in the stream, and the commands of its people.
 *
 *     const { world, hall, page } = await openRoom();
 *     hall.say(8, "hello");
 *     await world.clock.advance(10);
 *     page.room.messages
 */

import { mock } from "node:test";

import { ChatRoom } from "../../src/orgrealtime/static/orgrealtime/chat.js";
import { connect } from "../../src/orgrealtime/static/orgrealtime/client.js";
import { settle, World } from "./fakes.mjs";

const ROOM = 3;
export const ME = 7;

class FakeStorage {
  #items = new Map();
  getItem = (key) => this.#items.get(key) ?? null;
  setItem = (key, value) => void this.#items.set(key, value);
  clear = () => this.#items.clear();
  get text() {
    return JSON.stringify([...this.#items]);
  }
}

globalThis.localStorage = new FakeStorage();
globalThis.sessionStorage = new FakeStorage();
globalThis.document = { cookie: "a=b; csrftoken=token; c=d", querySelector: () => null };

/** A room as the server has it. */
export class Hall {
  messages = [];
  requests = [];
  isUnreachable = false;
  refusal = null; // [status, error] of the next requests, and of the next commands
  isMute = false; // takes commands and answers none
  limit = 20;
  /** Set while answers to requests wait: call it to let them go. */ #letGo = null;
  #held = null;

  constructor(world) {
    this.world = world;
    world.server.onMessage = (message, connection) => this.#onCommand(message, connection);
    globalThis.fetch = (url, init) => this.#fetch(new URL(url, "https://example.org"), init);
  }

  /** What the stream tells of this room. */
  publish(members, actor = null) {
    return this.world.server.publish({ room: ROOM, actor, ...members });
  }

  say(author, body, { client_message_id = null, reply_to = null } = {}) {
    const message = {
      message_id: 100 + this.messages.length,
      room: ROOM,
      client_message_id,
      author,
      body,
      version: 1,
      reply_to,
      reactions: [],
      created_at: "2026-11-26T08:57:00Z",
      deleted: false,
    };
    this.messages.push(message);
    const { message_id } = message;
    message.event = this.publish(
      { type: "chat.message", message_id, client_message_id, body, version: 1, reply_to },
      author,
    );
    message.position = this.world.server.log.head;
    return message;
  }

  edit(message, body) {
    Object.assign(message, { body, version: message.version + 1 });
    Object.assign(message.event, { body, version: message.version });
    this.publish({ type: "chat.edited", message_id: message.message_id, body, version: message.version });
  }

  delete(message) {
    Object.assign(message, { body: "", version: message.version + 1, deleted: true, reactions: [] });
    Object.assign(message.event, { body: "", version: message.version });
    this.publish({ type: "chat.deleted", message_id: message.message_id, version: message.version });
  }

  react(user, message, emoji, on = true) {
    const found = message.reactions.find((each) => each.emoji === emoji);
    const users = (found?.users ?? []).filter((each) => each !== user);
    if (on) users.push(user);
    const reaction = { emoji, count: users.length, mine: users.includes(ME), users };
    message.reactions = message.reactions.filter((each) => each !== found);
    if (users.length) message.reactions.push(reaction);
    this.publish({ type: "chat.reaction", message_id: message.message_id, user, emoji, on });
  }

  /** From now on requests are answered, with what there is now, when the function that this returns is called. */
  hold() {
    this.#held = new Promise((resolve) => {
      this.#letGo = resolve;
    });
    return async () => {
      this.#held = null;
      this.#letGo();
      await settle();
    };
  }

  /** What a member is shown of what the server has, as far as a page can know it. */
  get shown() {
    return this.messages.map(shown);
  }

  async #fetch(url, { method, headers, body }) {
    this.requests.push({ method, path: url.pathname + url.search, headers, body });
    if (this.isUnreachable) throw new TypeError("Failed to fetch");
    const [status, answer] = this.refusal
      ? [this.refusal[0], { error: this.refusal[1] }]
      : this.#answer(method, url, body && JSON.parse(body));
    const text = JSON.stringify(answer);
    await this.#held;
    await settle();
    return { status, ok: status < 300, json: async () => JSON.parse(text) };
  }

  #answer(method, url, data) {
    if (method === "POST") return this.#accept(data, (message, duplicate) => [201, { ...message, duplicate }]);
    if (method !== "GET") return [204, null];
    const before = Number(url.searchParams.get("before") ?? Infinity);
    const limit = Math.min(this.limit, Number(url.searchParams.get("limit")));
    const older = this.messages.filter(({ position }) => position < before);
    const messages = older.slice(-limit).map(({ event, client_message_id, ...message }) => ({
      ...message,
      client_message_id: message.author === ME ? client_message_id : null,
    }));
    const cursor = this.world.server.log.cursor();
    return [200, { room: ROOM, messages, cursor, has_older: older.length > limit, has_newer: false }];
  }

  #accept({ client_message_id, body, reply_to }, answer) {
    const first = this.messages.find((each) => each.author === ME && each.client_message_id === client_message_id);
    return answer(first ?? this.say(ME, body, { client_message_id, reply_to }), Boolean(first));
  }

  #onCommand({ type, ref, ...data }, connection) {
    if (type !== "message") return;
    if (this.refusal) return connection.send({ type: "error", ref, error: this.refusal[1] });
    this.#accept(data, ({ message_id, client_message_id }, duplicate) => {
      if (!this.isMute) connection.send({ type: "chat.accepted", ref, client_message_id, message_id, duplicate });
    });
  }
}

/** What counts of a message. */
export function shown({ message_id, author, body, version, deleted, reactions }) {
  const sorted = reactions.map(({ emoji, count, mine }) => `${emoji} ${count} ${mine}`).sort();
  return { message_id, author, body, version, deleted: Boolean(deleted), reactions: sorted };
}

/** A tab with the room. */
export class RoomPage {
  arrived = [];

  constructor(hall, options = {}) {
    const { world } = hall;
    this.tab = world.newTab();
    const outside = this.tab.outside;
    const connectSince = (since) => connect({ org: "acme", since, share: false, user: ME, outside });
    this.room = new ChatRoom({
      org: "acme",
      room: "general",
      user: ME,
      client: options.isGiven ? connectSince(options.since) : connectSince,
      onMessage: ({ body }) => this.arrived.push(body),
      ...options.room,
    });
  }

  get bodies() {
    return this.room.messages.map(({ body }) => body);
  }

  get waiting() {
    return this.room.outbox.map(({ body, state }) => `${body}: ${state}`);
  }

  get shown() {
    return this.room.messages.map(shown);
  }
}

/** A world with a room and a page of it, which is live. */
export async function openRoom(options = {}) {
  localStorage.clear();
  sessionStorage.clear();
  const world = new World();
  const hall = new Hall(world);
  for (const [author, body] of options.said ?? []) hall.say(author, body);
  const page = new RoomPage(hall, options);
  await live(world);
  return { world, hall, page };
}

/** Let everything happen that takes no more than a few moments. */
export async function live(world) {
  for (let turn = 0; turn < 5; turn++) {
    await world.clock.advance(20);
    await settle();
  }
}

/** Let time pass for the room, and for its client. */
export async function pass(world, ms) {
  mock.timers.tick(ms);
  await live(world);
  await world.clock.advance(ms);
  await live(world);
}
