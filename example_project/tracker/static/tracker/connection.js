import { byId } from "./elements.js";

/** @typedef {import("orgrealtime").State} State */

const BANNER_AFTER = 1_500; // milliseconds; a shorter break is none of the user's business

/** @type {Record<State["name"], string>} */
const LABELS = {
  connecting: "Connecting…",
  "catching-up": "Catching up…",
  live: "Live",
  waiting: "Reconnecting",
  offline: "Offline",
  unauthenticated: "Signed out",
  forbidden: "No access",
  stopped: "Stopped",
};

const LOST = "The connection is lost. What you see may be out of date; it catches up by itself.";

/** Says how the connection is: a word beside the title, and a banner when people should know more. */
export class ConnectionState {
  #tick = 0;
  #bannerTimer = 0;
  #wasLive = false;
  /** @type {Record<string, string>} */ #banners;

  /** @param {string} organization */
  constructor(organization) {
    this.#banners = {
      waiting: LOST,
      connecting: LOST,
      offline: "You are offline. What you see may be out of date; it catches up by itself.",
      unauthenticated: "You have been signed out, so this page has stopped.",
      forbidden: `You are no longer a member of ${organization}. This page has stopped.`,
      stopped: "Live updates have stopped. Reload the page to go on.",
    };
  }

  /** @param {State} state */
  show(state) {
    const { name, transport } = state;
    byId("state").hidden = false;
    byId("state").dataset.state = name;
    byId("state-text").textContent = name === "live" && transport === "polling" ? "Polling" : LABELS[name];
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
    const tick = () => (node.textContent = ` in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s`);
    tick();
    this.#tick = setInterval(tick, 250);
  }

  /** @param {State["name"]} name */
  #announce(name) {
    const banner = byId("banner");
    this.#wasLive ||= name === "live";
    const text = name === "connecting" && !this.#wasLive ? "" : this.#banners[name];
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
