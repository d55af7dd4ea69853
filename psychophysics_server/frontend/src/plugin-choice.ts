/** Trial type `choice`: choose one of n, rate, or answer freely, with explanation panels; at leisure or against time. */

import { ParameterType } from "jspsych";

import { columnsOf, planOf } from "./choice-plan";
import { CHOOSING_DATA, ChoosingScreen, inventChoice } from "./choosing";
import { button, element, prose } from "./dom";
import { type Chance, trialPlugin } from "./plugin";
import { type Data, type Given, shortcut } from "./screen";
import { Sequence, usualFrame } from "./sequence";
import { browserClock } from "./timing";
import type { ChoicePayload, Panel, Speed } from "./wire";
import { fill, words } from "./words";

const { STRING, FLOAT, OBJECT } = ParameterType;
const KEYS = "123456789abcdefghijklmnopqrstuvwxyz";
/** What is shown in its time even after an early answer. */
const SHOWN = ["fixation", "stimulus", "mask"];
/** How long 'too slow' stands, and a late answer is still noted. */
const LATE_MS = 1000;

const data = {
  ...CHOOSING_DATA,
  /** Speeded: requested and achieved durations in milliseconds and frames, and the interval they were counted with. */
  phases: { type: OBJECT, array: true },
  phase_frame_ms: { type: FLOAT },
  deadline_ms: { type: FLOAT },
  /** An answer after the deadline; the response is then `na`. */
  late_response: { type: STRING },
  late_rt_ms: { type: FLOAT },
};

class ChoiceScreen extends ChoosingScreen<ChoicePayload> {
  private readonly after = element("div", { class: "after" });
  private sequence: Sequence | null = null;
  private frame: number | null = null;
  private late: { response: string; rt_ms: number } | null = null;
  private over = false;
  private simulated: Data | null = null;

  private get speed(): Speed | null {
    return this.payload.speed ?? null;
  }

  /** Two options in a row have the keys and the names of sides. */
  private get sided(): boolean {
    return this.payload.options.length === 2 && (this.payload.layout ?? "row") === "row";
  }

  protected nameOf(option: string): string {
    const index = this.payload.options.indexOf(option);
    const face = this.payload.faces[index];
    return face?.label || face?.text || fill(words.choice.option, { i: index + 1 });
  }

  protected sideOf(index: number): string {
    return this.sided ? ["left", "right"][index]! : String(index + 1);
  }

  protected build(): HTMLElement {
    const { payload } = this;
    const layout = payload.layout ?? "row";
    const panels = payload.panels ?? [];
    const heading = payload.question || (layout === "scale" ? words.choice.rating : words.choice.heading);
    const shown = panels.length ? element("div", { class: "panels" }, ...panels.map((panel, i) => this.panel(panel, i))) : null;
    shown?.style.setProperty("--panels", String(panels.length));
    shown?.style.setProperty("--narrow-panels", String(Math.min(panels.length, 3)));
    const choices = payload.options.length ? this.choices(layout) : null;
    this.after.append(...this.fields().filter((node) => node !== null));
    this.after.hidden = this.speed !== null;
    const main = element(
      "div",
      { class: "trial choice" },
      element("p", { class: "position" }, this.parameters.position),
      element("h1", {}, heading),
      this.speed ? this.theatre(this.speed, shown) : shown,
      choices,
      choices && element("p", { class: "hint keys" }, this.hint()),
      this.after,
      this.verdict,
    );
    this.space(main);
    if (!this.speed) this.leaveRoom(main);
    return element("div", { class: `layout${this.speed ? " speeded" : ""}`, "data-page": payload.phase, "data-now": this.speed ? "ready" : null }, main);
  }

