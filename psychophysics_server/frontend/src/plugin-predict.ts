/** jsPsych trial type `predict`: watch what a machine answers, then predict it, with the examples within reach. */

import { type JsPsych, type JsPsychPlugin, ParameterType, type TrialType } from "jspsych";

import { watchConduct } from "./conduct";
import { button, element } from "./dom";
import { type ExamplePicture, Reservoir } from "./reservoir";
import { browserClock, FrameMeter, painted, responseTime } from "./timing";
import type { Verdict } from "./wire";
import { fill, words } from "./words";

const info = {
  name: "predict",
  version: "1.0.0",
  parameters: {
    /** `train` shows the machine's answer, `test` and `practice` ask for it. */
    phase: { type: ParameterType.STRING, default: undefined },
    /** Address of the picture. */
    image: { type: ParameterType.STRING, default: undefined },
    /** Address of the explanation shown beside it, null for none. */
    explanation: { type: ParameterType.STRING, default: null },
    /** What the machine answered (train). */
    predicted: { type: ParameterType.STRING, default: null },
    /** The two answers, left and right (test, practice). */
    options: { type: ParameterType.STRING, array: true, default: [] },
    /** Training examples seen so far: `{id, image, explanation, predicted}`. */
    reservoir: { type: ParameterType.OBJECT, array: true, default: [] },
    /** No answer is taken before this many milliseconds after onset. */
    lockout_ms: { type: ParameterType.INT, default: 0 },
    /** Where we are, in words. */
    position: { type: ParameterType.STRING, default: "" },
    /** Resolves with a decoded `<img>` for an address. */
    load: { type: ParameterType.FUNCTION, default: undefined },
    /** If given: is told how often a picture has failed to load, before the person is asked to try again. */
    failed: { type: ParameterType.FUNCTION, default: null },
    /** If given: is told the answer, resolves with `{correct, expected}`, which is then shown. */
    judge: { type: ParameterType.FUNCTION, default: null },
  },
  data: {
    /** The chosen answer, '' in training. */
    response: { type: ParameterType.STRING },
    /** Milliseconds from onset to the response, not rounded; in training the viewing time. */
    rt_ms: { type: ParameterType.FLOAT },
    /** Onset of the picture on the page's `performance.now()` clock. */
    onset_ms: { type: ParameterType.FLOAT },
    /** Median interval between frames. */
    frame_ms: { type: ParameterType.FLOAT },
    /** Frames that the browser skipped during the trial. */
    dropped_frames: { type: ParameterType.INT },
    /** `key`, `mouse`, `touch`, `pen` or ''. */
    input: { type: ParameterType.STRING },
    /** Times that the page lost the focus or was hidden. */
    focus_lost: { type: ParameterType.INT },
    /** Time that the examples were in sight, times that they were opened, how they were laid out, which were enlarged. */
    reservoir_ms: { type: ParameterType.FLOAT },
    reservoir_openings: { type: ParameterType.INT },
    reservoir_layout: { type: ParameterType.STRING },
    reservoir_items: { type: ParameterType.OBJECT, array: true },
    /** `<width>x<height>` of the window in CSS pixels. */
    window: { type: ParameterType.STRING },
    pixel_ratio: { type: ParameterType.FLOAT },
    /** Width of the picture on the screen in CSS pixels. */
    picture_px: { type: ParameterType.FLOAT },
    /** Times that a picture could not be loaded before it was. */
    load_failures: { type: ParameterType.INT },
    /** Side of the answer, `left`, `right` or ''. */
    side: { type: ParameterType.STRING },
  },
} as const;

type Info = typeof info;
type Parameters = TrialType<Info>;
type Judge = (data: Record<string, unknown>) => Promise<Verdict | null>;

const KEYS: Record<string, number> = { f: 0, arrowleft: 0, j: 1, arrowright: 1 };
const SIDES = ["left", "right"];

/** How the response was given; a click made by Enter or Space has no detail and no pointer. */
function inputOf(event: KeyboardEvent | MouseEvent): string {
  if (event instanceof KeyboardEvent) return "key";
  const pointer = (event as PointerEvent).pointerType;
  if (pointer) return pointer;
  return event.detail === 0 ? "key" : "mouse";
}

function figure(image: HTMLImageElement, alt: string, caption: string | null): HTMLElement {
  image.alt = alt;
  image.className = "picture";
  return element("figure", {}, image, caption && element("figcaption", {}, caption));
}

