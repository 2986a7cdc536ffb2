import { animate, byId, element, onceAFrame } from "./elements.js";
import { ago } from "./times.js";

const LENGTH = 60;
const AT_A_TIME = 3; // as many as come in one by one; more are just there

/** The newest events, in the order of the stream. */
export class Feed {
  /** @type {Set<string>} */ #shown = new Set();
  /** @type {import("./wording.js").RealtimeEvent[]} */ #waiting = [];
  #isSettled = false;
  #list = byId("feed");
  #wording;
  #people;
  #drawSoon = onceAFrame(() => this.#draw());

  /** @param {import("./wording.js").Wording} wording @param {import("./people.js").People} people */
  constructor(wording, people) {
    this.#wording = wording;
    this.#people = people;
  }

  /** @param {import("./wording.js").RealtimeEvent} event */
  add(event) {
    if (this.#shown.has(event.cursor)) return;
    this.#shown.add(event.cursor);
    this.#waiting.push(event);
    if (this.#waiting.length > LENGTH) this.#waiting.shift();
    this.#drawSoon();
  }

  /** From now on what is added comes as news. */
  settle() {
    this.#draw();
    this.#isSettled = true;
    byId("feed-empty").hidden = this.#shown.size > 0;
  }

  #draw() {
    const isBurst = this.#waiting.length > AT_A_TIME;
    for (const event of this.#waiting.splice(0)) {
      const what = element("div", "what", [element("p", "", this.#wording.tell(event)), ago(event.created_at)]);
      const entry = element("li", "entry", [this.#people.avatar(event.actor), what]);
      this.#list.prepend(entry);
      if (this.#isSettled && !isBurst) animate(entry, [{ opacity: 0, translate: "0 -6px" }, {}], 350);
    }
    while (this.#list.children.length > LENGTH) this.#list.lastElementChild?.remove();
    byId("feed-empty").hidden = true;
  }
}
