import { byId, copyOf, safePath, within } from "./elements.js";
import { getJSON, post } from "./requests.js";
import { say } from "./texts.js";
import { ago } from "./times.js";

/**
 * @typedef {object} Export
 * @property {string} job_id
 * @property {"queued" | "running" | "done" | "failed"} status
 * @property {number} progress
 * @property {number} requested_by
 * @property {string} created_at
 * @property {string} error
 * @property {string} download_url
 */

const SHOWN = 3;
const ORDER = ["queued", "running", "done", "failed"];

/** The newest exports, with a bar for the one that is being made. */
export class Exports {
  /** @type {Map<string, Export>} */ #known = new Map();
  #form = /** @type {HTMLFormElement} */ (byId("export"));
  #list = byId("exports");
  #url;
  #people;

  /** @param {string} url @param {Export[]} exports  newest first @param {import("./people.js").People} people */
  constructor(url, exports, people) {
    this.#url = url;
    this.#people = people;
    for (const each of exports.toReversed()) this.#show(each);
    this.#form.addEventListener("submit", (event) => this.#request(event));
  }

  async refetch() {
    const { exports } = await getJSON(this.#url);
    this.#known.clear();
    this.#list.replaceChildren();
    for (const each of exports.toReversed()) this.#show(each);
  }

  /** @param {import("./wording.js").RealtimeEvent} event */
  onEvent({ type, job_id, progress, status, download_url, actor, created_at }) {
    const before = this.#known.get(job_id);
    const known = before ?? { job_id, requested_by: Number(actor), created_at, progress: 0, error: "", download_url: "" };
    if (type === "export_progress") this.#show({ ...known, status: "running", progress });
    if (type !== "export_done") return;
    const isShown = before || status === "done" || this.#people.isMe(actor);
    if (isShown) this.#show({ ...known, status, download_url, error: status === "failed" ? say("exportFailure") : "" });
  }

  /** @param {SubmitEvent} event */
  async #request(event) {
    event.preventDefault();
    const button = /** @type {HTMLButtonElement | null} */ (event.submitter);
    byId("problem").hidden = true;
    this.#allow(false);
    try {
      this.#show(await post(this.#form, button?.name ? { [button.name]: button.value } : {}));
    } catch (error) {
      this.#allow(true);
      byId("problem").textContent = /** @type {Error} */ (error).message;
      byId("problem").hidden = false;
    }
  }

  /** Show what is known now; an answer that comes after the events it caused changes nothing. @param {Export} next */
  #show(next) {
    const before = this.#known.get(next.job_id);
    if (before && ORDER.indexOf(before.status) > ORDER.indexOf(next.status)) return;
    if (before && before.status === next.status && before.progress > next.progress) return;
    this.#known.set(next.job_id, next);
    this.#draw(this.#row(next.job_id), next);
    while (this.#list.children.length > SHOWN) this.#list.lastElementChild?.remove();
    byId("exports-empty").hidden = true;
    this.#allow(![...this.#known.values()].some((each) => this.#people.isMe(each.requested_by) && isUnderWay(each)));
  }

  /** @param {string} id @returns {HTMLElement} */
  #row(id) {
    const rows = /** @type {HTMLElement[]} */ ([...this.#list.children]);
    const found = rows.find((row) => row.dataset.job === id);
    if (found) return found;
    const row = copyOf("export-row");
    row.dataset.job = id;
    this.#list.prepend(row);
    return row;
  }

  /** @param {HTMLElement} row @param {Export} one */
  #draw(row, one) {
    row.dataset.status = one.status;
    within(row, ".export-name").textContent = this.#people.isMe(one.requested_by)
      ? say("exportMine")
      : say("exportOf", { name: this.#people.name(one.requested_by) });
    const state = within(row, ".export-state");
    if (one.status === "done") state.replaceChildren(ago(one.created_at));
    else state.textContent = one.status === "failed" ? one.error || say("exportFailure") : one.status === "queued" ? say("waiting") : `${one.progress} %`;
    const bar = /** @type {HTMLProgressElement} */ (within(row, "progress"));
    bar.value = one.progress;
    bar.hidden = !isUnderWay(one);
    const download = /** @type {HTMLAnchorElement} */ (within(row, ".download"));
    const path = one.status === "done" ? safePath(one.download_url) : null;
    download.hidden = !path;
    if (path) download.href = path;
  }

  /** @param {boolean} isAllowed */
  #allow(isAllowed) {
    for (const button of this.#form.querySelectorAll("button")) button.disabled = !isAllowed;
  }
}

/** @param {Export} one */
function isUnderWay(one) {
  return one.status === "queued" || one.status === "running";
}
