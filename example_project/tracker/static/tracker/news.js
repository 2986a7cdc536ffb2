import { say, sayCount } from "./texts.js";
import { Toasts } from "./toasts.js";
import { isMove, kindOf } from "./wording.js";

/** @typedef {import("./wording.js").RealtimeEvent} RealtimeEvent */

const GATHERED_FOR = 400; // milliseconds
const TOLD_ONE_BY_ONE = 2;

/**
 * Tells what others did, once: by a toast, unless a card that glows in sight has told it, or the open bell lists it.
 * What comes together is told together.
 */
export class News {
  /** @type {RealtimeEvent[]} */ #waiting = [];
  #timer = 0;
  #isLive = false;
  #board;
  #people;
  #wording;
  #bell;
  #toasts = new Toasts(say("dismiss"));
  /** The toast that tells of several, and of how many. @type {{toast: HTMLElement, count: number} | null} */ #group = null;

  /**
   * @param {import("./board.js").Board} board @param {import("./people.js").People} people
   * @param {import("./wording.js").Wording} wording
   * @param {import("orgrealtime/notifications").OrgNotifications} bell
   */
  constructor(board, people, wording, bell) {
    this.#board = board;
    this.#people = people;
    this.#wording = wording;
    this.#bell = bell;
    bell.addEventListener("click", () => bell.open && this.#toasts.clear());
    document.addEventListener("visibilitychange", () => this.#tellSoon());
  }

  /** What oneself did is none, except for a file that one waits for. @param {RealtimeEvent} event */
  isNews(event) {
    const kind = kindOf(event);
    return kind !== null && !(kind === "move" && this.#people.isMe(event.actor));
  }

  /** @param {RealtimeEvent} event */
  add(event) {
    if (!this.isNews(event)) return;
    this.#waiting.push(event);
    this.#tellSoon();
  }

  /** What was missed is told as soon as all of it is there. @param {boolean} isLive */
  setLive(isLive) {
    this.#isLive = isLive;
    this.#tellSoon();
  }

  clear() {
    this.#waiting = [];
    this.#toasts.clear();
  }

  #tellSoon() {
    if (this.#isLive && !document.hidden) this.#timer ||= setTimeout(() => this.#tell(), GATHERED_FOR);
  }

  #tell() {
    this.#timer = 0;
    if (!this.#isLive || document.hidden) return;
    const waiting = this.#waiting.splice(0);
    if (this.#bell.open) return; // which lists it
    const news = waiting.filter((event) => !isMove(event) || !this.#board.isInSight(event.task_id));
    if (news.length > TOLD_ONE_BY_ONE) this.#tellTogether(news.length);
    else for (const event of news) this.#toasts.show(kindOf(event) ?? "other", this.#wording.tell(event));
  }

  /** As more of what is being caught up with, if that is still told. @param {number} more */
  #tellTogether(more) {
    const before = this.#group?.toast.isConnected ? this.#group.count : 0;
    this.#group?.toast.remove();
    const count = before + more;
    this.#group = { toast: this.#toasts.show("other", [sayCount("news", count)]), count };
  }
}
