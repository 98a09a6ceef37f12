// What the page that films says: of the camera, while it films, and of what came of it.

import { isSilent, meaning, remedies } from "./codes.js";
import { count, pixels, rate, seconds, size } from "./format.js";
import { known, quoted, say } from "./words.js";

/** From here on so much is missing that something else should be chosen. */
const MANY = 0.1;
/** A camera is slower than asked, not just uncertain, that gives so much less for so long. */
const SLOW = 0.05;
const LEAST_MS = 1_000;
const MOST_NAMED = 3;

const CAMERA_PROBLEMS = {
  NotAllowedError: "camera_not_allowed",
  NotFoundError: "camera_not_found",
  OverconstrainedError: "camera_gone",
  NotReadableError: "camera_in_use",
};
/** In this order; of each as many as the page has counted. */
const SKIPPED = ["page", "encoder", "line", "lost", "size"];
/** Less of them would come through with a smaller picture, or fewer. */
const BY_SIZE = ["page", "encoder", "line", "size"];
/** What the worker calls it: after a restart it knows none, and says only how to invite. */
const INVITATION_ENDED = "this invitation has ended, or was taken back";
const REFUSALS = { 401: "refused_401", 403: "refused_403", 503: "refused_503" };

/** What the matter is with a camera: a line, and what the browser says where nothing fits. */
export function cameraProblem({ name, message }) {
  const fits = CAMERA_PROBLEMS[name];
  return fits ? [say(fits)] : [say("camera_fails"), quoted(message)];
}

/**
 * What an answer means that lets nobody in.
 *
 * @param {{status: number | null, detail: string}} refused as of `whyRefused`.
 * @param {boolean} isInvited whether who films came with an invitation, and so without a token.
 * @returns {{lines: string[], said: string | Node | null}} in the worker's own words, `said`,
 *   where they are for who films.
 */
export function refusalText({ status, detail }, isInvited) {
  if (status === 401 && isInvited) {
    return { lines: [say("not_let_in", { why: known(INVITATION_ENDED) })], said: null };
  }
  return { lines: status in REFUSALS ? [say(REFUSALS[status])] : [], said: quoted(detail) };
}

/** What a capture may have at this worker. */
export function limitsText({ limits }) {
  const { max_duration_s, max_frames, max_total_bytes, max_pixels } = limits;
  const [width, height] = [limits.max_width, limits.max_height];
  const isLess = max_pixels < width * height;
  return say(isLess ? "limits_pixels" : "limits", {
    time: say("second", { number: max_duration_s }),
    frames: say("frames", { n: max_frames }),
    bytes: size(max_total_bytes),
    size: pixels({ width, height }),
    pixels: max_pixels,
  });
}

/** What the camera gives, and what becomes of it. */
export function cameraText(picture, fps, frame) {
  const gives = { size: pixels(picture) };
  const lines = [
    fps === undefined
      ? say("camera_gives", gives)
      : say("camera_gives_at", { ...gives, rate: rate(fps) }),
  ];
  const isSame = picture.width === frame.width && picture.height === frame.height;
  if (!isSame) lines.push(say("camera_sent", { size: pixels(frame) }));
  return lines.join(" ");
}

/** How far a film is: the time left, what was sent, and what has to be known now. */
export function progressText(state, durationMs) {
  const { framesSent, bytesSent, captures, skipped, lastedMs, cause, isScreenKept } = state;
  const sent = [
    say("sent", { frames: say("frames", { n: framesSent }), bytes: size(bytesSent) }),
    ...(skipped ? [say("skipped", { n: skipped })] : []),
    ...(captures > 1 ? [say("capture_number", { number: captures })] : []),
  ];
  const screen = isScreenKept ? "" : say("screen");
  return {
    left: say("left", { time: seconds(durationMs - lastedMs) }),
    sent: sent.join(", "),
    now: cause === null ? screen : say(`now_${cause}`),
  };
}

/** So long together, in so many pieces. */
function timeText(ms, n) {
  const time = seconds(ms);
  return n > 1 ? say("in_pauses", { time, n }) : time;
}

/** Times without pictures, added up by their reason. */
function pausesText(pauses) {
  const byCause = new Map();
  for (const { cause, ms } of pauses) byCause.set(cause, [...(byCause.get(cause) ?? []), ms]);
  return [...byCause].map(([cause, times]) => {
    const sum = times.reduce((all, ms) => all + ms, 0);
    return say(`paused_${cause}`, { time: timeText(sum, times.length) });
  });
}

