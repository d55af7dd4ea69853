/** What the screens of all trial types share: onset, lock-out, keys, one response, its record, and the verdict on it. */

import type { Album } from "./album";
import { watchConduct } from "./conduct";
import { button, element } from "./dom";
import { browserClock, FrameMeter, painted, responseTime } from "./timing";
import type { Payload, Recognition, Verdict } from "./wire";
import { fill, words } from "./words";

/** Parameters of a trial, the same for every type. */
export interface TrialParameters<P extends Payload> {
  payload: P;
  /** Where we are, in words. */
  position: string;
  /** If given: is told the answer, resolves with `{correct, expected}`, which is then shown. */
  judge: ((data: Data) => Promise<Verdict | null>) | null;
  /** If given: is told what was shown of the verdict, and for how long. */
  told: ((shown: Verdict & { shown_ms: number }) => void) | null;
  /** If given: asks the server's network what it recognises in these boxes (`reveal`). */
  ask?: ((boxes: [number, number][]) => Promise<Recognition>) | null;
}

export type Data = Record<string, unknown>;

/** What a trial type says of the response; its own measures may stand beside. */
export interface Given extends Data {
  response: string;
  /** Milliseconds from onset to the response, not rounded; null if there was none. */
  rt_ms: number | null;
  input: string;
}

/** How a response was given; a click made by Enter or Space has no detail and no pointer. */
export function inputOf(event: Event): string {
  if (event instanceof KeyboardEvent) return "key";
  const pointer = (event as PointerEvent).pointerType;
  if (pointer) return pointer;
  return (event as MouseEvent).detail > 0 ? "mouse" : "key";
}

/** Name a button's keys for assistive technology, and for the eye in a part of the button. */
export function shortcut(node: HTMLElement, keys: string, shown: string, part: HTMLElement = node): void {
  node.setAttribute("aria-keyshortcuts", keys);
  part.append(element("kbd", { "aria-hidden": "true" }, shown));
}

type Control = HTMLElement & { disabled: boolean };

/** One showing of a trial: builds the screen, takes one response, reports. */
export abstract class TrialScreen<P extends Payload> {
  readonly done: Promise<Data>;
  /** What is locked until the lock-out ends and after the response. */
  protected readonly controls: Control[] = [];
  protected readonly verdict = element("div", { class: "verdict", role: "status", "aria-live": "polite" });
  protected readonly frames = new FrameMeter(browserClock);
  protected onset = NaN;
  protected root!: HTMLElement;
  private open = false;
  private readonly conduct: { what: string; at_ms: number }[] = [];
  private resolve: (data: Data) => void = () => undefined;
  private stopConduct: () => void = () => undefined;

  constructor(
    protected readonly parameters: TrialParameters<P>,
    protected readonly album: Album,
  ) {
    this.done = new Promise((resolve) => (this.resolve = resolve));
  }

  protected get payload(): P {
    return this.parameters.payload;
  }

  /** How long the controls stay locked; a payload that names no time has none. */
  protected get lockout(): number {
    return this.payload.lockout_ms ?? 0;
  }

  /** Make the whole screen, with every picture of it. */
  protected abstract build(): HTMLElement;

  /** Press what a simulated person would, who gives these data. */
  abstract act(data: Data): void;

  /** A key that may be an answer; call `preventDefault` if it is. */
  protected key(_event: KeyboardEvent): void {}

  /** The response may be given from now on. */
  protected opened(): void {}

  /** The trial type's own measures up to `at`, asked for once, at the response. */
  protected measures(_at: number): Data {
    return {};
  }

  /** Mark the right answer on the screen. */
  protected mark(_verdict: Verdict): void {}

  /** What the right answer is, in a sentence. */
  protected explain({ expected }: Verdict): string {
    return fill(words.feedback.rightAnswer, { answer: expected });
  }

