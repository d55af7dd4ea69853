/** A free answer: a text for a person to read, or a number; how it came to be is recorded. */

import { element } from "./dom";
import type { Entry } from "./wire";
import { fill, plural, words } from "./words";

/** Characters left from which on they are counted down. */
const FEW = 100;

/** Say what is wrong with a free answer, '' if nothing is; the server asks the same (stimuli/trials.py). */
export function entryFault(asked: Entry, given: string): string {
  if (given === "") return asked.required ? words.entry.needed : "";
  if (asked.kind !== "number") return "";
  const number = Number(given.replace(",", "."));
  const minimum = asked.minimum ?? -Infinity;
  const maximum = asked.maximum ?? Infinity;
  if (!Number.isNaN(number) && number >= minimum && number <= maximum) return "";
  if (asked.minimum != null && asked.maximum != null) return fill(words.entry.between, { minimum, maximum });
  if (asked.minimum != null) return fill(words.entry.atLeast, { minimum });
  return asked.maximum != null ? fill(words.entry.atMost, { maximum }) : words.entry.number;
}

/** The field, with its label, its fault and its record. */
export class EntryField {
  readonly root: HTMLElement;
  readonly input: HTMLInputElement | HTMLTextAreaElement;
  private readonly fault = element("p", { class: "fault", id: "entry-fault", role: "alert", hidden: true });
  private readonly left = element("p", { class: "hint", id: "entry-left", "aria-live": "polite" });
  private pastes = 0;
  private keystrokes = 0;

  constructor(private readonly asked: Entry) {
    const shared = { id: "entry", maxlength: asked.max_length ?? 500, "aria-describedby": "entry-fault entry-left", autocomplete: "off" };
    this.input =
      asked.kind === "number"
        ? element("input", { ...shared, type: "text", inputmode: "decimal", class: "field number" })
        : element("textarea", { ...shared, rows: 3 });
    if (asked.required) this.input.required = true;
    const optional = asked.required ? "" : ` (${words.entry.optional})`;
    this.root = element("div", { class: "entry" }, element("label", { for: "entry" }, asked.label + optional), this.input, this.left, this.fault);
    this.input.addEventListener("paste", () => (this.pastes += 1));
    this.input.addEventListener("keydown", () => (this.keystrokes += 1));
    this.input.addEventListener("input", () => this.typed());
  }

  /** The answer as it is sent: a number with a decimal point. */
  get value(): string {
    const text = this.input.value.trim();
    return this.asked.kind === "number" ? text.replace(",", ".") : text;
  }

  /** Give a text as a person would. */
  set(text: string): void {
    this.input.value = text;
    this.typed();
  }

  /** Whether the answer can be sent; says what is wrong and goes there if not. */
  check(): boolean {
    const wrong = entryFault(this.asked, this.value);
    this.fault.textContent = wrong;
    this.fault.hidden = wrong === "";
    this.input.setAttribute("aria-invalid", String(wrong !== ""));
    if (wrong) this.input.focus();
    return wrong === "";
  }

  get record(): { text: string; text_pastes: number; text_keystrokes: number } {
    return { text: this.value, text_pastes: this.pastes, text_keystrokes: this.keystrokes };
  }

  private typed(): void {
    const left = (this.asked.max_length ?? 500) - this.input.value.length;
    this.left.textContent = left <= FEW && this.asked.kind !== "number" ? plural(words.entry.left, left) : "";
    if (!this.fault.hidden) this.check();
  }
}
