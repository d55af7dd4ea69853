/** Durations in frames on a clock that the test moves by hand. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { framesFor, type Phase, Sequence, usualFrame } from "../src/sequence";
import { HandClock } from "./clock";

const FRAME = 10;
const PLAN = [
  { name: "fixation", ms: 30 },
  { name: "stimulus", ms: 21 },
  { name: "mask", ms: 0 },
  { name: "answer", ms: 40 },
];

/** Run a plan on frames at these times; returns what was shown when (by the frame in which it changed), and the phases. */
async function run(times: readonly number[], act: (sequence: Sequence, time: number) => void = () => undefined): Promise<[Record<number, string>, Phase[]]> {
  const clock = new HandClock();
  const shown: Record<number, string> = {};
  let now = 0;
  const sequence = new Sequence(clock, FRAME, PLAN, (name) => (shown[now] = name));
  let over = false;
  void sequence.run().then(() => (over = true));
  for (const time of times) {
    now = time;
    clock.tick(time);
    act(sequence, time);
    await new Promise(setImmediate);
    if (over) break;
  }
  assert.ok(over);
  assert.equal(clock.waiting, 0);
  return [shown, sequence.phases];
}

const steady = Array.from({ length: 30 }, (_, i) => 100 + FRAME * i);

test("a duration becomes whole frames, at least one, and none only for nothing", () => {
  assert.deepEqual([0, 3, 16, 33, 100].map((ms) => framesFor(ms, 16.67)), [0, 1, 1, 2, 6]);
});

test("the usual interval is the median of measured ones", async () => {
  const clock = new HandClock();
  const frame = usualFrame(clock, 4);
  for (const time of [0, 8, 16, 48, 56, 64]) clock.tick(time);
  assert.equal(await frame, 8);
});

test("on steady frames every thing stays for its number of frames and what has no time is left out", async () => {
  const [shown, phases] = await run(steady);
  assert.deepEqual(shown, { 100: "fixation", 130: "stimulus", 150: "answer", 190: "" });
  assert.deepEqual(
    phases.map(({ name, requested_frames, onset_ms, achieved_ms, achieved_frames }) => [name, requested_frames, onset_ms, achieved_ms, achieved_frames]),
    [
      ["fixation", 3, 110, 30, 3],
      ["stimulus", 2, 140, 20, 2],
      ["answer", 4, 160, 40, 4],
    ],
  );
});

test("a dropped frame lengthens the thing it falls on, and the record says by how much", async () => {
  const [, phases] = await run([100, 110, 120, 130, 140, 170, 180, 190, 200, 210, 220, 230]);
  const stimulus = phases[1]!;
  assert.deepEqual([stimulus.requested_frames, stimulus.onset_ms, stimulus.achieved_ms, stimulus.achieved_frames], [2, 140, 40, 4]);
});

test("frames that jitter around their interval are counted as what they are", async () => {
  const jitter = steady.map((time, i) => time + [0, 2, -2, 1][i % 4]!);
  const [, phases] = await run(jitter);
  assert.deepEqual(phases.map(({ achieved_frames }) => achieved_frames), [3, 2, 4]);
});

test("an answer during the stimulus lets it stay and leaves the rest out", async () => {
  const [shown, phases] = await run(steady, (sequence, time) => time === 140 && sequence.stop(["fixation", "stimulus", "mask"]));
  assert.deepEqual(shown, { 100: "fixation", 130: "stimulus", 150: "" });
  assert.deepEqual(phases.map(({ name, achieved_frames }) => [name, achieved_frames]), [["fixation", 3], ["stimulus", 2]]);
});

test("an answer in the answer time ends it at the next frame", async () => {
  const [shown, phases] = await run(steady, (sequence, time) => time === 160 && sequence.stop(["fixation", "stimulus", "mask"]));
  assert.equal(shown[170], "");
  assert.equal(phases[2]!.achieved_ms, 20);
});

test("an onset can be waited for", async () => {
  const onsets: number[] = [];
  await run(steady, (sequence, time) => {
    if (time === 100) void sequence.onset("stimulus").then(({ onset_ms }) => onsets.push(onset_ms));
  });
  assert.deepEqual(onsets, [140]);
});
