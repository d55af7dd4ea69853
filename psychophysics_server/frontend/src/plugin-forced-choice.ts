/** Trial type `forced_choice`: which of two pictures belongs to the references, with graded confidence. */

import { ParameterType } from "jspsych";

import { CHOOSING_DATA, ChoosingScreen, inventChoice } from "./choosing";
import { button, element } from "./dom";
import { gradeKeys, gradeOrder } from "./grades";
import { type Chance, trialPlugin } from "./plugin";
import { type Data, type Given, shortcut } from "./screen";
import type { ForcedChoicePayload, Grid } from "./wire";
import { fill, words } from "./words";

const MARKS = { max: "▲", min: "▽", base: "" };

class ForcedChoiceScreen extends ChoosingScreen<ForcedChoicePayload> {
  /** The steps of each picture, in displayed order: one click is choice and confidence. */
  private readonly grades: { node: HTMLButtonElement; index: number; level: number; key: string }[] = [];
  private level: number | null = null;

  private get stacked(): boolean {
    return this.payload.arrangement === "stacked";
  }

  private get levels(): number {
    const { confidence } = this.payload;
    return confidence && !confidence.slider ? confidence.levels : 0;
  }

  protected nameOf(option: string): string {
    return this.payload.options.indexOf(option) === 0 ? words.forcedChoice.first : words.forcedChoice.second;
  }

  protected sideOf(index: number): string {
    return (this.stacked ? ["top", "bottom"] : ["left", "right"])[index]!;
  }

  protected build(): HTMLElement {
    const { payload } = this;
    const grids = payload.references ?? [];
    const of = (polarity: Grid["polarity"]): HTMLElement[] => grids.flatMap((grid, i) => (grid.polarity === polarity ? [this.grid(grid, i)] : []));
    const queries = element(
      "div",
      { class: `queries ${this.stacked ? "stacked" : "beside"}`, role: "group", "aria-label": words.forcedChoice.queries },
      this.query(0),
      this.query(1),
    );
    const centre = element("div", { class: "centre" }, ...of("base"), queries, this.anchors());
    const has = (...kinds: string[]): boolean => grids.some(({ polarity }) => kinds.includes(polarity));
    const { heading, base, bare } = words.forcedChoice;
    const main = element(
      "div",
      { class: "trial" },
      element("p", { class: "position" }, this.parameters.position),
      element("h1", {}, payload.question || (has("base") ? base : has("max") ? heading : bare)),
      element("div", { class: `forced${has("min", "max") ? "" : " bare"}` }, ...of("min"), centre, ...of("max")),
      ...this.fields(this.levels === 0),
      element("p", { class: "hint keys" }, this.hint()),
      this.verdict,
    );
    this.controls.push(...this.options, ...this.grades.map(({ node }) => node));
    this.leaveRoom(main);
    return element("div", { class: "layout", "data-page": payload.phase }, main);
  }

  private grid({ polarity, label, pictures }: Grid, number: number): HTMLElement {
    const board = element("div", { class: "pictures" });
    board.style.setProperty("--across", String(Math.ceil(Math.sqrt(pictures.length))));
    pictures.forEach((name, i) => {
      const alt = fill(pictures.length > 1 ? words.alt.of : words.alt.one, { label, i: i + 1, count: pictures.length });
      board.append(this.album.picture(name, `${polarity}-${i + 1}`, alt));
    });
    const mark = MARKS[polarity] && element("span", { class: "polarity", "aria-hidden": "true" }, MARKS[polarity]);
    const id = `grid-${number}`;
    return element("section", { class: `grid ${polarity}`, "aria-labelledby": id }, element("h2", { id }, mark, label), board);
  }

  /** A picture to choose: a button itself, or a picture with its steps. */
  private query(index: number): HTMLElement {
    const name = [words.forcedChoice.first, words.forcedChoice.second][index]!;
    const picture = this.album.picture(this.payload.queries[index]!, `query-${index + 1}`, name);
    const letter = element("span", { class: "letter", "aria-hidden": "true" }, "AB"[index]!);
    if (this.levels > 0) {
      const parts = [element("figure", { class: "pictures" }, picture), element("div", { class: "graded" }, letter, this.steps(index, name))];
      // Where the pictures are stacked, the steps of both meet in the middle.
      return element("div", { class: "query" }, ...(this.stacked && index === 1 ? parts.reverse() : parts));
    }
    const node = button("", "quiet", (event) => this.pick(event, index));
    node.className = "button option query";
    if (this.payload.confidence) node.setAttribute("aria-pressed", "false");
    // Nothing covers a picture: its name and its key stand below.
    const caption = element("span", { class: "caption" }, letter);
    node.append(element("span", { class: "pictures" }, picture), caption);
    shortcut(node, index === 0 ? "F ArrowLeft ArrowUp" : "J ArrowRight ArrowDown", "FJ"[index]!, caption);
    this.options.push(node);
    return node;
  }

