/** The page: everything on it follows the organisation's events. */

import { connect } from "orgrealtime";
import "orgrealtime/notifications";
import { Board, Mover } from "./board.js";
import { ConnectionState } from "./connection.js";
import { byId, element, keepTimes } from "./elements.js";
import { Exports } from "./exports.js";
import { Feed } from "./feed.js";
import { People } from "./people.js";
import { Pulse, REMEMBERED } from "./pulse.js";
import { getJSON } from "./requests.js";
import { Toasts } from "./toasts.js";
import { Wording, isMove, kindOf } from "./wording.js";

/** @typedef {import("./wording.js").RealtimeEvent} RealtimeEvent */

const TOLD_ONE_BY_ONE = 3;

/** @type {import("orgrealtime").Options} */
const config = JSON.parse(byId("orgrealtime-config").textContent ?? "");
const page = JSON.parse(byId("page").textContent ?? "");
const people = new People(page.members, page.user);
const board = new Board();
const wording = new Wording(board, people);
const feed = new Feed(wording, people);
const pulse = new Pulse();
const toasts = new Toasts();
const files = new Exports(page.urls.exports, page.exports, people);
const connection = new ConnectionState(page.organization);
new Mover(board);
keepTimes();

/** @type {Set<string>} */ const looked = new Set();
/** @type {RealtimeEvent[]} */ let missed = [];
let isLive = false;

async function refetchBoard() {
  const { tasks, members } = await getJSON(page.urls.tasks);
  people.replace(members);
  board.replace(tasks);
}

/** A task or member that came after the page; or one that is gone, which to ask for once is enough. @param {RealtimeEvent} event */
async function meetNewcomers(event) {
  if (event.type !== "task_event" || (board.card(event.task_id) && people.knows(event.actor))) return;
  const pair = `${event.task_id} ${event.actor}`;
  if (looked.has(pair)) return;
  looked.add(pair);
  await refetchBoard().catch(console.error);
}

/** @param {RealtimeEvent} event */
async function onEvent(event) {
  await meetNewcomers(event);
  if (isMove(event)) {
    board.move(event.task_id, event.details.to);
    board.touch(event.task_id, event.created_at);
  }
  files.onEvent(event);
  if (!kindOf(event)) return;
  feed.add(event);
  pulse.add(event);
  if (isLive) announce(event);
  else missed.push(event);
}

/** What oneself did is none, except for a file that one waits for. @param {RealtimeEvent} event */
function isNews(event) {
  const kind = kindOf(event);
  return kind !== null && !(kind === "move" && people.isMe(event.actor));
}

/** @param {RealtimeEvent} event */
function announce(event) {
  if (isNews(event)) toasts.show(kindOf(event) ?? "other", wording.tell(event));
}

function announceMissed() {
  if (missed.length > TOLD_ONE_BY_ONE) toasts.show("other", [`${missed.length} things happened meanwhile.`]);
  else missed.forEach(announce);
  missed = [];
}

// What is new since the page was rendered comes through the client; this is only the past, to begin with.
const past = await getJSON(`${config.catchUpUrl}?limit=${REMEMBERED}`).catch(() => ({ events: [] }));
for (const event of past.events) {
  if (!kindOf(event)) continue;
  feed.add(event);
  pulse.add(event);
}
feed.settle();

const client = connect({
  ...config,
  onEvent,
  onReset: () => Promise.all([refetchBoard(), files.refetch()]),
  onState(state) {
    isLive = state.name === "live";
    if (isLive) announceMissed();
    connection.show(state);
  },
});

// The bell shares the page's connection, and tells screen readers what the toasts show.
const bell = /** @type {import("orgrealtime/notifications").OrgNotifications} */ (byId("bell"));
bell.format = (event) => (isNews(event) ? lineOf(event) : null);
bell.client = client;
bell.setAttribute("org", config.org ?? "");
bell.setAttribute("share-key", String(config.shareKey));

/** @param {RealtimeEvent} event */
function lineOf(event) {
  const text = element("p", "", wording.tell(event)).textContent ?? "";
  return { text, url: event.status === "done" ? event.download_url : undefined };
}
