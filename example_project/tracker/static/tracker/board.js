/** The page: a board and a feed that follow the organisation's notifications. Text gets in by textContent only. */

import { Notifications } from "./notifications.js";

const FEED_LENGTH = 20;
const TONES = 6; // As many as the style sheet has.

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

class Board {
  #columns = new Map(
    [...document.querySelectorAll(".column")].map((column) => [/** @type {HTMLElement} */ (column).dataset.status, column]),
  );

  /** @param {number | string} id @returns {HTMLElement | null} */
  card(id) {
    return document.querySelector(`.card[data-task="${Number(id)}"]`);
  }

  /** @param {number} id */
  title(id) {
    return this.card(id)?.querySelector("h3")?.textContent;
  }

  /** @param {string} status */
  label(status) {
    return this.#columns.get(status)?.querySelector(".label")?.textContent ?? status;
  }

  /** Put a card on top of a column; nothing happens if it is in that column. @param {number} id @param {string} status */
  move(id, status) {
    const card = this.card(id);
    const column = this.#columns.get(status);
    if (!card || !column || card.dataset.status === status) return;
    const hadFocus = card.contains(document.activeElement);
    this.#place(card, status);
    column.querySelector(".cards").prepend(card);
    card.classList.remove("arrived");
    void card.offsetWidth; // Starts the animation again.
    card.classList.add("arrived");
    this.#count();
    if (hadFocus) /** @type {HTMLElement} */ (card.querySelector("button:not([hidden])")).focus();
  }

  /** Show these tasks and no others. @param {{id: number, title: string, status: string, url: string}[]} tasks */
  replace(tasks) {
    const wanted = new Set(tasks.map((task) => String(task.id)));
    for (const card of document.querySelectorAll(".card")) {
      if (!wanted.has(/** @type {HTMLElement} */ (card).dataset.task ?? "")) card.remove();
    }
    for (const task of tasks) {
      const card = this.card(task.id) ?? this.#create(task);
      card.querySelector("h3").textContent = task.title;
      card.querySelector(".moves").ariaLabel = `Move ${task.title} to`;
      this.#place(card, task.status);
      this.#columns.get(task.status)?.querySelector(".cards").append(card);
    }
    this.#count();
  }

  /** @param {{id: number, url: string}} task */
  #create(task) {
    const template = /** @type {HTMLTemplateElement} */ (byId("card"));
    const card = /** @type {HTMLElement} */ (template.content.firstElementChild.cloneNode(true));
    card.dataset.task = String(task.id);
    card.querySelector("form").action = task.url;
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
      column.querySelector(".count").textContent = String(cards);
      column.querySelector(".empty").hidden = cards > 0;
    }
  }
}

class Feed {
  #list = byId("feed");
  #shown = new Set();

  /** @param {(event: any) => (string | HTMLElement)[]} describe */
  constructor(describe) {
    this.describe = describe;
  }

  /** Later additions are read out; the history that fills the feed at first is not. */
  announce() {
    this.#list.setAttribute("aria-live", "polite");
    byId("feed-empty").hidden = this.#shown.size > 0;
  }

