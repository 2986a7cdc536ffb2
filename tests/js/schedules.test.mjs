/**
 * Whatever happens, in whatever order: each page gets the events it is entitled to once, in order, without a gap.
 *
 * `SEEDS=5000 FIRST_SEED=1 node --test schedules.test.mjs` looks further; a failure names its seed.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { seeded, settle, World } from "./fakes.mjs";
import { Page } from "./support.mjs";

const FIRST_SEED = Number(process.env.FIRST_SEED ?? 1);
const SEEDS = Number(process.env.SEEDS ?? 120);
const STEPS = 60;

/** A page that writes down what it handles: events, and resets that succeeded. */
class Witness {
  diary = [];

  constructor(tab, since, share, random) {
    this.tab = tab;
    this.since = since;
    const handlers = {
      onEvent: async ({ n }) => {
        if (random() < 0.1) await settle();
        this.diary.push({ n });
        if (random() < 0.02) throw new Error("broken");
      },
      onReset: async ({ cursor }) => {
        await settle();
        if (random() < 0.3) throw new Error("no network");
        this.diary.push({ reset: cursor });
      },
    };
    this.page = new Page(tab, { since, share, shareKey: 1, ...handlers });
  }

  get isOpen() {
    return !this.tab.isDead && this.page.state !== "stopped";
  }
}

class Schedule {
  world = new World();
  witnesses = [];
  published = []; // all there ever was: {epoch, seq, n, visible}
  epochs = 0;

  constructor(seed) {
    this.random = seeded(seed);
    const { clock, server } = this.world;
    clock.random = server.random = this.random;
    this.world.latency = () => 1 + Math.floor(this.random() ** 4 * 300);
    this.actions = [
      [20, () => this.publish()],
      [4, () => this.open()],
      [2, () => this.withOne((witness) => witness.page.client.close())],
      [2, () => this.withOne((witness) => witness.tab.crash())],
      [2, () => this.withOne((witness) => witness.tab.hang())],
      [2, () => this.withOne((witness) => witness.tab.unhang())],
      [2, () => this.withOne((witness) => witness.tab.freeze())],
      [2, () => this.withOne((witness) => witness.tab.thaw())],
      [1, () => this.withOne(({ tab }) => tab.fire(tab.window, "pagehide"))],
      [2, () => this.withOne(({ tab }) => tab.fire(tab.window, "pageshow"))],
      [2, () => this.withOne(({ tab }) => this.toggleVisible(tab))],
      [2, () => this.withOne(({ tab }) => (tab.navigator.onLine ? tab.goOffline() : tab.goOnline()))],
      [3, () => server.closeAll(this.pick([1001, 1006, 1012, 4401, 4408, 4503]))],
      [2, () => this.closeOne()],
      [1, () => this.goAway()],
      [2, () => (server.isDown = this.random() < 0.4)],
      [2, () => (server.isSilent = this.random() < 0.4)],
      [1, () => (server.socketsBlocked = this.random() < 0.5)],
      [1, () => (server.stream = this.pick(["open", "absent", "buffered"]))],
      [1, () => (server.refusal = this.pick([null, 503, 429]))],
      [1, () => server.log.prune()],
      [0.5, () => this.recreate()],
    ];
    this.weight = this.actions.reduce((sum, [weight]) => sum + weight, 0);
  }

  pick(choices) {
    return choices[Math.floor(this.random() * choices.length)];
  }

  async run() {
    this.open();
    for (let step = 0; step < STEPS; step++) {
      this.act();
      await this.world.clock.advance(this.pick([0, 0, 1, 10, 100, 1000, 10_000, 40_000]));
    }
    await this.heal();
    for (const witness of this.witnesses) this.check(witness);
  }

  act() {
    let place = this.random() * this.weight;
    for (const [weight, act] of this.actions) {
      place -= weight;
      if (place < 0) return act();
    }
  }

  publish() {
    for (let count = this.pick([1, 1, 1, 2, 5, 20]); count > 0; count--) {
      const n = this.published.length;
      const visible = this.random() < 0.7;
      this.world.server.publish({ n }, { visible });
      const { epoch, head } = this.world.server.log;
      this.published.push({ epoch, seq: head, n, visible });
    }
  }

  open() {
    const { log } = this.world.server;
    if (this.witnesses.filter((witness) => witness.isOpen).length >= 5) return;
    const since = this.pick([log.cursor(), log.cursor(), log.cursor(Math.floor(this.random() * log.head)), undefined]);
    this.witnesses.push(new Witness(this.world.newTab(), since, this.random() < 0.85, this.random));
  }

  withOne(act) {
    const open = this.witnesses.filter((witness) => witness.isOpen);
    if (open.length) act(this.pick(open));
  }

  toggleVisible(tab) {
    tab.document.hidden = !tab.document.hidden;
    tab.fire(tab.document, "visibilitychange");
  }

  closeOne() {
    const connections = [...this.world.server.connections];
    if (connections.length) this.pick(connections).close(1006);
  }

  goAway() {
    for (const connection of this.world.server.connections) {
      connection.send({ type: "going_away", retry_after_ms: 500, window_ms: 5000 });
    }
  }

  recreate() {
    this.world.server.closeAll(1006);
    this.world.server.log.recreate(`epoch${this.epochs++}`);
  }

  /** All that hinders ends, and time passes. */
  async heal() {
    const { server, clock } = this.world;
    Object.assign(server, { isDown: false, isSilent: false, socketsBlocked: false, stream: "open", refusal: null });
    for (const { tab } of this.witnesses) {
      tab.thaw();
      tab.fire(tab.window, "pageshow");
      tab.goOnline();
    }
    await clock.advance(60_000);
    this.publish();
    await clock.advance(60_000);
  }

  check(witness) {
    let start = witness.since;
    let events = [];
    for (const { n, reset } of witness.diary) {
      if (!reset) {
        events.push(n);
        continue;
      }
      this.checkPart(start, events, { isWhole: false });
      [start, events] = [reset, []];
    }
    this.checkPart(start, events, { isWhole: witness.isOpen });
    if (witness.isOpen) {
      assert.equal(witness.page.state, "live");
      assert.equal(this.world.server.log.position(witness.page.client.cursor).epoch, this.world.server.log.epoch);
    }
  }

  /** The events after a reset, or the start, are the visible ones after its cursor: up to some point, or all. */
  checkPart(start, events, { isWhole }) {
    const { epoch, seq } = start ? this.world.server.log.position(start) : this.before(events);
    const expected = this.published.filter((event) => event.epoch === epoch && event.seq > seq && event.visible);
    const numbers = expected.map((event) => event.n);
    assert.deepEqual(events, isWhole ? numbers : numbers.slice(0, events.length));
  }

  /** A page without a cursor began somewhere: just before its first event, or at the end. */
  before([first]) {
    const { epoch, head } = this.world.server.log;
    if (first === undefined) return { epoch, seq: head };
    return { epoch: this.published[first].epoch, seq: this.published[first].seq - 1 };
  }
}

test(`pages get everything once and in order (seeds ${FIRST_SEED} to ${FIRST_SEED + SEEDS - 1})`, async () => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const schedule = new Schedule(seed);
    try {
      await schedule.run();
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
});
