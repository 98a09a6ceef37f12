// How far a rig's clock is from the worker's, in words.

import { count } from "./format.js";

/**
 * Clocks kept by NTP agree within tens of milliseconds; one that is surely further off than
 * this is not kept.
 */
const OFF_MS = 1_000;
/** From here on it is rather the time zone: those differ by quarters of an hour. */
const ZONE_MS = 895_000;

/** For distances below the first number: what one unit has in ms, its decimals, its name. */
const UNITS = [
  [9.95, 1, 1, "ms"],
  [999.5, 1, 0, "ms"],
  [119_950, 1_000, 1, "s"],
  [7_197_000, 60_000, 1, "min"],
  [172_620_000, 3_600_000, 1, "h"],
  [Infinity, 86_400_000, 0, "days"],
];

/** Two distances in the unit that suits the larger; one when they read the same. */
function span(least, most) {
  const [, unit, decimals, name] = UNITS.find(([below]) => most < below);
  const read = (ms) => (decimals ? (ms / unit).toFixed(decimals) : count(Math.round(ms / unit)));
  const [from, to] = [read(least), read(most)];
  return from === to ? `${to} ${name}` : `${from} to ${to} ${name}`;
}

/** What is certain: at least so much apart, 0 when they may agree. */
function apart(min, max) {
  return Math.max(min, max === null ? 0 : -max, 0);
}

/**
 * Put an offset into words.
 *
 * @param {{clock_offset_min_ms?: number | null, clock_offset_max_ms?: number | null}} told a
 *   capture or a terminal. Positive: the rig is ahead. No maximum: no ping was answered.
 * @returns {{text: string, advice: string | null}} `advice` when the clock is surely wrong.
 */
export function rigClock({ clock_offset_min_ms: min = null, clock_offset_max_ms: max = null }) {
  if (min === null) return { text: "–", advice: null };
  let text;
  if (max === null) {
    text = min > 0 ? `at least ${span(min, min)} ahead` : `at most ${span(-min, -min)} behind`;
  } else if (min > 0) {
    text = `${span(min, max)} ahead`;
  } else if (max < 0) {
    text = `${span(-max, -min)} behind`;
  } else {
    const far = Math.max(-min, max);
    text = `within ±${span(far, far)}`;
  }
  const surely = apart(min, max);
  const remedy = surely < ZONE_MS ? "set it by NTP" : "check it and its time zone";
  return { text, advice: surely > OFF_MS ? remedy : null };
}
