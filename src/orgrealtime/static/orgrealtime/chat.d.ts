/**
 * One room of `orgrealtime.chat` in a page: its messages in order, from the history and from the stream, and what the
 * user has written and the server hasn't accepted yet.
 *
 *     const room = new ChatRoom({ org: "acme", room: "general", client, onChange: draw });
 *     room.send("Good morning");
 *
 * The history comes over HTTP, everything newer through a client, which may be the page's own. Messages are known by
 * their ids and applied by their versions, so that neither minds what the other has brought already.
 *
 * @module orgrealtime/chat
 */
import type { Client, Key } from "./client.js";
export type Reaction = {
    emoji: string;
    count: number;
    mine: boolean;
    users?: Key[];
};
export type Message = {
    message_id: number;
    /**
     * in the history; what came live has none
     */
    position?: number;
    client_message_id?: string | null;
    /**
     * null: the host application
     */
    author: Key | null;
    body: string;
    version: number;
    reply_to?: number | null;
    reactions: Reaction[];
    created_at: string;
    deleted?: boolean;
};
export type ChatError = {
    code: string;
    message?: string;
    limit?: number;
    retry_after_ms?: number;
    version?: number;
    body?: string;
};
export type Sending = {
    client_message_id: string;
    /**
     * "sent": accepted, and its event is still to come
     */
    state: "pending" | "failed" | "sent";
    /**
     * why it has failed, or waits
     */
    error: ChatError | null;
};
export type Outgoing = Message & Sending;
export type RoomInfo = {
    name?: string;
    archived?: boolean;
    [key: string]: any;
};
export type RoomOptions = {
    /**
     * slug of the organisation
     */
    org: string;
    /**
     * slug of the room; the id of one without a slug
     */
    room: string;
    /**
     * default: `/orgs/<org>/rooms/<room>/messages/`
     */
    messagesUrl?: string | undefined;
    /**
     * the page's own, or what makes one that begins at a cursor
     */
    client: Client | ((since: string) => Client);
    /**
     * for whom the page was made; default: as the client knows
     */
    user?: Key | undefined;
    /**
     * something is to be drawn anew
     */
    onChange?: () => unknown;
    /**
     * somebody else's message has just come
     */
    onMessage?: (message: Message) => unknown;
};
/** How many characters a text has, as the server counts them. @param {string} text */
export declare function lengthOf(text: string): number;
export declare class ChatRoom {
    #private;
    /** What the room follows, as soon as there is one. @type {Client | null} */ client: Client | null;
    /** Its id, as soon as that is known. @type {number | undefined} */ id: number | undefined;
    /** What is loaded, the oldest first. @type {Message[]} */ messages: Message[];
    /** What isn't among the messages yet, the oldest first. @type {Outgoing[]} */ outbox: Outgoing[];
    /** Whether there are messages before those that are loaded. */ hasOlder: boolean;
    /** Why the history can't be loaded. @type {ChatError | null} */ problem: ChatError | null;
    /** @type {RoomInfo} */ info: RoomInfo;
    /** How many characters a message may have. */ limit: number;
    /** Who else is typing: the first few. @type {Key[]} */ typing: Key[];
    /** How many are. */ typingCount: number;
    /** @param {RoomOptions} options */
    constructor(options: RoomOptions);
    /** Whose page it is. @returns {Key | undefined} */
    get user(): Key | undefined;
    /** Whether messages are being loaded. */
    get isLoading(): boolean;
    /** @param {Key | null | undefined} author */
    isMe(author: Key | null | undefined): boolean;
    /** Whether the newest message is in sight: while it is, nothing is unread. */
    get isWatched(): boolean;
    set isWatched(isWatched: boolean);
    /** How many messages of others the user hasn't seen. */
    get unread(): number;
    /** The id of the message above which the line "new messages" belongs. @returns {number | undefined} */
    get firstNew(): number | undefined;
    /** Load the newest messages. What fails for a while is tried again by itself; `problem` tells of it. */
    load(): Promise<void>;
    /** Load the messages before the first one. */
    loadOlder(): Promise<void>;
    /** Have a message sent, now or as soon as there is a connection: once, however often that takes. @param {string} body */
    send(body: string, /** @type {number | null} */ reply_to?: number | null): void;
    /** Send what has failed once more. @param {Outgoing} item */
    retry(item: Outgoing): void;
    /** Give up what has failed, or still waits. @param {Outgoing} item */
    discard(item: Outgoing): void;
    /** Rejects with a ChatError; "conflict" if the message has been changed meanwhile. @param {Message} message @param {string} body */
    edit({ message_id, version }: Message, body: string): Promise<any>;
    /** Rejects with a ChatError. @param {Message} message */
    delete({ message_id }: Message): Promise<any>;
    /** Rejects with a ChatError. @param {Message} message @param {string} emoji @param {boolean} on */
    react({ message_id }: Message, emoji: string, on: boolean): Promise<any>;
    /** Tell the others that the user is typing. */
    type(): void;
    /** Follow the room no longer. A client that was made for it is closed, too. */
    close(): void;
}
