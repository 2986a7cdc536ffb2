import { connect } from "../../src/orgrealtime/static/orgrealtime/client.js";
import { World } from "./fakes.mjs";
// The client loads it when it needs it. Here it is there already: loading doesn't go by the clock of the world.
import "../../src/orgrealtime/static/orgrealtime/fallbacks.js";

/** A client in a tab, and all that it told its page. */
export class Page {
  events = [];
  resets = [];
  states = [];
  messages = [];
  errors = [];

  constructor(tab, options = {}) {
    this.tab = tab;
    this.client = connect({
      org: "acme",
      share: false,
      shareKey: 7,
      outside: tab.outside,
      onEvent: (event) => void this.events.push(event.text),
      onReset: (reset) => void this.resets.push(reset.reason),
      onState: (state) => void this.states.push(state),
      onMessage: (frame) => void this.messages.push(frame),
      onError: (error) => void this.errors.push(error),
      ...options,
    });
  }

  get stateNames() {
    return this.states.map((state) => state.name);
  }

  get state() {
    return this.client.state.name;
  }

  /** The newest socket of the tab. */
  get socket() {
    return this.tab.sockets.at(-1);
  }
}

/** Wait for what doesn't go by the clock of the world, such as a module that is loaded. */
export async function until(condition) {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 2000) throw new Error(`not within 20 s: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A world with one page whose cursor is where the stream began. */
export function onePage(options = {}) {
  const world = new World();
  const page = new Page(world.newTab(), { since: "aaaa.0", ...options });
  return { world, server: world.server, clock: world.clock, tab: page.tab, page };
}

/** A page per tab, sharing. */
export function manyPages(count, options = {}) {
  const world = new World();
  const pages = Array.from(
    { length: count },
    () => new Page(world.newTab(), { since: "aaaa.0", share: true, ...options }),
  );
  return { world, server: world.server, clock: world.clock, pages };
}