  /** Tell the style sheet how much of the height each part takes. */
  private space(main: HTMLElement): void {
    const { panels = [], faces, layout = "row", options } = this.payload;
    const has = (parts: readonly Panel[]): boolean => parts.some(({ pictures }) => pictures && pictures.length > 0);
    const [columns, narrow] = columnsOf(layout, options.length, has(faces));
    const set = { shares: Number(has(panels)) + Number(has(faces)) || 1, columns, narrow };
    const rows = { rows: Math.ceil(options.length / columns) || 1, "narrow-rows": Math.ceil(options.length / narrow) || 1 };
    for (const [name, value] of Object.entries({ ...set, ...rows })) main.style.setProperty(`--${name}`, String(value));
  }

  private panel(panel: Panel, index: number): HTMLElement {
    const name = panel.label || fill(words.alt.panel, { i: index + 1 });
    const parts = [panel.label ? element("h2", {}, panel.label) : null, this.board(panel, `panel-${index + 1}`, name), panel.text ? prose(panel.text) : null];
    return element("section", { class: "panel", "aria-label": name }, ...parts);
  }

  private board({ pictures = [] }: Panel, role: string, name: string): HTMLElement | null {
    if (pictures.length === 0) return null;
    const board = element("span", { class: "pictures" });
    board.style.setProperty("--across", String(Math.ceil(Math.sqrt(pictures.length))));
    pictures.forEach((picture, i) => {
      const several = pictures.length > 1;
      const alt = fill(several ? words.alt.of : words.alt.one, { label: name, i: i + 1, count: pictures.length });
      board.append(this.album.picture(picture, several ? `${role}-${i + 1}` : role, alt));
    });
    return board;
  }

  private choices(layout: string): HTMLElement {
    this.options.push(...this.payload.options.map((_, i) => this.option(i)));
    this.controls.push(...this.options);
    const group = element("div", { class: `options ${layout}`, role: "group", "aria-label": words.choice.options }, ...this.options);
    if (layout !== "scale") return group;
    const { low = "", high = "" } = this.payload;
    return element("div", { class: "anchored wide" }, element("span", {}, low), group, element("span", {}, high));
  }

  private option(index: number): HTMLButtonElement {
    const face = this.payload.faces[index] ?? {};
    const node = button("", "quiet", (event) => this.pick(event, index));
    const pictured = (face.pictures?.length ?? 0) > 0;
    const label = face.label || (!pictured && !face.text ? String(index + 1) : "");
    node.className = `button option${pictured ? " pictured" : ""}`;
    const { layout, low, high } = this.payload;
    const anchor = layout === "scale" && (index === 0 ? low : index === this.payload.options.length - 1 ? high : "");
    const caption = element("span", { class: "caption" }, label ? element("span", { class: "label" }, label) : null);
    if (anchor) caption.append(element("span", { class: "unseen" }, `: ${anchor}`));
    const board = this.board(face, `option-${index + 1}`, fill(words.choice.option, { i: index + 1 }));
    node.append(...[board, caption, face.text ? element("span", { class: "text" }, face.text) : null].filter((part) => part !== null));
    const keys = this.keysOf(index);
    if (keys.length) shortcut(node, keys.join(" "), keys[0]!, pictured ? caption : node);
    return node;
  }

  private keysOf(index: number): string[] {
    if (this.sided) return [["F", "ArrowLeft"], ["J", "ArrowRight"]][index]!;
    const key = KEYS[index];
    return key ? [key.toUpperCase()] : [];
  }

  private hint(): string {
    const keys = this.payload.options.map((_, i) => this.keysOf(i)[0] ?? "");
    const told = keys.length > 3 ? `${keys[0]} – ${keys.filter(Boolean).at(-1)}` : keys.join(", ");
    const kept = this.speed?.last_counts ? ` ${words.choice.kept}` : "";
    return fill(words.choice.keys, { keys: told }) + kept;
  }

  protected override key(event: KeyboardEvent): void {
    const key = event.key.toLowerCase();
    const index = this.payload.options.findIndex((_, i) => this.keysOf(i).some((one) => one.toLowerCase() === key));
    if (index < 0) return;
    event.preventDefault();
    this.pick(event, index);
  }

