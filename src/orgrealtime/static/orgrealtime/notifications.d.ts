/// <reference path="./elements.d.ts" />
/**
 * `<org-notifications org="acme" since="…">`: a bell with an unread count, and the list behind it.
 *
 * What an event says is set as text, never as HTML. Works under a Content-Security-Policy without 'unsafe-inline' and
 * under Trusted Types: no inline styles, no parsed HTML.
 *
 * @module orgrealtime/notifications
 */
export type Client = import("./client.js").Client;
export type RealtimeEvent = import("./client.js").RealtimeEvent;
export type Reset = import("./client.js").Reset;
export type State = import("./client.js").State;
export type Line = {
    text: string;
    url?: string;
};
export type Format = (event: RealtimeEvent) => Line | null;
export type Texts = typeof TEXTS;
/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").RealtimeEvent} RealtimeEvent
 * @typedef {import("./client.js").Reset} Reset
 * @typedef {import("./client.js").State} State
 * @typedef {{text: string, url?: string}} Line
 * @typedef {(event: RealtimeEvent) => Line | null} Format  null: not shown
 * @typedef {typeof TEXTS} Texts
 */
declare const TEXTS: {
    title: string;
    empty: string;
    /** @param {number} count */
    unread: (count: number) => string;
    /** @param {number} count */
    news: (count: number) => string;
    /** @type {Record<string, string>} */
    states: Record<string, string>;
};
/** A server, where the module must be importable, has no HTMLElement. */
declare const Base: typeof HTMLElement;
/**
 * A link that is safe to offer: a path of this site, or https on this host.
 *
 * @param {unknown} url
 * @returns {string | undefined}
 */
export declare function safeUrl(url: unknown, host?: string): string | undefined;
/**
 * How an event is shown, unless the page says so itself: `text` or `message` of the payload, else its type in words,
 * with the first safe link of `url` and `…_url`.
 *
 * @type {Format}
 */
export declare function describe(event: import("./client.js").RealtimeEvent): Line | null;
export declare class OrgNotifications extends Base {
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
    /** How an event becomes a line. @returns {Format} */
    get format(): Format;
    set format(format: Format);
    /** What the element itself says; give those that shall differ. @returns {Partial<Texts>} */
    get texts(): Partial<Texts>;
    set texts(texts: Partial<Texts>);
    /** How many events are unread. */
    get unread(): number;
    /** Whether the list is shown. Opening it marks all as read. */
    get open(): boolean;
    set open(isOpen: boolean);
    markRead(): void;
}
export {};
