// The live page: one feed connection, and a look at the worker's counts twice a second.

import { Cards } from "./cards.js";
import { Chart } from "./chart.js";
import { learnCodes } from "./codes.js";
import { Ended } from "./ended.js";
import { Feed } from "./feed.js";
import { count, rate } from "./format.js";
import { Invite } from "./invite.js";
import { Rates } from "./rates.js";
import { getInfo, getJson } from "./settings.js";

const USUAL_PATH = "/camera_feed_worker/capture";
const POLL_MS = 500;
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
let feed = null;
let endedSeen = null;
let failures = 0;
let isPolling = false;
let pollAt = 0;
let pollTimer = 0;
let connection = { state: "connecting" };
let spoken = "live"; // a page that loads need not say that it works

/** Ask who it is that answers: after a break it may be another worker. */
async function begin() {
  [info] = await Promise.all([getInfo(), learnCodes()]);
  cards ??= new Cards(part("cards"));
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
      (message, jpeg) => {
        cards.tell(message, jpeg);
        if (jpeg === null) pollSoon(); // a beginning or an end is shown at once
      },
      inform,
    );
  } else {
    inform({ state: "live" });
  }
  const { captures, ended: total } = await getJson("/captures");
  if (total !== endedSeen) {
    ended.show(await getJson("/ended"));
    endedSeen = total;
  }
  const now = performance.now();
  cards.update(captures, ended.list, now);
  const told = rates.look([...captures, ...ended.list], now);
  if (told !== null) {
    charts.frames.add(told.frames, now);
    charts.bytes.add(told.bytes, now);
  }
  part("running").textContent = count(captures.length);
  part("empty").hidden = cards.length > 0;
  document.title = captures.length ? `(${captures.length}) cfw live` : "cfw live";
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
  } catch {
    info = null;
    wait = Math.min(LONGEST_POLL_MS, POLL_MS * 2 ** failures++);
    // Without a feed this is all the page knows of its connection.
    if (feed === null) inform({ state: "waiting", retryAt: performance.now() + wait });
  }
  isPolling = false;
  schedule(wait);
}

function inform(status) {
  const before = connection.state;
  connection = status;
  if (status.state === "waiting") {
    info = null;
    cards?.lose();
    part("running").textContent = "–";
  }
  if (status.state === "live" && before !== "live" && failures > 0) pollSoon();
  if (status.state !== "connecting" && status.state !== spoken) {
    spoken = status.state;
    part("connection-word").textContent =
      spoken === "live" ? "Connected to the worker." : "Connection lost; trying again.";
  }
  showConnection();
}

function showConnection() {
  const { state, retryAt, reason } = connection;
  const wait = Math.ceil(Math.max(0, (retryAt ?? 0) - performance.now()) / 1_000);
  const texts = {
    live: "Connected",
    connecting: "Connecting",
    waiting: wait > 0 ? `Reconnecting in ${wait} s` : "Reconnecting",
  };
  document.documentElement.dataset.connection = state;
  part("connection").textContent = texts[state];
  part("connection").title = reason ?? "";
  part("retry").hidden = state !== "waiting";
}

part("retry").onclick = () => {
  feed?.retry();
  pollSoon();
};
part("copy").onclick = async () => {
  await navigator.clipboard.writeText(part("send-line").textContent);
  part("copy").textContent = "Copied";
  setTimeout(() => (part("copy").textContent = "Copy"), 2_000);
};
// Needs a secure context, as the clipboard does.
part("copy").hidden = navigator.clipboard === undefined;

setInterval(showConnection, 500);
poll();
