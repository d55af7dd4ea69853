/** The outbox: order, exactly-once numbering, back-off, acknowledgement, conflict and the fallback to memory. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { link } from "../src/chain";
import { backOff, MemoryStore, Outbox, type OutboxOptions, type Store } from "../src/outbox";
import type { BatchAnswer, SentEvent } from "../src/wire";

/** A store that outlives an outbox, with a log of what was asked of it. */
class Disk implements Store {
  readonly durable = true;
  readonly kept = new Map<number, SentEvent>();
  broken = false;

  async load(): Promise<SentEvent[]> {
    return [...this.kept.values()].reverse();
  }

  async put(event: SentEvent): Promise<void> {
    if (this.broken) throw new Error("QuotaExceededError");
    this.kept.set(event.seq, event);
  }

  async remove(seqs: readonly number[]): Promise<void> {
    seqs.forEach((seq) => this.kept.delete(seq));
  }

  async clear(): Promise<void> {
    this.kept.clear();
  }
}

/** A server that stores by number and can be told to fail before or after it stored. */
class Server {
  readonly held = new Map<number, string>();
  readonly batches: number[][] = [];
  faults: ("lost request" | "lost answer" | "refused")[] = [];

  send = async (events: readonly SentEvent[]): Promise<BatchAnswer> => {
    this.batches.push(events.map(({ seq }) => seq));
    const fault = this.faults.shift();
    if (fault === "lost request") throw new Error("network");
    if (fault === "refused") throw Object.assign(new Error("gone"), { final: true });
    const conflicts = events.filter(({ seq, body }) => this.held.has(seq) && this.held.get(seq) !== body).map(({ seq }) => seq);
    for (const { seq, body } of events) if (!this.held.has(seq)) this.held.set(seq, body);
    if (fault === "lost answer") throw new Error("network");
    const acknowledged = events.map(({ seq }) => seq).filter((seq) => !conflicts.includes(seq));
    const answer: BatchAnswer = { acknowledged, high_water: this.held.size, feedback: {}, practice: null, faults: {} };
    return conflicts.length ? { ...answer, conflicts } : answer;
  };

  get mark(): { next_seq: number; chain: string } {
    return { next_seq: this.held.size + 1, chain: [...this.held.values()].reduce(link, "") };
  }
}

function options(server: Server, store: Store, more: Partial<OutboxOptions> = {}): OutboxOptions {
  return { store, send: server.send, server: server.mark, wait: async () => undefined, random: () => 0.5, now: () => 1, ...more };
}

test("events are numbered from 1 without gaps and arrive in order", async () => {
  const server = new Server();
  const outbox = await Outbox.open(options(server, new Disk()));
  await Promise.all([0, 1, 2, 3, 4].map((i) => outbox.add("trial", { i })));
  await outbox.flushed();
  assert.deepEqual([...server.held.keys()], [1, 2, 3, 4, 5]);
  assert.deepEqual([...server.held.values()], [0, 1, 2, 3, 4].map((i) => `{"i":${i}}`));
  assert.equal(outbox.chain, server.mark.chain);
});

test("add resolves only when the event is in the store", async () => {
  const disk = new Disk();
  const outbox = await Outbox.open(options(new Server(), disk, { send: () => new Promise(() => undefined) }));
  const seq = await outbox.add("trial", { response: "cat" });
  assert.equal(disk.kept.get(seq)?.body, '{"response":"cat"}');
});

test("lost requests and lost answers lose and double nothing", async () => {
  const server = new Server();
  const disk = new Disk();
  const outbox = await Outbox.open(options(server, disk));
  server.faults = ["lost request", "lost answer", "lost request", "lost answer"];
  for (let i = 0; i < 70; i++) await outbox.add("trial", { i });
  await outbox.flushed();
  assert.equal(server.held.size, 70);
  assert.equal(disk.kept.size, 0);
  assert.equal(outbox.chain, server.mark.chain);
});

test("a batch never holds more than 32 events", async () => {
  const server = new Server();
  const disk = new Disk();
  for (let seq = 1; seq <= 70; seq++) await disk.put({ seq, kind: "trial", time: 0, body: `{"i":${seq}}` });
  const outbox = await Outbox.open(options(server, disk));
  await outbox.flushed();
  assert.deepEqual(server.batches.map((batch) => batch.length), [32, 32, 6]);
});

