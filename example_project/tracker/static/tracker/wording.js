import { element, link, safePath } from "./elements.js";

/** @typedef {import("orgrealtime").RealtimeEvent} RealtimeEvent */
/** @typedef {"move" | "export" | "failure" | "other"} Kind */

const LONGEST_PAYLOAD = 200;

/** @param {RealtimeEvent} event @returns {Kind | null}  null: nothing to tell anybody */
export function kindOf(event) {
  if (event.type === "export_progress") return null;
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

  /** @param {import("./board.js").Board} board @param {import("./people.js").People} people */
  constructor(board, people) {
    this.#board = board;
    this.#people = people;
  }

  /** @param {RealtimeEvent} event @returns {(string | Node)[]} */
  tell(event) {
    if (isMove(event)) return this.#move(event);
    if (event.type === "export_done") return this.#export(event);
    return this.#other(event);
  }

  /** @param {RealtimeEvent} event */
  #move({ actor, task_id, details }) {
    const title = this.#board.title(task_id);
    const place = element("span", `tag ${known(details.to)}`, [this.#board.label(details.to)]);
    return [this.#who(actor), " moved ", title ? `“${title}”` : "a task", " to ", place];
  }

  /** @param {RealtimeEvent} event */
  #export({ actor, status, download_url }) {
    const whose = element("strong", "", [this.#people.whose(actor)]);
    if (status !== "done") return [whose, " export failed"];
    const path = safePath(download_url);
    return [whose, " export is ready", ...(path ? [" · ", link(path, "Download")] : [])];
  }

  /** @param {RealtimeEvent} event */
  #other({ type, cursor, created_at, actor, ...payload }) {
    const text = typeof payload.text === "string" ? payload.text : JSON.stringify(payload);
    const shown = text.length > LONGEST_PAYLOAD ? `${text.slice(0, LONGEST_PAYLOAD)}…` : text;
    return [this.#who(actor), " · ", element("span", "tag", [type]), " ", typeof payload.text === "string" ? shown : element("code", "", [shown])];
  }

  /** @param {number | string | null} actor */
  #who(actor) {
    return element("strong", "", [this.#people.name(actor)]);
  }
}

/** @param {string} status */
function known(status) {
  return ["todo", "doing", "done"].includes(status) ? status : "";
}
