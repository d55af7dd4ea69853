/** Keys, steps and columns of the trials with options; free answers; the bytes of pictures. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import english from "../../../stimuli/words/en.json";
import { columnsOf, planOf } from "../src/choice-plan";
import { entryFault } from "../src/field";
import { gradeKeys, gradeOrder } from "../src/grades";
import { introduction, position } from "../src/phrases";
import { checkedBytes, PictureError, picturesOf } from "../src/pictures";
import type { Payload, Trial } from "../src/wire";
import { fill, speak } from "../src/words";

speak(english);
(globalThis as { document?: unknown }).document = { documentElement: { lang: "en" } };

test("steps count outwards from the middle, or upwards where the pictures are stacked", () => {
  assert.deepEqual(gradeOrder(3, false), [[3, 2, 1], [1, 2, 3]]);
  assert.deepEqual(gradeOrder(3, true), [[1, 2, 3], [1, 2, 3]]);
});

test("up to four steps have keys of the home row, no key twice, and more have none", () => {
  assert.deepEqual(gradeKeys(2), [["d", "f"], ["j", "k"]]);
  assert.deepEqual(gradeKeys(3), [["s", "d", "f"], ["j", "k", "l"]]);
  assert.equal(new Set(gradeKeys(4).flat()).size, 8);
  assert.deepEqual(gradeKeys(5), [[], []]);
});

test("options get columns by layout, and fewer on a phone", () => {
  assert.deepEqual(columnsOf("row", 5, true), [5, 3]);
  assert.deepEqual(columnsOf("row", 4, false), [4, 1]);
  assert.deepEqual(columnsOf("grid", 16, true), [4, 4]);
  assert.deepEqual(columnsOf("list", 7, false), [1, 1]);
  assert.deepEqual(columnsOf("scale", 7, false), [7, 7]);
});

test("a speeded trial is fixation, stimulus, mask and answer, in this order", () => {
  const plan = planOf({ fixation_ms: 500, stimulus_ms: 100, deadline_ms: 900 });
  assert.deepEqual(plan.map(({ name, ms }) => `${name} ${ms}`), ["fixation 500", "stimulus 100", "mask 0", "answer 900"]);
});

test("a free answer is refused for what the server would refuse", () => {
  const number = { label: "", kind: "number" as const, required: true, minimum: 0, maximum: 100 };
  assert.deepEqual(["", "0", "100", "87.5", "87,5", "101", "-1", "x", "NaN"].map((given) => entryFault(number, given) === ""), [false, true, true, true, true, false, false, false, false]);
  assert.equal(entryFault({ label: "" }, ""), "");
  assert.equal(entryFault({ label: "", kind: "number" }, "1e3"), "");
  assert.match(entryFault({ label: "", kind: "number", minimum: 3 }, "2"), /at least 3/);
  assert.match(entryFault({ label: "", kind: "number", maximum: 3 }, "4"), /at most 3/);
  assert.match(entryFault({ label: "", kind: "number" }, "four"), /a number/);
});

test("bytes that are not what the name says are a fault of their own", async () => {
  const bytes = new TextEncoder().encode("picture");
  const name = createHash("sha256").update(bytes).digest("hex");
  const caches: unknown[] = [];
  const get = (async (_: string, options: RequestInit) => (caches.push(options.cache), new Response(bytes))) as typeof fetch;
  assert.equal((await checkedBytes(name, 1, get)).byteLength, 7);
  await assert.rejects(checkedBytes("0".repeat(64), 2, get), (error: PictureError) => error.fault === "hash");
  assert.deepEqual(caches, ["default", "reload"]);
});

test("no answer and an answer that is an error are faults of the network", async () => {
  const lost = (async () => Promise.reject(new TypeError("no network"))) as typeof fetch;
  const missing = (async () => new Response("", { status: 404 })) as typeof fetch;
  for (const get of [lost, missing]) await assert.rejects(checkedBytes("a", 1, get), (error: PictureError) => error.fault === "network");
});

test("every picture of a payload is found, wherever it stands", () => {
  const [a, b, c] = ["a", "b", "c"].map((letter) => letter.repeat(64));
  assert.deepEqual(picturesOf({ queries: [a, b], references: [{ pictures: [c] }], label: "x", size: [1, 2], mask: null }), [a, b, c]);
});

const payload = { phase: "test", options: [], feedback: false, lockout_ms: 0, session: 2, session_count: 3, index: 4, count: 9 } as Payload;
const trial = (trial_type: string, more: object): Trial => ({ trial_id: "t", trial_type, phase: "test", session: 2, position: 0, payload: { ...payload, ...more } as Payload });

test("the line above a trial tells where one is, and is left out where there is nothing to tell", () => {
  assert.equal(position(payload), "Round 2 of 3 · 4 of 9");
  assert.equal(position({ ...payload, session_count: 1 }), "4 of 9");
  assert.equal(position({ ...payload, phase: "practice" }), "Practice · 4 of 9");
  assert.equal(position({ ...payload, count: 0 }), "");
});

test("the page before a block speaks of its trials", () => {
  assert.deepEqual(introduction([trial("choice", {})]), { title: "Part 2 of 3", body: "One question follows. **Take your time and look closely.**" });
  assert.match(introduction([trial("choice", { speed: {} })]).body, /as fast as you can/);
  assert.match(introduction([trial("predict", { reservoir: [{}] }), trial("predict", {})]).body, /2 new pictures.*stay within reach/s);
  assert.equal(introduction([trial("predict", { phase: "train", session_count: 1 })]).title, "Learn");
});

test("a place without a value stays as it is", () => {
  assert.equal(fill("{done} of {count}", { done: 0 }), "0 of {count}");
});