  // Speeded trials

  /** Fixation, stimulus and mask in one place. */
  private theatre({ mask }: Speed, shown: HTMLElement | null): HTMLElement {
    const cross = element("div", { class: "cross", role: "img", "aria-label": words.choice.ready }, "+");
    const cover = mask ? element("div", { class: "mask" }, element("span", { class: "pictures" }, this.album.picture(mask, "mask", words.alt.mask))) : null;
    return element("div", { class: "theatre" }, cross, shown, cover);
  }

  protected override async present(): Promise<number> {
    if (!this.speed) return super.present();
    this.frame = await usualFrame(browserClock);
    this.sequence = new Sequence(browserClock, this.frame, planOf(this.speed), (name) => (this.root.dataset.now = name || "over"));
    void this.sequence.run().then(() => this.timeUp());
    const { onset_ms } = await this.sequence.onset("stimulus");
    this.frames.start();
    return onset_ms;
  }

  protected override pick(event: Event, index: number): void {
    if (this.over && this.speed) this.note(event, index);
    else if (!this.speed || this.speed.last_counts || this.picks.length === 0) super.pick(event, index);
  }

  protected override picked(event: Event): void {
    if (!this.speed) super.picked(event);
    else if (!this.speed.last_counts) this.sequence!.stop(SHOWN);
  }

  /** Note the first answer after the deadline. */
  private note(event: Event, index: number): void {
    if (!this.counts(event) || this.picks.length > 0) return;
    this.late ??= { response: this.payload.options[index]!, rt_ms: this.rt(event) };
  }

  private timeUp(): void {
    this.over = true;
    const now = performance.now();
    if (this.picks.length === 0 && this.payload.options.length > 0) {
      const text = [element("strong", {}, words.choice.tooSlow), ` ${words.choice.tooSlowBody}`];
      this.verdict.replaceChildren(element("p", { class: "told slow" }, element("span", { class: "mark", "aria-hidden": "true" }, "!"), ...text));
      window.setTimeout(() => this.finish(performance.now(), this.missed()), LATE_MS);
    } else if (this.submit) {
      for (const node of this.options) node.disabled = true;
      this.after.hidden = false;
      this.after.scrollIntoView({ block: "nearest" });
      if (this.simulated) this.actFields(this.simulated.confidence, this.simulated.text);
    } else this.finish(now, this.given(now));
  }

  private missed(): Given {
    return { ...this.given(performance.now()), response: "na", rt_ms: null, first_rt_ms: null, confidence: null, timed_out: true };
  }

  protected override measures(): Data {
    return {
      phases: this.sequence?.phases ?? [],
      phase_frame_ms: this.frame,
      deadline_ms: this.speed?.deadline_ms ?? null,
      late_response: this.late?.response ?? "",
      late_rt_ms: this.late?.rt_ms ?? null,
    };
  }

  override act(given: Data): void {
    if (!this.speed) return super.act(given);
    this.simulated = given;
    this.options[this.payload.options.indexOf(String(given.response))]?.click();
  }
}

function invent(payload: ChoicePayload, chance: Chance): Given {
  const { speed, options, layout = "row" } = payload;
  const given = inventChoice(payload, chance);
  const rt_ms = speed ? Math.min(given.rt_ms!, speed.stimulus_ms + (speed.mask_ms ?? 0) + speed.deadline_ms - 1) : given.rt_ms!;
  const side = options.length === 2 && layout === "row" ? ["left", "right"][options.indexOf(given.response)] : given.side;
  return { ...given, rt_ms, side, phases: [], phase_frame_ms: null, deadline_ms: speed?.deadline_ms ?? null, late_response: "", late_rt_ms: null };
}

export const ChoicePlugin = trialPlugin({ name: "choice", version: "1.0.0", data, screen: ChoiceScreen, invent });
