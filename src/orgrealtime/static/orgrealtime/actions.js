/**
 * What one can do with a message of `<org-room>`: react, reply, edit, delete. Loaded when somebody turns to a message.
 *
 * It imports nothing: what it shares with the element it is given, so that no page loads the element's module twice.
 *
 * @module orgrealtime/actions
 */

/**
 * Types by `@import`: Django takes an import type in a comment for code, and can't hash modules that import each other.
 *
 * @import { ChatError, ChatRoom, Message } from "./chat.js"
 * @import { Parts } from "./room.js"
 */

/** @type {Record<string, string>} */
const TEXTS = {
  reply: "Reply",
  edit: "Edit",
  delete: "Delete",
  confirm: "Really delete?",
  react: "React with {emoji}",
  editing: "You are editing a message.",
  replying: "Reply to {name}",
  cancel: "Cancel",
};
const EMOJI = ["👍", "❤️", "😂", "🎉", "👀", "✅"];
const STYLE = `
[part="actions"] {
  background: var(--orgrealtime-background, Canvas); border: 1px solid var(--_line); border-radius: 0.5rem; display: flex;
  flex-wrap: wrap; inset-inline-end: 1rem; padding: 0.125rem; position: absolute; top: -1.25rem; z-index: 1;
}
article:first-child > [part="actions"] { top: 0; }
[part="context"] { align-items: center; display: flex; flex: 1 0 100%; font-size: 0.8125rem; gap: 0.5rem; padding-inline: 0.5rem; }
[part="context"] > button { margin-inline-start: auto; }
@media (pointer: coarse) { [part="actions"] { justify-content: end; margin-top: 0.25rem; position: static; } }
`;

export class Actions {
  /** What the field is for. @type {"" | "editing" | "replying"} */ how = "";
  /** The message that is edited, or replied to. @type {Message | null} */ about = null;
  #parts;
  #toolbar;

  /** @param {Parts} parts */
  constructor(parts) {
    const { element, setUp } = parts;
    this.#parts = parts;
    this.#toolbar = setUp("div", { part: "actions" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    /** @type {ShadowRoot} */ (element.shadowRoot).adoptedStyleSheets.push(sheet);
  }

  /** Have the buttons in a row, and in no other. @param {HTMLElement} row @param {Message | null} message */
  offer(row, message) {
    const { element, button, fill } = this.#parts;
    const { chat } = element;
    this.#toolbar.remove();
    if (!chat || !message || message.deleted) return;
    const texts = this.#texts;
    const isMine = chat.isMe(message.author);
    const reactions = EMOJI.map((emoji) =>
      button(emoji, () => this.react(message, emoji, true), { "aria-label": fill(texts.react, { emoji }) }),
    );
    this.#toolbar.replaceChildren(
      ...reactions,
      button(texts.reply, () => this.write("replying", message)),
    );
    if (isMine) this.#toolbar.append(button(texts.edit, () => this.write("editing", message)));
    if (isMine || element.hasAttribute("moderator")) {
      // It wants to be pressed twice.
      const deletion = button(texts.delete, () => {
        if (deletion.textContent === texts.confirm) this.#attempt(chat.delete(message));
        deletion.textContent = texts.confirm;
      });
      this.#toolbar.append(deletion);
    }
    row.append(this.#toolbar);
  }

  /** @param {Message} message @param {string} emoji @param {boolean} on */
  react(message, emoji, on) {
    this.#attempt(this.#parts.element.chat?.react(message, emoji, on));
  }

  editLast() {
    const { chat } = this.#parts.element;
    const mine = chat?.messages.filter(({ author, deleted }) => !deleted && chat.isMe(author)).pop();
    if (mine) this.write("editing", mine);
  }

  /** Have a message in the field, or a new one. @param {"" | "editing" | "replying"} [how] @param {Message | null} [about] */
  write(how = "", about = null) {
    const { field, context, button, fill, setText, nameOf, measure } = this.#parts;
    const wasEditing = this.how === "editing";
    this.how = how;
    this.about = about && { ...about };
    setText(context, fill(this.#texts[how] ?? "", { name: nameOf(about?.author) }));
    if (how) context.append(button(this.#texts.cancel, () => this.write()));
    if (how === "editing" || wasEditing) field.value = (how === "editing" && about?.body) || "";
    if (about) field.focus();
    measure();
  }

  /** @param {string} body */
  async save(body) {
    const { chat } = this.#parts.element;
    if (chat && this.about && (await this.#attempt(chat.edit(this.about, body)))) this.write();
  }

  get #texts() {
    return { ...TEXTS, ...this.#parts.element.texts };
  }

  /** Say so if it fails. @param {Promise<unknown> | undefined} promise */
  async #attempt(promise) {
    const { context, setText, reason } = this.#parts;
    try {
      await promise;
      return true;
    } catch (caught) {
      const error = /** @type {ChatError} */ (caught);
      // Whoever saves once more has been told.
      if (this.about) this.about.version = error.version ?? this.about.version;
      setText(context, reason(error));
      return false;
    }
  }
}
