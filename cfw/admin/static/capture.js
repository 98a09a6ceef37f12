// The page that films: camera, form, one capture, and what the worker said.

import { CaptureError, openCapture } from "./capture-client.js";
import { learnCodes, meaning, remedies } from "./codes.js";
import { count, plural, seconds, size } from "./format.js";
import { join } from "./join.js";
import { whyRefused } from "./refused.js";
import { getInfo } from "./settings.js";

const SIZES = [
  [1920, 1080],
  [1280, 720],
  [640, 480],
  [640, 360],
  [480, 360],
  [320, 240],
  [160, 120],
];
const QUALITY = 0.8;
const LEAST_QUALITY = 0.3;
const REMEMBERED = ["user", "session"];

const part = (name) => document.querySelector(`#${name}`);
const video = part("preview");
const canvas = document.createElement("canvas");

let info = null;
let invited = null;
let camera = null;
let isFilming = false;
let stop = () => {};

// --- the form ------------------------------------------------------------------------------

function fillForm() {
  const { max_width, max_height, max_pixels, max_fps, max_duration_s } = info.limits;
  const fits = SIZES.filter(
    ([width, height]) =>
      width <= max_width && height <= max_height && width * height <= max_pixels,
  );
  // Limits smaller than every usual size still leave something to choose.
  if (fits.length === 0) {
    const side = Math.floor(Math.min(max_width, max_height, Math.sqrt(max_pixels)));
    fits.push([side, side]);
  }
  for (const [width, height] of fits) {
    part("size").add(new Option(`${width} × ${height}`, `${width}x${height}`));
  }
  part("fps").max = max_fps;
  part("fps").value = Math.min(15, max_fps);
  // The worker counts until it has read the close, so the page stops a little before.
  const longest = max_duration_s - Math.min(1, max_duration_s / 10);
  part("duration").max = part("duration").value = Math.min(longest, 3_600);
  part("duration").min = Math.min(1, longest);
  part("fps-limit").textContent = `1 to ${max_fps}`;
  part("duration-limit").textContent = `up to ${longest} s`;
  const asksForToken = info.needs_token && invited === null;
  part("token-field").hidden = !asksForToken;
  part("token").required = asksForToken;
  part("worker").textContent = new URL(info.capture_url).host;
}

function remember() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of REMEMBERED) {
    part(name).value = given.get(name) ?? sessionStorage.getItem(name) ?? "";
    const keep = () => sessionStorage.setItem(name, part(name).value);
    part(name).addEventListener("input", keep);
    keep();
  }
}

function plan() {
  const [width, height] = part("size").value.split("x").map(Number);
  return {
    width,
    height,
    fps: part("fps").valueAsNumber,
    durationMs: part("duration").valueAsNumber * 1_000,
    userId: part("user").value,
    sessionId: part("session").value,
    token: invited?.token ?? (info.needs_token ? part("token").value : undefined),
  };
}

/** Who came with an invitation films as the user it names, in its session. */
async function signIn() {
  part("pages").hidden = true; // at the port for rigs there is no other
  try {
    invited = await join();
  } catch (error) {
    part("uninvited").textContent = `${error.message}. Ask for another code, and scan it.`;
  }
  const names = invited && { user: invited.user_id, session: invited.session_id };
  for (const [name, value] of Object.entries(names ?? {})) {
    part(name).value = value;
    part(name).readOnly = true;
    sessionStorage.setItem(name, value);
  }
  part("uninvited").hidden = invited !== null;
  const mayFilm = invited !== null || info.needs_token;
  part("form").hidden = !mayFilm;
  return mayFilm;
}

// --- the camera ----------------------------------------------------------------------------

const CAMERA_PROBLEMS = {
  NotAllowedError: "The browser may not use the camera. Allow it beside the address, then try again.",
  NotFoundError: "This device has no camera that the browser can see.",
  NotReadableError: "Another program uses the camera. Close it, then try again.",
};

async function turnOn() {
  const { width, height, fps } = plan();
  const device = part("camera").value;
  const wishes = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps } };
  if (device) wishes.deviceId = { exact: device };
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = await navigator.mediaDevices.getUserMedia({ video: wishes, audio: false });
  video.srcObject = camera;
  await video.play();
  part("off").hidden = true;
  await listCameras();
}

async function listCameras() {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(
    ({ kind }) => kind === "videoinput",
  );
  const current = camera.getVideoTracks()[0].getSettings().deviceId;
  const options = cameras.map(
    ({ deviceId, label }, index) => new Option(label || `Camera ${index + 1}`, deviceId),
  );
  part("camera").replaceChildren(...options);
  part("camera").value = current;
  part("camera-field").hidden = cameras.length < 2;
}

async function tryCamera() {
  try {
    await turnOn();
    return true;
  } catch (error) {
    const text = CAMERA_PROBLEMS[error.name] ?? `The camera does not start: ${error.message}`;
    report("bad", "No camera", [text]);
    return false;
  }
}

// --- one capture ---------------------------------------------------------------------------

