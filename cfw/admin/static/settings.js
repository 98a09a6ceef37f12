// What `GET /info` says about the worker.

import { language } from "./words.js";

const ANSWER_MS = 5_000;

/**
 * JSON from this worker; rejects when it does not answer with it in time.
 *
 * @param {string} path
 * @param {{mayReload?: boolean}} options whether the page is loaded anew, to sign in, when it is
 *   not known any more.
 */
export async function getJson(path, { mayReload = true } = {}) {
  const answer = await fetch(path, {
    headers: { "accept-language": language },
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  // The cookie has ended, with the worker or its token: loading the page asks for the token.
  if (answer.status === 401 && mayReload) location.reload();
  if (!answer.ok) throw Object.assign(new Error(await refusal(answer)), { status: answer.status });
  return answer.json();
}

/** The worker's own words, of an application or of a port that has no room. */
async function refusal(answer) {
  const text = (await answer.text()).trim();
  try {
    return JSON.parse(text).error;
  } catch {
    return text.slice(0, 200) || answer.statusText;
  }
}

/**
 * Have something done by this worker.
 *
 * @param {string} method of HTTP.
 * @param {object} [body] sent as JSON.
 * @param {string} [token] shown to it.
 * @returns {Promise<object|null>} what it answers; rejects when it will not, with its own words
 *   and `status`.
 */
export async function ask(method, path, body, token) {
  const answer = await fetch(path, {
    method,
    headers: token ? { authorization: `Bearer ${token}` } : {},
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  if (!answer.ok) throw Object.assign(new Error(await refusal(answer)), { status: answer.status });
  return answer.status === 204 ? null : answer.json();
}

export async function getInfo() {
  const info = await getJson("/info");
  return { ...info, capture_url: reachable(info.capture_url) };
}

/**
 * A worker that listens everywhere is reached under the name that this page was; one that
 * names a path only, where this page was loaded from.
 */
function reachable(url) {
  const parts = new URL(url, location.href.replace(/^http/, "ws"));
  if (parts.hostname === "0.0.0.0" || parts.hostname === "[::]") {
    parts.hostname = location.hostname;
  }
  return parts.href;
}
