import { element } from "./elements.js";
import { say } from "./texts.js";

const TONES = 6; // As many as the style sheet has.

/** The members' names, as this user calls them. */
export class People {
  #names;
  #user;

  /** @param {Record<string, string>} names @param {number} user */
  constructor(names, user) {
    this.#names = names;
    this.#user = user;
  }

  /** @param {Record<string, string>} names */
  replace(names) {
    this.#names = names;
  }

  /** @param {number | string | null} id */
  isMe(id) {
    return id === this.#user;
  }

  /** @param {number | string | null} id */
  knows(id) {
    return id === null || id in this.#names;
  }

  /** @param {number | string | null} id */
  name(id) {
    if (id === null) return say("system");
    return this.isMe(id) ? say("you") : (this.#names[id] ?? say("formerMember"));
  }

  /** @param {number | string | null} id */
  avatar(id) {
    const name = id === null ? "•" : (this.#names[id] ?? "?");
    const tone = id === null ? "none" : Number(id) % TONES || 0;
    const node = element("span", `avatar tone-${tone}`, [[...name][0].toUpperCase()]);
    node.ariaHidden = "true"; // The name stands beside it.
    return node;
  }
}
