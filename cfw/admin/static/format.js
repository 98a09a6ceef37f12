// Numbers and times as people read them, in the language of the page.

import { count, language, say } from "./words.js";

export { count };

const ISO =
  /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d)(?::?(\d\d))?)?$/;

/** Milliseconds since 1970 UTC of a timestamp of the protocol, to a fraction of a microsecond. */
export function instant(text) {
  const parts = ISO.exec(text);
  if (parts === null) return NaN;
  const [, year, month, day, hour, minute, second, fraction, sign, offHour, offMinute] = parts;
  // Not Date.parse: it reads a time without an offset as local, and cuts at milliseconds.
  const utc = Date.UTC(year, month - 1, day, hour, minute, second);
  const offset = sign ? (offHour * 60 + Number(offMinute ?? 0)) * 60_000 : 0;
  return utc - (sign === "-" ? -offset : offset) + Number(`0.${fraction ?? 0}`) * 1_000;
}

/** With exactly so many digits behind the point. */
const DIGITS = [0, 1, 2].map((digits) => {
  const fixed = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, { ...fixed, useGrouping: false });
});
const fixed = (n, digits) => DIGITS[digits].format(n);

export const rate = (n) => fixed(n, n < 99.95 ? 1 : 0);

export function size(bytes) {
  if (bytes < 1_000) return say("byte", { number: bytes });
  if (bytes < 999_500) return say("kilobyte", { number: Math.round(bytes / 1_000) });
  return say("megabyte", { number: fixed(bytes / 1e6, bytes < 9.995e6 ? 2 : 1) });
}

export const pixels = ({ width, height }) => `${width} × ${height}`;

/** A distance of two clocks; negative when the rig's is ahead. */
export function delay(ms) {
  if (!Number.isFinite(ms)) return "–";
  const minus = ms < -0.05 ? "−" : "";
  const far = Math.abs(ms);
  if (far < 9.95) return `${minus}${far.toFixed(1)} ms`;
  if (far < 999.5) return `${minus}${Math.round(far)} ms`;
  if (far < 99_500) return `${minus}${(far / 1_000).toFixed(1)} s`;
  return `${minus}${count(Math.round(far / 1_000))} s`;
}

export const seconds = (ms) => say("second", { number: fixed(Math.max(0, ms) / 1_000, 1) });

/** The time of day here, where the page is read. */
export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
