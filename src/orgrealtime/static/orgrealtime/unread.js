/**
 * Which events are new, and which are unread: the same in all tabs, each of which hears of every event. Used by
 * `<org-notifications>`.
 *
 * An event is new until the list has been open, and unread until somebody has dealt with it. Both are kept in
 * `localStorage`; a tab without a storage counts for itself.
 *
 * @module orgrealtime/unread
 */

const MAX_CURSORS = 600;
const SAVE_INTERVAL = 250; // milliseconds
// A mark only grows, so that of two tabs' marks the greater one holds.
const NEW = 0;
const SEEN = 1;
const READ = 2;

export class UnreadEvents {
  #key;
  /** Of the organisation and the user. */ name;
  /** The last events, the oldest first. @type {Map<string, number>} */ #marks = new Map();
  /** Set while a change is to be written: one write for all changes of a moment. */ #saveTimer = 0;
  #savedAt = 0;
  /** Whether the storage keeps what is written to it. */ #isPersistent = true;
  #changed = () => {};

  /** @param {string} name  of the organisation and the user */
  constructor(name) {
    this.name = name;
    this.#key = `orgrealtime.unread ${name}`;
  }

  /** How many events are new. */
  get count() {
    return [...this.#loaded.values()].filter((mark) => mark === NEW).length;
  }

  /** Those that somebody has still to deal with. */
  get cursors() {
    return new Set([...this.#loaded].flatMap(([cursor, mark]) => (mark < READ ? [cursor] : [])));
  }

  /** Count an event as new or seen, unless it is known already. @param {string} cursor @param {boolean} isSeen */
  add(cursor, isSeen) {
    if (!this.#loaded.has(cursor)) this.#mark([cursor], isSeen ? SEEN : NEW);
  }

  /** Nothing is new any more. */
  see() {
    this.#mark(this.#loaded.keys(), SEEN);
  }

  /** Count these events as read; default: all. @param {Iterable<string>} [cursors] */
  read(cursors = this.#loaded.keys()) {
    this.#mark(cursors, READ);
  }

  /** Call back when something has changed; returns a function that ends it. @param {() => void} callback */
  onChange(callback) {
    this.#changed = callback;
    addEventListener("storage", this.#onStorage);
    addEventListener("pagehide", this.#save);
    return () => {
      this.#changed = () => {};
      removeEventListener("storage", this.#onStorage);
      removeEventListener("pagehide", this.#save);
      this.#save();
    };
  }

  get #loaded() {
    if (!this.#saveTimer) this.#load();
    return this.#marks;
  }

  /** @param {Iterable<string>} cursors @param {number} mark */
  #mark(cursors, mark) {
    for (const cursor of [...cursors]) {
      const before = this.#marks.get(cursor) ?? -1;
      if (before >= mark) continue;
      this.#marks.set(cursor, mark);
      const wait = this.#savedAt + SAVE_INTERVAL - Date.now();
      this.#saveTimer ||= setTimeout(this.#save, Math.min(SAVE_INTERVAL, Math.max(0, wait)));
      const [oldest] = this.#marks.keys();
      if (this.#marks.size > MAX_CURSORS) this.#marks.delete(oldest);
    }
  }

  /** @param {StorageEvent} event */
  #onStorage = ({ key }) => {
    if (key !== this.#key) return;
    this.#load();
    this.#changed();
  };

  /** Read the storage. What this tab hasn't written yet counts beside what is stored. */
  #load() {
    if (!this.#isPersistent) return;
    try {
      const marks = new Map(JSON.parse(localStorage.getItem(this.#key) ?? ""));
      for (const [cursor, mark] of this.#saveTimer ? this.#marks : []) {
        marks.set(cursor, Math.max(mark, marks.get(cursor) ?? NEW));
      }
      this.#marks = new Map([...marks].slice(-MAX_CURSORS));
    } catch {
      // Nothing is stored, or rubbish, or the page may not use the storage.
    }
  }

  #save = () => {
    if (!this.#saveTimer) return;
    this.#load();
    clearTimeout(this.#saveTimer);
    this.#saveTimer = 0;
    this.#savedAt = Date.now();
    try {
      localStorage.setItem(this.#key, JSON.stringify([...this.#marks]));
      this.#isPersistent = true;
    } catch {
      // The storage is full, or the page may not use it: from here on this tab counts for itself.
      this.#isPersistent = false;
    }
    this.#changed();
  };
}
