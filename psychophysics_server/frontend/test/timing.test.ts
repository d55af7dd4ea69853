/** Onset, response time and dropped frames on a clock that the test moves by hand. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { droppedFrames, FrameMeter, median, painted, responseTime } from "../src/timing";
import { HandClock } from "./clock";

test("onset is the time of the second frame", async () => {
  const clock = new HandClock();
  const onset = painted(clock);
  clock.tick(100);
  clock.tick(116.7);
  clock.tick(133.4);
  assert.equal(await onset, 116.7);
});

test("response time is the event's stamp minus the onset, not rounded", () => {
  assert.equal(responseTime({ timeStamp: 929.0625 }, 116.75), 812.3125);
});

test("the median of an even number of values lies between the middle two", () => {
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test("a long interval counts as the frames it skipped", () => {
  assert.equal(droppedFrames([16.7, 16.6, 50.1, 16.7], 16.7), 2);
  assert.equal(droppedFrames([16.7, 18.9, 15.1], 16.7), 0);
});

test("the meter reports the usual interval and the dropped frames", () => {
  const clock = new HandClock();
  const meter = new FrameMeter(clock);
  meter.start();
  [0, 10, 20, 30, 70, 80].forEach((time) => clock.tick(time));
  assert.deepEqual(meter.stop(), { frame_ms: 10, dropped_frames: 3 });
  assert.equal(clock.waiting, 0);
});

test("time in which the page was hidden is not counted as dropped frames", () => {
  const clock = new HandClock();
  const meter = new FrameMeter(clock);
  meter.start();
  [0, 10, 20].forEach((time) => clock.tick(time));
  meter.interrupt();
  [5020, 5030].forEach((time) => clock.tick(time));
  assert.deepEqual(meter.stop(), { frame_ms: 10, dropped_frames: 0 });
});

test("a trial too short for two frames has no interval", () => {
  const meter = new FrameMeter(new HandClock());
  meter.start();
  assert.deepEqual(meter.stop(), { frame_ms: null, dropped_frames: 0 });
});
