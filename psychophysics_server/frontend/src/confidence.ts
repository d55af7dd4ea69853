/** How sure a person is: a few steps, or a slider without a starting point. */

import { element } from "./dom";
import type { Confidence } from "./wire";
import { fill, words } from "./words";

/** A field for the graded confidence; `changed` is told of every change. */
export class ConfidenceField {
  readonly root: HTMLElement;
  readonly controls: (HTMLButtonElement | HTMLInputElement)[] = [];
  value: number | null = null;
  private times = 0;

  constructor(
    private readonly asked: Confidence,
    private readonly changed: (event: Event) => void,
  ) {
    const label = element("h2", { id: "confidence" }, words.confidence.question);
    this.root = element("section", { class: "confidence", "aria-labelledby": "confidence" }, label, asked.slider ? this.slider() : this.steps());
  }

  /** Times that a value was replaced by another one. */
  get changes(): number {
    return Math.max(0, this.times - 1);
  }

  /** Give a value as a person would. */
  set(value: number): void {
    const [first] = this.controls;
    if (first instanceof HTMLInputElement) {
      first.value = String(value);
      first.dispatchEvent(new Event("change"));
    } else this.controls[value - 1]?.click();
  }

  private steps(): HTMLElement {
    const { levels, low, high } = this.asked;
    const group = element("div", { class: "steps", role: "group", "aria-labelledby": "confidence" });
    for (let level = 1; level <= levels; level++) {
      const anchor = level === 1 ? `: ${low}` : level === levels ? `: ${high}` : "";
      const unseen = element("span", { class: "unseen" }, fill(words.confidence.level, { levels }) + anchor);
      const node = element("button", { type: "button", class: "button step", "aria-pressed": "false" }, String(level), unseen);
      node.addEventListener("click", (event) => this.take(event, level));
      this.controls.push(node);
      group.append(node);
    }
    return element("div", { class: "anchored" }, element("span", {}, low), group, element("span", {}, high));
  }

  private slider(): HTMLElement {
    const { low, high } = this.asked;
    // Nothing is marked before the first move, so that no answer is suggested.
    const input = element("input", { type: "range", class: "slider untouched", min: 0, max: 100, step: 1, "aria-labelledby": "confidence" });
    input.setAttribute("aria-valuetext", words.confidence.untouched);
    const told = element("output", { class: "hint" }, words.confidence.untouched);
    const moved = (event: Event): void => {
      if (event.type === "input" && this.value === null) input.classList.remove("untouched");
      told.textContent = fill(words.confidence.value, { value: input.value });
      input.setAttribute("aria-valuetext", told.textContent);
      if (event.type === "change") this.take(event, Number(input.value));
    };
    input.addEventListener("input", moved);
    input.addEventListener("change", moved);
    // A click on the very place where the hidden handle stands is a choice too, though the browser sees no change.
    input.addEventListener("pointerup", (event) => this.value === null && this.take(event, Number(input.value)));
    this.controls.push(input);
    return element("div", { class: "anchored" }, element("span", {}, low), element("div", { class: "slide" }, input, told), element("span", {}, high));
  }

  private take(event: Event, value: number): void {
    if (this.value !== value) this.times += 1;
    this.value = value;
    for (const [i, node] of this.controls.entries()) {
      node.classList.remove("untouched");
      if (node instanceof HTMLButtonElement) node.setAttribute("aria-pressed", String(i + 1 === value));
    }
    const told = this.root.querySelector("output");
    if (told) told.textContent = fill(words.confidence.value, { value });
    this.changed(event);
  }
}
