/** The trial types there are: which plugin shows a trial, and with which parameters. One more type is one more line. */

import type { JsPsychPlugin } from "jspsych";

import { PredictPlugin } from "./plugin-predict";
import type { Payload, PredictPayload, Trial } from "./wire";

/** Address of a picture of the stimulus set. */
export function address(hash: string): string {
  return `/stimuli/${hash}.png`;
}

/** What a trial type brings: its plugin and the parameters it makes of a payload (all else is shared). */
export interface TrialType<P extends Payload = Payload> {
  // biome-ignore lint: jsPsych's own type of a plugin class
  plugin: { new (...args: any[]): JsPsychPlugin<any>; info: { name: string; version: string } };
  parameters: (trial: Trial<P>) => Record<string, unknown>;
}

const predict: TrialType<PredictPayload> = {
  plugin: PredictPlugin as TrialType["plugin"],
  parameters: ({ payload }) => ({
    phase: payload.phase,
    image: address(payload.image),
    explanation: payload.explanation && address(payload.explanation),
    predicted: payload.predicted,
    options: payload.options,
    reservoir: payload.reservoir.map((seen) => ({
      id: seen.image,
      image: address(seen.image),
      explanation: seen.explanation && address(seen.explanation),
      predicted: seen.predicted,
    })),
  }),
};

const TYPES: Record<string, TrialType<any>> = { predict };

/** Return a trial's type; a study that asks for one this page does not have cannot go on. */
export function trialType({ trial_type }: Trial): TrialType<any> {
  const found = TYPES[trial_type];
  if (!found) throw new Error(`This page cannot show trials of the type '${trial_type}'. Please reload it.`);
  return found;
}

const HASH = /^[0-9a-f]{64}$/;

/** Addresses of every picture that a payload names, wherever it stands. */
export function addresses(value: unknown): string[] {
  if (typeof value === "string") return HASH.test(value) ? [address(value)] : [];
  if (Array.isArray(value)) return value.flatMap(addresses);
  return value && typeof value === "object" ? Object.values(value).flatMap(addresses) : [];
}
