import { animate, byId, element } from "./elements.js";

const STAYS = 6_000; // milliseconds
const AT_MOST = 3;

/** News in the corner, gone after a while. The bell reads them out, and keeps them. */
export class Toasts {
  #place = byId("toasts");
  #dismiss;

  /** @param {string} dismiss  the name of the button */
  constructor(dismiss) {
    this.#dismiss = dismiss;
  }

  /** @param {string} kind @param {(string | Node)[]} children */
  show(kind, children) {
    const close = /** @type {HTMLButtonElement} */ (element("button", "close", ["×"]));
    close.type = "button";
    close.ariaLabel = this.#dismiss;
    const toast = element("div", "toast", [element("p", "", children), close]);
    toast.dataset.kind = kind;
    close.onclick = () => toast.remove();
    this.#leaveLater(toast);
    this.#place.append(toast);
    while (this.#place.children.length > AT_MOST) this.#place.firstElementChild?.remove();
    animate(toast, [{ opacity: 0, translate: "0 12px" }, {}], 250);
    return toast;
  }

  clear() {
    this.#place.replaceChildren();
  }

  /** Not while somebody reads it or is about to click. @param {HTMLElement} toast */
  #leaveLater(toast) {
    let timer = setTimeout(() => toast.remove(), STAYS);
    const stay = () => clearTimeout(timer);
    const leave = () => {
      stay();
      timer = setTimeout(() => toast.remove(), STAYS);
    };
    toast.addEventListener("pointerenter", stay);
    toast.addEventListener("pointerleave", leave);
    toast.addEventListener("focusin", stay);
    toast.addEventListener("focusout", leave);
  }
}
