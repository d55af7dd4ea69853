/** The page of a session that ended without its trials: why, the code that is due, and the way back. */

import { type Api, ApiError } from "./api";
import { codeBox, deletion, onward } from "./codes";
import { element, prose } from "./dom";
import { pause } from "./pictures";
import type { Shell } from "./shell";
import type { Outcome, SessionState } from "./wire";
import { words } from "./words";

const AGAIN_MS = 2_000;
const REASONS = ["quiz", "device", "reload", "age"] as const;

/** States in which nothing can be gone on with. */
export function hasEnded(state: string): boolean {
  return ["SCREENED_OUT", "FAILED", "EXPIRED"].includes(state);
}

async function outcomeOf(api: Api): Promise<Outcome> {
  for (;;) {
    try {
      return await api.outcome();
    } catch (error) {
      if (!(error instanceof ApiError) || error.final) throw error;
      await pause(Math.max(AGAIN_MS, error.retryAfterMs));
    }
  }
}

/** Ask how the session ended, as often as it takes, and show it. */
export async function showEnding(shell: Shell, api: Api, { study, texts }: SessionState): Promise<void> {
  const outcome = await outcomeOf(api);
  const { state, code } = outcome;
  const reason = REASONS.find((name) => name === outcome.reason) ?? "other";
  const { title, body } = words.ending[reason];
  const parts: (Node | null)[] = [element("h1", {}, title), prose(body)];
  if (code) {
    const back = onward(outcome);
    const lead = element("p", {}, state === "SCREENED_OUT" ? words.ending.code : words.ending.review);
    parts.push(lead, codeBox(code), back ?? element("p", { class: "hint" }, words.code.close));
    parts.push(...deletion({ ...outcome, code }, study.study, texts.contact));
  }
  parts.push(element("p", { class: "contact" }, `${words.contact} ${texts.contact}`));
  shell.progress(0, 0);
  shell.show("ended", ...parts);
}

/** Show the way back to whom a recruiter sent for nothing: no place is left, or they took part before. */
export function showNoPlace(shell: Shell, { message, data }: ApiError): void {
  const url = typeof data.url === "string" ? data.url : null;
  const back = onward({ url, form: null }) ?? element("p", { class: "hint" }, words.code.close);
  shell.end("no-place", { title: words.ending.other.title, body: message }, codeBox(String(data.code)), back);
}
