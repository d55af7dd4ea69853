/** Onsets, response times and dropped frames, all on the browser's high-resolution clock. */

/** The two things that timing needs from a browser; tests give a clock of their own. */
export interface Clock {
  now(): number;
  frame(callback: (time: number) => void): number;
  cancel(handle: number): void;
}

export const browserClock: Clock = {
  now: () => performance.now(),
  frame: (callback) => requestAnimationFrame(callback),
  cancel: (handle) => cancelAnimationFrame(handle),
};

/**
 * Resolve with the time of the second frame from now.
 *
 * The first frame is the one in which the change is drawn; when the second begins, the first is on the screen.
 */
export function painted(clock: Clock): Promise<number> {
  return new Promise((resolve) => clock.frame(() => clock.frame(resolve)));
}

/** Return the middle value, or NaN of nothing. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Count the frames that the intervals between frames skipped, given the usual interval. */
export function droppedFrames(intervals: readonly number[], usual: number): number {
  if (!(usual > 0)) return 0;
  return intervals.reduce((count, interval) => count + Math.max(0, Math.round(interval / usual) - 1), 0);
}

/** Response time: the event's own stamp minus the onset, never rounded. */
export function responseTime(event: { timeStamp: number }, onset: number): number {
  return event.timeStamp - onset;
}

const MOST_FRAMES = 20_000;

/** Watches the frames of one trial. */
export class FrameMeter {
  private readonly intervals: number[] = [];
  private last: number | null = null;
  private handle: number | null = null;

  constructor(private readonly clock: Clock) {}

  start(): void {
    if (this.handle !== null) return;
    const tick = (time: number): void => {
      if (this.last !== null && this.intervals.length < MOST_FRAMES) this.intervals.push(time - this.last);
      this.last = time;
      this.handle = this.clock.frame(tick);
    };
    this.handle = this.clock.frame(tick);
  }

  /** Forget the running interval: a hidden page draws no frames, which is not the same as dropping them. */
  interrupt(): void {
    this.last = null;
  }

  stop(): { frame_ms: number | null; dropped_frames: number } {
    if (this.handle !== null) this.clock.cancel(this.handle);
    this.handle = null;
    const usual = median(this.intervals);
    return { frame_ms: Number.isNaN(usual) ? null : usual, dropped_frames: droppedFrames(this.intervals, usual) };
  }
}
