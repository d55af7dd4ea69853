/** How the options of a choice are laid out, and in which order a speeded trial shows its parts. */

import type { ChoicePayload, Speed } from "./wire";

/** What is shown in a speeded trial, in order. */
export function planOf(speed: Speed): { name: string; ms: number }[] {
  return [
    { name: "fixation", ms: speed.fixation_ms },
    { name: "stimulus", ms: speed.stimulus_ms },
    { name: "mask", ms: speed.mask_ms ?? 0 },
    { name: "answer", ms: speed.deadline_ms },
  ];
}

/** Columns of `count` options on a wide screen and on a phone. */
export function columnsOf(layout: ChoicePayload["layout"], count: number, pictured: boolean): [number, number] {
  if (layout === "list") return [1, 1];
  if (layout === "scale") return [count, count];
  const wide = layout === "grid" ? Math.ceil(Math.sqrt(count)) : count;
  const narrow = pictured ? (count <= 4 ? 2 : count <= 9 ? 3 : 4) : count <= 2 ? count : 1;
  return [wide, Math.min(wide, narrow)];
}
