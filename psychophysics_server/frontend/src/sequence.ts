/** Shows things one after the other for whole numbers of frames, and measures how long each was really on the screen. */

import { type Clock, median } from "./timing";

/** One thing to show, and for how long. */
export interface Planned {
  name: string;
  ms: number;
}

/** What became of it: requested and achieved duration, in milliseconds and in frames. */
export interface Phase {
  name: string;
  requested_ms: number;
  requested_frames: number;
  onset_ms: number;
  achieved_ms: number;
  achieved_frames: number;
}

/** Measure the usual interval between frames over `count` of them. */
export function usualFrame(clock: Clock, count = 12): Promise<number> {
  return new Promise((resolve) => {
    const times: number[] = [];
    const tick = (time: number): void => {
      times.push(time);
      if (times.length <= count) clock.frame(tick);
      else resolve(median(times.slice(1).map((after, i) => after - times[i]!)));
    };
    clock.frame(tick);
  });
}

/** Return how many frames a duration takes: at least one, and none for no duration. */
export function framesFor(ms: number, frame: number): number {
  return ms <= 0 ? 0 : Math.max(1, Math.round(ms / frame));
}

/**
 * Runs planned things on a clock.
 *
 * A change made in one frame is on the screen when the next begins, so the onset of each thing is the frame after its
 * change, and the next change is made one frame before the time is over.
 */
export class Sequence {
  readonly phases: Phase[] = [];
  private readonly planned: Planned[];
  private waiting: ((phase: Phase) => void)[] = [];
  private stopped = false;
  private kept: readonly string[] = [];
  private ended: () => void = () => undefined;

  constructor(
    private readonly clock: Clock,
    private readonly frame: number,
    planned: readonly Planned[],
    /** Puts a thing on the screen; called within a frame. */
    private readonly show: (name: string) => void,
  ) {
    this.planned = planned.filter(({ ms }) => ms > 0);
  }

  /** Run to the end; resolves when the last thing's time is over, or after `stop`. */
  run(): Promise<void> {
    return new Promise((resolve) => {
      this.ended = resolve;
      this.clock.frame((time) => this.begin(0, time));
    });
  }

  /** Resolve with the phase of this name at its onset. */
  async onset(name: string): Promise<Phase> {
    for (;;) {
      const phase = this.phases.find((one) => one.name === name && !Number.isNaN(one.onset_ms));
      if (phase) return phase;
      await new Promise<Phase>((resolve) => this.waiting.push(resolve));
    }
  }

  /** End at the next frame, but let these things have their time. */
  stop(kept: readonly string[] = []): void {
    this.stopped = true;
    this.kept = kept;
  }

  private begin(index: number, changed: number): void {
    const { name, ms } = this.planned[index]!;
    const requested = framesFor(ms, this.frame);
    const phase: Phase = { name, requested_ms: ms, requested_frames: requested, onset_ms: NaN, achieved_ms: NaN, achieved_frames: NaN };
    this.phases.push(phase);
    this.show(name);
    let frames = 0;
    const tick = (time: number): void => {
      frames += 1;
      if (frames === 1) this.begun(index, time);
      const cut = this.stopped && !this.kept.includes(name);
      if (cut || time - changed >= (requested - 0.5) * this.frame) this.next(index, time);
      else this.clock.frame(tick);
    };
    this.clock.frame(tick);
  }

  /** The thing is on the screen: the one before was there until now. */
  private begun(index: number, time: number): void {
    const phase = this.phases[index]!;
    phase.onset_ms = time;
    this.close(index - 1, time);
    this.waiting.splice(0).forEach((tell) => tell(phase));
  }

  private close(index: number, time: number): void {
    const before = this.phases[index];
    if (!before) return;
    before.achieved_ms = time - before.onset_ms;
    before.achieved_frames = Math.round(before.achieved_ms / this.frame);
  }

  private next(index: number, time: number): void {
    const following = this.planned[index + 1];
    if (following && !(this.stopped && !this.kept.includes(following.name))) return this.begin(index + 1, time);
    this.show("");
    this.clock.frame((gone) => {
      this.close(index, gone);
      this.ended();
    });
  }
}
