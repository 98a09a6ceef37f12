// Connections that the worker did not let in: a browser keeps from its page why.

import { seconds } from "./format.js";
import { getJson } from "./settings.js";
import { sleep } from "./sleep.js";

/** The worker remembers one once the other side is gone, which takes it a second at most. */
const LOOKS = 5;
const LOOK_MS = 300;
const SHOWN = 8;

/**
 * Why the worker refused the connection that this page has just tried.
 *
 * @param {string} url where it connected to.
 * @param {number} since `performance.now()` of before.
 * @returns {Promise<{status: number | null, detail: string} | null>} null when the worker has
 *   not refused it, or cannot be asked.
 */
export async function whyRefused(url, since) {
  for (let look = 0; look < LOOKS; look++) {
    try {
      // Who asks has something to tell first.
      const { refused } = await getJson("/refused", { mayReload: false });
      const within = (performance.now() - since) / 1_000;
      const ours = refused.find(({ is_yours, ago_s }) => is_yours && ago_s <= within);
      if (ours !== undefined) return ours;
    } catch (error) {
      // Where page and socket are one port, this was refused as that was.
      const isSame = new URL(url).host === location.host;
      return isSame && error.status ? { status: error.status, detail: error.message } : null;
    }
    await sleep(LOOK_MS);
  }
  return null;
}

/** How it was answered. */
const answer = (status) => (status === null ? "no TLS" : `HTTP ${status}`);

/** List them. */
export function showRefused(list, refused) {
  const rows = refused.slice(0, SHOWN).map(({ status, detail, address, ago_s }) => {
    const row = document.createElement("li");
    const badge = document.createElement("span");
    [badge.className, badge.textContent] = ["badge", answer(status)];
    badge.dataset.kind = "aborted";
    const time = document.createElement("span");
    time.className = "session";
    time.textContent = `${address ?? "unknown address"}, ${seconds(ago_s * 1_000)} before`;
    row.append(badge, detail, " ", time);
    return row;
  });
  list.replaceChildren(...rows);
}
