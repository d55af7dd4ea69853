/** Trial type `predict`: watch what a machine answers, then predict it, with the examples within reach. */

import { ParameterType } from "jspsych";

import { button, element } from "./dom";
import { type Chance, trialPlugin } from "./plugin";
import { Reservoir } from "./reservoir";
import { type Data, type Given, inputOf, shortcut, TrialScreen } from "./screen";
import type { PredictPayload, Verdict } from "./wire";
import { fill, words } from "./words";

const { STRING, FLOAT, INT, OBJECT } = ParameterType;
const KEYS: Record<string, number> = { f: 0, arrowleft: 0, j: 1, arrowright: 1 };
const SIDES = ["left", "right"];

const data = {
  /** Side of the answer, `left`, `right` or '' in training, where `rt_ms` is the viewing time. */
  side: { type: STRING },
  /** Width of the picture on the screen in CSS pixels. */
  picture_px: { type: FLOAT },
  /** Time that the examples were in sight, times that they were opened, how they were laid out, which were enlarged. */
  reservoir_ms: { type: FLOAT },
  reservoir_openings: { type: INT },
  reservoir_layout: { type: STRING },
  reservoir_items: { type: OBJECT, array: true },
};

class PredictScreen extends TrialScreen<PredictPayload> {
  private readonly choices: HTMLButtonElement[] = [];
  private reservoir!: Reservoir;
  private picture!: HTMLImageElement;

  private get asks(): boolean {
    return this.payload.phase !== "train";
  }

  protected build(): HTMLElement {
    const { payload, album } = this;
    const seen = payload.reservoir.map((example) => ({
      id: example.image,
      image: album.url(example.image),
      explanation: example.explanation && album.url(example.explanation),
      predicted: example.predicted,
    }));
    this.reservoir = new Reservoir(seen, () => performance.now());
    this.choices.push(...(this.asks ? payload.options : [words.next]).map((label, side) => this.choice(label, side)));
    this.controls.push(...this.choices);
    this.picture = album.picture(payload.image, "picture", words.alt.picture);
    const beside = payload.explanation && album.picture(payload.explanation, "explanation", words.alt.explanation);
    const main = element(
      "div",
      { class: "trial" },
      element("p", { class: "position" }, this.parameters.position),
      element("h1", {}, payload.question || (this.asks ? words.test.heading : words.train.heading)),
      element(
        "div",
        { class: beside ? "pair" : "single" },
        element("figure", {}, this.picture, beside && element("figcaption", {}, words.train.picture)),
        beside && element("figure", {}, beside, element("figcaption", {}, words.train.explanation)),
      ),
      this.asks ? null : element("p", { class: "answer" }, `${words.train.answer} `, element("strong", {}, payload.predicted)),
      element("div", { class: this.asks ? "choices" : "actions" }, ...this.choices),
      this.asks ? element("p", { class: "hint keys" }, words.test.keys) : null,
      this.verdict,
    );
    if (seen.length === 0) return element("div", { class: "layout", "data-page": payload.phase }, main);
    main.append(this.reservoir.opener);
    return element("div", { class: "layout beside", "data-page": payload.phase }, main, this.reservoir.panel);
  }

  private choice(label: string, side: number): HTMLButtonElement {
    const node = button(label, "primary", (event) => this.respond(event, side));
    if (this.asks) {
      node.className = "button option";
      shortcut(node, side === 0 ? "F ArrowLeft" : "J ArrowRight", side === 0 ? "F" : "J");
    }
    return node;
  }

  protected override async present(): Promise<number> {
    const onset = await super.present();
    this.reservoir.start(onset);
    return onset;
  }

  protected override opened(): void {
    if (!this.asks) this.choices[0]!.focus({ preventScroll: true });
  }

  protected override key(event: KeyboardEvent): void {
    const key = event.key.toLowerCase();
    const onButton = event.target instanceof HTMLButtonElement;
    const side = this.asks ? KEYS[key] : (key === " " || key === "enter") && !onButton ? 0 : undefined;
    if (side === undefined) return;
    event.preventDefault();
    this.respond(event, side);
  }

  private respond(event: Event, side: number): void {
    if (!this.counts(event)) return;
    this.choices[side]!.classList.add("chosen");
    this.finish(event.timeStamp, {
      response: this.asks ? this.payload.options[side]! : "",
      side: this.asks ? SIDES[side]! : "",
      rt_ms: this.rt(event),
      input: inputOf(event),
    });
  }

  protected override measures(at: number): Data {
    return { picture_px: this.picture.getBoundingClientRect().width, ...this.reservoir.stop(at) };
  }

  protected override mark({ expected }: Verdict): void {
    this.choices[this.payload.options.indexOf(expected)]?.classList.add("expected");
  }

  protected override explain({ expected }: Verdict): string {
    return fill(words.feedback.answer, { answer: expected });
  }

  act({ response }: Data): void {
    this.choices[Math.max(0, this.payload.options.indexOf(String(response)))]!.click();
  }
}

function invent({ phase, options }: PredictPayload, chance: Chance): Given {
  const side = chance.below(2);
  const asks = phase !== "train";
  return {
    response: asks ? (options[side] ?? "") : "",
    side: asks ? SIDES[side]! : "",
    rt_ms: chance.rt(),
    input: "",
    picture_px: 0,
    reservoir_ms: 0,
    reservoir_openings: 0,
    reservoir_layout: "none",
    reservoir_items: [],
  };
}

export const PredictPlugin = trialPlugin({ name: "predict", version: "1.1.0", data, screen: PredictScreen, invent });
