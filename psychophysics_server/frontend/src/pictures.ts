/** Loads pictures ahead of the trial that shows them: a window at a time, six at once, decoded, with retries. */

const AT_ONCE = 6;
const ATTEMPTS = 4;
const FIRST_PAUSE_MS = 400;

/** Fetch and decode one picture; rejects if it cannot be shown. */
export type Load<T> = (url: string) => Promise<T>;

/** Wait without blocking; tests pass one that does not wait. */
export type Pause = (ms: number) => Promise<void>;

export const pause: Pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Load one image element and decode it, so that showing it costs no time. */
export async function loadImage(url: string): Promise<HTMLImageElement> {
  const image = new Image();
  image.decoding = "sync";
  image.src = url;
  await image.decode();
  return image;
}

/** A cache of decoded pictures with a bounded number of requests in flight. */
export class Pictures<T = HTMLImageElement> {
  private readonly ready = new Map<string, Promise<T>>();
  private readonly waiting: (() => void)[] = [];
  private flying = 0;

  constructor(
    private readonly load: Load<T>,
    private readonly wait: Pause = pause,
  ) {}

  /** Return the decoded picture; a failure is forgotten, so that asking again tries again. */
  get(url: string): Promise<T> {
    const known = this.ready.get(url);
    if (known) return known;
    const loading = this.attempts(url);
    this.ready.set(url, loading);
    loading.catch(() => this.ready.delete(url));
    return loading;
  }

  /** Start loading these in the background and forget all others. */
  window(urls: Iterable<string>): void {
    const wanted = new Set(urls);
    for (const url of this.ready.keys()) if (!wanted.has(url)) this.ready.delete(url);
    for (const url of wanted) this.get(url).catch(() => undefined);
  }

  private async attempts(url: string): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      await this.slot();
      try {
        return await this.load(url);
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
      } finally {
        this.flying -= 1;
        this.waiting.shift()?.();
      }
      await this.wait(FIRST_PAUSE_MS * 2 ** (attempt - 1));
    }
  }

  private async slot(): Promise<void> {
    while (this.flying >= AT_ONCE) await new Promise<void>((resolve) => this.waiting.push(resolve));
    this.flying += 1;
  }
}
