/** What the page says about where one is: before a block, above a trial, while saving. */

import type { Page, Payload, Trial } from "./wire";
import { fill, plural, words } from "./words";

/** The page before a block of trials, from its first trial. */
export function introduction(trials: readonly Trial[]): Page {
  const { payload, trial_type } = trials[0]!;
  const { session, session_count: of } = payload;
  const text = trial_type !== "predict" ? words.block : payload.phase === "train" ? words.train : words.test;
  const more = [
    trial_type === "predict" && payload.phase !== "train" && trials.some((trial) => within(trial, "reservoir")) ? words.test.reservoir : "",
    trial_type === "choice" && within(trials[0]!, "speed") ? words.block.speeded : "",
  ];
  const title = of > 1 ? fill(text.titleOf, { session, of }) : text.title;
  return { title, body: [plural(text.body, trials.length), ...more].filter((part) => part !== "").join("\n\n") };
}

function within({ payload }: Trial, key: string): boolean {
  const value = (payload as unknown as Record<string, unknown>)[key];
  return Array.isArray(value) ? value.length > 0 : !!value;
}

/** The line above a trial that tells where one is, '' for none. */
export function position({ session, session_count: of, index, count, phase }: Payload): string {
  if (!count) return "";
  const text = phase === "practice" ? words.position.practice : of > 1 ? words.position.session : words.position.block;
  return fill(text, { session, of, index, count });
}

/** How much is left to send. */
export function saving(left: number): string {
  return left === 0 ? words.saving.done : plural(words.saving.left, left);
}