/** Ask for the pictures until they are there; the trial waits, the study does not fail. */
async function loaded(display: HTMLElement, trial: Parameters): Promise<{ images: HTMLImageElement[]; failures: number }> {
  const addresses = [trial.image as string, trial.explanation as string | null].filter((url): url is string => !!url);
  for (let failures = 0; ; failures++) {
    try {
      const images = (await Promise.all(addresses.map((url) => trial.load(url)))) as HTMLImageElement[];
      return { images, failures };
    } catch {
      (trial.failed as ((failures: number) => void) | null)?.(failures + 1);
      await new Promise<void>((resolve) => {
        const text = words.pictureFailed;
        const retry = button(text.retry, "primary", () => resolve());
        const page = element("div", { class: "page", role: "alert", "data-page": "picture-failed" }, element("h1", {}, text.title), element("p", {}, text.body));
        page.append(element("div", { class: "actions" }, retry));
        display.replaceChildren(page);
      });
      display.replaceChildren();
    }
  }
}

/** One showing of the trial: builds the screen, takes one response, reports. */
class Screen {
  readonly choices: HTMLButtonElement[];
  readonly done: Promise<Record<string, unknown>>;
  private readonly reservoir: Reservoir;
  private readonly frames = new FrameMeter(browserClock);
  private readonly verdict = element("div", { class: "verdict", role: "status", "aria-live": "polite" });
  private readonly root: HTMLElement;
  private onset = NaN;
  private open = false;
  private lost = 0;
  private finish: (data: Record<string, unknown>) => void = () => undefined;
  private stopConduct: () => void = () => undefined;

  constructor(
    private readonly trial: Parameters,
    private readonly images: HTMLImageElement[],
    private readonly failures: number,
  ) {
    this.done = new Promise((resolve) => (this.finish = resolve));
    this.reservoir = new Reservoir(trial.reservoir as ExamplePicture[], () => performance.now());
    const labels = this.asks ? (trial.options as string[]) : [words.next];
    this.choices = labels.map((label, side) => this.choice(label, side));
    this.root = this.build();
  }

  private get asks(): boolean {
    return this.trial.phase !== "train";
  }

  /** Put everything on the screen at once and begin to count when it is painted. */
  async show(display: HTMLElement): Promise<void> {
    display.replaceChildren(this.root);
    window.scrollTo(0, 0);
    this.stopConduct = watchConduct((what) => {
      if (what === "blur" || what === "hidden") this.lost += 1;
      this.frames.interrupt();
    });
    this.onset = await painted(browserClock);
    this.frames.start();
    this.reservoir.start(this.onset);
    document.addEventListener("keydown", this.onKey);
    window.setTimeout(() => this.unlock(), this.trial.lockout_ms as number);
  }

  private build(): HTMLElement {
    const { trial } = this;
    const paired = this.images.length > 1;
    const pictures = this.images.map((image, i) =>
      i === 0
        ? figure(image, words.alt.picture, paired ? words.train.picture : null)
        : figure(image, words.alt.explanation, words.train.explanation),
    );
    const main = element(
      "div",
      { class: "trial" },
      element("p", { class: "position" }, trial.position as string),
      element("h1", {}, this.asks ? words.test.heading : words.train.heading),
      element("div", { class: paired ? "pair" : "single" }, ...pictures),
      this.asks ? null : element("p", { class: "answer" }, `${words.train.answer} `, element("strong", {}, trial.predicted as string)),
      element("div", { class: this.asks ? "choices" : "actions" }, ...this.choices),
      this.asks ? element("p", { class: "hint keys" }, words.test.keys) : null,
      this.verdict,
    );
    if ((trial.reservoir as ExamplePicture[]).length === 0) return element("div", { class: "layout", "data-page": trial.phase as string }, main);
    main.append(this.reservoir.opener);
    return element("div", { class: "layout beside", "data-page": trial.phase as string }, main, this.reservoir.panel);
  }

  private choice(label: string, side: number): HTMLButtonElement {
    const node = button(label, "primary", (event) => this.respond(event, side));
    node.disabled = true;
    if (this.asks) {
      node.className = "button option";
      node.setAttribute("aria-keyshortcuts", side === 0 ? "F ArrowLeft" : "J ArrowRight");
      node.append(element("kbd", { "aria-hidden": "true" }, side === 0 ? "F" : "J"));
    }
    if ((this.trial.lockout_ms as number) > 0) {
      node.classList.add("locked");
      node.style.setProperty("--lockout", `${this.trial.lockout_ms}ms`);
    }
    return node;
  }

  private unlock(): void {
    this.open = true;
    for (const node of this.choices) {
      node.disabled = false;
      node.classList.remove("locked");
    }
    if (!this.asks) this.choices[0]!.focus({ preventScroll: true });
  }

  private readonly onKey = (event: KeyboardEvent): void => {
    // A key held down since the last trial, or meant for a dialog or a link, is not an answer.
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (!this.root.isConnected) return;
    const onButton = event.target instanceof HTMLButtonElement;
    const key = event.key.toLowerCase();
    const side = this.asks ? KEYS[key] : (key === " " || key === "enter") && !onButton ? 0 : undefined;
    if (side === undefined) return;
    event.preventDefault();
    this.respond(event, side);
  };

