/** The strokes of a reveal trial: boxes in image pixels, one step at a time, and the mask they leave. */

/** One box: milliseconds on the player's clock, and its centre in image pixels. */
export type Stroke = [number, number, number];

export interface Point {
  x: number;
  y: number;
}

/** First column (or row) that a box around a centre covers; the same rule as `stimuli/masks.py`. */
export function boxStart(centre: number, box: number): number {
  return Math.floor(centre - (box - 1) / 2);
}

/** The pixels that strokes uncover, one byte each (0 or 1), row by row. */
export function revealedMask(strokes: readonly Stroke[], [width, height]: readonly [number, number], box: number): Uint8Array {
  const mask = new Uint8Array(width * height);
  for (const [, x, y] of strokes) {
    const [left, top] = [boxStart(x, box), boxStart(y, box)];
    for (let row = Math.max(0, top); row < Math.min(height, top + box); row++) {
      mask.fill(1, row * width + Math.min(width, Math.max(0, left)), row * width + Math.min(width, Math.max(0, left + box)));
    }
  }
  return mask;
}

/** A place inside the picture, on whole pixels. */
export function inside({ x, y }: Point, [width, height]: readonly [number, number]): Point {
  const within = (value: number, most: number): number => Math.min(most - 1, Math.max(0, Math.round(value)));
  return { x: within(x, width), y: within(y, height) };
}

/** The next box on the way from the last one to where the pointer is, at most `step` pixels off along either axis; null if it is there. */
export function stepTowards(last: Point, target: Point, step: number): Point | null {
  const [dx, dy] = [target.x - last.x, target.y - last.y];
  const far = Math.max(Math.abs(dx), Math.abs(dy));
  if (far === 0) return null;
  const share = Math.min(1, step / far);
  return { x: last.x + Math.round(dx * share), y: last.y + Math.round(dy * share) };
}

/** A clock that stands still while the player has to wait. */
export class PlayerClock {
  private started = NaN;
  private stopped: number | null = null;
  private away = 0;

  constructor(private readonly now: () => number) {}

  start(at: number): void {
    this.started = at;
  }

  get running(): boolean {
    return !Number.isNaN(this.started) && this.stopped === null;
  }

  stop(): void {
    this.stopped ??= this.now();
  }

  go(): void {
    if (this.stopped !== null) this.away += this.now() - this.stopped;
    this.stopped = null;
  }

  /** Milliseconds played so far, 0 before the start. */
  read(): number {
    if (Number.isNaN(this.started)) return 0;
    return Math.max(0, (this.stopped ?? this.now()) - this.started - this.away);
  }
}

/** Points of a round that was won: the share of the time that is left, times 100. */
export function pointsOf(played: number, limit: number): number {
  return Math.round(100 * Math.max(0, 1 - played / limit));
}

/** Samples the pointer at regular times and keeps the boxes. */
export class Brush {
  readonly strokes: Stroke[] = [];
  target: Point | null = null;
  /** Whether boxes are drawn now. */
  down = false;
  private next = 0;

  constructor(
    private readonly size: readonly [number, number],
    private readonly step: number,
    private readonly interval: number,
    private readonly most: number,
  ) {}

  get last(): Point | null {
    const stroke = this.strokes.at(-1);
    return stroke ? { x: stroke[1], y: stroke[2] } : null;
  }

  get full(): boolean {
    return this.strokes.length >= this.most;
  }

  /** Take the samples that are due at `time`; true if a box was added. */
  sample(time: number): boolean {
    if (time < this.next) return false;
    this.next = time - this.next > this.interval ? time + this.interval : this.next + this.interval;
    if (!this.down || !this.target || this.full) return false;
    const target = inside(this.target, this.size);
    const box = this.last ? stepTowards(this.last, target, this.step) : target;
    if (!box) return false;
    this.add(time, box);
    return true;
  }

  /** Keep one box (or mark) as it is. */
  add(time: number, { x, y }: Point): void {
    // A tenth of a millisecond is what browsers tell at best; it keeps long rounds within one event.
    this.strokes.push([Math.round(10 * time) / 10, x, y]);
  }
}
