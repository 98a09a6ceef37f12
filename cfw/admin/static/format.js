// Numbers and times as people read them.

const ISO =
  /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d)(?::?(\d\d))?)?$/;
const GROUPED = new Intl.NumberFormat("en");

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

export const count = (n) => GROUPED.format(n);

export const rate = (n) => n.toFixed(n < 99.95 ? 1 : 0);

export function size(bytes) {
  if (bytes < 1_000) return `${bytes} B`;
  if (bytes < 999_500) return `${Math.round(bytes / 1_000)} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 9.995e6 ? 2 : 1)} MB`;
}

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

export const seconds = (ms) => `${(Math.max(0, ms) / 1_000).toFixed(1)} s`;

/** The time of day here, where the page is read. */
export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
