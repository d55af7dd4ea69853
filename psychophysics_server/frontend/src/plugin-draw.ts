/** Trial type `draw`: draw another example of what one picture shows, seen beside the canvas or before it. */

import { ParameterType } from "jspsych";

import { button, element } from "./dom";
import { Paper, type Point, type Spot, Strokes } from "./paper";
import { type Chance, trialPlugin } from "./plugin";
import { type Data, type Given, inputOf, TrialScreen } from "./screen";
import type { DrawPayload } from "./wire";
import { fill, plural, words } from "./words";

const { STRING, FLOAT, INT, BOOL, OBJECT } = ParameterType;

type Outcome = "done" | "timeout" | "skipped";

const data = {
  /** A list a line: `[ms from the opening of the canvas, x, y]`, in canvas pixels. */
  strokes: { type: OBJECT, array: true },
  /** Lines that were taken back or cleared. */
  erased: { type: INT },
  changes: { type: INT },
  /** CSS pixels per canvas pixel, and where the canvas was on the page. */
  scale: { type: FLOAT },
  canvas: { type: OBJECT },
  picture_px: { type: FLOAT },
  /** How long the exemplar was seen before the canvas opened, null where it stayed; from onset to the opening; then to the end. */
  exemplar_ms: { type: FLOAT },
  open_ms: { type: FLOAT },
  drawn_ms: { type: FLOAT },
  /** Every input that was used. */
  inputs: { type: STRING },
  timed_out: { type: BOOL },
};

/** What a payload may leave out, as in `stimuli/trials.py`. */
function whole(payload: DrawPayload): DrawPayload {
  const usual = { word: "", exemplar_ms: 0, pen_px: 6, limit_ms: 60_000, max_points: 1500 };
  return { ...usual, ...payload };
}

