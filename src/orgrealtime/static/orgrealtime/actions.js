/**
 * What people do in `<org-room>`: one reacts, replies, edits, deletes, and hears of what others write. Loaded with the
 * first of that.
 *
 * It imports nothing: what it shares with the element it is given, so that no page loads the element's module twice.
 *
 * @module orgrealtime/actions
 */

/**
 * Types by `@import`: Django takes an import type in a comment for code, and can't hash modules that import each other.
 *
 * @import { ChatError, ChatRoom, Message, Outgoing } from "./chat.js"
 * @import { Key } from "./client.js"
 * @import { Item } from "./room.js"
 * @typedef {<Tag extends keyof HTMLElementTagNameMap>(tag: Tag, part: string, attributes?: Record<string, any>,
 *   ...children: (Node | string)[]) => HTMLElementTagNameMap[Tag]} CreateElement
 * @typedef {{node: HTMLElement, item: Item | null}} Row
 * @typedef {object} Parts  what the element shares
 * @property {HTMLElement & {chat: ChatRoom | null}} element
 * @property {CreateElement} h
 * @property {(text: string) => number} lengthOf
 * @property {() => Map<string, Row>} rows  by the keys of the items
 * @property {(name: string, values?: Record<string, unknown>) => string} say
 * @property {(id: Key | null | undefined) => string} nameOf
 * @property {(error: ChatError) => string} reason
 */

const EMOJI = ["👍", "❤️", "😂", "🎉", "👀", "✅"];
const COUNTER_FROM = 0.9; // of the limit
const MAX_LINES = 8;
const ANNOUNCE_INTERVAL = 3_000; // milliseconds
const STYLE = `
[part="actions"] {
  background: var(--orgrealtime-background, Canvas); border: 1px solid var(--_line); border-radius: 0.5rem; display: flex;
  flex-wrap: wrap; inset-inline-end: 1rem; padding: 0.125rem; position: absolute; top: -1.25rem; z-index: 1;
}
article:first-child > [part="actions"] { top: 0; }
[part="context"] { align-items: center; display: flex; font-size: 0.8125rem; gap: 0.5rem; padding-inline: 1.75rem 1rem; }
[part="context"] > button { margin-inline-start: auto; }
[part~="failed"] > small, [aria-invalid="true"] + small { color: var(--orgrealtime-error, light-dark(#b42318, #ff9d93)); }
@media (pointer: coarse) {
  button { min-height: 2.5rem; min-width: 2.5rem; }
  [part="actions"] { justify-content: end; margin-top: 0.25rem; position: static; }
}
`;

export class Actions {
  /** The key of the row that somebody has turned to. */ current = "";
  /** The message that is replied to. @type {Message | null} */ replyTo = null;
  /** The message that is edited, as it was when that began. @type {Message | null} */ #edited = null;
  /** What is still to be announced. @type {string[]} */ #news = [];
  #announceTimer = 0;
  #announcedAt = 0;
  #parts;
  #root;
  #toolbar;
  /** What the field is for. @type {HTMLElement} */ #context;
  /** What screen readers read. @type {HTMLElement} */ #announcement;
  /** How long the text is, where it is long. @type {HTMLElement} */ #counter;
  /** The line that says who is typing. @type {HTMLElement} */ #typing;
  /** @type {HTMLTextAreaElement} */ #field;

