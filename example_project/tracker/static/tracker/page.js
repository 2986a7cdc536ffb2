/** The page: everything on it follows the organisation's events. */

import { connect } from "orgrealtime";
import "orgrealtime/notifications";
import { Board, Mover } from "./board.js";
import { ConnectionState } from "./connection.js";
import { byId } from "./elements.js";
import { Exports } from "./exports.js";
import { Feed } from "./feed.js";
import { People } from "./people.js";
import { News } from "./news.js";
import { Pulse } from "./pulse.js";
import { getJSON } from "./requests.js";
import { keepTimes } from "./times.js";
import { Wording, isMove, kindOf } from "./wording.js";

/** @typedef {import("./wording.js").RealtimeEvent} RealtimeEvent */

const FIRST_ENTRIES = 200; // not all of them are told

/** @type {import("orgrealtime").Options} */
const config = JSON.parse(byId("orgrealtime-config").textContent ?? "");
const page = JSON.parse(byId("page").textContent ?? "");
const people = new People(page.members, page.user);
const board = new Board();
const wording = new Wording(board, people);
const feed = new Feed(wording, people);
const pulse = new Pulse(page.pulse);
const bell = /** @type {import("orgrealtime/notifications").OrgNotifications} */ (byId("bell"));
const news = new News(board, people, wording, bell);
const files = new Exports(page.urls.exports, page.exports, people);
const connection = new ConnectionState(page.organization);
new Mover(board);
keepTimes();

/** @type {Set<string>} */ const looked = new Set();

/** @param {import("orgrealtime").Reset} reset */
async function refetchPulse(reset) {
  pulse.replace((await getJSON(`${page.urls.pulse}?until=${reset.cursor}`)).pulse);
}

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
  news.add(event);
}

/** Another user has logged in: this page is not theirs, and shows nothing any more until it is theirs. */
function leave() {
  byId("main").hidden = true;
  news.clear();
  location.reload();
  return new Promise(() => {});
}

// What is new since the page was rendered comes through the client; this is only the past, to begin with.
const past = await getJSON(`${config.catchUpUrl}?limit=${FIRST_ENTRIES}`).catch(() => ({ events: [] }));
for (const event of past.events) if (kindOf(event)) feed.add(event);
feed.settle();

const client = connect({
  ...config,
  onEvent,
  onReset: (reset) => Promise.all([refetchBoard(), refetchPulse(reset), files.refetch()]),
  onUser: leave,
  onState(state) {
    news.setLive(state.name === "live");
    connection.show(state);
  },
});

// The bell shares the page's connection, and tells screen readers what the toasts show.
bell.format = (event) => (news.isNews(event) ? wording.line(event) : null);
bell.client = client;
bell.setAttribute("org", config.org ?? "");
bell.setAttribute("share-key", String(config.shareKey));