  /** Show the screen; resolves at onset. */
  async show(display: HTMLElement): Promise<void> {
    this.root = this.build();
    await this.album.decoded();
    for (const control of this.controls) control.disabled = true;
    display.replaceChildren(this.root);
    window.scrollTo(0, 0);
    this.album.snap();
    this.stopConduct = watchConduct((what, at) => {
      this.conduct.push({ what, at_ms: at - this.onset });
      this.frames.interrupt();
    });
    this.onset = await this.present();
    this.album.measure();
    document.addEventListener("keydown", this.onKey);
    this.lock();
  }

  /** Put the stimulus before the eye and resolve with its onset, on the page's `performance.now()` clock. */
  protected async present(): Promise<number> {
    const onset = await painted(browserClock);
    this.frames.start();
    return onset;
  }

  /** Milliseconds from onset to an event, by the event's own stamp. */
  protected rt(event: Event): number {
    return responseTime(event, this.onset);
  }

  /** Whether an event may be an answer: an event made before the lock-out ended may be delivered after it. */
  protected counts(event: Event): boolean {
    return this.open && this.rt(event) >= this.lockout;
  }

  /** Take this as the response: nothing more is measured, and the trial ends, after the verdict if there is one. */
  protected finish(at: number, given: Given): void {
    if (!this.open) return;
    this.open = false;
    document.removeEventListener("keydown", this.onKey);
    this.stopConduct();
    for (const control of this.controls) control.disabled = true;
    const data = { ...given, ...this.measures(at), ...this.record() };
    if (this.parameters.judge) void this.feedBack(data);
    else this.resolve(data);
  }

  private record(): Data {
    const lost = (...kinds: string[]): number => this.conduct.filter(({ what }) => kinds.includes(what)).length;
    return {
      onset_ms: this.onset,
      ...this.frames.stop(),
      lockout_ms: this.lockout,
      feedback: this.parameters.judge !== null,
      focus_lost: lost("blur", "hidden"),
      fullscreen_exits: lost("fullscreen_exit"),
      conduct: this.conduct,
      window: `${window.innerWidth}x${window.innerHeight}`,
      pixel_ratio: window.devicePixelRatio,
      zoom: window.visualViewport?.scale ?? 1,
      pictures: this.album.record,
      load_failures: this.album.failures,
      load_faults: this.album.faults,
    };
  }

  private lock(): void {
    const lockout_ms = this.lockout;
    if (lockout_ms > 0) {
      for (const control of this.controls) {
        control.classList.add("locked");
        control.style.setProperty("--lockout", `${lockout_ms}ms`);
      }
      window.setTimeout(() => this.unlock(), lockout_ms);
    } else this.unlock();
  }

  private unlock(): void {
    this.open = true;
    for (const control of this.controls) {
      control.disabled = false;
      control.classList.remove("locked");
    }
    this.opened();
  }

  private readonly onKey = (event: KeyboardEvent): void => {
    // A key held down since the last trial, or meant for a dialog or a field, is not an answer.
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]") || !this.root.isConnected) return;
    if (event.target instanceof Element && event.target.closest("textarea, input")) return;
    this.key(event);
  };

  private async feedBack(data: Data): Promise<void> {
    this.verdict.replaceChildren(element("p", { class: "hint" }, words.feedback.saving));
    const verdict = await this.parameters.judge!(data);
    if (!verdict) return this.resolve(data);
    this.mark(verdict);
    let since = performance.now();
    const next = button(words.next, "primary", (event) => {
      this.parameters.told?.({ ...verdict, shown_ms: event.timeStamp - since });
      this.resolve(data);
    });
    const told = element(
      "p",
      { class: verdict.correct ? "told right" : "told wrong" },
      element("span", { class: "mark", "aria-hidden": "true" }, verdict.correct ? "✓" : "✗"),
      element("strong", {}, verdict.correct ? words.feedback.right : words.feedback.wrong),
      `: ${this.explain(verdict)}`,
    );
    this.verdict.replaceChildren(told, element("div", { class: "actions" }, next));
    next.focus({ preventScroll: true });
    this.verdict.scrollIntoView({ block: "nearest" });
    since = await painted(browserClock);
  }
}
