/**
 * What one can do with a message of `<org-room>`, which loads this module when somebody turns to a message.
 *
 * It imports nothing: what it shares with the element it is given, so that no page loads the element's module twice.
 *
 * @module orgrealtime/toolbar
 */

/**
 * Types by `@import`: Django takes an import type in a comment for code, and can't hash modules that import each other.
 *
 * @import { ChatRoom, Message } from "./chat.js"
 * @import { Fill, SetUp } from "./room.js"
 * @typedef {object} Shown
 * @property {HTMLElement & {chat: ChatRoom | null, texts: Record<string, string>}} element
 * @property {SetUp} h
 * @property {Fill} fill
 * @property {(promise: Promise<unknown> | undefined) => unknown} attempt  and say so if it fails
 * @property {(how: "editing" | "replying", message: Message) => void} write  have it in the field
 */

const TEXTS = {
  reply: "Reply",
  edit: "Edit",
  delete: "Delete",
  confirm: "Really delete?",
  react: "React with {emoji}",
};
const EMOJI = ["👍", "❤️", "😂", "🎉", "👀", "✅"];
const STYLE = `
[part="actions"] {
  background: var(--orgrealtime-background, Canvas); border: 1px solid var(--_line); border-radius: 0.5rem; display: flex;
  flex-wrap: wrap; inset-inline-end: 1rem; padding: 0.125rem; position: absolute; top: -1.25rem; z-index: 1;
}
article:first-child > [part="actions"] { top: 0; }
@media (pointer: coarse) { [part="actions"] { inset-inline: 0.5rem; justify-content: end; position: static; } }
`;

export class Toolbar {
  #shown;
  #node;

  /** @param {Shown} shown */
  constructor(shown) {
    this.#shown = shown;
    this.#node = shown.h("div", { part: "actions" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    /** @type {ShadowRoot} */ (shown.element.shadowRoot).adoptedStyleSheets.push(sheet);
  }

  /** Have the buttons in a row, and in no other. @param {HTMLElement} row @param {Message | null} message */
  offer(row, message) {
    const { element, fill, attempt, write } = this.#shown;
    const { chat } = element;
    this.#node.remove();
    if (!chat || !message || message.deleted) return;
    const texts = { ...TEXTS, ...element.texts };
    const isMine = chat.isMe(message.author);
    const react = EMOJI.map((emoji) =>
      this.#button(emoji, () => attempt(chat.react(message, emoji, true)), fill(texts.react, { emoji })),
    );
    this.#node.replaceChildren(
      ...react,
      this.#button(texts.reply, () => write("replying", message)),
    );
    if (isMine) this.#node.append(this.#button(texts.edit, () => write("editing", message)));
    if (isMine || element.hasAttribute("moderator")) {
      // It wants to be pressed twice.
      const button = this.#button(texts.delete, () => {
        if (button.textContent === texts.confirm) attempt(chat.delete(message));
        button.textContent = texts.confirm;
      });
      this.#node.append(button);
    }
    row.append(this.#node);
  }

  /** @param {string} text @param {() => unknown} act @param {string} [label] */
  #button(text, act, label = "") {
    const button = this.#shown.h("button", { type: "button", part: "action" }, text);
    if (label) button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    return button;
  }
}
