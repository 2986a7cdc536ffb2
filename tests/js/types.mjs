/** Writes the declarations beside the modules. */

import { execFileSync } from "node:child_process";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
export const SOURCE = here("../../src/orgrealtime/static/orgrealtime/");
const MODULES = ["actions", "chat", "client", "diagnostics", "fallbacks", "notifications", "panel", "room", "texts"];
const DECLARED = ["chat", "client", "notifications", "room"]; // those that a page imports

const ELEMENTS = ["notifications.d.ts", "room.d.ts"]; // whose pages have the types of elements.d.ts, too

/** The texts of the declaration files, by name. Made apart: beside the old ones the compiler would read those. */
export async function declarations() {
  const folder = await mkdtemp(join(tmpdir(), "types-"));
  const sources = MODULES.map((name) => join(folder, `${name}.js`));
  for (const name of MODULES) await copyFile(join(SOURCE, `${name}.js`), join(folder, `${name}.js`));
  const { compilerOptions } = JSON.parse(await readFile(here("tsconfig.json"), "utf8"));
  const options = {
    ...compilerOptions,
    noEmit: false,
    declaration: true,
    emitDeclarationOnly: true,
    stripInternal: true,
    rootDir: ".",
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: sources }));
  execFileSync(here("node_modules/.bin/tsc"), ["--project", folder], { stdio: "inherit" });
  const names = DECLARED.map((name) => `${name}.d.ts`);
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  await rm(folder, { recursive: true });
  const files = new Map(names.map((name, n) => [name, texts[n]]));
  for (const name of ELEMENTS) files.set(name, `/// <reference path="./elements.d.ts" />\n${files.get(name)}`);
  return files;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of await declarations()) await writeFile(join(SOURCE, name), text);
}
