/** The outbox's storage in IndexedDB, with writes that wait for the disk; and what a browser remembers of a study. */

import { MemoryStore, type Store } from "./outbox";
import type { SentEvent } from "./wire";

const DATABASE = "limen";

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function openDatabase(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("events", { keyPath: ["session", "seq"] });
  };
  return settled(request);
}

class IndexedStore implements Store {
  readonly durable = true;

  constructor(
    private readonly database: IDBDatabase,
    private readonly session: string,
  ) {}

  async load(): Promise<SentEvent[]> {
    const events = this.database.transaction("events", "readonly").objectStore("events");
    const rows = await settled<SentEvent[]>(events.getAll(this.range()));
    return rows.map(({ seq, kind, time, body }) => ({ seq, kind, time, body }));
  }

  put(event: SentEvent): Promise<void> {
    return this.change((events) => events.put({ session: this.session, ...event }));
  }

  remove(seqs: readonly number[]): Promise<void> {
    return this.change((events) => seqs.forEach((seq) => events.delete([this.session, seq])));
  }

  clear(): Promise<void> {
    return this.change((events) => events.delete(this.range()));
  }

  private range(): IDBKeyRange {
    return IDBKeyRange.bound([this.session, 0], [this.session, Infinity]);
  }

  private change(apply: (events: IDBObjectStore) => unknown): Promise<void> {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction("events", "readwrite", { durability: "strict" });
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new Error("the browser's storage refused"));
      apply(transaction.objectStore("events"));
    });
  }
}

/** Open the durable store of a session, or the memory fallback where the browser allows none. */
export async function openStore(session: string): Promise<Store> {
  try {
    return new IndexedStore(await openDatabase(), session);
  } catch {
    return new MemoryStore();
  }
}

/** `client`: who this browser is; `token`: the session's; `named`: set once a link's parameters said who the person is; `card`: the measured screen. */
export type Remembered = "client" | "token" | "named" | "card";

/** Values kept under one study's name; a browser that forbids it just remembers nothing. */
export class Memory {
  constructor(private readonly study: string) {}

  get(name: Remembered): string | null {
    try {
      return localStorage.getItem(`limen:${this.study}:${name}`);
    } catch {
      return null;
    }
  }

  set(name: Remembered, value: string | null): void {
    try {
      if (value === null) localStorage.removeItem(`limen:${this.study}:${name}`);
      else localStorage.setItem(`limen:${this.study}:${name}`, value);
    } catch {
      return;
    }
  }
}
