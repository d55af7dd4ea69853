/** What `forced_choice` and `choice` share: picking an option, changing one's mind, confidence, a free answer, and going on. */

import { ParameterType } from "jspsych";

import { ConfidenceField } from "./confidence";
import { button, element } from "./dom";
import { EntryField } from "./field";
import type { Chance } from "./plugin";
import { type Data, type Given, inputOf, TrialScreen } from "./screen";
import type { Confidence, Entry, Payload, Verdict } from "./wire";
import { fill, words } from "./words";

const { STRING, FLOAT, INT, BOOL, OBJECT } = ParameterType;

/** Data of every trial in which an option is picked. */
export const CHOOSING_DATA = {
  /** Place of the answer: `left`, `right`, `top`, `bottom`, or its number from 1 in displayed order. */
  side: { type: STRING },
  /** When an option was first picked, and when the person went on; `rt_ms` is when the option that counts was picked. */
  first_rt_ms: { type: FLOAT },
  submit_ms: { type: FLOAT },
  /** Every pick: option, time from onset, input. */
  answers: { type: OBJECT, array: true },
  /** Times that another option was picked. */
  changes: { type: INT },
  /** 1 to the number of levels, or 0 to 100; and times that it was changed. */
  confidence: { type: FLOAT },
  confidence_changes: { type: INT },
  /** Free answer, with how often something was pasted and keys were pressed. */
  text: { type: STRING },
  text_pastes: { type: INT },
  text_keystrokes: { type: INT },
  timed_out: { type: BOOL },
};

/** One pick of an option. */
export interface Pick {
  response: string;
  rt_ms: number;
  input: string;
}

export type Asking = Payload & { confidence?: Confidence | null; entry?: Entry | null };

/** A screen with options to pick from. */
export abstract class ChoosingScreen<P extends Asking> extends TrialScreen<P> {
  /** The button of each option, in displayed order. */
  protected readonly options: HTMLButtonElement[] = [];
  protected readonly picks: Pick[] = [];
  protected confidence: ConfidenceField | null = null;
  protected entry: EntryField | null = null;
  protected submit: HTMLButtonElement | null = null;

  /** What an option is called. */
  protected abstract nameOf(option: string): string;

  /** Place of an option on the screen, for the record. */
  protected abstract sideOf(index: number): string;

  /** Make the fields below the options, and the button that goes on: '' where one click is the whole answer. */
  protected fields(withConfidence = true): (HTMLElement | null)[] {
    const { confidence, entry } = this.payload;
    if (confidence && withConfidence) this.confidence = new ConfidenceField(confidence, () => this.refresh());
    if (entry) this.entry = new EntryField(entry);
    if (!this.confidence && !this.entry) return [];
    this.submit = button(words.next, "primary", (event) => this.goOn(event));
    this.submit.classList.add("submit");
    this.controls.push(...(this.confidence?.controls ?? []), ...(this.entry ? [this.entry.input] : []), this.submit);
    return [this.confidence?.root ?? null, this.entry?.root ?? null, element("div", { class: "actions" }, this.submit)];
  }

  /** Tell the style sheet how much of the height fields and verdict take, so that the pictures leave it to them. */
  protected leaveRoom(main: HTMLElement): void {
    main.classList.toggle("tells", this.parameters.judge !== null);
    const height = (this.confidence ? 104 : 0) + (this.entry ? 150 : 0) + (this.submit ? 72 : 0);
    main.style.setProperty("--fields", `${height}px`);
  }

  protected override opened(): void {
    this.refresh();
  }

  /** Take a pick of the option at `index`. */
  protected pick(event: Event, index: number): void {
    if (!this.counts(event) || index >= this.payload.options.length) return;
    const response = this.payload.options[index]!;
    const last = this.picks.at(-1);
    if (last?.response !== response) this.picks.push({ response, rt_ms: this.rt(event), input: inputOf(event) });
    this.options.forEach((node, i) => {
      node.classList.toggle("chosen", i === index);
      node.setAttribute("aria-pressed", String(i === index));
    });
    this.picked(event);
  }

  /** A pick was taken: it is the whole answer where nothing else is asked. */
  protected picked(event: Event): void {
    if (this.submit) this.refresh();
    else this.finish(event.timeStamp, this.given(event.timeStamp));
  }

  /** Whether all that is asked, apart from the free answer, was given. */
  protected get complete(): boolean {
    const picked = this.payload.options.length === 0 || this.picks.length > 0;
    return picked && (this.confidence === null || this.confidence.value !== null);
  }

  protected refresh(): void {
    if (this.submit) this.submit.disabled = !this.complete;
  }

  private goOn(event: Event): void {
    if (!this.counts(event) || !this.complete || this.entry?.check() === false) return;
    this.finish(event.timeStamp, this.given(event.timeStamp, inputOf(event)));
  }

  /** The response so far, ended at a time by an input. */
  protected given(at: number, input = ""): Given {
    const last = this.picks.at(-1);
    const submit_ms = at - this.onset;
    return {
      response: last?.response ?? "",
      side: last ? this.sideOf(this.payload.options.indexOf(last.response)) : "",
      rt_ms: last?.rt_ms ?? submit_ms,
      first_rt_ms: this.picks[0]?.rt_ms ?? submit_ms,
      submit_ms,
      input: last?.input ?? input,
      answers: this.picks,
      changes: Math.max(0, this.picks.length - 1),
      confidence: this.confidence?.value ?? null,
      confidence_changes: this.confidence?.changes ?? 0,
      ...(this.entry?.record ?? { text: "", text_pastes: 0, text_keystrokes: 0 }),
      timed_out: false,
    };
  }

  protected override mark({ expected }: Verdict): void {
    this.options[this.payload.options.indexOf(expected)]?.classList.add("expected");
  }

  protected override explain({ expected }: Verdict): string {
    return fill(words.feedback.rightAnswer, { answer: this.nameOf(expected) });
  }

  act({ response, confidence, text }: Data): void {
    this.options[this.payload.options.indexOf(String(response))]?.click();
    this.actFields(confidence, text);
  }

  /** Fill in the fields as a simulated person would, and go on. */
  protected actFields(confidence: unknown, text: unknown): void {
    if (typeof confidence === "number") this.confidence?.set(confidence);
    if (text) this.entry?.set(String(text));
    this.submit?.click();
  }
}

/** What a simulated person answers where options, a confidence and a free answer may be asked. */
export function inventChoice({ options, confidence, entry }: Asking, chance: Chance): Given {
  const rt_ms = chance.rt();
  const index = chance.below(Math.max(1, options.length));
  const response = options[index] ?? "";
  const grade = confidence && (confidence.slider ? chance.below(101) : 1 + chance.below(confidence.levels));
  return {
    response,
    side: options.length ? String(index + 1) : "",
    rt_ms,
    first_rt_ms: rt_ms,
    submit_ms: rt_ms,
    input: "",
    answers: options.length ? [{ response, rt_ms, input: "" }] : [],
    changes: 0,
    confidence: grade ?? null,
    confidence_changes: 0,
    text: entry ? inventEntry(entry) : "",
    text_pastes: 0,
    text_keystrokes: 0,
    timed_out: false,
  };
}

function inventEntry({ kind, minimum, maximum, max_length = 500 }: Entry): string {
  if (kind !== "number") return "simulated".slice(0, max_length);
  return String(minimum ?? maximum ?? 0);
}
