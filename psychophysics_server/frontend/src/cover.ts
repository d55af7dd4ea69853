/** Draws a reveal trial: a hatched cover (or the dimmed picture) with what was uncovered, outlined so that white on white is seen, and the cursor. */

import { boxStart, type Point, type Stroke } from "./brush";

const GROUND = "#8b9097";
const HATCH = "#747a82";
const DARK = "#15171a";
const LIGHT = "#ffffff";
const MARK = "#d81b60";
/** Over a picture that is seen all the time, so that what is lit up stands out. */
const VEIL = "rgb(24 26 30 / 62%)";

/** A canvas over one picture, in image pixels whatever its size on the screen. */
export class Cover {
  private readonly context: CanvasRenderingContext2D;
  private readonly outer = new Path2D();
  private readonly ring = new Path2D();
  private readonly inner = new Path2D();
  private drawn = 0;
  private zoom = 1;

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly picture: HTMLImageElement,
    private readonly size: readonly [number, number],
    private readonly box: number,
    private readonly look: "hidden" | "dimmed" | "plain",
  ) {
    this.context = canvas.getContext("2d")!;
  }

  /** CSS pixels per image pixel. */
  get scale(): number {
    return this.canvas.getBoundingClientRect().width / this.size[0];
  }

  /** Give the canvas as many pixels as the screen has for it. */
  fit(): void {
    this.zoom = Math.min(8, Math.max(1, this.scale * window.devicePixelRatio));
    this.canvas.width = Math.round(this.size[0] * this.zoom);
    this.canvas.height = Math.round(this.size[1] * this.zoom);
  }

  /** Image pixels of a place on the screen. */
  at(event: { clientX: number; clientY: number }): Point {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return {
      x: Math.floor(((event.clientX - left) / width) * this.size[0]),
      y: Math.floor(((event.clientY - top) / height) * this.size[1]),
    };
  }

  draw(strokes: readonly Stroke[], cursor: Point | null): void {
    const { context, size } = this;
    context.setTransform(this.zoom, 0, 0, this.zoom, 0, 0);
    context.imageSmoothingEnabled = this.zoom < 2;
    if (this.look !== "plain") this.uncover(strokes);
    else {
      context.drawImage(this.picture, 0, 0, ...size);
      strokes.forEach((stroke, i) => this.mark(stroke, i + 1));
    }
    if (cursor) this.point(cursor);
  }

  private uncover(strokes: readonly Stroke[]): void {
    const { context, size, box } = this;
    const line = 1 / this.scale;
    for (const [, x, y] of strokes.slice(this.drawn)) {
      const [left, top] = [boxStart(x, box), boxStart(y, box)];
      this.outer.rect(left - 2 * line, top - 2 * line, box + 4 * line, box + 4 * line);
      this.ring.rect(left - line, top - line, box + 2 * line, box + 2 * line);
      this.inner.rect(left, top, box, box);
    }
    this.drawn = strokes.length;
    if (this.look === "hidden") this.hatch();
    else this.dim();
    context.fillStyle = DARK;
    context.fill(this.outer);
    context.fillStyle = LIGHT;
    context.fill(this.ring);
    context.save();
    context.clip(this.inner);
    context.drawImage(this.picture, 0, 0, ...size);
    context.restore();
  }

  private dim(): void {
    this.context.drawImage(this.picture, 0, 0, ...this.size);
    this.context.fillStyle = VEIL;
    this.context.fillRect(0, 0, ...this.size);
  }

  private hatch(): void {
    const { context, size } = this;
    const [width, height] = size;
    const gap = 10 / this.scale;
    context.fillStyle = GROUND;
    context.fillRect(0, 0, width, height);
    context.strokeStyle = HATCH;
    context.lineWidth = 2 / this.scale;
    context.beginPath();
    for (let x = -height; x < width; x += gap) {
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
    }
    context.stroke();
  }

  private mark([, x, y]: Stroke, number: number): void {
    const { context, box } = this;
    const line = 1 / this.scale;
    const [left, top] = [boxStart(x, box), boxStart(y, box)];
    context.lineWidth = 4 * line;
    context.strokeStyle = LIGHT;
    context.strokeRect(left, top, box, box);
    context.lineWidth = 2 * line;
    context.strokeStyle = MARK;
    context.strokeRect(left, top, box, box);
    context.font = `600 ${12 * line}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3 * line;
    context.strokeStyle = LIGHT;
    context.strokeText(String(number), x + 0.5, y + 0.5);
    context.fillStyle = DARK;
    context.fillText(String(number), x + 0.5, y + 0.5);
  }

  private point({ x, y }: Point): void {
    const { context, box } = this;
    const line = 1 / this.scale;
    const [left, top] = [boxStart(x, box), boxStart(y, box)];
    context.save();
    context.lineWidth = 3 * line;
    context.strokeStyle = DARK;
    context.strokeRect(left, top, box, box);
    context.setLineDash([3 * line, 3 * line]);
    context.lineWidth = 1.5 * line;
    context.strokeStyle = LIGHT;
    context.strokeRect(left, top, box, box);
    context.restore();
  }
}
