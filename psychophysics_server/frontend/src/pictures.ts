/** Loads pictures ahead of the trial that shows them: a window at a time, six at once, checked, decoded, with retries. */

import { digest } from "./sha256";

const AT_ONCE = 6;
const ATTEMPTS = 4;
const FIRST_PAUSE_MS = 400;

/** What can go wrong: no answer, other bytes than the name says, or bytes that are no picture. */
export type Fault = "network" | "hash" | "decode";

/** A picture that could not be loaded. */
export class PictureError extends Error {
  constructor(readonly fault: Fault) {
    super(`picture: ${fault}`);
  }
}

/** A picture whose bytes are what its name says, decoded and ready to be shown. */
export interface Picture {
  /** SHA-256 of the bytes: its name. */
  sha256: string;
  /** Address of the checked bytes in this page's memory. */
  url: string;
  image: HTMLImageElement;
}

const HASH = /^[0-9a-f]{64}$/;

/** Hashes of every picture that a payload names, wherever it stands. */
export function picturesOf(value: unknown): string[] {
  if (typeof value === "string") return HASH.test(value) ? [value] : [];
  if (Array.isArray(value)) return value.flatMap(picturesOf);
  return value && typeof value === "object" ? Object.values(value).flatMap(picturesOf) : [];
}

/** Fetch, check and decode one picture; rejects if it cannot be shown. `attempt` counts from 1. */
export type Load<T> = (name: string, attempt: number) => Promise<T>;

/** Wait without blocking; tests pass one that does not wait. */
export type Pause = (ms: number) => Promise<void>;

export const pause: Pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Fetch the bytes of a picture and hold them against its name. */
export async function checkedBytes(name: string, attempt: number, get: typeof fetch = fetch): Promise<ArrayBuffer> {
  let bytes: ArrayBuffer;
  try {
    // A second attempt goes past the cache: what was wrong there stays wrong for a year.
    const answer = await get(`/stimuli/${name}.png`, { cache: attempt > 1 ? "reload" : "default", credentials: "omit" });
    if (!answer.ok) throw new PictureError("network");
    bytes = await answer.arrayBuffer();
  } catch {
    throw new PictureError("network");
  }
  if ((await digest(bytes)) !== name) throw new PictureError("hash");
  return bytes;
}

/** Load one picture and decode it, so that showing it costs no time. */
export async function loadPicture(name: string, attempt: number): Promise<Picture> {
  const url = URL.createObjectURL(new Blob([await checkedBytes(name, attempt)], { type: "image/png" }));
  const image = new Image();
  image.decoding = "sync";
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new PictureError("decode");
  }
  return { sha256: name, url, image };
}

/** Give back the memory of a picture that no coming trial shows. */
export function dropPicture({ url }: Picture): void {
  URL.revokeObjectURL(url);
}

/** A cache of decoded pictures with a bounded number of requests in flight. */
export class Pictures<T = Picture> {
  private readonly ready = new Map<string, Promise<T>>();
  private readonly faults = new Map<string, Fault[]>();
  private readonly waiting: (() => void)[] = [];
  private flying = 0;

  constructor(
    private readonly load: Load<T>,
    private readonly drop: (picture: T) => void = () => undefined,
    private readonly wait: Pause = pause,
  ) {}

  /** Return the decoded picture; a failure is forgotten, so that asking again tries again. */
  get(name: string): Promise<T> {
    const known = this.ready.get(name);
    if (known) return known;
    const loading = this.attempts(name);
    this.ready.set(name, loading);
    loading.catch(() => this.ready.delete(name));
    return loading;
  }

  /** Start loading these in the background and forget all others. */
  window(names: Iterable<string>): void {
    const wanted = new Set(names);
    for (const [name, loading] of this.ready) {
      if (wanted.has(name)) continue;
      this.ready.delete(name);
      loading.then(this.drop, () => undefined);
    }
    for (const name of wanted) this.get(name).catch(() => undefined);
  }

  /** What went wrong with these pictures so far, one entry a failed attempt. */
  faultsOf(names: Iterable<string>): Fault[] {
    return [...new Set(names)].flatMap((name) => this.faults.get(name) ?? []);
  }

  private async attempts(name: string): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      await this.slot();
      try {
        return await this.load(name, attempt);
      } catch (error) {
        const fault = error instanceof PictureError ? error.fault : "decode";
        this.faults.set(name, [...(this.faults.get(name) ?? []), fault]);
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
