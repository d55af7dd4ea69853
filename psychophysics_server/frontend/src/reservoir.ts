/** The training examples within reach during a test: a panel beside, or a drawer on a small screen; looks are recorded. */

import { button, element } from "./dom";
import { fill, plural, words } from "./words";

/** One example with addresses instead of hashes. */
export interface ExamplePicture {
  id: string;
  image: string;
  explanation: string | null;
  predicted: string;
}

export interface Looks {
  reservoir_ms: number;
  reservoir_openings: number;
  reservoir_layout: "panel" | "drawer" | "none";
  reservoir_items: { image: string; ms: number }[];
}

const WIDE = "(min-width: 900px)";

function thumbnails(example: ExamplePicture, position: number): Node[] {
  const picture = element("img", { src: example.image, "data-sha256": example.id, alt: fill(words.alt.example, { i: position }), class: "picture" });
  if (!example.explanation) return [picture];
  return [picture, element("img", { src: example.explanation, alt: words.alt.explanation, class: "picture" })];
}

function figures(example: ExamplePicture, position: number): Node[] {
  const captions = [words.train.picture, words.train.explanation];
  return thumbnails(example, position).map((picture, i) => element("figure", {}, picture, element("figcaption", {}, captions[i])));
}

/** Panel, drawer and enlarged view of the examples, with the time that each was in sight. */
export class Reservoir {
  readonly panel: HTMLElement;
  /** The button that opens the drawer on a small screen. */
  readonly opener: HTMLButtonElement;
  private readonly wide = window.matchMedia(WIDE);
  private readonly drawer: HTMLDialogElement;
  private readonly items: { image: string; ms: number }[] = [];
  private openings = 0;
  private shownSince: number | null = null;
  private shownFor = 0;

  constructor(
    private readonly examples: readonly ExamplePicture[],
    private readonly now: () => number,
  ) {
    this.panel = element("aside", { class: "reservoir", "aria-label": words.reservoir.title }, ...this.content());
    this.opener = button(plural(words.reservoir.open, examples.length), "quiet", () => this.openDrawer());
    this.opener.classList.add("opener");
    this.drawer = element("dialog", { class: "drawer", "aria-label": words.reservoir.title });
    this.wide.addEventListener("change", this.onLayout);
  }

  /** Call at onset: a panel is in sight from then on. */
  start(at = this.now()): void {
    if (this.wide.matches && this.examples.length > 0) this.shownSince ??= at;
  }

  /** Close everything and return what was looked at until `at`, the time of the response. */
  stop(at: number): Looks {
    this.wide.removeEventListener("change", this.onLayout);
    this.pauseWatch(at);
    for (const dialog of document.querySelectorAll<HTMLDialogElement>("dialog.drawer, dialog.closer")) dialog.close();
    const layout = this.examples.length === 0 ? "none" : this.wide.matches ? "panel" : "drawer";
    return { reservoir_ms: this.shownFor, reservoir_openings: this.openings, reservoir_layout: layout, reservoir_items: this.items };
  }

  private readonly onLayout = (): void => {
    if (this.wide.matches) {
      this.drawer.close();
      this.start();
    } else this.pauseWatch();
  };

  private pauseWatch(at = this.now()): void {
    if (this.shownSince !== null) this.shownFor += Math.max(0, at - this.shownSince);
    this.shownSince = null;
  }

  private content(): Node[] {
    const pairs = this.examples.some((example) => example.explanation !== null);
    const list = element("ul", { class: pairs ? "examples pairs" : "examples" });
    this.examples.forEach((example, i) => list.append(element("li", {}, this.card(example, i + 1))));
    return [element("h2", {}, words.reservoir.title), element("p", { class: "hint" }, words.reservoir.hint), list];
  }

  private card(example: ExamplePicture, position: number): HTMLElement {
    const card = element("button", { type: "button", class: "card", "aria-label": fill(words.reservoir.item, { i: position, predicted: example.predicted }) });
    card.append(element("span", { class: "thumbs" }, ...thumbnails(example, position)), element("span", { class: "label" }, example.predicted));
    card.addEventListener("click", () => this.enlarge(example, position));
    return card;
  }

  private openDrawer(): void {
    const close = button(words.close, "primary", () => this.drawer.close());
    this.drawer.replaceChildren(...this.content(), element("div", { class: "actions sticky" }, close));
    this.drawer.addEventListener("close", () => (this.pauseWatch(), this.drawer.remove()), { once: true });
    this.drawer.addEventListener("click", (event) => event.target === this.drawer && this.drawer.close());
    document.body.append(this.drawer);
    this.drawer.showModal();
    this.openings += 1;
    this.shownSince = this.now();
  }

  private enlarge(example: ExamplePicture, position: number): void {
    const since = this.now();
    const dialog = element("dialog", { class: "dialog closer", "aria-label": fill(words.alt.example, { i: position }) });
    const close = button(words.close, "primary", () => dialog.close());
    dialog.append(
      element("div", { class: "pair" }, ...figures(example, position)),
      element("p", { class: "answer" }, `${words.train.answer} `, element("strong", {}, example.predicted)),
      element("div", { class: "actions" }, close),
    );
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      this.items.push({ image: example.id, ms: this.now() - since });
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
    close.focus();
  }
}
