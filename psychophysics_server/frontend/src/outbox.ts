/** Events wait here until the server has said that they are on disk; numbered without gaps, sent in order, sent again. */

import { link } from "./chain";
import type { Pause } from "./pictures";
import type { BatchAnswer, Kind, SentEvent } from "./wire";

/** Keeps what is not yet acknowledged; `durable` says whether that outlives the page. */
export interface Store {
  readonly durable: boolean;
  load(): Promise<SentEvent[]>;
  put(event: SentEvent): Promise<void>;
  remove(seqs: readonly number[]): Promise<void>;
  clear(): Promise<void>;
}

/** The fallback where a browser has no storage: nothing outlives the page, so every event waits for its acknowledgement. */
export class MemoryStore implements Store {
  readonly durable = false;

  async load(): Promise<SentEvent[]> {
    return [];
  }

  async put(): Promise<void> {}

  async remove(): Promise<void> {}

  async clear(): Promise<void> {}
}

/** Another window has written events under our numbers; the session must be read again. */
export class ConflictError extends Error {
  readonly final = true;
}

/** Posts a batch; a rejection with `final` set is never tried again. */
export type Send = (events: readonly SentEvent[]) => Promise<BatchAnswer>;

export interface OutboxOptions {
  store: Store;
  send: Send;
  /** Where the server stands: the next number it expects and its chain so far. */
  server: { next_seq: number; chain: string };
  wait: Pause;
  random: () => number;
  now: () => number;
  onChange?: () => void;
  onAnswer?: (answer: BatchAnswer) => void;
}

const BATCH = 32;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;

/** Pause before the next try: doubled each time, spread by up to half, never shorter than the server asked for. */
export function backOff(failures: number, random: number, retryAfterMs = 0): number {
  const step = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1));
  return Math.max(retryAfterMs, step * (0.5 + random / 2));
}

/** The queue between the trials and the server. */
export class Outbox {
  private readonly pending = new Map<number, SentEvent>();
  private store: Store;
  private nextSeq: number;
  private chainSoFar: string;
  private writes: Promise<void> = Promise.resolve();
  private written = 0;
  private flying = false;
  private wakeUp: (() => void) | null = null;
  private refusal: Error | null = null;
  private waiters: (() => void)[] = [];

  private constructor(private readonly options: OutboxOptions) {
    this.store = options.store;
    this.nextSeq = options.server.next_seq;
    this.chainSoFar = options.server.chain;
  }

  /** Take up what an earlier page left and start sending it. */
  static async open(options: OutboxOptions): Promise<Outbox> {
    const outbox = new Outbox(options);
    const kept = await outbox.store.load();
    for (const event of kept.sort((a, b) => a.seq - b.seq)) {
      outbox.takeUp(event);
      outbox.written = event.seq;
    }
    outbox.run();
    return outbox;
  }

  /** Events that the server has not acknowledged, in order. */
  get unsent(): SentEvent[] {
    return [...this.pending.values()];
  }

  get left(): number {
    return this.pending.size;
  }

  /** False where events live in memory only. */
  get durable(): boolean {
    return this.store.durable;
  }

  /** Number of the newest event, 0 if there is none. */
  get lastSeq(): number {
    return this.nextSeq - 1;
  }

  get chain(): string {
    return this.chainSoFar;
  }

  /** Why the server will take nothing more from this page, if so. */
  get refused(): Error | null {
    return this.refusal;
  }

  /** Number an event and resolve once it is safe: in this browser's storage or, without one, on the server. */
  async add(kind: Kind, body: Record<string, unknown>): Promise<number> {
    const event: SentEvent = { seq: this.nextSeq, kind, time: this.options.now(), body: JSON.stringify(body) };
    this.takeUp(event);
    this.options.onChange?.();
    this.writes = this.writes.then(() => this.write(event));
    await this.writes;
    this.run();
    if (!this.durable) await this.acknowledged(event.seq);
    return event.seq;
  }

  /** Resolve when the server holds this event; reject if it refuses for good. */
  acknowledged(seq: number): Promise<void> {
    return this.until(() => !this.pending.has(seq));
  }

  /** Resolve when nothing is left; reject if the server refuses for good. */
  flushed(): Promise<void> {
    return this.until(() => this.pending.size === 0);
  }

  /** Try again now, for instance because the network is back. */
  wake(): void {
    this.wakeUp?.();
    this.run();
  }

  /** Forget everything about this session in this browser. */
  async clear(): Promise<void> {
    this.pending.clear();
    await this.writes;
    await this.store.clear();
  }

  private takeUp(event: SentEvent): void {
    this.pending.set(event.seq, event);
    if (event.seq < this.nextSeq) return;
    this.nextSeq = event.seq + 1;
    this.chainSoFar = link(this.chainSoFar, event.body);
  }

  private async write(event: SentEvent): Promise<void> {
    try {
      await this.store.put(event);
    } catch {
      // A full or forbidden storage must not lose the event: from here on only an acknowledgement counts as safe.
      this.store = new MemoryStore();
    }
    this.written = event.seq;
  }

  private async until(reached: () => boolean): Promise<void> {
    while (!reached()) {
      if (this.refusal) throw this.refusal;
      this.run();
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  private notify(): void {
    const waiters = this.waiters;
    this.waiters = [];
    for (const resolve of waiters) resolve();
    this.options.onChange?.();
  }

  private run(): void {
    if (this.flying || this.refusal || this.pending.size === 0) return;
    this.flying = true;
    void this.drain().finally(() => {
      this.flying = false;
      this.notify();
    });
  }

  private async drain(): Promise<void> {
    for (let failures = 0; this.pending.size > 0 && !this.refusal; ) {
      try {
        await this.post();
        failures = 0;
      } catch (error) {
        if ((error as { final?: boolean }).final) this.refusal = error as Error;
        else await this.rest(backOff(++failures, this.options.random(), (error as { retryAfterMs?: number }).retryAfterMs));
      }
    }
  }

  private async post(): Promise<void> {
    // What is sent is on this browser's disk first: else its removal could come before its arrival.
    await this.writes;
    const batch = this.unsent.filter(({ seq }) => seq <= this.written).slice(0, this.durable ? BATCH : 1);
    if (batch.length === 0) return;
    const answer = await this.options.send(batch);
    const conflicts = answer.conflicts ?? [];
    const settled = [...answer.acknowledged, ...conflicts].filter((seq) => this.pending.has(seq));
    if (settled.length === 0) throw new Error("nothing was acknowledged");
    for (const seq of settled) this.pending.delete(seq);
    this.options.onAnswer?.(answer);
    await this.store.remove(settled).catch(() => undefined);
    if (conflicts.length > 0) throw new ConflictError("This study has gone on in another window.");
    this.notify();
  }

  private async rest(ms: number): Promise<void> {
    const woken = new Promise<void>((resolve) => (this.wakeUp = resolve));
    await Promise.race([this.options.wait(ms), woken]);
    this.wakeUp = null;
  }
}
