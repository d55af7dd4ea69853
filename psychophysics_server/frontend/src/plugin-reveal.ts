/** Trial type `reveal`: uncover a hidden picture, or mark places on a visible one, while a machine may be asked what it sees. */

import { ParameterType } from "jspsych";

import { Brush, inside, PlayerClock, type Point, pointsOf, type Stroke } from "./brush";
import { Cover } from "./cover";
import { button, element } from "./dom";
import { type Chance, trialPlugin } from "./plugin";
import { type Data, type Given, inputOf, TrialScreen } from "./screen";
import type { RevealPayload } from "./wire";
import { fill, plural, words } from "./words";

const { STRING, FLOAT, INT, BOOL, OBJECT } = ParameterType;

type Outcome = "won" | "timeout" | "skipped" | "done";

/** One question to the oracle: ms on the player's clock, boxes so far, rank of the true class (null: no answer), latency, top classes. */
type Call = [number, number, number | null, number, [string, number][]];

const data = {
  /** Every box or mark: ms on the player's clock, x and y in image pixels. */
  strokes: { type: OBJECT, array: true },
  oracle: { type: OBJECT, array: true },
  points: { type: INT },
  /** CSS pixels per image pixel, and where the canvas was on the page. */
  scale: { type: FLOAT },
  canvas: { type: OBJECT },
  picture_px: { type: FLOAT },
  /** From onset to the start; the player's clock at the end, on which waiting for the oracle does not count. */
  start_ms: { type: FLOAT },
  played_ms: { type: FLOAT },
  /** Times that uncovering was paused, marks that were taken back, and every input that was used. */
  pauses: { type: INT },
  changes: { type: INT },
  inputs: { type: STRING },
  timed_out: { type: BOOL },
};

/** What a payload may leave out, as in `stimuli/trials.py`. */
function whole(payload: RevealPayload): RevealPayload {
  const numbers = { box_px: 14, step_px: 7, sample_ms: 50, batch: 10, limit_ms: 7000, max_boxes: 600 };
  const usual: Partial<RevealPayload> = { mode: "reveal", oracle: false, visible: false, told: false, ...numbers };
  return { ...usual, ...payload };
}

/** Longer than this nobody waits for the oracle: the round goes on without its answer. */
const PATIENCE_MS = 2000;
const RESULT_MS = 2500;
const ARROWS: Record<string, [number, number]> = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };

class RevealScreen extends TrialScreen<RevealPayload> {
  private readonly clock = new PlayerClock(() => performance.now());
  private readonly brush = new Brush(this.payload.size, this.payload.step_px, this.payload.sample_ms, this.payload.max_boxes);
  private readonly calls: Call[] = [];
  private readonly arrows = new Set<string>();
  private readonly inputs = new Set<string>();
  private readonly left = element("span", { class: "left", role: "timer", "aria-label": words.reveal.left });
  private readonly status = element("p", { class: "hint status", role: "status" });
  private readonly canvas = element("canvas", { class: "cover", tabindex: 0, role: "application" });
  private readonly said = element("p", { class: "hint said", role: "status" });
  private cover!: Cover;
  private finishButton: HTMLButtonElement | null = null;
  private startButton!: HTMLButtonElement;
  private frame = 0;
  private started = NaN;
  private asked = 0;
  private pauses = 0;
  private changes = 0;
  private byKey = false;
  private over = false;
  private script: Stroke[] = [];
  private scripted: Outcome | null = null;

  protected override get payload(): RevealPayload {
    return whole(this.parameters.payload);
  }

  private get reveals(): boolean {
    return this.payload.mode !== "click";
  }

  private get asks(): boolean {
    return this.payload.oracle && this.parameters.ask != null;
  }