  /** @param {Parts} parts */
  constructor(parts) {
    const { element, h } = parts;
    this.#parts = parts;
    this.#root = /** @type {ShadowRoot} */ (element.shadowRoot);
    this.#toolbar = h("div", "actions");
    const find = (/** @type {string} */ part) => /** @type {any} */ (this.#root.querySelector(`[part="${part}"]`));
    this.#context = find("context");
    this.#announcement = find("announcement");
    this.#typing = find("typing");
    this.#counter = find("counter");
    this.#field = find("field");
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    this.#root.adoptedStyleSheets.push(sheet);
  }

  /** @param {Event} event  in the list, or of the keyboard in the field @param {HTMLElement} target  where it was */
  handle(event, target) {
    const { type } = event;
    if (target === this.#field) this.#onFieldKey(/** @type {KeyboardEvent} */ (event).key);
    else if (type === "keydown") this.#onListKey(/** @type {KeyboardEvent} */ (event), target);
    else if (type === "click") this.#onClick(target);
    else if (type === "focusin" || !this.#root.activeElement?.closest("article")) this.#turnTo(target);
  }

  /** What was to be done was for another room. */
  stop() {
    clearTimeout(this.#announceTimer);
    this.#announceTimer = 0;
    this.#news = [];
    this.#announcement.textContent = "";
    this.cancel();
  }

  /** Announce several messages as their number: a screen reader would read them for minutes. @param {Message} message */
  announce({ author, body }) {
    const { say, nameOf } = this.#parts;
    this.#news.push(`${nameOf(author)}: ${body}`);
    const wait = Math.max(0, this.#announcedAt + ANNOUNCE_INTERVAL - Date.now());
    this.#announceTimer ||= setTimeout(() => {
      const [text, ...more] = this.#news.splice(0);
      const count = more.length + 1;
      this.#announceTimer = 0;
      this.#announcedAt = Date.now();
      this.#announcement.textContent = count > 1 ? say("news", { count }) : text;
    }, wait);
  }

  /** Say who is typing: the first few by their names. */
  showTyping() {
    const { element, say, nameOf } = this.#parts;
    const names = (element.chat?.typing ?? []).map(nameOf);
    const total = element.chat?.typingCount ?? 0;
    const count = total - names.length;
    if (count > 0) names.push(say("others", { count }));
    this.#typing.textContent = total ? say(total > 1 ? "typingMany" : "typing", { names: names.join(", ") }) : "";
  }

  /** How long the text is, and whether that is too long; and the others see that somebody is typing. */
  measure() {
    const { element, lengthOf } = this.#parts;
    const { chat } = element;
    const { value } = this.#field;
    const limit = chat?.limit ?? 0;
    const length = lengthOf(value);
    if (value) chat?.type();
    this.#counter.textContent = length > limit * COUNTER_FROM ? `${length} / ${limit}` : "";
    this.#field.ariaInvalid = String(length > limit);
    this.#field.rows = Math.min(MAX_LINES, value.split("\n").length); // where `field-sizing` isn't known
  }

  /** Have the buttons in a row, and in no other. @param {Row} row */
  offer({ node, item }) {
    const { element, say } = this.#parts;
    const { chat } = element;
    this.#toolbar.remove();
    if (!chat || !item || item.state || item.deleted) return;
    const isMine = chat.isMe(item.author);
    const reactions = EMOJI.map((emoji) =>
      this.#button(emoji, () => this.#attempt(chat.react(item, emoji, true)), say("react", { emoji })),
    );
    this.#toolbar.replaceChildren(
      ...reactions,
      this.#button(say("reply"), () => this.#reply(item)),
    );
    if (isMine) this.#toolbar.append(this.#button(say("edit"), () => this.#edit(item)));
    if (isMine || element.hasAttribute("moderator")) {
      // It wants to be pressed twice.
      const deletion = this.#button(say("delete"), () => {
        if (deletion.textContent === say("confirm")) this.#attempt(chat.delete(item));
        deletion.textContent = say("confirm");
      });
      this.#toolbar.append(deletion);
    }
    node.append(this.#toolbar);
  }

  /** Save what is edited; false if nothing is. */
  save() {
    const { element } = this.#parts;
    if (this.#edited) {
      this.#attempt(element.chat?.edit(this.#edited, this.#field.value)).then((isSaved) => isSaved && this.cancel());
    }
    return this.#edited !== null;
  }

  /** The field is for a new message. */
  cancel() {
    if (this.#edited) this.#field.value = "";
    this.#edited = this.replyTo = null;
    this.#context.textContent = "";
    this.measure();
  }

  /** @param {Message} message */
  #reply(message) {
    const { say, nameOf } = this.#parts;
    this.cancel();
    this.replyTo = message;
    this.#begin(say("replying", { name: nameOf(message.author) }));
  }

  /** @param {Message} message */
  #edit(message) {
    const { say } = this.#parts;
    this.cancel();
    this.#edited = { ...message };
    this.#field.value = message.body;
    this.#begin(say("editing"));
  }

  /** Say above the field what it is for. @param {string} text */
  #begin(text) {
    const { say } = this.#parts;
    this.#context.textContent = text;
    this.#context.append(this.#button(say("cancel"), () => this.cancel()));
    this.#field.focus();
    this.measure();
  }

  /** Say so if it fails. @param {Promise<unknown> | undefined} promise */
  async #attempt(promise) {
    const { reason } = this.#parts;
    try {
      await promise;
      return true;
    } catch (caught) {
      const error = /** @type {ChatError} */ (caught);
      if (this.#edited) this.#edited.version = error.version ?? this.#edited.version; // it may be saved now all the same
      this.#context.textContent = reason(error);
      return false;
    }
  }

  /** @param {Node} target @returns {[string, Row] | undefined} */
  #rowAt(target) {
    return [...this.#parts.rows()].find(([, { node }]) => node.contains(target));
  }

  /** @param {HTMLElement} target */
  #turnTo(target) {
    const [key, row] = this.#rowAt(target) ?? [];
    if (!key || !row || (key === this.current && this.#toolbar.isConnected)) return;
    this.current = key;
    this.offer(row);
  }

  /** @param {HTMLElement} target */
  #onClick(target) {
    const { chat } = this.#parts.element;
    const { item } = this.#rowAt(target)?.[1] ?? {};
    const { emoji } = target.dataset;
    const kind = target.getAttribute("part");
    if (!chat || !item) return;
    if (emoji) this.#attempt(chat.react(item, emoji, target.ariaPressed !== "true"));
    const outgoing = /** @type {Outgoing} */ (item);
    if (kind === "retry") chat.retry(outgoing);
    if (kind === "discard") chat.discard(outgoing);
  }

  /** @param {KeyboardEvent} event @param {HTMLElement} target */
  #onListKey(event, target) {
    const article = target.closest("article");
    const next = { ArrowUp: article?.previousSibling, ArrowDown: article?.nextSibling, Escape: this.#field }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    /** @type {HTMLElement | null} */ (next)?.focus();
  }

  /** @param {string} key */
  #onFieldKey(key) {
    const { chat } = this.#parts.element;
    if (key === "Escape") this.cancel();
    // Not while the last one is on its way: the one before it isn't meant.
    if (key !== "ArrowUp" || this.#field.value || chat?.outbox.some(({ state }) => state !== "failed")) return;
    const last = chat?.messages.filter(({ author, deleted }) => !deleted && chat.isMe(author)).pop();
    if (last) this.#edit(last);
  }

  /** @param {string} text @param {() => unknown} act @param {string} [label] */
  #button(text, act, label) {
    const button = this.#parts.h("button", "action", { type: "button" }, text);
    if (label) button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    return button;
  }
}
