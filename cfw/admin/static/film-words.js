// What the page that films says: of the camera, while it films, and of what came of it.

import { count, plural, rate, seconds, size } from "./format.js";

/** From here on so much is missing that something else should be chosen. */
const MANY = 0.1;
/** A camera is slower than asked, not just uncertain, that gives so much less for so long. */
const SLOW = 0.05;
const LEAST_MS = 1_000;
const MOST_NAMED = 3;

const CAMERA_PROBLEMS = {
  NotAllowedError: "The browser may not use the camera. Allow it beside the address, then try again.",
  NotFoundError: "This device has no camera that the browser can see.",
  OverconstrainedError: "The camera that was chosen is not there any more. Choose another.",
  NotReadableError: "Another program uses the camera. Close it, then try again.",
};

/** Why there is no picture, while there is none. */
const NOW = {
  still: "No new picture comes from the camera. Nothing is sent meanwhile.",
  muted: "The system, or another program, keeps the camera's pictures. Nothing is sent meanwhile.",
  asleep: "This device was asleep. Nothing was sent meanwhile.",
  hidden: "This page is not in front. Nothing is sent meanwhile.",
};

const PAUSED = {
  still: (time) => `For ${time} the camera gave no new picture.`,
  muted: (time) => `For ${time} the system, or another program, kept the camera's pictures.`,
  asleep: (time) => `For ${time} this device was asleep.`,
  hidden: (time) => `For ${time} this page was not in front: browsers give it no pictures then.`,
};

const were = (n, what) => `${plural(n, "picture was", "pictures were")} ${what}`;
const SKIPPED = {
  page: (n) => were(n, "missed: this device was busy with something else."),
  encoder: (n) => were(n, "skipped: this device makes JPEGs more slowly than the camera pictures."),
  line: (n) => were(n, "skipped: the network was slower than the camera."),
  size: (n) => were(n, "skipped: they had more bytes than the worker takes in a frame."),
};

/** A receipt comes once; who was stopped meanwhile has not heard it. */
const UNCONFIRMED =
  "The browser stopped this page before it had every receipt. Whoever runs the worker sees on " +
  "the live page whether the others arrived.";

export const cameraProblem = (error) =>
  CAMERA_PROBLEMS[error.name] ?? `The camera does not start: ${error.message}`;

/** What a capture may have at this worker. */
export function limitsText({ limits }) {
  const { max_duration_s, max_frames, max_total_bytes } = limits;
  const { max_width, max_height, max_pixels } = limits;
  const isLess = max_pixels < max_width * max_height;
  const pixels = isLess ? ` and ${count(max_pixels)} pixels` : "";
  return (
    `A capture at this worker has up to ${max_duration_s} s, ${plural(max_frames, "frame")} and ` +
    `${size(max_total_bytes)}; pictures up to ${max_width} × ${max_height}${pixels}. ` +
    "A longer film goes on in the next capture, without a gap."
  );
}

/** What the camera gives, and what becomes of it. */
export function cameraText(picture, fps, frame) {
  const often = fps === undefined ? "" : ` at ${rate(fps)} pictures a second`;
  const isSame = picture.width === frame.width && picture.height === frame.height;
  const sent = isSame ? "" : `, sent as ${frame.width} × ${frame.height}`;
  return `The camera gives ${picture.width} × ${picture.height}${often}${sent}.`;
}

/** How far a film is: the time left, what was sent, and what has to be known now. */
export function progressText(state, durationMs) {
  const { framesSent, bytesSent, captures, skipped, lastedMs, cause, isScreenKept } = state;
  const lost = skipped ? `, ${count(skipped)} skipped` : "";
  const which = captures > 1 ? `, capture ${count(captures)}` : "";
  const screen = "This browser cannot keep the screen on; if it goes off, filming pauses.";
  return {
    left: `${seconds(durationMs - lastedMs)} left`,
    sent: `${plural(framesSent, "frame")}, ${size(bytesSent)} sent${lost}${which}`,
    now: NOW[cause] ?? (isScreenKept ? "" : screen),
  };
}

/** Times without pictures, added up by their reason. */
function pausesText(pauses) {
  const byCause = new Map();
  for (const { cause, ms } of pauses) byCause.set(cause, [...(byCause.get(cause) ?? []), ms]);
  return [...byCause].map(([cause, times]) => {
    const sum = seconds(times.reduce((all, ms) => all + ms, 0));
    return PAUSED[cause](times.length > 1 ? `${sum} in ${count(times.length)} pauses` : sum);
  });
}

