/** What is shipped beside the modules agrees with them. Needs `npm install` in this folder. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { copyFile, cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { ChatRoom } from "../../src/orgrealtime/static/orgrealtime/chat.js";
import { CLOSE_CODES, Client } from "../../src/orgrealtime/static/orgrealtime/client.js";
import { TEXTS } from "../../src/orgrealtime/static/orgrealtime/texts.js";
import { declarations } from "./types.mjs";

const ROOT = new URL("../../", import.meta.url);
const SOURCE = new URL("src/orgrealtime/static/orgrealtime/", ROOT);
const read = (path) => readFile(new URL(path, ROOT), "utf8");
const client = await read("src/orgrealtime/static/orgrealtime/client.js");
const element = await read("src/orgrealtime/static/orgrealtime/notifications.js");
const panel = await read("src/orgrealtime/static/orgrealtime/panel.js");
const fallbacks = await read("src/orgrealtime/static/orgrealtime/fallbacks.js");
const chat = await read("src/orgrealtime/static/orgrealtime/chat.js");
const room = await read("src/orgrealtime/static/orgrealtime/room.js");
const actions = await read("src/orgrealtime/static/orgrealtime/actions.js");
const texts = await read("src/orgrealtime/static/orgrealtime/texts.js");
const page = await read("docs/reference/javascript.md");
const roomPage = await read("docs/reference/room.md");
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

test("npm gets the modules, their types and what tells of them, and nothing else", () => {
  const options = { cwd: fileURLToPath(SOURCE), encoding: "utf8" };
  const [{ files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], options));
  assert.deepEqual(files.map(({ path }) => path).sort(), [
    "LICENSE",
    "README.md",
    "actions.js",
    "chat.d.ts",
    "chat.js",
    "client.d.ts",
    "client.js",
    "diagnostics.js",
    "elements.d.ts",
    "fallbacks.js",
    "notifications.d.ts",
    "notifications.js",
    "package.json",
    "panel.js",
    "room.d.ts",
    "room.js",
    "texts.js",
  ]);
});

test("npm gets the licence of the Python package", async () => {
  assert.equal(await readFile(new URL("LICENSE", SOURCE), "utf8"), await read("LICENSE"));
});

const COMPILER_OPTIONS = {
  target: "ES2022",
  module: "ES2022",
  moduleResolution: "bundler",
  lib: ["ES2022", "DOM", "DOM.Iterable"],
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: false,
  noEmit: true,
  types: [],
  jsx: "react-jsx",
};

for (const [what, name, react] of [
  ["without a framework", "plain.ts", null],
  ["with React 19", "react.tsx", "@types/react"],
  ["with React 18", "react.tsx", "@types/react-18"],
]) {
  test(`page ${what} compiles with the package as npm gives it, as strictly as can be`, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "page-"));
    t.after(() => rm(folder, { recursive: true }));
    const modules = join(folder, "node_modules");
    await cp(fileURLToPath(SOURCE), join(modules, "orgrealtime"), { recursive: true });
    if (react) {
      const here = fileURLToPath(new URL("node_modules/", import.meta.url));
      await cp(join(here, react), join(modules, "@types/react"), { recursive: true });
      for (const other of ["csstype", "@types/prop-types"]) {
        await cp(join(here, other), join(modules, other), { recursive: true }).catch(() => {});
      }
    }
    await copyFile(new URL(`pages/${name}`, import.meta.url), join(folder, name));
    await writeFile(
      join(folder, "tsconfig.json"),
      JSON.stringify({ compilerOptions: COMPILER_OPTIONS, files: [name] }),
    );
    const tsc = fileURLToPath(new URL("node_modules/.bin/tsc", import.meta.url));
    const { stdout, status } = spawnSync(tsc, ["--project", folder], { encoding: "utf8" });
    assert.equal(status, 0, stdout);
  });
}

test("package has the version of the Python package, and its exports exist", async () => {
  const { version, exports, dependencies } = JSON.parse(await readFile(new URL("package.json", SOURCE), "utf8"));
  const [python] = found(await read("src/orgrealtime/__init__.py"), /^__version__ = "(.+)"$/gm);
  assert.equal(version, python);
  assert.equal(dependencies, undefined);
  for (const entry of Object.values(exports).filter((each) => typeof each === "object")) {
    for (const path of Object.values(entry)) assert.ok(await readFile(new URL(path, SOURCE)));
  }
});

for (const name of ["notifications", "room"]) {
  test(`${name} can be imported where there is no document`, () => {
    const code = `await import("${new URL(`${name}.js`, SOURCE)}")`;
    execFileSync(process.execPath, ["--input-type=module", "--eval", code]);
  });
}

test("modules import nothing from elsewhere", async () => {
  assert.deepEqual(found(client, /^import .* from "(.+)";/gm), []);
  assert.deepEqual(found(client, /import\("(.+)"\);/g), ["./fallbacks.js", "./diagnostics.js"]);
  assert.deepEqual(found(element, /^import .* from "(.+)";/gm), ["./client.js"]);
  assert.deepEqual(found(element, /import\("(.+)"\);/g), ["./panel.js"]);
  // They are given what they share: their own imports could load the modules of a page under a second name.
  assert.deepEqual(found(panel, /^import .* from "(.+)";/gm), []);
  assert.deepEqual(found(fallbacks, /^import .* from "(.+)";/gm), []);
  assert.deepEqual(found(room, /^import .* from "(.+)";/gm), ["./chat.js", "./client.js"]);
  assert.deepEqual(found(room, /await import\("(.+?)"\)/g), ["./texts.js", "./actions.js"]);
  for (const text of [chat, actions, texts]) assert.deepEqual(found(text, /^import .* from "(.+)";/gm), []);
});

// The reference page has what there is, and nothing else.

const members = Object.getOwnPropertyNames(Client.prototype).filter((name) => name !== "constructor");
const options = client.slice(
  client.indexOf("@typedef {object} Options"),
  client.indexOf("@typedef {object} Endpoints"),
);

for (const [what, names, pattern] of [
  ["option", found(options, /@property \{.+\} \[(\w+)\]/g), /^\| `(\w+)` \|.*\|$/gm],
  ["member of the client", members, /^\| `(\w+)(?:\(.*?\))?` \|/gm],
  ["state", client.match(/@typedef \{("connecting"[^}]+)\}/)[1].match(/[a-z-]{2,}/g), /^\| `([a-z-]+)` \| .*\|$/gm],
  ["attribute", found(element, /option\("([a-z-]+)"\)/g).concat("label"), /^\| `([a-z-]+)=` \|/gm],
  ["custom property", found(element + panel, /var\((--orgrealtime-[a-z-]+)/g), /^\| `(--orgrealtime-[a-z-]+)` \|/gm],
  ["part", found(element + panel, /part: "([a-z]+)"/g), /^\| `::part\(([a-z]+)\)` \|/gm],
]) {
  test(`reference page has every ${what}`, () => {
    assert.ok(names.length > 1);
    const described = found(page, pattern);
    for (const name of names) assert.ok(described.includes(name), name);
  });
}

for (const name of found(page, /^\| `(--orgrealtime-[a-z-]+)` \|/gm)) {
  test(`${name} of the reference page exists`, () => assert.ok((element + panel).includes(`var(${name}`)));
}

for (const [code, { name }] of Object.entries(CLOSE_CODES)) {
  test(`protocol page has ${code}`, async () => {
    assert.match(await read("docs/reference/protocol.md"), new RegExp(`^\\| ${code} \\| \`${name}\``, "m"));
  });
}

const roomMembers = Object.getOwnPropertyNames(ChatRoom.prototype).filter((name) => name !== "constructor");
const created = /\bh\("\w+", "([a-z]+)"/g;

for (const [what, names, pattern] of [
  ["attribute", found(room, /observedAttributes = \[(.+)\]/g)[0].match(/[a-z-]{2,}/g), /^\| `([a-z-]+)=` \|/gm],
  ["custom property", found(room + actions, /var\((--orgrealtime-[a-z-]+)/g), /^\| `(--orgrealtime-[a-z-]+)` \|/gm],
  ["part", found(room + actions, created), /^\| `::part\(([a-z]+)\)` \|/gm],
  ["member of ChatRoom", roomMembers, /[|,] `(\w+)(?:\(.*?\))?`(?= \||,)/g],
]) {
  test(`page of rooms has every ${what}`, () => {
    assert.ok(names.length > 1);
    const described = found(roomPage, pattern);
    for (const name of names) if (name !== "lang") assert.ok(described.includes(name), name);
  });
}

for (const name of found(roomPage, /^\| `(--orgrealtime-[a-z-]+)` \|/gm)) {
  test(`${name} of the page of rooms exists`, () => assert.ok((room + actions).includes(`var(${name}`)));
}

test("the texts are those that are used, and the example translates all of them", async () => {
  const used = found(room + actions, /say\("(\w+)"/g).concat(found(room, /\? "(\w+)" : "\w+"[,;)]/g));
  const python = await read("example_project/tracker/texts.py");
  const translated = found(python.slice(python.indexOf("def room_texts")), /^ {8}"(\w+)": _\(/gm);
  assert.deepEqual(
    [...new Set(Object.keys(TEXTS))].filter((name) => !translated.includes(name)),
    [],
  );
  for (const name of used) assert.ok(name in TEXTS, name);
});