test("only acknowledged events leave the store", async () => {
  const server = new Server();
  const disk = new Disk();
  const send = async (events: readonly SentEvent[]): Promise<BatchAnswer> => server.send(events.slice(0, 1));
  const stop = new Promise<void>(() => undefined);
  const outbox = await Outbox.open(options(server, disk, { send: (events) => (server.batches.length < 1 ? send(events) : stop as never) }));
  await Promise.all([outbox.add("trial", { i: 0 }), outbox.add("trial", { i: 1 }), outbox.add("trial", { i: 2 })]);
  await outbox.acknowledged(1);
  assert.deepEqual([...disk.kept.keys()], [2, 3]);
});

test("a new page goes on where the old one stopped, with unsent events of the old one", async () => {
  const server = new Server();
  const disk = new Disk();
  const first = await Outbox.open(options(server, disk));
  await first.add("consent", { accepted: true });
  await first.flushed();
  const cut = await Outbox.open(options(server, disk, { send: () => Promise.reject(new Error("offline")), wait: () => new Promise(() => undefined) }));
  await cut.add("trial", { i: 1 });
  await cut.add("trial", { i: 2 });
  const second = await Outbox.open(options(server, disk));
  assert.equal(await second.add("trial", { i: 3 }), 4);
  await second.flushed();
  assert.deepEqual([...server.held.keys()], [1, 2, 3, 4]);
  assert.equal(second.chain, server.mark.chain);
});

test("a conflict removes the refused events and stops this page", async () => {
  const server = new Server();
  const disk = new Disk();
  const outbox = await Outbox.open(options(server, disk));
  server.held.set(1, '{"other":"window"}');
  await outbox.add("trial", { i: 1 });
  await assert.rejects(outbox.flushed().then(() => Promise.reject(outbox.refused)), /another window/);
  assert.equal(disk.kept.size, 0);
  assert.equal(server.held.get(1), '{"other":"window"}');
});

test("a final refusal is not tried again and keeps the events", async () => {
  const server = new Server();
  const disk = new Disk();
  server.faults = ["refused"];
  const outbox = await Outbox.open(options(server, disk));
  await outbox.add("trial", {});
  await assert.rejects(outbox.flushed(), /gone/);
  assert.equal(server.batches.length, 1);
  assert.equal(disk.kept.size, 1);
});

test("without a store, add waits for the acknowledgement and sends one event at a time", async () => {
  const server = new Server();
  server.faults = ["lost request", "lost answer"];
  const outbox = await Outbox.open(options(server, new MemoryStore()));
  await outbox.add("trial", { i: 1 });
  assert.deepEqual([...server.held.keys()], [1]);
  await Promise.all([outbox.add("trial", { i: 2 }), outbox.add("trial", { i: 3 })]);
  assert.deepEqual(server.batches.map((batch) => batch.length), [1, 1, 1, 1, 1]);
});

test("a store that breaks in the middle falls back to waiting for the acknowledgement", async () => {
  const server = new Server();
  const disk = new Disk();
  const outbox = await Outbox.open(options(server, disk));
  disk.broken = true;
  await outbox.add("trial", { i: 1 });
  assert.equal(outbox.durable, false);
  assert.equal(server.held.size, 1);
});

test("back-off doubles up to a limit, is spread by half, and respects the server's wish", () => {
  assert.deepEqual([1, 2, 3, 4].map((failures) => backOff(failures, 1)), [500, 1000, 2000, 4000]);
  assert.equal(backOff(1, 0), 250);
  assert.equal(backOff(50, 1), 30_000);
  assert.equal(backOff(1, 1, 5000), 5000);
});

test("waking up tries again at once", async () => {
  const server = new Server();
  server.faults = ["lost request"];
  const outbox = await Outbox.open(options(server, new Disk(), { wait: () => new Promise(() => undefined) }));
  await outbox.add("trial", {});
  while (server.batches.length === 0) await Promise.resolve();
  await new Promise(setImmediate);
  outbox.wake();
  await outbox.flushed();
  assert.equal(server.held.size, 1);
});
