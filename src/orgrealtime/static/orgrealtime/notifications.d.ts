/// <reference path="./elements.d.ts" />
/**
 * `<org-notifications org="acme" since="…">`: a bell with an unread count, and the list behind it, which `panel.js` has:
 * it is loaded when somebody turns to the bell.
 *
 * What an event says is set as text, never as HTML. Works under a Content-Security-Policy without 'unsafe-inline' and
 * under Trusted Types: no style attributes, no parsed HTML.
 *
 * @module orgrealtime/notifications
 */
export type Client = import("./client.js").Client;
export type Options = import("./client.js").Options;
export type RealtimeEvent = import("./client.js").RealtimeEvent;
export type Reset = import("./client.js").Reset;
export type State = import("./client.js").State;
export type UserChange = import("./client.js").UserChange;
export type Line = {
    text: string;
    url?: string | undefined;
    actor?: string | undefined;
};
export type Format = (event: RealtimeEvent) => Line | null;
export type Counted = string | Record<string, string> | ((count: number) => string);
export type Texts = {
    title: string;
    empty: string;
    markAllRead: string;
    markRead: string;
    close: string;
    /**
     * said in place of a list that can't be loaded
     */
    unavailable: string;
    unread: Counted;
    news: Counted;
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
 * after its `actor_name`, with the first safe link of `url` and `…_url`.
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
    /** How many events have come since the list was open last: the number on the bell. */
    get unread(): number;
    /** Whether the list is shown. Opening it sets the count to zero. */
    get open(): boolean;
    set open(isOpen: boolean);
    /** Set the count to zero, and take the marks from the lines. */
    markRead(): void;
}
export {};
