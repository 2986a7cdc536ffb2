import { byId } from "./elements.js";
import { say, sayOne } from "./texts.js";

/** @typedef {import("orgrealtime").State} State */

const BANNER_AFTER = 1_500; // milliseconds; a shorter break is none of the user's business

/** Which states people are told of, and by which text. @type {Record<string, string>} */
const BANNERS = {
  waiting: "lost",
  connecting: "lost",
  offline: "offline",
  unauthenticated: "unauthenticated",
  forbidden: "forbidden",
  stopped: "stopped",
};

/** Says how the connection is: a word beside the title, and a banner when people should know more. */
export class ConnectionState {
  #tick = 0;
  #bannerTimer = 0;
  #wasLive = false;
  #organization;

  /** @param {string} organization */
  constructor(organization) {
    this.#organization = organization;
  }

  /** @param {State} state */
  show(state) {
    const { name, transport } = state;
    byId("state").hidden = false;
    byId("state").dataset.state = name;
    byId("state-text").textContent = sayOne("states", name === "live" && transport === "polling" ? "polling" : name);
    this.#countDown(name === "waiting" ? state.retryAt : undefined);
    this.#announce(name);
    const isOver = ["unauthenticated", "forbidden", "stopped"].includes(name);
    byId("workspace").toggleAttribute("inert", isOver);
  }

  /** The seconds tick for the eye only. @param {number} [until]  milliseconds since 1970 */
  #countDown(until) {
    clearInterval(this.#tick);
    const node = byId("state-countdown");
    node.textContent = "";
    if (until === undefined) return;
    const tick = () => (node.textContent = ` ${say("retryIn", { seconds: Math.max(0, Math.ceil((until - Date.now()) / 1000)) })}`);
    tick();
    this.#tick = setInterval(tick, 250);
  }

  /** @param {State["name"]} name */
  #announce(name) {
    const banner = byId("banner");
    this.#wasLive ||= name === "live";
    const isFirst = name === "connecting" && !this.#wasLive;
    const text = isFirst ? "" : sayOne("banners", BANNERS[name], { organization: this.#organization });
    const show = () => {
      banner.hidden = false;
      banner.dataset.state = name;
      byId("banner-text").textContent = text;
      byId("banner-action").hidden = name !== "unauthenticated";
    };
    const isPassing = name === "waiting" || name === "connecting";
    if (text && isPassing && banner.hidden) {
      this.#bannerTimer ||= setTimeout(show, BANNER_AFTER); // From the break on, however often it is tried meanwhile.
      return;
    }
    clearTimeout(this.#bannerTimer);
    this.#bannerTimer = 0;
    if (name === "catching-up") return; // The banner stays until all is there.
    if (text) show();
    else banner.hidden = true;
  }
}