  protected build(): HTMLElement {
    const { payload, album, canvas } = this;
    const text = words.reveal;
    const picture = album.picture(payload.image, "picture", words.alt.picture);
    const [look, label, ask] = !this.reveals
      ? (["plain", text.board, text.marking] as const)
      : payload.visible
        ? (["dimmed", text.dimmed, text.lighting] as const)
        : (["hidden", text.canvas, text.heading] as const);
    this.cover = new Cover(canvas, picture, payload.size, payload.box_px, look);
    canvas.style.setProperty("--shape", String(payload.size[0] / payload.size[1]));
    canvas.style.aspectRatio = `${payload.size[0]} / ${payload.size[1]}`;
    canvas.setAttribute("aria-label", fill(label, { word: payload.word }));
    canvas.setAttribute("aria-describedby", "reveal-keys");
    // A stroke that ends fast would count as a fling to the browser, and the tap after it only as its end.
    canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    canvas.addEventListener("pointerdown", this.onDown);
    canvas.addEventListener("pointermove", this.onMove);
    this.startButton = button(text.start, "primary", (event) => this.start(event));
    this.startButton.classList.add("begin");
    const skip = button(text.skip, "quiet", (event) => this.end("skipped", event));
    skip.classList.add("skip");
    this.controls.push(this.startButton, skip);
    if (!this.asks) {
      this.finishButton = button(text.done, "primary", (event) => this.end("done", event));
      this.finishButton.classList.add("finish");
      this.controls.push(this.finishButton);
    }
    this.said.textContent = text.silent;
    const heading = payload.question || fill(ask, { word: payload.word });
    const main = element(
      "div",
      { class: "trial reveal" },
      element("p", { class: "position" }, this.parameters.position),
      element("h1", {}, heading),
      element("p", { class: "round" }, payload.question ? element("span", { class: "word" }, payload.word) : null, this.left),
      element("div", { class: "stage-cover" }, canvas, this.startButton),
      this.asks && payload.told ? this.said : null,
      this.status,
      element("div", { class: "actions" }, this.finishButton, skip),
      element("p", { class: "hint keys", id: "reveal-keys" }, this.reveals ? text.keys : text.markKeys),
      this.verdict,
    );
    return element("div", { class: "layout", "data-page": payload.phase }, main);
  }

  protected override async present(): Promise<number> {
    this.cover.fit();
    this.cover.draw([], null);
    this.tell();
    return super.present();
  }

  protected override opened(): void {
    if (this.finishButton) this.finishButton.disabled = true;
    this.startButton.focus({ preventScroll: true });
  }

  private start(event: Event | null, at = event?.timeStamp ?? performance.now()): void {
    if (!Number.isNaN(this.started) || (event && !this.counts(event))) return;
    this.started = at;
    this.clock.start(at);
    this.startButton.remove();
    if (this.finishButton) this.finishButton.disabled = false;
    const { size } = this.payload;
    this.byKey = event !== null && inputOf(event) === "key";
    this.brush.target = this.byKey ? inside({ x: size[0] / 2, y: size[1] / 2 }, size) : null;
    this.brush.down = this.reveals;
    if (event) this.inputs.add(inputOf(event));
    if (event instanceof MouseEvent && !this.byKey) this.brush.target = inside(this.cover.at(event), size);
    this.canvas.focus({ preventScroll: true });
    document.addEventListener("keyup", this.onUp);
    this.frame = requestAnimationFrame(this.tick);
  }

  private readonly onDown = (event: PointerEvent): void => {
    if (this.over || !this.counts(event)) return;
    if (Number.isNaN(this.started)) return this.start(event);
    this.byKey = false;
    this.inputs.add(inputOf(event));
    if (this.reveals) {
      this.canvas.setPointerCapture(event.pointerId);
      this.brush.target = this.cover.at(event);
    } else this.markAt(this.cover.at(event));
    event.preventDefault();
  };

  private readonly onMove = (event: PointerEvent): void => {
    if (Number.isNaN(this.started) || this.over || !this.reveals) return;
    this.byKey = false;
    this.inputs.add(inputOf(event));
    this.brush.target = this.cover.at(event);
  };

  private readonly onUp = (event: KeyboardEvent): void => {
    this.arrows.delete(event.key.toLowerCase());
  };

