import { ago, byId, element } from "./elements.js";

const LENGTH = 60;

/** The newest events, in the order of the stream. */
export class Feed {
  /** @type {Set<string>} */ #shown = new Set();
  #list = byId("feed");
  #wording;
  #people;

  /** @param {import("./wording.js").Wording} wording @param {import("./people.js").People} people */
  constructor(wording, people) {
    this.#wording = wording;
    this.#people = people;
  }

  /** @param {import("./wording.js").RealtimeEvent} event */
  add(event) {
    if (this.#shown.has(event.cursor)) return;
    this.#shown.add(event.cursor);
    const what = element("div", "what", [element("p", "", this.#wording.tell(event)), ago(event.created_at)]);
    this.#list.prepend(element("li", "entry", [this.#people.avatar(event.actor), what]));
    while (this.#list.children.length > LENGTH) this.#list.lastElementChild?.remove();
    byId("feed-empty").hidden = true;
  }

  /** From now on what is added comes as news. */
  settle() {
    this.#list.classList.add("settled");
    byId("feed-empty").hidden = this.#shown.size > 0;
  }
}
