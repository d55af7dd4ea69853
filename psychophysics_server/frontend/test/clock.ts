/** A clock for tests. */

import type { Clock } from "../src/timing";

/** A clock whose frames come when the test says so. */
export class HandClock implements Clock {
  private callbacks = new Map<number, (time: number) => void>();
  private handles = 0;

  now(): number {
    return 0;
  }

  frame(callback: (time: number) => void): number {
    this.callbacks.set(++this.handles, callback);
    return this.handles;
  }

  cancel(handle: number): void {
    this.callbacks.delete(handle);
  }

  get waiting(): number {
    return this.callbacks.size;
  }

  tick(time: number): void {
    const due = [...this.callbacks.values()];
    this.callbacks.clear();
    due.forEach((callback) => callback(time));
  }
}
