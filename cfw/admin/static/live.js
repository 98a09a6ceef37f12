// The live page: one feed connection, and a look at the worker's counts once a second.

import { Acts } from "./acts.js";
import { Cards } from "./cards.js";
import { Chart } from "./chart.js";
import { learnCodes } from "./codes.js";
import { Connection } from "./connection.js";
import { copyText } from "./copy.js";
import { Ended } from "./ended.js";
import { Feed } from "./feed.js";
import { count, rate } from "./format.js";
import { Invite } from "./invite.js";
import { Rates } from "./rates.js";
import { showRefused } from "./refused.js";
import { getInfo, getJson } from "./settings.js";
import { View } from "./view.js";

const USUAL_PATH = "/camera_feed_worker/capture";
const POLL_MS = 1_000;
const SOON_MS = 50;
const LONGEST_POLL_MS = 10_000;
const CHART_MS = 180_000;

const part = (name) => document.querySelector(`#${name}`);

const ended = new Ended({
  rows: part("ended-rows"),
  table: part("ended-table"),
  none: part("ended-none"),
  counts: part("counts"),
  more: part("ended-more"),
  status: part("announcement"),
});
const charts = {
  frames: new Chart(part("chart-frames"), {
    name: "Frames per second",
    format: rate,
    least: 10,
    spanMs: CHART_MS,
  }),
  bytes: new Chart(part("chart-bytes"), {
    name: "Megabytes per second",
    format: (value) => (value / 1e6).toFixed(2),
    least: 100_000,
    spanMs: CHART_MS,
  }),
};

const rates = new Rates();
const invite = new Invite();
let info = null;
let cards = null;
let view = null;
let feed = null;
let endedSeen = null;
let refusedSeen = 0;
let failures = 0;
let isPolling = false;
let pollAt = 0;
let pollTimer = 0;
const connection = new Connection();
let runningNow = 0;
let spoken = ""; // a page that loads need not say that it works
let wasThere = true;

/** Ask who it is that answers: after a break it may be another worker. */
async function begin() {
  [info] = await Promise.all([getInfo(), learnCodes()]);
  if (cards === null) {
    cards = new Cards(part("cards"), (...what) => feed?.ask(...what) ?? false);
    view = new View(cards);
    new Acts(cards);
  }
  cards.limits = info.limits;
  invite.info = info;
  endedSeen = null;
  const url = new URL(info.capture_url);
  part("address").textContent = url.host;
  // cfw send adds the path that a worker has by itself; behind a proxy it may be another.
  const address = url.pathname === USUAL_PATH ? url.origin : url.href;
  part("send-line").textContent = `cfw send ${address} pattern: --user USER --session SESSION`;
  part("room").textContent = `at most ${count(info.limits.max_connections)}`;
  part("no-feed").hidden = info.has_feed;
}

async function look() {
  if (info === null) await begin();
  if (info.has_feed) {
    feed ??= new Feed(
      (message) => {
        cards.tell(message);
        pollSoon(); // a beginning or an end is shown at once
      },
      (frames) => cards.show(frames),
      inform,
    );
  } else {
    inform({ state: "live" });
  }
  const answer = await getJson("/captures");
  const { captures, ended: total, refused, rigs } = answer;
  connection.answered(answer);
  if (total !== endedSeen) {
    ended.show(await getJson("/ended"));
    endedSeen = total;
  }
  if (refused !== refusedSeen) {
    showRefused(part("refused"), (await getJson("/refused")).refused);
    part("refused-section").hidden = false;
    refusedSeen = refused;
  }
  const now = performance.now();
  cards.update(answer, ended.list, now);
  const told = rates.look([...captures, ...ended.list], now);
  if (told !== null) {
    charts.frames.add(told.frames, now);
    charts.bytes.add(told.bytes, now);
  }
  runningNow = captures.length;
  part("running").textContent = count(runningNow);
  const missing = rigs.filter(({ missing_s }) => missing_s !== null).length;
  part("missing-count").textContent = missing > 0 ? `${count(missing)} missing` : "";
  part("empty").hidden = cards.length > 0;
  view.show();
}

function schedule(wait) {
  clearTimeout(pollTimer);
  pollAt = performance.now() + wait;
  pollTimer = setTimeout(poll, wait);
}

function pollSoon() {
  if (!isPolling && pollAt - performance.now() > SOON_MS) schedule(SOON_MS);
}

async function poll() {
  let wait = POLL_MS;
  isPolling = true;
  try {
    await look();
    failures = 0;
  } catch (error) {
    wait = Math.min(LONGEST_POLL_MS, POLL_MS * 2 ** failures++);
    connection.failed(error, performance.now() + wait);
  }
  isPolling = false;
  showConnection();
  schedule(wait);
}

function inform(status) {
  const { state } = connection;
  connection.fed(status);
  if (status.state === "live") cards.askForFrames();
  if (status.state === "live" && state !== "live" && failures > 0) pollSoon();
  showConnection();
}

/** Say whether the worker is there: in the title, the bar, the rates and each tile. */
function showConnection() {
  const { state, title, isThere } = connection;
  document.documentElement.dataset.connection = state;
  const name = runningNow > 0 && isThere ? `(${runningNow}) cfw live` : "cfw live";
  document.title = title ? `${title} - ${name}` : name;
  part("connection").textContent = connection.word;
  part("absence").textContent = connection.notice;
  part("absence").hidden = connection.notice === "";
  part("retry").hidden = state !== "waiting" && state !== "pictureless";
  if (wasThere && !isThere) lose();
  wasThere = isThere;
  if (state !== "connecting" && state !== spoken) {
    if (spoken !== "" || state !== "live") part("connection-word").textContent = connection.spoken;
    spoken = state;
  }
}

/** Nothing is known of the worker for now; the one that answers next may be another. */
function lose() {
  info = null;
  cards?.lose();
  for (const chart of Object.values(charts)) chart.lose();
  part("running").textContent = "–";
}

part("retry").onclick = () => {
  feed?.retry();
  pollSoon();
};
part("copy").onclick = async () => {
  if (!(await copyText(part("send-line").textContent))) return;
  part("copy").textContent = "Copied";
  setTimeout(() => (part("copy").textContent = "Copy"), 2_000);
};

setInterval(showConnection, 500);
poll();
