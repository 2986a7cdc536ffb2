// The length of a text is the same number in JavaScript as on the server.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { lengthOf } from "../../src/orgrealtime/static/orgrealtime/chat.js";

const TEXTS = JSON.parse(readFileSync(new URL("../chat/lengths.json", import.meta.url), "utf8"));

for (const [text, length, bytes] of TEXTS) {
  test(`${JSON.stringify(text)} has ${length} code points in NFC`, () => {
    assert.equal(lengthOf(text), length);
    assert.equal(Buffer.byteLength(text.normalize("NFC")), bytes);
  });
}
