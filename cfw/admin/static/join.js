// Who was invited is signed in by the link: it is good once, what comes of it until it ends.

import { ask } from "./settings.js";

const KEPT = "pass";
/** Until the worker has said yes or no to it: a reload is to find one that it has not heard. */
const SECRET = "invitation";
/** It was no invitation, or lets nobody in: showing it again changes nothing. */
const NO = [400, 403];

/** In the fragment, which browsers send to nobody; nor does it stay in the address or history. */
function takeSecret() {
  const secret = new URLSearchParams(location.hash.slice(1)).get("i");
  if (secret === null) return sessionStorage.getItem(SECRET);
  sessionStorage.setItem(SECRET, secret);
  history.replaceState(null, "", location.pathname);
  return secret;
}

/** A page that is only being looked at before it is opened must use nothing up. */
async function seen() {
  while (document.visibilityState !== "visible") {
    await new Promise((resolve) =>
      document.addEventListener("visibilitychange", resolve, { once: true }),
    );
  }
}

/** Who is signed in by an invitation still, for as long as this tab is open. */
async function again() {
  const token = sessionStorage.getItem(KEPT);
  if (token === null) return null;
  try {
    return { ...(await ask("GET", "/joined", undefined, token)), token };
  } catch (error) {
    if (error.status === 401) sessionStorage.removeItem(KEPT);
    throw error;
  }
}

/** Use an invitation up. */
async function use(secret) {
  try {
    const joined = await ask("POST", "/join", { invitation: secret });
    sessionStorage.setItem(KEPT, joined.token);
    sessionStorage.removeItem(SECRET);
    return joined;
  } catch (error) {
    if (NO.includes(error.status)) sessionStorage.removeItem(SECRET);
    throw error;
  }
}

/**
 * Sign in with the invitation of this page's address, or with the one before.
 *
 * @returns {Promise<{user_id: string, session_id: string, token: string}|null>} who films; null
 *   without an invitation. Rejects with the worker's own words when it lets nobody in.
 */
export async function join() {
  const secret = takeSecret();
  await seen();
  return secret === null ? again() : use(secret);
}

// Another code that is opened in this tab changes nothing but the fragment.
addEventListener("hashchange", () => location.hash.startsWith("#i=") && location.reload());
