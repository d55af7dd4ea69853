/** The trial types there are: which plugin shows a trial. One more type is one more line. */

import type { trialPlugin } from "./plugin";
import { ChoicePlugin } from "./plugin-choice";
import { DrawPlugin } from "./plugin-draw";
import { ForcedChoicePlugin } from "./plugin-forced-choice";
import { PredictPlugin } from "./plugin-predict";
import { RevealPlugin } from "./plugin-reveal";
import type { Trial } from "./wire";

type Plugin = ReturnType<typeof trialPlugin>;

const TYPES: Record<string, Plugin> = {
  predict: PredictPlugin,
  forced_choice: ForcedChoicePlugin,
  choice: ChoicePlugin,
  reveal: RevealPlugin,
  draw: DrawPlugin,
};

/** Return a trial's plugin; a study that asks for one this page does not have cannot go on. */
export function trialType({ trial_type }: Trial): Plugin {
  const found = TYPES[trial_type];
  if (!found) throw new Error(`This page cannot show trials of the type '${trial_type}'. Please reload it.`);
  return found;
}
