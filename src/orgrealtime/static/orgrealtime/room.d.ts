/// <reference path="./elements.d.ts" />
/**
 * `<org-room org="acme" room="general">`: the messages of a room of `orgrealtime.chat`, and a field to write in.
 *
 * Of the messages only those around what is in sight are in the document, so that a long history slows nothing down.
 * What people write is set as text, never as HTML. Works under a Content-Security-Policy without 'unsafe-inline' and
 * under Trusted Types: no style attributes, no parsed HTML.
 *
 * @module orgrealtime/room
 */
import { ChatRoom } from "./chat.js";
export type ChatError = import("./chat.js").ChatError;
export type Message = import("./chat.js").Message;
export type Outgoing = import("./chat.js").Outgoing;
export type Reaction = import("./chat.js").Reaction;
export type Client = import("./client.js").Client;
export type Key = import("./client.js").Key;
export type Person = {
    name: string;
    initials?: string;
    color?: string;
};
export type Item = Message & Partial<Pick<Outgoing, "state" | "error">>;
/** A server, where the module must be importable, has no HTMLElement. */
declare const Base: typeof HTMLElement;
export declare class OrgRoom extends Base {
    #private;
    static observedAttributes: string[];
    constructor();
    connectedCallback(): void;
    disconnectedCallback(): void;
    /** @param {string} name @param {string | null} before @param {string | null} after */
    attributeChangedCallback(name: string, before: string | null, after: string | null): void;
    /** The client that is followed: the page's, or one that the element makes for itself. @returns {Client | null} */
    get client(): Client | null;
    set client(client: Client | null);
    /** The room that is shown. @returns {ChatRoom | null} */
    get chat(): ChatRoom | null;
    /** Who is who, by the ids of the users. @returns {Record<string, Person>} */
    get people(): Record<string, Person>;
    set people(people: Record<string, Person>);
    /** What the element says, by the names in `texts.js`; what isn't given is said in English. @returns {Record<string, string>} */
    get texts(): Record<string, string>;
    set texts(texts: Record<string, string>);
}
export {};
