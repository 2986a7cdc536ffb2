import { element, link, safePath } from "./elements.js";
import { compose, say } from "./texts.js";

/** @typedef {import("orgrealtime").RealtimeEvent} RealtimeEvent */
/** @typedef {"move" | "export" | "failure" | "other"} Kind */

const LONGEST_TEXT = 200;

/** @param {RealtimeEvent} event @returns {Kind | null}  null: nothing to tell anybody */
export function kindOf(event) {
  if (event.type === "export_progress" || event.type.startsWith("chat.")) return null;
  if (event.type === "export_done") return event.status === "done" ? "export" : "failure";
  return isMove(event) ? "move" : "other";
}

/** @param {RealtimeEvent} event */
export function isMove(event) {
  return event.type === "task_event" && event.action === "status_changed" && typeof event.details?.to === "string";
}

/** Says in words what happened. */
export class Wording {
  #board;
  #people;

  /** @param {Pick<import("./board.js").Board, "title" | "label">} board @param {import("./people.js").People} people */
  constructor(board, people) {
    this.#board = board;
    this.#people = people;
  }

  /** The whole sentence. @param {RealtimeEvent} event @returns {(string | Node)[]} */
  tell(event) {
    if (kindOf(event) === "failure") return this.#action(event);
    const who = element("strong", "", [this.#people.name(event.actor)]);
    const path = kindOf(event) === "export" ? safePath(event.download_url) : null;
    return [who, " ", ...this.#action(event), ...(path ? [" · ", link(path, say("download"))] : [])];
  }

  /** The line in the bell. @param {RealtimeEvent} event @returns {import("orgrealtime/notifications").Line} */
  line(event) {
    const kind = kindOf(event);
    const text = element("p", "", this.#action(event)).textContent ?? "";
    const actor = kind === "failure" ? undefined : this.#people.name(event.actor);
    return { text, actor, url: kind === "export" ? event.download_url : undefined };
  }

  /** The sentence without its first word, who did it, if it begins with that. @param {RealtimeEvent} event */
  #action(event) {
    const mine = this.#people.isMe(event.actor) ? "Mine" : "";
    switch (kindOf(event)) {
      case "move":
        return this.#move(event, mine);
      case "export":
        return [say(`exported${mine}`)];
      case "failure":
        return [say(`exportFailed${mine}`, { name: this.#people.name(event.actor) })];
      default:
        return [textOf(event)];
    }
  }

  /** @param {RealtimeEvent} event @param {string} mine */
  #move({ task_id, details }, mine) {
    const title = this.#board.title(task_id);
    const place = element("span", `tag ${known(details.to)}`, [this.#board.label(details.to)]);
    return compose(`moved${mine}`, { task: title ? say("quoted", { title }) : say("aTask"), place });
  }
}

/** What a text says, or the type in words: nobody wants to read a payload. @param {RealtimeEvent} event */
function textOf({ type, text }) {
  const words = type.replace(/[_.:-]+/g, " ").trim();
  const said = typeof text === "string" && text.trim() ? text : words.charAt(0).toUpperCase() + words.slice(1);
  return said.length > LONGEST_TEXT ? `${said.slice(0, LONGEST_TEXT)}…` : said;
}

/** @param {string} status */
function known(status) {
  return ["todo", "doing", "done"].includes(status) ? status : "";
}