function skippedText(skipped, framesSent) {
  const lines = SKIPPED.filter((reason) => skipped[reason] > 0).map((reason) =>
    say(`skipped_${reason}`, { n: skipped[reason] }),
  );
  const many = BY_SIZE.reduce((sum, reason) => sum + skipped[reason], 0);
  if (many > MANY * framesSent) lines.push(say("choose_less"));
  return lines;
}

function receiptText({ framesSent, receipt, parts }) {
  const frames = say("frames", { n: framesSent });
  if (receipt.frames !== framesSent) {
    return say("receipt_less", { confirmed: receipt.frames, frames });
  }
  const bytes = size(receipt.bytes);
  if (parts.length < 2) return say("receipt", { frames, bytes });
  return say("receipt_parts", { frames, bytes, captures: say("captures", { n: parts.length }) });
}

const isSlow = ({ cameraFps, fps, filmedMs }) =>
  filmedMs >= LEAST_MS && cameraFps < (1 - SLOW) * fps;

/** Why the worker broke captures off, each reason once, in lines. */
function breaksText(breaks) {
  const told = new Map(breaks.map((failure) => [failure.code, failure]));
  return [...told.values()]
    .filter(({ code }) => !isSilent(code))
    .flatMap(({ code, detail }) => [`${meaning(code, detail)}.`, ...remedies(code, detail)]);
}

/** What is missing in a film that is whole as far as it was sent, in lines. */
function missingText(outcome) {
  const { times, ms } = outcome.lost;
  const lines = times > 0 ? [say("lost", { time: timeText(ms, times) })] : [];
  lines.push(...breaksText(outcome.breaks));
  lines.push(...pausesText(outcome.pauses));
  lines.push(...skippedText(outcome.skipped, outcome.framesSent));
  if (isSlow(outcome)) {
    const { cameraFps, fps } = outcome;
    lines.push(say("slow", { rate: rate(cameraFps), asked: fps }));
  }
  return lines;
}

function missingTitle({ pauses, skipped, end, lost }) {
  if (end === "camera") return say("title_camera_ended");
  if (lost.times > 0) return say("title_lost");
  if (pauses.length > 0) return say("title_paused");
  if (Object.values(skipped).some((n) => n > 0)) return say("title_skipped");
  return say("title_slow");
}

/** Each by its name, or the first and the last of many: they are numbered. */
function namesOf(parts) {
  const names = parts.map(({ captureId }) => captureId);
  const [first, last] = [names[0], names.at(-1)];
  return names.length > MOST_NAMED ? say("range", { first, last }) : names.join(", ");
}

/** The numbers of a film, by name. */
export function factsOf({ receipt, parts, framesSent, filmedMs, cameraFps, fps, skipped }) {
  const all = Object.values(skipped).reduce((sum, n) => sum + n, 0);
  const isWhole = framesSent === receipt.frames;
  const some = () => say("of", { part: receipt.frames, all: framesSent });
  return [
    [say("fact_frames"), isWhole ? count(framesSent) : some()],
    [say("fact_bytes"), count(receipt.bytes)],
    [say("fact_skipped"), all ? count(all) : null],
    [say("fact_rate"), filmedMs > 0 ? say("of", { part: rate(cameraFps), all: fps }) : null],
    [say(parts.length > 1 ? "fact_captures" : "fact_capture"), namesOf(parts)],
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
    missing.unshift(say("camera_ended"));
  }
  if (outcome.framesSent === 0) {
    const lines = missing.length ? missing : [say("no_picture")];
    return { kind: "bad", title: say("title_nothing"), lines };
  }
  const lines = [receiptText(outcome), ...missing];
  if (outcome.receipt.frames !== outcome.framesSent) {
    // A receipt comes once; who was stopped meanwhile has not heard it.
    const why = outcome.breaks.length > 0 ? "unconfirmed_lost" : "unconfirmed";
    if (outcome.framesUnconfirmed > 0) lines.splice(1, 0, say(why));
    return { kind: "bad", title: say("title_unconfirmed"), lines };
  }
  if (missing.length > 0) return { kind: "warn", title: missingTitle(outcome), lines };
  const title = say(outcome.parts.length > 1 ? "title_film" : "title_capture");
  return { kind: "good", title, lines };
}

/** What of a film that was broken off is safe, and what else happened to it. */
export function rescuedText(outcome) {
  const safe = outcome.receipt.frames > 0 ? [receiptText(outcome)] : [];
  // Why it is over is told already.
  const breaks = outcome.breaks.filter(({ code }) => code !== outcome.failure.code);
  return [...safe, ...missingText({ ...outcome, breaks })];
}