  protected override key(event: KeyboardEvent): void {
    const key = event.key.toLowerCase();
    const running = !Number.isNaN(this.started) && !this.over;
    // On a button, Space and Enter press the button.
    if (event.target instanceof HTMLButtonElement && (key === " " || key === "enter")) return;
    if (!running) {
      if (key !== " " || this.over) return;
      this.start(event);
    } else if (key in ARROWS) {
      this.byKey = true;
      this.inputs.add("key");
      this.brush.target ??= this.brush.last ?? inside({ x: this.payload.size[0] / 2, y: this.payload.size[1] / 2 }, this.payload.size);
      this.arrows.add(key);
      this.steer(key);
    } else if (key === " ") this.space();
    else if (key === "backspace" && !this.reveals) this.takeBack();
    else return;
    event.preventDefault();
  }

  private space(): void {
    this.inputs.add("key");
    this.byKey = true;
    if (!this.reveals) {
      if (this.brush.target) this.markAt(this.brush.target);
      return;
    }
    this.brush.down = !this.brush.down;
    if (!this.brush.down) this.pauses += 1;
    this.tell();
  }

  private steer(key: string): void {
    const { target } = this.brush;
    const [dx, dy] = ARROWS[key]!;
    const step = this.payload.step_px;
    if (target) this.brush.target = inside({ x: target.x + dx * step, y: target.y + dy * step }, this.payload.size);
  }

  private markAt(place: Point): void {
    if (!this.clock.running || this.brush.full) return;
    this.brush.target = inside(place, this.payload.size);
    this.brush.add(this.clock.read(), this.brush.target);
    this.grown();
  }

  private takeBack(): void {
    if (this.brush.strokes.pop()) this.changes += 1;
    this.tell();
  }

  /** One frame: sample, draw, count down. */
  private readonly tick = (): void => {
    if (this.over) return;
    const time = this.clock.read();
    if (time >= this.payload.limit_ms) return this.end("timeout", null);
    if (this.clock.running) {
      const before = this.brush.strokes.length;
      if (this.scripted !== null && this.follow(time)) return;
      if (this.reveals && this.brush.sample(time)) this.held();
      if (this.brush.strokes.length > before) this.grown();
    }
    this.cover.draw(this.brush.strokes, this.byKey ? this.brush.target : null);
    this.tell();
    this.frame = requestAnimationFrame(this.tick);
  };

  /** An arrow that is held goes on by a step a sample. */
  private held(): void {
    for (const key of this.arrows) this.steer(key);
  }

  /** Move as the script of a simulated person says; true if it ended the round. */
  private follow(time: number): boolean {
    const due = this.script[this.brush.strokes.length];
    if (due) {
      if (this.reveals) this.brush.target = { x: due[1], y: due[2] };
      else if (time >= due[0]) this.markAt({ x: due[1], y: due[2] });
      return false;
    }
    if (this.scripted !== "done" && this.scripted !== "skipped") return false;
    this.end(this.scripted, null);
    return true;
  }

  private grown(): void {
    const { length } = this.brush.strokes;
    if (this.asks && length - this.asked >= this.payload.batch) void this.ask();
  }

  /** Ask the oracle; the player's clock stands still meanwhile. */
  private async ask(): Promise<void> {
    const time = this.clock.read();
    const { strokes } = this.brush;
    this.asked = strokes.length;
    this.clock.stop();
    const since = performance.now();
    const late = new Promise<null>((resolve) => window.setTimeout(() => resolve(null), PATIENCE_MS));
    const boxes = strokes.map(([, x, y]): [number, number] => [x, y]);
    const answer = await Promise.race([this.parameters.ask!(boxes).catch(() => null), late]);
    const top = (answer?.top ?? []).map(([name, score]): [string, number] => [name.replace(/\s+/g, "_"), score]);
    this.calls.push([time, boxes.length, answer?.rank ?? null, performance.now() - since, top]);
    if (this.over) return;
    if (answer?.top[0]) this.said.textContent = fill(words.reveal.guess, { guess: answer.top[0][0] });
    if (answer?.won) return this.end("won", null);
    this.clock.go();
  }

