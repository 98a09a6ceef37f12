// Every way a capture can fail: what it means and what to do, in the words of `cfw explain`.

import { getJson } from "./settings.js";
import { say } from "./words.js";

/** What only a browser sees: the worker says nothing, and so cannot explain it either. */
const SILENCE = {
  unreachable: { meaning: say("unreachable"), rig: say("unreachable_rig") },
  connection_lost: { meaning: say("connection_lost"), rig: say("connection_lost_rig") },
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

/** Whether it is none of the worker's: it has said nothing. */
export const isSilent = (code) => code in SILENCE;

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
  const unknown = { rig: say("unknown_code_rig", { code }) };
  const { rig, operator } = special(code, detail) ?? entry(code) ?? unknown;
  const lines = [say("to_do", { remedy: rig })];
  if (operator) lines.push(say("to_do_operator", { remedy: operator }));
  return lines;
}
