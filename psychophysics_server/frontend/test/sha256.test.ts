/** SHA-256 and the chain against Node's own implementation and the published vectors. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { link } from "../src/chain";
import { sha256 } from "../src/sha256";

const outside = (text: string): string => createHash("sha256").update(text, "utf8").digest("hex");

test("the published vectors of FIPS 180-4 come out", () => {
  assert.equal(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert.equal(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
});

test("every length around the block borders agrees with Node", () => {
  for (let length = 0; length <= 200; length++) {
    const text = "aé€😀".repeat(60).slice(0, length);
    // A cut surrogate pair is not valid Unicode; both sides then hash the replacement character.
    assert.equal(sha256(text), outside(text), `length ${length}`);
  }
});

test("the chain is the hash of the chain so far joined with the body's hash", () => {
  const bodies = ['{"accepted":true}', '{"trial_id":"t1","response":"7","rt_ms":812.3}', '{"name":"Zoë"}'];
  const expected = bodies.reduce((chain, body) => outside(chain + outside(body)), "");
  assert.equal(bodies.reduce(link, ""), expected);
});

test("the chain depends on the order of the events", () => {
  assert.notEqual(["a", "b"].reduce(link, ""), ["b", "a"].reduce(link, ""));
});
