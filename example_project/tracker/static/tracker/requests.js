/** What the page asks its server; failures come as errors with a text for people. */

import { say } from "./texts.js";

export class Refused extends Error {}

/** @param {string} url */
export async function getJSON(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!response.ok) throw new Refused(`${url} answered ${response.status}`);
  return response.json();
}

/** @param {HTMLFormElement} form  which has the CSRF token @param {Record<string, string>} [fields] */
export async function post(form, fields = {}) {
  const body = new URLSearchParams(/** @type {any} */ (new FormData(form)));
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  const response = await reach(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
  if (!response.ok) throw new Refused(await reason(response));
  return response.json();
}

/** @param {string} url @param {RequestInit} init */
async function reach(url, init) {
  try {
    return await fetch(url, init);
  } catch {
    throw new Refused(say("unreachable"));
  }
}

/** @param {Response} response */
async function reason(response) {
  const body = await response.json().catch(() => null);
  return body?.error?.message ?? say("refused");
}
