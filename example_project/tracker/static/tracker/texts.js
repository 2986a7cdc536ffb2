import { byId } from "./elements.js";

/** What the scripts of the page say, in the language of the page: tracker/texts.py. */
const texts = JSON.parse(byId("texts").textContent ?? "");

export const language = document.documentElement.lang;
const plurals = new Intl.PluralRules(language);

/** A text with the names in braces filled in. @param {string} key @param {Record<string, string | number>} [values] */
export function say(key, values = {}) {
  return fill(texts[key], values).join("");
}

/** The text for this number, which is `{count}`. @param {string} key @param {number} count */
export function sayCount(key, count) {
  const forms = texts[key];
  return fill(forms[plurals.select(count)] ?? forms.other, { count }).join("");
}

/** The same with elements among the values. @param {string} key @param {Record<string, string | Node>} values */
export function compose(key, values) {
  return fill(texts[key], values);
}

/** One of several. @param {string} key @param {string} name @param {Record<string, string>} [values] */
export function sayOne(key, name, values = {}) {
  return fill(texts[key][name] ?? "", values).join("");
}

/** @template Value @param {string} text @param {Record<string, Value>} values @returns {(string | Value)[]} */
function fill(text, values) {
  return text.split(/\{(\w+)\}/).map((part, place) => (place % 2 ? values[part] : part));
}