  private steps(index: number, name: string): HTMLElement {
    const { levels } = this;
    const group = element("div", { class: "steps", role: "group", "aria-label": name });
    gradeOrder(levels, this.stacked)[index]!.forEach((level, place) => {
      const node = button("", "quiet", (event) => this.grade(event, index, level));
      const [before = "", after = ""] = fill(words.forcedChoice.grade, { query: name, levels }).split("{level}");
      node.append(element("span", { class: "unseen" }, before), String(level), element("span", { class: "unseen" }, after));
      const key = gradeKeys(levels)[index]![place] ?? "";
      node.className = "button option step";
      if (key) shortcut(node, key.toUpperCase(), key.toUpperCase());
      this.grades.push({ node, index, level, key });
      group.append(node);
    });
    return group;
  }

  /** What the steps mean. */
  private anchors(): HTMLElement | null {
    const { confidence } = this.payload;
    if (!confidence || this.levels === 0) return null;
    return element("p", { class: "hint anchors" }, `1 = ${confidence.low} · ${this.levels} = ${confidence.high}`);
  }

  private hint(): string {
    const [first, second] = gradeKeys(this.levels).map((keys) => keys.join(" ").toUpperCase());
    if (this.levels === 0) return fill(words.forcedChoice.keys, { first: "F", second: "J" });
    return first ? fill(words.forcedChoice.gradeKeys, { first, second: second! }) : fill(words.forcedChoice.arrowKeys, { levels: this.levels });
  }

  protected override key(event: KeyboardEvent): void {
    const key = event.key.toLowerCase();
    const grade = this.grades.find((one) => one.key === key);
    const side = { arrowleft: 0, arrowup: 0, arrowright: 1, arrowdown: 1, ...(this.levels ? {} : { f: 0, j: 1 }) }[key];
    if (grade) this.grade(event, grade.index, grade.level);
    else if (side !== undefined && this.levels) this.lean(event, side);
    else if (side !== undefined) this.pick(event, side);
    else if (this.leaning !== null && /^[1-9]$/.test(key) && Number(key) <= this.levels) this.grade(event, this.leaning, Number(key));
    else return;
    event.preventDefault();
  }

  /** The picture that an arrow key pointed at, whose step is still to come. */
  private leaning: number | null = null;

  private lean(event: KeyboardEvent, index: number): void {
    if (!this.counts(event)) return;
    this.leaning = index;
    this.root.querySelectorAll(".query").forEach((node, i) => node.classList.toggle("leaning", i === index));
  }

  private grade(event: Event, index: number, level: number): void {
    if (!this.counts(event)) return;
    this.level = level;
    for (const one of this.grades) one.node.classList.toggle("chosen", one.index === index && one.level === level);
    this.pick(event, index);
  }

  protected override given(at: number, input?: string): Given {
    const given = super.given(at, input);
    const confidence = this.level ?? (given.confidence as number | null);
    const sign = given.response === this.payload.options[0] ? -1 : 1;
    return { ...given, confidence, signed_confidence: confidence === null ? null : sign * confidence };
  }

  protected override mark(verdict: { correct: boolean; expected: string }): void {
    const index = this.payload.options.indexOf(verdict.expected);
    this.root.querySelectorAll(".query")[index]?.classList.add("expected");
  }

  override act(data: Data): void {
    const index = this.payload.options.indexOf(String(data.response));
    const grade = this.grades.find((one) => one.index === index && one.level === data.confidence);
    if (grade) grade.node.click();
    else super.act(data);
  }
}

function invent(payload: ForcedChoicePayload, chance: Chance): Given {
  const given = inventChoice(payload, chance);
  const index = payload.options.indexOf(given.response);
  const grade = given.confidence as number | null;
  const side = (payload.arrangement === "stacked" ? ["top", "bottom"] : ["left", "right"])[index]!;
  return { ...given, side, signed_confidence: grade === null ? null : (index === 0 ? -1 : 1) * grade };
}

export const ForcedChoicePlugin = trialPlugin({
  name: "forced_choice",
  version: "1.0.0",
  data: {
    ...CHOOSING_DATA,
    /** The confidence, below 0 for the first (left or upper) picture. */
    signed_confidence: { type: ParameterType.FLOAT },
  },
  screen: ForcedChoiceScreen,
  invent,
});