const RESULT_MS = 1500;
const ARROWS: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class DrawScreen extends TrialScreen<DrawPayload> {
  private readonly strokes = new Strokes(this.payload.size, this.payload.max_points, 2);
  private readonly inputs = new Set<string>();
  private readonly heading = element("h1");
  private readonly left = element("span", { class: "left", role: "timer", "aria-label": words.draw.left });
  private readonly status = element("p", { class: "hint status", role: "status" });
  private readonly canvas = element("canvas", { class: "paper", tabindex: 0, role: "application", "aria-label": words.draw.canvas, "aria-describedby": "draw-keys" });
  private readonly paper = new Paper(this.canvas, this.payload.size, this.payload.pen_px);
  private readonly undoButton = button(words.draw.undo, "quiet", (event) => this.erase(event, () => this.strokes.undo()));
  private readonly clearButton = button(words.draw.clear, "quiet", (event) => this.erase(event, () => this.strokes.clear()));
  private readonly doneButton = button(words.draw.done, "primary", (event) => this.end("done", event));
  private example!: HTMLElement;
  private sheet!: HTMLElement;
  private pointer: number | null = null;
  private cursor: Spot | null = null;
  private opening = NaN;
  private exemplarFor: number | null = null;
  private timer = 0;
  private over = false;
  private script: Data | null = null;

  protected override get payload(): DrawPayload {
    return whole(this.parameters.payload);
  }

  private get remembered(): boolean {
    return this.payload.exemplar_ms > 0;
  }

  protected build(): HTMLElement {
    const { payload, album, canvas } = this;
    const text = words.draw;
    const picture = album.picture(payload.image, "exemplar", words.alt.picture);
    this.example = element("figure", { class: "example" }, picture, element("figcaption", {}, text.example));
    canvas.style.setProperty("--shape", String(payload.size[0] / payload.size[1]));
    canvas.style.aspectRatio = `${payload.size[0]} / ${payload.size[1]}`;
    this.sheet = element("figure", { class: "sheet", hidden: this.remembered }, canvas, element("figcaption", {}, text.paper));
    // A line that ends fast would count as a fling to the browser, and the tap after it only as its end.
    canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    canvas.addEventListener("pointerdown", this.onDown);
    canvas.addEventListener("pointermove", this.onMove);
    canvas.addEventListener("pointerup", this.onLift);
    canvas.addEventListener("pointercancel", this.onLift);
    canvas.addEventListener("keydown", this.onCanvasKey);
    canvas.addEventListener("blur", () => this.penUp());
    const skip = button(text.skip, "quiet", (event) => this.end("skipped", event));
    skip.classList.add("skip");
    this.undoButton.classList.add("undo");
    this.clearButton.classList.add("clear");
    this.doneButton.classList.add("finish");
    this.controls.push(this.undoButton, this.clearButton, this.doneButton, skip);
    this.say(this.remembered ? text.remember : text.heading);
    const main = element(
      "div",
      { class: "trial draw" },
      element("p", { class: "position" }, this.parameters.position),
      this.heading,
      element("p", { class: "round" }, this.left),
      element("div", { class: "easel" }, this.example, this.sheet),
      this.status,
      element("div", { class: "actions tools" }, this.undoButton, this.clearButton),
      element("div", { class: "actions" }, this.doneButton, skip),
      element("p", { class: "hint keys", id: "draw-keys" }, text.keys),
      this.verdict,
    );
    return element("div", { class: "layout", "data-page": payload.phase }, main);
  }

  private say(usual: string): void {
    const { question, word } = this.payload;
    this.heading.textContent = question || (word && !this.remembered ? fill(words.draw.named, { word }) : usual);
  }

  protected override async present(): Promise<number> {
    if (!this.remembered) this.paper.fit();
    this.refresh();
    const onset = await super.present();
    window.setTimeout(() => this.openCanvas(onset), Math.max(this.payload.exemplar_ms, this.lockout));
    return onset;
  }

  protected override opened(): void {
    this.refresh();
  }

  /** The canvas takes lines from now on, and the time runs. */
  private openCanvas(onset: number): void {
    if (this.over) return;
    if (this.remembered) {
      this.example.remove();
      this.sheet.hidden = false;
      this.say(words.draw.recall);
      this.paper.fit();
    }
    this.opening = performance.now();
    this.exemplarFor = this.remembered ? this.opening - onset : null;
    this.canvas.focus({ preventScroll: true });
    this.timer = window.setInterval(this.tick, 100);
    this.refresh();
    if (this.script) this.follow(this.script);
  }

  private readonly tick = (): void => {
    if (performance.now() - this.opening >= this.payload.limit_ms) return this.end("timeout", null);
    this.tell();
  };

  private time(event: Event): number {
    return event.timeStamp - this.opening;
  }

  private takes(event: Event): boolean {
    return !this.over && event.timeStamp >= this.opening && this.counts(event);
  }

  private readonly onDown = (event: PointerEvent): void => {
    if (!event.isPrimary || event.button !== 0 || !this.takes(event)) return;
    event.preventDefault();
    this.penUp();
    this.cursor = null;
    this.inputs.add(inputOf(event));
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    this.strokes.begin(this.time(event), this.paper.at(event));
    this.refresh();
  };

  private readonly onMove = (event: PointerEvent): void => {
    if (event.pointerId !== this.pointer || !this.takes(event)) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const one of between.length ? between : [event]) this.strokes.move(this.time(one), this.paper.at(one));
    this.refresh();
  };

  private readonly onLift = (event: PointerEvent): void => {
    if (event.pointerId !== this.pointer) return;
    this.penUp();
    this.refresh();
  };

  private penUp(): void {
    this.pointer = null;
    this.strokes.end();
  }

  /** Keys on the canvas; an arrow that is held goes on. */
  private readonly onCanvasKey = (event: KeyboardEvent): void => {
    const undo = event.key === "Backspace" || ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z");
    if (!this.takes(event) || (!undo && (event.ctrlKey || event.metaKey || event.altKey))) return;
    if (undo) this.strokes.undo();
    else if (event.key in ARROWS) this.steer(event);
    else if (event.key === " " && !event.repeat) this.toggle(event);
    else return;
    event.preventDefault();
    this.inputs.add("key");
    this.refresh();
  };

  private steer(event: KeyboardEvent): void {
    const { size } = this.payload;
    const [dx, dy] = ARROWS[event.key]!;
    const step = (Math.max(...size) / 80) * (event.shiftKey ? 5 : 1);
    const within = (value: number, most: number): number => Math.min(most - 1, Math.max(0, value));
    const { x, y } = this.cursor ?? this.middle();
    this.cursor = { x: within(x + dx * step, size[0]), y: within(y + dy * step, size[1]) };
    this.strokes.move(this.time(event), this.cursor);
  }

  private toggle(event: KeyboardEvent): void {
    this.cursor ??= this.middle();
    if (this.strokes.drawing) this.penUp();
    else this.strokes.begin(this.time(event), this.cursor);
  }

  private middle(): Spot {
    const [width, height] = this.payload.size;
    return { x: width / 2, y: height / 2 };
  }

  private erase(event: Event, how: () => void): void {
    if (!this.takes(event)) return;
    this.penUp();
    how();
    this.inputs.add(inputOf(event));
    this.refresh();
    // A button that has just been switched off loses the focus; the canvas takes it.
    if (inputOf(event) === "key" && this.undoButton.disabled) this.canvas.focus({ preventScroll: true });
  }

  private refresh(): void {
    const ready = !Number.isNaN(this.opening) && !this.over;
    const some = this.strokes.lines.length > 0;
    for (const control of [this.undoButton, this.clearButton, this.doneButton]) control.disabled = !ready || !some;
    if (ready || !this.remembered) this.paper.draw(this.strokes.lines, this.cursor, this.strokes.drawing);
    this.tell();
  }

  private tell(): void {
    const { limit_ms } = this.payload;
    const waiting = Number.isNaN(this.opening);
    const left = waiting ? limit_ms : Math.max(0, limit_ms - (performance.now() - this.opening));
    const count = this.strokes.lines.length;
    this.left.textContent = waiting && this.remembered ? "" : `${fill(words.draw.seconds, { seconds: Math.ceil(left / 1000) })} · ${plural(words.draw.lines, count)}`;
    const pen = this.cursor ? (this.strokes.drawing ? words.draw.penDown : words.draw.penUp) : "";
    const text = this.strokes.full ? words.draw.full : pen;
    if (!this.over && this.status.textContent !== text) this.status.textContent = text;
  }

  private end(outcome: Outcome, event: Event | null): void {
    if (this.over || (event && !this.counts(event)) || (outcome === "done" && this.strokes.lines.length === 0)) return;
    this.over = true;
    window.clearInterval(this.timer);
    this.penUp();
    const at = event?.timeStamp ?? performance.now();
    if (event) this.inputs.add(inputOf(event));
    for (const control of this.controls) control.disabled = true;
    const given = this.given(outcome, at);
    if (outcome === "timeout") {
      this.cursor = null;
      this.paper.draw(this.strokes.lines, null, false);
      this.status.textContent = words.draw.timeout;
      this.status.classList.add("result");
    }
    window.setTimeout(() => this.finish(at, given), outcome === "timeout" && !this.script ? RESULT_MS : 0);
  }

  private given(outcome: Outcome, at: number): Given {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const opened = !Number.isNaN(this.opening);
    return {
      response: outcome,
      rt_ms: Math.max(0, at - this.onset),
      input: ["touch", "pen", "mouse", "key"].find((kind) => this.inputs.has(kind)) ?? "",
      inputs: [...this.inputs].filter(Boolean).sort().join("+"),
      strokes: this.strokes.lines,
      erased: this.strokes.erased,
      changes: this.strokes.erased,
      scale: this.paper.scale,
      canvas: { x: left + window.scrollX, y: top + window.scrollY, width, height },
      picture_px: width,
      exemplar_ms: this.exemplarFor,
      open_ms: opened ? this.opening - this.onset : null,
      drawn_ms: opened ? Math.min(Math.max(0, at - this.opening), this.payload.limit_ms) : 0,
      timed_out: outcome === "timeout",
    };
  }

  override act(data: Data): void {
    this.script = data;
    if (!Number.isNaN(this.opening)) this.follow(data);
  }

  /** Draw as a simulated person does. */
  private follow(data: Data): void {
    this.strokes.lines = data.strokes as Point[][];
    this.refresh();
    this.end(data.response as Outcome, null);
  }
}

/** A zigzag by somebody without an opinion. */
function invent(given: DrawPayload, chance: Chance): Given {
  const payload = whole(given);
  const [width, height] = payload.size;
  const count = Math.min(payload.max_points, 3 + chance.below(6));
  const line: Point[] = [];
  for (let i = 0; i < count; i++) line.push([50 * i, chance.below(width), chance.below(height)]);
  return {
    response: "done",
    rt_ms: payload.exemplar_ms + 50 * count + chance.rt(),
    input: "",
    inputs: "",
    strokes: [line],
    erased: 0,
    changes: 0,
    scale: 1,
    canvas: { x: 0, y: 0, width, height },
    picture_px: width,
    exemplar_ms: payload.exemplar_ms || null,
    open_ms: payload.exemplar_ms,
    drawn_ms: 50 * count,
    timed_out: false,
  };
}

export const DrawPlugin = trialPlugin({ name: "draw", version: "1.0.0", data, screen: DrawScreen, invent });
