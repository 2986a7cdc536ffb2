// A page without a framework. Compiled by package.test.mjs, never run.
import { CLOSE_CODES, type Client, connect, type Options, type RealtimeEvent, type State } from "orgrealtime";
import { ChatRoom, lengthOf, type Message } from "orgrealtime/chat";
import { describe } from "orgrealtime/notifications";
import type { OrgRoom } from "orgrealtime/room";

const bell = document.querySelector("org-notifications");
if (bell) {
  const unread: number = bell.unread;
  bell.open = unread > 0;
  bell.format = (event) => (event.type === "note" ? { text: String(event.text) } : describe(event));
  bell.addEventListener("orgrealtime:event", (event) => {
    const type: string = event.detail.type;
    console.log(type, event.detail.cursor.length);
  });
  bell.addEventListener("orgrealtime:state", ({ detail }) => console.log(detail.name === "stuck"));
  bell.addEventListener("orgrealtime:reset", ({ detail }) => detail.waitUntil(Promise.resolve(detail.reason)));
}
document.addEventListener("orgrealtime:user", ({ detail }) => console.log(detail.user, detail.previous));
document.createElement("org-notifications").markRead();

// Options that may be missing are given as undefined.
type Given = Pick<Options, "org" | "since" | "shareKey" | "user"> & { onEvent?: (event: RealtimeEvent) => void };
export function follow({ org, since, shareKey, user, onEvent }: Given, onState: (state: State) => void): Client {
  const storage = since === undefined ? sessionStorage : undefined;
  const client = connect({ org, since, shareKey, user, storage, onEvent, onState, outside: { locks: undefined } });
  client.on("user", ({ user, previous }) => console.log(user, previous));
  // @ts-expect-error: there is no such kind
  client.on("events", () => {});
  // @ts-expect-error: there is no such option
  connect({ org, onevent: onEvent });
  console.log(CLOSE_CODES[4401]?.name);
  return client;
}

const element: OrgRoom | null = document.querySelector("org-room");
if (element) element.people = { 7: { name: "Alice", color: "teal" } };

export function talk(client: Client): ChatRoom {
  const onMessage = ({ author, body }: Message) => console.log(author, lengthOf(body));
  const room = new ChatRoom({ org: "acme", room: "general", client, onMessage });
  room.send("Good morning");
  // @ts-expect-error: a room has a client
  new ChatRoom({ org: "acme", room: "general" });
  return room;
}
