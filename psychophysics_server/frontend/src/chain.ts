/** The hash chain over the bodies of a session's events, as docs/wire.md defines it. */

import { sha256 } from "./sha256";

/** Return the chain after one more event: sha256 of the chain so far joined with the body's own sha256. */
export function link(chain: string, body: string): string {
  return sha256(chain + sha256(body));
}
