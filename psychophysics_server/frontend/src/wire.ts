/** The shapes of docs/wire.md. */

export type Kind = "consent" | "instructions" | "quiz" | "trial" | "focus" | "debrief" | "resume" | "load";

/** One event as it is stored and sent; `body` is JSON text, built once and never again. */
export interface SentEvent {
  seq: number;
  kind: Kind;
  time: number;
  body: string;
}

export interface Verdict {
  correct: boolean;
  expected: string;
}

export interface PracticeState {
  attempt: number;
  answered: string[];
  wrong: number;
  passed: boolean;
  over: boolean;
}

/** Answer to a batch; `conflicts` comes with status 409. */
export interface BatchAnswer {
  acknowledged: number[];
  high_water: number;
  feedback: Record<string, Verdict>;
  practice: PracticeState | null;
  faults: Record<string, string>;
  conflicts?: number[];
}

export interface Page {
  title: string;
  body: string;
}

export interface Texts {
  consent: Page;
  instructions: Page[];
  debrief: Page;
  contact: string;
}

/** A training example; pictures are named by their SHA-256. */
export interface Example {
  image: string;
  explanation: string | null;
  predicted: string;
}

/** Payload of the trial type `predict` (stimuli/records.py). */
export interface PredictPayload {
  phase: "practice" | "train" | "test";
  image: string;
  explanation: string | null;
  predicted: string | null;
  options: string[];
  reservoir: Example[];
  feedback: boolean;
  lockout_ms: number;
  session: number;
  session_count: number;
  index: number;
  count: number;
}

export interface Trial {
  trial_id: string;
  trial_type: string;
  phase: string;
  session: number;
  position: number;
  payload: PredictPayload;
}

export type Step =
  | { step: "consent" | "instructions" | "debrief" | "code" }
  | { step: "practice"; attempts: number; trials: Trial[] }
  | { step: "block"; name: string; session: number; phase: string; trials: Trial[] };

export interface SessionState {
  session: string;
  study: { study: string; version: number; title: string; stimuli: string; minutes: number };
  state: "PRE" | "ACTIVE" | "COMPLETE";
  next_seq: number;
  high_water: number;
  chain: string;
  idle_s: number;
  texts: Texts;
  timeline: Step[];
  done: { consent: boolean; instructions: boolean; debrief: boolean };
  practice: PracticeState | null;
  answered: string[];
  code: string | null;
}

export interface Opened {
  session: string;
  token: string;
  resumed: boolean;
  state: string;
  next_seq: number;
}

export interface Release {
  code: string;
  url: string | null;
}
