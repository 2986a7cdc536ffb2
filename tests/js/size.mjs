/** Prints what the modules weigh, minified and compressed; fails above the limit. */

import { readdir, readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { minify } from "terser";

const LIMIT = 12_000; // bytes, of all together
const SOURCE = new URL("../../src/orgrealtime/static/orgrealtime/", import.meta.url);

let total = 0;
for (const name of (await readdir(SOURCE)).filter((file) => file.endsWith(".js"))) {
  const { code } = await minify(await readFile(new URL(name, SOURCE), "utf8"), { module: true });
  const size = gzipSync(code, { level: 9 }).length;
  total += size;
  console.log(`${name.padEnd(20)} ${String(size).padStart(6)} bytes minified and compressed`);
}
console.log(`${"together".padEnd(20)} ${String(total).padStart(6)} of ${LIMIT}`);
if (total > LIMIT) process.exitCode = 1;