  /** @param {any} event */
  add(event) {
    if (this.#shown.has(event.cursor)) return;
    this.#shown.add(event.cursor);
    const item = element("li", "entry", [
      avatar(event.actor),
      element("div", "what", [element("p", "", this.describe(event)), time(event.created_at)]),
    ]);
    this.#list.prepend(item);
    while (this.#list.children.length > FEED_LENGTH) this.#list.lastElementChild.remove();
    byId("feed-empty").hidden = true;
  }
}

/** Says how the connection is; the seconds tick for the eye only. */
class StateLine {
  #texts = {
    connecting: "Connecting…",
    "catching-up": "Catching up…",
    live: "Live",
    waiting: "Connection lost, reconnecting",
    "signed-out": "Signed out.",
    "no-access": "You no longer have access to this organisation.",
    stopped: "Live updates have stopped. Reload the page.",
  };
  #ticking = 0;

  /** @param {import("./notifications.js").State} state */
  show(state) {
    clearInterval(this.#ticking);
    byId("state").hidden = false;
    byId("state").dataset.state = state.name;
    byId("state-text").textContent = this.#texts[state.name];
    byId("state-countdown").textContent = "";
    byId("state-action").hidden = state.name !== "signed-out";
    if (state.name !== "waiting") return;
    const tick = () => {
      const seconds = Math.max(0, Math.ceil((state.until - Date.now()) / 1000));
      byId("state-countdown").textContent = ` in ${seconds} s`;
    };
    tick();
    this.#ticking = setInterval(tick, 500);
  }
}

const page = JSON.parse(byId("page").textContent);
const board = new Board();
const feed = new Feed(describe);
const stateLine = new StateLine();
/** @type {Set<string>} */ const looked = new Set();
let live = false;

/** @param {any} event @returns {(string | HTMLElement)[]} */
function describe(event) {
  const who = element("strong", "", [nameOf(event.actor)]);
  if (isMove(event)) {
    const title = board.title(event.task_id);
    const { from, to } = event.details;
    return [who, " moved ", title ? `“${title}”` : "a task", ` from ${board.label(from)} to ${board.label(to)}`];
  }
  const { type, cursor, created_at, actor, ...payload } = event;
  return [who, ` · ${type} `, element("code", "", [JSON.stringify(payload)])];
}

/** @param {any} event */
function isMove(event) {
  return event.type === "task_event" && event.action === "status_changed" && Boolean(event.details?.to);
}

/** @param {number | null} actor */
function nameOf(actor) {
  if (actor === null) return "System";
  return actor === page.user ? "You" : (page.members[actor] ?? "A former member");
}

/** @param {number | null} actor */
function avatar(actor) {
  const name = page.members[actor ?? ""] ?? (actor === null ? "System" : "?");
  const node = element("span", `avatar tone-${Number(actor) % TONES || 0}`, [[...name][0].toUpperCase()]);
  node.ariaHidden = "true"; // The name stands beside it.
  return node;
}

/** @param {string} tag @param {string} className @param {(string | Node)[]} children */
function element(tag, className, children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children); // Strings become text nodes.
  return node;
}

/** @param {string} iso */
function time(iso) {
  const when = new Date(iso);
  const today = when.toDateString() === new Date().toDateString();
  const clock = { hour: "2-digit", minute: "2-digit", hour12: false };
  const node = element("time", "", [
    when.toLocaleString([], today ? clock : { day: "numeric", month: "short", ...clock }),
  ]);
  node.setAttribute("datetime", iso);
  node.title = when.toLocaleString();
  return node;
}

/** @param {string} url */
async function getJSON(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.json();
}

async function refetch() {
  const { tasks, members } = await getJSON(page.tasks);
  page.members = members;
  board.replace(tasks);
}

/** @param {any} event */
async function onEvent(event) {
  if (event.type === "task_event") {
    const unknown = !board.card(event.task_id) || !(event.actor === null || event.actor in page.members);
    const pair = `${event.task_id} ${event.actor}`;
    // A task or member that came after the page; or one that is gone, which to ask for once is enough.
    if (unknown && !looked.has(pair)) {
      looked.add(pair);
      await refetch().catch(console.error);
    }
    if (isMove(event)) board.move(event.task_id, event.details.to);
  }
  feed.add(event);
}

/** @param {SubmitEvent} submit */
async function moveByFetch(submit) {
  const form = /** @type {HTMLFormElement} */ (submit.target);
  const button = /** @type {HTMLButtonElement | null} */ (submit.submitter);
  const card = /** @type {HTMLElement | null} */ (form.closest(".card"));
  if (!card || !button) return;
  submit.preventDefault();
  if (card.getAttribute("aria-busy")) return;
  card.setAttribute("aria-busy", "true");
  byId("problem").hidden = true;
  try {
    const body = new URLSearchParams(/** @type {any} */ (new FormData(form)));
    body.set(button.name, button.value);
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(await refusal(response));
    const { task_id, status } = await response.json();
    // While live, the event moves the card: an answer that comes late could undo what somebody else did since.
    if (!live) board.move(task_id, status);
  } catch (error) {
    byId("problem").textContent = error instanceof TypeError ? "The server can’t be reached. The task was not moved." : error.message;
    byId("problem").hidden = false;
  } finally {
    card.removeAttribute("aria-busy");
  }
}

/** @param {Response} response */
async function refusal(response) {
  const body = await response.json().catch(() => null);
  return body?.error?.message ?? "The task was not moved. Reload the page and try again.";
}

document.addEventListener("submit", moveByFetch);

// What is new since the page was rendered comes through the socket; this is only the past, to begin with.
const past = await getJSON(`${page.catchUp}?limit=${FEED_LENGTH}`).catch(() => ({ events: [] }));
for (const event of past.events) feed.add(event);
feed.announce();

new Notifications({
  socketUrl: page.socket,
  catchUpUrl: page.catchUp,
  cursor: page.cursor,
  onEvent,
  onReset: refetch,
  onState(state) {
    live = state.name === "live";
    stateLine.show(state);
  },
}).start();
