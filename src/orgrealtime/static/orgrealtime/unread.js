/**
 * Which events are unread: the same in all tabs, each of which hears of every event. Used by `<org-notifications>`.
 *
 * The cursors of unread and of read events are kept in `localStorage`; a tab without a storage counts for itself.
 *
 * @module orgrealtime/unread
 */

const MAX_CURSORS = 300;

export class UnreadEvents {
  #key;
  /** @type {Set<string>} */ #unread = new Set();
  /** Events that this browser has read: a tab that gets them later must not count them. @type {Set<string>} */
  #read = new Set();
  /** Set while a change is to be written: one write for all changes of the same moment. */ #saveTimer = 0;
  /** Whether the storage keeps what is written to it. */ #isPersistent = true;
  #changed = () => {};

  /** @param {string} name  of the organisation and the user */
  constructor(name) {
    this.#key = `orgrealtime.unread ${name}`;
  }

  get cursors() {
    if (!this.#saveTimer) this.#load();
    return this.#unread;
  }

  /** Count an event as unread, unless it is known already. @param {string} cursor */
  add(cursor) {
    if (this.cursors.has(cursor) || this.#read.has(cursor)) return;
    addBounded(this.#unread, cursor);
    this.#scheduleSave();
  }

  /** Count all events as read. */
  clear() {
    if (!this.cursors.size) return;
    for (const cursor of this.#unread) addBounded(this.#read, cursor);
    this.#unread.clear();
    this.#scheduleSave();
  }

  /** Call back when the count has changed; returns a function that ends it. @param {() => void} callback */
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
      const stored = JSON.parse(localStorage.getItem(this.#key) ?? "");
      const [ownUnread, ownRead] = this.#saveTimer ? [this.#unread, this.#read] : [[], []];
      const unread = [...stored.unread, ...ownUnread];
      const read = boundedSet([...stored.read, ...ownRead]);
      this.#unread = boundedSet(unread.filter((cursor) => !read.has(cursor)));
      this.#read = read;
    } catch {
      // Nothing is stored, or rubbish, or the page may not use the storage.
    }
  }

  #scheduleSave() {
    this.#saveTimer ||= setTimeout(this.#save);
  }

  #save = () => {
    if (!this.#saveTimer) return;
    this.#load();
    clearTimeout(this.#saveTimer);
    this.#saveTimer = 0;
    try {
      localStorage.setItem(this.#key, JSON.stringify({ unread: [...this.#unread], read: [...this.#read] }));
      this.#isPersistent = true;
    } catch {
      // The storage is full, or the page may not use it: from here on this tab counts for itself.
      this.#isPersistent = false;
    }
    this.#changed();
  };
}

/** Add a cursor; the oldest one is dropped above the limit. @param {Set<string>} cursors @param {string} cursor */
export function addBounded(cursors, cursor) {
  cursors.add(cursor);
  const [oldest] = cursors;
  if (cursors.size > MAX_CURSORS) cursors.delete(oldest);
}

/** The last of the cursors, up to the limit. @param {string[]} cursors */
function boundedSet(cursors) {
  return new Set([...new Set(cursors)].slice(-MAX_CURSORS));
}
