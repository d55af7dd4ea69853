/** Strokes of reveal trials: steps, samples, the player's clock, and masks. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { boxStart, Brush, inside, PlayerClock, pointsOf, revealedMask, stepTowards } from "../src/brush";

const SIZE: [number, number] = [60, 40];

test("a step is never longer than allowed, and always leads nearer until it arrives", () => {
  for (const step of [1, 3, 7]) {
    for (let far = 1; far <= 60; far++) {
      let [at, count] = [{ x: 0, y: 0 }, 0];
      const target = { x: far, y: 17 };
      for (let next = stepTowards(at, target, step); next; next = stepTowards(at, target, step)) {
        assert.ok(Math.max(Math.abs(next.x - at.x), Math.abs(next.y - at.y)) <= step);
        [at, count] = [next, count + 1];
        assert.ok(count <= 60);
      }
      assert.deepEqual(at, target);
    }
  }
});

test("a pointer that rests adds no box, and one that jumps is followed in steps", () => {
  const brush = new Brush(SIZE, 7, 50, 100);
  brush.down = true;
  brush.target = { x: 10, y: 10 };
  for (let time = 0; time <= 200; time += 10) brush.sample(time);
  assert.deepEqual(brush.strokes, [[0, 10, 10]]);
  brush.target = { x: 30, y: 10 };
  for (let time = 210; time <= 600; time += 10) brush.sample(time);
  assert.deepEqual(brush.strokes.map(([, x]) => x), [10, 17, 24, 30]);
  const times = brush.strokes.map(([time]) => time);
  assert.ok(times.slice(2).every((time, i) => time - times[i + 1]! >= 50));
});

test("a round holds no more boxes than it may, and none while the pen is up", () => {
  const brush = new Brush(SIZE, 7, 10, 2);
  brush.target = { x: 5, y: 5 };
  assert.equal(brush.sample(0), false);
  brush.down = true;
  for (let time = 10; time < 200; time += 10) {
    brush.target = { x: time % 60, y: 5 };
    brush.sample(time);
  }
  assert.equal(brush.strokes.length, 2);
});

test("waiting is not on the player's clock", () => {
  let now = 1000;
  const clock = new PlayerClock(() => now);
  assert.equal(clock.read(), 0);
  clock.start(1000);
  now = 1400;
  assert.equal(clock.read(), 400);
  clock.stop();
  now = 9000;
  assert.equal(clock.read(), 400);
  assert.equal(clock.running, false);
  clock.go();
  now = 9100;
  assert.equal(clock.read(), 500);
  assert.equal(clock.running, true);
});

test("points are the share of the time that is left", () => {
  assert.deepEqual([0, 3500, 7000, 8000].map((played) => pointsOf(played, 7000)), [100, 50, 0, 0]);
});

test("a box lies around its centre and is cut off at the edge", () => {
  assert.deepEqual([boxStart(100, 14), boxStart(5, 1), boxStart(5, 3)], [93, 5, 4]);
  const mask = revealedMask([[0, 0, 0], [1, 59, 39]], SIZE, 3);
  assert.equal(mask.reduce((sum, value) => sum + value, 0), 8);
  assert.deepEqual(inside({ x: -3, y: 99.6 }, SIZE), { x: 0, y: 39 });
});
