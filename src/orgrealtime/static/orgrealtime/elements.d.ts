/**
 * What the modules add to the types of a page: `document.querySelector("org-notifications")`, its events, and JSX.
 * Written by hand, because this can't be said in a JavaScript module.
 */
import type { RealtimeEvent, Reset, State, UserChange } from "./client.js";
import type { OrgNotifications } from "./notifications.js";
import type { OrgRoom } from "./room.js";

/** The attributes of `<org-notifications>`. */
export type OrgNotificationsAttributes = {
  [Name in
    | "org"
    | "since"
    | "share-key"
    | "share"
    | "url"
    | "catch-up-url"
    | "stream-url"
    | "label"
    | "texts"
    | "lang"
    | "id"
    | "class"
    | "className"
    | "slot"]?: string | undefined;
};

/** The attributes of `<org-room>`. */
export type OrgRoomAttributes = {
  [Name in
    | "org"
    | "room"
    | "messages-url"
    | "share-key"
    | "people"
    | "label"
    | "texts"
    | "moderator"
    | "lang"
    | "id"
    | "class"
    | "className"
    | "slot"]?: string | undefined;
};

/** Beside the attributes whatever JSX has for every element, such as `key`, `ref` and `hidden`. */
export type OrgNotificationsProps = OrgNotificationsAttributes & { [name: string]: unknown };
export type OrgRoomProps = OrgRoomAttributes & { [name: string]: unknown };

declare global {
  interface HTMLElementTagNameMap {
    "org-notifications": OrgNotifications;
    "org-room": OrgRoom;
  }

  // They bubble: the document and the window hear of them, too.
  interface GlobalEventHandlersEventMap {
    "orgrealtime:event": CustomEvent<RealtimeEvent>;
    "orgrealtime:state": CustomEvent<State>;
    "orgrealtime:user": CustomEvent<UserChange>;
    "orgrealtime:reset": CustomEvent<Reset & { waitUntil(promise: Promise<unknown>): void }>;
  }

  // React up to 18, Preact, Solid and others.
  namespace JSX {
    interface IntrinsicElements {
      "org-notifications": OrgNotificationsProps;
      "org-room": OrgRoomProps;
    }
  }
}

// React from 19 on; where React isn't installed there is nothing to add to.
// @ts-ignore
declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "org-notifications": OrgNotificationsProps;
      "org-room": OrgRoomProps;
    }
  }
}

// Vue's templates; where Vue isn't installed there is nothing to add to.
// @ts-ignore
declare module "vue" {
  interface GlobalComponents {
    // @ts-ignore
    "org-notifications": import("vue").DefineComponent<OrgNotificationsProps>;
    // @ts-ignore
    "org-room": import("vue").DefineComponent<OrgRoomProps>;
  }
}
