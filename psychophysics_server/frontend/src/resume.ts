/** Where a person stands: what the server holds, and what this browser has not yet been able to send. */

import type { SentEvent, SessionState } from "./wire";

/** Return the session's state with unsent events counted as done, so that nobody is asked anything twice. */
export function withUnsent(state: SessionState, unsent: readonly SentEvent[]): SessionState {
  const kinds = new Set(unsent.map(({ kind }) => kind));
  const done = {
    consent: state.done.consent || kinds.has("consent"),
    instructions: state.done.instructions || kinds.has("instructions"),
    debrief: state.done.debrief || kinds.has("debrief"),
  };
  const trials = unsent.filter(({ kind }) => kind === "trial").map(({ body }) => (JSON.parse(body) as { trial_id: string }).trial_id);
  const inBlocks = new Set(state.timeline.flatMap((step) => (step.step === "block" ? step.trials : [])).map(({ trial_id }) => trial_id));
  const answered = [...new Set([...state.answered, ...trials.filter((id) => inBlocks.has(id))])];
  return { ...state, done, answered, state: state.state === "PRE" && done.consent ? "ACTIVE" : state.state };
}
