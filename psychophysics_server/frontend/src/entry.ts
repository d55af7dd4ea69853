/** How a person comes in: recruiter parameters become a token and leave the address bar; one window at a time. */

import { Api, ApiError } from "./api";
import type { Memory } from "./storage";
import type { SessionState } from "./wire";
import { words } from "./words";

/** Return the query of the address bar. */
export function readParameters(): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(location.search));
}

/** Take the query out of the address bar: once the token is kept, or a reload before it would not know who this is. */
function stripParameters(): void {
  if (location.search !== "") history.replaceState(null, "", location.pathname + location.hash);
}

function clientId(memory: Memory): string {
  const known = memory.get("client");
  if (known) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const fresh = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  memory.set("client", fresh);
  return fresh;
}

/** How a simulated person goes through the trials (`?simulate=visual` or `data-only`); null for a person. */
export type Simulation = "visual" | "data-only" | null;

/** Take the wish for a simulation out of the parameters; such a session counts as a bot's. */
export function takeSimulation(parameters: Record<string, string>): Simulation {
  const { simulate } = parameters;
  delete parameters.simulate;
  return simulate === "visual" || simulate === "data-only" ? simulate : null;
}

/** Make the server's client for this study; it opens the session again whenever its token is not known. */
export async function connect(study: string, memory: Memory, parameters: Record<string, string>, simulation: Simulation): Promise<Api> {
  const client = clientId(memory);
  const named = Object.keys(parameters).length > 0;
  const open = async (): Promise<string> => {
    // Whoever came by a recruiter's link would get a second session under this browser's own name.
    if (!named && memory.get("named")) throw new ApiError(401, "token", words.trouble.link);
    if (named) memory.set("named", "yes");
    const { token } = await api.open(study, client, parameters, simulation ? "bot" : "live");
    memory.set("token", token);
    return token;
  };
  const api: Api = new Api(open);
  // Parameters name a person, who may be another one than the last; without them the token says who it is.
  const token = !named && !simulation ? memory.get("token") : null;
  api.use(token ?? (await open()));
  stripParameters();
  return api;
}

/** Hold the session for this window alone, waiting for another one to close; browsers without locks skip this. */
export async function alone(session: string, onWait: () => void): Promise<boolean> {
  if (!("locks" in navigator)) return true;
  const name = `limen:${session}`;
  const held = new Promise<never>(() => undefined);
  const atOnce = await new Promise<boolean>((resolve) => {
    void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock === null ? undefined : held;
    });
  });
  if (atOnce) return true;
  onWait();
  await new Promise<void>((resolve) => {
    void navigator.locks.request(name, () => {
      resolve();
      return held;
    });
  });
  return false;
}

/** Read the session as the only window that goes on with it. */
export async function enter(api: Api, onWait: () => void): Promise<SessionState> {
  const state = await api.session();
  return (await alone(state.session, onWait)) ? state : api.session();
}
