/** What an earlier page could not send counts as done. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { withUnsent } from "../src/resume";
import type { Kind, SentEvent, SessionState, Trial } from "../src/wire";

const trial = (id: string): Trial => ({ trial_id: id }) as Trial;
const event = (seq: number, kind: Kind, body: unknown): SentEvent => ({ seq, kind, time: 0, body: JSON.stringify(body) });
const state = {
  state: "PRE",
  done: { consent: false, instructions: false, debrief: false },
  answered: ["a"],
  timeline: [
    { step: "practice", attempts: 3, trials: [trial("p")] },
    { step: "block", name: "", session: 1, phase: "train", trials: [trial("a"), trial("b"), trial("c")] },
  ],
} as unknown as SessionState;

test("unsent answers count as answered, practice answers do not", () => {
  const unsent = [event(1, "trial", { trial_id: "b" }), event(2, "trial", { trial_id: "p" }), event(3, "trial", { trial_id: "a" })];
  assert.deepEqual(withUnsent(state, unsent).answered, ["a", "b"]);
});

test("an unsent consent makes the session active and is not asked for again", () => {
  const after = withUnsent(state, [event(1, "consent", { accepted: true }), event(2, "instructions", {})]);
  assert.equal(after.state, "ACTIVE");
  assert.deepEqual(after.done, { consent: true, instructions: true, debrief: false });
});

test("with nothing unsent the server's word stands", () => {
  assert.deepEqual(withUnsent(state, []), state);
});
