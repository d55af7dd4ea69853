/** A person's own score: asked of the server once every answer is there, and put on the screen that tells it. */

import type { ApiError } from "./api";
import { element } from "./dom";
import { backOff, type Outbox } from "./outbox";
import { pause } from "./pictures";
import type { OwnScore, Payload } from "./wire";
import { words } from "./words";

/** The scores of a visit, each asked for once. */
export class OwnScores {
  private readonly held = new Map<string, Promise<OwnScore>>();

  constructor(
    private readonly outbox: Outbox,
    private readonly ask: (trialId: string) => Promise<OwnScore>,
  ) {}

  /** Resolve with the payload of a trial that tells a score, the numbers in their places. */
  async fill(display: HTMLElement, trialId: string): Promise<Payload> {
    const wait = element("p", { class: "position", role: "status" }, words.loading);
    display.replaceChildren(wait);
    const { payload } = await this.of(trialId);
    wait.remove();
    return payload;
  }

  /** What the answer to a trial that tells a score says of it. */
  async told(trialId: string): Promise<{ told_score: { right: number; asked: number } }> {
    const { right, asked } = await this.of(trialId);
    return { told_score: { right, asked } };
  }

  private of(trialId: string): Promise<OwnScore> {
    const held = this.held.get(trialId) ?? this.fetch(trialId);
    this.held.set(trialId, held);
    return held;
  }

  private async fetch(trialId: string): Promise<OwnScore> {
    for (let failures = 1; ; failures++) {
      await this.outbox.flushed();
      try {
        return await this.ask(trialId);
      } catch (error) {
        const { final, status, retryAfterMs } = error as Partial<ApiError>;
        if (final || status === 409) throw error;
        await pause(backOff(failures, Math.random(), retryAfterMs));
      }
    }
  }
}