/** What the camera sees now, cut to the shape that was chosen. */
function picture({ width, height }, quality) {
  const scale = Math.max(width / video.videoWidth, height / video.videoHeight);
  const [wide, high] = [width / scale, height / scale];
  const [left, top] = [(video.videoWidth - wide) / 2, (video.videoHeight - high) / 2];
  canvas.getContext("2d").drawImage(video, left, top, wide, high, 0, 0, width, height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

/** Send frames until the time is over, a limit is near, or somebody says stop. */
async function film(capture, { fps, durationMs, ...shape }, isStopped) {
  const { max_frames, max_frame_bytes, max_total_bytes } = info.limits;
  const period = 1_000 / fps;
  const begun = performance.now();
  let [due, quality, skipped] = [begun, QUALITY, 0];
  [canvas.width, canvas.height] = [shape.width, shape.height];
  while (!isStopped() && capture.framesSent < max_frames) {
    const timestamp = capture.now();
    const jpeg = await picture(shape, quality);
    if (capture.bytesSent + jpeg.size > max_total_bytes) break;
    if (jpeg.size <= max_frame_bytes) {
      await capture.sendFrame(jpeg, { timestamp });
    } else {
      quality = Math.max(LEAST_QUALITY, quality - 0.1);
      skipped += 1;
    }
    due += period;
    // A line or a device that is too slow costs frames, never memory.
    const missed = Math.max(0, Math.floor((performance.now() - due) / period));
    skipped += missed;
    due += missed * period;
    showProgress(capture, skipped, performance.now() - begun, durationMs);
    if (due - begun >= durationMs) break;
    const pause = new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    await Promise.race([pause, capture.ended]);
  }
  return skipped;
}

function showProgress(capture, skipped, lasted, durationMs) {
  part("progress").value = Math.min(1, lasted / durationMs);
  part("left").textContent = `${seconds(durationMs - lasted)} left`;
  const lost = skipped ? `, ${count(skipped)} skipped` : "";
  part("sent").textContent =
    `${plural(capture.framesSent, "frame")}, ${size(capture.bytesSent)} sent${lost}`;
}

async function start() {
  const wanted = plan();
  if (camera === null && !(await tryCamera())) return;
  const begun = performance.now();
  let isStopped = false;
  stop = () => (isStopped = true);
  show("filming");
  report("plain", "Filming", [`For ${plural(wanted.durationMs / 1_000, "second")} at most.`]);
  try {
    const source = "browser";
    const capture = await openCapture(info.capture_url, { ...wanted, source });
    const skipped = await film(capture, wanted, () => isStopped);
    show("closing");
    reportReceipt(capture, await capture.close(), skipped);
  } catch (error) {
    await reportFailure(error, begun);
  } finally {
    show("ready");
  }
}

// --- what the person is told ---------------------------------------------------------------

function show(state) {
  isFilming = state !== "ready";
  document.documentElement.dataset.state = state;
  part("fields").disabled = isFilming;
  part("go").disabled = state === "closing";
  part("go").textContent = { ready: "Start capture", filming: "Stop", closing: "Finishing" }[state];
  part("running").hidden = !isFilming;
  if (state === "closing") part("left").textContent = "waiting for the receipt";
}

function report(kind, title, lines, facts = []) {
  const result = part("result");
  result.dataset.kind = kind;
  const heading = document.createElement("h2");
  heading.textContent = title;
  const list = document.createElement("dl");
  for (const [name, value] of facts.filter(([, value]) => value !== null)) {
    const [term, told] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, told.textContent] = [name, value];
    list.append(term, told);
  }
  const paragraphs = lines.map((line) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    return paragraph;
  });
  result.replaceChildren(heading, ...paragraphs, ...(list.children.length ? [list] : []));
}

function reportReceipt(capture, { frames, bytes }, skipped) {
  const isAll = frames === capture.framesSent && bytes === capture.bytesSent;
  const lines = [
    isAll
      ? `The worker took ${plural(frames, "frame")}, ${size(bytes)}, and passed on every one.`
      : `The worker took ${count(frames)} of ${plural(capture.framesSent, "frame")}.`,
  ];
  if (skipped) {
    const pictures = plural(skipped, "picture was", "pictures were");
    lines.push(`${pictures} skipped before sending: this device or its network was busy.`);
  }
  if (skipped > frames / 10) {
    lines.push("Choose a smaller picture or fewer frames a second.");
  }
  report(isAll ? "good" : "bad", isAll ? "Capture complete" : "Capture incomplete", lines, [
    ["Frames", count(frames)],
    ["Bytes", count(bytes)],
    ["Capture", capture.captureId],
  ]);
}

async function reportFailure(error, begun) {
  if (!(error instanceof CaptureError)) {
    report("bad", "Capture failed", [`This page made a mistake: ${error.message}`]);
    return;
  }
  const { code, detail, seq, observed, limit } = error;
  const refused = code === "unreachable" ? await whyRefused(info.capture_url, begun) : null;
  if (refused !== null) {
    report("bad", "The worker refused the connection", [`It says: ${refused.detail}.`], [
      ["Status", refused.status],
      ["Detail", detail],
    ]);
    return;
  }
  report("bad", meaning(code, detail), remedies(code, detail), [
    ["Code", code],
    ["Detail", detail],
    ["Frame", seq],
    ["Observed", observed],
    ["Limit", limit],
  ]);
}

// --- the page ------------------------------------------------------------------------------

async function begin() {
  remember();
  if (!window.isSecureContext || navigator.mediaDevices === undefined) {
    part("insecure").hidden = false;
    return;
  }
  try {
    [info] = await Promise.all([getInfo(), learnCodes()]);
  } catch {
    report("bad", meaning("unreachable"), ["The worker does not answer. Reload this page once it runs."]);
    return;
  }
  if (info.needs_invitation && !(await signIn())) return;
  fillForm();
  part("turn-on").disabled = false;
  show("ready");
}

part("turn-on").onclick = async () => {
  if (await tryCamera()) part("go").focus();
};
part("size").onchange = part("camera").onchange = () => camera && tryCamera();
part("form").onsubmit = (event) => {
  event.preventDefault();
  if (isFilming) stop();
  else start();
};

begin();
