// Which losses a film survives, and how long it waits before it opens the next capture. The rules
// are those of `cfw send --retry`.

import { whyRefused } from "./refused.js";
import { sleep } from "./sleep.js";

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 5_000;
/** A capture that lasted for so long shows that the trouble before it was over. */
const PROVEN_MS = 5_000;
/** What passes by itself. A session that is closed and a limit are there again in the next one. */
const PASSING = new Set([
  "connection_lost",
  "forward_failed",
  "internal_error",
  "limit_forward_buffer_exceeded",
  "server_at_capacity",
  "server_shutdown",
  "unreachable",
]);
/** Nobody is let in there, or it is no worker. */
const LASTING = new Set([400, 401, 403, 404, 426]);

/** Whether the next capture may fare better. */
export const passes = ({ code }) => PASSING.has(code);

/** Whether the worker has refused the handshake at `url`, tried since then, and will again. */
export async function isRefused(url, since) {
  const refused = await whyRefused(url, since);
  return refused !== null && LASTING.has(refused.status);
}

export class Backoff {
  #waitMs = 0;

  /** A capture was lost after so many ms, or could not be opened. */
  failed(lastedMs = 0) {
    if (lastedMs >= PROVEN_MS) this.#waitMs = 0;
    this.#waitMs = Math.min(Math.max(FIRST_WAIT_MS, 2 * this.#waitMs), LONGEST_WAIT_MS);
  }

  succeeded() {
    this.#waitMs = 0;
  }

  /** Wait before the next attempt: spread, so that not all who lost a worker come at once. */
  pause() {
    const ms = this.#waitMs * (0.5 + Math.random() / 2);
    return ms > 0 ? sleep(ms) : Promise.resolve();
  }
}
