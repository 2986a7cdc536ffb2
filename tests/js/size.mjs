/** Prints what the modules weigh, minified and compressed; fails above a limit. */

import { readdir, readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { minify } from "terser";

/** What a page loads, by what it is for, and how many bytes that may be. @type {[string, number, string[]][]} */
const LOADS = [
  ["a page of one's own", 8_000, ["client.js"]],
  ["a page with the bell", 12_000, ["client.js", "notifications.js"]],
  ["its list, when one turns to it", 3_500, ["panel.js"]],
  ["where sockets are blocked", 1_600, ["fallbacks.js"]],
  ["a page with a room", 8_000, ["chat.js", "room.js"]],
  ["what people do there, with the first of it", 2_100, ["actions.js"]],
  ["its texts, if the page has none", 700, ["texts.js"]],
  ["warnings, when there is one", 1_500, ["diagnostics.js"]],
];
const SOURCE = new URL("../../src/orgrealtime/static/orgrealtime/", import.meta.url);

const sizes = new Map();
for (const name of (await readdir(SOURCE)).filter((file) => file.endsWith(".js"))) {
  const { code } = await minify(await readFile(new URL(name, SOURCE), "utf8"), { module: true });
  sizes.set(name, gzipSync(code, { level: 9 }).length);
  console.log(`${name.padEnd(30)} ${String(sizes.get(name)).padStart(6)} bytes minified and compressed`);
}
for (const [what, limit, names] of LOADS) {
  const total = names.reduce((sum, name) => sum + sizes.get(name), 0);
  console.log(`${what.padEnd(30)} ${String(total).padStart(6)} of ${limit}`);
  if (total > limit) process.exitCode = 1;
}
const unknown = [...sizes.keys()].filter((name) => !LOADS.some(([, , names]) => names.includes(name)));
if (unknown.length) throw new Error(`say when ${unknown} is loaded`);
