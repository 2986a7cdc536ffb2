/**
 * As much of a document as the element needs, put in place of the missing globals when imported.
 *
 * It proves the element's logic; how it looks and what a screen reader says of it is for a real browser.
 */

class FakeNode extends EventTarget {
  parent = null;
  offsetWidth = 352;
  scrollTop = 0;
  clientHeight = 400;
  scrollHeight = 4_000;
  style = { setProperty: (name, value) => this.styles.set(name, value) };
  styles = new Map();
  isPopover = false;
  children = [];
  attributes = new Map();
  dataset = {};
  #text = "";

  constructor(tag = "") {
    super();
    this.tagName = tag.toUpperCase();
  }

  setAttribute(name, value) {
    const before = this.getAttribute(name);
    this.attributes.set(name, String(value));
    if (this.constructor.observedAttributes?.includes(name)) this.attributeChangedCallback(name, before, String(value));
  }

  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }

  toggleAttribute(name, isSet) {
    if (isSet) this.attributes.set(name, "");
    else this.attributes.delete(name);
  }

  getBoundingClientRect() {
    const { left = 960, right = 1000, top = 10, bottom = 50 } = this.rectangle ?? {};
    return { left, right, top, bottom };
  }

  get lang() {
    return this.getAttribute("lang") ?? "";
  }

  closest(selector) {
    const name = selector.slice(1, -1);
    for (let node = this; node; node = node.parent) if (node.attributes.has(name)) return node;
    return document.documentElement;
  }

  querySelectorAll(tag) {
    return this.children.flatMap((child) => [
      ...(child.tagName === tag.toUpperCase() ? [child] : []),
      ...child.querySelectorAll(tag),
    ]);
  }

  showPopover() {
    if (!this.isConnected || this.getAttribute("popover") === null) throw new DOMException("InvalidStateError");
    this.isPopover = true;
  }

  hidePopover() {
    this.isPopover = false;
  }

  get hidden() {
    return this.attributes.has("hidden");
  }

  set hidden(isHidden) {
    if (isHidden) this.attributes.set("hidden", "");
    else this.attributes.delete("hidden");
  }

  get isConnected() {
    return this === document.body || Boolean((this.parent ?? this.host)?.isConnected);
  }

  get textContent() {
    return this.#text + this.children.map((child) => child.textContent).join("");
  }

  set textContent(text) {
    this.replaceChildren();
    this.#text = String(text);
  }

  get innerHTML() {
    throw new Error("no HTML here");
  }

  set innerHTML(html) {
    throw new Error(`no HTML here: ${html}`);
  }

  get lastElementChild() {
    return this.children.at(-1) ?? null;
  }

  append(...children) {
    for (const child of children) this.#insert(child, this.children.length);
  }

  prepend(...children) {
    for (const child of children.reverse()) this.#insert(child, 0);
  }

  replaceChildren(...children) {
    for (const child of [...this.children]) child.remove();
    this.append(...children);
  }

  remove() {
    const wasConnected = this.isConnected;
    if (this.parent) this.parent.children = this.parent.children.filter((child) => child !== this);
    this.parent = null;
    if (wasConnected) this.disconnectedCallback?.();
  }

  #insert(given, index) {
    const child = typeof given === "string" ? new FakeText(given) : given;
    child.remove();
    child.parent = this;
    this.children.splice(index, 0, child);
    if (this.isConnected) child.connectedCallback?.();
  }

  attachShadow() {
    this.shadowRoot = new FakeNode();
    this.shadowRoot.host = this;
    return this.shadowRoot;
  }

  focus() {
    document.activeElement = this;
  }

  /** The first descendant with this part. */
  part(name) {
    for (const child of this.children) {
      if (child.getAttribute("part")?.split(" ").includes(name)) return child;
      const found = child.part(name);
      if (found) return found;
    }
    return null;
  }

  /** Dispatch and bubble, out of shadow roots if the event is composed. */
  fire(event) {
    const path = [];
    for (let node = this; node; node = node.parent ?? (event.composed ? node.host : null)) path.push(node);
    path.push(document);
    Object.defineProperty(event, "composedPath", { value: () => path });
    for (const node of path) {
      EventTarget.prototype.dispatchEvent.call(node, event);
      if (event.cancelBubble) return;
    }
  }

  dispatchEvent(event) {
    if (event.bubbles) this.fire(event);
    else super.dispatchEvent(event);
  }
}

class FakeText extends FakeNode {
  constructor(text) {
    super();
    this.textContent = text;
  }
}

class FakeStorage {
  #items = new Map();
  isForbidden = false;
  isFull = false;
  reads = 0;
  writes = 0;

  getItem(key) {
    if (this.isForbidden) throw new DOMException("SecurityError");
    this.reads++;
    return this.#items.get(key) ?? null;
  }

  setItem(key, value) {
    if (this.isForbidden) throw new DOMException("SecurityError");
    if (this.isFull) throw new DOMException("QuotaExceededError");
    this.writes++;
    this.#items.set(key, value);
  }

  clear() {
    this.#items.clear();
  }

  keys() {
    return [...this.#items.keys()];
  }
}

const definitions = new Map();

globalThis.HTMLElement = FakeNode;
globalThis.document = Object.assign(new EventTarget(), {
  hidden: false,
  activeElement: null,
  documentElement: { lang: "en", clientWidth: 1280, clientHeight: 800 },
  createElement: (tag) => new FakeNode(tag),
  createElementNS: (_, tag) => new FakeNode(tag),
});
document.body = new FakeNode("body");
globalThis.customElements = {
  get: (name) => definitions.get(name),
  define: (name, element) => definitions.set(name, element),
};
globalThis.CSSStyleSheet = class {
  replaceSync(text) {
    this.text = text;
  }
};
let frames = [];
globalThis.requestAnimationFrame = (callback) => frames.push(callback);
/** The browser draws a frame; returns how many callbacks waited for it. */
export function nextFrame() {
  const due = frames;
  frames = [];
  for (const callback of due) callback();
  return due.length;
}
globalThis.localStorage = new FakeStorage();
globalThis.location = new URL("https://example.org/board/");
const windowEvents = new EventTarget();
globalThis.addEventListener = windowEvents.addEventListener.bind(windowEvents);
globalThis.removeEventListener = windowEvents.removeEventListener.bind(windowEvents);
globalThis.dispatchEvent = windowEvents.dispatchEvent.bind(windowEvents);
