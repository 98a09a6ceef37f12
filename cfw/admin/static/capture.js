// The page that films: its form, its camera, and what it shows of a film.

import { Camera, NoPicture, frameSize, sizesFor } from "./camera.js";
import { CaptureError } from "./capture-client.js";
import { learnCodes, meaning, remedies } from "./codes.js";
import { Encoder } from "./encoder.js";
import { longestCapture } from "./film.js";
import {
  cameraProblem,
  cameraText,
  factsOf,
  limitsText,
  progressText,
  refusalText,
  rescuedText,
  resultText,
} from "./film-words.js";
import { pixels } from "./format.js";
import { join } from "./join.js";
import { whyRefused } from "./refused.js";
import { getInfo } from "./settings.js";
import { Shoot } from "./shoot.js";
import { known, quoted, say } from "./words.js";

/** As far as a form has to know: a film ends when somebody stops it, or with its invitation. */
const LONGEST_FILM_S = 86_400;
const USUAL_FILM_S = 3_600;
const USUAL_FPS = 15;
const REMEMBERED = ["user", "session"];
/** Answers to who wants to be let in that will be the same the next time. */
const FINAL = [400, 401, 403];

const part = (name) => document.querySelector(`#${name}`);
/** What the button says, by what the page does; at first as the page came. */
const PRESSED = {
  ready: part("go").textContent,
  filming: say("stop"),
  closing: say("finishing"),
};
const video = part("preview");
const encoder = new Encoder();

let info = null;
let invited = null;
let camera = null;
let opening = Promise.resolve();
let isStarting = false;
let shoot = null;

// --- the form ------------------------------------------------------------------------------

function fillForm() {
  const { max_fps } = info.limits;
  fillSizes(null);
  part("fps").max = max_fps;
  part("fps").value = Math.min(USUAL_FPS, max_fps);
  const longest = longestCapture(info.limits);
  part("duration").max = LONGEST_FILM_S;
  // What fits one capture, as people count.
  part("duration").value = Math.min(longest < 1 ? longest : Math.floor(longest), USUAL_FILM_S);
  part("duration").min = Math.min(1, longest);
  part("fps-limit").textContent = say("fps_limit", { most: max_fps });
  const time = say("second", { number: longest });
  part("duration-limit").textContent = say("duration_limit", { time });
  part("limits").textContent = limitsText(info);
  const asksForToken = info.needs_token && invited === null;
  part("token-field").hidden = !asksForToken;
  part("token").required = asksForToken;
  part("worker").textContent = new URL(info.capture_url).host;
}

/** Offer what both the worker and the camera can do; what was chosen stays if it is there. */
function fillSizes(most) {
  const before = part("size").value;
  const options = sizesFor(info.limits, most).map(
    ([width, height]) => new Option(pixels({ width, height }), `${width}x${height}`),
  );
  part("size").replaceChildren(...options);
  if (options.some(({ value }) => value === before)) part("size").value = before;
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
    chosen: { width, height },
    fps: part("fps").valueAsNumber,
    durationMs: part("duration").valueAsNumber * 1_000,
    userId: part("user").value,
    sessionId: part("session").value,
    token: invited?.token ?? (info.needs_token ? part("token").value : undefined),
    source: "browser",
  };
}

/** Of an invitation that lets nobody in, or of a worker that does not say. */
function whyNotLetIn({ status, message }) {
  if (status === undefined) return [say("no_answer")];
  if (!FINAL.includes(status)) return [quoted(message), ". ", say("reload")];
  const why = known(message);
  if (why !== null) return [say("not_let_in", { why })];
  return [...part("uninvited").childNodes, " ", quoted(message)];
}

