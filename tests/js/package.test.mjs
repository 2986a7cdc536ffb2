/** What is shipped beside the modules agrees with them. Needs `npm install` in this folder. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { CLOSE_CODES, Client } from "../../src/orgrealtime/static/orgrealtime/client.js";
import { declarations } from "./types.mjs";

const ROOT = new URL("../../", import.meta.url);
const SOURCE = new URL("src/orgrealtime/static/orgrealtime/", ROOT);
const read = (path) => readFile(new URL(path, ROOT), "utf8");
const client = await read("src/orgrealtime/static/orgrealtime/client.js");
const element = await read("src/orgrealtime/static/orgrealtime/notifications.js");
const unread = await read("src/orgrealtime/static/orgrealtime/unread.js");
const page = await read("docs/reference/javascript.md");
const found = (text, pattern) => [...new Set([...text.matchAll(pattern)].map((match) => match[1]))];

test("declarations are those of the code (npm run types writes them)", async () => {
  for (const [name, text] of await declarations()) {
    assert.equal(await readFile(new URL(name, SOURCE), "utf8"), text, name);
  }
});

test("declarations have what the modules export, but for what is internal", async () => {
  const { nextAttempt, ...exported } = await import(new URL("client.js", SOURCE));
  const declared = found(await readFile(new URL("client.d.ts", SOURCE), "utf8"), /^export declare \w+ (\w+)/gm);
  assert.ok(nextAttempt);
  assert.deepEqual(declared.sort(), Object.keys(exported).sort());
});

test("npm gets the modules and their types, and nothing else", () => {
  const options = { cwd: fileURLToPath(SOURCE), encoding: "utf8" };
  const [{ files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], options));
  assert.deepEqual(files.map(({ path }) => path).sort(), [
    "client.d.ts",
    "client.js",
    "notifications.d.ts",
    "notifications.js",
    "package.json",
    "unread.js",
  ]);
});

test("package has the version of the Python package, and its exports exist", async () => {
  const { version, exports, dependencies } = JSON.parse(await readFile(new URL("package.json", SOURCE), "utf8"));
  const [python] = found(await read("src/orgrealtime/__init__.py"), /^__version__ = "(.+)"$/gm);
  assert.equal(version, python);
  assert.equal(dependencies, undefined);
  for (const entry of [exports["."], exports["./notifications"]]) {
    for (const path of Object.values(entry)) assert.ok(await readFile(new URL(path, SOURCE)));
  }
});

test("modules can be imported where there is no document", () => {
  const code = `await import("${new URL("notifications.js", SOURCE)}")`;
  execFileSync(process.execPath, ["--input-type=module", "--eval", code]);
});

test("modules import nothing from elsewhere", async () => {
  assert.deepEqual(found(client, /^import .* from "(.+)";/gm), []);
  assert.deepEqual(found(element, /^import .* from "(.+)";/gm), ["./client.js", "./unread.js"]);
  assert.deepEqual(found(unread, /^import .* from "(.+)";/gm), []);
});

// The reference page has what there is, and nothing else.

const members = Object.getOwnPropertyNames(Client.prototype).filter((name) => name !== "constructor");
const options = client.slice(client.indexOf("@typedef {object} Options"), client.indexOf("@typedef {{socket"));

for (const [what, names, pattern] of [
  ["option", found(options, /@property \{.+\} \[(\w+)\]/g), /^\| `(\w+)` \|.*\|$/gm],
  ["member of the client", members, /^\| `(\w+)(?:\(.*?\))?` \|/gm],
  ["state", client.match(/@typedef \{("connecting"[^}]+)\}/)[1].match(/[a-z-]{2,}/g), /^\| `([a-z-]+)` \| .*\|$/gm],
  ["attribute", found(element, /option\("([a-z-]+)"\)/g).concat("label"), /^\| `([a-z-]+)=` \|/gm],
  ["custom property", found(element, /var\((--orgrealtime-[a-z-]+)/g), /^\| `(--orgrealtime-[a-z-]+)` \|/gm],
  ["part", found(element, /part: "([a-z]+)"/g), /^\| `::part\(([a-z]+)\)` \|/gm],
]) {
  test(`reference page has every ${what}`, () => {
    assert.ok(names.length > 1);
    const described = found(page, pattern);
    for (const name of names) assert.ok(described.includes(name), name);
  });
}

for (const name of found(page, /^\| `(--orgrealtime-[a-z-]+)` \|/gm)) {
  test(`${name} of the reference page exists`, () => assert.ok(element.includes(`var(${name}`)));
}

for (const [code, { name }] of Object.entries(CLOSE_CODES)) {
  test(`protocol page has ${code}`, async () => {
    assert.match(await read("docs/reference/protocol.md"), new RegExp(`^\\| ${code} \\| \`${name}\``, "m"));
  });
}
