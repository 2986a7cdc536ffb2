import { animate, byId, copyOf, within } from "./elements.js";
import { post } from "./requests.js";
import { say } from "./texts.js";
import { showTime } from "./times.js";

/** @typedef {{id: number, title: string, status: string, updated_at: string, url: string}} Task */

const GLOW = [
  { borderColor: "var(--accent)", boxShadow: "0 0 0 3px var(--accent-soft)", translate: "0 -4px" },
  { translate: "0", offset: 0.2 },
  { borderColor: "var(--accent)", boxShadow: "0 0 0 3px var(--accent-soft)", offset: 0.6 },
  {},
];

/** The cards in their columns. */
export class Board {
  /** @type {Map<string, HTMLElement>} */ #columns = new Map();
  /** @type {Set<Element>} */ #inSight = new Set();
  #observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) this.#inSight[isIntersecting ? "add" : "delete"](target);
  });

  constructor() {
    for (const card of document.querySelectorAll(".card")) this.#observer.observe(card);
    for (const column of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".column"))) {
      this.#columns.set(column.dataset.status ?? "", column);
    }
  }

  /** @param {number | string} id @returns {HTMLElement | null} */
  card(id) {
    return document.querySelector(`.card[data-task="${Number(id)}"]`);
  }

  /** @param {number | string} id */
  title(id) {
    return this.card(id)?.querySelector("h3")?.textContent ?? "";
  }

  /** Whether somebody who looks at the page sees the card. @param {number | string} id */
  isInSight(id) {
    const card = this.card(id);
    return card !== null && this.#inSight.has(card);
  }

  /** @param {string} status */
  label(status) {
    const column = this.#columns.get(status);
    return column ? within(column, ".label").textContent : status;
  }

  /** Put a card on top of a column; nothing happens if it is in that column. @param {number | string} id @param {string} status */
  move(id, status) {
    const card = this.card(id);
    const column = this.#columns.get(status);
    if (!card || !column || card.dataset.status === status) return;
    const hadFocus = card.contains(document.activeElement);
    this.#place(card, status);
    within(column, ".cards").prepend(card);
    animate(card, GLOW, 1_600);
    this.#count();
    if (hadFocus) within(card, "button:not([hidden])").focus();
  }

  /** @param {number | string} id @param {string} iso */
  touch(id, iso) {
    const time = /** @type {HTMLTimeElement | null | undefined} */ (this.card(id)?.querySelector("time"));
    if (!time || new Date(time.dateTime) > new Date(iso)) return;
    time.dateTime = iso;
    showTime(time);
  }

  /** Show these tasks and no others. @param {Task[]} tasks */
  replace(tasks) {
    const wanted = new Set(tasks.map((task) => String(task.id)));
    for (const card of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".card"))) {
      if (wanted.has(card.dataset.task ?? "")) continue;
      this.#observer.unobserve(card);
      this.#inSight.delete(card);
      card.remove();
    }
    for (const task of tasks) {
      const card = this.card(task.id) ?? this.#create(task);
      within(card, "h3").textContent = task.title;
      within(card, ".moves").ariaLabel = say("moveTo", { title: task.title });
      this.#place(card, task.status);
      const column = this.#columns.get(task.status);
      if (column) within(column, ".cards").append(card);
      this.touch(task.id, task.updated_at);
    }
    this.#count();
  }

  /** @param {Task} task */
  #create(task) {
    const card = copyOf("card");
    card.dataset.task = String(task.id);
    this.#observer.observe(card);
    /** @type {HTMLFormElement} */ (within(card, "form")).action = task.url;
    /** @type {HTMLTimeElement} */ (within(card, "time")).dateTime = task.updated_at;
    return card;
  }

  /** @param {HTMLElement} card @param {string} status */
  #place(card, status) {
    card.dataset.status = status;
    for (const button of card.querySelectorAll("button")) button.hidden = button.value === status;
  }

  #count() {
    for (const column of this.#columns.values()) {
      const cards = column.querySelectorAll(".card").length;
      within(column, ".count").textContent = String(cards);
      within(column, ".empty").hidden = cards > 0;
    }
  }
}

/** Moves cards by their buttons and by dragging: at once on this page, and back if the server refuses. */
export class Mover {
  /** @type {HTMLElement | null} */ #dragged = null;
  #board;

  /** @param {Board} board */
  constructor(board) {
    this.#board = board;
    document.addEventListener("submit", (event) => this.#submitted(event));
    document.addEventListener("dragstart", (event) => this.#start(event));
    document.addEventListener("dragover", (event) => this.#over(event));
    document.addEventListener("drop", (event) => this.#drop(event));
    document.addEventListener("dragend", () => this.#end());
  }

  /** @param {HTMLElement} card @param {string} status */
  async move(card, status) {
    const before = card.dataset.status ?? "";
    const id = card.dataset.task ?? "";
    if (card.ariaBusy || before === status) return;
    byId("problem").hidden = true;
    this.#board.move(id, status);
    card.ariaBusy = "true";
    try {
      await post(/** @type {HTMLFormElement} */ (within(card, "form")), { status });
    } catch (error) {
      // Not if somebody else has moved it since.
      if (card.dataset.status === status) this.#board.move(id, before);
      byId("problem").textContent = `${/** @type {Error} */ (error).message} ${say("notMoved")}`;
      byId("problem").hidden = false;
    } finally {
      card.ariaBusy = null;
    }
  }

  /** @param {SubmitEvent} event */
  #submitted(event) {
    const button = /** @type {HTMLButtonElement | null} */ (event.submitter);
    const card = cardOf(event.target);
    if (!card || !button) return;
    event.preventDefault();
    this.move(card, button.value);
  }

  /** @param {DragEvent} event */
  #start(event) {
    this.#dragged = cardOf(event.target);
    if (!this.#dragged || !event.dataTransfer) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", within(this.#dragged, "h3").textContent ?? "");
    this.#dragged.classList.add("dragged");
  }

  /** @param {DragEvent} event */
  #over(event) {
    const column = this.#target(event);
    for (const each of document.querySelectorAll(".column")) each.classList.toggle("over", each === column);
    if (column) event.preventDefault(); // Says that it may be dropped here.
  }

  /** @param {DragEvent} event */
  #drop(event) {
    const column = this.#target(event);
    if (!column || !this.#dragged) return;
    event.preventDefault();
    this.move(this.#dragged, column.dataset.status ?? "");
    this.#end();
  }

  #end() {
    this.#dragged?.classList.remove("dragged");
    this.#dragged = null;
    for (const each of document.querySelectorAll(".column")) each.classList.remove("over");
  }

  /** The column under a dragged card, unless it is the card's own. @param {DragEvent} event @returns {HTMLElement | null} */
  #target(event) {
    if (!this.#dragged) return null;
    const column = /** @type {Element} */ (event.target).closest?.(".column");
    return column instanceof HTMLElement && column.dataset.status !== this.#dragged.dataset.status ? column : null;
  }
}

/** @param {EventTarget | null} target @returns {HTMLElement | null} */
function cardOf(target) {
  return target instanceof Element ? target.closest(".card") : null;
}
