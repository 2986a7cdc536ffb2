/** The page of the rooms: one is open, and the others tell when something has been said there. */

import { connect } from "orgrealtime";
import "orgrealtime/notifications";
import "orgrealtime/room";
import { ConnectionState } from "./connection.js";
import { byId, within } from "./elements.js";
import { People } from "./people.js";
import { Wording, isMove, kindOf } from "./wording.js";

/** @typedef {import("orgrealtime").RealtimeEvent} RealtimeEvent */

/** @type {import("orgrealtime").Options} */
const config = JSON.parse(byId("orgrealtime-config").textContent ?? "");
const page = JSON.parse(byId("page").textContent ?? "");
const people = new People(page.members, page.user);
const connection = new ConnectionState(page.organization);
const room = /** @type {import("orgrealtime/room").OrgRoom} */ (byId("room"));
const bell = /** @type {import("orgrealtime/notifications").OrgNotifications} */ (byId("bell"));
// What the bell says of tasks, without a board.
const wording = new Wording(
  { title: (id) => page.tasks[id] ?? "", label: (status) => page.statuses[status] ?? status },
  people,
);

/** @returns {HTMLAnchorElement[]} */
const links = () => [...byId("rooms").querySelectorAll("a")];
const current = () => links().find((link) => link.ariaCurrent === "page");

/** @param {HTMLAnchorElement} link */
function open(link) {
  for (const each of links()) each.ariaCurrent = each === link ? "page" : null;
  const name = within(link, ".room-name").textContent ?? "";
  byId("room-name").textContent = name;
  within(link, ".news").hidden = true;
  room.setAttribute("label", name);
  room.setAttribute("room", new URL(link.href).searchParams.get("room") ?? "");
  link.scrollIntoView({ block: "nearest", inline: "nearest" });
}

byId("rooms").addEventListener("click", (event) => {
  const link = /** @type {HTMLElement} */ (event.target).closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link === current()) return;
  history.pushState(null, "", link.href);
  open(link);
});

addEventListener("popstate", () => {
  const link = links().find(({ search }) => search === location.search) ?? links()[0];
  if (link) open(link);
});

/** @param {RealtimeEvent} event */
function onEvent(event) {
  const link = links().find(({ dataset }) => dataset.room === String(event.room));
  if (event.type === "chat.message" && link && link !== current() && !people.isMe(event.actor)) {
    within(link, ".news").hidden = false;
  }
  if (event.type === "chat.room" && link) within(link, ".room-name").textContent = event.name;
  // A room that came, or has gone, for this user.
  const isMine = [event.user, ...(event.users ?? [])].some((user) => people.isMe(user ?? null));
  if ((event.type === "chat.joined" && !link && isMine) || (event.type === "chat.left" && link && isMine)) {
    location.reload();
  }
}

const client = connect({
  ...config,
  onEvent,
  onReset: () => {}, // the room fetches what it shows by itself
  onUser: () => location.reload(),
  onState: (state) => connection.show(state),
});
room.client = client;
bell.format = (event) => (kindOf(event) && !(isMove(event) && people.isMe(event.actor)) ? wording.line(event) : null);
bell.client = client;
bell.setAttribute("org", config.org ?? "");
bell.setAttribute("share-key", String(config.shareKey));
