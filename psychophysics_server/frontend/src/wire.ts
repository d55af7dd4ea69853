/** The shapes of docs/wire.md. */

import type { Words } from "./words";

export type Kind = "consent" | "instructions" | "quiz" | "trial" | "focus" | "debrief" | "resume" | "load" | "display" | "feedback";

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

/** Where a person stands with the questions about the instructions. */
export interface QuizState {
  attempt: number;
  wrong: number;
  passed: boolean;
  over: boolean;
}

export interface QuizQuestion {
  question: string;
  options: string[];
}

/** What the study asks of the screen. */
export interface Display {
  min_width: number;
  min_height: number;
  mobile: boolean;
  fullscreen: boolean;
  calibrate: boolean;
}

export type State = "PRE" | "ACTIVE" | "COMPLETE" | "SCREENED_OUT" | "WITHDRAWN" | "EXPIRED" | "FAILED";

/** Answer to a batch; `conflicts` comes with status 409. */
export interface BatchAnswer {
  acknowledged: number[];
  high_water: number;
  feedback: Record<string, Verdict>;
  practice: PracticeState | null;
  quiz: QuizState | null;
  state: State;
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

/** A person's own score, and the payload of the trial that tells it with the numbers in their places. */
export interface OwnScore {
  right: number;
  asked: number;
  payload: Payload;
}

/** What payloads of all trial types say (stimuli/trials.py). */
export interface Payload {
  phase: "practice" | "train" | "test";
  question?: string;
  options: string[];
  feedback: boolean;
  /** 0 where it is left out. */
  lockout_ms?: number;
  session: number;
  session_count: number;
  index: number;
  count: number;
  /** The trial tells the person's own score: the server fills its payload when it is shown. */
  score?: { phase: "practice" | "test"; block?: string; catch?: boolean } | null;
}

export interface Confidence {
  levels: number;
  slider: boolean;
  low: string;
  high: string;
}

export interface PredictPayload extends Payload {
  image: string;
  explanation: string | null;
  predicted: string | null;
  reservoir: Example[];
}

export interface Grid {
  polarity: "max" | "min" | "base";
  label: string;
  pictures: string[];
}

export interface ForcedChoicePayload extends Payload {
  references?: Grid[];
  queries: [string, string];
  arrangement?: "stacked" | "side_by_side";
  confidence?: Confidence | null;
}

export interface Panel {
  label?: string;
  pictures?: string[];
  text?: string;
}

export interface Entry {
  label: string;
  kind?: "text" | "number";
  required?: boolean;
  max_length?: number;
  minimum?: number | null;
  maximum?: number | null;
}

export interface Speed {
  fixation_ms: number;
  stimulus_ms: number;
  mask?: string | null;
  mask_ms?: number;
  deadline_ms: number;
  last_counts?: boolean;
}

export interface ChoicePayload extends Payload {
  panels?: Panel[];
  faces: Panel[];
  layout?: "row" | "grid" | "list" | "scale";
  low?: string;
  high?: string;
  confidence?: Confidence | null;
  entry?: Entry | null;
  speed?: Speed | null;
}

export interface RevealPayload extends Payload {
  image: string;
  word: string;
  mode?: "reveal" | "click";
  box_px: number;
  step_px: number;
  sample_ms: number;
  batch: number;
  limit_ms: number;
  oracle: boolean;
  /** The whole picture is seen, dimmed; the machine's last guess is said. */
  visible?: boolean;
  told?: boolean;
  max_boxes: number;
  size: [number, number];
}

export interface DrawPayload extends Payload {
  image: string;
  word: string;
  exemplar_ms: number;
  size: [number, number];
  pen_px: number;
  limit_ms: number;
  max_points: number;
}

export interface Trial<P extends Payload = Payload> {
  trial_id: string;
  trial_type: string;
  phase: string;
  session: number;
  position: number;
  payload: P;
}

export type Step =
  | { step: "consent" | "instructions" | "debrief" | "code" }
  | { step: "quiz"; attempts: number; questions: QuizQuestion[] }
  | { step: "practice"; attempts: number; trials: Trial[] }
  | { step: "block"; name: string; session: number; phase: string; attempt: number; trials: Trial[] };

export interface SessionState {
  session: string;
  study: { study: string; version: number; title: string; stimuli: string; minutes: number };
  state: State;
  /** Why the session ended before its end. */
  reason: string;
  next_seq: number;
  high_water: number;
  chain: string;
  idle_s: number;
  /** Language of the study, and every word of the interface in it. */
  language: string;
  words: Words;
  texts: Texts;
  consent_version: string;
  display: Display;
  resume: { policy: "continue" | "restart_block" | "refuse"; max_age_hours: number };
  timeline: Step[];
  done: { consent: boolean; instructions: boolean; debrief: boolean };
  quiz: QuizState;
  practice: PracticeState | null;
  answered: string[];
  code: string | null;
}

/** What the server's network recognises in what was uncovered: classes with scores, and the rank of the true one. */
export interface Recognition {
  top: [string, number][];
  rank: number | null;
  won: boolean;
}

export interface Opened {
  session: string;
  token: string;
  resumed: boolean;
  state: string;
  next_seq: number;
}

/** A code, the way back to the recruiter, and the token that erases the answers. */
export interface Release {
  code: string;
  url: string | null;
  form: { action: string; fields: Record<string, string> } | null;
  deletion_token: string;
}

/** How a session ended without its trials. */
export type Outcome = Omit<Release, "code"> & { state: State; reason: string; code: string | null };