  private tell(): void {
    const { limit_ms } = this.payload;
    const left = Math.max(0, limit_ms - this.clock.read());
    const points = this.asks ? ` · ${plural(words.reveal.points, pointsOf(limit_ms - left, limit_ms))}` : "";
    this.left.textContent = `${fill(words.reveal.seconds, { seconds: (left / 1000).toFixed(1) })}${points}`;
    const text = Number.isNaN(this.started) || this.over || !this.reveals || this.brush.down ? "" : words.reveal.paused;
    if (this.status.textContent !== text && !this.over) this.status.textContent = text;
  }

  private end(outcome: Outcome, event: Event | null): void {
    if (this.over || (event && !this.counts(event))) return;
    this.over = true;
    this.clock.stop();
    const at = event?.timeStamp ?? performance.now();
    cancelAnimationFrame(this.frame);
    document.removeEventListener("keyup", this.onUp);
    if (event) this.inputs.add(inputOf(event));
    for (const control of this.controls) control.disabled = true;
    const played = Math.min(this.clock.read(), this.payload.limit_ms);
    const points = outcome === "won" ? pointsOf(played, this.payload.limit_ms) : 0;
    const given = this.given(outcome, at, played, points);
    this.cover.draw(this.brush.strokes, null);
    this.status.textContent = fill(words.reveal.outcome[outcome], { word: this.payload.word, points });
    this.status.classList.add("result", outcome);
    window.setTimeout(() => this.finish(at, given), outcome === "skipped" || this.scripted !== null ? 0 : RESULT_MS);
  }

  private given(outcome: Outcome, at: number, played: number, points: number): Given {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const input = ["touch", "pen", "mouse", "key"].find((kind) => this.inputs.has(kind)) ?? "";
    return {
      response: outcome,
      rt_ms: Math.max(0, at - this.onset),
      input,
      inputs: [...this.inputs].filter(Boolean).sort().join("+"),
      strokes: this.brush.strokes,
      oracle: this.calls,
      points,
      scale: this.cover.scale,
      canvas: { x: left + window.scrollX, y: top + window.scrollY, width, height },
      picture_px: width,
      start_ms: Number.isNaN(this.started) ? null : this.started - this.onset,
      played_ms: played,
      pauses: this.pauses,
      changes: this.changes,
      timed_out: outcome === "timeout",
    };
  }

  override act(data: Data): void {
    this.script = (data.strokes as Stroke[]) ?? [];
    this.scripted = data.response as Outcome;
    this.start(null);
  }
}

/** A walk over the picture by somebody without an opinion, ended before the time is up. */
function invent(given: RevealPayload, chance: Chance): Given {
  const payload = whole(given);
  const { size, step_px: step, sample_ms, limit_ms } = payload;
  const count = Math.max(1, Math.min(payload.max_boxes, 20, Math.floor(limit_ms / sample_ms / 2)));
  let place: Point = { x: chance.below(size[0]), y: chance.below(size[1]) };
  const strokes: Stroke[] = [[0, place.x, place.y]];
  for (let i = 1; i < count; i++) {
    const turn = (): number => chance.below(2 * step + 1) - step;
    const next = inside({ x: place.x + turn(), y: place.y + turn() }, size);
    if (next.x === place.x && next.y === place.y) continue;
    place = next;
    strokes.push([i * sample_ms, place.x, place.y]);
  }
  const played = count * sample_ms;
  const outcome: Outcome = payload.oracle ? "skipped" : "done";
  return {
    response: outcome,
    rt_ms: chance.rt(),
    input: "",
    inputs: "",
    strokes,
    oracle: [],
    points: 0,
    scale: 1,
    canvas: { x: 0, y: 0, width: size[0], height: size[1] },
    picture_px: size[0],
    start_ms: 0,
    played_ms: played,
    pauses: 0,
    changes: 0,
    timed_out: false,
  };
}

export const RevealPlugin = trialPlugin({ name: "reveal", version: "1.0.0", data, screen: RevealScreen, invent });
