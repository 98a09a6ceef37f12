"""Cameras for a page that films: one that gives pictures exactly when a test says so."""

from __future__ import annotations

from typing import Any

from tests.whole.browser.chromium import Page

#: In the place of the browser's: `fake.picture()` is a new one, numbered by its colours, and
#: resolves when the page has been called for it and its worker has made a JPEG of it, however
#: busy the machine is. No other picture ever comes.
SCRIPT = """
window.fake = {
  number: 0,
  shown: 0,
  unseen: 0,
  isDark: false,
  encoding: 0,
  encoded: 0,
  opened: [],
  canvas: Object.assign(document.createElement("canvas"), {width: 640, height: 480}),
  paint() {
    const {canvas, number} = this;
    const pen = canvas.getContext("2d", {alpha: false});
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    // Sixteen squares, one for each bit: no encoder makes one number of another.
    for (let bit = 0; bit < 16; bit++) {
      pen.fillStyle = (number >> bit) & 1 ? "#fff" : "#000";
      const [wide, high] = [canvas.width / 4, canvas.height / 4];
      pen.fillRect((bit % 4) * wide, Math.floor(bit / 4) * high, wide, high);
    }
    this.track.requestFrame();
  },
  async picture() {
    const before = this.shown;
    this.number += 1;
    this.paint();
    const until = performance.now() + 30_000;
    while (this.shown === before || this.encoded < this.encoding) {
      if (performance.now() > until) {
        const {shown, encoding, encoded, number} = this;
        throw new Error(JSON.stringify({number, before, shown, encoding, encoded}));
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return this.number;
  },
  async pictures(count, ms) {
    for (let index = 0; index < count; index++) {
      const due = performance.now() + ms;
      await this.picture();
      await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    }
  },
  /** Unlike `stop()`, which tells nobody, a camera that is pulled out says so. */
  pullOut() {
    this.track.stop();
    this.track.dispatchEvent(new Event("ended"));
  },
  mute(isMuted) {
    Object.defineProperty(this.track, "muted", {value: isMuted, configurable: true});
    this.track.dispatchEvent(new Event(isMuted ? "mute" : "unmute"));
  },
  hide(isHidden) {
    const get = () => (isHidden ? "hidden" : "visible");
    Object.defineProperty(document, "visibilityState", {get, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
  },
};
navigator.mediaDevices.getUserMedia = async (wanted) => {
  fake.opened.push(wanted.video);
  const stream = fake.canvas.captureStream(0);
  fake.track = stream.getVideoTracks()[0];
  const capabilities = {...fake.track.getCapabilities(), ...window.capabilities};
  fake.track.getCapabilities = () => capabilities;
  // A camera that is opened shows something, but for one that is held by another.
  setTimeout(() => fake.isDark || fake.paint());
  return stream;
};
"""
#: Wraps what the page looks at pictures with, and hands them on by, to know when it has.
COUNTED = """
const look = HTMLVideoElement.prototype.requestVideoFrameCallback;
HTMLVideoElement.prototype.requestVideoFrameCallback = function (callback) {
  return look.call(this, (now, told) => {
    // `fake.unseen` were shown while the page had no time to look.
    callback(now, {...told, presentedFrames: told.presentedFrames + fake.unseen});
    fake.shown += 1;
  });
};
const end = Worker.prototype.terminate;
Worker.prototype.terminate = function () {
  fake.encoded = fake.encoding; // what it had in hand comes from nobody
  end.call(this);
};
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (...given) {
  if (!this.isCounted) this.addEventListener("message", () => { fake.encoded += 1 });
  [this.isCounted, fake.encoding] = [true, fake.encoding + 1];
  return post.apply(this, given);
};
"""


async def bring_camera(page: Page, **capabilities: Any) -> None:
    """Give a page, before it is loaded, the camera that `fake` is the hand of."""
    await page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source=f"window.capabilities = {capabilities};{SCRIPT}{COUNTED}",
    )
