/** Making and finding elements. Text gets in as text nodes only. */

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** @param {Element} parent @param {string} selector @returns {HTMLElement} */
export function within(parent, selector) {
  return /** @type {HTMLElement} */ (parent.querySelector(selector));
}

/** @param {string} id  of a template with one element @returns {HTMLElement} */
export function copyOf(id) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  return /** @type {HTMLElement} */ (/** @type {Element} */ (template.content.firstElementChild).cloneNode(true));
}

/** @param {string} tag @param {string} [className] @param {(string | Node)[]} [children] */
export function element(tag, className = "", children = []) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children); // Strings become text nodes.
  return node;
}

/** The path of a link if it leads to this site; nothing else is ever made a link. @param {unknown} path */
export function safePath(path) {
  return typeof path === "string" && /^\/(?![/\\])[^\s\\]*$/.test(path) ? path : null;
}

/** @param {string} path @param {string} text */
export function link(path, text) {
  const node = /** @type {HTMLAnchorElement} */ (element("a", "", [text]));
  node.href = path;
  return node;
}

const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
/** @type {WeakMap<HTMLElement, Animation>} */ const animations = new WeakMap();

/**
 * Animate an element, unless it is being animated. Unlike a class that is taken away and set again this asks for no
 * layout in between.
 *
 * @param {HTMLElement} node @param {Keyframe[]} keyframes @param {number} duration
 */
export function animate(node, keyframes, duration) {
  if (isCalm.matches || animations.get(node)?.playState === "running") return;
  animations.set(node, node.animate(keyframes, { duration, easing: "ease-out" }));
}

/** Call a function at most once a frame, however often it is asked for. @param {() => void} draw */
export function onceAFrame(draw) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    const run = () => {
      isDue = false;
      draw();
    };
    // A page in the background has no frames.
    if (document.hidden) setTimeout(run, 250);
    else requestAnimationFrame(run);
  };
}
