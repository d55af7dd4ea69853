/** The paper of a draw trial: strokes in canvas pixels with their times, and how they are drawn on the screen. */

export interface Spot {
  x: number;
  y: number;
}

/** One point: milliseconds from the opening of the canvas, and its place in canvas pixels. */
export type Point = [number, number, number];

const INK = "#15171a";
const PAPER = "#ffffff";
const CURSOR = "#d81b60";

/** Collects strokes, with no more points than one event can carry. */
export class Strokes {
  lines: Point[][] = [];
  /** Lines that were taken back or cleared. */
  erased = 0;
  private open = false;

  constructor(
    private readonly size: readonly [number, number],
    private readonly most: number,
    /** Points nearer than this to the last one of a line are left out, in canvas pixels. */
    private readonly gap: number,
  ) {}

  get points(): number {
    return this.lines.reduce((n, line) => n + line.length, 0);
  }

  get full(): boolean {
    return this.points >= this.most;
  }

  get drawing(): boolean {
    return this.open;
  }

  /** Put the pen down; false if there is no room for another point. */
  begin(time: number, spot: Spot): boolean {
    if (this.full) return false;
    this.open = true;
    this.lines.push([this.point(time, spot)]);
    return true;
  }

  /** Move the pen while it is down; true if a point was added. */
  move(time: number, spot: Spot): boolean {
    const line = this.lines.at(-1);
    if (!this.open || !line || this.full) return false;
    const next = this.point(time, spot);
    const last = line.at(-1)!;
    if (Math.hypot(next[1] - last[1], next[2] - last[2]) < this.gap) return false;
    line.push(next);
    return true;
  }

  /** Lift the pen. */
  end(): void {
    this.open = false;
  }

  undo(): void {
    this.end();
    if (this.lines.pop()) this.erased += 1;
  }

  clear(): void {
    this.end();
    this.erased += this.lines.length;
    this.lines = [];
  }

  /** A point on whole pixels of the canvas, not before the last one in time: events of two devices may overlap. */
  private point(time: number, { x, y }: Spot): Point {
    const within = (value: number, most: number): number => Math.min(most - 1, Math.max(0, Math.round(value)));
    const before = this.lines.at(-1)?.at(-1)?.[0] ?? 0;
    return [Math.max(before, Math.round(10 * Math.max(0, time)) / 10), within(x, this.size[0]), within(y, this.size[1])];
  }
}

/** Draws the strokes; the canvas has as many pixels as the screen has for it. */
export class Paper {
  private readonly context: CanvasRenderingContext2D;
  private zoom = 1;

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly size: readonly [number, number],
    private readonly pen: number,
  ) {
    this.context = canvas.getContext("2d")!;
  }

  /** CSS pixels per canvas pixel. */
  get scale(): number {
    return this.canvas.getBoundingClientRect().width / this.size[0];
  }

  fit(): void {
    this.zoom = Math.min(8, Math.max(1, this.scale * window.devicePixelRatio));
    this.canvas.width = Math.round(this.size[0] * this.zoom);
    this.canvas.height = Math.round(this.size[1] * this.zoom);
  }

  /** Canvas pixels of a place on the screen. */
  at({ clientX, clientY }: { clientX: number; clientY: number }): Spot {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return { x: ((clientX - left) / width) * this.size[0], y: ((clientY - top) / height) * this.size[1] };
  }

  draw(lines: readonly Point[][], cursor: Spot | null, down: boolean): void {
    const { context, size } = this;
    context.setTransform(this.zoom, 0, 0, this.zoom, 0, 0);
    context.fillStyle = PAPER;
    context.fillRect(0, 0, ...size);
    context.strokeStyle = INK;
    context.lineWidth = this.pen;
    context.lineCap = context.lineJoin = "round";
    for (const line of lines) {
      context.beginPath();
      const [, x, y] = line[0]!;
      context.moveTo(x, y);
      // A line of no length is drawn as the dot of its cap.
      if (line.length === 1) context.lineTo(x, y);
      for (const [, right, below] of line.slice(1)) context.lineTo(right, below);
      context.stroke();
    }
    if (cursor) this.cross(cursor, down);
  }

  /** Where the pen of the keyboard is: an open cross while it is up, with a ring while it is down. */
  private cross({ x, y }: Spot, down: boolean): void {
    const { context } = this;
    const unit = 1 / this.scale;
    for (const [width, colour] of [[4 * unit, PAPER], [2 * unit, CURSOR]] as const) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]] as const) {
        context.moveTo(x + 4 * dx * unit, y + 4 * dy * unit);
        context.lineTo(x + 12 * dx * unit, y + 12 * dy * unit);
      }
      if (down) {
        context.moveTo(x + 8 * unit, y);
        context.arc(x, y, 8 * unit, 0, 2 * Math.PI);
      }
      context.stroke();
    }
  }
}
