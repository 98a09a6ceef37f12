// What `GET /info` says about the worker.

/** JSON from this worker; rejects when it does not answer with it in time. */
export async function getJson(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(5_000) });
  // The cookie has ended, with the worker or its token: loading the page asks for the token.
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(`${path}: HTTP ${answer.status}`);
  return answer.json();
}

export async function getInfo() {
  const info = await getJson("/info");
  return { ...info, capture_url: reachable(info.capture_url) };
}

/** A worker that listens everywhere is reached under the name that this page was. */
function reachable(url) {
  const parts = new URL(url);
  if (parts.hostname === "0.0.0.0" || parts.hostname === "[::]") {
    parts.hostname = location.hostname;
  }
  return parts.href;
}