function skippedText(skipped, framesSent) {
  const lines = Object.entries(SKIPPED)
    .filter(([reason]) => skipped[reason] > 0)
    .map(([reason, say]) => say(skipped[reason]));
  const all = Object.values(skipped).reduce((sum, n) => sum + n, 0);
  if (all > MANY * framesSent) lines.push("Choose a smaller picture or fewer frames a second.");
  return lines;
}

function receiptText({ framesSent, receipt, parts }) {
  const { frames, bytes } = receipt;
  const where = parts.length > 1 ? `, in ${plural(parts.length, "capture")},` : "";
  return frames === framesSent
    ? `The worker took ${plural(frames, "frame")}, ${size(bytes)}${where} and passed on every one.`
    : `The worker confirmed ${count(frames)} of ${plural(framesSent, "frame")}.`;
}

const isSlow = ({ cameraFps, fps, filmedMs }) =>
  filmedMs >= LEAST_MS && cameraFps < (1 - SLOW) * fps;

/** What is missing in a film that is whole as far as it was sent, in lines. */
function missingText(outcome) {
  const lines = pausesText(outcome.pauses);
  lines.push(...skippedText(outcome.skipped, outcome.framesSent));
  if (isSlow(outcome)) {
    const { cameraFps, fps } = outcome;
    lines.push(
      `${rate(cameraFps)} pictures a second came from the camera; ${count(fps)} were asked for. ` +
        "In little light cameras take fewer.",
    );
  }
  return lines;
}

function missingTitle({ pauses, skipped, end }) {
  if (end === "camera") return "The camera went away";
  if (pauses.length > 0) return "Filmed with a pause";
  if (Object.values(skipped).some((n) => n > 0)) return "Filmed with pictures missing";
  return "The camera was slower than asked";
}

/** Each by its name, or the first and the last of many: they are numbered. */
function namesOf(parts) {
  const names = parts.map(({ captureId }) => captureId);
  return names.length > MOST_NAMED ? `${names[0]} to ${names.at(-1)}` : names.join(", ");
}

/** The numbers of a film, by name. */
export function factsOf({ receipt, parts, framesSent, filmedMs, cameraFps, fps, skipped }) {
  const all = Object.values(skipped).reduce((sum, n) => sum + n, 0);
  return [
    ["Frames", framesSent === receipt.frames ? count(framesSent) : `${count(receipt.frames)} of ${count(framesSent)}`],
    ["Bytes", count(receipt.bytes)],
    ["Skipped", all ? count(all) : null],
    ["Pictures a second", filmedMs > 0 ? `${rate(cameraFps)} of ${count(fps)}` : null],
    [parts.length > 1 ? "Captures" : "Capture", namesOf(parts)],
  ];
}

/**
 * What came of a film that no worker has broken off.
 *
 * @param {Outcome} outcome of `Shoot.run`, without a failure.
 * @returns {{kind: "good" | "warn" | "bad", title: string, lines: string[]}} good only when
 *   nothing is missing.
 */
export function resultText(outcome) {
  const missing = missingText(outcome);
  if (outcome.end === "camera") {
    missing.unshift("The camera was pulled out, or taken from this page; the film ends there.");
  }
  if (outcome.framesSent === 0) {
    const lines = missing.length ? missing : ["No picture came from the camera."];
    return { kind: "bad", title: "Nothing was filmed", lines };
  }
  const lines = [receiptText(outcome), ...missing];
  if (outcome.receipt.frames !== outcome.framesSent) {
    if (outcome.framesUnconfirmed > 0) lines.splice(1, 0, UNCONFIRMED);
    return { kind: "bad", title: "Film not confirmed", lines };
  }
  if (missing.length > 0) return { kind: "warn", title: missingTitle(outcome), lines };
  const title = outcome.parts.length > 1 ? "Film complete" : "Capture complete";
  return { kind: "good", title, lines };
}

/** What of a film that was broken off is safe, and what else happened to it. */
export function rescuedText(outcome) {
  const safe = outcome.receipt.frames > 0 ? [receiptText(outcome)] : [];
  return [...safe, ...missingText(outcome)];
}
