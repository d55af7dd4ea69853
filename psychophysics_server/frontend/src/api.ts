/** The study server's endpoints, with the bearer token in a header and every failure as one kind of error. */

import type { BatchAnswer, Opened, Outcome, OwnScore, Recognition, Release, SentEvent, SessionState } from "./wire";

/** A refusal or no answer at all; `final` means that the same request can never succeed. */
export class ApiError extends Error {
  readonly final: boolean;

  constructor(
    readonly status: number,
    readonly slug: string,
    message: string,
    readonly data: Record<string, unknown> = {},
    readonly retryAfterMs = 0,
  ) {
    super(message);
    this.final = [400, 401, 403, 404, 410, 413].includes(status);
  }
}

const TIMEOUT_MS = 20_000;

async function failure(response: Response): Promise<ApiError> {
  const data = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const seconds = Number(response.headers.get("Retry-After"));
  const message = typeof data.message === "string" ? data.message : `The server answered with status ${response.status}.`;
  return new ApiError(response.status, String(data.error ?? ""), message, data, seconds > 0 ? 1000 * seconds : 0);
}

/** Talks to the server as one session. */
export class Api {
  private token: string | null = null;

  /** `renew` gets another token when the server no longer knows this one. */
  constructor(private readonly renew: () => Promise<string | null>) {}

  use(token: string): void {
    this.token = token;
  }

  open(study: string, client: string, parameters: Record<string, string>, source: "live" | "bot"): Promise<Opened> {
    return this.once("POST", "/api/sessions", { study, client_id: client, parameters, source }) as Promise<Opened>;
  }

  session(): Promise<SessionState> {
    return this.call("GET", "/api/session") as Promise<SessionState>;
  }

  async send(events: readonly SentEvent[]): Promise<BatchAnswer> {
    try {
      return (await this.call("POST", "/api/events", { events })) as BatchAnswer;
    } catch (error) {
      if (error instanceof ApiError && error.slug === "conflict") return error.data as unknown as BatchAnswer;
      throw error;
    }
  }

  /** Ask the server's network what it recognises in these boxes. */
  ask(trialId: string, boxes: readonly [number, number][]): Promise<Recognition> {
    return this.call("POST", "/api/oracle", { trial_id: trialId, boxes }) as Promise<Recognition>;
  }

  /** What a trial tells this person of their own answers; refused until the server holds all before it. */
  score(trialId: string): Promise<OwnScore> {
    return this.call("POST", "/api/score", { trial_id: trialId }) as Promise<OwnScore>;
  }

  /** Last words of a closing page; nothing relies on them. */
  sendLate(events: readonly SentEvent[]): void {
    if (events.length === 0) return;
    this.fetch("POST", "/api/events", { events }, { keepalive: true }).catch(() => undefined);
  }

  complete(lastSeq: number, chain: string): Promise<Release> {
    return this.call("POST", "/api/complete", { last_seq: lastSeq, chain }) as Promise<Release>;
  }

  manual(reason: string): Promise<Release> {
    return this.call("POST", "/api/manual", { reason }) as Promise<Release>;
  }

  /** How a session ended without its trials, with the code that is due. */
  outcome(): Promise<Outcome> {
    return this.call("POST", "/api/outcome", {}) as Promise<Outcome>;
  }

  /** The person cannot give the study the screen it asks for. */
  unsuitable(): Promise<Outcome> {
    return this.call("POST", "/api/unsuitable", {}) as Promise<Outcome>;
  }

  withdraw(reason: string): Promise<Outcome> {
    return this.call("POST", "/api/withdraw", { reason }) as Promise<Outcome>;
  }

  private async call(method: string, path: string, body?: unknown): Promise<unknown> {
    try {
      return await this.once(method, path, body);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      const token = await this.renew();
      if (token === null) throw error;
      this.token = token;
      return this.once(method, path, body);
    }
  }

  private async once(method: string, path: string, body?: unknown): Promise<unknown> {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), TIMEOUT_MS);
    try {
      const response = await this.fetch(method, path, body, { signal: stop.signal });
      if (!response.ok) throw await failure(response);
      return await response.json();
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw new ApiError(0, "network", "The server cannot be reached.");
    } finally {
      clearTimeout(timer);
    }
  }

  private fetch(method: string, path: string, body: unknown, extra: RequestInit): Promise<Response> {
    const headers: Record<string, string> = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (this.token !== null) headers.Authorization = `Bearer ${this.token}`;
    const text = body === undefined ? undefined : JSON.stringify(body);
    return fetch(path, { method, headers, body: text, cache: "no-store", credentials: "omit", ...extra });
  }
}
