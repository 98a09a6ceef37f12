// Each picture that a camera delivers, once, with the time when it was taken.

/** From the camera to the page; a time that is further back, or to come, is another clock's. */
const MOST_AGE_MS = 2_000;
/** A time that is counted from the first picture is held this near to the clock. */
const MOST_DRIFT_MS = 250;
/** Looks at a picture that was counted, until it is taken to be there whatever it is called. */
const MOST_LOOKS = 20;

/** What the element shows, to be drawn later; `close()` gives its memory back. */
function grab(video) {
  try {
    return new VideoFrame(video);
  } catch {
    return createImageBitmap(video); // no WebCodecs, or not of a camera
  }
}

/** Give back what was grabbed for nothing, if there was anything. */
async function drop(image) {
  try {
    (await image).close();
  } catch {} // the camera has ended
}

/**
 * Look at a video element that shows a camera.
 *
 *     const pictures = new Pictures(video, ({ at, missed, grab }) => ...);
 *     pictures.stop();
 *
 * `tell` is called for each new picture while the page is shown: `at` is when it was taken, by
 * `performance.now()`, and never before that of the one before; `missed` are the times of
 * pictures that were shown before it and that this page came too late for. `grab()` is the
 * picture, or null when the next one has taken its place; only good while `tell` runs.
 */
export class Pictures {
  #video;
  #tell;
  #isStopped = false;
  #handle = 0;
  #look;
  #last = null;
  /** Where the clock of the media is in that of the page; set once. */
  #mediaOrigin = null;
  /** What the last picture that was counted is called, and how often the next one was not there. */
  #counted;
  #looks = 0;
  /** Whether this browser says of a grabbed picture which one it is. */
  #isNamed = false;

  constructor(video, tell) {
    this.#video = video;
    this.#tell = tell;
    if ("requestVideoFrameCallback" in video) {
      this.#look = this.#byCallback;
    } else {
      this.#look = this.#byCount;
      // The one that is there already is not new.
      this.#last = { shown: this.#count(), at: performance.now() };
      const first = grab(video);
      this.#counted = first.timestamp;
      drop(first);
    }
    this.#look();
  }

  stop() {
    this.#isStopped = true;
    if (this.#look === this.#byCallback) this.#video.cancelVideoFrameCallback(this.#handle);
    else cancelAnimationFrame(this.#handle);
  }

  #byCallback() {
    this.#handle = this.#video.requestVideoFrameCallback((_, picture) => {
      this.#show(picture.presentedFrames, this.#taken(picture), () => this.#exactly(picture));
      if (!this.#isStopped) this.#byCallback();
    });
  }

  /** Browsers without that callback count what they have shown; only Firefox has its own name. */
  #byCount() {
    this.#handle = requestAnimationFrame(() => {
      const shown = this.#count();
      if (shown !== this.#last.shown) this.#showCounted(shown);
      if (!this.#isStopped) this.#byCount();
    });
  }

  /** A browser that is busy may count a picture before the element has it. */
  #showCounted(shown) {
    const image = grab(this.#video);
    const { timestamp } = image;
    const isOld = timestamp !== undefined && timestamp === this.#counted;
    if (isOld && this.#looks++ < MOST_LOOKS) {
      drop(image);
      return;
    }
    [this.#counted, this.#looks] = [timestamp, 0];
    let isTaken = false;
    this.#show(shown, performance.now(), () => {
      isTaken = true;
      return image;
    });
    if (!isTaken) drop(image);
  }

  #count() {
    return this.#video.mozPaintedFrames ?? this.#video.getVideoPlaybackQuality().totalVideoFrames;
  }

  #show(shown, taken, grabbed) {
    const last = this.#last;
    if (shown === last?.shown) return;
    const at = Math.max(taken, last?.at ?? taken);
    const skipped = last === null ? 0 : Math.max(0, shown - last.shown - 1);
    const missed = Array.from(
      { length: skipped },
      (_, index) => last.at + ((at - last.at) * (index + 1)) / (skipped + 1),
    );
    this.#last = { shown, at };
    this.#tell({ at, missed, grab: grabbed });
  }

  /** When a picture was taken: by the camera if it says so, else by its place in the media. */
  #taken({ captureTime, mediaTime }) {
    const now = performance.now();
    if (captureTime <= now && now - captureTime < MOST_AGE_MS) return captureTime;
    this.#mediaOrigin ??= now - mediaTime * 1_000;
    const taken = this.#mediaOrigin + mediaTime * 1_000;
    return Math.min(now, Math.max(taken, now - MOST_DRIFT_MS));
  }

  /** The picture that the browser has called for; it may have come to the next one since. */
  #exactly({ mediaTime }) {
    const image = grab(this.#video);
    const isThis = Math.abs(image.timestamp - mediaTime * 1e6) < 2;
    this.#isNamed ||= isThis && mediaTime > 0;
    if (!this.#isNamed || isThis) return image;
    image.close(); // comes with its own time, in its own turn
    return null;
  }
}