/** Who came with an invitation films as the user it names, in its session. */
async function signIn() {
  part("pages").hidden = true; // at the port for rigs there is no other
  try {
    invited = await join();
  } catch (error) {
    part("uninvited").replaceChildren(...whyNotLetIn(error));
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

async function turnOn() {
  const { chosen, fps } = plan();
  camera?.close();
  camera = null;
  const found = await Camera.open({ deviceId: part("camera").value, ...chosen, fps });
  await found.show(video);
  camera = found;
  // Told to the film that runs as well, which ends with it.
  found.track.addEventListener("ended", () => camera === found && turnOff());
  part("off").hidden = true;
  fillSizes(found.most);
  part("torch").hidden = !found.hasTorch;
  part("torch").setAttribute("aria-pressed", "false");
  describeCamera();
  await listCameras();
}

function turnOff() {
  camera = null;
  video.srcObject = null;
  part("off").hidden = false;
  part("torch").hidden = true;
  part("delivers").textContent = "";
}

/** Also when a phone is turned, which turns its pictures. */
function describeCamera() {
  if (camera === null || video.videoWidth === 0) return;
  const picture = { width: video.videoWidth, height: video.videoHeight };
  const frame = frameSize(picture, info.limits, plan().chosen);
  part("delivers").textContent = cameraText(picture, camera.fps, frame);
}

async function listCameras() {
  const cameras = await Camera.list();
  const options = cameras.map(
    ({ deviceId, label }, index) =>
      new Option(label || say("camera_number", { number: index + 1 }), deviceId),
  );
  part("camera").replaceChildren(...options);
  part("camera").value = camera?.deviceId ?? "";
  part("camera-field").hidden = cameras.length < 2;
}

/** One after the other: two that are opened at once would be in each other's way. */
function tryCamera() {
  opening = opening.then(async () => {
    try {
      await turnOn();
    } catch (error) {
      turnOff();
      const isDark = error instanceof NoPicture;
      report("bad", say("no_camera"), isDark ? [say(error.text)] : cameraProblem(error));
      await listCameras().catch(() => {}); // the next one may be chosen by the browser
    }
  });
  return opening;
}

/** Wait for all that are being opened; what is changed meanwhile opens another. */
async function opened() {
  let last;
  do {
    last = opening;
    await last;
  } while (last !== opening);
}

async function toggleTorch() {
  const isLit = part("torch").getAttribute("aria-pressed") !== "true";
  try {
    await camera.setTorch(isLit);
    part("torch").setAttribute("aria-pressed", String(isLit));
  } catch {
    part("torch").hidden = true; // it says that it has one, and has none
  }
}

// --- a film --------------------------------------------------------------------------------

async function start() {
  if (isStarting) return; // once is enough, though a camera takes its time
  isStarting = true;
  await opened();
  if (camera === null) await tryCamera();
  isStarting = false;
  if (camera === null) return;
  const wanted = plan();
  const begun = performance.now();
  shoot = new Shoot(video, camera, encoder, info, wanted);
  show("filming");
  report("plain", say("title_filming"), []);
  const outcome = await shoot.run((state) => showProgress(state, wanted.durationMs));
  shoot = null;
  if (outcome.failure === null) reportResult(outcome);
  else await reportFailure(outcome, begun);
  show("ready");
}

function showProgress(state, durationMs) {
  if (state.isFinishing) {
    show("closing");
    return;
  }
  const { left, sent, now } = progressText(state, durationMs);
  part("progress").value = Math.min(1, state.lastedMs / durationMs);
  part("left").textContent = left;
  part("sent").textContent = sent;
  // Said once: a text that is set again is read out again.
  if (part("now").textContent !== now) part("now").textContent = now;
}

// --- what the person is told ---------------------------------------------------------------

function show(state) {
  document.documentElement.dataset.state = state;
  const isFilming = state !== "ready";
  part("fields").disabled = isFilming;
  part("go").disabled = state === "closing";
  part("go").textContent = PRESSED[state];
  part("running").hidden = !isFilming;
  part("now").textContent = "";
  if (state === "closing") part("left").textContent = say("receipt_awaited");
}

/** Lines and facts are texts, or nodes of another language. */
function report(kind, title, lines, facts = []) {
  const result = part("result");
  result.dataset.kind = kind;
  const heading = document.createElement("h2");
  heading.textContent = title;
  const list = document.createElement("dl");
  for (const [name, value] of facts.filter(([, value]) => value !== null)) {
    const [term, told] = [document.createElement("dt"), document.createElement("dd")];
    term.append(name);
    told.append(value);
    list.append(term, told);
  }
  const paragraphs = lines.map((line) => {
    const paragraph = document.createElement("p");
    paragraph.append(line);
    return paragraph;
  });
  result.replaceChildren(heading, ...paragraphs, ...(list.children.length ? [list] : []));
  if (kind !== "plain") result.scrollIntoView({ block: "nearest" });
}

function reportResult(outcome) {
  const { kind, title, lines } = resultText(outcome);
  report(kind, title, lines, factsOf(outcome));
}

async function reportFailure(outcome, begun) {
  const error = outcome.failure;
  if (!(error instanceof CaptureError)) {
    report("bad", say("title_failed"), [say("page_mistake"), quoted(error.message)]);
    return;
  }
  const { code, detail, seq, observed, limit } = error;
  const refused = code === "unreachable" ? await whyRefused(info.capture_url, begun) : null;
  if (refused !== null) {
    const { lines, said } = refusalText(refused, invited !== null);
    report("bad", say("title_refused"), [...lines, ...rescuedText(outcome)], [
      [say("fact_says"), said],
      [say("fact_status"), refused.status],
      [say("fact_address"), info.capture_url],
    ]);
    return;
  }
  const isUnreachable = code === "unreachable";
  // A browser does not tell a page why.
  const guess = isUnreachable && invited === null && plan().token ? [say("unreachable_token")] : [];
  const lines = [...remedies(code, detail), ...guess, ...rescuedText(outcome)];
  report("bad", meaning(code, detail), lines, [
    [say("fact_code"), code],
    [say("fact_address"), isUnreachable ? info.capture_url : null],
    [say("fact_detail"), isUnreachable ? null : quoted(detail)],
    [say("fact_frame"), seq],
    [say("fact_observed"), observed],
    [say("fact_limit"), limit],
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
    report("bad", meaning("unreachable"), [say("no_answer")]);
    return;
  }
  if (info.needs_invitation && !(await signIn())) return;
  fillForm();
  part("turn-on").disabled = false;
  show("ready");
}

part("turn-on").onclick = async () => {
  await tryCamera();
  // The button is gone that was pressed; who has gone on to another field stays there.
  if (camera !== null && document.activeElement === document.body) part("go").focus();
};
part("torch").onclick = toggleTorch;
for (const name of ["size", "camera", "fps"]) {
  part(name).onchange = () => {
    if (camera !== null && shoot === null && part(name).checkValidity()) tryCamera();
  };
}
video.onresize = describeCamera;
navigator.mediaDevices?.addEventListener("devicechange", listCameras);
part("form").onsubmit = (event) => {
  event.preventDefault();
  if (shoot) shoot.stop();
  else start();
};

begin();