  private respond(event: KeyboardEvent | MouseEvent, side: number): void {
    // An event made before the lock-out ended may be delivered after it.
    const early = responseTime(event, this.onset) < (this.trial.lockout_ms as number);
    if (!this.open || early) return;
    this.open = false;
    document.removeEventListener("keydown", this.onKey);
    this.stopConduct();
    const data = { ...this.record(event, side), ...this.frames.stop(), ...this.reservoir.stop(event.timeStamp) };
    for (const node of this.choices) node.disabled = true;
    this.choices[side]!.classList.add("chosen");
    const judge = this.trial.judge as Judge | null;
    if (judge) void this.feedBack(judge, data);
    else this.finish(data);
  }

  private record(event: KeyboardEvent | MouseEvent, side: number): Record<string, unknown> {
    return {
      response: this.asks ? (this.trial.options as string[])[side] : "",
      side: this.asks ? SIDES[side] : "",
      rt_ms: responseTime(event, this.onset),
      onset_ms: this.onset,
      input: inputOf(event),
      focus_lost: this.lost,
      window: `${window.innerWidth}x${window.innerHeight}`,
      pixel_ratio: window.devicePixelRatio,
      picture_px: this.images[0]!.getBoundingClientRect().width,
      load_failures: this.failures,
    };
  }

  private async feedBack(judge: Judge, data: Record<string, unknown>): Promise<void> {
    this.verdict.replaceChildren(element("p", { class: "hint" }, words.feedback.saving));
    const verdict = await judge(data);
    if (!verdict) return this.finish(data);
    const options = this.trial.options as string[];
    this.choices[options.indexOf(verdict.expected)]?.classList.add("expected");
    const next = button(words.next, "primary", () => this.finish(data));
    const told = element(
      "p",
      { class: verdict.correct ? "told right" : "told wrong" },
      element("span", { class: "mark", "aria-hidden": "true" }, verdict.correct ? "✓" : "✗"),
      element("strong", {}, verdict.correct ? words.feedback.right : words.feedback.wrong),
      `: ${fill(words.feedback.answer, { answer: verdict.expected })}`,
    );
    this.verdict.replaceChildren(told, element("div", { class: "actions" }, next));
    next.focus({ preventScroll: true });
    this.verdict.scrollIntoView({ block: "nearest" });
  }
}

/** The plugin; `simulate` makes data alone, or presses a button of the real screen. */
export class PredictPlugin implements JsPsychPlugin<Info> {
  static info = info;

  constructor(private readonly jsPsych: JsPsych) {}

  async trial(display: HTMLElement, trial: Parameters, onLoad?: () => void): Promise<Record<string, unknown>> {
    const { images, failures } = await loaded(display, trial);
    const screen = new Screen(trial, images, failures);
    await screen.show(display);
    onLoad?.();
    return screen.done;
  }

  async simulate(
    trial: Parameters,
    mode: "visual" | "data-only",
    options: { data?: Record<string, unknown> },
    onLoad?: () => void,
  ): Promise<Record<string, unknown>> {
    const data = { ...this.invented(trial), ...options.data } as ReturnType<PredictPlugin["invented"]>;
    if (mode === "data-only") {
      onLoad?.();
      if (trial.judge) await (trial.judge as Judge)(data);
      return data;
    }
    const display = this.jsPsych.getDisplayElement();
    const result = this.trial(display, trial, () => {
      onLoad?.();
      const wanted = Math.max(0, (trial.options as string[]).indexOf(data.response));
      const selector = trial.phase === "train" ? ".actions .button" : `.option:nth-child(${wanted + 1})`;
      this.jsPsych.pluginAPI.setTimeout(() => this.press(display, selector), data.rt_ms);
    });
    return result;
  }

  private press(display: HTMLElement, selector: string): void {
    display.querySelector<HTMLButtonElement>(selector)?.click();
    const next = (): void => {
      const go = display.querySelector<HTMLButtonElement>(".verdict .button");
      if (go) go.click();
      else if (display.querySelector(".verdict .hint")) this.jsPsych.pluginAPI.setTimeout(next, 50);
    };
    this.jsPsych.pluginAPI.setTimeout(next, 50);
  }

  private invented(trial: Parameters) {
    const { randomization } = this.jsPsych;
    const options = trial.options as string[];
    const side = randomization.randomInt(0, 1);
    const asks = trial.phase !== "train";
    return {
      response: asks ? (options[side] ?? "") : "",
      side: asks ? SIDES[side]! : "",
      rt_ms: (trial.lockout_ms as number) + randomization.sampleExGaussian(600, 80, 1 / 200, true),
      onset_ms: performance.now(),
      frame_ms: 1000 / 60,
      dropped_frames: 0,
      input: "",
      focus_lost: 0,
      reservoir_ms: 0,
      reservoir_openings: 0,
      reservoir_layout: "none",
      reservoir_items: [],
      window: `${window.innerWidth}x${window.innerHeight}`,
      pixel_ratio: window.devicePixelRatio,
      picture_px: 0,
      load_failures: 0,
    };
  }
}
