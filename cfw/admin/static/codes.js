// Every way a capture can fail: what it means and what to do, in the words of `cfw explain`.

import { getJson } from "./settings.js";

/** What only a browser sees: the worker says nothing, and so cannot explain it either. */
const SILENCE = {
  unreachable: {
    meaning: "No connection to the worker.",
    rig: "Check that the worker runs and can be reached at its capture address from this device.",
  },
  connection_lost: {
    meaning: "The connection broke off.",
    rig: "Check the network, then film again. What arrived before is listed on the live page.",
  },
};

let told = {};

/** Ask the worker for its texts; without an answer each code still names its command. */
export async function learnCodes() {
  try {
    told = await getJson("/codes");
  } catch {
    // Those of before are as good.
  }
}

const entry = (code) => SILENCE[code] ?? told[code];

/** What a code means with this detail, where that says more than the code; or undefined. */
const special = (code, detail) => entry(code)?.cases?.[detail];

/** What to call it in a word or two: the code, or what it is with this detail. */
export const label = (code, detail) => special(code, detail)?.label ?? code;

/** What it means, to stand as a heading or within a sentence. */
export const meaning = (code, detail) =>
  (special(code, detail) ?? entry(code))?.meaning.replace(/\.$/, "") ?? code;

/** What else there is to say of it. */
export const details = (code, detail) => (special(code, detail) ? "" : (detail ?? ""));

/** What to do about it, one line for each who can do something. */
export function remedies(code, detail) {
  const { rig, operator } = special(code, detail) ?? entry(code) ?? { rig: `the command cfw explain ${code} says it.` };
  const lines = [`What to do: ${rig}`];
  if (operator) lines.push(`Whoever runs the worker: ${operator}`);
  return lines;
}
